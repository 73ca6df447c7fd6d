"""`lebot evaluate`: how well a policy follows its commands, by the simulator's ground truth."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lebot_rl_ros.cli import evaluate_adapter
from lebot_rl_ros.cli.policy_task import task_config, with_adapters
from lebot_rl_ros.envs.evaluation import CommandScore, evaluate, summary
from lebot_rl_ros.robot import load_robot, share_path

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

FORWARD_ERROR = 0.06  # m/s that a good policy stays within
YAW_RATE_ERROR = 0.2  # rad/s


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'evaluate',
        help='measure how well a policy follows its commands',
        description='Let randomised robots follow commands. Status 0 if none fell, straight '
        f'commands were followed within {FORWARD_ERROR} m/s and yaw rates within '
        f'{YAW_RATE_ERROR} rad/s; else 1.',
    )
    parser.add_argument(
        '--policy', type=Path, help='folder of the policy (default: policies/walk)'
    )
    parser.add_argument(
        '--robot', default='lebot', help='name or YAML table (default: %(default)s)'
    )
    parser.add_argument(
        '--robots', type=int, default=32, help='for each command (default: %(default)s)'
    )
    parser.add_argument(
        '--seconds', type=float, default=20.0, help='of each (default: %(default)s)'
    )
    parser.add_argument(
        '--seed', type=int, default=1000, help='of robots and noise (default: %(default)s)'
    )
    parser.add_argument(
        '--adapter',
        metavar='TEXT',
        help='with adapters: NAME[@VERSION][:WEIGHT] joined by +, or the path of one',
    )
    parser.add_argument(
        '--recipe',
        metavar='NAME',
        help="compare base and --adapter on a recipe's task, over 10 seeds; status 0 if the "
        'adapter takes away a fifth of the error',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the scores as data')
    parser.add_argument('--quiet', action='store_true', help='print nothing')


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns the exit status.

    Raises:
        PolicyError: the policy or an adapter is damaged or was made for something else.
    """
    robot = load_robot(args.robot)
    folder = args.policy or share_path('policies', 'walk')
    if args.recipe:
        return evaluate_adapter.run(args, robot, folder)
    runtime = with_adapters(folder, args.adapter or '')
    scores = evaluate(
        robot,
        runtime.act_many,
        task_config(robot, runtime.manifest, folder),
        robots=args.robots,
        seconds=args.seconds,
        seed=args.seed,
    )
    totals = summary(scores)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(
            json.dumps(as_data(scores, args.robots, args.seconds, args.seed), indent=2) + '\n'
        )
    if not args.quiet:
        Console().print(
            as_table(scores, f'{folder}: {args.robots} robots x {args.seconds:g} s a command')
        )
    good = (
        totals['falls'] == 0
        and totals['straight_forward_error_mps'] <= FORWARD_ERROR
        and totals['yaw_rate_error_rps'] <= YAW_RATE_ERROR
    )
    return 0 if good else 1


def as_data(
    scores: Sequence[CommandScore], robots: int, seconds: float, seed: int
) -> dict[str, Any]:
    """Scores as JSON has them."""
    return {
        'robots': robots,
        'seconds': seconds,
        'seed': seed,
        **summary(scores),
        'commands': [asdict(score) for score in scores],
    }


def as_table(scores: Sequence[CommandScore], title: str) -> Table:
    """Scores for people."""
    table = Table(title=title, caption='means over the robots, by ground truth; SI units')
    for column in (
        'forward',
        'is',
        'error',
        'yaw rate',
        'is ',
        'error ',
        'sideways',
        'tilt',
        'falls',
    ):
        table.add_column(column, justify='right')
    for s in scores:
        table.add_row(
            f'{s.forward:.1f}', f'{s.forward_mean:.3f}', _judged(s.forward_error, FORWARD_ERROR),
            f'{s.yaw_rate:+.1f}', f'{s.yaw_rate_mean:+.3f}',
            _judged(s.yaw_rate_error, YAW_RATE_ERROR),
            f'{s.lateral_speed:.3f}', f'{s.tilt:.3f}', _judged(s.falls, 0, ''),
        )  # fmt: skip
    return table


def _judged(value: float, limit: float, form: str = '.3f') -> str:
    return f'[{"green" if value <= limit else "red"}]{value:{form}}'
