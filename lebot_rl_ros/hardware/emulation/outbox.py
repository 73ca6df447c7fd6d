"""When bytes leave a bus: the time they take on the wire, and what a USB adapter adds."""

import math
from collections.abc import Sequence
from operator import itemgetter

BITS = 10  # of a byte on the wire: start, eight, stop
_time = itemgetter(0)
PAYLOAD = 62  # bytes of a USB packet of the common adapter, after which it does not wait


class Outbox:
    """Answers in the order in which they leave. Times in s of one clock, bytes by their end.

    With a latency timer, what has come in is handed over when the timer fires or a USB packet is
    full, whichever is first; the timer runs freely and starts anew with each hand-over.
    """

    def __init__(self, latency_timer: float = 0.0) -> None:
        """Nothing is under way."""
        self._latency = latency_timer
        self._free = -math.inf  # when the wire, which is half-duplex, is free again
        self._queue: list[tuple[float, bytes]] = []  # by time
        self._gathered = b''  # in the adapter
        self._fires = math.nan

    def hear(self, now: float, count: int, baud: int | None) -> None:
        """A request of ``count`` bytes begins to arrive; without ``baud`` it takes no time."""
        self._free = max(now, self._free) + (count * BITS / baud if baud else 0.0)
        if self._latency and math.isnan(self._fires):
            self._fires = now + self._latency

    def slots(
        self, delays: Sequence[float], frames: Sequence[bytes], baud: int | None
    ) -> list[tuple[float, bytes]]:
        """When answers that follow each other leave.

        Args:
            delays: s that each servo waits before its answer.
            frames: the answers; an empty one is somebody's who is not there, and whose place
                among the others is left free.
            baud: of the wire; without it, bytes take no time.
        """
        byte = BITS / baud if baud else 0.0
        longest = max(map(len, frames), default=0)
        timed = []
        for delay, frame in zip(delays, frames, strict=True):
            self._free += delay + (len(frame) or longest) * byte
            timed.append((self._free, frame))
        return timed

    def put(self, timed: Sequence[tuple[float, bytes]]) -> None:
        """Let these leave at their times."""
        self._queue += timed
        self._queue.sort(key=_time)  # they nearly always are, and then this costs nothing

    @property
    def free(self) -> float:
        """When the wire is free."""
        return self._free

    @property
    def due(self) -> float | None:
        """When to call :meth:`take` next; None if nothing is under way."""
        if self._gathered:
            return min(self._fires, self._queue[0][0]) if self._queue else self._fires
        return self._queue[0][0] if self._queue else None

    def take(self, now: float) -> bytes:
        """What reaches the client by now."""
        out = b''
        while self._queue and self._queue[0][0] <= now:
            time, frame = self._queue.pop(0)
            if not self._latency:
                out += frame
                continue
            out += self._fire(time)
            self._gathered += frame
            full = len(self._gathered) // PAYLOAD * PAYLOAD
            if full:
                out += self._gathered[:full]
                self._gathered = self._gathered[full:]
                self._fires = time + self._latency
        return out + self._fire(now) if self._latency else out

    def _fire(self, now: float) -> bytes:
        if not now >= self._fires:
            return b''
        self._fires += (math.floor((now - self._fires) / self._latency) + 1) * self._latency
        out, self._gathered = self._gathered, b''
        return out

    def clear(self) -> None:
        """The cable is out: what was under way is lost."""
        self._queue.clear()
        self._gathered = b''
