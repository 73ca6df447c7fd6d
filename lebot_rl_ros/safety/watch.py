"""Limits with a memory: how long values have been over them, and hysteresis for warnings."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.safety.checks import Check

Mask = npt.NDArray[np.bool_]


class Watch:
    """K quantities of J servos against their limits."""

    def __init__(self, checks: Sequence[Check], joints: int, hold: int) -> None:
        """Start without a memory; a warning goes after ``hold`` ticks below its limit."""

        def column(values: Sequence[float]) -> FloatArray:
            return np.array(values, dtype=float)[:, None]

        self._limits = np.stack(
            [
                column([check.warn for check in checks]),
                column([check.error for check in checks]),
                column([check.clear for check in checks]),
            ]
        )  # (3, K, 1)
        self._patience = column([check.patience for check in checks])
        self._confirm = column([check.confirm for check in checks])
        self._hold = hold
        self._counts = np.zeros((3, len(checks), joints), dtype=np.int64)
        self._warned: Mask = np.zeros((len(checks), joints), dtype=bool)
        self.worst = np.full((len(checks), joints), np.nan)  # since a warning began

    def update(self, values: FloatArray, known: Mask) -> tuple[Mask, Mask]:
        """Take one tick; returns what is warned of and what has failed, both (K, J).

        Args:
            values: (K, J).
            known: (K, J) what is not known changes nothing.
        """
        over = values >= self._limits
        over[2] = ~over[2]  # how long it has been below, for hysteresis
        self._counts = np.where(known, np.where(over, self._counts + 1, 0), self._counts)
        over_warn, over_error, below = self._counts
        failed = over_error >= self._confirm
        raised = (over_warn >= self._patience) | failed
        self._warned = raised | (self._warned & (below <= self._hold))
        seen = np.where(known, np.fmax(self.worst, values), self.worst)
        self.worst = np.where(self._warned, seen, np.nan)
        return self._warned, failed
