"""What REINFORCE and actor-critic share: a stochastic policy, a critic, and steps along a loss."""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Array, Space
from lebot_rl_ros.learning.methods.stochastic_policy import (
    StochasticPolicy,
    StochasticPolicyConfig,
)
from lebot_rl_ros.learning.schedules import Schedule


@dataclass(frozen=True)
class PolicyGradientConfig(StochasticPolicyConfig):
    """What a critic adds."""

    discount: float = 0.99  # gamma, in [0, 1]
    value_learning_rate: str | float = '5e-3'  # of the critic; a schedule
    entropy_coefficient: float = 0.0  # nats are worth so much of an advantage

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f'discount is {self.discount}; it must be in [0, 1]')


PolicyConfig = TypeVar('PolicyConfig', bound=PolicyGradientConfig)


class PolicyGradient(StochasticPolicy[PolicyConfig]):
    """A critic beside the policy, and steps along the losses of both."""

    def __init__(
        self, config: PolicyConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Build networks and optimiser; see :class:`StochasticPolicy`."""
        super().__init__(config, observation_space, action_space, seed)
        self.rates = [
            Schedule.parse(rate) for rate in (config.learning_rate, config.value_learning_rate)
        ]
        self.make_optimisers()

    def make_optimisers(self) -> None:
        """Adam on what is trained now: group 0 is the policy's, group 1 the critic's."""
        super().make_optimisers()
        groups: list[list[torch.nn.Parameter]] = [[], []]
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups[name.startswith('critic.')].append(parameter)
        self.optimiser = torch.optim.Adam([{'params': group} for group in groups], fused=True)

    def values(self, features: Tensor) -> Tensor:
        """What the critic expects (...)."""
        return self.network.critic(features).squeeze(-1)

    @torch.no_grad()
    def predict(self, observation: Array) -> Array:
        """Values (M,) of observations (M, ...), for :meth:`Rollouts.values`."""
        return self.values(self.features(observation)).numpy()

    def policy_loss(
        self, features: Tensor, actions: Array, weights: Array
    ) -> tuple[Tensor, Tensor]:
        """-sum(weight log_prob + entropy_coefficient weight' entropy), and the mean entropy.

        Args:
            features: (B, O).
            actions: (B, ...) that were taken.
            weights: (2, B), of the log-probabilities and of the entropies.
        """
        distribution = self.distribution(features)
        log_prob, entropy = (
            distribution.log_prob(torch.from_numpy(actions)),
            distribution.entropy(),
        )
        gain, share = torch.from_numpy(weights.astype(np.float32))
        loss = -(gain * log_prob).sum()
        if self.config.entropy_coefficient:
            loss = loss - self.config.entropy_coefficient * (share * entropy).sum()
        return loss, entropy.detach().mean()

    def descend(self, policy_loss: Tensor | None, value_loss: Tensor | None) -> None:
        """One step along each loss that is given; the rates are those of the schedules.

        Raises:
            ValueError: a gradient is not finite.
        """
        losses = [loss for loss in (policy_loss, value_loss) if loss is not None]
        self.optimiser.zero_grad()  # Adam leaves parameters without a gradient alone
        if not any(loss.requires_grad for loss in losses):
            return
        sum(losses[1:], losses[0]).backward()  # type: ignore[no-untyped-call]
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group['lr'] = rate(self.progress)
            gradients = [p.grad for p in group['params'] if p.grad is not None]
            if gradients:
                self._limit(gradients, group['lr'])
        self.optimiser.step()
        self.network.clamp_log_std()

    def _limit(self, gradients: list[Tensor], rate: float) -> None:
        """Shorten gradients, as one vector, to the largest norm."""
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        if not math.isfinite(norm):
            raise ValueError(
                f'{self.name}: the gradient is not finite; lower the learning rate ({rate:g} now)'
            )
        largest = self.config.gradient_norm
        if largest is not None and norm > largest:
            torch._foreach_mul_(gradients, largest / norm)
