"""Commands, the gait clock and the way from action to joint targets."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray

STANDING = 0.02  # a command whose m/s and rad/s are both below this means stand


@dataclass(frozen=True)
class Gait:
    """A trot clock. It reads the stamp and nothing else, so every process agrees on the phase."""

    frequency: float = 2.0  # Hz
    swing_height: float = 0.025  # m

    def phase(self, stamp: npt.NDArray[np.int64] | int) -> FloatArray:
        """Fraction of the cycle, [0, 1), at a stamp in ns."""
        cycle = round(1e9 / self.frequency)
        return np.asarray(np.asarray(stamp) % cycle) / cycle


@dataclass(frozen=True)
class ActionSpace:
    """target = stand + scale * clip(action, -1, 1)."""

    scale: float = 0.6  # rad

    def target(self, robot: Robot, action: FloatArray) -> FloatArray:
        """Joint targets (..., J) rad for actions (..., J)."""
        return robot.stand + self.scale * np.clip(action, -1.0, 1.0)

    def action(self, robot: Robot, target: FloatArray) -> FloatArray:
        """Inverse of :meth:`target`, for what was applied; may lie outside [-1, 1]."""
        return (target - robot.stand) / self.scale


def moving(command: FloatArray) -> FloatArray:
    """1 where the command asks to walk, 0 where it asks to stand: (..., 2) -> (...)."""
    return (np.abs(command).max(axis=-1) >= STANDING).astype(float)


def foot_phases(robot: Robot, phase: FloatArray) -> FloatArray:
    """Phase of each foot, [0, 1): (...) -> (..., F). First half stance, second swing."""
    return (np.asarray(phase)[..., None] + robot.trot_offsets) % 1.0
