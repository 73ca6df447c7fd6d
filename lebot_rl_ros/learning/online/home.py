"""Whether what was accepted, version by version, has led below what the base alone does.

Every version is judged by the one before it, within a margin and for some seconds: many small
losses, or falls that come seldom, may add up. So the lineage is watched against the base, too, by
the same cumulative sums (Page, Biometrika 41, 1954), of blocks' reward and of falls. They only
raise the question: the world may have changed since the base acted, so the base is then tried
again beside what was accepted.
"""

from lebot_rl_ros.learning.online.blocks import Block
from lebot_rl_ros.learning.online.level import Level, earns_less, falls_more

BASE_STAGE = 'base'  # of verdicts on the base; they have version 0, and nobody offered it
PRIOR = (0.5, 15.0)  # falls and seconds added to what was counted of the base: it acts shortly
MORE = (2.0, 0.05)  # "more falls": this many times the base's rate, and so many a second more


class Home:
    """What the base did when it acted last, and the evidence that it goes worse now; nats."""

    def __init__(self, memory: float, recovery: float) -> None:
        """Know nothing; times as :class:`Level` has them."""
        self._level = Level(memory, recovery)
        self._seconds = self._falls = 0.0  # of the base
        self.less = self.falls = 0.0  # evidence that less is earned, and that it falls more

    def stand(self, seconds: float, fell: bool, block: Block | None) -> None:
        """The base acted, for a step; a block where that completes one."""
        self._seconds, self._falls = self._seconds + seconds, self._falls + fell
        if block:
            self._level.add(block)
        self.less = self.falls = 0.0

    def measure_anew(self) -> None:
        """Forget what the base did: it is about to act again."""
        self._level.reset()
        self._seconds = self._falls = 0.0
        self.less = self.falls = 0.0

    def walk(self, seconds: float, fell: bool) -> None:
        """An accepted version acted, for a step; without a base to compare nothing is known."""
        if not self._seconds:
            return
        usual = (self._falls + PRIOR[0]) / (self._seconds + PRIOR[1])
        more = MORE[0] * usual + MORE[1]
        self.falls = max(0.0, self.falls + falls_more(usual, more, fell, seconds))

    def earn(self, block: Block, *, drop: float, noise: float, cap: float) -> None:
        """An accepted version earned something; shares and cap as ``ProbationConfig`` has them."""
        if not self._level.known:
            return
        level, spread = self._level.expected(block.kind)
        margin = max(drop * abs(level), noise * spread)
        gained = earns_less(level - block.reward, margin, spread)
        self.less = max(0.0, self.less + min(gained, cap))
