"""What GRPO and DPO share: a policy without a critic, and a reference that it is held against."""

import copy
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.distributions import Categorical, Distribution, Gaussian
from lebot_rl_ros.learning.method import Array, Discrete, Method, Space, State, unfit
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
class ReferencePolicyConfig:
    """Policy, and how far to step."""

    learning_rate: str | float = '1e-3'  # a schedule
    gradient_norm: float | None = 0.5  # largest
    hidden: tuple[int, ...] = (64, 64)  # widths of the layers
    activation: str = 'tanh'  # elu, relu or tanh
    initial_std: float = 0.6  # of continuous actions, in their units; it stays in 0.05 to 1
    normalise_observations: bool = False  # by mean and variance of what was seen


PolicyConfig = TypeVar('PolicyConfig', bound=ReferencePolicyConfig)


class ReferencePolicy(Method[PolicyConfig]):
    """A policy over choices or a Gaussian one over vectors, and what it was some time ago."""

    def __init__(
        self, config: PolicyConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Build network and optimiser; discrete observations become one-hot vectors.

        Raises:
            ValueError: observations are pictures, or actions neither choices nor vectors.
        """
        super().__init__(config, observation_space, action_space, seed)
        if not isinstance(action_space, Discrete) and len(action_space.shape) != 1:
            raise unfit(self.name, 'actions', action_space, 'it takes choices and vectors')
        self.extract = make_extractor(None, observation_space)
        if list(self.extract.parameters()):
            raise unfit(self.name, 'pictures as observations', observation_space, 'ppo takes them')
        torch.manual_seed(seed)
        self.discrete = isinstance(action_space, Discrete)
        # The critic is never asked; it stays so that files and adapters of other methods fit.
        self.network = ActorCritic(
            self.extract.size,
            action_space.n if isinstance(action_space, Discrete) else action_space.shape[0],
            config.hidden,
            config.activation,
            config.initial_std,
        )
        self.network.critic.requires_grad_(False)
        self.network.log_std.requires_grad_(not self.discrete)  # choices have no spread
        self.rate = Schedule.parse(config.learning_rate)
        self.explore_rng = np.random.default_rng([seed, 1])
        self.make_optimisers()

    def make_optimisers(self) -> None:
        """Adam on what is trained now; what the policy is now becomes the reference."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        # A part, as an adapter, belongs to a normaliser that stays.
        self._whole = all(p.requires_grad for p in self.network.actor.parameters())
        self.optimiser = torch.optim.Adam(trained, lr=self.rate(self.progress))
        self.reference_network = copy.deepcopy(self.network).requires_grad_(False)

    def refer(self) -> None:
        """Let the policy as it is be the reference from now on."""
        self.reference_network.load_state_dict(self.network.state_dict())

    def distribution(self, observation: Array, network: ActorCritic | None = None) -> Distribution:
        """What the policy would do for observations (M, ...), or another network would."""
        network = self.network if network is None else network
        out = network.actor(network.normaliser(self.extract(as_input(observation))))
        return Categorical(out) if self.discrete else Gaussian(out, network.log_std)

    @torch.no_grad()
    def reference_log_prob(self, observation: Array, actions: Tensor) -> Tensor:
        """Log-probability (...) of actions under the reference."""
        return self.distribution(observation, self.reference_network).log_prob(actions)

    @torch.no_grad()
    def sample(self, observation: Array) -> tuple[Array, Array]:
        """Draw actions (N, ...) and their log-probabilities (N,), for ``collect``."""
        distribution = self.distribution(observation)
        action = distribution.sample(self.rng)
        return action.numpy(), distribution.log_prob(action).numpy()

    @torch.no_grad()
    def act(self, observation: Array, *, explore: bool = False) -> Array:
        """Mean or most probable actions (N, ...), or drawn ones."""
        distribution = self.distribution(observation)
        return (distribution.sample(self.explore_rng) if explore else distribution.mode()).numpy()

    def observe(self, observations: Array) -> None:
        """Let the normaliser see (M, ...); after an update, so that its log-probs were those."""
        if self.config.normalise_observations and self._whole:
            self.network.normaliser.update(self.extract(as_input(observations)))

    def descend(self, loss: Tensor) -> None:
        """One step along the loss, at the rate of the schedule.

        Raises:
            ValueError: the gradient is not finite.
        """
        group = self.optimiser.param_groups[0]
        group['lr'] = self.rate(self.progress)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        largest = self.config.gradient_norm
        norm = torch.nn.utils.clip_grad_norm_(
            group['params'], float('inf') if largest is None else largest
        )
        if not bool(torch.isfinite(norm)):
            raise ValueError(
                f'{self.name}: the gradient is not finite; lower the learning rate '
                f'(now {group["lr"]:g})'
            )
        self.optimiser.step()
        self.network.clamp_log_std()

    def state(self) -> State:
        """Policy, reference, optimiser, random draws."""
        return {
            **module_state(self.network),
            **module_state(self.reference_network, 'reference'),
            **optimiser_state(self.optimiser),
            **draws_state(rng=self.rng, explore_rng=self.explore_rng),
        }

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; ValueError where it does not fit."""
        load_module_state(self.network, state)
        load_module_state(self.reference_network, state, 'reference')
        load_optimiser_state(self.optimiser, state)
        load_draws(state, rng=self.rng, explore_rng=self.explore_rng)
