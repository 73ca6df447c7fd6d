"""The robot and the gait of a bag, from its run metadata, or as somebody says."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from lebot_rl_ros.control.walker import Walk, load_walk
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.robot import Robot, load_robot

ROBOT, POLICY, POLICY_SHA256 = 'robot', 'policy', 'policy_sha256'  # keys of the run metadata


def recorded_robot(metadata: Mapping[str, str], given: str = '') -> Robot:
    """The robot that was recorded.

    Args:
        metadata: of the run; it has the joint table, or nothing is known.
        given: name or path of a table, which wins; where neither is there, it is LeBot.

    Raises:
        BagError: the table in the bag cannot be used.
        ValueError, FileNotFoundError: as :func:`load_robot`, for ``given``.
    """
    text = metadata.get(ROBOT, '')
    if given or not text:
        return load_robot(given or 'lebot')
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / 'robot.yaml'
        table.write_text(text)
        try:
            return load_robot(table)
        except (ValueError, KeyError, TypeError, OSError, yaml.YAMLError) as error:
            raise BagError(
                f'the joint table in the bag cannot be used ({error}); name the robot'
            ) from error


def recorded_walk(robot: Robot, metadata: Mapping[str, str], given: str = '') -> tuple[Walk, str]:
    """The policy that was recorded, and what is wrong with taking it for that; '' if nothing.

    Args:
        robot: that it walks with.
        metadata: of the run.
        given: name or path of a policy, which wins.

    Raises:
        FileNotFoundError: there is no such policy here.
        ValueError: it is for another robot.
    """
    name = given or metadata.get(POLICY, '') or 'walk'
    walk = load_walk(robot, name)
    recorded = metadata.get(POLICY_SHA256, '')
    if recorded and recorded != walk.policy.sha256:
        return walk, (
            f'the policy {name} here is {walk.policy.sha256[:12]}, recorded was {recorded[:12]}'
        )
    return walk, ''
