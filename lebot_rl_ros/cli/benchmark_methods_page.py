"""Shows `lebot benchmark methods`: numbers of each cell, a table, a page, plots."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from lebot_rl_ros.cli.benchmark_cells import CELLS
from lebot_rl_ros.cli.benchmark_stats import band, bootstrap_difference, bootstrap_mean
from lebot_rl_ros.learning.figures import new_figure, save_figure

LAST = 0.1  # share of the curve at its end whose mean is the final return
Rows = Sequence[dict[str, Any]]
COLUMNS = (
    'cell', 'steps', 'seeds', 'ours', 'SB3', 'ours - SB3 (95 %)', 'not worse', 'time ours/SB3',
    'aim', 'CPU', 'solved after',
)  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """One cell."""

    cell: str
    seeds: tuple[int, int]
    ours: float  # mean final return
    theirs: float
    ours_interval: tuple[float, float]
    theirs_interval: tuple[float, float]
    difference: tuple[float, float]
    time: float  # ratio of wall seconds, median over seeds run on both sides; NaN: none
    wall: tuple[float, float]  # s, medians
    cpu: float  # ratio of CPU seconds, which other work on the machine changes little
    solved: tuple[float, float]  # steps at which the mean curve reaches the target; NaN: never
    reached: tuple[int, int]  # seeds whose own curve reaches it


def final(row: dict[str, Any]) -> float:
    """Mean return at the end of a run's curve."""
    values = [value for _, value in row['curve']]
    return float(np.mean(values[-max(1, round(LAST * len(values))) :]))


def _solved(rows: Rows, target: float | None) -> float:
    if target is None or not rows:
        return float('nan')
    points = min(len(row['curve']) for row in rows)
    mean = np.mean([[v for _, v in row['curve'][:points]] for row in rows], axis=0)
    reached = np.flatnonzero(mean >= target)
    return float(rows[0]['curve'][reached[0]][0]) if len(reached) else float('nan')


def _reached(rows: Rows, target: float | None) -> int:
    if target is None:
        return 0
    return sum(any(value >= target for _, value in row['curve']) for row in rows)


def _ratio(ours: Rows, theirs: Rows, what: str) -> float:
    """Ours over theirs, median over the seeds that both have; NaN where there are none."""
    known = {row['seed']: row[what] for row in theirs}
    ratios = [row[what] / known[row['seed']] for row in ours if row['seed'] in known]
    return float(np.median(ratios)) if ratios else float('nan')


def summarise(rows: Rows) -> list[Summary]:
    """Numbers of every cell that has runs on both sides, in the cells' order."""
    order = list(CELLS)
    found = []
    for name, group in groupby(
        sorted(rows, key=lambda row: (order.index(row['cell']), row['seed'])),
        key=lambda row: row['cell'],
    ):
        runs = list(group)
        ours = [row for row in runs if row['side'] == 'ours']
        theirs = [row for row in runs if row['side'] == 'theirs']
        if not (ours and theirs):
            continue
        rng = np.random.default_rng(0)
        a, b = (np.array([final(row) for row in side]) for side in (ours, theirs))
        low, high = bootstrap_difference(a, b, rng)
        target = CELLS[name].target
        found.append(
            Summary(
                cell=name,
                seeds=(len(ours), len(theirs)),
                ours=float(a.mean()),
                theirs=float(b.mean()),
                ours_interval=bootstrap_mean(a, rng),
                theirs_interval=bootstrap_mean(b, rng),
                difference=(float(low), float(high)),
                time=_ratio(ours, theirs, 'wall'),
                cpu=_ratio(ours, theirs, 'cpu'),
                wall=tuple(float(np.median([r['wall'] for r in s])) for s in (ours, theirs)),  # type: ignore[arg-type]
                solved=(_solved(ours, target), _solved(theirs, target)),
                reached=(_reached(ours, target), _reached(theirs, target)),
            )
        )
    return found


def cells_of(summary: Summary) -> list[str]:
    """A row of the table."""
    cell = CELLS[summary.cell]
    solved = ''
    if cell.target is not None:
        words = [f'{s:,.0f}' if np.isfinite(s) else 'never' for s in summary.solved]
        seeds = ' / '.join(str(n) for n in summary.reached)
        solved = f'{cell.target:g}: {" / ".join(words)} ({seeds})'
    return [
        summary.cell,
        f'{cell.budget:,}',
        '/'.join(str(n) for n in dict.fromkeys(summary.seeds)),
        f'{summary.ours:.1f}',
        f'{summary.theirs:.1f}',
        f'{summary.difference[0]:+.1f} .. {summary.difference[1]:+.1f}',
        verdict(summary),
        f'{summary.time:.2f} ({summary.wall[0]:.0f} / {summary.wall[1]:.0f} s)',
        '' if cell.time_aim is None else f'{cell.time_aim:g}',
        f'{summary.cpu:.2f}',
        solved,
    ]


def verdict(summary: Summary) -> str:
    """Whether ours is not worse beyond the interval."""
    if min(summary.seeds) < 2:
        return 'one seed'
    return 'yes' if summary.difference[1] >= 0 else 'NO'


def table(summaries: Sequence[Summary]) -> Table:
    """For the terminal."""
    shown = Table(title='our methods beside stable-baselines3', box=None, padding=(0, 1))
    shown.add_column('cell', no_wrap=True)
    for column in ('seeds', 'ours', 'SB3', 'ours - SB3', 'not worse', 'time', 'CPU'):
        shown.add_column(column, justify='right')
    for summary in summaries:
        cell, _, seeds, ours, theirs, *_ = cells_of(summary)
        low, high = summary.difference
        shown.add_row(
            cell, seeds, ours, theirs, f'{low:+.0f}..{high:+.0f}', verdict(summary),
            f'{summary.time:.2f}', f'{summary.cpu:.2f}',
        )  # fmt: skip
    return shown


def page(summaries: Sequence[Summary]) -> str:
    """For the docs."""
    lines = [f'| {" | ".join(COLUMNS)} |', '|' + '---|' * len(COLUMNS)]
    lines += [f'| {" | ".join(cells_of(summary))} |' for summary in summaries]
    pictures = [
        f'![{summary.cell}](images/{summary.cell.replace(":", "-").lower()}.png)'
        for summary in summaries
    ]
    return f"""# The methods beside stable-baselines3

Made by `lebot benchmark methods` on {platform.machine()}, Python {platform.python_version()}: the
same settings (the peer's own tuned ones), networks and steps on both sides, each run in a process
of its own with one torch thread. Returns are those of the deterministic policy, the mean of the
last {LAST:.0%} of the evaluations; intervals are 95 % bootstrap intervals over seeds. *Not worse*:
the interval of the difference does not end below 0. Time is wall time of training without the
evaluations, the median of the ratios seed by seed; CPU likewise, which depends less on what else
the machine had to do. A side that was run again later met the machine in another state, as ours
of DDPG and TD3 did (docs/methods/td3.md has times side by side). *Solved after*: steps at which
the mean curve reaches the target, and how many seeds' own curves do, ours / theirs.
On LeBotVelocity-v0 both sides step our vector
environment, whose physics is most of the time; with `-singles` the peer has single environments
side by side, as its users do. DDPG and TD3 on LunarLander have a fifth of the zoo's steps.

{chr(10).join(lines)}

{(chr(10) * 2).join(pictures)}
"""


def plot(rows: Rows, path: Path) -> None:
    """Curves of one cell: means and 95 % bands over seeds."""
    figure = new_figure((7.0, 4.0))
    axes = figure.subplots()
    name = rows[0]['cell']
    for side, label, colour in (('ours', 'ours', 'C0'), ('theirs', 'stable-baselines3', 'C1')):
        runs = [row for row in rows if row['side'] == side]
        if not runs:
            continue
        points = min(len(row['curve']) for row in runs)
        steps = [s for s, _ in runs[0]['curve'][:points]]
        curves = np.array([[v for _, v in row['curve'][:points]] for row in runs])
        mean, low, high = band(curves, np.random.default_rng(0))
        axes.plot(steps, mean, color=colour, label=f'{label} ({len(runs)} seeds)')
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    target = CELLS[name].target
    if target is not None:
        axes.axhline(target, color='0.6', linestyle=':', linewidth=1)
    axes.set_title(name, fontsize=11)
    axes.set_xlabel('environment steps')
    axes.set_ylabel('return, deterministic policy')
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    save_figure(figure, path)
