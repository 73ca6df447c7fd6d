"""Which recorded segments may be compared, and what a score says of them.

Only segments under like commands are compared, step by step: what turns looks worse than what goes
straight, and is not.
"""

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.learning.groups import SPREAD
from lebot_rl_ros.learning.method import Array, BoolArray
from lebot_rl_ros.learning.offline.segments import FloatArray, Pieces

LIKE = (0.05, 0.1)  # m/s and rad/s that commands of a pair may differ by
JUDGES = ('falls', 'return', 'term:NAME')


def like(first: Array, second: Array, tolerance: tuple[float, float] = LIKE) -> bool:
    """Whether commands (L, 2) and (M, 2) are alike in every step that both have."""
    length = min(len(first), len(second))
    difference = np.abs(first[:length].astype(np.float64) - second[:length])
    return bool((difference <= np.asarray(tolerance) * (1.0 + SPREAD)).all())


def draw_like(
    pieces: Pieces,
    pairs: int,
    rng: np.random.Generator,
    *,
    tolerance: tuple[float, float] = LIKE,
    among: BoolArray | None = None,
    against: BoolArray | None = None,
) -> npt.NDArray[np.int64]:
    """Draw different pairs (P, 2) of segments under like commands, each segment about as often.

    Args:
        pieces: to compare.
        pairs: how many at most; where there are fewer, there are fewer.
        rng: of the draws.
        tolerance: m/s and rad/s that the commands of a step may differ by.
        among: (S,) one of each pair is one of these; all without it.
        against: (S,) and the other one of these; all without it.

    Raises:
        ValueError: there is no such pair.
    """
    count = len(pieces)
    firsts = np.arange(count) if among is None else np.flatnonzero(among)
    able = np.ones(count, dtype=bool) if against is None else against
    alike = _Alike(pieces, tolerance)
    partners: list[set[int]] = [set() for _ in range(count)]
    found: list[tuple[int, int]] = []
    while len(found) < pairs and len(firsts):
        left = []
        for first in rng.permutation(firsts).tolist():
            fit = able & alike(first)
            fit[[first, *partners[first]]] = False
            others = np.flatnonzero(fit)
            if not len(others):
                continue
            second = int(rng.choice(others))
            partners[first].add(second)
            partners[second].add(first)
            found.append((first, second) if rng.random() < 0.5 else (second, first))
            left.append(first)
            if len(found) == pairs:
                break
        firsts = np.array(left, dtype=np.int64)
    if not found:
        raise ValueError(
            f'no two of {count} segments were under like commands (within {tolerance[0]:g} m/s '
            f'and {tolerance[1]:g} rad/s) and differ; record more, or take shorter segments'
        )
    return np.array(found, dtype=np.int64)


def scores(pieces: Pieces, by: str) -> FloatArray:
    """What a judge gives each segment, (S,): the higher, the better.

    Args:
        pieces: to judge.
        by: 'falls' (-1 for one), 'return', or 'term:NAME' of the recorded reward.

    Raises:
        ValueError: there is no such judge or term.
    """
    if by == 'falls':
        return -pieces.fell.astype(np.float64)
    if by == 'return':
        return pieces.returns
    kind, _, name = by.partition(':')
    if kind != 'term' or not name:
        raise ValueError(f'the judge is {by!r}; choices are {", ".join(JUDGES)}')
    return pieces.term(name)


def better(values: FloatArray, pairs: Array, margin: float = 0.0) -> npt.NDArray[np.float32]:
    """1 where the first of a pair has the higher score, 0 the second, 0.5 a tie: (P,).

    Args:
        values: (S,) scores.
        pairs: (P, 2) rows of them.
        margin: standard deviations of the scores that are still a tie.

    Raises:
        ValueError: the margin is negative.
    """
    if not margin >= 0.0:
        raise ValueError(f'margin is {margin}, must be 0 or more')
    difference = values[pairs[:, 0]] - values[pairs[:, 1]]
    tie = np.abs(difference) <= margin * float(values.std()) if len(values) else difference == 0.0
    return np.where(tie, 0.5, difference > 0.0).astype(np.float32)


def split_pairs(pairs: Array, share: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Rows of the pairs to learn from, and of those to judge by; they share no segment.

    Segments are set apart in whole pairs: who draws them one by one finds hardly two that were
    compared. Pairs of which one segment is set apart are in neither.

    Args:
        pairs: (P, 2) segments.
        share: of the segments, to judge by; 0, or fewer than ten pairs, leaves all to learn from.
        rng: of the draws.
    """
    apart = np.zeros(int(pairs.max(initial=-1)) + 1, dtype=bool)
    wanted = share * len(np.unique(pairs)) if len(pairs) >= 10 else 0.0
    for pair in rng.permutation(pairs):
        if apart.sum() >= wanted:
            break
        apart[pair] = True
    inside = apart[pairs]
    return np.flatnonzero(~inside.any(axis=1)), np.flatnonzero(inside.all(axis=1))


class _Alike:
    """Which segments (S,) were under commands like those of one of them.

    Most segments share a few series of commands, so series are compared, not segments.
    """

    def __init__(self, pieces: Pieces, tolerance: tuple[float, float]) -> None:
        series = np.full((len(pieces), int(pieces.steps.max(initial=1)), 2), np.inf)
        for i in range(len(pieces)):
            rows = pieces.rows(i)
            series[i, : len(rows)] = rows['command']
        flat, self._number = np.unique(
            series.reshape(len(pieces), -1), axis=0, return_inverse=True
        )
        self._number = self._number.reshape(-1)  # numpy 2.0 gave it another shape
        self._series = flat.reshape(len(flat), -1, 2)
        self._tolerance = np.asarray(tolerance) * (1.0 + SPREAD)
        self._known: dict[int, BoolArray] = {}

    def __call__(self, segment: int) -> BoolArray:
        number = int(self._number[segment])
        if number not in self._known:
            with np.errstate(invalid='ignore'):
                apart = np.abs(self._series - self._series[number])
            # Infinite, or no number, is what only one of them has, or none.
            off = np.isfinite(apart) & (apart > self._tolerance)
            self._known[number] = ~off.any(axis=(1, 2))
        return self._known[number][self._number]
