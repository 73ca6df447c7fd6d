"""Noise by which the robot explores: correlated in time, inside a box that grows."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

MOST = 1.0  # action units, the range of an action to either side


@dataclass(frozen=True)
class ExplorationConfig:
    """How far the sampled action may leave the mean; action units."""

    time: float = 0.1  # s in which the noise loses its memory by a factor e; 0: white
    box: float = 0.3  # of the sampled action about the mean, to either side, in the end
    box_start: float = 0.1  # likewise, in the beginning; more than ``box`` counts as ``box``
    growth: float = 60.0  # s of exploring in which one becomes the other, linearly

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a number is negative or not finite, or a box is wider than the actions.
        """
        for name, most in (('time', 60.0), ('growth', 1e6), ('box', MOST), ('box_start', MOST)):
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
    begins at zero, without a jump. The action is the mean plus ``std`` z, cut to the box.

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

    @property
    def box(self) -> float:
        """Largest deviation now, action units."""
        config = self.config
        start = min(config.box_start, config.box)
        share = min(self.explored / config.growth, 1.0) if config.growth else 1.0
        return start + share * (config.box - start)

    def __call__(self, std: float, *, walking: bool) -> Array:
        """Noise (J,) for this step.

        Args:
            std: its standard deviation before the cut, action units.
            walking: the driver follows the policy, and the command asks to move. Else there is
                silence, and the filter begins anew after it.
        """
        if not walking:
            self._filter = self._nothing
            return self._nothing
        box = self.box
        self.explored += self._period
        normal = self._rng.standard_normal(len(self._nothing), dtype=np.float32)
        spread = np.float32(math.sqrt(1.0 - self._keep**2))
        self._filter = np.float32(self._keep) * self._filter + spread * normal
        noise: Array = np.clip(np.float32(std) * self._filter, -box, box).astype(np.float32)
        return noise
