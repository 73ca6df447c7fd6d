"""Rows of a bag through the joiner of the live learner, as they arrived, but many at once.

Whatever a joiner is given at once ends as if it came row by row, with two exceptions: a clock that
jumps back in one topic before it does in the other, and a topic that lags so far behind that the
joiner no longer waits. Only there rows are given one by one.
"""

from copy import deepcopy
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.reader import Records
from lebot_rl_ros.data.joining import Joiner

BLOCK = 1 << 15  # rows at once
LAG = 10  # periods between the two topics up to which no row is near to being given up

Numbers = npt.NDArray[np.int64]


def join_as_live(
    join: Joiner, steps: Records, rewards: Records, period: int
) -> tuple[npt.NDArray[np.void], dict[str, int]]:
    """Transitions of two topics, and the joiner's counts, as of a learner that took each row.

    Args:
        join: a new joiner for these rows; it is used up.
        steps: rows of `policy/steps`.
        rewards: rows of `reward/rewards`.
        period: ns of a control step.
    """
    topics = (steps, rewards)
    times = np.concatenate([topic.log_times for topic in topics])
    places = np.concatenate([topic.places for topic in topics])
    arrival = np.lexsort((places, times))
    which = (arrival >= len(steps.rows)).astype(np.int8)  # topic of each arrival
    stamps = np.concatenate([_stamps(topic.rows) for topic in topics])[arrival]
    calm = _lag(which, stamps) <= LAG * period
    at, taken = [0, 0], [join.take()]  # rows given so far; what came out
    for start, end in _blocks(calm):
        counts = np.bincount(which[start:end], minlength=2)
        after = [a + int(n) for a, n in zip(at, counts, strict=True)]
        if calm[start]:
            before, restarts = deepcopy(join), join.counts['restarts']
            join.steps(steps.rows[at[0] : after[0]])
            join.rewards(rewards.rows[at[1] : after[1]])
            out = join.take()
            if join.counts['restarts'] == restarts:
                taken.append(out)
                at = after
                continue
            join = before
        for topic in which[start:end].tolist():
            row = topics[topic].rows[at[topic]]
            (join.rewards if topic else join.steps)(row)
            at[topic] += 1
            out = join.take()
            if len(out):
                taken.append(out)
    taken.append(join.flush())
    return np.concatenate(taken), dict(join.counts)


def _stamps(rows: npt.NDArray[np.void]) -> Numbers:
    stamps: Numbers = rows['sec'].astype(np.int64) * 1_000_000_000 + rows['nanosec']
    return stamps


def _lag(which: npt.NDArray[np.int8], stamps: Numbers) -> Numbers:
    """Nanoseconds between the newest rows of both topics (N,), after each arrival."""
    newest = []
    for topic in (0, 1):
        last = np.where(which == topic, np.arange(len(which)), 0)  # the first stands for none
        newest.append(stamps[np.maximum.accumulate(last)])
    lag: Numbers = np.abs(newest[0] - newest[1])
    return lag


def _blocks(calm: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches of arrivals that are all calm, or all not, and not too long."""
    edges = [0, *(np.flatnonzero(np.diff(calm)) + 1).tolist(), len(calm)]
    return [
        (at, min(at + BLOCK, end))
        for start, end in pairwise(edges)
        for at in range(start, end, BLOCK)
    ]
