"""When a recorded message is due again, and how late it was. No ROS, no clock of its own."""

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from lebot_rl_ros.data.bag.types import BagError

SECOND = 1_000_000_000  # ns
KEPT = 100_000  # lateness of so many messages


class Schedule:
    """Deadlines of log times. Each is reckoned from the beginning, so errors never add up."""

    def __init__(self, start: int, rate: float, now: float) -> None:
        """Begin.

        Args:
            start: log time (ns) that is due now.
            rate: seconds of the bag in a second.
            now: s, of any steady clock.

        Raises:
            BagError: the rate is not positive.
        """
        if not 0.0 < rate < float('inf'):
            raise BagError(f'rate is {rate:g}, must be positive')
        self._start, self.rate, self._now = start, rate, now

    def due(self, log_time: int) -> float:
        """When a message is due, s of the clock."""
        return self._now + (log_time - self._start) / SECOND / self.rate

    def log_time(self, now: float) -> int:
        """Log time (ns) that is due at a time of the clock."""
        return self._start + round((now - self._now) * self.rate * SECOND)


class Beat:
    """What happens at regular times beside the messages: /clock, and a word each second."""

    def __init__(self, now: float, clock: float) -> None:
        """Begin now (s of a steady clock), with so many ticks of /clock a second; 0: none."""
        self._begin, self._clock = now, clock
        self._ticks, self._words = 0, 1  # number of the next tick, second of the next word
        self.next = now if clock else now + 1.0

    def due(self, now: float) -> bool:
        """Whether something is."""
        return now >= self.next

    def __call__(self, now: float) -> tuple[bool, bool]:
        """Whether a tick of /clock and a word are due; late ones are not made up for."""
        passed = now - self._begin
        ticks = bool(self._clock) and passed * self._clock >= self._ticks
        if ticks:
            self._ticks = int(passed * self._clock) + 1
        speaks = passed >= self._words
        if speaks:
            self._words = int(passed) + 1
        following = self._begin + self._words
        if self._clock:
            following = min(following, self._begin + self._ticks / self._clock)
        self.next = following
        return ticks, speaks


class Lateness:
    """How long after their deadlines messages went out."""

    def __init__(self) -> None:
        """None so far."""
        self.count = 0
        self._late: deque[float] = deque(maxlen=KEPT)

    def add(self, seconds: float) -> None:
        """One message."""
        self.count += 1
        self._late.append(seconds)

    def quantiles(self, *percents: float) -> tuple[float, ...]:
        """In s; NaN where nothing went out."""
        if not self._late:
            return (float('nan'),) * len(percents)
        return tuple(float(value) for value in np.percentile(self._late, percents))


def parse_remaps(texts: Sequence[str]) -> dict[str, str]:
    """Names by their old ones, from ``/a:=/b``; ``/a/:=/b/`` moves a whole namespace.

    Raises:
        BagError: one is not of this form, or a name stands twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        old, sign, new = text.partition(':=')
        whole = old.startswith('/') and new.startswith('/') and len(old) > 1 and len(new) > 1
        if not sign or not (whole or (old, new) in (('/', new), (old, '/'))):
            raise BagError(f'remap {text!r}: expected /OLD:=/NEW, absolute names')
        if old.endswith('/') != new.endswith('/'):
            raise BagError(f'remap {text!r}: give / at the end of both names, or of none')
        if old in found:
            raise BagError(f'remap of {old} is given twice')
        found[old] = new
    return found


def remapped(name: str, remaps: Mapping[str, str]) -> str:
    """The name under which a topic is played; a topic's own wins over that of a namespace."""
    if name in remaps:
        return remaps[name]
    spaces = [old for old in remaps if old.endswith('/') and name.startswith(old)]
    if not spaces:
        return name
    longest = max(spaces, key=len)
    return remaps[longest] + name.removeprefix(longest)
