"""`lebot bus calibrate`: travel by gentle moves, zeros and signs by hand; into the user's file."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lebot_rl_ros.cli.bus_tables import columns, confirmed
from lebot_rl_ros.hardware.bus import ServoBus
from lebot_rl_ros.hardware.by_hand import POSES, find_sign, read_zeros
from lebot_rl_ros.hardware.calibration import (
    Calibration,
    calibration_path,
    load_calibration,
    save_calibration,
)
from lebot_rl_ros.hardware.guard import Guard
from lebot_rl_ros.hardware.joints import JointMap
from lebot_rl_ros.hardware.travel import Gentle, find_travel
from lebot_rl_ros.robot import Robot

STAND = (
    'Put the robot on a stand, so that no leg touches anything, and keep your fingers out of it. '
    'Joints move one by one, slowly; all others are limp. Ctrl-C takes torque off.'
)

FASTEST = 5.0  # rad/s, the speed of a servo without load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        '--joint', nargs='+', default=[], metavar='JOINT', help='only these (default: all)'
    )
    by_hand = parser.add_mutually_exclusive_group()
    by_hand.add_argument(
        '--zero-here',
        choices=POSES,
        help='move nothing: you hold the robot in this pose, and the zeros are read',
    )
    by_hand.add_argument(
        '--sign',
        action='store_true',
        help='move nothing: you turn each joint by hand, and its sign is seen',
    )
    parser.add_argument(
        '--speed', type=float, default=Gentle.speed, metavar='RAD/S', help='(default: %(default)s)'
    )
    parser.add_argument('--file', default='', help="(default: in the user's configuration)")
    parser.add_argument('--yes', action='store_true', help='do not ask')


def run(bus: ServoBus, robot: Robot, args: argparse.Namespace) -> int:
    """Calibrate, write what was found, and say what it means.

    Raises:
        ValueError: a joint is unknown, the file is unfit, or a joint cannot be calibrated.
    """
    joints = args.joint or robot.joint_names
    for name in joints:
        if name not in robot.joint_names:
            raise ValueError(f'no joint {name!r}; joints are {", ".join(robot.joint_names)}')
    if not 0 < args.speed <= FASTEST:
        raise ValueError(f'--speed is {args.speed}, must be above 0 and at most {FASTEST:g} rad/s')
    path = Path(args.file) if args.file else calibration_path(robot)
    calibration = load_calibration(robot, path) if path.is_file() else Calibration(robot.name)
    by_hand = args.zero_here or args.sign
    print('Torque goes off: hold the robot, or let it lie.' if by_hand else STAND)
    if not args.yes and not confirmed('Go on?'):
        print('nothing was done')
        return 1

    def keep(name: str, **values: object) -> None:
        nonlocal calibration
        calibration = calibration.updated(robot, name, **values)

    # Killed in the middle of a move, a servo would push for ever: Feetech's know no watchdog.
    guard = Guard(bus.fileno(), bus.torque_off())
    try:
        if args.zero_here:
            zeros = read_zeros(bus, calibration.apply(robot), joints, args.zero_here, say=_say)
            for name, zero in zeros.items():
                keep(name, zero=zero, lower=None, upper=None)  # travel hung on the old zero
            JointMap(robot, calibration)  # refuses what crosses the wrap-around
            save_calibration(calibration, path)
        for name in () if args.zero_here else joints:
            if args.sign:
                sign = find_sign(bus, robot, name, say=_say)
                keep(name, sign=sign, lower=None, upper=None)
            else:
                low, high = find_travel(
                    bus, robot, name, say=_say, gentle=Gentle(speed=args.speed)
                )
                row = calibration.apply(robot).joints[robot.joint_names.index(name)]
                ends = sorted(row.sign * (end - row.zero) for end in (low, high))
                keep(name, lower=ends[0], upper=ends[1])
            save_calibration(calibration, path)  # what is found is kept if the next one fails
    finally:
        guard.release()
    _report(robot, calibration, joints)
    print(f'written to {path}')
    return 0


def _say(text: str) -> None:
    print(text, flush=True)  # also into a pipe: it says what to do now


def _report(robot: Robot, calibration: Calibration, joints: Sequence[str]) -> None:
    rows = []
    for name in joints:
        found = calibration.joints[name]
        ends = (
            None if x is None else round(float(np.degrees(x)), 1)
            for x in (found.lower, found.upper)
        )
        rows.append((name, found.sign, round(float(np.degrees(found.zero)), 1), *ends))
    print(columns(('joint', 'sign', 'zero, servo deg', 'from deg', 'to deg'), rows))
    for line in calibration.short_travel(robot):
        print(f'look at {line}')
    try:
        JointMap(robot, calibration)
    except ValueError as error:  # a new sign may need a new zero
        print(f'not usable yet: {error}')
