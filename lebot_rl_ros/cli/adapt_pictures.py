"""The figures of `lebot benchmark adapt`: curves of every fault, and all methods side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lebot_rl_ros.cli.adapt_page import ALL, Row, Summary, variant
from lebot_rl_ros.cli.adapt_statistics import interquartile_mean, recovered, value_at
from lebot_rl_ros.learning.figures import new_figure, save_figure

DRAWS = 500
AT_MOST = 8  # curves in a picture; more cannot be told apart
PREFERRED = (
    'none', 'td3-lora4', 'ppo-lora4', 'ppo-full', 'sb3-ppo', 'sb3-sac', 'ppo-lora4, ros',
    'ppo-lora4, hostile', 'td3-full', 'td3-bias', 'actor_critic-lora4',
)  # fmt: skip


def curves(rows: Sequence[Row], fault: Row, path: Path) -> list[str]:
    """Recovered fraction over robot minutes with 95 % bands, and falls; returns who is shown."""
    figure = new_figure((11.0, 4.2))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    kinds = {variant(row) for row in rows}
    chosen = [kind for kind in PREFERRED if kind in kinds] + sorted(kinds - set(PREFERRED))
    chosen = chosen[:AT_MOST]
    rng = np.random.default_rng(0)
    for i, kind in enumerate(chosen):
        runs = [row for row in rows if variant(row) == kind]
        minutes, band = recovery(runs, fault, rng)
        style = '--' if kind.startswith('sb3') else ':' if kind == 'none' else '-'
        left.plot(minutes, band[0], style, color=f'C{i}', label=f'{kind} ({len(runs)})')
        if len(runs) > 1:
            left.fill_between(minutes, band[1], band[2], color=f'C{i}', alpha=0.15, linewidth=0)
        falls = np.array([[sum(at <= m for at in r['falls']) for m in minutes] for r in runs])
        right.plot(minutes, interquartile_mean(falls.T), style, color=f'C{i}')
    left.axhline(1.0, color='black', linestyle=':', linewidth=1)
    left.set(xlabel='robot minutes', ylabel='recovered fraction', ylim=(-0.6, 1.15))
    left.set_title(f'{fault["fault"]}: {", ".join(fault["settings"]["faults"])}', fontsize=10)
    left.legend(fontsize=8, frameon=False, loc='center left', bbox_to_anchor=(1.0, 0.5))
    right.set(xlabel='robot minutes', ylabel='falls so far')
    right.set_ylim(0.0, max(1.0, right.get_ylim()[1]))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save_figure(figure, path)
    return chosen


def recovery(runs: Sequence[Row], fault: Row, rng: np.random.Generator) -> tuple[Any, Any]:
    """Minutes (T,), and interquartile mean with its interval (3, T) of the recovered fraction."""
    last = min(row['curve'][-1][0] for row in runs)
    minutes = np.array([minute for minute, _ in runs[0]['curve'] if minute <= last])
    rewards = np.array([[value_at(row['curve'], m) for m in minutes] for row in runs])
    values = recovered(rewards, fault['frozen']['reward'], fault['oracle']['reward'])
    drawn = values[rng.integers(len(values), size=(DRAWS, len(values)))]  # (D, runs, T)
    low, high = np.percentile(interquartile_mean(np.swapaxes(drawn, 1, 2)), (2.5, 97.5), axis=0)
    return minutes, np.array([interquartile_mean(values.T), low, high])


def aggregate(summaries: Sequence[Summary], marks: Sequence[float], path: Path) -> None:
    """All variants with their intervals at every mark; over all faults, if there are several."""
    names = {summary.fault for summary in summaries}
    shown = [s for s in summaries if len(names) == 1 or s.fault == ALL][::-1]
    figure = new_figure((11.0, 1.2 + 0.32 * len(shown)))
    panels = np.atleast_1d(figure.subplots(1, len(marks), sharey=True, sharex=True))
    places = np.arange(len(shown))
    for i, (axes, mark) in enumerate(zip(panels, marks, strict=True)):
        for place, summary in zip(places, shown, strict=True):
            colour = 'C3' if summary.variant.startswith('sb3') else 'C0'
            low, high = summary.intervals[i]
            axes.barh(place, high - low, left=low, height=0.6, color=colour, alpha=0.35)
            axes.plot([summary.fractions[i]] * 2, [place - 0.3, place + 0.3], color=colour)
        axes.axvline(0.0, color='black', linewidth=0.8)
        axes.axvline(1.0, color='black', linewidth=0.8, linestyle=':')
        axes.set_title(f'{mark:g} robot minutes', fontsize=10)
        axes.set(xlabel='recovered fraction, IQM', xlim=(-0.6, 1.15))
        axes.grid(alpha=0.3, axis='x')
    panels[0].set_yticks(places, [summary.variant for summary in shown], fontsize=9)
    save_figure(figure, path)
