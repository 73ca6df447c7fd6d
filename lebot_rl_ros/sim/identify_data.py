"""Commands and readings of servos as arrays, and the short windows that a fit looks at."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot.state import FloatArray

HISTORY = 6  # periods of commands kept before a window: the longest delay that can be told
UNEVEN = 0.25  # of a period that a stamp may be off before a window may not cross it


@dataclass(frozen=True)
class Readings:
    """Joint by joint what was commanded and what was measured, T ticks of one robot.

    ``command[t]`` is what the servos got for the state of ``stamp[t]``, after all limits.
    """

    stamp: npt.NDArray[np.int64]  # (T,) ns
    command: FloatArray  # (T, J) rad
    position: FloatArray  # (T, J) rad
    velocity: FloatArray  # (T, J) rad/s
    torque: npt.NDArray[np.bool_]  # (T,) whether the servos had torque
    orientation: FloatArray | None = None  # (T, 4) w x y z, base_link in world
    angular_velocity: FloatArray | None = None  # (T, 3) rad/s, base_link

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ValueError: one does not fit; the message names it.
        """
        shape = self.position.shape
        for name, expected in (
            ('stamp', shape[:1]), ('command', shape), ('velocity', shape), ('torque', shape[:1])
        ):  # fmt: skip
            found = getattr(self, name).shape
            if found != expected:
                raise ValueError(f'{name} has the shape {found}, must have {expected}')

    @property
    def seconds(self) -> float:
        """From the first stamp to the last."""
        return float(self.stamp[-1] - self.stamp[0]) / 1e9 if len(self.stamp) else 0.0


def window_starts(
    readings: Readings, period_ns: int, ticks: int, *, stride: int = 0
) -> npt.NDArray[np.intp]:
    """First ticks of windows that hold together.

    A window is ``ticks`` periods long; it and the :data:`HISTORY` before it have no gap in time,
    and torque throughout.

    Args:
        readings: of one robot.
        period_ns: of control.
        ticks: of a window.
        stride: ticks from one window to the next; 0 puts them end to end.

    Raises:
        ValueError: no window fits; the message says how much there is.
    """
    steps = np.diff(readings.stamp)
    good = (np.abs(steps - period_ns) < UNEVEN * period_ns) & readings.torque[1:]
    broken = np.concatenate(([0], np.cumsum(~good)))  # two ticks hold together if these are equal
    starts = np.arange(HISTORY, len(readings.stamp) - ticks, stride or ticks)
    starts = starts[broken[starts + ticks] == broken[starts - HISTORY]]
    if not len(starts):
        raise ValueError(
            f'no {ticks + HISTORY} ticks of {period_ns / 1e6:g} ms hold together in '
            f'{len(readings.stamp)} readings ({readings.seconds:.1f} s) with torque and commands'
        )
    return starts


def cut(
    values: FloatArray, starts: npt.NDArray[np.intp], ticks: int, before: int = 0
) -> FloatArray:
    """Windows (W, before + ticks, ...) of an array (T, ...)."""
    return values[starts[:, None] + np.arange(-before, ticks)]


def smooth_positions(readings: Readings, reach: int = 2) -> FloatArray:
    """Positions (T, J) with less noise, to begin predictions from.

    Each is that of a parabola through itself and ``reach`` neighbours on each side (Savitzky and
    Golay, Analytical Chemistry 36, 1964); those at the ends stay.
    """
    offsets = np.arange(-reach, reach + 1)
    weights = np.linalg.pinv(np.vander(offsets, 3, increasing=True))[0]
    count = len(readings.position)
    middle = np.arange(reach, count - reach)
    smooth = readings.position.copy()
    smooth[middle] = np.einsum('k,tkj->tj', weights, readings.position[middle[:, None] + offsets])
    return smooth
