"""`lebot evaluate --adapter TEXT --recipe NAME`: before and after on a recipe's task."""

import argparse
import json
from pathlib import Path

from rich.console import Console

from lebot_rl_ros.cli.adapter_report import as_table, judge
from lebot_rl_ros.cli.policy_task import task_config, with_adapters
from lebot_rl_ros.envs.adapter_scores import SEEDS, compare
from lebot_rl_ros.envs.recipes import load_recipe
from lebot_rl_ros.robot import Robot


def run(args: argparse.Namespace, robot: Robot, folder: Path) -> int:
    """Compare and print; returns the exit status.

    Raises:
        ValueError: no adapter is named, or it or the recipe cannot be used.
    """
    if not args.adapter:
        raise ValueError('--recipe compares the base with an adapter; name one with --adapter')
    recipe = load_recipe(args.recipe)
    base = with_adapters(folder, '')
    adapted = with_adapters(folder, args.adapter)
    own = task_config(robot, base.manifest, folder)
    comparison = compare(
        robot, base.act_many, adapted.act_many, recipe.task_for(own), recipe.judging, SEEDS
    )
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(comparison.as_data(), indent=2) + '\n')
    if not args.quiet:
        Console().print(as_table(comparison, f'with {args.adapter}'))
    return 0 if judge(comparison, recipe.name)[0] == 'accepted' else 1
