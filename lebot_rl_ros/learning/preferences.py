"""Which of two pieces of behaviour is better: segments, pairs, labels.

Whoever can compare may label: a return, a function of ours, a person (Christiano et al., arXiv
1706.03741). A segment is kept once, however many pairs it is in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from lebot_rl_ros.learning.episodes import Episodes
from lebot_rl_ros.learning.method import Array, BoolArray


@dataclass(frozen=True)
class Segments:
    """S pieces of trajectories, padded with zeros to L steps."""

    observations: Array  # (S, L, ...) as the policy saw them, when each step began
    actions: Array  # (S, L, ...) as sampled
    rewards: Array  # (S, L) float32; zeros where nobody measured them
    lengths: Array  # (S,) int64, steps that count; the rest is padding

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: shapes, lengths or values that cannot be.
        """
        shape = np.shape(self.rewards)
        if len(shape) != 2:
            raise ValueError(f'rewards has shape {shape}, must be (segments, steps)')
        for name in ('observations', 'actions'):
            found = np.shape(getattr(self, name))[:2]
            if found != shape:
                raise ValueError(f'{name} begins with shape {found}, rewards has {shape}')
        if np.shape(self.lengths) != shape[:1] or self.lengths.dtype != np.int64:
            raise ValueError(
                f'lengths is {self.lengths.dtype} of shape {np.shape(self.lengths)}, '
                f'must be int64 of {shape[:1]}'
            )
        if len(self.lengths) and not 1 <= self.lengths.min() <= self.lengths.max() <= shape[1]:
            raise ValueError(
                f'lengths are from {self.lengths.min()} to {self.lengths.max()}, '
                f'must be from 1 to {shape[1]}'
            )
        for name in ('observations', 'actions', 'rewards'):
            value = getattr(self, name)
            bad = np.flatnonzero(~np.isfinite(value).reshape(len(value), -1).all(axis=1))
            if len(bad):
                raise ValueError(f'{name} of segments {bad[:5].tolist()} is not finite')

    def __len__(self) -> int:
        """Return the number of segments, S."""
        return len(self.lengths)

    @property
    def mask(self) -> BoolArray:
        """(S, L) which steps count."""
        return np.arange(self.rewards.shape[1]) < self.lengths[:, None]

    @property
    def returns(self) -> Array:
        """(S,) float64 sums of the rewards."""
        return np.asarray(np.sum(self.rewards * self.mask, axis=1, dtype=np.float64))

    def take(self, index: Array) -> 'Segments':
        """Some of them, in the order given."""
        return Segments(*(getattr(self, entry.name)[index] for entry in fields(self)))


Score = Callable[[Segments], Array]  # (S,) the higher, the better


@dataclass(frozen=True)
class Preferences:
    """P pairs of segments, and which is better."""

    segments: Segments
    pairs: Array  # (P, 2) int64, rows of `segments`
    preferred: Array  # (P,) float32: 1 the first is better, 0 the second, 0.5 neither, or between

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: shapes, rows or labels that cannot be.
        """
        if self.pairs.ndim != 2 or self.pairs.shape[1] != 2 or self.pairs.dtype != np.int64:
            raise ValueError(
                f'pairs is {self.pairs.dtype} of shape {self.pairs.shape}, must be int64 of (P, 2)'
            )
        if self.preferred.shape != self.pairs.shape[:1]:
            raise ValueError(
                f'preferred has shape {self.preferred.shape}, must be {self.pairs.shape[:1]}'
            )
        if len(self.pairs) and not 0 <= self.pairs.min() <= self.pairs.max() < len(self.segments):
            raise ValueError(
                f'pairs name segments {self.pairs.min()} to {self.pairs.max()}, '
                f'there are 0 to {len(self.segments) - 1}'
            )
        if not ((self.preferred >= 0.0) & (self.preferred <= 1.0)).all():  # NaN fails too
            raise ValueError('preferred has labels outside 0 to 1')

    def __len__(self) -> int:
        """Return the number of pairs, P."""
        return len(self.preferred)


def pad(trajectories: Sequence[tuple[Array, Array, Array]]) -> Segments:
    """Put pieces of any lengths together: observations (l, ...), actions (l, ...), rewards (l,).

    Raises:
        ValueError: there are none.
    """
    if not trajectories:
        raise ValueError('no trajectories to put together; at least 1 is needed')
    lengths = np.array([len(rewards) for _, _, rewards in trajectories], dtype=np.int64)
    columns = []
    for column in zip(*trajectories, strict=True):
        first = np.asarray(column[0])
        padded = np.zeros((len(lengths), int(lengths.max()), *first.shape[1:]), dtype=first.dtype)
        for row, piece in zip(padded, column, strict=True):
            row[: len(piece)] = piece
        columns.append(padded)
    return Segments(columns[0], columns[1], columns[2].astype(np.float32), lengths)


def of_episodes(episodes: Episodes, steps: int = 0) -> tuple[Segments, Array]:
    """Cut episodes into segments; those, and the groups (S,) of their episodes.

    Args:
        episodes: that were played.
        steps: of a segment, at most; 0 takes whole episodes.
    """
    pieces, groups = [], []
    ends = np.cumsum(episodes.lengths)
    for end, length, group in zip(ends, episodes.lengths, episodes.groups, strict=True):
        for start in range(end - length, end, steps or length):
            piece = slice(start, min(start + (steps or length), end))
            rewards = episodes.rewards[piece]
            pieces.append((episodes.observations[piece], episodes.actions[piece], rewards))
            groups.append(group)
    return pad(pieces), np.array(groups)


def bradley_terry(first: Array, second: Array, temperature: float = 1.0) -> Array:
    """Probability that the first is preferred, by scores (P,): sigmoid of their difference.

    Bradley and Terry, Biometrika 39 (1952). The higher the ``temperature`` (units of the score),
    the more often the worse is chosen; at 0 the better always is, and of equals neither (0.5).
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if temperature == 0.0:
        return 0.5 + 0.5 * np.sign(difference)
    return 0.5 * (1.0 + np.tanh(0.5 * difference / temperature))  # a sigmoid without overflow


def draw_pairs(groups: Array, pairs: int, rng: np.random.Generator) -> Array:
    """Draw pairs (P, 2) of different segments of one group; of a group, each pair as likely.

    Args:
        groups: (S,) of the segments; only what began alike should be compared.
        pairs: how many, P.
        rng: of the draws.

    Raises:
        ValueError: no group has two segments.
    """
    order = np.argsort(groups, kind='stable')
    _, begin, count = np.unique(groups[order], return_index=True, return_counts=True)
    place = np.repeat(np.arange(len(count)), count)  # group of each segment in `order`
    able = np.flatnonzero(count[place] >= 2)
    if not len(able):
        raise ValueError(
            f'{len(groups)} segments cannot be paired; at least 2 of a group are needed'
        )
    first = rng.choice(able, size=pairs)
    begin, count = begin[place[first]], count[place[first]]
    second = begin + (first - begin + rng.integers(1, count)) % count
    return order[np.stack([first, second], axis=1)]


def label(
    segments: Segments,
    pairs: Array,
    *,
    score: Score | None = None,
    temperature: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Preferences:
    """Let a score compare segments, as a Bradley-Terry judge would.

    Args:
        segments: to compare.
        pairs: (P, 2) of their rows.
        score: of each segment; its return where none is given.
        temperature: of the judge, in units of the score; 0 never errs.
        rng: draws answers of 1 or 0 (or 0.5, of equals at temperature 0); without it the labels
            are the probabilities themselves, as of very many judges.

    Raises:
        ValueError: the score is not finite, or not one number a segment.
    """
    scores = np.asarray(segments.returns if score is None else score(segments))
    if scores.shape != (len(segments),) or not np.isfinite(scores).all():
        raise ValueError(
            f'scores have shape {scores.shape}, must be {(len(segments),)} and finite'
        )
    chance = bradley_terry(scores[pairs[:, 0]], scores[pairs[:, 1]], temperature)
    if rng is not None and temperature > 0.0:
        chance = rng.random(len(chance)) < chance
    return Preferences(segments, pairs, np.asarray(chance, dtype=np.float32))
