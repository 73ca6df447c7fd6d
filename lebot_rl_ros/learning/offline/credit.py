"""What each step of a continuation gets the credit for, beside the others of its group."""

from typing import Literal

import numpy as np

from lebot_rl_ros.learning.episodes import Episodes
from lebot_rl_ros.learning.groups import FloatArray, group_advantages
from lebot_rl_ros.learning.method import Array

Credit = Literal['togo', 'episode']


def returns_to_go(rewards: Array, lengths: Array, discount: float) -> FloatArray:
    """Discounted sums (M,) of what a step and those after it earned, episode by episode.

    Args:
        rewards: (M,) of E episodes, one after another.
        lengths: (E,).
        discount: of each step.
    """
    found = np.asarray(rewards, dtype=np.float64).copy()
    for end, length in zip(np.cumsum(lengths), lengths, strict=True):
        for step in range(end - 2, end - length - 1, -1):
            found[step] += discount * found[step + 1]
    return found


def step_advantages(
    episodes: Episodes, credit: Credit, discount: float, *, scale: bool
) -> FloatArray:
    """How much better than in its group each step's continuation did, (M,).

    With 'episode' a step has its episode's advantage: over the episodes of a group they sum to
    zero. With 'togo' (the process supervision of section 4.1.3 there) what came after a step is
    compared with what came after the same step in the others: over those of a group that still
    walk, they sum to zero at every step, and what happened before does not blur them.

    Args:
        episodes: of groups that began alike.
        credit: which of the two.
        discount: of 'togo'.
        scale: in standard deviations of the group.
    """
    number, lengths = episodes.number, episodes.lengths
    if credit == 'episode':
        return group_advantages(episodes.returns, episodes.groups, scale=scale)[number]
    earned = returns_to_go(episodes.rewards, lengths, discount)
    first = np.cumsum(lengths) - lengths
    time = np.arange(len(number)) - first[number]
    group = episodes.groups[number]
    found = group_advantages(earned, group * int(lengths.max()) + time, scale=False)
    if not scale:
        return found
    # One scale for all steps of a group: else the last one, of which little depends, is as loud.
    std = np.sqrt(np.bincount(group, found**2) / np.maximum(np.bincount(group), 1))
    return found / np.where(std > 0.0, std, 1.0)[group]
