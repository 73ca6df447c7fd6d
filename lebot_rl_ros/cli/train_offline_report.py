"""What `lebot train offline` shows: a bar, and the curves of a training as a picture."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lebot_rl_ros.learning.figures import new_figure, save_figure
from lebot_rl_ros.learning.method import Metrics

TITLES = {
    'policy_loss': 'policy loss',
    'value_loss': 'value loss',
    'q_mean': 'mean value',
    'deviation': 'change of the mean action, action units',
    'action_error': 'error of the mean action, action units',
    'ess': 'effective share of the steps',
}
BLUE = '#1f5c99'


def show(rows: Iterable[Metrics], total: int, title: str, console: Console) -> Iterator[Metrics]:
    """Pass rows of metrics on, with a bar to ``total`` gradient steps."""
    columns = (
        TextColumn(f'[bold]{title}'), BarColumn(), TextColumn('{task.percentage:3.0f} %'),
        TextColumn('{task.fields[words]}'), TimeElapsedColumn(), TextColumn('left'),
        TimeRemainingColumn(elapsed_when_finished=False),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task('train', total=total, words='')
        for row in rows:
            words = ', '.join(
                f'{name} {value:.3g}' for name, value in row.items() if name != 'steps'
            )
            progress.update(bar, completed=row['steps'], words=words)
            yield row


def draw(history: Sequence[Metrics], path: Path, title: str) -> None:
    """Draw every metric over the gradient steps as a PNG, 100 dots an inch.

    Raises:
        ValueError: there is nothing to draw.
    """
    names = [name for name in history[0] if name != 'steps'] if history else []
    if not names:
        raise ValueError('no rows to draw curves of')
    figure = new_figure((2.8 * len(names), 2.8))
    steps = [row['steps'] for row in history]
    for i, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), i)
        axes.plot(steps, [row[name] for row in history], color=BLUE, linewidth=1.2)
        axes.set_title(TITLES.get(name, name.replace('_', ' ')), fontsize=9)
        axes.set_xlabel('gradient steps', fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path)
