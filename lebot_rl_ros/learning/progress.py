"""What a training shows: a bar with the time left, TensorBoard, a picture."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lebot_rl_ros.learning.figures import new_figure, save_figure
from lebot_rl_ros.learning.train import Metrics

CURVES = (  # key of the metrics, title
    ('reward', 'reward a step'),
    ('falls', 'falls in 1000 steps'),
    ('reward/track_linear_velocity', 'reward for the speed'),
    ('reward/track_yaw_rate', 'reward for the yaw rate'),
    ('explained_variance', 'explained variance'),
    ('approx_kl', 'approx. KL of an update'),
)


def show_progress(
    metrics: Iterable[Metrics], done: int, total: int, console: Console
) -> Iterator[Metrics]:
    """Pass metrics on, with a bar from ``done`` to ``total`` iterations."""
    columns = (
        TextColumn('[bold]train'), BarColumn(), TextColumn('{task.percentage:3.0f} %'),
        TextColumn('{task.fields[words]}'), TimeElapsedColumn(), TextColumn('left'),
        TimeRemainingColumn(elapsed_when_finished=False),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task('train', total=total, completed=done, words='')
        for row in metrics:
            words = (
                f'{row["steps"] / 1e6:.2f} M steps, reward {row["reward"]:.2f}, '
                f'{row["falls"]:.2f} falls in 1000 steps'
            )
            progress.update(bar, advance=1, words=words)
            yield row


def log_tensorboard(metrics: Iterable[Metrics], folder: Path, start: int) -> Iterator[Metrics]:
    """Pass metrics on, written to TensorBoard; what is there from ``start`` on is dropped."""
    from torch.utils.tensorboard import SummaryWriter  # late: slow to import

    writer = SummaryWriter(str(folder), purge_step=start)
    try:
        for row in metrics:
            for name, value in row.items():
                group = name if '/' in name else f'train/{name}'
                writer.add_scalar(group, value, int(row['steps']))
            yield row
    finally:
        writer.close()


def plot_learning_curve(
    history: list[Metrics], path: Path, *, inches: tuple[float, float] = (11.0, 5.5)
) -> None:
    """Draw the course of a training as a PNG, 100 dots an inch."""
    figure = new_figure(inches)
    steps = np.array([row['steps'] for row in history]) / 1e6
    for axes, (name, title) in zip(figure.subplots(2, 3).flat, CURVES, strict=True):
        axes.plot(steps, [row.get(name, np.nan) for row in history], linewidth=1.0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel('million steps', fontsize=8)
        axes.grid(alpha=0.3)
    save_figure(figure, path)
