"""The learning curve of any method as a picture."""

from collections.abc import Sequence
from pathlib import Path

from lebot_rl_ros.learning.figures import new_figure, save_figure
from lebot_rl_ros.learning.method import Metrics

TITLES = {  # of metrics that are drawn first; others follow by their names
    'episode_length': 'length of an episode, steps',
    'policy_loss': 'policy loss',
    'value_loss': 'value loss',
    'critic_loss': 'critic loss',
    'explained_variance': 'explained variance',
    'entropy': 'entropy, nats',
    'approx_kl': 'approx. KL of an update',
    'clip_fraction': 'share of samples clipped',
    'td_error': 'TD error',
}
SKIPPED = ('steps', 'seconds', 'episodes', 'episode_return', 'updates', 'replay')
PANELS = 6  # beside the return
BLUE, RED = '#1f5c99', '#c8442e'


def plot_learning_curve(
    history: Sequence[Metrics],
    path: Path,
    title: str = '',
    *,
    target: float | None = None,
    inches: tuple[float, float] = (11.0, 5.0),
) -> None:
    """Draw the rows of a run as a PNG, 100 dots an inch.

    Args:
        history: rows of a :class:`Runner`; what a row lacks is left out.
        path: of the picture.
        title: over it.
        target: a return to draw as a line.
        inches: width and height.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not history:
        raise ValueError('no rows to draw a learning curve of')
    names = _panels(history)
    figure = new_figure(inches)
    rows = max(1, -(-len(names) // 2))
    grid = figure.add_gridspec(rows, 4 if names else 2)
    axes = figure.add_subplot(grid[:, :2])
    axes.plot(*_series(history, 'episode_return'), color=BLUE, label='training, last 100 episodes')
    steps, mean = _series(history, 'eval_return')
    if steps:
        _, spread = _series(history, 'eval_return_std')
        axes.plot(steps, mean, 'o-', color=RED, markersize=3, label='evaluation')
        if len(spread) == len(mean):
            low, high = zip(
                *((m - s, m + s) for m, s in zip(mean, spread, strict=True)), strict=True
            )
            axes.fill_between(steps, low, high, color=RED, alpha=0.15, linewidth=0)
    if target is not None:
        axes.axhline(target, color='black', linestyle=':', linewidth=1, label=f'{target:g}')
    axes.set_title(f'{title}: return of an episode' if title else 'return of an episode')
    axes.set_xlabel('steps')
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    for i, name in enumerate(names):
        small = figure.add_subplot(grid[i // 2, 2 + i % 2])
        small.plot(*_series(history, name), color=BLUE, linewidth=1.0)
        small.set_title(TITLES.get(name, name.replace('_', ' ')), fontsize=9)
        small.tick_params(labelsize=7)
        small.grid(alpha=0.3)
    save_figure(figure, path)


def _series(history: Sequence[Metrics], name: str) -> tuple[list[float], list[float]]:
    """Steps and values of the rows that have this number."""
    pairs = [(row['steps'], row[name]) for row in history if name in row]
    return [step for step, _ in pairs], [value for _, value in pairs]


def _panels(history: Sequence[Metrics]) -> list[str]:
    """Which metrics to show, those of the table first; constants would be empty panels."""
    seen: dict[str, set[float]] = {}
    for row in history:
        for name, value in row.items():
            if name not in SKIPPED and not name.startswith('eval_'):
                seen.setdefault(name, set()).add(value)
    names = [name for name, values in seen.items() if len(values) > 1]
    return sorted(names, key=lambda name: (name not in TITLES, names.index(name)))[:PANELS]
