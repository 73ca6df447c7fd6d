"""Bags of a robot that LeBot's base drives, stepped directly, for what learns from bags."""

import json
from functools import lru_cache

import numpy as np

from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.data.bag.types import Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter
from lebot_rl_ros.envs.adapting import FaultyRobot
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.records import RecordMessage

BEGIN = 1_767_225_600_000_000_000  # ns, log time of the first message
CLOUD = 'sensor_msgs/msg/PointCloud2'


@lru_cache
def walked(seconds, exploration=0.15, faults=('slip:rr_hip:0.35',), seed=0):
    """Rows of policy/steps and reward/rewards of so many seconds."""
    robot = load_robot()
    walk = load_walk(robot, 'walk')
    walker = Walker(robot, walk, seed=seed, exploration=exploration)
    faulty = FaultyRobot(robot, walker, walk.gait, faults, seed=seed)
    pairs = []
    while faulty.seconds < seconds:
        pairs.append(faulty.step())
    steps, rewards = (np.concatenate(rows) for rows in zip(*pairs, strict=True))
    return steps, rewards


def write_bag(folder, steps, rewards, **metadata):
    """A bag of both topics, one message a row."""
    with BagWriter(folder, metadata={'adapter': '', **metadata}) as writer:
        for name in ('/policy/steps', '/reward/rewards'):
            writer.add(Topic(name, CLOUD))
        speak = RecordMessage(steps.dtype), RecordMessage(rewards.dtype)
        names = ('/policy/steps', '/reward/rewards')
        for pair in zip(steps, rewards, strict=True):
            for say, name, row in zip(speak, names, pair, strict=True):
                say.rows[0] = row
                stamp = int(row['sec']) * 10**9 + int(row['nanosec'])
                say.stamp(stamp)
                at = BEGIN + stamp
                writer.write(Message(name, at, at, say.serialized()))
    return folder


def slipped_bag(folder, seconds=60.0, **about):
    """A bag of a robot whose horn has slipped, driven by the base with exploration."""
    steps, rewards = walked(seconds)
    return write_bag(folder, steps, rewards, parameters=json.dumps({}), **about)
