"""`lebot train adapter NAME`: from the base policy and a recipe to a small adapter."""

import argparse
import hashlib
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lebot_rl_ros.cli.adapter_report import as_table, judge
from lebot_rl_ros.cli.policy_task import task_config
from lebot_rl_ros.cli.provenance import describe_training
from lebot_rl_ros.control.adapters import default_store
from lebot_rl_ros.envs.adapter_scores import SEEDS, Comparison, compare
from lebot_rl_ros.envs.recipes import SHARDS, Recipe, load_recipe, recipe_names
from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from lebot_rl_ros.learning.ppo import PPOConfig
from lebot_rl_ros.learning.progress import log_tensorboard, plot_learning_curve, show_progress
from lebot_rl_ros.learning.train import TrainConfig, Trainer, share_cores
from lebot_rl_ros.policy.adapters import AdapterManifest, LoraConfig
from lebot_rl_ros.policy.files import PolicyManifest, Tensors, load_policy, save_policy
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.policy.terms import check_name
from lebot_rl_ros.robot import Robot, load_robot, share_path

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

SEGMENT = 20  # iterations between checkpoints
CURVE = (6.0, 3.2)  # inches of the learning curve: it lies beside an adapter of a few kB


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare `adapter` and its arguments."""
    parser = subparsers.add_parser(
        'adapter',
        help='a LoRA adapter of the base policy, from a recipe',
        description='Train a LoRA adapter by PPO, compare it with the base and write a new '
        f'version. Recipes: {", ".join(recipe_names())}, or the path of a .yaml file.',
    )
    parser.add_argument('recipe', metavar='NAME', help='of the recipe, or its path')
    parser.add_argument('--seed', type=int, default=0, help='(default: %(default)s)')
    parser.add_argument('--steps', type=float, help="of all robots (default: the recipe's)")
    parser.add_argument(
        '--store', type=Path, help='where the new version goes (default: your own adapters)'
    )
    parser.add_argument(
        '--full',
        action='store_true',
        help='train all weights instead, and write a policy folder: for comparison',
    )
    parser.add_argument('--policy', type=Path, help='the base (default: policies/walk)')
    parser.add_argument(
        '--robot', default='lebot', help='name or YAML table (default: %(default)s)'
    )
    parser.add_argument('--work', type=Path, help='checkpoint (default: runs/NAME-SEED)')
    parser.add_argument(
        '--resume', action='store_true', help='go on from the checkpoint in --work'
    )
    parser.add_argument('--no-evaluation', action='store_true', help='leave it unjudged')
    parser.add_argument('--quiet', action='store_true', help='print nothing')


def run(args: argparse.Namespace) -> int:
    """Train, compare, write; returns the exit status.

    Raises:
        ValueError: the recipe, the base or the checkpoint does not fit.
    """
    share_cores()
    recipe, robot = load_recipe(args.recipe), load_robot(args.robot)
    check_name(recipe.name)  # before the work, not after it
    folder = args.policy or share_path('policies', 'walk')
    base, manifest = load_policy(folder)
    own = task_config(robot, manifest, folder)
    kind = 'full-' if args.full else ''
    work = args.work or Path('runs') / f'{kind}{recipe.name}-{args.seed}'
    steps = int(args.steps or recipe.training.steps)
    trainer = build_trainer(
        recipe, robot, own, base, manifest, seed=args.seed, steps=steps, full=args.full
    )
    if args.resume:
        load_checkpoint(trainer, work)
    console, started = Console(quiet=args.quiet), time.monotonic()
    start = trainer.iteration

    def keep() -> None:
        save_checkpoint(trainer, work)

    metrics = trainer.run(at_segment=keep)
    metrics = log_tensorboard(metrics, work / 'tensorboard', start * trainer.samples)
    for _ in show_progress(metrics, start, trainer.iterations, console):
        pass
    training = describe_training(trainer, time.monotonic() - started) | {
        'recipe': recipe.name,
        'recipe_sha256': hashlib.sha256(recipe.text.encode()).hexdigest(),
        'recipe_text': recipe.text,
        'settings': asdict(recipe.training) | {'segment': SEGMENT},
        'learning_rate': trainer.config.ppo.learning_rate,
    }
    comparison = None
    if not args.no_evaluation:
        console.print(f'comparing with the base: {len(SEEDS)} seeds ...')
        merged = PolicyRuntime(trainer.network.tensors(), manifest)
        before = PolicyRuntime(base, manifest)
        comparison = compare(
            robot, before.act_many, merged.act_many,
            recipe.task_for(own), recipe.judging, SEEDS,
        )  # fmt: skip
        name = f'{recipe.name}, all weights' if args.full else f'with {recipe.name}'
        console.print(as_table(comparison, name))
    if args.full:
        place = _save_full(trainer, manifest, work, training, comparison)
    else:
        store = default_store() if args.store is None else AdapterStore(args.store)
        place = _save_adapter(trainer, manifest, store, recipe.name, training, comparison)
    plot_learning_curve(trainer.history, place / 'learning_curve.png', inches=CURVE)
    console.print(f'wrote {place}, {time.monotonic() - started:.0f} s')
    return 0


def build_trainer(
    recipe: Recipe,
    robot: Robot,
    own: VelocityConfig,
    base: Tensors,
    manifest: PolicyManifest,
    *,
    seed: int,
    steps: int,
    full: bool = False,
) -> Trainer:
    """Make the trainer of a recipe.

    Args:
        recipe: what to learn.
        robot: who learns.
        own: the base's own task, rehearsed by a share of the robots.
        base: weights to start from.
        manifest: of the base.
        seed: of everything random.
        steps: of all robots together.
        full: train all weights, not an adapter.
    """
    training, task = recipe.training, recipe.task_for(own)
    rehearsing = round(training.rehearsal * SHARDS)
    tasks = [own] * rehearsing + [task] * (SHARDS - rehearsing)
    rate = training.full_learning_rate if full else training.learning_rate
    config = TrainConfig(
        steps=steps,
        segment=SEGMENT,
        seed=seed,
        activation=manifest.network['activation'],
        lora=None if full else LoraConfig(**asdict(recipe.lora)),
        start_std=training.start_std,
        critic_warmup=training.critic_warmup,
        ppo=PPOConfig(
            learning_rate=rate,
            # The rate is fixed: one that adapts to the KL settles where the few numbers of an
            # adapter do a random walk, and learns a third as much.
            desired_kl=None,
            entropy_coefficient=training.entropy_coefficient,
        ),
    )
    return Trainer(
        [VelocityTask(robot, training.robots // SHARDS, entry) for entry in tasks], config, base
    )


def _save_adapter(
    trainer: Trainer,
    base: PolicyManifest,
    store: AdapterStore,
    name: str,
    training: dict[str, Any],
    comparison: Comparison | None,
) -> Path:
    lora = trainer.config.lora
    assert lora is not None
    share = trainer.share
    verdict, reason = ('candidate', 'not compared with the base')
    if comparison is not None:
        verdict, reason = judge(comparison, training['recipe'])
    adapter = store.add(
        name,
        lora,
        trainer.adapter_tensors(),
        AdapterManifest(
            name=name, version=1, base_sha256=base.sha256, robot=base.robot,
            joint_names=base.joint_names, training=training,
            data={'source': 'simulation', 'steps': training['steps']},
            scores=(comparison.as_data() if comparison else {})
            | {'numbers': share.numbers, 'share_of_actor': share.of_actor},
            verdict=verdict, reason=reason,
        ),
    )  # fmt: skip
    return store.folder(name, adapter.manifest.version)


def _save_full(
    trainer: Trainer,
    base: PolicyManifest,
    work: Path,
    training: dict[str, Any],
    comparison: Comparison | None,
) -> Path:
    place = work / 'policy'
    tensors = trainer.network.tensors()
    scores = comparison.as_data() if comparison else {}
    save_policy(place, tensors, replace(base, training=training, scores=scores))
    return place
