"""`lebot bag recover`: a bag that was cut off by a kill or a power loss becomes readable again."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from lebot_rl_ros.cli.bag_check import size, table
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.recover import recover
from lebot_rl_ros.data.bag.recover_files import DAMAGED

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'recover',
        help='mend a bag that was cut off',
        description='Give a bag that was cut off (kill -9, power, a full disk) the end that it '
        f'lacks. What was torn stays beside it as NAME{DAMAGED}; a whole bag is not touched.',
    )
    parser.add_argument('path', type=Path, help='folder of a bag, or one .mcap')
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        '--out', type=Path, metavar='PATH', help='write the mended bag there instead'
    )
    where.add_argument(
        '--in-place', action='store_true', help='cut the torn end off, keep no copy of it'
    )
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Mend; returns the exit status.

    Raises:
        BagError: there is no bag, nothing in it can be read, or the disk is full.
    """
    done = recover(args.path, args.out, keep=not args.in_place)
    bag = Bag(done.path)
    if args.json:
        data = {
            'path': str(done.path), 'healthy': done.healthy, 'counts': dict(done.counts),
            'lost_octets': done.lost_octets, 'start_ns': bag.start, 'end_ns': bag.end,
        }  # fmt: skip
        print(json.dumps(data, indent=2))
        return 0
    print(done.message)
    if done.healthy:
        return 0
    rows = [('topic', 'messages'), *((name, f'{n:,}') for name, n in sorted(done.counts.items()))]
    lines = [
        '',
        *table(rows, right=range(1, 2)),
        '',
        f'kept: {(bag.end - bag.start) / 1e9:.1f} s; what was in memory at the end is gone, '
        'no file tells how much',
    ]
    aside = sorted(done.path.parent.glob(f'{done.path.name}{DAMAGED}*'))
    if done.path.is_dir():
        aside = sorted(done.path.glob(f'*{DAMAGED}*'))
    if aside:
        octets = sum(path.stat().st_size for path in aside)
        names = ', '.join(path.name for path in aside)
        lines.append(f'the torn original is {names} ({size(octets)}); remove it when all is well')
    lines.append(f'next: `lebot bag check {done.path}`')
    print('\n'.join(lines))
    return 0
