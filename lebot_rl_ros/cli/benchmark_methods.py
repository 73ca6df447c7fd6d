"""`lebot benchmark methods`: our learning methods beside stable-baselines3, return and time."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lebot_rl_ros.cli.benchmark_cells import CELLS
from lebot_rl_ros.cli.benchmark_jobs import Job, add_run_arguments, run_jobs
from lebot_rl_ros.cli.benchmark_methods_page import page, plot, summarise, table

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

SIDES = ('ours', 'theirs')
Run = tuple[str, int, str]  # cell, seed, side


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the kind of benchmark and its arguments."""
    parser = subparsers.add_parser(
        'methods',
        help='the learning methods beside stable-baselines3',
        description='Train our methods and those of stable-baselines3 with the same settings, '
        'networks, steps and seeds, each run in a process of its own; judge both by the return '
        'of the deterministic policy and by wall time. Runs that are done are kept in --runs and '
        'not made again.',
    )
    parser.add_argument(
        '--only', nargs='+', default=[], metavar='CELL', help=f'of {", ".join(CELLS)}'
    )
    add_run_arguments(parser, seeds=5, jobs=1, runs='runs/benchmark-methods')


def run(args: argparse.Namespace) -> int:
    """Run what is missing, show and write all; returns the exit status.

    Raises:
        ValueError: a cell that there is none of, or no run at all.
    """
    unknown = [name for name in args.only if name not in CELLS]
    if unknown:
        raise ValueError(f'no cell {", ".join(unknown)}; choices are {", ".join(CELLS)}')
    for name in ('seeds', 'jobs'):
        if getattr(args, name) < 1:
            raise ValueError(f'--{name} is {getattr(args, name)}, must be 1 or more')
    console = Console()
    names = args.only or list(CELLS)
    args.runs.mkdir(parents=True, exist_ok=True)
    failed = 0
    if not args.show:
        # Seeds outside, sides inside: what is there after a while can be judged, and both sides
        # meet the machine in the same state.
        wanted = [
            (cell, seed, side)
            for seed in range(args.seeds)
            for cell in names
            for side in SIDES[:: 1 - 2 * (seed % 2)]
        ]
        missing = [_job(args.runs, run) for run in wanted if not _usable(args.runs, run)]
        failed = run_jobs(missing, args.jobs, 'methods', console) if missing else 0
    rows = list(load(args.runs, names))
    if not rows:
        raise ValueError(f'no run is in {args.runs}')
    summaries = summarise(rows)
    console.print(table(summaries))
    if args.out:
        images = args.out.parent / 'images'
        for name in {row['cell'] for row in rows}:
            plot([row for row in rows if row['cell'] == name], images / f'{file_name(name)}.png')
        args.out.write_text(page(summaries))
        console.print(f'wrote {args.out}')
    return 1 if failed else 0


def file_name(cell: str) -> str:
    """A cell's name in names of files."""
    return cell.replace(':', '-').lower()


def path_of(folder: Path, run: Run) -> Path:
    """Where a run is kept."""
    cell, seed, side = run
    return folder / f'{file_name(cell)}-{seed}-{side}.json'


def load(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Runs of these cells with the settings of today."""
    for path in sorted(folder.glob('*.json')):
        row = json.loads(path.read_text())
        if row['cell'] in names and _current(row):
            yield row


def _current(row: dict[str, Any]) -> bool:
    """Whether a run has today's settings; those of the other side did not touch it."""
    other = 'theirs' if row['side'] == 'ours' else 'ours'
    then, now = row['settings'], CELLS[row['cell']].settings
    return {**then, other: None} == {**now, other: None}


def _usable(folder: Path, run: Run) -> bool:
    path = path_of(folder, run)
    return path.exists() and _current(json.loads(path.read_text()))


def _job(folder: Path, run: Run) -> Job:
    cell, seed, side = run
    words = [sys.executable, '-m', 'lebot_rl_ros.cli.benchmark_run', '--cell', cell]
    words += ['--side', side, '--seed', str(seed), str(path_of(folder, run))]
    return Job(f'{cell} {side} seed {seed}', tuple(words))
