"""`lebot drive`: the keyboard commands a robot that walks in another terminal."""

import argparse
import os
import sys


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'drive',
        help='steer a walking robot with the keyboard',
        description='Start `lebot walk --teleop none` in another terminal first, '
        'so that only one commands.',
    )
    parser.add_argument('--namespace', default='', help='of the robot')


def run(args: argparse.Namespace) -> int:
    """Become the teleop node."""
    if not sys.stdin.isatty():
        raise ValueError('the keyboard is read from a terminal; standard input is none')
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    words = ['--ros-args', '-p', 'source:=keyboard', '--log-level', 'warn']
    if args.namespace:
        words += ['-r', f'__ns:=/{args.namespace.strip("/")}']
    os.execv(sys.executable, [sys.executable, '-m', 'lebot_rl_ros.nodes.teleop', *words])
