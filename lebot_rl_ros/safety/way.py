"""Ways through poses: where the joints shall be at a time; at rest at every pose."""

from collections.abc import Sequence

import numpy as np

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray


class Way:
    """From the first of some poses to the last, by smoothsteps of given times."""

    def __init__(self, poses: Sequence[FloatArray], seconds: Sequence[float]) -> None:
        """Take at least two poses (J,) rad and, one less, the times (s) from each to the next.

        Raises:
            ValueError: the numbers do not fit, or a time is not above zero.
        """
        if len(poses) != len(seconds) + 1 or not seconds or not min(seconds) > 0:
            raise ValueError(
                f'a way of {len(poses)} poses takes {len(poses) - 1} times above zero, and at '
                f'least one; found {list(seconds)}'
            )
        self.poses = tuple(poses)
        self._ends = np.cumsum(seconds)
        self._seconds = tuple(seconds)

    @property
    def duration(self) -> float:
        """Seconds from the first pose to the last."""
        return float(self._ends[-1])

    def at(self, elapsed: float) -> FloatArray:
        """Joint angles (J,) rad, ``elapsed`` s after the beginning; beyond the end, the last."""
        leg = min(int(np.searchsorted(self._ends, elapsed)), len(self._seconds) - 1)
        left = self._ends[leg] - elapsed
        share = min(max(1.0 - left / self._seconds[leg], 0.0), 1.0)
        start, goal = self.poses[leg : leg + 2]
        return start + (goal - start) * share * share * (3 - 2 * share)


def way_up(robot: Robot, start: FloatArray, astray: float, seconds: float) -> Way:
    """The way from where a robot lies on its belly to the stand.

    Who lost torque in mid-stride has its legs under it in any way, and would tip over if it
    just stretched them, or crouched: it tucks them up first, where they carry nothing.

    Args:
        robot: with its poses.
        start: (J,) rad, where the joints are.
        astray: rad; a joint so far off the way from crouch to stand: it collapsed.
        seconds: from one pose to the next.
    """
    crouch, stand, fold = robot.crouch, robot.stand, robot.fold
    up = stand - crouch
    share = np.clip((start - crouch) @ up / max(float(up @ up), 1e-9), 0.0, 1.0)
    poses: tuple[FloatArray, ...] = (start, fold, crouch, stand)
    if np.abs(start - crouch - share * up).max() <= astray:
        poses = (start, stand)
    elif np.abs(start - fold).max() <= astray:  # as a get-up leaves it
        poses = (start, crouch, stand)
    return Way(poses, [seconds] * (len(poses) - 1))
