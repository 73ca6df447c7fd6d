"""Many numbers as few, so that an hour is drawn in seconds, and no peak is lost."""

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]


def envelope(time: Numbers, values: Numbers, bins: int = 1200) -> tuple[Numbers, Numbers, Numbers]:
    """Smallest and largest of every bin, so that no peak is lost however long the bag is.

    Args:
        time: (N,).
        values: (N,); NaN is left out, and stays where a bin has nothing else.
        bins: at most so many; with fewer values every one is its own bin.

    Returns:
        Times (B,) of the first value of each bin, smallest (B,) and largest (B,).
    """
    if len(values) <= bins:
        return time, values, values
    edges = np.linspace(0, len(values), bins, endpoint=False).astype(int)
    return time[edges], np.fmin.reduceat(values, edges), np.fmax.reduceat(values, edges)


def thin(time: Numbers, values: Numbers, bins: int = 1200) -> tuple[Numbers, Numbers]:
    """A line through the envelope: smallest and largest of every bin in turn, (2 B,) each."""
    if len(values) <= 2 * bins:
        return time, values
    at, low, high = envelope(time, values, bins)
    return np.repeat(at, 2), np.stack((low, high), axis=1).ravel()


def mean_over(time: Numbers, values: Numbers, seconds: float) -> Numbers:
    """Running mean (N,) over a centred window; at the two ends over what there is of it."""
    if len(values) < 2:
        return values
    sums = np.concatenate(([0.0], np.cumsum(np.nan_to_num(values))))
    counts = np.concatenate(([0], np.cumsum(np.isfinite(values))))
    low = np.searchsorted(time, time - seconds / 2, side='left')
    high = np.searchsorted(time, time + seconds / 2, side='right')
    found = np.maximum(counts[high] - counts[low], 1)
    out: Numbers = (sums[high] - sums[low]) / found
    return out
