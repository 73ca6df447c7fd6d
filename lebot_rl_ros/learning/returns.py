"""Advantages and returns, as pure functions."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]


def compute_gae(
    rewards: FloatArray,
    values: FloatArray,
    next_values: FloatArray,
    terminated: BoolArray,
    truncated: BoolArray,
    *,
    discount: float,
    trace: float,
) -> tuple[FloatArray, FloatArray]:
    """Generalised advantage estimation (Schulman et al., arXiv 1506.02438).

    A terminated step is worth its reward and nothing more. A truncated one is worth what the
    critic expects from the state in which it was cut, the one *before* the reset; in both cases
    nothing flows back from the next episode.

    Args:
        rewards: (T, ...) of each step.
        values: (T, ...) the critic's, of the state in which the step began.
        next_values: (T, ...) the critic's, of the state to which the step led, before any reset.
        terminated: (T, ...) the step ended its episode for good, as by a fall.
        truncated: (T, ...) the episode was cut after the step, as by a time-out.
        discount: gamma.
        trace: lambda; 0 looks one step ahead, 1 to the end.

    Returns:
        Advantages and returns (targets of the critic), (T, ...) each.
    """
    delta = rewards + discount * next_values * ~terminated - values
    decay = discount * trace * ~(terminated | truncated)
    advantages = np.empty_like(delta)
    following = np.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + decay[t] * following
        advantages[t] = following
    return advantages, advantages + values


def explained_variance(predicted: FloatArray, actual: FloatArray) -> float:
    """Share of the variance of ``actual`` that ``predicted`` explains; 1 is perfect."""
    variance = float(np.var(actual))
    return 1.0 - float(np.var(actual - predicted)) / variance if variance > 0.0 else 0.0
