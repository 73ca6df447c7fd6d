"""`lebot bag cut` and `lebot bag merge`: a part of a bag, or several as one."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lebot_rl_ros.data.bag.editing import Made, Progress, cut, merge

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

TIME = 'S'  # how a moment is called in the help


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare both verbs and their arguments."""
    one = subparsers.add_parser(
        'cut',
        help='a part of a bag: a stretch of time, some topics',
        description='S: seconds since the start; negative, from the end; above 1e9, since the '
        'epoch; or a date, as in 2026-11-21T22:00:00Z. What latched topics said before begins '
        'the new bag.',
    )
    one.add_argument('path', type=Path, metavar='PATH')
    one.add_argument('out', type=Path, metavar='OUT', help='folder to be')
    add_stretch(one)
    add_topics(one)
    _add_force(one)
    several = subparsers.add_parser(
        'merge',
        help='several bags as one, in the order of time',
        description='A topic that has another type in another bag is refused.',
    )
    several.add_argument('paths', type=Path, nargs='+', metavar='PATH')
    several.add_argument('out', type=Path, metavar='OUT', help='folder to be')
    several.add_argument(
        '--align', action='store_true', help='put each bag behind the one before it'
    )
    _add_force(several)


def add_stretch(parser: argparse.ArgumentParser) -> None:
    """Arguments for a stretch of a bag's time."""
    parser.add_argument('--from', dest='start', default='', metavar=TIME, help='(default: start)')
    parser.add_argument('--to', dest='end', default='', metavar=TIME, help='(default: all of it)')


def add_topics(parser: argparse.ArgumentParser) -> None:
    """Arguments for topics of a bag."""
    parser.add_argument(
        '--topics',
        nargs='+',
        default=[],
        metavar='TOPIC',
        help="names or patterns, as in /joint_states 'policy/*' (default: all)",
    )
    parser.add_argument(
        '--exclude', nargs='+', default=[], metavar='TOPIC', help='likewise, left out'
    )


def run(args: argparse.Namespace) -> int:
    """Write the bag and say what is in it; returns the exit status.

    Raises:
        ValueError: a bag or an argument cannot be used; the message says why.
    """
    if args.what == 'cut':
        made = cut(
            args.path,
            args.out,
            start=args.start,
            end=args.end,
            topics=args.topics,
            exclude=args.exclude,
            force=args.force,
            progress=shown(),
        )
    else:
        made = merge(args.paths, args.out, align=args.align, force=args.force, progress=shown())
    print(_said(made))
    return 0


def shown() -> Progress | None:
    """How far it is, on a line of the terminal; None where there is none."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = '\n' if done == total else ''
        print(f'\r{done} of {total} messages', end=end, file=sys.stderr, flush=True)

    return show


def _said(made: Made) -> str:
    text = f'{made.path}: {made.messages} messages'
    if made.latched:
        text += f', of which {made.latched} of latched topics from before'
    if any(made.shifts):
        moved = ', '.join(f'{shift / 1e9:+.3f}' for shift in made.shifts)
        text += f'; moved by {moved} s'
    return text


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--force', action='store_true', help='replace a bag that is there')
