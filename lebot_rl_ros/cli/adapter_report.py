"""How adapters compare with their base, for people, and the verdict that follows."""

from collections.abc import Sequence

from rich.table import Table

from lebot_rl_ros.envs.adapter_scores import Comparison, TaskScore, means

NEEDED = 0.2  # share of the base's error that an adapter must take away


def judge(comparison: Comparison, recipe: str) -> tuple[str, str]:
    """Verdict and reason: accepted if it takes away at least a fifth of the base's error."""
    low, high = comparison.interval
    before, after = means(comparison.base), means(comparison.other)
    good = comparison.improvement >= NEEDED
    reason = (
        f'error on recipe {recipe} over {len(comparison.seeds)} seeds: {before["error"]:.4f} -> '
        f'{after["error"]:.4f} m/s, {comparison.improvement:.1%} less (95 %: {low:.1%} to '
        f'{high:.1%}); {NEEDED:.0%} or more is needed'
    )
    return ('accepted' if good else 'rejected'), reason


def as_table(comparison: Comparison, name: str) -> Table:
    """Before and after."""
    low, high = comparison.interval
    table = Table(
        title=f'base and {name}: {len(comparison.seeds)} seeds, the same robots',
        caption=f'{comparison.improvement:.1%} less error '
        f'(95 % bootstrap interval {low:.1%} to {high:.1%}); by ground truth',
    )
    for column in ('', 'error m/s', 'sd', 'speed m/s', 'yaw rate rad/s', 'falls a minute'):
        table.add_column(column, justify='right' if column else 'left')
    for label, scores in (('base', comparison.base), (name, comparison.other)):
        table.add_row(label, *row(scores))
    return table


def row(scores: Sequence[TaskScore]) -> list[str]:
    """Cells of one policy: error, its spread over the seeds, speed, yaw rate, falls."""
    mean = means(scores)
    return [
        f'{mean["error"]:.4f}', f'{mean["error_std"]:.4f}', f'{mean["speed_error"]:.4f}',
        f'{mean["yaw_rate_error"]:.4f}', f'{mean["falls_per_minute"]:.2f}',
    ]  # fmt: skip
