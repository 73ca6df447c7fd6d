"""`lebot train`: the base, from nothing to a walking policy; the rest is in modules beside."""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from lebot_rl_ros.cli import train_adapter, train_method, train_offline
from lebot_rl_ros.cli.evaluate import as_data, as_table
from lebot_rl_ros.cli.provenance import describe_training
from lebot_rl_ros.envs.evaluation import evaluate
from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from lebot_rl_ros.learning.progress import log_tensorboard, plot_learning_curve, show_progress
from lebot_rl_ros.learning.train import TrainConfig, Trainer, share_cores
from lebot_rl_ros.policy.files import PolicyManifest, save_policy
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.robot import Robot, load_robot, share_path
from lebot_rl_ros.robot.servos import with_servos

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DEFAULT = TrainConfig()
PUSH = 0.35  # m/s; harder than what is judged, so that falls are rare there
SHARDS = 2  # part of what is learned, so not the number of cores


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser('train', help='train a policy in simulation')
    kinds = parser.add_subparsers(dest='what', required=True)
    train_adapter.add_parser(kinds)
    train_offline.add_parser(kinds)
    train_method.add_parser(kinds)
    base = kinds.add_parser(
        'base',
        help='the walking policy, from nothing',
        description='Train the walking policy by PPO.',
    )
    base.add_argument('--out', type=Path, help='folder of the policy (default: policies/walk)')
    base.add_argument(
        '--work', type=Path, help='checkpoint and TensorBoard (default: runs/base-SEED)'
    )
    base.add_argument('--robot', default='lebot', help='name or YAML table (default: %(default)s)')
    base.add_argument(
        '--servos', default='', metavar='FILE', help='of the robot, a file of lebot identify'
    )
    base.add_argument('--seed', type=int, default=DEFAULT.seed, help='(default: %(default)s)')
    base.add_argument(
        '--steps', type=float, default=DEFAULT.steps, help='of all robots (default: %(default)s)'
    )
    base.add_argument(
        '--robots', type=int, default=256, help='side by side (default: %(default)s)'
    )
    base.add_argument('--resume', action='store_true', help='go on from the checkpoint in --work')
    base.add_argument('--no-evaluation', action='store_true', help='leave the scores empty')
    base.add_argument('--quiet', action='store_true', help='print nothing')


def run(args: argparse.Namespace) -> int:
    """Train and write the policy; returns the exit status.

    Raises:
        ValueError: the arguments do not fit together, or the checkpoint is another training's.
    """
    if args.what == 'adapter':
        return train_adapter.run(args)
    if args.what == 'offline':
        return train_offline.run(args)
    if args.what != 'base':
        return train_method.run(args)
    if args.robots < SHARDS or args.robots % SHARDS:
        raise ValueError(f'--robots is {args.robots}, must be a multiple of {SHARDS}')
    share_cores()
    robot = with_servos(load_robot(args.robot), args.servos)
    out = args.out or share_path('policies') / 'walk'
    work = args.work or Path('runs') / f'base-{args.seed}'
    task = VelocityConfig()
    harder = replace(task, randomisation=replace(task.randomisation, push_velocity=PUSH))
    trainer = Trainer(
        [VelocityTask(robot, args.robots // SHARDS, harder) for _ in range(SHARDS)],
        TrainConfig(steps=int(args.steps), seed=args.seed),
    )
    if args.resume:
        load_checkpoint(trainer, work)
    console = Console(quiet=args.quiet)
    started = time.monotonic()
    start = trainer.iteration
    metrics = trainer.run(at_segment=lambda: _checkpoint(trainer, work))
    metrics = log_tensorboard(metrics, work / 'tensorboard', start * trainer.samples)
    for _ in show_progress(metrics, start, trainer.iterations, console):
        pass
    manifest = _manifest(robot, task, trainer, time.monotonic() - started)
    manifest = save_policy(out, trainer.network.tensors(), manifest)
    if not args.no_evaluation:
        runtime = PolicyRuntime(trainer.network.tensors(), manifest)
        scores = evaluate(robot, runtime.act_many, task)
        manifest.scores.update(as_data(scores, 32, 20.0, 1000))  # type: ignore[attr-defined]
        save_policy(out, trainer.network.tensors(), manifest)
        console.print(as_table(scores, f'{out}: 32 robots x 20 s a command'))
    plot_learning_curve(trainer.history, out / 'learning_curve.png')
    console.print(
        f'wrote {out}, sha256 {manifest.sha256[:12]}, {time.monotonic() - started:.0f} s'
    )
    return 0


def _checkpoint(trainer: Trainer, work: Path) -> None:
    save_checkpoint(trainer, work)
    plot_learning_curve(trainer.history, work / 'learning_curve.png')


def _manifest(
    robot: Robot, task: VelocityConfig, trainer: Trainer, seconds: float
) -> PolicyManifest:
    first = trainer.tasks[0]
    assert isinstance(first, VelocityTask)
    return PolicyManifest(
        robot=robot.name,
        joint_names=robot.joint_names,
        default_pose=tuple(robot.stand.tolist()),
        action_scale=task.action_space.scale,
        control_rate=robot.control_rate,
        gait=asdict(task.gait),
        observation=asdict(first.layout),
        network={'hidden': list(trainer.config.hidden), 'activation': trainer.config.activation},
        training=describe_training(trainer, seconds),
    )
