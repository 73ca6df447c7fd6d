"""Recordings of robots with planted servos, as arrays and as bags."""

from dataclasses import replace

import numpy as np
from rosbags.typesys import Stores, get_typestore

from lebot_rl_ros.control.walker import policy_path
from lebot_rl_ros.data.bag.types import Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter
from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.safety.limits import LimitedTarget, limit_target
from lebot_rl_ros.sim.identify_data import Readings
from lebot_rl_ros.sim.randomisation import NOMINAL
from lebot_rl_ros.sim.simulation import Simulation

COUNT = 2 * np.pi / 4096  # rad of an encoder step
STORE = get_typestore(Stores.ROS2_JAZZY)
JOINT_STATE, IMU = 'sensor_msgs/msg/JointState', 'sensor_msgs/msg/Imu'


def planted(robot, *servos):
    """The robot with other servos: one for all, or one a joint, by what differs."""
    each = servos * (len(robot.joints) if len(servos) == 1 else 1)
    return replace(robot, servos=tuple(replace(robot.servo, **values) for values in each))


def limited(robot, targets):
    """What the driver's limits leave of targets (T, J)."""
    last, applied = LimitedTarget(targets[0], np.zeros(len(robot.joints))), []
    for target in targets:
        last = limit_target(robot, target, last, 1.0 / robot.control_rate)
        applied.append(last.position)
    return np.array(applied)


def readings(robot, rows, seed, noise, gyro=True):
    """What encoders of 4096 counts and an IMU make of rows (command, state)."""
    rng = np.random.default_rng(seed)
    command = np.array([command for command, _ in rows])
    position, velocity, orientation, angular = (
        np.array([getattr(state, name)[0] for _, state in rows])
        for name in ('joint_position', 'joint_velocity', 'orientation', 'angular_velocity')
    )
    if noise:
        position = position + noise * rng.standard_normal(position.shape)
        position = np.round(position / COUNT) * COUNT
        velocity = velocity + 70 * noise * rng.standard_normal(velocity.shape)
        angular = angular + 10 * noise * rng.standard_normal(angular.shape)
    stamp = np.arange(len(rows)) * robot.control_period_ns
    return Readings(
        stamp, command, position, velocity, np.ones(len(rows), dtype=bool),
        orientation if gyro else None, angular if gyro else None,
    )  # fmt: skip


def held(robot, targets, seed=0, noise=0.0007):
    """Readings of a robot whose body is held, told targets (T, J)."""
    simulation, rows = Simulation(robot, held=True), []
    simulation.reset(pose=targets[0])
    for target in targets:
        rows.append((target, simulation.sense()))
        simulation.step(target[None])
    return readings(robot, rows, seed, noise)


def walk(robot, seconds, seed=0, noise=0.0007):
    """Readings of a walk of the shipped policy at 0.2 and 0.4 m/s, with turns."""
    config = replace(VelocityConfig(), randomisation=NOMINAL, episode=10.0 * seconds)
    task, rows = VelocityTask(robot, 1, config, seed=seed), []
    step = task.simulation.step

    def listened(targets):
        rows.append((targets[0].copy(), task.simulation.sense()))
        step(targets)

    task.simulation.step = listened
    act = PolicyRuntime(*load_policy(policy_path('walk'))).act_many
    task.pinned_command = np.array([[0.3, 0.0]])
    observation = task.reset()
    for tick in range(round(seconds * robot.control_rate)):
        turn = tick // 100
        task.pinned_command = np.array([[0.2 + 0.2 * (turn % 2), 0.4 * (turn % 3 - 1)]])
        observation = task.step(act(observation)).observation
    return readings(robot, rows, seed, noise)


def joint_state(names, ns, position, velocity=(), mode=''):
    """Serialized, of ROS 2."""
    kinds = STORE.types
    stamp = kinds['builtin_interfaces/msg/Time'](ns // 10**9, ns % 10**9)
    header = kinds['std_msgs/msg/Header'](stamp, mode)
    message = kinds[JOINT_STATE](
        header, list(names), np.array(position, float), np.array(velocity, float), np.zeros(0)
    )
    return bytes(STORE.serialize_cdr(message, JOINT_STATE))


def imu(ns, orientation, angular):
    """Serialized, of ROS 2."""
    kinds = STORE.types
    stamp = kinds['builtin_interfaces/msg/Time'](ns // 10**9, ns % 10**9)
    vector, (w, x, y, z) = kinds['geometry_msgs/msg/Vector3'], orientation
    message = kinds[IMU](
        kinds['std_msgs/msg/Header'](stamp, 'imu_link'),
        kinds['geometry_msgs/msg/Quaternion'](x, y, z, w), np.zeros(9),
        vector(*angular), np.zeros(9), vector(0.0, 0.0, 9.81), np.zeros(9),
    )  # fmt: skip
    return bytes(STORE.serialize_cdr(message, IMU))


def write_bag(folder, robot, taken, *, namespace='', names=None, relaxed=0):
    """A bag of readings; joints stand in it the other way round, as a driver may send them.

    The first ``relaxed`` ticks say that the servos had no torque.
    """
    names = list(names or robot.joint_names)[::-1]
    with BagWriter(folder) as writer:
        for topic, kind in (
            ('joint_states', JOINT_STATE), ('joint_commands_applied', JOINT_STATE),
            ('ground_truth/joint_states', JOINT_STATE), ('imu/data', IMU),
        ):  # fmt: skip
            writer.add(Topic(f'{namespace}/{topic}', kind))
        for tick, ns in enumerate(taken.stamp.tolist()):
            position, velocity = taken.position[tick, ::-1], taken.velocity[tick, ::-1]
            mode = 'relaxed' if tick < relaxed else 'track'
            said = {
                'imu/data': imu(ns, taken.orientation[tick], taken.angular_velocity[tick]),
                'joint_states': joint_state(names, ns, position, velocity),
                'ground_truth/joint_states': joint_state(names, ns, position + 9.0, velocity),
                'joint_commands_applied': joint_state(
                    names, ns, taken.command[tick, ::-1], mode=mode
                ),
            }
            for later, (topic, data) in enumerate(said.items()):
                at = 1_700_000_000_000_000_000 + ns + 1000 * later
                writer.write(Message(f'{namespace}/{topic}', at, at, data))
    return folder
