"""`lebot compare rewards`: the default reward against others, judged by the default."""

import argparse
import json
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lebot_rl_ros.cli.method_worlds import parse_arguments
from lebot_rl_ros.cli.reward_films import film
from lebot_rl_ros.cli.reward_pictures import Side, draw, write_gif
from lebot_rl_ros.cli.reward_runs import Job, Run, load_run, make, save_run, train
from lebot_rl_ros.envs.shaping_files import NamedShaping, parse_shapings, shaping_names
from lebot_rl_ros.learning.presets import SOLVED, preset
from lebot_rl_ros.learning.registry import METHODS, find
from lebot_rl_ros.learning.settings import parse_settings

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DEFAULT = 'default'
ALONE = [name for name, entry in METHODS.items() if not entry.needs]  # one task is enough
RESAMPLES = 10_000
SHIPPED = {
    'LunarLander-v3': 'lander_frugal',
    'LeBotWalk-v0': 'walk_smooth',
    'LeBotVelocity-v0': 'velocity_gentle',
}


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser('compare', help='compare rewards')
    kinds = parser.add_subparsers(dest='what', required=True)
    rewards = kinds.add_parser(
        'rewards',
        help='train by the default reward and by others, and judge all by the default',
        description='Train by the default reward and by others, with the same method, steps and '
        "seeds; judge all by the environment's own reward. Writes comparison.png (curves, what "
        'returns are made of, landings or gaits), comparison.gif and comparison.json. '
        f'Rewards: {", ".join(shaping_names())}, the path of a .yaml file, or words like '
        'main_engine=-1 potential.distance=100 scale=0.1, which change the one before them.',
    )
    add = rewards.add_argument
    add('--env', default='LunarLander-v3', help='(default: %(default)s)')
    add('--env-set', action='append', default=[], metavar='KEY=VALUE', help='of the environment')
    add('--method', default='ppo', choices=ALONE, help='(default: %(default)s)')
    add('--set', nargs='+', action='extend', default=[], metavar='KEY=VALUE', help='of the method')
    add('--weights', nargs='+', metavar='FILE', help='rewards (default: one that ships)')
    add('--steps', type=float, help='of one training (default: by the environment)')
    add('--seeds', type=int, default=3, help='how many (default: %(default)s)')
    add('--envs', type=int, help='side by side (default: by method and environment)')
    add('--evaluations', type=int, default=20, help='(default: %(default)s)')
    add('--episodes', type=int, default=20, help='of an evaluation (default: %(default)s)')
    add('--jobs', type=int, default=1, help='trainings at a time (default: %(default)s)')
    add('--out', type=Path, help='folder (default: runs/rewards-ENV)')
    add('--quiet', action='store_true', help='print nothing')


def run(args: argparse.Namespace) -> int:
    """Train, judge, draw; returns the exit status.

    Raises:
        ValueError: a reward, a setting or a number does not fit.
    """
    for name in ('steps', 'envs', 'seeds', 'evaluations', 'episodes', 'jobs'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f'--{name} is {value:g}, must be 1 or more')
    console, jobs = Console(quiet=args.quiet), make_jobs(args)
    out = args.out or Path('runs') / f'rewards-{args.env.replace(":", "-").replace("/", "-")}'
    for job in jobs[:: args.seeds]:
        world, method = make(job)  # an error before the work, not after it
        world.close()
        discount = getattr(method.config, 'discount', None)
        if job.shaping.potential and job.shaping.discount != discount:
            console.print(
                f'{job.name}: discount of the potential is {job.shaping.discount}, that of '
                f'{job.method} is {discount}: so the best policy may change',
                style='yellow',
            )
    runs = _train_all(jobs, args.jobs, out, console)
    sides = []
    for start in range(0, len(runs), args.seeds):
        own = runs[start : start + args.seeds]
        middle = sorted(own, key=lambda run: run.last.mean)[(len(own) - 1) // 2]
        sides.append(Side(own[0].job.name, own, film(middle)))
    seeds = '1 seed' if args.seeds == 1 else f'{args.seeds} seeds'
    words = f'{args.env}, {args.method}, {jobs[0].steps:,} steps, {seeds}'
    draw(sides, args.env, words, out / 'comparison.png')
    write_gif(sides, out / 'comparison.gif')
    (out / 'comparison.json').write_text(json.dumps(as_data(sides), indent=1) + '\n')
    console.print(as_table(sides, args.env, words))
    console.print(f'wrote {out}/comparison.png, .gif and .json', highlight=False)
    return 0


def make_jobs(args: argparse.Namespace) -> list[Job]:
    """Every training: the default first, then each reward, all seeds of one together."""
    words = args.weights or [SHIPPED[name] for name in (args.env,) if name in SHIPPED]
    if not words:
        raise ValueError(f'no reward ships for {args.env}: say --weights')
    rewards = [NamedShaping(DEFAULT), *parse_shapings(words)]
    names = [reward.name for reward in rewards]
    if len(set(names)) < len(names):
        raise ValueError(f'rewards are {", ".join(names)}: each needs a name of its own')
    for reward in rewards:
        if reward.env not in ('', args.env):
            raise ValueError(f'reward {reward.name} is for {reward.env}, not for {args.env}')
    given = preset(args.method, args.env)
    settings = {**given.config, **parse_settings(find(args.method)[1], args.set)}
    arguments = {**given.env, **parse_arguments(args.env_set)}
    return [
        Job(
            reward.name, reward.shaping, args.env, arguments, args.method, settings, seed,
            int(args.steps or given.steps), args.envs or given.envs, args.evaluations,
            args.episodes, given.stagger,
        )
        for reward in rewards
        for seed in range(args.seeds)
    ]  # fmt: skip


def _train_all(jobs: Sequence[Job], at_a_time: int, out: Path, console: Console) -> list[Run]:
    """Train what is not in the folder yet."""
    runs = [load_run(job, _place(out, job)) for job in jobs]
    # Seed by seed, so that a comparison that was stopped has some of every reward.
    missing = sorted((i for i, run in enumerate(runs) if run is None), key=lambda i: jobs[i].seed)
    if at_a_time == 1:
        for i in missing:
            runs[i] = done = train(jobs[i], console.print)
            save_run(done, _place(out, jobs[i]))
    elif missing:
        with ProcessPoolExecutor(at_a_time, mp_context=get_context('spawn')) as pool:
            trained = pool.map(train, [jobs[i] for i in missing])
            for i, done in zip(missing, trained, strict=True):
                runs[i] = done
                save_run(done, _place(out, jobs[i]))
                words = f'{done.job.name}, seed {done.job.seed}'
                console.print(f'{words}: own return {done.last.mean:.1f}')
    return [found for found in runs if found is not None]


def _place(out: Path, job: Job) -> Path:
    name = re.sub(r'[^\w.=-]+', '_', job.name)
    return out / 'runs' / f'{name}-{job.seed}.npz'


def solved_at(run: Run, target: float) -> int | None:
    """Steps at the first evaluation that reaches a return; None where none does."""
    return next((steps for steps, value in run.curve if value >= target), None)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over the seeds."""
    rng = np.random.default_rng(0)
    draws = rng.choice(np.asarray(values, dtype=float), (RESAMPLES, len(values)))
    low, high = np.quantile(draws.mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def as_table(sides: Sequence[Side], env: str, title: str) -> Table:
    """The comparison for the terminal: one column a reward."""
    table = Table(title=title)
    table.add_column('by the own reward')
    for side in sides:
        table.add_column(side.name, justify='right')
    intervals = [interval(side.finals.tolist()) for side in sides]
    rows = {
        'return': [f'{side.finals.mean():.1f}' for side in sides],
        '95 % interval': [f'{low:.1f} to {high:.1f}' for low, high in intervals],
        'of the seeds': [', '.join(f'{value:.0f}' for value in side.finals) for side in sides],
        'steps of an episode': [
            f'{np.mean([run.last.lengths.mean() for run in side.runs]):.0f}' for side in sides
        ],
    }
    target = SOLVED.get(env)
    if target is not None:
        reached = [[solved_at(run, target) for run in side.runs] for side in sides]
        rows[f'{target:g} reached at'] = [
            ', '.join('never' if at is None else f'{at / 1e3:.0f} k' for at in places)
            for places in reached
        ]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    table.add_section()
    tables = [side.parts() for side in sides]
    for name in tables[0]:
        table.add_row(name, *(f'{found.get(name, 0.0):.1f}' for found in tables))
    return table


def as_data(sides: Sequence[Side]) -> dict[str, Any]:
    """Everything as JSON has it."""
    job = sides[0].runs[0].job
    return {
        'env': job.env, 'env_arguments': dict(job.env_arguments), 'method': job.method,
        'settings': dict(job.settings), 'steps': job.steps, 'envs': job.count,
        'rewards': [
            {
                'name': side.name,
                'shaping': asdict(side.runs[0].job.shaping),
                'own_return': float(side.finals.mean()),
                'own_return_interval_95': interval(side.finals.tolist()),
                'parts': side.parts(),
                'seeds': [
                    {
                        'seed': run.job.seed,
                        'curve': run.curve,
                        'returns': run.last.returns.tolist(),
                    }
                    for run in side.runs
                ],
            }
            for side in sides
        ],
    }  # fmt: skip
