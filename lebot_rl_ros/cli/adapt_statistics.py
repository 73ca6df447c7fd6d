"""Numbers of `lebot benchmark adapt`: recovered fractions, and means that a bad seed cannot bend.

Interquartile mean with stratified bootstrap intervals: Agarwal et al., "Deep reinforcement
learning at the edge of the statistical precipice", arXiv 2108.13264 (their ``rliable``).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DRAWS = 2000
Array = npt.NDArray[np.float64]


def recovered(reward: npt.ArrayLike, frozen: float, oracle: float) -> Array:
    """(J - J0) / (J* - J0): 0 is the frozen base, 1 the oracle; below 0 is worse than nothing.

    Raises:
        ValueError: the oracle is no better than the frozen base, so there is nothing to recover.
    """
    if not oracle > frozen:
        raise ValueError(f'the oracle earns {oracle:g}, must be more than the frozen {frozen:g}')
    return (np.asarray(reward, dtype=float) - frozen) / (oracle - frozen)


def interquartile_mean(values: npt.ArrayLike) -> Array:
    """Mean (...) of the middle half of the values (..., n): a quarter goes at either end.

    As rliable has it, whole values only: of n values floor(n / 4) go at each end.
    """
    ordered = np.sort(np.asarray(values, dtype=float), axis=-1)
    cut = ordered.shape[-1] // 4
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1))


def stratified_interval(
    strata: Sequence[Array], rng: np.random.Generator, draws: int = DRAWS
) -> tuple[float, float]:
    """95 % percentile interval of the interquartile mean over all runs of all strata.

    Args:
        strata: the runs of each task, (n,) each; runs are resampled within their task.
        rng: of the draws.
        draws: how many.
    """
    drawn = [rng.choice(values, (draws, len(values))) for values in strata]
    low, high = np.percentile(interquartile_mean(np.concatenate(drawn, axis=1)), (2.5, 97.5))
    return float(low), float(high)


def value_at(curve: Sequence[Sequence[float]], minute: float) -> float:
    """Value of a curve of (minute, value), between its points in a line; NaN beyond its end."""
    minutes, values = np.array(curve, dtype=float).T
    if not minutes[0] <= minute <= minutes[-1]:
        return float('nan')
    return float(np.interp(minute, minutes, values))


def share_worse(ends: npt.ArrayLike, frozen: npt.ArrayLike) -> float:
    """Share of runs that end below the frozen base, (n,) each; equal is not worse."""
    return float((np.asarray(ends, dtype=float) < np.asarray(frozen, dtype=float)).mean())


def falls_after(fallen_at: Sequence[float], since: float | None) -> float:
    """Falls at or after a minute; NaN where that never came."""
    return float('nan') if since is None else float(sum(at >= since for at in fallen_at))
