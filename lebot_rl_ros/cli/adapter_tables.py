"""Tables of `lebot adapters`, for people."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lebot_rl_ros.policy.compare import GOLDEN, SPREAD
from lebot_rl_ros.policy.store import Removed

COLOURS = {'accepted': 'green', 'rejected': 'red', 'damaged': 'red', 'candidate': 'yellow'}

SHORT = ('adapter', 'verdict', 'created', 'base', 'key', 'layer')  # columns that never wrap
WIDE = {'parent': 6, 'scores': 12}  # at least, in a narrow terminal


def listing(
    rows: Sequence[Mapping[str, Any]], root: Path, policy: Path, base: str
) -> list[RenderableType]:
    """One line a version."""
    notes = [f'in {root}; + ships with the package']
    if not all(row.get('fits', True) for row in rows):
        notes.append(f'! made for another base than {policy}, {base[:12]}')
    notes += [f'{row["adapter"]}: {row["reason"]}' for row in rows if 'r' not in row]
    table = _table('adapters')
    _columns(table, 'adapter', 'verdict', 'r>', 'numbers>', 'kB>', 'of actor>', 'parent')
    _columns(table, 'scores', 'base', 'created')
    for row in rows:
        marks = '+' * row['shipped'] + '!' * (not row.get('fits', True))
        label = f'{row["adapter"]}{marks}'
        if 'r' not in row:
            table.add_row(label, _verdict('damaged'))
            continue
        table.add_row(
            label, _verdict(row['verdict']), str(row['r']), f'{row["numbers"]}',
            f'{row["bytes"] / 1000:.1f}', f'{row["share_of_actor"]:.1%}', escape(row['parent']),
            escape(score_line(row['scores'])), row['base_sha256'][:12], row['created'][:10],
        )  # fmt: skip
    return [table, _note(*notes)]


def score_line(scores: Mapping[str, Any]) -> str:
    """The improvement over the base, the loss, or else the first three numbers."""
    gain, interval = scores.get('improvement'), scores.get('improvement_interval_95')
    if isinstance(gain, int | float):
        if isinstance(interval, list) and len(interval) == 2:
            return f'error {-gain:+.1%} ({-interval[1]:+.1%} to {-interval[0]:+.1%})'
        return f'error {-gain:+.1%}'
    losses = [scores.get(when, {}) for when in ('before', 'after')]
    if all(isinstance(loss, dict) and 'validation_loss' in loss for loss in losses):
        return f'loss {losses[0]["validation_loss"]:.4g} -> {losses[1]["validation_loss"]:.4g}'
    numbers = [(k, v) for k, v in scores.items() if isinstance(v, int | float)]
    return ', '.join(f'{key} {value:.4g}' for key, value in numbers[:3])


def details(data: Mapping[str, Any]) -> list[RenderableType]:
    """Everything about one adapter."""
    manifest = data['manifest']
    about = Table(title=data['adapter'], box=box.SIMPLE, show_header=False)
    about.title_justify, about.title_style = 'left', 'bold'
    _columns(about, 'key', 'value')
    for key, value in (
        ('verdict', f'{_verdict(manifest["verdict"])}  {escape(manifest["reason"])}'),
        ('lineage', escape(' < '.join(data['lineage']))),
        ('size', f"{data['numbers']} numbers; {data['share_of_actor']:.1%} of the actor's"),
        ('folder', escape(data['folder']) + (' (ships with the package)' * data['shipped'])),
        ('fits', 'this base' if data['fits'] else '[red]another base, so no layers are shown[/]'),
    ):
        about.add_row(key, value)
    shown = ('name', 'version', 'verdict', 'reason')
    for source in (data['config'], {k: v for k, v in manifest.items() if k not in shown}):
        for key, value in source.items():
            for name, inner in flat(key, value):
                about.add_row(name, escape(_text(inner)))
    if not data['layers']:
        return [about]
    layers = _table('layers')
    _columns(layers, 'layer', 'added>', 'base>', 'share>', 'bias added>')
    for row in data['layers']:
        layers.add_row(
            row['layer'], f'{row["norm"]:.4f}', f'{row["base_norm"]:.4f}', f'{row["share"]:.2%}',
            f'{row["bias_norm"]:.4f}',
        )  # fmt: skip
    return [about, layers, _note('Frobenius norms of what is added, and as a share of the base')]


def difference(data: Mapping[str, Any]) -> list[RenderableType]:
    """How two adapters differ."""
    first, second = (escape(data[side]) or 'nothing' for side in ('first', 'second'))
    shown: list[RenderableType] = []
    if data['values']:
        values = _table('what differs')
        _columns(values, 'key', first, second)
        for key, pair in data['values'].items():
            values.add_row(key, *(escape(_text(value)) for value in pair))
        shown.append(values)
    layers = _table('layers')
    _columns(layers, 'layer', 'base>', f'{first}>', f'{second}>', 'cosine>', 'biases apart>')
    for row in data['layers']:
        cosine = '' if row['cosine'] is None else f'{row["cosine"]:+.3f}'
        layers.add_row(
            row['layer'], f'{row["base"]:.4f}', f'{row["first"]:.4f}', f'{row["second"]:.4f}',
            cosine, f'{row["bias"]:.4f}',
        )  # fmt: skip
    change = data['actions']
    actions = _table('mean actions, how far apart')
    _columns(actions, '', 'action units>', 'rad>', 'joint')
    for name, joint in (('largest', change['joint']), ('mean', '')):
        actions.add_row(name, f'{change[name]:.4f}', f'{change[f"{name}_rad"]:.4f}', joint)
    return [
        *shown,
        layers,
        _note('Frobenius norms of the base and of what is added to it; cosine of what is added\n'),
        actions,
        _note(
            f"over {GOLDEN} observations drawn from the base's normaliser, each number within "
            f'{SPREAD:g} standard deviations, always the same ones'
        ),
    ]


def pruned(done: Sequence[Removed], root: Path, dry_run: bool) -> list[RenderableType]:
    """What went and what stayed."""
    gone = [entry for entry in done if entry.removed]
    word = 'would go' if dry_run else 'removed'
    total = sum(entry.size for entry in gone) / 1000
    table = _table(f'{len(gone)} {word}, {total:.1f} kB')
    _columns(table, 'adapter', 'kB>', '', 'why')
    for entry in done:
        table.add_row(
            entry.label, f'{entry.size / 1000:.1f}',
            f'[red]{word}[/]' if entry.removed else 'stays', entry.reason,
        )  # fmt: skip
    return [table, _note(f'in {root}')]


def flat(key: str, value: Any) -> list[tuple[str, Any]]:
    """Tables key by key, so that each value has a line."""
    if isinstance(value, Mapping):
        return [row for name, inner in value.items() for row in flat(f'{key}.{name}', inner)]
    return [(key, value)]


def _table(title: str) -> Table:
    return Table(
        title=title, box=box.SIMPLE_HEAD, title_justify='left', title_style='bold',
        padding=(0, 1, 0, 0),
    )  # fmt: skip


def _note(*lines: str) -> Text:
    return Text('\n'.join(lines), style='dim')


def _columns(table: Table, *names: str) -> None:
    """Add columns; those that end with > are numbers."""
    for name in names:
        table.add_column(
            name.removesuffix('>'),
            justify='right' if name[-1:] == '>' else 'left',
            no_wrap=name in SHORT or name[-1:] == '>',
            overflow='fold',
            min_width=WIDE.get(name),
        )


def _verdict(verdict: str) -> str:
    return f'[{COLOURS[verdict]}]{verdict}[/]'


def _text(value: Any) -> str:
    if value is None or value == '':
        return '-'
    if isinstance(value, float):
        return f'{value:.6g}'
    if isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value):
        return ', '.join(value) or '-'
    return value if isinstance(value, str) else json.dumps(value)
