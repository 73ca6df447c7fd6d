"""Settings of a learning run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lebot_rl_ros.learning.online.gate_config import GateConfig
from lebot_rl_ros.learning.online.probation_config import ProbationConfig
from lebot_rl_ros.learning.online.trained import TrainedConfig


@dataclass(frozen=True)
class SessionConfig:
    """Who learns what, and how often it is offered."""

    name: str = 'recover'  # of the adapter
    learner: str = 'td3'
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the learner
    trained: TrainedConfig = field(default_factory=TrainedConfig)
    gate: GateConfig | None = field(default_factory=GateConfig)  # None: versions act unjudged
    probation: ProbationConfig = field(default_factory=ProbationConfig)
    update_every: int = 10  # steps from which the learner may learn at once
    offer_every: int = 250  # steps between two versions
    recent: int = 2000  # steps that the gate judges by

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a number that is not positive.
        """
        for name in ('update_every', 'offer_every', 'recent'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}, must be at least 1')
