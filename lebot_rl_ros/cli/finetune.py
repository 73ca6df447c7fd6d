"""`lebot finetune NAME`: a new version of an adapter, from recorded steps."""

import argparse
import hashlib
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from lebot_rl_ros.cli.provenance import describe_run
from lebot_rl_ros.control.adapters import default_store
from lebot_rl_ros.data.transitions import load_transitions
from lebot_rl_ros.learning.finetune import METHODS, FinetuneConfig, FinetuneResult, finetune
from lebot_rl_ros.learning.train import share_cores
from lebot_rl_ros.policy.adapter_files import MODEL
from lebot_rl_ros.policy.adapters import BIASES, Adapter, AdapterManifest
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.terms import check_name
from lebot_rl_ros.robot import share_path

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DEFAULT = FinetuneConfig()
SETTINGS = {  # options that are fields of the config, with their help
    'epochs': 'at most',
    'minibatch': 'steps of the recording for each gradient step',
    'learning_rate': 'at the start; it falls to a tenth',
    'validation': 'share of the trajectories that is kept for judging',
    'temperature': 'supervised: weigh steps by advantage; small trusts the best alone, 0 weighs '
    'all alike',
    'kl_cap': 'policy_gradient: nats from the start at which it stops',
    'start_std': "policy_gradient: the noise of the recording, where it was not the policy's own",
    'seed': '',
}
LAYERS = {  # options that are fields of the LoRA config
    'rank': 'r', 'alpha': 'lora_alpha', 'bias': 'bias', 'layers': 'target_modules',
}  # fmt: skip
ROWS = {  # of the report
    'validation_loss': 'loss on validation data',
    'action_rmse': 'error of the mean action, action units',
    'kl': 'KL from the start, nats',
    'action_change': 'change of the mean action, action units',
}


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'finetune',
        help='train an adapter from recorded steps',
        description='Train a LoRA adapter of the base from recorded steps and write it as a new '
        'version. Status 1 if nothing was learned; then nothing is written.',
    )
    parser.add_argument('name', metavar='NAME', help='of the adapter')
    parser.add_argument(
        '--data', type=Path, required=True, metavar='FILE.npz', help='as `lebot collect` writes it'
    )
    parser.add_argument(
        '--method',
        choices=METHODS,
        default=DEFAULT.method,
        help='imitate the actions, or learn from what they earned (default: %(default)s)',
    )
    parser.add_argument('--policy', type=Path, help='the base (default: policies/walk)')
    parser.add_argument(
        '--store', default='', metavar='DIR', help='where adapters lie (default: your own)'
    )
    parser.add_argument(
        '--start', metavar='NAME@V', help='version to go on from (default: a new adapter)'
    )
    lora = DEFAULT.lora
    assert lora is not None
    parser.add_argument('--rank', type=int, metavar='R', help=f'(default: {lora.r})')
    parser.add_argument(
        '--alpha',
        type=float,
        metavar='A',
        help=f'the scale is A / R (default: {lora.lora_alpha:g})',
    )
    parser.add_argument('--bias', choices=BIASES, help=f'(default: {lora.bias})')
    parser.add_argument(
        '--layers',
        nargs='+',
        metavar='LAYER',
        help=f'(default: {" ".join(lora.target_modules)})',
    )
    for name, about in SETTINGS.items():
        default = getattr(DEFAULT, name)
        parser.add_argument(
            f'--{name.replace("_", "-")}',
            type=int if isinstance(default, int) else float,
            default=default,
            metavar='N',
            help=f'{about} (default: %(default)s)' if default is not None else about,
        )
    parser.add_argument('--quiet', action='store_true', help='print nothing')


def run(args: argparse.Namespace) -> int:
    """Learn and write; returns the exit status.

    Raises:
        ValueError: the data, the base, the version to start from or a number does not fit.
    """
    check_name(args.name)
    share_cores()
    console, started = Console(quiet=args.quiet), time.monotonic()
    base, manifest = load_policy(args.policy or share_path('policies', 'walk'))
    store, start = default_store(args.store), None
    given = {field: getattr(args, word) for word, field in LAYERS.items()}
    given = {field: value for field, value in given.items() if value is not None}
    if args.start:
        if given:
            raise ValueError(
                f'--start {args.start} brings its own layers and rank; leave out '
                f'{", ".join(f"--{word}" for word, field in LAYERS.items() if field in given)}'
            )
        start = store.get(*store.resolve(args.start))
        start.check(manifest)
    if 'target_modules' in given:
        given['target_modules'] = tuple(given['target_modules'])
    assert DEFAULT.lora is not None
    config = FinetuneConfig(
        method=args.method,
        lora=replace(DEFAULT.lora, **given) if start is None else start.config,
        **{name: getattr(args, name) for name in SETTINGS},
    )
    data = load_transitions(args.data)
    data.check(manifest.observation_size, len(manifest.joint_names), args.data)
    with console.status('learning') as status:
        result = finetune(
            base, manifest, data, config,
            lambda row: status.update(
                f'epoch {row["epoch"]:.0f}, loss {row["validation_loss"]:.4g}'
            ),
            start=None if start is None else start.tensors,
        )  # fmt: skip
    console.print(_table(result, f'{args.method}, {args.data.name}: {len(data):,} steps'))
    if not result.epoch:
        console.print(
            f'nothing was better than the start ({result.stopped}), so nothing was written'
        )
        return 1
    assert result.adapter is not None
    assert config.lora is not None
    adapter = store.add(
        args.name,
        config.lora,
        result.adapter,
        AdapterManifest(
            name=args.name, version=1, base_sha256=manifest.sha256, robot=manifest.robot,
            joint_names=manifest.joint_names, parent='' if start is None else start.manifest.label,
            training=describe_run(config.seed, time.monotonic() - started)
            | {'method': config.method, 'config': asdict(config)},
            data={
                'source': 'recorded steps', 'file': args.data.name,
                'sha256': hashlib.sha256(args.data.read_bytes()).hexdigest(),
                'steps': len(data), 'trajectories': len(data.segments()),
            },
            scores={
                'before': result.before, 'after': result.after, 'epoch': result.epoch,
                'stopped': result.stopped,
            },
            reason='not compared with the base',
        ),
    )  # fmt: skip
    console.print(_summary(result, adapter, store.folder(args.name, adapter.manifest.version)))
    return 0


def _table(result: FinetuneResult, title: str) -> Table:
    learned, judged = result.trajectories
    judging = f'judged by {judged}' if judged else 'judged by the same'
    table = Table(
        title=title,
        caption=f'{learned} trajectories learned from, {judging}; epoch {result.epoch} kept, '
        f'stopped: {result.stopped}',
    )
    for column in ('', 'before', 'after'):
        table.add_column(column, justify='right' if column else 'left')
    for name, label in ROWS.items():
        table.add_row(label, f'{result.before[name]:.4g}', f'{result.after[name]:.4g}')
    return table


def _summary(result: FinetuneResult, adapter: Adapter, folder: Path) -> str:
    share = result.share
    assert share is not None
    return (
        f'wrote {adapter.manifest.label} to {folder}: {share.numbers:,} numbers, '
        f"{share.of_actor:.1%} of the base's actor, "
        f'{(folder / MODEL).stat().st_size / 1000:.1f} kB'
    )
