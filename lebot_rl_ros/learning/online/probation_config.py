"""Thresholds of probation."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ProbationConfig:
    """How long, and what counts as worse."""

    window: float = 2.5  # s of walking
    windows: int = 2  # until a version that is as good is accepted
    patience: int = 2  # more windows for one that is neither clearly as good nor clearly worse
    drop: float = 0.2  # share of the accepted version's reward that is too much to lose
    noise: float = 0.5  # of the spread of blocks: the least loss that can be told from chance
    cusum: float = 4.0  # nats of evidence for that loss that reject
    block_cap: float = 1.5  # nats that one block may add: a stumble is no proof
    fall_cusum: float = 2.0  # nats of evidence for more falls that reject
    fall_factor: float = 2.0  # "more falls": this many times the accepted version's rate,
    fall_extra: float = 0.2  # and so many a second more
    block: float = 0.4  # s; a cycle of the gait
    settle: float = 0.5  # s after a swap, a new command or a stop that do not count for reward
    memory: float = 30.0  # s of walking, time constant of the accepted version's level
    recovery: float = 120.0  # s, time constant with which its best falls to its present level
    home_cusum: float = 10.0  # nats of evidence that the base earned more, after which it is tried
    home_fall_cusum: float = 4.0  # nats of evidence that it fell less, likewise

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a value that is out of its range.
        """
        for entry in fields(self):
            value, least = getattr(self, entry.name), entry.name in ('patience', 'settle')
            if not (math.isfinite(value) and (value >= 0 if least else value > 0)):
                wanted = '0 or more' if least else 'positive'
                raise ValueError(f'{entry.name} is {value!r}, must be {wanted}')
