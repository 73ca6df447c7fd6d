"""Shows `lebot benchmark adapt`: numbers of every method on every fault, a table, a page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from lebot_rl_ros.cli.adapt_cells import FAULTS, MARKS, METHODS, Cell, usable
from lebot_rl_ros.cli.adapt_statistics import (
    falls_after,
    interquartile_mean,
    recovered,
    share_worse,
    stratified_interval,
    value_at,
)

Row = dict[str, Any]
FaultRows = Mapping[str, Row]
ALL = 'all faults'
COLUMNS = (
    'method', 'runs', *(f'RF at {mark:g} min' for mark in MARKS), 'falls', 'after acceptance',
    'accepted', 'rolled back', 'worse than none', 'CPU ms a step',
)  # fmt: skip
SHORT = (
    'method', 'n', *(f'RF@{mark:g}' for mark in MARKS), 'falls', 'after', 'acc.', 'back', 'worse',
    'ms',
)  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """One variant of a method on one fault, or on all of them."""

    fault: str
    variant: str
    runs: int
    fractions: tuple[float, ...]  # recovered, interquartile mean, at each of MARKS; NaN: not run
    intervals: tuple[tuple[float, float], ...]
    falls: float  # a run, interquartile mean
    falls_after: float  # likewise, after the first accepted version; NaN: never in any run
    accepted: float  # versions a run
    rolled_back: float
    worse: float  # share of runs that end below the frozen base
    cpu_ms: float  # median; NaN: not measured


def load(folder: Path, minutes: float | None = None) -> list[Row]:
    """Runs with the settings of today; of one length only, where it is given."""
    found = []
    for path in sorted((folder / 'cells').glob('*.json')):
        row = json.loads(path.read_text())
        names = Cell.__dataclass_fields__
        cell = Cell(**{name: row[name] for name in names})
        if usable(row, cell) and minutes in (None, row['minutes']):
            found.append(row)
    return found


def variant(row: Mapping[str, Any]) -> str:
    """A method with what is unusual about a run."""
    extra = [
        row[name]
        for name, usual in (('stream', 'clean'), ('gate', 'gate'), ('path', 'direct'))
        if row[name] != usual
    ]
    return ', '.join((row['method'], *extra))


def fractions(row: Row, fault: Row, marks: Sequence[float] = MARKS) -> list[float]:
    """Recovered fractions of one run."""
    curve = [value_at(row['curve'], mark) for mark in marks]
    values = recovered(curve, fault['frozen']['reward'], fault['oracle']['reward'])
    return [float(value) for value in values]


def summarise(rows: Sequence[Row], faults: FaultRows) -> list[Summary]:
    """Numbers of every variant: fault by fault, then over all, of those that ran on all."""
    rows = [row for row in rows if faults.get(row['fault'], {}).get('oracle')]
    order = sorted({variant(row) for row in rows}, key=_rank)
    names = [name for name in FAULTS if any(row['fault'] == name for row in rows)]
    found = [
        _summary(
            name, kind, [r for r in rows if r['fault'] == name and variant(r) == kind], faults
        )
        for name in names
        for kind in order
        if any(r['fault'] == name and variant(r) == kind for r in rows)
    ]
    ran = {kind: {row['fault'] for row in rows if variant(row) == kind} for kind in order}
    if len(names) > 1:
        found += [
            _summary(ALL, kind, _balanced(rows, kind), faults)
            for kind in order
            if len(ran[kind]) == len(names)
        ]
    return found


def _balanced(rows: Sequence[Row], kind: str) -> list[Row]:
    """As many runs of a variant on one fault as on any other, the first seeds."""
    by_fault: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: int(row['seed'])):
        if variant(row) == kind:
            by_fault.setdefault(row['fault'], []).append(row)
    least = min(len(runs) for runs in by_fault.values())
    return [row for runs in by_fault.values() for row in runs[:least]]


def _rank(kind: str) -> tuple[int, str]:
    return METHODS.index(kind.split(', ')[0]), kind


def _summary(fault: str, kind: str, rows: Sequence[Row], faults: FaultRows) -> Summary:
    rng = np.random.default_rng(0)
    strata = [
        np.array([fractions(row, faults[name]) for row in rows if row['fault'] == name])
        for name in faults
        if any(row['fault'] == name for row in rows)
    ]
    values = np.concatenate(strata)
    after = np.array([falls_after(r['falls'], min(r['accepted'], default=None)) for r in rows])
    known = after[np.isfinite(after)]
    return Summary(
        fault=fault,
        variant=kind,
        runs=len(rows),
        fractions=tuple(float(v) for v in interquartile_mean(values.T)),
        intervals=tuple(
            stratified_interval([stratum[:, i] for stratum in strata], rng)
            for i in range(values.shape[1])
        ),
        falls=float(interquartile_mean([len(row['falls']) for row in rows])),
        falls_after=float(interquartile_mean(known)) if len(known) else float('nan'),
        accepted=float(np.mean([len(row['accepted']) for row in rows])),
        rolled_back=float(np.mean([len(row['rolled_back']) for row in rows])),
        worse=share_worse(
            [row['curve'][-1][1] for row in rows],
            [faults[row['fault']]['frozen']['reward'] for row in rows],
        ),
        # Through the graph the learner is a process of its own, whose time nobody took.
        cpu_ms=float(
            np.median([row['cpu_ms'] if row['path'] == 'direct' else np.nan for row in rows])
        ),
    )


def number(value: float, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return f'{value:.{digits}f}' if np.isfinite(value) else '-'


def words(summary: Summary, *, intervals: bool = True) -> list[str]:
    """A row of a table."""
    shown = []
    for value, (low, high) in zip(summary.fractions, summary.intervals, strict=True):
        between = f' [{low:.2f}, {high:.2f}]' if intervals and np.isfinite(value) else ''
        shown.append(number(value) + between)
    return [
        summary.variant, str(summary.runs), *shown, number(summary.falls, 1),
        number(summary.falls_after, 1), number(summary.accepted, 1),
        number(summary.rolled_back, 1), f'{summary.worse:.0%}', number(summary.cpu_ms),
    ]  # fmt: skip


def table(summaries: Sequence[Summary], faults: FaultRows) -> list[Table]:
    """For the terminal: one of the faults, and one for each fault."""
    first = Table(
        title='faults: reward a second, held-out rollouts', box=None, padding=(0, 1, 0, 0)
    )
    for i, column in enumerate(FAULT_COLUMNS):
        first.add_column(column, justify='right' if 0 < i < len(FAULT_COLUMNS) - 1 else 'left')
    for row in faults.values():
        first.add_row(*fault_words(row))
    shown = [first]
    for fault in dict.fromkeys(summary.fault for summary in summaries):
        one = Table(title=fault, box=None, padding=(0, 1, 0, 0))
        for i, column in enumerate(SHORT):
            one.add_column(column, justify='right' if i else 'left', no_wrap=True)
        for summary in summaries:
            if summary.fault == fault:
                one.add_row(*words(summary, intervals=False))
        shown.append(one)
    return shown


FAULT_COLUMNS = (
    'fault', 'healthy', 'frozen', 'lost', 'falls', 'oracle', "oracle's falls", 'steps to 0.8',
    'admitted',
)  # fmt: skip


def fault_words(row: Row) -> list[str]:
    """A row of the table of faults."""
    healthy, frozen, oracle = row['healthy'], row['frozen'], row['oracle'] or {}
    nothing = float('nan')
    return [
        f'{row["fault"]}: {" ".join(row["settings"]["faults"])}',
        number(healthy['reward'], 1),
        number(frozen['reward'], 1),
        f'{1.0 - frozen["reward"] / healthy["reward"]:.0%}',
        number(frozen['falls'], 1),
        number(oracle.get('reward', nothing), 1),
        number(oracle.get('falls', nothing), 1),
        number_of_steps(row),
        'yes' if row['admitted'] else f'no: {row["why"]}',
    ]


def number_of_steps(row: Row, fraction: float = 0.8) -> str:
    """Steps after which the oracle's training first had a fraction of what it got in the end."""
    oracle, frozen = row['oracle'] or {}, row['frozen']['reward']
    for steps, reward in oracle.get('curve', ()):
        if reward - frozen >= fraction * (oracle['reward'] - frozen):
            return f'{steps:,}'
    return '-'


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of a page."""
    lines = [f'| {" | ".join(columns)} |', '|' + '---|' * len(columns)]
    return '\n'.join([*lines, *(f'| {" | ".join(row)} |' for row in rows)])
