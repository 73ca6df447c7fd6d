"""`lebot benchmark adapt`: how much of a fault is learned away on one robot, and how fast."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lebot_rl_ros.cli.adapt_cells import (
    FAULTS,
    GATES,
    MARKS,
    METHODS,
    PATHS,
    STREAMS,
    Cell,
    cells,
    usable,
)
from lebot_rl_ros.cli.adapt_oracle import STEPS, load_fault
from lebot_rl_ros.cli.adapt_page import load, summarise, table
from lebot_rl_ros.cli.benchmark_jobs import Job, add_run_arguments, run_jobs

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the kind of benchmark and its arguments."""
    parser = subparsers.add_parser(
        'adapt',
        help='faults learned away by one robot, beside stable-baselines3',
        description='Let one faulty robot learn for minutes of its own time, by every method and '
        'seed; judge by held-out rollouts between the frozen base and an oracle. Oracles and runs '
        'that are done are kept in --runs and not made again; each is a process of its own.',
    )
    parser.add_argument(
        '--faults', nargs='+', default=list(FAULTS), choices=list(FAULTS), metavar='FAULT',
        help=f'of {", ".join(FAULTS)} (default: all; those not admitted are only measured)',
    )  # fmt: skip
    parser.add_argument(
        '--methods', nargs='+', default=list(METHODS), choices=METHODS, metavar='METHOD',
        help=f'of {", ".join(METHODS)} (default: all)',
    )  # fmt: skip
    parser.add_argument(
        '--only', nargs='+', default=[], metavar='TEXT',
        help='run only what has one of these in its name, as slip.td3-lora4',
    )  # fmt: skip
    parser.add_argument(
        '--minutes', type=float, default=10.0, help='of robot time a run (default: %(default)s)'
    )
    parser.add_argument(
        '--stream', choices=STREAMS, default='clean',
        help='hostile: rows are lost, late and out of order (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--gate', choices=GATES, default='gate', help='no-gate lets every update act'
    )
    parser.add_argument(
        '--through', choices=PATHS, default='direct',
        help='ros: `lebot walk --learn` in lockstep, real nodes and topics (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--oracle-steps', type=float, default=STEPS, help='of all robots (default: %(default)s)'
    )
    add_run_arguments(parser, seeds=10, jobs=2, runs='runs/benchmark-adapt')


def run(args: argparse.Namespace) -> int:
    """Run what is missing, show and write all; returns the exit status.

    Raises:
        ValueError: a number out of its range, or nothing to show.
    """
    for name in ('seeds', 'jobs', 'minutes', 'oracle_steps'):
        if getattr(args, name) <= 0:
            label = name.replace('_', '-')
            raise ValueError(f'--{label} is {getattr(args, name):g}, must be positive')
    console, failed = Console(), 0
    if not args.show:
        failed = _measure(args, console) + _run(args, console)
    faults = _faults(args.runs)
    if not faults:
        raise ValueError(f'no fault was measured in {args.runs}')
    rows = [row for row in load(args.runs, args.minutes) if row['fault'] in faults]
    summaries = summarise(rows, faults)
    for shown in table(summaries, faults):
        console.print(shown)
    if args.out:
        _write(args, rows, summaries, faults)
        console.print(f'wrote {args.out}')
    return 1 if failed else 0


def _faults(folder: Path) -> dict[str, dict[str, Any]]:
    """Numbers of all faults that were measured."""
    found = {fault: load_fault(folder, fault) for fault in FAULTS}
    return {fault: row for fault, row in found.items() if row is not None}


def _measure(args: argparse.Namespace, console: Console) -> int:
    """What every fault costs, and its oracle; returns how many failed."""
    steps = int(args.oracle_steps)
    program = (sys.executable, '-m', 'lebot_rl_ros.cli.adapt_oracle', '--runs', str(args.runs))
    jobs = [
        Job(f'oracle of {fault}', (*program, '--fault', fault, '--steps', str(steps)))
        for fault in args.faults
        if load_fault(args.runs, fault, steps) is None
    ]
    return run_jobs(jobs, 1, 'faults', console) if jobs else 0  # a training uses all cores


def wanted(args: argparse.Namespace) -> list[Cell]:
    """Runs that were asked for, of faults that are admitted."""
    faults = _faults(args.runs)
    admitted = [fault for fault in args.faults if faults.get(fault, {}).get('admitted')]
    extra = {'stream': args.stream, 'gate': args.gate, 'path': args.through}
    asked = cells(admitted, args.methods, args.seeds, args.minutes, **extra)
    return [cell for cell in asked if cell.sensible and _chosen(cell, args.only)]


def _chosen(cell: Cell, only: Sequence[str]) -> bool:
    return not only or any(text in cell.words for text in only)


def _run(args: argparse.Namespace, console: Console) -> int:
    """Make the runs that are missing; returns how many failed."""
    missing = [cell for cell in wanted(args) if not _done(cell, args.runs)]
    program = (sys.executable, '-m', 'lebot_rl_ros.cli.adapt_run', '--runs', str(args.runs))
    names = ('fault', 'method', 'seed', 'minutes', 'stream', 'gate', 'path')
    jobs = [
        Job(
            cell.words,
            (*program, *(w for n in names for w in (f'--{n}', str(getattr(cell, n))))),
        )
        for cell in missing
    ]
    return run_jobs(jobs, args.jobs, 'adapt', console) if jobs else 0


def _done(cell: Cell, folder: Path) -> bool:
    path = cell.file(folder)
    return path.exists() and usable(json.loads(path.read_text()), cell)


def _write(args: argparse.Namespace, rows: Any, summaries: Any, faults: Any) -> None:
    """The page and its pictures."""
    from lebot_rl_ros.cli import adapt_pictures  # late: matplotlib
    from lebot_rl_ros.cli.adapt_text import page

    images = args.out.parent / 'images'
    for fault, row in faults.items():
        runs = [r for r in rows if r['fault'] == fault]
        if runs and row['oracle']:
            adapt_pictures.curves(runs, row, images / f'adapt_{fault}.png')
    if summaries:
        adapt_pictures.aggregate(summaries, MARKS, images / 'adapt_all.png')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(page(summaries, faults, args.minutes))
