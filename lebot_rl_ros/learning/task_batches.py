"""Experience with several tasks, each with a baseline of its own."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.learning.returns import compute_gae
from lebot_rl_ros.learning.rollouts import Rollouts


@dataclass(frozen=True)
class TaskBatch:
    """Experience with K tasks, B steps each: what one inner or outer step learns from."""

    observations: Tensor  # (K, B, O)
    actions: Tensor  # (K, B, A) as sampled
    log_probs: Tensor  # (K, B) when sampled
    advantages: Tensor  # (K, B) mean 0 in each task
    returns: Array  # (K, E) of the first episode of every environment, within the horizon


def task_batch(
    rollouts: Rollouts, tasks: int, *, discount: float, trace: float, scale: bool
) -> TaskBatch:
    """Rollouts (T, K E, ...) as batches (K, T E, ...), with advantages by a baseline of each task.

    Time-outs end the sum of rewards, as the end of the rollouts does: what counts is the return
    within the horizon, and the baseline knows the time.

    Args:
        rollouts: environments of one task side by side.
        tasks: K.
        discount: gamma.
        trace: lambda of GAE.
        scale: advantages to deviation 1 in each task.
    """

    def by_task(x: Array) -> Array:
        split = x.reshape(len(x), tasks, -1, *x.shape[2:]).swapaxes(0, 1)
        return np.ascontiguousarray(split.reshape(tasks, -1, *x.shape[2:]))

    def by_time(x: Array) -> Array:
        return (
            x.reshape(tasks, *rollouts.rewards.shape[:1], -1)
            .swapaxes(0, 1)
            .reshape(rollouts.rewards.shape)
        )

    ends = rollouts.done.copy()
    ends[-1] = True
    never, rewards = np.zeros_like(ends), rollouts.rewards.astype(np.float64)
    nothing = np.zeros_like(rewards)
    _, returns = compute_gae(rewards, nothing, nothing, ends, never, discount=discount, trace=1.0)
    values = by_time(
        linear_baseline(
            by_task(rollouts.observations), by_task(_age(rollouts.done)), by_task(returns)
        )
    )
    following = np.concatenate((values[1:], values[-1:]))  # where an episode ends it is not used
    advantages, _ = compute_gae(
        rewards, values, following, ends, never, discount=discount, trace=trace
    )
    scaled = by_task(advantages)
    scaled = scaled - scaled.mean(axis=1, keepdims=True)
    if scale:
        scaled = scaled / (scaled.std(axis=1, keepdims=True) + 1e-8)
    first: Array = np.cumsum(rollouts.done, axis=0) - rollouts.done == 0
    return TaskBatch(
        torch.from_numpy(by_task(rollouts.observations)),
        torch.from_numpy(by_task(rollouts.actions)),
        torch.from_numpy(by_task(rollouts.log_probs)),
        torch.from_numpy(scaled.astype(np.float32)),
        (rewards * first).sum(axis=0).reshape(tasks, -1),
    )


def linear_baseline(observations: Array, age: Array, returns: Array, ridge: float = 1e-5) -> Array:
    """Returns that each task's own least squares expects (Duan et al., arXiv 1604.06778).

    Features are the observation, its squares, and time up to the third power.

    Args:
        observations: (K, B, O).
        age: (K, B) steps since the episode began, over the longest.
        returns: (K, B) to fit.
        ridge: what keeps the squares solvable, for each sample.

    Returns:
        (K, B).
    """
    x, t = np.asarray(observations, dtype=np.float64), age[..., None]
    features = np.concatenate((x, x**2, t, t**2, t**3, np.ones_like(t)), axis=-1)
    square = np.swapaxes(features, 1, 2)
    gram = square @ features + ridge * features.shape[1] * np.eye(features.shape[-1])
    return (features @ np.linalg.solve(gram, square @ returns[..., None]))[..., 0]


def _age(done: Array) -> Array:
    """Share of the rollout (T, N) since the episode of each step began."""
    age = np.zeros(done.shape)
    for t in range(1, len(done)):
        age[t] = np.where(done[t - 1], 0.0, age[t - 1] + 1.0 / len(done))
    return age
