"""`lebot bus monitor`: what all servos feel, as a live table or as lines."""

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np

from lebot_rl_ros.cli.bus_tables import columns
from lebot_rl_ros.hardware.bus import Alarm, Feedback, ServoBus
from lebot_rl_ros.hardware.calibration import load_calibration
from lebot_rl_ros.robot import Robot

HEAD = (
    'joint', 'id', 'joint deg', 'servo deg', 'deg/s', 'load %', 'V', 'degC', 'missed', 'alarms',
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('--once', action='store_true', help='read once, and end')
    parser.add_argument(
        '--rate', type=float, default=10.0, metavar='HZ', help='(default: %(default)s)'
    )
    parser.add_argument('--calibration', default='', metavar='FILE', help="(default: the user's)")


def run(bus: ServoBus, robot: Robot, args: argparse.Namespace) -> int:
    """Show until Ctrl-C; with --once, 0 if all servos answered.

    Raises:
        ValueError: the rate or the calibration is unfit.
    """
    if not 0 < args.rate <= 100:
        raise ValueError(f'--rate is {args.rate}, must be above 0 and at most 100')
    robot = load_calibration(robot, args.calibration).apply(robot)
    if args.once:
        feedback = bus.read()
        print(columns(HEAD, rows(robot, feedback)))
        return 0 if feedback.complete else 1
    try:
        if sys.stdout.isatty():
            _live(robot, _reads(bus, args.rate), args.rate)
        else:
            for feedback in _reads(bus, args.rate):
                print(columns(HEAD, rows(robot, feedback)), flush=True)
    except KeyboardInterrupt:
        pass
    return 0


def rows(robot: Robot, feedback: Feedback) -> list[tuple[object, ...]]:
    """One row per joint, in the order of HEAD; what a servo never said is None."""
    sign = np.array([joint.sign for joint in robot.joints])
    zero = np.array([joint.zero for joint in robot.joints])
    values = np.stack([
        np.degrees(sign * (feedback.position - zero)),
        np.degrees(feedback.position),
        np.degrees(sign * feedback.velocity),
        100 * sign * feedback.load,
        feedback.voltage,
        feedback.temperature,
    ], axis=-1)  # fmt: skip
    shown = [
        [round(float(value), 1) if np.isfinite(value) else None for value in row] for row in values
    ]
    return [
        (
            joint.name,
            joint.id,
            *shown[i],
            int(feedback.missed[i]),
            ', '.join(a.name.lower() for a in Alarm if a.name and a & int(feedback.alarm[i])),
        )
        for i, joint in enumerate(robot.joints)
    ]


def _reads(bus: ServoBus, rate: float) -> Iterator[Feedback]:
    due = time.monotonic()
    while True:
        yield bus.read()
        now = time.monotonic()
        due = max(due + 1.0 / rate, now)
        time.sleep(due - now)


def _live(robot: Robot, reads: Iterator[Feedback], rate: float) -> None:
    from rich.live import Live
    from rich.table import Table

    with Live(refresh_per_second=rate, screen=False) as live:
        for feedback in reads:
            table = Table(*HEAD[:2], box=None)
            for name in HEAD[2:-1]:
                table.add_column(name, justify='right')
            table.add_column(HEAD[-1])
            for row, missed in zip(rows(robot, feedback), feedback.missed, strict=True):
                bad = missed or row[-1]
                table.add_row(
                    *('-' if cell is None else str(cell) for cell in row),
                    style='red' if bad else None,
                )
            live.update(table)
