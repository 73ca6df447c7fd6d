"""`lebot adapters`: list, show, compare, mix, move and prune what lies in the store."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lebot_rl_ros.cli import adapter_tables as tables
from lebot_rl_ros.control.adapters import default_store
from lebot_rl_ros.policy.adapter_files import MODEL
from lebot_rl_ros.policy.adapters import AdapterError
from lebot_rl_ros.policy.archive import export_adapter, import_adapter
from lebot_rl_ros.policy.compare import Parts, actor_share, compare_actions, compare_layers
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.mixing import mix
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.policy.terms import Term, format_mix
from lebot_rl_ros.robot import share_path

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

TEXT = 'NAME[@VERSION][:WEIGHT] joined by +, or the path of a folder'


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--store',
        default='',
        metavar='DIR',
        help='where adapters lie (default: $LEBOT_ADAPTERS, else lebot/adapters in the data home)',
    )
    based = argparse.ArgumentParser(add_help=False)
    based.add_argument(
        '--policy', type=Path, metavar='DIR', help='the base (default: policies/walk)'
    )
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument('--json', action='store_true', help='print JSON')
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument('--name', required=True, help='under which it is kept, as a new version')

    parser = subparsers.add_parser('adapters', help='list, compare, mix, move, prune adapters')
    verbs = parser.add_subparsers(dest='what', metavar='VERB', required=True)

    def verb(name: str, about: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, help=about, description=f'{about[0].upper()}{about[1:]}.', parents=[*parents]
        )

    one = verb('list', 'every version of every adapter', common, based, data)
    one.add_argument('names', nargs='*', metavar='NAME', help='(default: all)')
    one = verb('show', 'everything about one adapter', common, based, data)
    one.add_argument('adapter', help='NAME or NAME@VERSION')
    one = verb('diff', 'how two adapters, or mixtures of them, differ', common, based, data)
    for name in ('first', 'second'):
        one.add_argument(name, help=f"{TEXT}; '' is the base alone")
    one = verb('mix', 'make one adapter that does what several do together', common, based, named)
    one.add_argument('text', help=f'{TEXT}, as in turn:0.5+ice:0.5')
    one = verb('export', 'write an adapter as a .tar.gz', common)
    one.add_argument('adapter', help='NAME or NAME@VERSION')
    one.add_argument('file', type=Path, metavar='FILE.tar.gz')
    one = verb('import', 'bring an adapter in, as a candidate', common, based, named)
    one.add_argument(
        'path', type=Path, help='.tar.gz from export, or a folder, also one that peft saved'
    )
    one = verb('prune', 'remove old versions that nothing needs', common)
    one.add_argument('names', nargs='*', metavar='NAME', help='(default: all)')
    one.add_argument(
        '--keep', type=int, default=5, metavar='N',
        help='newest versions of each name that stay, beside the accepted ones and those in use '
        '(default: %(default)s)',
    )  # fmt: skip
    one.add_argument('--dry-run', action='store_true', help='only say what would be removed')


def run(args: argparse.Namespace) -> int:
    """Do what the inner verb says; returns the exit status.

    Raises:
        PolicyError: an adapter or the base cannot be used; the message says why.
    """
    actions = {
        'list': _list, 'show': _show, 'diff': _diff, 'mix': _mix, 'export': _export,
        'import': _import, 'prune': _prune,
    }  # fmt: skip
    actions[args.what](args, default_store(args.store))
    return 0


def _list(args: argparse.Namespace, store: AdapterStore) -> None:
    folder = _base(args)
    base = load_policy(folder)[1]
    rows = []
    for name in args.names or store.names():
        versions = store.versions(name)
        if not versions:
            store.folder(name, 1)  # says which names there are
        for version in versions:
            row: dict[str, Any] = {
                'adapter': f'{name}@{version}',
                'shipped': store.is_shipped(name, version),
            }
            try:
                adapter = store.get(name, version)
            except AdapterError as error:
                rows.append({**row, 'verdict': 'damaged', 'reason': str(error)})
                continue
            manifest = adapter.manifest
            size = (store.folder(name, version) / MODEL).stat().st_size
            rows.append({
                **row, 'verdict': manifest.verdict, 'reason': manifest.reason,
                'r': adapter.config.r, 'numbers': adapter.count, 'bytes': size,
                'share_of_actor': actor_share(adapter, base), 'parent': manifest.parent,
                'created': manifest.created, 'base_sha256': manifest.base_sha256,
                'fits': manifest.base_sha256 == base.sha256, 'scores': dict(manifest.scores),
            })  # fmt: skip
    if args.json:
        _print_json(rows)
    elif not rows:
        print(f'no adapters in {store.root}; `lebot train adapter` makes one')
    else:
        _console().print(*tables.listing(rows, store.root, folder, base.sha256))


def _show(args: argparse.Namespace, store: AdapterStore) -> None:
    name, version = store.resolve(args.adapter)
    adapter = store.get(name, version)
    tensors, base = load_policy(_base(args))
    fits = adapter.manifest.base_sha256 == base.sha256
    layers = []
    if fits:
        adapter.check(base)
        layers = [
            {'layer': row.layer, 'norm': row.first, 'base_norm': row.base,
             'share': row.first / row.base, 'bias_norm': row.bias}
            for row in compare_layers(tensors, [(adapter, 1.0)])
        ]  # fmt: skip
    data = {
        'adapter': adapter.manifest.label,
        'folder': str(store.folder(name, version)),
        'shipped': store.is_shipped(name, version),
        'fits': fits,
        'numbers': adapter.count,
        'share_of_actor': actor_share(adapter, base),
        'lineage': store.lineage(adapter.manifest.label),
        'config': asdict(adapter.config),
        'manifest': asdict(adapter.manifest),
        'layers': layers,
    }
    if args.json:
        _print_json(data)
    else:
        _console().print(*tables.details(data))


def _diff(args: argparse.Namespace, store: AdapterStore) -> None:
    tensors, base = load_policy(_base(args))
    sides: list[Parts] = [
        store.load(text, rejected=True) for text in (args.first, args.second)
    ]  # fmt: skip
    for parts in sides:
        for adapter, _ in parts:
            adapter.check(base)
    values = [_values(parts) if all(len(side) == 1 for side in sides) else {} for parts in sides]
    change = compare_actions(tensors, base, *sides)
    data = {
        'first': _exact(sides[0]),
        'second': _exact(sides[1]),
        'values': {
            key: [side.get(key) for side in values]
            for key in {**values[0], **values[1]}
            if values[0].get(key) != values[1].get(key)
        },
        'layers': [asdict(row) for row in compare_layers(tensors, *sides)],
        'actions': {
            **asdict(change),
            'largest_rad': change.largest * base.action_scale,
            'mean_rad': change.mean * base.action_scale,
        },
    }
    if args.json:
        _print_json(data)
    else:
        _console().print(*tables.difference(data))


def _mix(args: argparse.Namespace, store: AdapterStore) -> None:
    tensors, base = load_policy(_base(args))
    parts = store.load(args.text)
    for adapter, _ in parts:
        adapter.check(base)
    made = store.add(args.name, *mix(args.name, tensors, parts))
    print(
        f'{made.manifest.label} is {made.manifest.parent}: r {made.config.r}, '
        f'{made.count} numbers, in {store.folder(args.name, made.manifest.version)}'
    )


def _export(args: argparse.Namespace, store: AdapterStore) -> None:
    name, version = store.resolve(args.adapter)
    path = export_adapter(store, f'{name}@{version}', args.file)
    print(f'{path} has {name}@{version}, {path.stat().st_size} bytes')


def _import(args: argparse.Namespace, store: AdapterStore) -> None:
    made = import_adapter(store, args.path, args.name, load_policy(_base(args))[1])
    print(
        f'{made.manifest.label} is {args.path}: r {made.config.r}, {made.count} numbers, '
        f'{made.manifest.verdict}, in {store.folder(args.name, made.manifest.version)}'
    )


def _prune(args: argparse.Namespace, store: AdapterStore) -> None:
    done = store.prune(args.keep, names=args.names or None, dry_run=args.dry_run)
    if done:
        _console().print(*tables.pruned(done, store.root, args.dry_run))
    else:
        print(f'nothing to prune in {store.root}')


def _base(args: argparse.Namespace) -> Path:
    folder: Path = args.policy or share_path('policies', 'walk')
    return folder


def _exact(parts: Parts) -> str:
    """The text with every version."""
    return format_mix(Term(a.manifest.name, a.manifest.version, weight) for a, weight in parts)


def _values(parts: Parts) -> dict[str, Any]:
    """Config and manifest of one adapter; of tables in them each key by itself."""
    ((adapter, _),) = parts
    record = {**asdict(adapter.config), **asdict(adapter.manifest)}
    for key in ('name', 'version', 'schema'):
        del record[key]
    return dict(row for key, value in record.items() for row in tables.flat(key, value))


def _console() -> Console:
    """As wide as the terminal; into a file or a pipe wide enough for a row a line."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2))
