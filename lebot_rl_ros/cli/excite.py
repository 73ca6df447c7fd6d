"""`lebot excite`: moves the servos of a robot whose body is held, to identify them."""

import argparse

import numpy as np

from lebot_rl_ros.cli.bus_tables import confirmed, progress
from lebot_rl_ros.robot import Robot, load_robot
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros.motion_player import MotionPlayer
from lebot_rl_ros.sim.identify_motion import excitation

WAY = 2.0  # s from the standing pose into the motion, and back


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'excite',
        help='move held servos so that they can be identified',
        description='Chirp, steps and slow ramps, one joint of each leg at a time, through the '
        'driver and its limits. Start `lebot walk --policy none --teleop none --record` in '
        'another terminal first, with --held in simulation; then `lebot identify` its bag.',
    )
    parser.add_argument('--robot', default='lebot', help='name or YAML table (default: lebot)')
    parser.add_argument('--namespace', default='', help='of the robot')
    parser.add_argument('--yes', action='store_true', help='the body is held; do not ask')


def run(args: argparse.Namespace) -> int:
    """Ask, move, say how it went."""
    robot = load_robot(args.robot)
    motion = with_ways(robot, excitation(robot))
    seconds = len(motion) / robot.control_rate
    print(
        f'{seconds:.0f} s of motion. Hold the body in the air, all legs free, hands off the legs.'
    )
    if not args.yes and not confirmed('Is it held?'):
        print('nothing was moved')
        return 1
    with MotionPlayer(robot, args.namespace) as player:
        player.play(motion, lambda left: progress(f'{left:.0f} s left'))
    progress('')
    print('done; the robot crouches. End the graph, then `lebot identify` its bag.')
    return 0


def with_ways(robot: Robot, motion: FloatArray) -> FloatArray:
    """A motion (T, J) rad with slow ways from the standing pose and back."""
    share = np.linspace(0.0, 1.0, round(WAY * robot.control_rate))[:, None]
    there = robot.stand + share * (motion[0] - robot.stand)
    back = motion[-1] + share * (robot.stand - motion[-1])
    return np.concatenate((there, motion, back))
