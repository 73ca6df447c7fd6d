"""Probation: a version acts, and its reward and falls are watched against the accepted version's.

Both are watched by cumulative sums of log-likelihood ratios (Page, Biometrika 41, 1954), which
find what is very bad at once and what is a little bad after some windows.
"""

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.learning.online.blocks import LONGEST, Block, Blocks, command_kind
from lebot_rl_ros.learning.online.gate import Measures, Verdict
from lebot_rl_ros.learning.online.home import Home
from lebot_rl_ros.learning.online.level import Level, earns_less, falls_more
from lebot_rl_ros.learning.online.probation_config import ProbationConfig

Rows = npt.NDArray[np.void]
TRACK = 2  # safety.Mode: the driver followed the policy


class Probation:
    """Fed with transitions in the order of time, of whatever version; knows no clock."""

    def __init__(self, config: ProbationConfig | None = None, accepted: int = 0) -> None:
        """Start with nothing on probation.

        Args:
            config: thresholds.
            accepted: version that acts; 0 is the base alone.
        """
        self.config = config or ProbationConfig()
        self.accepted = accepted
        self.version: int | None = None  # on probation
        self._level = Level(self.config.memory, self.config.recovery)
        self._home = Home(self.config.memory, self.config.recovery)
        self._falls_more = False  # than the base, so that it is tried again
        self._cutters = {
            judged: Blocks(self.config.settle, self.config.block) for judged in (False, True)
        }
        self._start()

    @property
    def ready(self) -> bool:
        """Whether enough of the accepted version was seen to judge another's reward by it."""
        return self._level.known

    @property
    def misses_base(self) -> str:
        """Why the base should be tried again beside what was accepted since; '' if not."""
        if self.accepted == 0 or not self.ready:
            return ''
        if self._home.falls > self.config.home_fall_cusum:
            return 'what was accepted falls more often than the base did'
        if self._home.less > self.config.home_cusum:
            return 'what was accepted earns less than the base did'
        return ''

    def begin(self, version: int) -> None:
        """Judge a version from now on.

        0 is the base, tried again: where what was accepted falls more often it has to be as good
        to stay, else it has to be clearly better.

        Raises:
            ValueError: it is the accepted one.
        """
        if version == self.accepted:
            raise ValueError(f'version {version} acts already; a new one must be judged')
        self.version = version
        if version == 0:
            self._falls_more = self._home.falls > self.config.home_fall_cusum
            self._home.measure_anew()
        self._start()

    def take(self, rows: Rows) -> Verdict | None:
        """Watch steps (``data.rows.transition_dtype``).

        Steps count whose driver followed the policy and in which one version acted alone: those
        of the version on probation are judged, those of the accepted one measured.

        Returns:
            The verdict as soon as there is one; None while it goes on. Steps behind the one that
            decided are looked at, too: those of a version that is accepted by them count as its.
        """
        verdict = None
        for row in rows:
            version = int(row['adapter_version'])
            judged = self.version is not None and version == self.version
            if not judged and version != self.accepted:
                continue
            if row['mode'] != TRACK or row['blend'] < 1.0 or not np.isfinite(row['reward']):
                self._cutters[judged].interrupt()
                continue
            seconds = 1e-9 * (int(row['next_stamp']) - int(row['stamp']))
            seconds = min(max(seconds, 0.0), LONGEST)
            fell, block = bool(row['terminated']), None
            if fell:  # its price is in the reward, but a fall is judged as one
                self._cutters[judged].interrupt()
            else:
                block = self._cutters[judged].take(row, seconds)
            if judged:
                verdict = self._judge(row, seconds, fell, block) or verdict
            else:
                self._level.pass_time(seconds, int(fell))
                if block:
                    self._level.add(block)
                self._compare(version, seconds, fell, block)
        return verdict

    def _compare(self, version: int, seconds: float, fell: bool, block: Block | None) -> None:
        """Compare what is accepted with the base, unless it is the base."""
        if version == 0:
            self._home.stand(seconds, fell, block)
            return
        self._home.walk(seconds, fell)
        if block:
            config = self.config
            self._home.earn(block, drop=config.drop, noise=config.noise, cap=config.block_cap)

    def _start(self) -> None:
        self._steps: list[tuple[float, bool, Block | None]] = []
        self._blocks: list[Block] = []
        self._shortfalls: list[float] = []  # of blocks, reward
        self._margins: list[float] = []
        self._walked = self._upright = self._cusum = self._fall_cusum = 0.0
        self._falls = self._rising = 0  # _rising: blocks since its sum was zero
        self._cutters[True].interrupt()

    def _judge(
        self, row: np.void, seconds: float, fell: bool, block: Block | None
    ) -> Verdict | None:
        config = self.config
        self._steps.append((seconds, fell, block))
        self._upright += seconds
        self._walked += seconds * (command_kind(row['command']) != 'stand')
        self._falls += fell
        usual = self._level.fall_rate
        more = config.fall_factor * usual + config.fall_extra
        self._fall_cusum = max(0.0, self._fall_cusum + falls_more(usual, more, fell, seconds))
        if self._fall_cusum > config.fall_cusum:
            return self._reject(
                f'it fell {_times(self._falls)} in {self._upright:.1f} s; the accepted version '
                f'fell {_times(round(self._level.falls))} in {self._level.seconds:.0f} s'
            )
        if block:
            self._blocks.append(block)
        if block and self._level.known:
            level, spread = self._level.expected(block.kind)
            if self.version == 0:  # its best is what was lost; what it earns now is asked for
                level = self._level.present(block.kind)
            margin = max(config.drop * abs(level), config.noise * spread)
            short = level - block.reward
            self._shortfalls.append(short)
            self._margins.append(margin)
            gained = earns_less(short, margin, spread)
            self._cusum = max(0.0, self._cusum + min(gained, config.block_cap))
            self._rising = self._rising + 1 if self._cusum else 0
            if self._cusum > config.cusum:
                return self._reject(f'{self._compared(self._rising)}: too much less to be chance')
        return self._close() if self._walked >= self._due() else None

    def _due(self) -> float:
        """Seconds of walking after which it may be accepted, less half a step of rounding."""
        return self.config.window * self.config.windows - 0.01

    def _close(self) -> Verdict | None:
        """Accept what is as good, or wait for more."""
        if self.version == 0 and not self._falls_more:
            return self._close_base()
        if not self._shortfalls:
            return self._accept(
                f'no fall that counts in {self._walked:.1f} s of walking; too little of the '
                f'accepted version was seen to compare the reward'
            )
        short, margin = float(np.mean(self._shortfalls)), float(np.mean(self._margins))
        if short <= 0.5 * margin:
            return self._accept(self._compared())
        if self._walked < self._due() + self.config.window * self.config.patience:
            return None
        if short <= margin:
            return self._accept(f'{self._compared()}: within the margin of {margin:.2f}')
        return self._reject(f'{self._compared()}: beyond the margin of {margin:.2f}')

    def _close_base(self) -> Verdict | None:
        """The base stays only where it is better than what was learned, not as good."""
        if self._shortfalls:
            short, margin = float(np.mean(self._shortfalls)), float(np.mean(self._margins))
            if short <= -0.5 * margin:
                return self._accept(self._compared())
        if self._walked < self._due() + self.config.window * self.config.patience:
            return None
        if not self._shortfalls:
            return self._reject('too little of the base was seen to compare the reward')
        return self._reject(f'{self._compared()}: not more by half the margin of {margin:.2f}')

    def _compared(self, last: int = 0) -> str:
        """Both rewards in words, over the last blocks or all of them."""
        short = float(np.mean(self._shortfalls[-last:]))
        mine = float(np.mean([block.reward for block in self._blocks[-last:]]))
        when = f'in {self._walked:.1f} s of walking'
        if last:
            when = f'in {sum(block.seconds for block in self._blocks[-last:]):.1f} s'
        return (
            f'{"the base" if self.version == 0 else "it"} earned {mine:.2f} a step {when}, '
            f'where the accepted version would earn '
            f'{mine + short:.2f} or more'
        )

    def _accept(self, reason: str) -> Verdict:
        verdict = Verdict('probation', 'accepted', reason, 1.0, self._measures())
        assert self.version is not None
        self.accepted, self.version = self.version, None
        if self.accepted == 0:  # what was learned since is not to be matched
            self._level.reset()
        self._level.pass_time(self._upright, self._falls)
        for block in self._blocks:
            self._level.add(block)
        for step in self._steps:
            self._compare(self.accepted, *step)
        return verdict

    def _reject(self, reason: str) -> Verdict:
        verdict = Verdict('probation', 'rejected', reason, 0.0, self._measures())
        if self.version == 0:
            for step in self._steps:
                self._compare(0, *step)
        # A fault may have come meanwhile: what the accepted version earns is measured anew.
        self.version = None
        self._level.reset()
        return verdict

    def _measures(self) -> Measures:
        found = {
            'seconds': self._walked, 'falls': float(self._falls), 'cusum': self._cusum,
            'fall_cusum': self._fall_cusum, 'accepted_seconds': self._level.seconds,
            'accepted_falls': self._level.falls,
        }  # fmt: skip
        if self._blocks:
            found['reward'] = float(np.mean([block.reward for block in self._blocks]))
        if self._shortfalls:
            found['shortfall'] = float(np.mean(self._shortfalls))
            found['margin'] = float(np.mean(self._margins))
        return found


def _times(count: int) -> str:
    return 'once' if count == 1 else f'{count} times'
