"""What a servo bus says about its servos, judged once per control tick.

Pure: no clock, no bus. :class:`Health` keeps counts and hysteresis only and judges what is true
*now*; that a fault stays until somebody clears it is the supervisor's work.
"""

from typing import NamedTuple

import numpy as np

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.safety.checks import (
    Action,
    HealthConfig,
    Report,
    make_checks,
    quantities,
    ticks,
)
from lebot_rl_ros.safety.watch import Mask, Watch

__all__ = ['Action', 'Health', 'HealthConfig', 'Report', 'Verdict']

Finding = tuple[Action, str]


class Verdict(NamedTuple):
    """The judgement of one tick. Latch action and reason, unless the action is NONE."""

    action: Action
    reason: str  # joints and values in words, most urgent first; empty without action
    warnings: tuple[str, ...]  # what needs a look and no action yet


class Health:
    """Call :meth:`judge` once per control tick, after the servos were read."""

    def __init__(self, robot: Robot, config: HealthConfig | None = None) -> None:
        """Start without a memory."""
        self.robot, self.config = robot, config or HealthConfig()
        self.reset()

    def reset(self) -> None:
        """Forget what was counted, as after faults were cleared or the bus came back."""
        self._checks = make_checks(self.robot, self.config)
        hold = ticks(self.robot, self.config.hold)
        self._watch = Watch(self._checks, len(self.robot.joints), hold)
        self._expected, self._settling = False, 0

    def judge(
        self,
        report: Report | None,
        *,
        torque: FloatArray | None = None,
        torque_expected: bool = False,
        bus_lost: str = '',
    ) -> Verdict:
        """Judge one tick.

        Args:
            report: what the servos said; None if nothing was read.
            torque: (J,) torque registers: 1 on, 0 off, NaN did not say; None when not asked.
            torque_expected: whether torque was on, as far as the driver knows, when that was read.
            bus_lost: why the port is gone; empty while it is there.
        """
        if torque_expected != self._expected:
            self._expected, self._settling = torque_expected, ticks(self.robot, self.config.settle)
        elif self._settling:
            self._settling -= 1
        found: list[Finding] = []
        if bus_lost:
            found = [(Action.RELAX, f'servo bus lost: {bus_lost}')]
        else:
            found += [] if report is None else self._read(report)
            found += [] if torque is None or self._settling else self._switched(torque)
        found.sort(key=lambda finding: -finding[0])  # stable: else in the order of the checks
        return Verdict(
            found[0][0] if found else Action.NONE,
            '; '.join(words for action, words in found if action != Action.NONE),
            tuple(words for action, words in found if action == Action.NONE),
        )

    def _read(self, report: Report) -> list[Finding]:
        warned, failed = self._watch.update(*quantities(report))
        found: list[Finding] = []
        for k in np.flatnonzero(warned.any(axis=1)):
            check, worst = self._checks[k], self._watch.worst[k]
            words = [check.words(value) for value in worst]
            found += self._tell(failed[k], check.action, words)
            found += self._tell(warned[k] & ~failed[k], Action.NONE, words)
        return found

    def _switched(self, torque: FloatArray) -> list[Finding]:
        torque = np.asarray(torque)
        if self._expected:
            words = ['torque went off by itself (brown-out or shutdown)'] * len(torque)
            return self._tell(torque == 0, Action.RELAX, words)
        words = ['torque is on, and should be off'] * len(torque)
        return self._tell(np.isfinite(torque) & (torque != 0), Action.NONE, words)

    def _tell(self, who: Mask, action: Action, words: list[str]) -> list[Finding]:
        """One line per joint of the mask (J,); what is the same for all is told once."""
        if len(who) > 1 and who.all() and len(set(words)) == 1:
            return [(action, f'all servos: {words[0]}')]
        names = self.robot.joint_names
        return [(action, f'{names[i]}: {words[i]}') for i in np.flatnonzero(who)]
