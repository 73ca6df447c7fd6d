"""Who the simulation waits for, and what it counts."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Participant:
    """A topic whose stamps the simulation does not leave behind."""

    slack: int  # ns that its stamps may lag
    stamp: int | None = None  # newest seen
    absent: bool = False  # it fell silent; waited for again once it speaks

    def speak(self, stamp: int) -> bool:
        """It sent this stamp; returns whether that is new."""
        fresh = self.stamp is None or stamp > self.stamp
        self.stamp, self.absent = stamp, False
        return fresh

    def reached(self, stamp: int) -> bool:
        """Whether the simulation may go on from ``stamp``."""
        return self.absent or self.answered(stamp)

    def answered(self, stamp: int) -> bool:
        """Whether its newest stamp is ``stamp``, less the slack, or newer."""
        return self.stamp is not None and self.stamp >= stamp - self.slack

    def give_up(self, stamp: int) -> bool:
        """Stop waiting for it if it has not answered; returns whether that is news."""
        news = not self.reached(stamp)
        self.absent = self.absent or news
        return news


@dataclass
class Tally:
    """Ticks, answers and falls of a run."""

    period: int  # ns
    ticks: int = 0
    missed: int = 0
    falls: int = 0
    _down: bool = False
    _latency: deque[float] = field(default_factory=lambda: deque(maxlen=100_000))

    def tick(self, *, missed: bool) -> None:
        """A control period begins; ``missed`` if no command answers the last state."""
        self.ticks += 1
        self.missed += missed

    def answer(self, seconds: float) -> None:
        """A command came this long after its state was published."""
        self._latency.append(seconds)

    def observe(self, down: bool) -> None:
        """Whether the robot lies on its side; going down counts as one fall."""
        self.falls += bool(down) and not self._down
        self._down = bool(down)

    def values(self) -> dict[str, object]:
        """The counts, and quantiles of the latency in ms."""
        p50, p99 = (
            np.percentile(self._latency, (50, 99)) * 1e3 if self._latency else (float('nan'),) * 2
        )
        return {
            'ticks': self.ticks,
            'missed_ticks': self.missed,
            'tick_p50_ms': float(p50),
            'tick_p99_ms': float(p99),
            'falls': self.falls,
        }
