"""How each episode did beside others that began alike: what GRPO has in place of a critic."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.learning.method import Array, BoolArray
from lebot_rl_ros.learning.rollouts import IndexArray

FloatArray = npt.NDArray[np.float64]
SPREAD = 1e-6  # of returns, relative to their size, below which they are equal


def repeat(tasks: Any, size: int) -> Any:
    """Each task ``size`` times in a row; tasks are rows of an array, or items of a list."""
    if isinstance(tasks, np.ndarray):
        return np.repeat(tasks, size, axis=0)
    return [task for task in tasks for _ in range(size)]


def group_advantages(returns: Array, groups: IndexArray, *, scale: bool = True) -> FloatArray:
    """How much better than its group each episode was, (E,); the sum in each group is zero.

    Args:
        returns: (E,).
        groups: (E,) from 0 on.
        scale: in standard deviations of the group (GRPO, arXiv 2402.03300), so that the scale of
            rewards does not matter; else in rewards (Dr. GRPO, arXiv 2503.20783), as the division
            gives groups that hardly differ as much weight as those that do.

    Returns:
        Advantages; zeros where all returns of a group are equal.
    """
    counts = np.maximum(np.bincount(groups), 1)
    mean = np.bincount(groups, returns) / counts
    centred = np.where(informative(returns, groups), returns - mean[groups], 0.0)
    if not scale:
        return centred
    std = np.sqrt(np.bincount(groups, centred**2) / counts)
    return centred / np.where(std > 0.0, std, 1.0)[groups]


def informative(returns: Array, groups: IndexArray) -> BoolArray:
    """(E,) whether returns differ within the group; where none does, there is nothing to learn."""
    lowest, minus_highest = np.full((2, int(groups.max(initial=-1)) + 1), np.inf)
    np.minimum.at(lowest, groups, returns)
    np.minimum.at(minus_highest, groups, -np.asarray(returns))
    size = np.maximum(np.abs(lowest), np.abs(minus_highest))
    return (-minus_highest - lowest)[groups] > SPREAD * size[groups]


def overlong_penalty(lengths: Array, longest: int, margin: int) -> FloatArray:
    """DAPO's soft punishment of length (arXiv 2503.14476, section 3.4): 0 down to -1, (E,).

    Nothing up to ``longest - margin`` steps, then linearly more, all of it from ``longest`` on.

    Raises:
        ValueError: the margin is not from 1 to ``longest``.
    """
    if not 1 <= margin <= longest:
        raise ValueError(f'margin of the length is {margin}, must be from 1 to {longest}')
    return np.clip((longest - margin - np.asarray(lengths)) / margin, -1.0, 0.0)


def step_weights(lengths: Array, per: Literal['step', 'episode']) -> FloatArray:
    """What each step of each episode counts, (E,), so that all steps together count one.

    'episode' gives every episode the same share (GRPO), so that a step of a long one counts
    less; 'step' gives every step the same share (DAPO's token-level loss).
    """
    lengths = np.asarray(lengths, dtype=np.float64)
    if per == 'step':
        return np.full(len(lengths), 1.0 / lengths.sum())
    return 1.0 / (len(lengths) * lengths)
