"""How well a robot followed its command: the numbers of a report, from a recorded path."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SETTLE = 2.0  # s after a change of command, and after standing up, that are not judged
WINDOW = 1.0  # s over which speeds are averaged, two cycles of the gait

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Path:
    """A run as samples; T of them."""

    time: FloatArray  # (T,) s
    position: FloatArray  # (T, 2) m, world
    velocity: FloatArray  # (T,) m/s, forward in base_link
    yaw_rate: FloatArray  # (T,) rad/s
    command: FloatArray  # (T, 2) m/s and rad/s


@dataclass(frozen=True)
class Tracking:
    """What a report says of a path; NaN where nothing could be judged."""

    distance: float  # m, along the robot's own heading
    speed_error: float  # m/s, mean over windows of the absolute error
    yaw_error: float  # rad/s, likewise


def command_at(times: FloatArray, commands: Sequence[tuple[float, float, float]]) -> FloatArray:
    """The command (T, 2) in force at each time; ``commands``: (time, m/s, rad/s), in order."""
    if not commands:
        return np.zeros((len(times), 2))
    table = np.array(commands)
    index = np.searchsorted(table[:, 0], times, side='right') - 1
    return np.where(index[:, None] >= 0, table[np.maximum(index, 0), 1:], 0.0)


def judge(path: Path, start: float = 1.0) -> Tracking:
    """Judge a path; what happens before ``start`` (s) is standing up."""
    if len(path.time) < 2:
        return Tracking(0.0, float('nan'), float('nan'))
    period = np.diff(path.time, prepend=path.time[0])
    distance = float((path.velocity * period).sum())
    changes = np.flatnonzero(np.any(np.diff(path.command, axis=0) != 0, axis=1)) + 1
    begins = [path.time[0] + start, *path.time[changes]]
    ends = [*path.time[changes - 1], path.time[-1]]
    errors = []
    for begin, end in zip(begins, ends, strict=True):
        left = begin + SETTLE
        while left + WINDOW <= end + 1e-6:
            inside = (path.time > left) & (path.time <= left + WINDOW + 1e-6)
            wanted = path.command[inside].mean(axis=0)
            got = path.velocity[inside].mean(), path.yaw_rate[inside].mean()
            errors.append(np.abs(wanted - got))
            left += WINDOW
    if not errors:
        return Tracking(distance, float('nan'), float('nan'))
    speed, yaw = np.mean(errors, axis=0)
    return Tracking(distance, float(speed), float(yaw))
