"""`lebot train METHOD --env ID`: any learning method on any environment."""

import argparse
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from lebot_rl_ros.cli.method_start import load_start
from lebot_rl_ros.cli.method_worlds import film, make_score, parse_arguments, save_walk
from lebot_rl_ros.cli.provenance import describe_run
from lebot_rl_ros.envs.world import make_world
from lebot_rl_ros.learning.callbacks import BestModel, EarlyStop, Evaluation
from lebot_rl_ros.learning.curves import plot_learning_curve
from lebot_rl_ros.learning.method import Method, Metrics, State
from lebot_rl_ros.learning.method_files import FOLDER, describe, save_method
from lebot_rl_ros.learning.presets import SOLVED, preset
from lebot_rl_ros.learning.progress import log_tensorboard
from lebot_rl_ros.learning.registry import METHODS, find
from lebot_rl_ros.learning.run_checkpoint import Checkpoint, stored_segment
from lebot_rl_ros.learning.runner import Callback, Runner
from lebot_rl_ros.learning.settings import config_from, describe_fields, parse_settings
from lebot_rl_ros.learning.train import share_cores

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

VIDEOS = ('gif', 'mp4', 'none')
JUDGE, FRESH = 10_000, 20_000  # added to the seed: episodes of evaluations, and of the last word
SHARES = 10  # checkpoints of a training
EVALUATIONS = 20


def add_parser(kinds: 'Subparsers') -> None:
    """Declare one kind of training for each method, and its arguments."""
    for name, entry in METHODS.items():
        parser = kinds.add_parser(
            name,
            help=entry.about,
            description=f'Train by {entry.about} (learning/methods/{entry.module}.py). '
            '`--set help` shows what can be set.',
        )
        add = parser.add_argument
        add('--env', required=True, metavar='ID', help="one of Gymnasium's, or LeBotVelocity-v0")
        add('--env-set', action='append', default=[], metavar='KEY=VALUE', help='argument of it')
        add('--steps', type=float, help='of all environments (default: by the environment)')
        add('--envs', type=int, help='side by side (default: by method and environment)')
        add('--seed', type=int, default=0, help='(default: %(default)s)')
        add('--set', nargs='+', action='extend', default=[], metavar='KEY=VALUE', help='config')
        add('--out', type=Path, help='folder (default: runs/METHOD-ENV-SEED)')
        add('--eval-every', type=float, help=f'steps (default: a {EVALUATIONS}th of all)')
        add('--eval-episodes', type=int, default=10, help='(default: %(default)s)')
        add('--early-stop', type=float, metavar='TARGET', help='end once evaluated so well')
        add('--patience', type=int, metavar='N', help='end after N evaluations without a new best')
        add('--resume', action='store_true', help='go on from the checkpoint in --out')
        add('--video', choices=VIDEOS, default='gif', help='of the best (default: %(default)s)')
        add('--base', type=Path, metavar='FOLDER', help='start from a method or a walking policy')
        add('--lora', metavar='r=4,alpha=4', help='train an adapter on --base, which is frozen')
        add('--quiet', action='store_true', help='print nothing')


def run(args: argparse.Namespace) -> int:
    """Train, judge, write; returns the exit status.

    Raises:
        ValueError: the arguments do not fit together; the message says what would.
    """
    console, started = Console(quiet=args.quiet), time.monotonic()
    if args.set == ['help']:
        given = preset(args.what, args.env).config
        said = describe_fields(find(args.what)[1], given, args.env, separator='\n')
        console.print(said, highlight=False, markup=False, soft_wrap=True)
        return 0
    share_cores()
    training = _build(args)
    runner, out = training.runner, training.out
    rows = log_tensorboard(runner.run(), out / 'tensorboard', runner.steps)
    for _ in _show(rows, runner, f'{args.what} {args.env}', console):
        pass
    written = _finish(training, args, console)
    console.print(_table(training, f'{args.what} on {args.env}, seed {args.seed}'))
    if runner.stopped:
        console.print(f'stopped early: {runner.stopped}', highlight=False)
    seconds = time.monotonic() - started
    console.print(f'wrote {out}: {", ".join(written)}; {seconds:.0f} s', highlight=False)
    return 0


@dataclass
class _Training:
    """A training that is ready to run, and what its files say."""

    runner: Runner
    evaluation: Evaluation
    env: str
    env_kwargs: dict[str, Any]
    start: dict[str, Any]  # base and adapter
    out: Path
    scores: Metrics = field(default_factory=dict)

    def provenance(self) -> dict[str, Any]:
        """Command, seed, revision and effort."""
        start = {name: value for name, value in self.start.items() if name != 'lora'}
        said = describe_run(self.runner.method.seed, self.runner.seconds)
        return said | {'envs': self.runner.world.count, **start}

    def write(self, state: State | None) -> None:
        """Write the method's folder, with a state or with the one that it has."""
        best = {
            'best_return': self.evaluation.best,
            'best_steps': self.evaluation.best_steps,
        }
        manifest = describe(
            self.runner.method, self.env, self.evaluation.best_steps,
            scores=best | self.scores, training=self.provenance(), env_kwargs=self.env_kwargs,
            lora=self.start.get('lora', {}),
        )  # fmt: skip
        save_method(self.out / FOLDER, self.runner.method, manifest, state)


def _build(args: argparse.Namespace) -> _Training:
    name, env = args.what, args.env
    cls, config_cls = find(name)
    given = preset(name, env)
    config = config_from(config_cls, {**given.config, **parse_settings(config_cls, args.set)})
    kwargs = {**given.env, **parse_arguments(args.env_set)}
    steps = int(given.steps if args.steps is None else args.steps)
    envs = given.envs if args.envs is None else args.envs
    out = args.out or Path('runs') / re.sub('[:/]', '-', f'{name}-{env}-{args.seed}')
    world = make_world(env, envs, args.seed, stagger=given.stagger, **kwargs)
    if METHODS[name].needs == 'tasks':
        world.sample_tasks(1, np.random.default_rng(0))  # an error now, not in the middle
    method: Method[Any] = cls(config, world.observation_space, world.action_space, seed=args.seed)
    start = load_start(method, args.base, args.lora)
    score, _ = make_score(name, env, kwargs, envs, args.eval_episodes, args.seed + JUDGE)
    every = max(1, steps // EVALUATIONS) if args.eval_every is None else int(args.eval_every)
    evaluation = Evaluation(score, every)
    checkpoint = Checkpoint(out, env_kwargs=repr(kwargs), start=start)
    best = BestModel(evaluation, lambda _, state: training.write(state))
    callbacks: list[Callback] = [evaluation, best, checkpoint]
    if args.early_stop is not None or args.patience is not None:
        callbacks.append(EarlyStop(evaluation, args.early_stop, args.patience))
    segment = stored_segment(out) if args.resume else max(1, steps // SHARES)
    runner = Runner(method, world, steps, callbacks, segment=segment)
    training = _Training(runner, evaluation, env, kwargs, start, out)
    if args.resume:
        checkpoint.resume(runner)
    else:
        checkpoint.remove()  # of a training before: --resume would take it
    return training


def _finish(training: _Training, args: argparse.Namespace, console: Console) -> list[str]:
    """Judge the best model on new episodes and write everything; the names of what was written."""
    runner, evaluation, out = training.runner, training.evaluation, training.out
    method, env, kwargs = runner.method, training.env, training.env_kwargs
    if evaluation.best_state:
        method.load_state(evaluation.best_state)
    seed = args.seed + FRESH
    fresh, _ = make_score(method.name, env, kwargs, runner.world.count, args.eval_episodes, seed)
    training.scores['fresh_return'] = fresh(method)['eval_return']
    training.scores['final_return'] = evaluation.latest['eval_return']
    training.write(None)
    target = SOLVED.get(env) if args.early_stop is None else args.early_stop
    picture = out / 'learning_curve.png'
    plot_learning_curve(runner.history, picture, f'{method.name}, {env}', target=target)
    written = [f'{FOLDER}/', picture.name, 'tensorboard/']
    if save_walk(out / 'policy', method, env, kwargs, training.provenance()):
        written.append(f'policy/ (for `lebot walk --policy {out / "policy"}`)')
    if args.video != 'none':
        video = out / f'rollout.{args.video}'
        try:
            film(method, env, kwargs, video, seed=seed)
            written.append(video.name)
        except ValueError as error:  # what was learned is worth keeping without it
            console.print(str(error), style='yellow', highlight=False)
    return written


def _show(
    rows: Iterable[Metrics], runner: Runner, title: str, console: Console
) -> Iterator[Metrics]:
    """Pass rows on, with a bar."""
    columns = (
        TextColumn(f'[bold]{title}'), BarColumn(), TextColumn('{task.percentage:3.0f} %'),
        TextColumn('{task.fields[words]}'), TimeElapsedColumn(), TextColumn('left'),
        TimeRemainingColumn(elapsed_when_finished=False),
    )  # fmt: skip
    judged = ''
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task('train', total=runner.total, completed=runner.steps, words='')
        for row in rows:
            if 'eval_return' in row:
                judged = f', evaluated {row["eval_return"]:.1f}'
            words = f'return {row["episode_return"]:.1f}' if 'episode_return' in row else ''
            progress.update(bar, completed=row['steps'], words=words + judged)
            yield row


def _table(training: _Training, title: str) -> Table:
    runner, evaluation, scores = training.runner, training.evaluation, training.scores
    cells = {
        'best return': f'{evaluation.best:.1f}',
        'at step': f'{evaluation.best_steps:,}',
        'on new episodes': f'{scores["fresh_return"]:.1f}',
        'final return': f'{scores["final_return"]:.1f}',
        'steps': f'{runner.steps:,}',
        'seconds': f'{runner.seconds:.1f}',
    }
    table = Table(title=title)
    for name in cells:
        table.add_column(name, justify='right')
    table.add_row(*cells.values())
    return table
