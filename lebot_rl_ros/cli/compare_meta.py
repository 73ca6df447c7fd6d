"""`lebot benchmark meta`: MAML and RL^2 beside a plain policy, on tasks that none has seen."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lebot_rl_ros.cli import meta_figures, meta_trials
from lebot_rl_ros.cli.benchmark_stats import bootstrap_mean
from lebot_rl_ros.learning.train import share_cores

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

STEPS = {'navigation': 2e6, 'faults': 2e6}  # of each method, in training
ENOUGH = 0.8  # of the gap between an untrained policy and the oracle
ROWS = (  # what is in a table: words, result, index in its curve, distance
    ('untrained', 'untrained', 0, 'untrained_before'),
    ('untrained, one update', 'untrained', 1, 'untrained_after'),
    ('plain policy', 'plain', 0, 'plain_before'),
    ('plain policy, one update', 'plain', 1, 'plain_after'),
    ('MAML, before', 'maml', 0, 'maml_before'),
    ('MAML, one update', 'maml', 1, 'maml_after'),
    ('RL^2, first episode', 'rl2', 0, 'rl2_1'),
    ('RL^2, second episode', 'rl2', 1, 'rl2_2'),
)
Runs = Sequence[dict[str, Any]]


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the kind of benchmark and its arguments."""
    parser = subparsers.add_parser(
        'meta',
        help='MAML and RL^2 beside a plain policy, on unseen tasks',
        description='Train MAML, RL^2 and a plain policy for equally many steps on navigation '
        "with the goal hidden, and MAML from the shipped policy on LeBot's faults; judge all on "
        'unseen tasks. Seeds that are done are kept in --runs and not made again. Status 0 if on '
        f'navigation MAML after one update and RL^2 in its second episode close {ENOUGH:.0%} of '
        'the gap between an untrained policy and the oracle, by the lower ends of the intervals '
        'over the seeds.',
    )
    parser.add_argument(
        '--only', choices=list(STEPS), help='navigation takes minutes a seed, faults longer'
    )
    parser.add_argument('--seeds', type=int, default=5, help='(default: %(default)s)')
    parser.add_argument(
        '--steps', type=float, help='of each training (default: 2 million)', metavar='N'
    )
    parser.add_argument(
        '--runs', type=Path, default=Path('runs/benchmark-meta'), help='(default: %(default)s)'
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help='write the figures here')
    parser.add_argument('--show', action='store_true', help='only show what is there')


def run(args: argparse.Namespace) -> int:
    """Run what is missing, show and draw all; returns the exit status.

    Raises:
        ValueError: a number out of its range, or nothing to show.
    """
    for name in ('seeds', 'steps'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f'--{name} is {value:g}, must be 1 or more')
    share_cores()
    console, good = Console(), True
    for kind in [args.only] if args.only else list(STEPS):
        steps = int(args.steps or STEPS[kind])
        for seed in range(0 if args.show else args.seeds):
            result = run_seed(kind, seed, steps, args.runs)
            console.print(f'{kind}, seed {seed}: {result["seconds"]:.0f} s')
        runs = load(args.runs, kind)
        if not runs:
            raise ValueError(f'no run of {kind} is in {args.runs}')
        if kind == 'navigation':
            console.print(as_table(runs))
            good = reached(runs)
        else:
            console.print(faults_table(runs))
        if args.out:
            path = args.out / f'meta_{kind}.png'
            getattr(meta_figures, kind)(runs, path)
            console.print(f'wrote {path}')
    return 0 if good else 1


def run_seed(kind: str, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """The result of one seed, from its file if it was made with the settings of today."""
    path = folder / f'{kind}-{seed}.json'
    key = {'steps': steps, 'settings': meta_trials.SETTINGS[kind]}
    key = json.loads(json.dumps(key))  # lists for tuples, as in the file
    if path.exists():
        row = json.loads(path.read_text())
        if all(row[name] == key[name] for name in key):
            return row['result']
    trial = {'navigation': meta_trials.navigation, 'faults': meta_trials.faults}[kind]
    result = trial(seed, steps)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({'kind': kind, 'seed': seed, **key, 'result': result}) + '\n')
    return result


def load(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Results of all seeds there are."""
    return [
        json.loads(path.read_text())['result'] for path in sorted(folder.glob(f'{kind}-*.json'))
    ]


def closed(runs: Runs, name: str, index: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Share of the gap between the untrained policy and the oracle that is closed, (seeds,)."""
    return np.array([
        (run[name][index] - run['untrained'][0]) / (run['oracle'] - run['untrained'][0])
        for run in runs
    ])  # fmt: skip


def reached(runs: Runs) -> bool:
    """Whether MAML after one update and RL^2 in its second episode close enough of the gap."""
    rng = np.random.default_rng(0)
    return all(bootstrap_mean(closed(runs, name, 1), rng)[0] >= ENOUGH for name in ('maml', 'rl2'))


def as_table(runs: Runs) -> Table:
    """Returns, distances and shares of the gap, with bootstrap intervals over the seeds."""
    rng = np.random.default_rng(0)
    table = Table(title=f'navigation, goal hidden: {len(runs)} seeds, unseen goals')
    for column in ('policy', 'return', 'ends at a distance of', 'gap closed'):
        table.add_column(column, justify='left' if column == 'policy' else 'right')
    for words, name, index, distance in ROWS:
        table.add_row(
            words,
            interval(np.array([run[name][index] for run in runs]), rng),
            interval(np.array([run['distances'][distance] for run in runs]), rng, 3),
            interval(100 * closed(runs, name, index), rng, 1) + ' %',
        )
    oracle = np.mean([run['oracle'] for run in runs])
    table.add_row('oracle', f'{oracle:.2f}', '0.000', '100 %')
    return table


def faults_table(runs: Runs) -> Table:
    """Returns of both starts by the number of updates."""
    rng = np.random.default_rng(0)
    table = Table(title=f"LeBot's faults: return in 2 s, {len(runs)} seeds, unseen faults")
    table.add_column('updates', justify='right')
    for words in ('from the shipped policy', "from MAML's start"):
        table.add_column(words, justify='right')
    for i in range(len(runs[0]['base'])):
        cells = [np.array([run[name][i] for run in runs]) for name in ('base', 'maml')]
        table.add_row(str(i), *(interval(cell, rng, 1) for cell in cells))
    return table


def interval(
    values: np.ndarray[Any, np.dtype[np.float64]], rng: np.random.Generator, digits: int = 2
) -> str:
    """Mean and 95 % bootstrap interval in words."""
    low, high = bootstrap_mean(values, rng)
    return f'{values.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]'
