"""How pictures of a bag look: colours, sizes, and what several of them mark."""

from collections.abc import Sequence
from typing import Any

from lebot_rl_ros.cli.bag_plot_run import Run

MEASURED, COMMANDED, APPLIED, FELL = '#1f5c99', '#e07b1f', '#2a9d5c', '#c8442e'
FAINT = '#b9cfe4'
WIDTH = 6.5  # inches
STYLE: Any = {
    'font.size': 12, 'axes.titlesize': 12, 'axes.labelsize': 12, 'xtick.labelsize': 11,
    'ytick.labelsize': 11, 'legend.fontsize': 10.5, 'axes.grid': True, 'grid.alpha': 0.3,
    'axes.spines.top': False, 'axes.spines.right': False, 'text.color': '#111111',
    'axes.formatter.useoffset': False, 'axes.labelcolor': '#111111', 'lines.linewidth': 1.2,
    'legend.frameon': False,
}  # fmt: skip


def new_figure(height: float) -> Any:
    """An empty figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def at_least(axes: Any, span: float) -> None:
    """Widen the y axis, so that noise does not look like news."""
    low, high = axes.get_ylim()
    if high - low < span:
        axes.set_ylim((low + high - span) / 2, (low + high + span) / 2)


def window(run: Run) -> float:
    """Seconds that a mean is over: 1, more where the bag is so long that it would be a blur."""
    return max(1.0, round(run.duration / 500))


def mark_falls(axes: Sequence[Any], run: Run) -> None:
    """A red line at every fall, with its word at the first."""
    for one in axes:
        for at in run.falls:
            one.axvline(at, color=FELL, linewidth=1)
    if len(run.falls) and len(axes):
        axes[0].annotate('fall', (run.falls[0], 1.0), xycoords=('data', 'axes fraction'),
                         xytext=(3, -12), textcoords='offset points', color=FELL)  # fmt: skip
