"""`lebot bag`: recorded runs looked at, checked, drawn, mended, played, cut and written out.

Each verb under it is a module with ``add_parser(subparsers)`` and ``run(args)``, imported when it
is called; ``args.what`` is the verb's name, for a module that does two.
"""

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

VERBS = {  # module, what it does
    'info': ('bag_info', 'what is in a bag, and what can be done with it'),
    'check': ('bag_check', 'rates, gaps, losses, latency, joins and damage; status 1 if bad'),
    'plot': ('bag_plot', 'pictures, and one page to look at or to send'),
    'play': ('bag_play', 'publish it again, at any rate, under other names'),
    'cut': ('bag_edit', 'a part of a bag: a stretch of time, some topics'),
    'merge': ('bag_edit', 'several bags as one'),
    'export': ('bag_export', 'tables as Parquet or NPZ'),
    'reward': ('bag_reward', 'the reward again, with other weights, from the bag alone'),
    'recover': ('bag_recover', 'mend a bag that was cut off: power, kill -9'),
}


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb; what follows the inner one is read by its own module."""
    lines = '\n'.join(f'  {name:<9} {about}' for name, (_, about) in VERBS.items())
    parser = subparsers.add_parser(
        'bag',
        help='look at, check, plot, play, cut, export recorded runs',
        usage='lebot bag VERB PATH ...',
        description='Recorded runs: bags of rosbag2 with MCAP storage, without a ROS install.',
        epilog=f'verbs:\n{lines}\n\n`lebot bag VERB --help` says more.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('what', choices=VERBS, metavar='VERB', help=argparse.SUPPRESS)
    parser.add_argument('rest', nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Read the inner verb's arguments and do it; returns the exit status.

    Raises:
        ValueError: the bag or an argument cannot be used; the message says why.
    """
    module = importlib.import_module(f'lebot_rl_ros.cli.{VERBS[args.what][0]}')
    parser = argparse.ArgumentParser(prog='lebot bag')
    module.add_parser(parser.add_subparsers(dest='what', prog='lebot bag', required=True))
    try:
        status = int(module.run(parser.parse_args([args.what, *args.rest])))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; nor may the end of Python write to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status
