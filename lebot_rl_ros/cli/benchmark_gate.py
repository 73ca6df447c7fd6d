"""`lebot benchmark gate`: bad updates on purpose and good ones, judged, then walked."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import Progress

from lebot_rl_ros.cli import gate_page, gate_picture
from lebot_rl_ros.cli.gate_trials import BARE, Outcome, judge_all
from lebot_rl_ros.cli.gate_updates import BAD
from lebot_rl_ros.cli.gate_workshop import Workshop
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.robot import load_robot, share_path

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the kind of benchmark and its arguments."""
    parser = subparsers.add_parser(
        'gate',
        help='bad and good updates through the gate and on probation',
        description='Make bad updates in ten kinds and as many good ones, let the gate judge '
        'each, and let those that it passes walk in simulation, on probation, with rollback. '
        'Status 0 if none of a catastrophic kind acts, 95 % of the bad are stopped before they '
        'act, the rest is rolled back within 2 s of walking, and under 10 % of the good are lost.',
    )
    parser.add_argument(
        '--updates', type=int, default=20, help='of each bad kind (default: %(default)s)'
    )
    parser.add_argument(
        '--seeds', type=int, default=1, help='repetitions with others (default: %(default)s)'
    )
    parser.add_argument(
        '--first-seed', type=int, default=0,
        help='the thresholds were settled while looking at seed 0 (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument('--out', type=Path, metavar='FILE.md', help='write the page here')


def run(args: argparse.Namespace) -> int:
    """Make, judge, walk, show; returns the exit status.

    Raises:
        ValueError: a number out of its range.
    """
    for name in ('updates', 'seeds'):
        if getattr(args, name) < 1:
            raise ValueError(f'--{name} is {getattr(args, name)}, must be 1 or more')
    if args.first_seed < 0:
        raise ValueError(f'--first-seed is {args.first_seed}, must be 0 or more')
    torch.set_num_threads(1)
    began, console = time.monotonic(), Console()
    base, manifest = load_policy(share_path('policies', 'walk'))
    workshop = Workshop(load_robot(), base, manifest)
    outcomes: list[Outcome] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(
            'updates', total=(2 * len(BAD) + len(BARE)) * args.updates * args.seeds
        )
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for outcome in judge_all(workshop, args.updates, seed):
                outcomes.append(outcome)
                progress.advance(task)
    minutes = (time.monotonic() - began) / 60.0
    console.print(gate_page.table(outcomes))
    for words, reached in gate_page.asked(outcomes):
        console.print(f'{"reached" if reached else "NOT reached"}: {words}', markup=False)
    if args.out:
        picture = args.out.parent / 'images' / 'gate.png'
        gate_picture.plot(outcomes, picture)
        words = f'--updates {args.updates} --seeds {args.seeds}'
        words += f' --first-seed {args.first_seed}' if args.first_seed else ''
        words += f' --out {args.out}'
        args.out.write_text(gate_page.page(outcomes, words, minutes, picture.name))
        console.print(f'wrote {args.out} and {picture}')
    return 0 if all(reached for _, reached in gate_page.asked(outcomes)) else 1
