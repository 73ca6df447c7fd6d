"""Judging two sides of a comparison by few seeds: bootstrap intervals of differences."""

import numpy as np
import numpy.typing as npt

DRAWS = 10_000
Array = npt.NDArray[np.float64]


def bootstrap_mean(values: Array, rng: np.random.Generator) -> tuple[float, float]:
    """95 % percentile interval of the mean of ``values`` (n,), resampled over seeds."""
    means = rng.choice(values, (DRAWS, len(values))).mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def bootstrap_difference(ours: Array, theirs: Array, rng: np.random.Generator) -> Array:
    """95 % percentile interval (2,) of mean(ours) - mean(theirs), seeds resampled on both sides.

    Sides need not have equally many seeds: they are not paired, as equal seeds draw different
    numbers in different programs.
    """
    a = rng.choice(ours, (DRAWS, len(ours))).mean(axis=1)
    b = rng.choice(theirs, (DRAWS, len(theirs))).mean(axis=1)
    return np.percentile(a - b, (2.5, 97.5))


def not_worse(ours: Array, theirs: Array, rng: np.random.Generator) -> bool:
    """Whether ``ours`` is not worse beyond the interval of the difference (ends on 0 or above)."""
    return bool(bootstrap_difference(ours, theirs, rng)[1] >= 0.0)


def band(curves: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Mean and 95 % interval (points,) of curves (seeds, points)."""
    index = rng.integers(len(curves), size=(1000, len(curves)))
    means = curves[index].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return curves.mean(axis=0), low, high
