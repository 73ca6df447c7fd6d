"""From one policy to the next without a step in the action."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot.state import FloatArray

MOST = 4  # policies that may fade out at once, as each is evaluated in every tick


class Actor(Protocol):
    """What acts."""

    def act(self, observation: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Mean action (J,) for one observation."""


class Fade:
    """Mean action of the newest policy, and for some ticks of those that it replaced.

    In tick k = 1..N after a swap with N ticks the newest one has the share k / (N + 1), linearly;
    then it acts alone. A swap during a fade starts from the mixture that acts just then: its
    shares are frozen, and the mixture as a whole fades out. Policies beyond ``MOST`` in it, those
    with the smallest shares, are left out.
    """

    def __init__(self, policy: Actor, joints: int) -> None:
        """Let one policy act alone."""
        self._policy = policy
        self._old: list[tuple[Actor, float]] = []  # shares, 1 in sum
        self._tick = self._ticks = 0
        self._mean: npt.NDArray[np.float32] = np.zeros(joints, dtype=np.float32)
        self.share = 1.0  # of the newest in the last action; what a row calls blend

    def swap(self, policy: Actor, ticks: int) -> None:
        """Let another policy act from the next tick on, alone after ``ticks`` ticks."""
        shares = [(old, share * (1.0 - self.share)) for old, share in self._old]
        shares.append((self._policy, self.share if self._old else 1.0))
        heaviest = sorted(shares, key=lambda pair: pair[1])[-MOST:]
        total = sum(share for _, share in heaviest)
        kept = [(old, share / total) for old, share in heaviest if share]
        self._old = kept if ticks else []
        self._policy, self._tick, self._ticks = policy, 0, ticks
        self.share = 0.0  # it has not acted yet, should the next swap come before it does

    def __call__(self, observation: FloatArray, out: npt.NDArray[np.float32]) -> None:
        """Write the mean action (J,) of this tick to ``out``."""
        self._policy.act(observation, out=out)
        self.share = 1.0
        if not self._old:
            return
        self._tick += 1
        self.share = self._tick / (self._ticks + 1)
        out *= self.share
        for policy, share in self._old:
            policy.act(observation, out=self._mean)
            out += np.float32(share * (1.0 - self.share)) * self._mean
        if self._tick >= self._ticks:
            self._old = []
