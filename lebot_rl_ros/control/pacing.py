"""When a simulation takes its next tick: real time, lockstep, and what it counts."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

RESEND = 0.05  # s of wall time between two tries to reach those who have not joined yet
CMD_VEL_SLACK = 0.2  # s that cmd_vel, sent at 10 Hz, may lag in lockstep
BEHIND = 0.01  # s that late ticks are made up for; more is let go, as the cycle of a bus does


@dataclass
class Participant:
    """A topic whose stamps the simulation does not leave behind."""

    slack: int  # ns that its stamps may lag
    stamp: int | None = None  # newest seen
    absent: bool = False  # it fell silent; waited for again once it says something new

    def speak(self, stamp: int) -> bool:
        """It sent this stamp; returns whether that is new."""
        fresh = self.stamp is None or stamp > self.stamp
        self.stamp = stamp
        self.absent = self.absent and not fresh  # who repeats itself would be waited for in vain
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


@dataclass(frozen=True)
class Pace:
    """How fast a simulation may go. Seconds."""

    period: float  # of control, robot time
    real_time_factor: float = 1.0  # 0: as fast as it goes
    lockstep: bool = False  # wait for every participant at every tick
    timeout: float = 1.0  # of wall time, after which a silent participant is not waited for


class Pacer:
    """Says when the next tick is due. Time 0 lasts until :meth:`start`."""

    def __init__(
        self,
        pace: Pace,
        participants: Mapping[str, Participant],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Wait for ``participants``, by name; ``clock`` gives wall time in s."""
        self.pace, self.participants = pace, participants
        self.started = False
        self.stamp, self.sent = 0, 0.0
        self._clock = clock
        self._deadline = 0.0

    def start(self) -> None:
        """Let time run from now."""
        self.started, self._deadline = True, self._clock()

    def send(self, stamp: int) -> None:
        """The state of this stamp leaves now."""
        self.stamp, self.sent = stamp, self._clock()

    def elapsed(self) -> float:
        """Seconds since the last state left."""
        return self._clock() - self.sent

    def missing(self) -> list[str]:
        """Participants that have not answered the last state."""
        return [
            name
            for name, participant in self.participants.items()
            if not participant.reached(self.stamp)
        ]

    def due(self) -> bool:
        """Whether the next tick is due."""
        if self._clock() < self._deadline:
            return False
        return not self.pace.lockstep or not self.missing() or self.elapsed() > self.pace.timeout

    def give_up(self) -> list[str]:
        """Participants that have been silent for too long, once each."""
        if not self.pace.lockstep or self.elapsed() <= self.pace.timeout:
            return []
        return [name for name, p in self.participants.items() if p.give_up(self.stamp)]

    def ticked(self) -> None:
        """A tick was taken: set the next deadline."""
        if self.pace.real_time_factor:
            step = self.pace.period / self.pace.real_time_factor
            self._deadline = max(self._deadline + step, self._clock() - BEHIND)

    def patience(self, longest: float) -> float:
        """Seconds until something may be due by itself, at most ``longest``."""
        if not self.started:
            return min(RESEND, longest)
        due = self._deadline
        if self.pace.lockstep and self.missing():
            due = max(due, self.sent + self.pace.timeout)
        return min(max(due - self._clock(), 0.0), longest)


@dataclass
class Tally:
    """Ticks, answers and falls of a run."""

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
        quantiles = (
            np.percentile(self._latency, (50, 99)) * 1e3 if self._latency else (np.nan,) * 2
        )
        return {
            'ticks': self.ticks,
            'missed_ticks': self.missed,
            'tick_p50_ms': float(quantiles[0]),
            'tick_p99_ms': float(quantiles[1]),
            'falls': self.falls,
        }
