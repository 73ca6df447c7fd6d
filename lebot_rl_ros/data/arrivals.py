"""Rows of one topic as they arrive, brought into the order of their stamps."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NEVER = -(1 << 61)  # ns, before every stamp


class Arrivals:
    """Sorted rows, each stamp once. What is too late or known already is counted and left out.

    All judgements follow from the sequence of arrivals alone, so that rows given one by one and
    rows given at once end the same way. Rows are kept as octets: numpy joins those faster.
    """

    def __init__(self, octets: int, window: int, restart: int, counts: dict[str, int]) -> None:
        """Wait for rows.

        Args:
            octets: length of a row.
            window: ns that a row may come behind one of a later stamp.
            restart: ns; a stamp further below the newest one begins a new stream.
            counts: ``late``, ``duplicates`` and ``conflicting`` are counted there.
        """
        self._window, self._restart, self._counts = window, restart, counts
        self._nothing: Array = np.zeros((0, octets), np.uint8)
        self._inbox: list[tuple[Array, Array]] = []
        self.begin()

    def begin(self, former: int = NEVER) -> None:
        """Begin a new stream; stragglers of one that ended about ``former`` (ns) are late."""
        self.newest, self._former = NEVER, former
        self.rows = self._nothing  # (N, octets)
        self.stamps: Array = np.zeros(0, np.int64)  # (N,) ns

    def put(self, rows: Array, stamps: Array, fits: Array) -> None:
        """Keep rows (N, octets) and their stamps (N,) that fit (N,) for the next :meth:`admit`."""
        if not fits.all():
            rows, stamps = rows[fits], stamps[fits]
        if len(rows):
            self._inbox.append((rows, stamps))

    @property
    def edge(self) -> int:
        """No row with a stamp (ns) up to here can come any more."""
        return self.newest - self._window

    def admit(self, done: int) -> bool:
        """Take in what was put, up to where the clock jumps back; whether it does.

        Args:
            done: rows up to this stamp (ns) have been dealt with.
        """
        if not self._inbox:
            return False
        rows, stamps = self._inbox[0]
        if len(self._inbox) > 1:
            rows, stamps = (np.concatenate(part) for part in zip(*self._inbox, strict=True))
        self._inbox = []
        if self._former != NEVER:
            strange = np.abs(stamps - self._former) > self._window
            old = int(strange.argmax()) if strange.any() else len(rows)
            self._counts['late'] += old
            rows, stamps = rows[old:], stamps[old:]
            if not len(rows):
                return False
            self._former = NEVER
        reached = np.concatenate(([self.newest], stamps))
        np.maximum.accumulate(reached, out=reached)
        behind = reached[:-1] - stamps
        jump = bool(behind.max() > self._restart)
        if jump:
            first = int((behind > self._restart).argmax())
            self._inbox = [(rows[first:], stamps[first:])]
            rows, stamps = rows[:first], stamps[:first]
            reached, behind = reached[: first + 1], behind[:first]
        self.newest = int(reached[-1])
        late = behind >= self._window
        if late.any():
            self._counts['late'] += int(late.sum())
            rows, stamps = rows[~late], stamps[~late]
        if len(rows):
            self._merge(rows, stamps, done)
        return jump

    def _merge(self, rows: Array, stamps: Array, done: int) -> None:
        start = len(self.stamps)
        all_rows, all_stamps = rows, stamps
        if start:
            all_rows = np.concatenate((self.rows, rows))
            all_stamps = np.concatenate((self.stamps, stamps))
        if stamps[0] > done and (all_stamps[1:] > all_stamps[:-1]).all():
            self.rows, self.stamps = all_rows, all_stamps
            return
        order = np.argsort(all_stamps, kind='stable')  # of a stamp, the first to arrive is first
        ordered = all_stamps[order]
        again = np.concatenate(([False], ordered[1:] == ordered[:-1]))
        if again.any():
            first = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))
            same = (all_rows[order[again]] == all_rows[order[first[again]]]).all(axis=1)
            self._counts['duplicates'] += int(same.sum())
            self._counts['conflicting'] += int((~same).sum())
        # What is new, but belongs to a time that has been dealt with, comes too late.
        late = ~again & (order >= start) & (ordered <= done)
        self._counts['late'] += int(late.sum())
        keep = order[~again & ~late]
        self.rows, self.stamps = all_rows[keep], all_stamps[keep]

    def forget(self, done: int) -> None:
        """Drop what has been dealt with, up to ``done`` ns, and cannot come again."""
        gone = int(self.stamps.searchsorted(min(done, self.edge), side='right'))
        if gone:  # copies, or the memory of what is gone would be kept
            self.rows, self.stamps = self.rows[gone:].copy(), self.stamps[gone:].copy()


def inside_another(keys: Array, following: Array, expected: int) -> Array | None:
    """Stamps (K,) that lie before the end of the step before them: two policies speak."""
    if not (keys < np.concatenate(([expected], following[:-1]))).any():
        return None
    inside, end = np.zeros(len(keys), bool), expected
    for i, (key, after) in enumerate(zip(keys.tolist(), following.tolist(), strict=True)):
        inside[i] = key < end
        end = end if inside[i] or after == NEVER else after
    return inside


def find(among: Array, wanted: Array) -> tuple[Array, Array]:
    """Index (N,) of each wanted stamp in sorted ones, and whether (N,) it is there."""
    if not len(among):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), bool)
    index = np.minimum(among.searchsorted(wanted), len(among) - 1)
    return index, among[index] == wanted
