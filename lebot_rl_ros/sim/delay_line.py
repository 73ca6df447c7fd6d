"""Targets on their way to the servos, by substeps of the physics and fractions of them."""

import numpy as np

from lebot_rl_ros.robot.state import FloatArray


class DelayLine:
    """Remembers targets of the last control periods, for N robots of J joints.

    Robots, and where asked for joints, have delays of their own, in substeps. Within a substep in
    which a new target arrives, the servo is told the mean of old and new by their shares of it.
    """

    def __init__(self, robots: int, joints: int, substeps: int, columns: int, most: float) -> None:
        """Forget nothing younger than ``most`` substeps; ``columns`` delays a robot: 1 or J."""
        depth = int(np.ceil(np.ceil(most) / substeps)) + 1
        self._substeps = substeps
        self._targets = np.zeros((robots, depth, joints))  # newest first
        self._age = np.zeros((robots, substeps, columns), dtype=np.intp)  # periods
        self._older = np.zeros_like(self._age)  # of the target before that, a substep earlier
        self._share = np.zeros((robots, 1, columns))  # of the older one
        self._mixes = False

    def set(self, index: int, delay: FloatArray, pose: FloatArray) -> None:
        """Give one robot delays (columns,) in substeps, and fill its line with a pose (J,) rad."""
        whole = np.floor(delay)
        self._share[index, 0] = delay - whole
        self._mixes = bool(self._share.any())
        oldest = self._targets.shape[1] - 1
        for ages, more in ((self._age, 0), (self._older, 1)):
            lag = np.arange(self._substeps)[:, None] - whole.astype(np.intp) - more
            ages[index] = np.minimum(-(lag // self._substeps), oldest)
        self._targets[index] = pose

    @property
    def newest(self) -> FloatArray:
        """(N, J) rad, the last targets."""
        return self._targets[:, 0]

    def push(self, targets: FloatArray) -> None:
        """A control period begins with these targets (N, J) rad."""
        self._targets[:, 1:] = self._targets[:, :-1]
        self._targets[:, 0] = targets

    def arrived(self) -> FloatArray:
        """What the servos are told in each substep of this period: (N, substeps, J) rad."""
        told = np.take_along_axis(self._targets, self._age, axis=1)
        if self._mixes:
            older = np.take_along_axis(self._targets, self._older, axis=1)
            told += self._share * (older - told)
        return told
