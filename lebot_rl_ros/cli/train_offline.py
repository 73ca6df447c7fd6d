"""`lebot train offline`: from bags to a version of an adapter, or to a policy from nothing."""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lebot_rl_ros.cli import prefer_methods
from lebot_rl_ros.cli.provenance import describe_run
from lebot_rl_ros.cli.train_offline_data import Source, as_table, read_bags, read_set
from lebot_rl_ros.cli.train_offline_report import draw, show
from lebot_rl_ros.control.adapters import default_store
from lebot_rl_ros.learning.method import Metrics
from lebot_rl_ros.learning.offline.contract import OfflineData, OfflineMethod
from lebot_rl_ros.learning.offline.registry import METHODS, find, make_method
from lebot_rl_ros.learning.offline.run import judge_offline, split, train_offline
from lebot_rl_ros.learning.online.trained import KINDS, Trained, TrainedConfig
from lebot_rl_ros.learning.settings import config_from, describe_fields, parse_settings
from lebot_rl_ros.learning.train import share_cores
from lebot_rl_ros.policy.adapters import Adapter, AdapterManifest
from lebot_rl_ros.policy.files import PolicyManifest, Tensors, load_policy, save_policy
from lebot_rl_ros.policy.terms import check_name
from lebot_rl_ros.robot import load_robot, share_path

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

PICTURE = 'learning_curve.png'
EPILOG = 'Methods: ' + '; '.join(f'{name}: {entry.about}' for name, entry in METHODS.items())


def add_parser(kinds: 'Subparsers') -> None:
    """Declare `offline` and its arguments."""
    parser = kinds.add_parser(
        'offline',
        help='an adapter from recorded bags',
        description='Train an adapter of the base from recorded bags, ask the gate, and write it '
        'as a new version. Status 1 if the gate refuses; then nothing is written.',
        epilog=f'{EPILOG}. `--set help` shows what can be set.',
    )
    add = parser.add_argument
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument('--bags', nargs='+', type=Path, metavar='BAG', help='to learn from')
    data.add_argument(
        '--dataset', metavar='NAME[@V]', help='or the training split of a data set of bags'
    )
    add('--method', choices=list(METHODS), default='awac', help='(default: %(default)s)')
    add('--adapter', metavar='NAME', help='of what is trained (default: recover)')
    add('--policy', type=Path, help='the base (default: policies/walk)')
    add('--robot', default='lebot', help='name or YAML table (default: %(default)s)')
    add('--store', default='', metavar='DIR', help='where adapters lie (default: your own)')
    add('--start', metavar='NAME@V', help='version to go on from (default: the base)')
    add(
        '--what', dest='kind', choices=KINDS[:-1], default='lora',
        help='is trained (default: %(default)s)',
    )  # fmt: skip
    add('--rank', type=int, default=4, metavar='R', help='of lora (default: %(default)s)')
    add('--steps', type=float, help='gradient steps (default: by the method)')
    add('--seed', type=int, default=0, help='(default: %(default)s)')
    add('--set', nargs='+', action='extend', default=[], metavar='KEY=VALUE', help='of the method')
    add(
        '--holdout', type=float, default=0.1, metavar='SHARE',
        help='at the end of each bag, that is not learned from: the gate asks it for evidence '
        '(default: %(default)s)',
    )  # fmt: skip
    add(
        '--skip', type=float, default=0.0, metavar='SECONDS',
        help='at the beginning of each bag, as before a fault came (default: %(default)s)',
    )  # fmt: skip
    add('--namespace', default='', help='of the robot, where a bag has several')
    add('--no-cache', action='store_true', help='read the bags anew')
    add(
        '--from-scratch', type=Path, metavar='FOLDER',
        help='with bc: clone a whole policy, normaliser and all, and write it there',
    )  # fmt: skip
    prefer_methods.add_arguments(parser)
    add('--dry-run', action='store_true', help='show what would be learned from, and end')
    add('--quiet', action='store_true', help='print nothing')


def run(args: argparse.Namespace) -> int:
    """Read, learn, judge, write; returns the exit status.

    Raises:
        ValueError: a bag, the base, the version to start from or a setting does not fit.
    """
    console = Console(quiet=args.quiet)
    config_class = find(args.method)[1]
    if args.set == ['help']:
        said = describe_fields(config_class, separator='\n')
        console.print(said, highlight=False, markup=False, soft_wrap=True)
        return 0
    name = args.adapter or 'recover'
    check_name(name)
    _check_scratch(args)
    settings = parse_settings(config_class, args.set)
    config_from(config_class, settings)
    steps = METHODS[args.method].steps if args.steps is None else int(args.steps)
    if steps < 1:
        raise ValueError(f'--steps is {args.steps:g}, must be 1 or more')
    share_cores()
    base, manifest = load_policy(args.policy or share_path('policies', 'walk'))
    data, sources = _read(args, manifest, console)
    console.print(as_table(sources, data))
    if args.dry_run:
        return 0
    job = _Job(args, name, base, manifest, data, sources, settings, steps, console)
    return job.clone() if args.from_scratch else job.adapt()


def _read(
    args: argparse.Namespace, manifest: PolicyManifest, console: Console
) -> tuple[OfflineData, list[Source]]:
    """Bags or a data set."""
    with console.status('reading the bags') as status:
        if args.dataset:
            return read_set(args.dataset, manifest, skip=args.skip, cache=not args.no_cache)
        return read_bags(
            args.bags, manifest, load_robot(args.robot),
            namespace=args.namespace, skip=args.skip, cache=not args.no_cache,
            progress=lambda done, total, path: status.update(
                f'read {done} of {total} bags: {path.name}'
            ),
        )  # fmt: skip


def _check_scratch(args: argparse.Namespace) -> None:
    if not args.from_scratch:
        return
    if args.method != 'bc':
        raise ValueError(f'--from-scratch clones a policy: give --method bc, not {args.method}')
    given = [f'--{word}' for word in ('start', 'adapter') if getattr(args, word)]
    if given:
        raise ValueError(f'--from-scratch writes a policy, no adapter: leave out {given[0]}')


@dataclass
class _Job:
    """A training that is ready to run."""

    args: argparse.Namespace
    name: str
    base: Tensors
    manifest: PolicyManifest
    data: OfflineData
    sources: list[Source]
    settings: dict[str, Any]
    steps: int
    console: Console

    def adapt(self) -> int:
        """Train an adapter and write it if the gate lets it pass."""
        args, manifest, started = self.args, self.manifest, time.monotonic()
        store, start = default_store(args.store), None
        trained = Trained(
            self.base, manifest, TrainedConfig(kind=args.kind, r=args.rank), args.seed
        )
        if args.start:
            start = store.get(*store.resolve(args.start))
            start.check(manifest)
            if start.config != trained.lora:
                raise ValueError(
                    f'--start {start.manifest.label} is {start.config}, but what is trained is '
                    f'{trained.lora}; give its --what and --rank'
                )
            trained.load(start.tensors)
        learned, kept = split(self.data, args.holdout)
        method = make_method(args.method, trained, self.base, self.settings, args.seed)
        given = prefer_methods.equip(
            method, args, self.data, [one.path for one in self.sources],
            [one.sha256 for one in self.sources], manifest,
        )  # fmt: skip
        history = self._learn(method, learned)
        lora, tensors = trained.export()
        about = AdapterManifest(
            name=self.name, version=1, base_sha256=manifest.sha256, robot=manifest.robot,
            joint_names=manifest.joint_names, parent='' if start is None else start.manifest.label,
            training=self._training(method, time.monotonic() - started)
            | {'trained': asdict(trained.config), 'holdout': args.holdout},
            data=self._origin(learned) | given,
        )  # fmt: skip
        verdict, adapter = judge_offline(
            Adapter(lora, tensors, about), self.base, manifest, kept, start,
            evidence=METHODS[args.method].evidence,
        )  # fmt: skip
        if verdict.verdict == 'rejected':
            self.console.print(
                f'the gate refuses it ({verdict.stage}): {verdict.reason}; nothing was written',
                style='red', highlight=False,
            )  # fmt: skip
            return 1
        written = store.add(
            self.name, adapter.config, adapter.tensors,
            replace(
                adapter.manifest,
                scores={**history[-1], 'share_of_step': verdict.scale, 'gate': verdict.measures},
                reason=f'the gate lets it act on probation: {verdict.reason}',
            ),
        )  # fmt: skip
        place = store.folder(self.name, written.manifest.version)
        draw(history, place / PICTURE, f'{written.manifest.label}: {args.method}')
        self.console.print(
            f'wrote {written.manifest.label} to {place}: {written.count:,} numbers, '
            f'{time.monotonic() - started:.0f} s; the gate: {verdict.reason}',
            highlight=False,
        )
        return 0

    def clone(self) -> int:
        """Clone a whole policy from nothing and write its folder."""
        from lebot_rl_ros.learning.offline.scratch import FromScratch  # late: few need it

        args, started = self.args, time.monotonic()
        config = config_from(find('bc')[1], self.settings)
        method = FromScratch(self.data, self.manifest, config, args.seed)
        history = self._learn(method, self.data)
        training = self._training(method, time.monotonic() - started) | self._origin(self.data)
        about = replace(self.manifest, sha256='', training=training, scores=history[-1])
        about = save_policy(args.from_scratch, method.tensors(), about)
        draw(history, args.from_scratch / PICTURE, 'cloned from nothing')
        self.console.print(
            f'wrote {args.from_scratch}, sha256 {about.sha256[:12]}, '
            f'{time.monotonic() - started:.0f} s; `lebot evaluate --policy {args.from_scratch}`',
            highlight=False,
        )
        return 0

    def _learn(self, method: OfflineMethod, data: OfflineData) -> list[Metrics]:
        rows = train_offline(method, data, self.steps)
        return list(show(rows, self.steps, self.args.method, self.console))

    def _training(self, method: OfflineMethod, seconds: float) -> dict[str, Any]:
        return describe_run(self.args.seed, seconds) | {
            'method': f'offline {self.args.method}',
            'settings': asdict(method.config),
            'steps': self.steps,
        }

    def _origin(self, learned: OfflineData) -> dict[str, Any]:
        return {
            'source': 'bags',
            'bags': [one.as_data() for one in self.sources],
            'skipped_seconds': self.args.skip,
            'steps': len(learned),
            'trajectories': len(learned.trajectories),
        }
