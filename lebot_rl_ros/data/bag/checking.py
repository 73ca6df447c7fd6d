"""What is said about the times of a topic: rate, gaps, losses, order, latency, who answered whom.

Pure functions of times in ns. Robot time counts where messages carry a stamp: what is missing in
it was lost, or never sent; what is uneven in the time of arrival alone is only late.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]

GAP = 1.5  # periods from which on something is missing
RESTART = 50  # periods; a stamp further back begins a new stream, as in data/joining.py
FEWEST = 10  # messages that have a rate
REGULAR = 0.75  # share of periods near the median from which on a topic is periodic
NEAR = (0.5, 1.5)  # periods that are near it
ON_GRID = 0.01  # of a period; stamps nearer than this to whole periods lie on the grid
BURST = 25  # messages, after which lateness is made up for
COMPARABLE = 60.0  # s between stamp and arrival, from which on their clocks are not the same
DRIFT = 1.0  # s that they may drift apart in a bag
NO_TIMES: Times = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Gap:
    """A stretch without a message: ns from one to the next, in the clock of the timing."""

    start: int
    length: int


@dataclass(frozen=True)
class Timing:
    """How regularly a topic came. Times in ns."""

    count: int
    stamped: bool  # judged by stamps, else by arrival
    regular: bool  # periodic: only then gaps and losses mean anything
    period: float = 0.0  # median
    p50: float = 0.0
    p99: float = 0.0
    longest: float = 0.0
    gaps: tuple[Gap, ...] = ()  # over 1.5 periods, in order
    lost: int = 0  # messages that fit into the gaps
    exact: bool = False  # every stamp lies on the grid of the period, so lost is no estimate
    duplicates: int = 0  # stamps that came again
    backwards: int = 0  # stamps older than one that came before
    restarts: int = 0  # the clock jumped back, as by a reset of the simulator

    @property
    def rate(self) -> float:
        """Nominal: of the median period; 0 where there is none."""
        return 1e9 / self.period if self.period else 0.0


@dataclass(frozen=True)
class Latency:
    """From one time to a later one, ms."""

    p50: float
    p99: float
    longest: float
    least: float


@dataclass(frozen=True)
class Answers:
    """States and the commands that carry their stamps, between the first and the last command."""

    answered: int
    unanswered: int  # states without a command: ticks that the policy missed
    foreign: int  # commands to a state that is not in the bag


def timing(arrivals: Times, stamps: Times = NO_TIMES) -> Timing:
    """How regularly messages came.

    Args:
        arrivals: (N,) when each was recorded, ascending.
        stamps: (N,) their headers', in the same order; empty where the type has none, or all zero
            where nobody filled them in: then arrivals are judged.
    """
    stamped = len(stamps) == len(arrivals) and bool(np.any(stamps))
    times = stamps if stamped else arrivals
    steps = np.diff(times)
    ahead = steps[steps > 0]
    if not len(ahead):
        same = int((steps == 0).sum()) if stamped else 0
        return Timing(len(times), stamped, regular=False, duplicates=same)
    usual = float(np.median(ahead))
    restarts = np.flatnonzero(steps < -RESTART * usual)
    streams = np.split(times, restarts + 1)
    unique = [np.unique(stream) for stream in streams]
    periods = np.concatenate([np.diff(stream) for stream in unique])
    if not len(periods):  # every stream has one message
        return Timing(len(times), stamped, regular=False, restarts=len(restarts))
    period = float(np.median(periods))
    near = (periods > NEAR[0] * period) & (periods < NEAR[1] * period)
    regular = len(periods) >= FEWEST - 1 and float(near.mean()) >= REGULAR
    mean = float(periods[near].mean())  # jitter cancels in it, as it does not in the median
    starts = np.concatenate([stream[:-1] for stream in unique])
    wide = np.flatnonzero(periods > GAP * period) if regular else np.zeros(0, np.int64)
    peak = [np.maximum.accumulate(stream) for stream in streams]
    odd = np.abs(periods / period - np.rint(periods / period))
    return Timing(
        count=len(times),
        stamped=stamped,
        regular=regular,
        period=period,
        p50=float(np.percentile(periods, 50)),
        p99=float(np.percentile(periods, 99)),
        longest=float(periods.max()),
        gaps=tuple(Gap(int(starts[i]), int(periods[i])) for i in wide),
        lost=sum(missing(stream - stream[0], mean) for stream in unique) if regular else 0,
        exact=stamped and regular and bool((odd <= ON_GRID).all()),
        duplicates=sum(
            len(stream) - len(kept) for stream, kept in zip(streams, unique, strict=True)
        )
        if stamped
        else 0,
        backwards=sum(
            int((stream[1:] < top[:-1]).sum()) for stream, top in zip(streams, peak, strict=True)
        ),
        restarts=len(restarts),
    )


def missing(times: Times, period: float) -> int:
    """Messages that are missing from ascending ``times`` (N,), all of which may be late.

    Lateness is made up for: messages that waited come in a burst. So what counts is how far the
    earliest of those after a gap are behind the earliest of those before it, in whole periods.
    """
    behind = times / period - np.arange(len(times))  # rises by what is late, and by what is lost
    lost, since = 0, 0
    for gap in np.flatnonzero(np.diff(times) > GAP * period).tolist():
        before = behind[max(since, gap + 1 - BURST) : gap + 1].min()
        after = behind[gap + 1 : gap + 1 + BURST].min()
        number = round(float(after - before))
        if number > 0:
            lost, since = lost + number, gap + 1
    return lost


def latency(earlier: Times, later: Times) -> Latency | None:
    """From ``earlier`` to ``later``, (N,) ns each; None where their clocks are not the same.

    They are not where any two lie more than a minute apart, as simulated time that began at 0, or
    drift apart by more than a second, as simulated time that runs faster.
    """
    if not len(earlier) or len(earlier) != len(later):
        return None
    delay = (later - earlier) / 1e6  # ms
    part = max(len(delay) // 10, 1)
    drift = abs(float(np.median(delay[-part:]) - np.median(delay[:part])))
    if np.abs(delay).max() > COMPARABLE * 1e3 or drift > DRIFT * 1e3:
        return None
    p50, p99 = np.percentile(delay, (50, 99))
    return Latency(float(p50), float(p99), float(delay.max()), float(delay.min()))


def answers(states: Times, commands: Times) -> Answers:
    """Which states got a command; both by their stamps (N,), (M,), in any order."""
    given = np.unique(commands)
    if not len(given):
        return Answers(0, 0, 0)
    asked = np.unique(states)
    within = asked[(asked >= given[0]) & (asked <= given[-1])]
    answered = int(np.isin(within, given, assume_unique=True).sum())
    foreign = int((~np.isin(given, asked, assume_unique=True)).sum())
    return Answers(answered, len(within) - answered, foreign)
