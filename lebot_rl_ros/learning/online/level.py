"""What the accepted version earns and how often it falls, which one on probation must match."""

import math
from dataclasses import dataclass

from lebot_rl_ros.learning.online.blocks import Block

POOLED = 'any'  # class of all commands together
ENOUGH, OWN, SURE = 5.0, 12.0, 25.0  # blocks for a level at all, of one class, for a best one
PRIOR = (0.05, 5.0)  # falls and seconds added to what was counted: one quiet second proves little


@dataclass
class _Mean:
    """Mean with exponential forgetting, and the best that it has been."""

    weight: float = 0.0  # blocks that still count
    mean: float = 0.0
    best: float = -math.inf

    def add(self, value: float, keep: float, relax: float) -> None:
        self.weight = self.weight * keep + 1.0
        self.mean += (value - self.mean) / self.weight
        if self.weight >= SURE:
            near = self.mean + (self.best - self.mean) * relax
            self.best = max(self.mean, near if math.isfinite(near) else self.mean)


def earns_less(short: float, margin: float, spread: float) -> float:
    """Evidence (nats) of a block that is ``short`` of a level, for a loss of ``margin``."""
    return margin / spread**2 * (short - 0.5 * margin)


def falls_more(usual: float, more: float, fell: bool, seconds: float) -> float:
    """Evidence (nats) of so many seconds, with a fall or without, for one rate over another."""
    return fell * math.log(more / usual) - (more - usual) * seconds


class Level:
    """Reward by class of command, its spread, and the rate of falls; old times are forgotten."""

    def __init__(self, memory: float, recovery: float) -> None:
        """Know nothing.

        Args:
            memory: s, time constant of means and of the rate of falls.
            recovery: s, time constant with which the best level falls to the present one.
        """
        self._memory, self._recovery = memory, recovery
        self.reset()

    def reset(self) -> None:
        """Forget everything, to measure anew."""
        self._means: dict[str, _Mean] = {}
        # Of the differences of blocks from their class's mean, and from that of all.
        self._variances = {kind: _Mean() for kind in ('own', POOLED)}
        self._products = _Mean()  # of neighbours' differences: how far they depend on each other
        self._last: float | None = None
        self.seconds = self.falls = 0.0  # that still count

    def pass_time(self, seconds: float, falls: int) -> None:
        """Count time on its feet, and falls."""
        keep = math.exp(-seconds / self._memory)
        self.seconds, self.falls = self.seconds * keep + seconds, self.falls * keep + falls

    def add(self, block: Block) -> None:
        """Learn from a block of the accepted version."""
        keep, relax = (math.exp(-block.seconds / t) for t in (self._memory, self._recovery))
        own = self._means.setdefault(block.kind, _Mean())
        if own.weight:
            difference = block.reward - own.mean
            # The mean that it is taken from was estimated: n / (n + 1), as for any new value.
            share = own.weight / (own.weight + 1.0)
            self._variances['own'].add(share * difference**2, keep, relax)
            if self._last is not None:
                self._products.add(share * difference * self._last, keep, relax)
            self._last = difference
        everything = self._means.setdefault(POOLED, _Mean())
        if everything.weight:
            share = everything.weight / (everything.weight + 1.0)
            squared = share * (block.reward - everything.mean) ** 2
            self._variances[POOLED].add(squared, keep, relax)
        own.add(block.reward, keep, relax)
        everything.add(block.reward, keep, relax)

    @property
    def known(self) -> bool:
        """Whether there is enough to compare with."""
        return POOLED in self._means and self._means[POOLED].weight >= ENOUGH

    def expected(self, kind: str) -> tuple[float, float]:
        """What is to be matched under a class of commands, and the spread of blocks about it.

        That is the best level that was known for sure, else the mean, less one standard error. A
        class that was hardly seen has the mean of all, and their larger spread. Neighbours that
        are alike make the spread count for more: sqrt((1 + r) / (1 - r)) times, for a correlation
        r, is what their mean then shows.

        Raises:
            ValueError: hardly anything is known; see :attr:`known`.
        """
        if not self.known:
            raise ValueError('too little of the accepted version was seen to expect anything')
        seen = kind in self._means and self._means[kind].weight >= OWN
        mean = self._means[kind if seen else POOLED]
        variance = max(self._variances['own' if seen else POOLED].mean, 1e-12)
        alike = self._products.mean / max(self._variances['own'].mean, 1e-12)
        alike = min(0.9, max(0.0, alike))
        spread = math.sqrt(variance * (1.0 + alike) / (1.0 - alike))
        level = mean.best if seen and mean.weight >= SURE else mean.mean
        return level - spread / math.sqrt(mean.weight), spread

    def present(self, kind: str) -> float:
        """Mean reward of late under a class of commands; NaN if hardly anything is known."""
        if not self.known:
            return math.nan
        seen = kind in self._means and self._means[kind].weight >= OWN
        return self._means[kind if seen else POOLED].mean

    @property
    def fall_rate(self) -> float:
        """Falls a second, never zero."""
        return (self.falls + PRIOR[0]) / (self.seconds + PRIOR[1])
