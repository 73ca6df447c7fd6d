"""`lebot play FOLDER`: watch what `lebot train METHOD` has learned, and measure it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lebot_rl_ros.cli.method_worlds import film, make_score, parse_arguments
from lebot_rl_ros.learning.method_files import read_method
from lebot_rl_ros.learning.train import share_cores

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

SEED = 1000  # far from those of trainings


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'play',
        help='watch what a method has learned',
        description='Let a trained method act without exploring, and tell the returns.',
    )
    add = parser.add_argument
    add('folder', type=Path, help='as `lebot train METHOD` wrote it')
    add('--episodes', type=int, default=5, help='(default: %(default)s)')
    add('--seed', type=int, default=SEED, help='of the episodes (default: %(default)s)')
    add('--env', metavar='ID', help='another environment than that of the training')
    add('--env-set', action='append', default=[], metavar='KEY=VALUE', help='of the environment')
    add('--video', type=Path, metavar='FILE', help='.gif or .mp4 of the first episodes')


def run(args: argparse.Namespace) -> int:
    """Play, and print the returns; returns the exit status.

    Raises:
        ValueError: the folder, the environment or the file does not fit.
    """
    share_cores()
    method, manifest = read_method(args.folder)
    env = args.env or manifest.env
    same = dict(manifest.env_kwargs) if env == manifest.env else {}
    kwargs: dict[str, Any] = {**same, **parse_arguments(args.env_set)}
    envs = int(manifest.training.get('envs', 1))
    score, world = make_score(manifest.method, env, kwargs, envs, args.episodes, args.seed)
    spaces = ('observation_space', 'action_space')
    for name in spaces:
        ours, theirs = getattr(method, name), getattr(world, name)
        if type(ours) is not type(theirs) or repr(ours) != repr(theirs):
            raise ValueError(
                f'{args.folder}: its {name.replace("_", " ")} is {ours}, that of {env} is {theirs}'
            )
    scores = score(method)
    table = Table(title=f'{manifest.method} on {env}: {args.episodes} episodes, seed {args.seed}')
    table.add_column('number')
    table.add_column('value', justify='right')
    for name, value in scores.items():
        table.add_row(name.removeprefix('eval_').replace('_', ' '), f'{value:.2f}')
    table.add_row(
        'best of the training', f'{manifest.scores.get("best_return", float("nan")):.2f}'
    )
    console = Console()
    console.print(table)
    if args.video is not None:
        film(method, env, kwargs, args.video, episodes=args.episodes, seed=args.seed)
        console.print(f'wrote {args.video}', highlight=False)
    return 0
