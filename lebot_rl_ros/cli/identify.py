"""`lebot identify`: what the servos of a recorded robot are like, for the simulator to load."""

import argparse
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from lebot_rl_ros import __version__
from lebot_rl_ros.cli.bus_tables import columns
from lebot_rl_ros.cli.identify_bag import read_readings
from lebot_rl_ros.cli.identify_check import compared
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.robot import Robot, load_robot
from lebot_rl_ros.robot.servos import ServoFile, with_servos, write_servos
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.identify import FITTED, LEFT, WINDOW, Identified, JointResult, identify_held
from lebot_rl_ros.sim.identify_data import Readings
from lebot_rl_ros.sim.identify_model import PARAMETERS
from lebot_rl_ros.sim.identify_walk_fit import identify_walk

STILL = 0.1  # rad/s, root mean square, below which a body counts as held
UNITS = {  # as people read them: factor, unit
    'kp': (1.0, 'N·m/rad'),
    'damping': (1.0, 'N·m·s/rad'),
    'no_load_speed': (1.0, 'rad/s'),
    'stall_torque': (1.0, 'N·m'),
    'friction': (1.0, 'N·m'),
    'dead_band': (180.0 / np.pi, '°'),
    'delay': (1e3, 'ms'),
}


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'identify',
        help='fit the servos of the simulator to a recorded robot',
        description='Gain, damping, delay, friction, dead band and torque of servos, fitted to '
        'what a bag has of joint_commands_applied and joint_states. With the body held in the '
        'air each servo is fitted for itself; from a walk one set for all. `--servos` of lebot '
        'walk and lebot train base takes what is written.',
    )
    parser.add_argument('bag', type=Path, help='folder of the bag, or one .mcap file')
    parser.add_argument(
        '--out', type=Path, metavar='FILE', help='the servo file to write, as servo.yaml'
    )
    parser.add_argument('--picture', type=Path, metavar='FILE', help='measured and predicted, PNG')
    parser.add_argument('--robot', default='lebot', help='name or YAML table (default: lebot)')
    parser.add_argument(
        '--servos', default='', metavar='FILE', help='begin from these; what cannot be told stays'
    )
    parser.add_argument(
        '--check', type=Path, metavar='FILE', help='fit nothing: how well do these servos predict?'
    )
    parser.add_argument('--namespace', default='', help='of the robot, where a bag has several')
    parser.add_argument(
        '--body',
        choices=('auto', 'held', 'free'),
        default='auto',
        help=f'held in the air, or walking; auto: held if the gyro says less than {STILL} rad/s',
    )
    parser.add_argument(
        '--fit',
        nargs='+',
        default=list(FITTED),
        choices=PARAMETERS,
        metavar='NAME',
        help=f'of {", ".join(PARAMETERS)} (default: all but armature)',
    )
    parser.add_argument(
        '--joints', nargs='+', default=[], metavar='NAME', help='of a held robot (default: all)'
    )
    parser.add_argument('--start', type=float, default=0.0, metavar='S', help='of the part to use')
    parser.add_argument(
        '--end', type=float, default=float('inf'), metavar='S', help='of the part to use'
    )
    parser.add_argument('--quiet', action='store_true', help='only the result')


def run(args: argparse.Namespace) -> int:
    """Read, fit, tell; returns the exit status.

    Raises:
        ValueError: the bag or an argument cannot be used; the message says why.
    """
    robot = with_servos(load_robot(args.robot), args.servos)
    with Bag(args.bag) as bag:
        readings = read_readings(
            bag, robot, namespace=args.namespace, start=args.start, end=args.end
        )
        sha256 = bag.sha256
    body = _body(readings) if args.body == 'auto' else args.body
    print(
        f'{args.bag}: {readings.seconds:.1f} s, {len(readings.stamp)} readings with commands; '
        f'body {body}'
    )
    say = None if args.quiet else lambda words: print(words, file=sys.stderr, flush=True)
    if args.check:
        found = compared(robot, with_servos(robot, args.check), readings, body)
    elif body == 'held':
        found = identify_held(
            robot, readings, parameters=args.fit, joints=args.joints, progress=say
        )
    elif args.joints:
        raise ValueError('joints are told apart only where the body is held; leave --joints out')
    else:
        found = identify_walk(robot, readings, parameters=args.fit, progress=say)
    print(_table(found))
    if args.out and not args.check:
        write_servos(args.out, _file(found, args, sha256, readings))
        print(f'wrote {args.out}')
    if args.picture:
        from lebot_rl_ros.cli.identify_picture import draw

        draw(args.picture, robot, readings, found)
        print(f'picture {args.picture}')
    return 0


def _body(readings: Readings) -> str:
    """Whether the body was held, by its gyro; without one it must have been."""
    gyro = readings.angular_velocity
    if gyro is None:
        return 'held'
    return 'held' if float(np.sqrt(np.mean(np.sum(gyro**2, axis=1)))) < STILL else 'free'


def _shown(found: Identified) -> list[JointResult]:
    """Those that were asked for; one for all where all are one."""
    alike = len({joint.servo for joint in found.joints}) == 1
    if found.body == 'free' and alike:
        return [replace(found.joints[0], name='all')]
    return [joint for joint in found.joints if dict(joint.held) != LEFT]


def _table(found: Identified) -> str:
    head = ['joint', *(f'{name} {unit}' for name, (_, unit) in UNITS.items())]
    rows = [[joint.name, *(_cell(joint, name) for name in UNITS)] for joint in _shown(found)]
    errors = [
        [
            name,
            *(
                f'{1e3 * b:.1f} -> {1e3 * a:.1f} ({b / a:.1f}x)'
                for b, a in (
                    (found.before.one_step[j], found.after.one_step[j]),
                    (found.before.ahead[j], found.after.ahead[j]),
                )
            ),
        ]
        for j, name in enumerate(found.robot.joint_names)
        if found.body == 'free' or dict(found.joints[j].held) != LEFT
    ]
    ahead = ['joint', 'one step, mrad rms', f'{WINDOW:g} s ahead, mrad rms']
    parts = [columns(head, rows), columns(ahead, errors)]
    reasons = sorted(
        {
            f'{name}: {why}' if found.body == 'free' else f'{joint.name} {name}: {why}'
            for joint in _shown(found)
            for name, why in joint.held.items()
            if why.startswith('not identifiable')
        }
    )
    if reasons:
        parts.append('left as they were:\n' + '\n'.join(f'  {reason}' for reason in reasons))
    return '\n\n'.join(parts)


def _cell(joint: JointResult, name: str) -> str:
    factor, _ = UNITS[name]
    value = factor * getattr(joint.servo, name)
    if name not in joint.error:
        return f'({value:.4g})'
    error = factor * joint.error[name]
    digits = max(0, 1 - int(np.floor(np.log10(error)))) if error > 0 else 2
    return f'{value:.{digits}f} ± {error:.{digits}f}'


def _file(
    found: Identified, args: argparse.Namespace, sha256: str, readings: Readings
) -> ServoFile:
    robot: Robot = found.robot
    provenance = {
        'bag': str(args.bag.resolve().name),
        'bag_sha256': sha256,
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'version': __version__,
        'body': found.body,
        'begun_from': str(args.servos) or f'the joint table of {robot.name}',
        'seconds': round(readings.seconds, 2),
        'windows': {joint.name: joint.windows for joint in found.joints},
        'outliers': {joint.name: joint.outliers for joint in found.joints},
        'error_mrad_rms': {
            'one_step_before': _by_joint(robot, found.before.one_step),
            'one_step_after': _by_joint(robot, found.after.one_step),
            'half_second_before': _by_joint(robot, found.before.ahead),
            'half_second_after': _by_joint(robot, found.after.ahead),
        },
    }
    return ServoFile(
        robot=robot.name,
        servos={joint.name: joint.servo for joint in found.joints},
        uncertainty={joint.name: joint.error for joint in found.joints},
        held={joint.name: joint.held for joint in found.joints},
        provenance=provenance,
    )


def _by_joint(robot: Robot, errors: FloatArray) -> dict[str, float]:
    return {
        name: round(1e3 * float(error), 3)
        for name, error in zip(robot.joint_names, errors, strict=True)
    }
