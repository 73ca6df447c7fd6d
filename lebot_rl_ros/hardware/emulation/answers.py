"""What servos answer to requests, without time: the part that both protocols share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from lebot_rl_ros.hardware.emulation.memory import ByteArray, Rows
from lebot_rl_ros.hardware.emulation.servos import ServoBank
from lebot_rl_ros.hardware.packets import Packet as Packet

DELAY = 2e-6  # s per count of the return delay
MOST_KNOWN = 64  # requests


class Ear(Protocol):
    """A codec's parser that says whether it is in the middle of a packet."""

    @property
    def pending(self) -> bool:
        """Whether bytes wait for more."""

    def feed(self, data: bytes) -> Sequence[Packet]:
        """Take bytes, return the packets that they complete."""

    def reset(self) -> None:
        """Forget an unfinished packet."""


class Answer(NamedTuple):
    """Answers to one request, in the order in which they leave."""

    rows: Sequence[int]  # whose; -1: of several servos in one packet
    frames: Sequence[bytes]  # empty: of one who is not there


@dataclass
class SyncRead:
    """A sync read, ready: what does not change from one answer to the next."""

    select: Rows
    rows: list[int]
    block: slice  # of the memory
    out: ByteArray  # (servos, bytes of a frame)
    check: Callable[[ByteArray], ByteArray]  # check sums of what changes, (servos, 1 or 2)


@dataclass
class SyncWrite:
    """A sync write of goals, ready."""

    select: Rows
    ids: bytes
    address: int
    length: int
    size: int  # bytes of the whole request


class Answers(ABC):
    """All servos of a bank, as listeners to a stream of bytes."""

    ear: Ear

    def __init__(self, bank: ServoBank, on_full_read: Callable[[], None] | None) -> None:
        """Answer for these servos; ``on_full_read`` is called before all are read."""
        self.bank, self._on_full_read = bank, on_full_read
        self.listeners: dict[int, list[int]] = {}  # rows by id
        self.delays: list[float] = []  # s, by row
        self._all_ids: frozenset[int] = frozenset()
        self._baud: int | None = None
        self._version = -1
        self._registered: dict[int, tuple[int, bytes]] = {}  # writes that wait for an action
        self._known: dict[bytes, bytes] = {}  # params of sync reads by the whole request
        self._reads: dict[bytes, SyncRead] = {}  # by params
        self._writes: dict[bytes, SyncWrite] = {}  # by what comes before the first id
        position = bank.table['present_position']
        self._position = range(position.address, position.address + position.size)

    def tune(self, baud: int | None) -> None:
        """The client talks at this rate, which some may not hear."""
        if baud != self._baud or self.bank.version != self._version:
            self._baud, self._version = baud, self.bank.version
            self.listeners = self.bank.listeners(baud)
            self.delays = (self.bank.raw('return_delay') * DELAY).tolist()
            self._all_ids = frozenset(self.bank.raw('id').tolist())
            self._forget()

    def take(self, data: bytes) -> Iterator[Answer]:
        """Obey the requests in ``data``, in their order, and answer them."""
        while data and not self.ear.pending:
            self.tune(self._baud)  # the request before may have changed who answers to what
            used, answer = self._quick(data)
            if not used:
                break
            data = data[used:]
            if answer is not None:
                yield answer
        if not data:
            return
        for request in self.ear.feed(data):
            self.tune(self._baud)
            answer = self._handle(request)
            if answer is not None:
                yield answer

    def _forget(self) -> None:
        """Drop what is kept ready: it may be answered otherwise now."""
        self._reads.clear()
        self._writes.clear()

    def _remember(self, request: bytes, params: bytes) -> None:
        """Know a sync read by its bytes when it comes again."""
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
            self._reads.clear()
        self._known[request] = params

    @abstractmethod
    def _quick(self, data: bytes) -> tuple[int, Answer | None]:
        """Obey a request at the start that was heard in this form before; 0 bytes: none is."""

    @abstractmethod
    def _handle(self, request: Packet) -> Answer | None:
        """Obey any request."""

    def _announce(self, ids: Iterable[int], address: int, length: int) -> None:
        """Tell of a read if it is one of the whole feedback of all servos."""
        if self._on_full_read is None or not self.listeners:
            return
        covered = address <= self._position.start and self._position.stop <= address + length
        if covered and length >= self.bank.feedback[1] and self._all_ids <= set(ids):
            self._on_full_read()
            self.tune(self._baud)  # whatever has happened meanwhile

    def _one_each(self, ids: bytes) -> list[int] | None:
        """Rows of these ids; None if somebody is not there, or is there twice."""
        found = [self.listeners.get(id, ()) for id in ids]
        rows = [few[0] for few in found if len(few) == 1]
        return rows if rows and len(set(rows)) == len(found) else None

    def _each(self, ids: Iterable[int], make: Callable[[int, int], bytes]) -> Answer:
        """One answer per id, of ``make(row, id)``; those of several on one id run together."""
        rows, frames = [], []
        for id in ids:
            found = self.listeners.get(id, ())
            rows.append(found[0] if found else -1)
            frames.append(collide([make(row, id) for row in found]))
        return Answer(rows, frames)


def collide(frames: Sequence[bytes]) -> bytes:
    """What is on an open-collector line when several talk at once: 0 wins."""
    if len(frames) < 2:
        return frames[0] if frames else b''
    longest = max(map(len, frames))
    padded = b''.join(frame.ljust(longest, b'\xff') for frame in frames)
    lines = np.frombuffer(padded, np.uint8).reshape(len(frames), longest)
    return bytes(np.bitwise_and.reduce(lines, axis=0))


def selection(rows: list[int]) -> Rows:
    """An index for rows of an array: a slice, which is faster, where they follow each other."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return np.array(rows)
