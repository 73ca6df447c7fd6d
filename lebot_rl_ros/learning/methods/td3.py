"""Twin delayed deterministic policy gradient (Fujimoto et al., arXiv 1802.09477).

DDPG's critic believes too much, and its actor finds where. So there are two critics, and the
smaller value counts; the target's action is blurred; the actor follows more slowly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Space
from lebot_rl_ros.learning.methods.ddpg import DDPG, DDPGConfig


@dataclass(frozen=True)
class TD3Config(DDPGConfig):
    """DDPG's, and the three cures."""

    policy_delay: int = 2  # steps of the critics for one of the actor and of the targets
    target_noise: float = 0.2  # standard deviation on the target's unit action
    target_clip: float = 0.5  # largest of it

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy_delay < 1:
            raise ValueError(f'policy_delay is {self.policy_delay}, must be at least 1')


def smooth(action: Tensor, noise: Tensor, clip: float) -> Tensor:
    """Unit actions (B, A) with noise of at most ``clip`` on them, kept within -1 to 1."""
    return (action + noise.clamp(-clip, clip)).clamp(-1.0, 1.0)


def smallest(values: Sequence[Tensor]) -> Tensor:
    """The least that any critic says, (B,) each."""
    return torch.stack(tuple(values)).amin(dim=0)


class TD3(DDPG):
    """Two critics, the smaller one's word, smoothed target actions, a delayed actor."""

    name = 'td3'
    reference = 'Fujimoto et al., Addressing function approximation error, arXiv 1802.09477'
    critics = 2
    config: TD3Config

    def __init__(
        self, config: TD3Config, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Build it as :class:`DDPG` is built."""
        super().__init__(config, observation_space, action_space, seed)
        self._noise = torch.zeros(config.batch, self.actions)

    @property
    def policy_delay(self) -> int:
        """Gradient steps of the critics for one of the actor and of the targets."""
        return self.config.policy_delay

    def next_values(self, observation: Tensor) -> Tensor:
        """What comes after (B,): min over critics of Q'(s', mu'(s') + noise)."""
        target, config = self.target.network, self.config
        self.rng.standard_normal(dtype='float32', out=self._noise.numpy())
        noise = self._noise * config.target_noise
        action = smooth(target.policy(observation), noise, config.target_clip)
        return smallest(target.values(observation, action))
