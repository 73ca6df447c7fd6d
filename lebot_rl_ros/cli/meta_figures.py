"""The figures of `lebot benchmark meta`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lebot_rl_ros.cli.benchmark_stats import band
from lebot_rl_ros.learning.figures import new_figure, save_figure

Runs = Sequence[dict[str, Any]]
COLOURS = {'maml': 'C0', 'rl2': 'C1', 'plain': 'C2', 'untrained': 'C7', 'base': 'C3'}
NAMES = {
    'maml': 'MAML',
    'rl2': 'RL²',
    'plain': 'plain policy',
    'untrained': 'untrained',
    'base': 'shipped policy',
}
PATHS = (  # of which policy, title
    ('plain_before', 'plain policy: one way for all goals'),
    ('maml_before', 'MAML, before'),
    ('maml_after', 'MAML, after one update'),
    ('rl2_1', 'RL², first episode'),
    ('rl2_2', 'RL², second episode'),
)


def navigation(runs: Runs, path: Path) -> None:
    """Returns by update and by episode, returns in training, and paths of the first seed."""
    figure = new_figure((13.0, 7.6))
    grid = figure.add_gridspec(2, 1, height_ratios=(1.15, 1.0))
    above, below = grid[0].subgridspec(1, 3), grid[1].subgridspec(1, len(PATHS))
    axes = figure.add_subplot(above[0])
    _curves(axes, runs, ('untrained', 'plain', 'maml'), 'inner updates, 20 episodes each')
    # What goes astray beyond that is not worth the room.
    axes.set_ylim(1.2 * min(run['untrained'][0] for run in runs), 0.2)
    _oracle(axes, runs)
    axes = figure.add_subplot(above[1], sharey=axes)
    _curves(axes, runs, ('rl2',), 'episode of the trial', first=1)
    _oracle(axes, runs)
    axes = figure.add_subplot(above[2], sharey=axes)
    for name, column, words in (
        ('plain', 'return_update_0', 'plain policy'),
        ('maml', 'return_update_1', 'MAML, after one update'),
        ('rl2', 'return_episode_2', 'RL², second episode'),
    ):
        tables = [run['learning'][name] for run in runs]
        least = min(len(table['steps']) for table in tables)
        steps = np.array(tables[0]['steps'][:least]) / 1e6
        _band(axes, steps, [table[column][:least] for table in tables], name, words)
    _oracle(axes, runs)
    axes.set_xlabel('million steps of training')
    axes.legend(fontsize=8, loc='lower right')
    axes.grid(alpha=0.3)
    goals = np.array(runs[0]['goals'])
    for place, (name, title) in zip(below, PATHS, strict=True):
        axes = figure.add_subplot(place)
        for i, way in enumerate(np.array(runs[0]['paths'][name]).swapaxes(0, 1)):
            axes.plot(*way.T, '.-', color=f'C{i}', linewidth=1.0, markersize=3)
            axes.plot(*goals[i], '*', color=f'C{i}', markersize=13, markeredgecolor='black')
        axes.plot(0, 0, 'k+', markersize=9)
        axes.set_title(title, fontsize=9)
        axes.set(xlim=(-0.75, 0.75), ylim=(-0.75, 0.75), aspect='equal')
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def faults(runs: Runs, path: Path) -> None:
    """Returns of both starts by the number of updates, and MAML's training."""
    figure = new_figure((10.0, 4.0))
    left, right = figure.subplots(1, 2)
    _curves(left, runs, ('base', 'maml'), 'updates, 20 rollouts of 2 s each')
    left.set_ylabel('return in 2 s, unseen faults')
    tables = [run['learning']['maml'] for run in runs]
    least = min(len(table['steps']) for table in tables)
    steps = np.array(tables[0]['steps'][:least]) / 1e6
    for column, words, style in (
        ('return_update_0', 'before the update', '--'),
        ('return_update_1', 'after it', '-'),
    ):
        _band(right, steps, [table[column][:least] for table in tables], 'maml', words, style)
    right.set_xlabel('million steps of training')
    right.legend(fontsize=8)
    right.grid(alpha=0.3)
    save_figure(figure, path)


def _curves(axes: Any, runs: Runs, names: Sequence[str], label: str, first: int = 0) -> None:
    for name in names:
        curves = [run[name] for run in runs]
        places = np.arange(len(curves[0])) + first
        _band(axes, places, curves, name, NAMES[name], 'o-')
    axes.set_xticks(places)
    axes.set_xlabel(label)
    axes.set_ylabel('return, unseen goals')
    axes.legend(fontsize=8, loc='lower right')
    axes.grid(alpha=0.3)


def _band(axes: Any, x: Any, curves: Any, name: str, words: str, style: str = '-') -> None:
    """Mean over seeds and its 95 % bootstrap interval."""
    mean, low, high = band(np.array(curves, dtype=float), np.random.default_rng(0))
    axes.plot(x, mean, style, color=COLOURS[name], label=words, markersize=4)
    axes.fill_between(x, low, high, color=COLOURS[name], alpha=0.2)


def _oracle(axes: Any, runs: Runs) -> None:
    axes.axhline(np.mean([run['oracle'] for run in runs]), color='black', linestyle=':')
