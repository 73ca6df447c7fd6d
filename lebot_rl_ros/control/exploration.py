"""Noise by which the robot explores: correlated in time, boxed in, and less after a fall."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

MOST = 1.0  # action units, the range of an action to either side
LEAST = 0.2  # of the noise, that is left however often it falls: without any nothing is learned


@dataclass(frozen=True)
class ExplorationConfig:
    """How far the sampled action may leave the mean; action units."""

    time: float = 0.1  # s in which the noise loses its memory by a factor e; 0: white
    box: float = 0.3  # of the sampled action about the mean, to either side, in the end
    box_start: float = 0.1  # likewise, in the beginning; more than ``box`` counts as ``box``
    growth: float = 60.0  # s of exploring in which one becomes the other, linearly
    after_fall: float = 0.5  # share of noise and box that a fall leaves; 1: falls change nothing
    recovery: float = 120.0  # s of exploring without one in which it grows e-fold, up to the whole

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a number is negative or not finite, or a box is wider than the actions.
        """
        for name, most in (
            ('time', 60.0), ('growth', 1e6), ('box', MOST), ('box_start', MOST),
            ('after_fall', 1.0), ('recovery', 1e6),
        ):  # fmt: skip
            check(f'exploration_{name}', getattr(self, name), most)


def check(name: str, value: float, most: float = MOST) -> float:
    """The value, if it is from 0 to ``most``.

    Raises:
        ValueError: it is not; the message names it.
    """
    if not 0.0 <= value <= most:
        raise ValueError(f'{name} is {value!r}, must be from 0 to {most}')
    return float(value)


class Exploration:
    """First-order filtered Gaussian noise, z' = a z + sqrt(1 - a²) n with a = exp(-period / time).

    Its standard deviation is 1 whatever the time (an Ornstein-Uhlenbeck process, sampled), so a
    walking robot feels a slow lean, and servos no chatter that they cannot follow anyway. It
    begins at zero, without a jump. The action is the mean plus ``scale`` ``std`` z, cut to the
    box. A robot that falls explores too much for what it can do now: :meth:`fell` takes the scale
    down, and walking lets it grow again, until the one balances the other.

    The log-density that a row has is that of N(mean, std), the marginal of a single action: what
    ratios of policies need. It is not that of the action given those before it, does not know
    the cut, and is that of the settled filter, some ``time`` after its start.
    """

    def __init__(
        self, joints: int, period: float, config: ExplorationConfig | None = None, seed: int = 0
    ) -> None:
        """Begin a run.

        Args:
            joints: numbers in an action, J.
            period: s of a control step.
            config: ``None`` is the defaults.
            seed: of the noise; the same calls give the same numbers.
        """
        self.config, self._period = config or ExplorationConfig(), period
        self._keep = math.exp(-period / self.config.time) if self.config.time else 0.0
        self._rng = np.random.default_rng([seed, 1])
        self._filter: Array = np.zeros(joints, dtype=np.float32)
        self._nothing: Array = np.zeros(joints, dtype=np.float32)
        self.explored = 0.0  # s, all in all
        self.scale = 1.0  # of the standard deviation that is asked for, and of the box

    @property
    def box(self) -> float:
        """Largest deviation now, action units."""
        config = self.config
        start = min(config.box_start, config.box)
        share = min(self.explored / config.growth, 1.0) if config.growth else 1.0
        return self.scale * (start + share * (config.box - start))

    def fell(self) -> None:
        """Explore less from now on."""
        self.scale = min(self.scale, max(self.scale * self.config.after_fall, LEAST))

    def __call__(self, std: float, *, walking: bool) -> Array:
        """Noise (J,) for this step.

        Args:
            std: its standard deviation before scale and cut, action units.
            walking: the driver follows the policy, and the command asks to move. Else there is
                silence, and the filter begins anew after it.
        """
        if not walking:
            self._filter = self._nothing
            return self._nothing
        box, std, recovery = self.box, std * self.scale, self.config.recovery
        self.explored += self._period
        normal = self._rng.standard_normal(len(self._nothing), dtype=np.float32)
        spread = np.float32(math.sqrt(1.0 - self._keep**2))
        self._filter = np.float32(self._keep) * self._filter + spread * normal
        noise: Array = np.clip(np.float32(std) * self._filter, -box, box).astype(np.float32)
        if self.scale < 1.0:
            grown = self.scale * math.exp(self._period / recovery) if recovery else 1.0
            self.scale = min(1.0, grown)
        return noise
