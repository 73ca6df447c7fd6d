"""`lebot collect`: record what a policy does in simulation, as data for `lebot finetune`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from lebot_rl_ros.cli.policy_task import task_config, with_adapters
from lebot_rl_ros.data.transitions import save_transitions
from lebot_rl_ros.envs.recipes import load_recipe, recipe_names
from lebot_rl_ros.envs.velocity_task import VelocityTask
from lebot_rl_ros.learning.collect import collect
from lebot_rl_ros.robot import load_robot, share_path

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'collect',
        help='record simulated steps, to fine-tune from',
        description='Let a policy, with or without adapters, act in simulation and write every '
        'step to an .npz file, from which `lebot finetune` learns.',
    )
    parser.add_argument('file', type=Path, metavar='FILE.npz', help='to write')
    parser.add_argument(
        '--recipe',
        metavar='NAME',
        help=f'whose task is done: {", ".join(recipe_names())}, or the path of a .yaml file '
        "(default: the policy's own task)",
    )
    parser.add_argument('--policy', type=Path, help='who acts (default: policies/walk)')
    parser.add_argument(
        '--adapter',
        default='',
        metavar='TEXT',
        help='what it acts with: NAME[@VERSION][:WEIGHT] joined by +, or the path of a folder '
        '(default: the policy alone)',
    )
    parser.add_argument(
        '--store', default='', metavar='DIR', help='where adapters lie (default: your own)'
    )
    parser.add_argument(
        '--noise',
        type=float,
        metavar='STD',
        help='of the actions, in action units; 0 for none, and then no log_probs (default: the '
        "policy's own spread)",
    )
    parser.add_argument(
        '--steps', type=float, default=20_000, help='of all robots (default: %(default)s)'
    )
    parser.add_argument(
        '--robots', type=int, default=20, help='side by side (default: %(default)s)'
    )
    parser.add_argument(
        '--robot', default='lebot', help='name or YAML table (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='(default: %(default)s)')
    parser.add_argument('--quiet', action='store_true', help='print nothing')


def run(args: argparse.Namespace) -> int:
    """Record; returns the exit status.

    Raises:
        ValueError: the recipe, the policy, an adapter or a number does not fit.
    """
    if args.robots < 1:
        raise ValueError(f'--robots is {args.robots}, must be 1 or more')
    robot = load_robot(args.robot)
    folder = args.policy or share_path('policies', 'walk')
    runtime = with_adapters(folder, args.adapter, args.store)
    config = task_config(robot, runtime.manifest, folder)
    if args.recipe:
        config = load_recipe(args.recipe).task_for(config)
    noise = np.exp(runtime.log_std) if args.noise is None else args.noise
    task = VelocityTask(robot, args.robots, config)
    data = collect(task, runtime.act_many, int(args.steps), args.seed, noise)
    path = save_transitions(args.file, data)
    Console(quiet=args.quiet).print(
        f'wrote {path}: {len(data):,} steps in {len(data.segments())} trajectories, '
        f'{int(data.terminated.sum())} falls, reward {data.rewards.mean():.3f} a step, '
        f'{"without" if data.log_probs is None else "with"} log_probs, '
        f'{path.stat().st_size / 1000:.0f} kB',
        soft_wrap=True,
    )
    return 0
