"""What REINFORCE and actor-critic share: a stochastic policy, a critic, and steps along a loss."""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.distributions import Categorical, Distribution, Gaussian
from lebot_rl_ros.learning.method import Array, Box, Discrete, Method, Space, State, unfit
from lebot_rl_ros.learning.modules import as_input, make_extractor
from lebot_rl_ros.learning.schedules import Schedule
from lebot_rl_ros.learning.state import (
    draws_state,
    load_draws,
    load_module_state,
    load_optimiser_state,
    module_state,
    optimiser_state,
)
from lebot_rl_ros.policy.networks import ActorCritic


@dataclass(frozen=True)
class PolicyGradientConfig:
    """Policy, critic, and how far to step."""

    discount: float = 0.99  # gamma, in [0, 1]
    learning_rate: str | float = '1e-3'  # of the policy; a schedule
    value_learning_rate: str | float = '5e-3'  # of the critic; a schedule
    entropy_coefficient: float = 0.0  # nats are worth so much of an advantage
    gradient_norm: float | None = 0.5  # largest, of the policy and of the critic apart
    hidden: tuple[int, ...] = (64, 64)  # widths of the layers of both networks
    activation: str = 'tanh'  # elu, relu or tanh
    initial_std: float = 0.6  # of continuous actions, in their units; it stays in 0.05 to 1
    normalise_observations: bool = False  # by mean and variance of what was seen

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f'discount is {self.discount}; it must be in [0, 1]')


PolicyConfig = TypeVar('PolicyConfig', bound=PolicyGradientConfig)


class PolicyGradient(Method[PolicyConfig]):
    """A policy over choices or a Gaussian one over vectors, and a critic beside it."""

    def __init__(
        self, config: PolicyConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Build networks and optimiser; discrete observations become one-hot vectors.

        Raises:
            ValueError: observations are pictures, or actions are neither choices nor vectors.
        """
        super().__init__(config, observation_space, action_space, seed)
        self.discrete = isinstance(action_space, Discrete)
        if isinstance(action_space, Box) and len(action_space.shape) != 1:
            raise unfit(self.name, 'actions', action_space, 'it takes choices and vectors')
        self.extract = make_extractor(None, observation_space)
        if list(self.extract.parameters()):
            raise unfit(self.name, 'pictures as observations', observation_space, 'ppo takes them')
        torch.manual_seed(seed)
        actions = action_space.n if isinstance(action_space, Discrete) else action_space.shape[0]
        self.network = ActorCritic(
            self.extract.size,
            actions,
            config.hidden,
            config.activation,
            config.initial_std,
        )
        self.network.log_std.requires_grad_(not self.discrete)  # choices have no spread
        self.rates = [
            Schedule.parse(rate) for rate in (config.learning_rate, config.value_learning_rate)
        ]
        self.explore_rng = np.random.default_rng([seed, 1])
        self.make_optimisers()

    def make_optimisers(self) -> None:
        """Adam on what is trained now: group 0 is the policy's, group 1 the critic's."""
        groups: list[list[torch.nn.Parameter]] = [[], []]
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups[name.startswith('critic.')].append(parameter)
        self.optimiser = torch.optim.Adam([{'params': group} for group in groups], fused=True)

    def features(self, observation: Array) -> Tensor:
        """Input of the networks (M, O), for observations (M, ...) of the space."""
        x = self.extract(as_input(observation))
        return self.network.normaliser(x)

    @torch.no_grad()
    def watch(self, observation: Array) -> None:
        """Let the normaliser see (M, ...); after an update, so that its log-probs were those."""
        if self.config.normalise_observations:
            self.network.normaliser.update(self.extract(as_input(observation)))

    def distribution(self, features: Tensor) -> Distribution:
        """What the policy would do."""
        out = self.network.actor(features)
        return Categorical(out) if self.discrete else Gaussian(out, self.network.log_std)

    def values(self, features: Tensor) -> Tensor:
        """What the critic expects (...)."""
        return self.network.critic(features).squeeze(-1)

    @torch.no_grad()
    def predict(self, observation: Array) -> Array:
        """Values (M,) of observations (M, ...), for :meth:`Rollouts.values`."""
        return self.values(self.features(observation)).numpy()

    @torch.no_grad()
    def sample(self, observation: Array) -> tuple[Array, Array]:
        """Draw actions (N, ...) and their log-probabilities (N,), for ``collect``."""
        distribution = self.distribution(self.features(observation))
        action = distribution.sample(self.rng)
        return action.numpy(), distribution.log_prob(action).numpy()

    @torch.no_grad()
    def act(self, observation: Array, *, explore: bool = False) -> Array:
        """Mean or most probable actions (N, ...), or drawn ones."""
        distribution = self.distribution(self.features(observation))
        return (distribution.sample(self.explore_rng) if explore else distribution.mode()).numpy()

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

    def state(self) -> State:
        """Networks, optimiser, random draws."""
        return {
            **module_state(self.network),
            **optimiser_state(self.optimiser),
            **draws_state(rng=self.rng, explore_rng=self.explore_rng),
        }

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; ValueError where it does not fit."""
        load_module_state(self.network, state)
        load_optimiser_state(self.optimiser, state)
        load_draws(state, rng=self.rng, explore_rng=self.explore_rng)
