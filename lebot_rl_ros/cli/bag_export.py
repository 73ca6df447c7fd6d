"""`lebot bag export`: tables for pandas, DuckDB and numpy."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lebot_rl_ros.cli.bag_edit import add_topics, shown
from lebot_rl_ros.data.bag.export import export_topics, refuse_files, write_rows
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.selection import choose_topics
from lebot_rl_ros.data.bag.table_sink import recorded_joints
from lebot_rl_ros.data.bag.transitions import read_transitions

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'export',
        help='tables as Parquet or NPZ',
        description='A table a topic; rows of records (policy/steps) become rows, numbers of '
        'joints columns by their names, with units in the metadata of the columns.',
    )
    parser.add_argument('path', type=Path, metavar='PATH')
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FILE|DIR',
        help='FILE.parquet for one table, FILE.npz for all, or a folder of Parquet files',
    )
    add_topics(parser)
    parser.add_argument(
        '--transitions',
        action='store_true',
        help='instead of topics: steps joined with their rewards, as a learner gets them',
    )
    parser.add_argument('--namespace', default='', help='of the robot, if the bag has several')
    parser.add_argument('--force', action='store_true', help='replace files that are there')


def run(args: argparse.Namespace) -> int:
    """Write the tables; returns the exit status.

    Raises:
        ValueError: the bag or an argument cannot be used; the message says why.
    """
    if args.transitions:
        if args.topics or args.exclude:
            raise ValueError('--transitions are of all steps: it has no --topics, --exclude')
        return _transitions(args)
    with Bag(args.path) as bag:
        chosen = choose_topics(bag.topics, args.topics, args.exclude)
        tables = export_topics(bag, args.out, chosen, force=args.force, progress=shown())
    for table in tables:
        print(f'{table.path}: {table.topic}, {table.rows} rows')
    return 0


def _transitions(args: argparse.Namespace) -> int:
    refuse_files([args.out], force=args.force)
    (recorded,) = read_transitions([args.path], namespace=args.namespace)
    with Bag(args.path) as bag:
        joints = recorded_joints(bag)
    about = {'bag_sha256': recorded.sha256}
    write_rows(args.out, recorded.rows, joints=joints, metadata=about, force=args.force)
    print(f'{args.out}: {len(recorded.rows)} transitions')
    return 0
