"""`lebot dataset`: make data sets of bags, show them, check them."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lebot_rl_ros.data.bag.files import find_bags
from lebot_rl_ros.data.dataset_making import make_dataset
from lebot_rl_ros.data.datasets import (
    DataSet,
    DataSetError,
    default_root,
    load_dataset,
    names,
    versions,
)

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

SPLITS = 'train:0.8,validation:0.1,test:0.1'


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--root',
        type=Path,
        metavar='DIR',
        help='their folder (default: $LEBOT_DATASETS, else lebot/datasets in the data home)',
    )
    common.add_argument('--json', action='store_true', help='print JSON')
    parser = subparsers.add_parser('dataset', help='make data sets of bags, show, check them')
    verbs = parser.add_subparsers(dest='what', metavar='VERB', required=True)

    def verb(name: str, about: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, help=about, description=f'{about[0].upper()}{about[1:]}.', parents=[common]
        )

    one = verb('make', 'make a data set, or the next version of one')
    one.add_argument('name')
    one.add_argument(
        'bags', nargs='+', type=Path, metavar='BAG', help='a bag, or a folder with bags below it'
    )
    one.add_argument('--add', action='store_true', help='to the bags of the newest version')
    one.add_argument(
        '--splits', metavar='NAME:SHARE,...', help=f'(default: {SPLITS}); first version only'
    )
    one.add_argument('--seed', type=int, help='of the split (default: 0); first version only')
    one.add_argument('--namespace', default='', help='of the topics, if a bag has several')
    one.add_argument('--base', default='', metavar='SHA256', help='of the base, if bags mix them')
    one.add_argument('--terms', metavar='TERM,...', help="of the reward (default: the bags')")
    one.add_argument('--robot', metavar='NAME', help='that the bags must be of')
    one.add_argument('--workers', type=int, default=0, metavar='N', help='(default: all cores)')
    one.add_argument('--no-cache', action='store_true', help='write nothing beside the bags')
    for name, about in (
        ('show', 'everything about one version'),
        ('check', 'read all bags of a version, and compare their hashes'),
    ):
        verb(name, about).add_argument('dataset', help='NAME or NAME@VERSION')
    verb('list', 'every version of every data set')


def run(args: argparse.Namespace) -> int:
    """Do what the inner verb says; returns the exit status.

    Raises:
        DataSetError: a data set cannot be made or used.
        BagError: a bag cannot be used.
    """
    root = args.root or default_root()
    {'make': _make, 'show': _show, 'check': _check, 'list': _list}[args.what](args, root)
    return 0


def _make(args: argparse.Namespace, root: Path) -> None:
    robot = None
    if args.robot:
        from lebot_rl_ros.robot import load_robot

        robot = load_robot(args.robot)
    bags = [bag for path in args.bags for bag in find_bags(path)]
    made = make_dataset(
        root,
        args.name,
        bags,
        splits=None if args.splits is None else _splits(args.splits),
        seed=args.seed,
        namespace=args.namespace,
        base_sha256=args.base,
        terms=None if args.terms is None else args.terms.split(','),
        robot=robot,
        add=args.add,
        cache=not args.no_cache,
        workers=args.workers,
        progress=_say,
    )
    _print(made, args.json)
    empty = [name for name, share in made.splits.items() if share and not made.steps(name)]
    if empty and not args.json:
        print(
            f'note: {", ".join(empty)} got nothing. Whole trajectories are dealt out, and there '
            f'are {sum(bag.trajectories for bag in made.bags)}; more bags, or another --seed of a '
            f'new data set, help'
        )


def _show(args: argparse.Namespace, root: Path) -> None:
    _print(_find(args.dataset, root), args.json)


def _check(args: argparse.Namespace, root: Path) -> None:
    found = _find(args.dataset, root)
    found.check()
    if args.json:
        print(json.dumps({'dataset': found.label, 'bags': len(found.bags), 'unchanged': True}))
    else:
        print(f'{found.label}: all {len(found.bags)} bags have the hash that they had')


def _list(args: argparse.Namespace, root: Path) -> None:
    found = [load_dataset(root, name, n) for name in names(root) for n in versions(root, name)]
    if args.json:
        print(json.dumps([_plain(one) for one in found], indent=1))
    elif not found:
        print(f'no data sets in {root}; `lebot dataset make NAME BAG ...` makes one')
    for one in [] if args.json else found:
        steps = sum(bag.steps for bag in one.bags)
        print(
            f'{one.label:<20} {one.created}  {len(one.bags):>3} bags {steps:>9,} steps  '
            f'base {one.base_sha256[:12]}  {one.robot or "robot not known"}'
        )


def _find(text: str, root: Path) -> DataSet:
    name, _, version = text.partition('@')
    if version and not version.isdecimal():
        raise DataSetError(f'{text!r}: expected NAME or NAME@VERSION, a number')
    return load_dataset(root, name, int(version or 0))


def _splits(text: str) -> dict[str, float]:
    try:
        pairs = [part.split(':') for part in text.split(',')]
        return {name.strip(): float(share) for name, share in pairs}
    except ValueError:
        raise DataSetError(f'--splits {text!r}: expected NAME:SHARE,..., as in {SPLITS}') from None


def _say(done: int, total: int, path: Path) -> None:
    print(f'{done}/{total} {path}', file=sys.stderr, flush=True)


def _plain(one: DataSet) -> dict[str, Any]:
    return {**asdict(one), 'folder': str(one.folder), 'paths': [str(p) for p in one.paths]}


def _print(one: DataSet, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_plain(one), indent=1))
        return
    print(f'{one.label}  {one.created}  in {one.folder}')
    print(f'  robot {one.robot or "not known"}, base {one.base_sha256[:12]}, seed {one.seed}')
    print(f'  observation {one.widths[0]}, joints {one.widths[1]}; terms {", ".join(one.terms)}')
    print(f'  hash {one.sha256}')
    total = sum(bag.steps for bag in one.bags)
    for name, share in one.splits.items():
        steps = one.steps(name)
        print(f'  {name:<12} {share:5.0%} wanted, {steps / total:6.1%} of the steps: {steps:,}')
    for bag, path in zip(one.bags, one.paths, strict=True):
        print(
            f'  {bag.sha256[:12]}  {bag.steps:>8,} steps {bag.trajectories:>5} trajectories '
            f' {path}'
        )
