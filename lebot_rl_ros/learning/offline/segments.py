"""Short pieces of recorded walks, to be compared with each other.

A segment is so many steps of one walk without a cut: N of them, or fewer where a walk ended in a
fall before it had N. No network here, and no disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.joining import learnable, trajectories
from lebot_rl_ros.learning.method import Array, BoolArray
from lebot_rl_ros.learning.preferences import Segments

FloatArray = npt.NDArray[np.float64]


class Recording(Protocol):
    """What is asked of a recorded walk; ``data.bag.transitions.Recorded`` is one."""

    @property
    def path(self) -> str | Path:
        """Where it lies."""

    @property
    def sha256(self) -> str:
        """Of what was recorded."""

    @property
    def rows(self) -> Array:
        """(N,) ``data.rows.transition_dtype``."""


@dataclass(frozen=True)
class Piece:
    """Which steps of which recording: what a file of answers says of a segment."""

    bag: str  # sha256
    stamp: int  # ns, of the state that its first step began with
    steps: int
    name: str = field(default='', compare=False)  # of the recording, for people


@dataclass(frozen=True, eq=False)
class Pieces:
    """S segments of some recordings, as places in their rows; nothing is copied."""

    recordings: tuple[Array, ...] = field(repr=False)  # learnable rows of each
    hashes: tuple[str, ...]  # of each recording
    names: tuple[str, ...]  # likewise, for people
    source: npt.NDArray[np.int64]  # (S,) which recording
    start: npt.NDArray[np.int64]  # (S,) first row in it
    steps: npt.NDArray[np.int64]  # (S,)

    def __len__(self) -> int:
        """Return the number of segments, S."""
        return len(self.steps)

    def rows(self, index: int) -> Array:
        """Rows (L,) of one segment."""
        start = int(self.start[index])
        return self.recordings[self.source[index]][start : start + int(self.steps[index])]

    def piece(self, index: int) -> Piece:
        """What a file says of one."""
        rows, source = self.rows(index), self.source[index]
        stamp = int(rows['stamp'][0])
        return Piece(self.hashes[source], stamp, len(rows), self.names[source])

    def find(self, piece: Piece) -> 'Pieces':
        """One segment by what a file says of it; it may be of any length, cut anywhere.

        Raises:
            ValueError: no such recording, or no such steps without a cut in it.
        """
        if piece.bag not in self.hashes:
            raise ValueError(f'there is no recording {piece.bag[:12]}')
        source = self.hashes.index(piece.bag)
        rows = self.recordings[source]
        for start in np.flatnonzero(rows['stamp'] == piece.stamp).tolist():
            part = rows[start : start + piece.steps]
            if len(part) == piece.steps and len(trajectories(part)) == 1:
                return Pieces(
                    self.recordings, self.hashes, self.names,
                    np.array([source]), np.array([start]), np.array([piece.steps]),
                )  # fmt: skip
        raise ValueError(
            f'recording {piece.bag[:12]} has no {piece.steps} steps without a cut from '
            f'{piece.stamp / 1e9:.3f} s on'
        )

    @cached_property
    def fell(self) -> BoolArray:
        """(S,) whether it ended in a fall."""
        return np.array([bool(self.rows(i)['terminated'][-1]) for i in range(len(self))], bool)

    @cached_property
    def returns(self) -> FloatArray:
        """(S,) sums of the rewards."""
        return np.array([self.rows(i)['reward'].sum(dtype=np.float64) for i in range(len(self))])

    def term(self, name: str) -> FloatArray:
        """(S,) means over the steps of one weighted term of the reward: the higher, the better.

        Raises:
            ValueError: a recording lacks it, or it is 0 in all of them.
        """
        for rows in self.recordings:
            known = _terms(rows.dtype)
            if name not in known:
                raise ValueError(f'there is no term {name!r}; the recorded ones are {known}')
        found = np.array([self.rows(i)[name].mean(dtype=np.float64) for i in range(len(self))])
        if len(found) and not found.any():
            raise ValueError(
                f'term {name} is 0 in all {len(found)} segments: it had no weight when that was '
                f'recorded; `lebot bag reward` works it out again with another one'
            )
        return found


def whole(recordings: Sequence[Recording]) -> Pieces:
    """Take recordings as they are, to :meth:`Pieces.find` segments in; it has none itself.

    Raises:
        ValueError: one stands twice, or they are of several bases or robots.
    """
    hashes = tuple(recording.sha256 for recording in recordings)
    for recording in recordings:
        if hashes.count(recording.sha256) > 1:
            raise ValueError(f'{recording.path} was given twice ({recording.sha256[:12]})')
    kept = tuple(recording.rows[learnable(recording.rows)] for recording in recordings)
    kinds: dict[tuple[str, int, int], str | Path] = {}
    for recording, rows in zip(recordings, kept, strict=True):
        widths = rows.dtype['observation'].shape[0], rows.dtype['action'].shape[0]
        for base in np.unique(rows['base_sha256'], axis=0):
            kinds.setdefault((base.tobytes().hex()[:12], *widths), recording.path)
    if len(kinds) > 1:
        named = '; '.join(
            f'{where}: base {base}, {seen} observations, {joints} joints'
            for (base, seen, joints), where in kinds.items()
        )
        raise ValueError(f'recordings of several bases or robots cannot be compared: {named}')
    nothing = np.zeros(0, dtype=np.int64)
    return Pieces(
        kept,
        hashes,
        tuple(Path(recording.path).name for recording in recordings),
        nothing, nothing, nothing,
    )  # fmt: skip


def cut(recordings: Sequence[Recording], steps: int) -> Pieces:
    """Cut every walk into segments, from its end backwards, so that a fall ends one.

    Args:
        recordings: to cut.
        steps: of a segment, N. A walk that fell before it had so many is one segment.

    Raises:
        ValueError: N is not positive, one recording stands twice, or no walk is so long.
    """
    if steps < 1:
        raise ValueError(f'a segment of {steps} steps; there must be at least 1')
    bags = whole(recordings)
    kept = bags.recordings
    found: list[tuple[int, int, int]] = []
    longest = 0
    for source, rows in enumerate(kept):
        for walk in trajectories(rows):
            length = walk.stop - walk.start
            longest = max(longest, length)
            first = walk.start + length % steps
            found += [(source, start, steps) for start in range(first, walk.stop, steps)]
            if length < steps and rows['terminated'][walk.stop - 1]:
                found.append((source, walk.start, length))
    if not found:
        raise ValueError(
            f'no walk has {steps} steps without a cut, the longest of {len(kept)} recordings has '
            f'{longest}; take shorter segments'
        )
    places = np.array(found, dtype=np.int64)
    return replace(bags, source=places[:, 0], start=places[:, 1], steps=places[:, 2])


def padded(pieces: Pieces) -> tuple[Segments, npt.NDArray[np.float32]]:
    """Put segments together as learning takes them; those, and the spread (S, L, J) of actions.

    Where a segment is shorter than L there are zeros, and a spread of 1.
    """
    longest = int(pieces.steps.max(initial=1))
    rows = pieces.recordings[0]
    observation, joints = rows.dtype['observation'].shape[0], rows.dtype['action'].shape[0]
    shape = (len(pieces), longest)
    seen = np.zeros((*shape, observation), dtype=np.float32)
    actions, std = (np.full((*shape, joints), fill, dtype=np.float32) for fill in (0.0, 1.0))
    rewards = np.zeros(shape, dtype=np.float32)
    for i in range(len(pieces)):
        part = pieces.rows(i)
        length = len(part)
        seen[i, :length], actions[i, :length] = part['observation'], part['action']
        rewards[i, :length], std[i, :length] = part['reward'], part['std']
    return Segments(seen, actions, rewards, pieces.steps.copy()), std


def joined(parts: Sequence[Pieces]) -> Pieces:
    """Segments of the same recordings, one after the other."""
    first = parts[0]
    places: Mapping[str, Array] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ('source', 'start', 'steps')
    }
    return Pieces(first.recordings, first.hashes, first.names, **places)


def _terms(dtype: np.dtype[np.void]) -> list[str]:
    """Names of the reward's terms: what a row has behind `follows`."""
    names = list(dtype.names or ())
    return names[names.index('follows') + 1 :]
