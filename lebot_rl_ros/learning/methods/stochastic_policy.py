"""What methods with a stochastic policy on vectors share: its network, how it acts, its state."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.distributions import Categorical, Distribution, Gaussian
from lebot_rl_ros.learning.method import Array, Discrete, Method, Space, State, unfit
from lebot_rl_ros.learning.modules import as_input, make_extractor
from lebot_rl_ros.learning.state import (
    draws_state,
    load_draws,
    load_module_state,
    load_optimiser_state,
    module_state,
    optimiser_state,
)
from lebot_rl_ros.policy.networks import ActorCritic, check_initial_std


@dataclass(frozen=True)
class StochasticPolicyConfig:
    """The networks, and how far to step."""

    learning_rate: str | float = '1e-3'  # of the policy; a schedule
    gradient_norm: float | None = 0.5  # largest, of the policy and of the critic apart
    hidden: tuple[int, ...] = (64, 64)  # widths of the layers
    activation: str = 'tanh'  # elu, relu or tanh
    initial_std: float = 0.6  # of continuous actions, in their units; it stays in 0.05 to 1
    normalise_observations: bool = False  # by mean and variance of what was seen

    def __post_init__(self) -> None:
        check_initial_std(self.initial_std)


PolicyConfig = TypeVar('PolicyConfig', bound=StochasticPolicyConfig)


class StochasticPolicy(Method[PolicyConfig]):
    """A policy over choices or a Gaussian one over vectors, and a critic beside it.

    A subclass calls :meth:`make_optimisers` at the end of its constructor.
    """

    optimiser: torch.optim.Optimizer

    def __init__(
        self, config: PolicyConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Build the network; discrete observations become one-hot vectors.

        Raises:
            ValueError: observations are pictures, or actions are neither choices nor vectors.
        """
        super().__init__(config, observation_space, action_space, seed)
        self.discrete = isinstance(action_space, Discrete)
        if not isinstance(action_space, Discrete) and len(action_space.shape) != 1:
            raise unfit(self.name, 'actions', action_space, 'it takes choices and vectors')
        self.extract = make_extractor(None, observation_space)
        if list(self.extract.parameters()):
            raise unfit(self.name, 'pictures as observations', observation_space, 'ppo takes them')
        with torch.random.fork_rng(devices=[]):  # the weights are drawn by the seed alone
            torch.manual_seed(seed)
            self.network = ActorCritic(
                self.extract.size,
                action_space.n if isinstance(action_space, Discrete) else action_space.shape[0],
                config.hidden,
                config.activation,
                config.initial_std,
            )
        self.network.log_std.requires_grad_(not self.discrete)  # choices have no spread
        self.explore_rng = np.random.default_rng([seed, 1])

    def make_optimisers(self) -> None:
        """Look at what is trained now; a subclass makes its optimiser of it."""
        # A part, as an adapter, belongs to a normaliser that stays.
        self._whole = all(p.requires_grad for p in self.network.actor.parameters())

    def features(self, observation: Array) -> Tensor:
        """Input of the networks (M, O), for observations (M, ...) of the space."""
        x: Tensor = self.network.normaliser(self.extract(as_input(observation)))
        return x

    def distribution(self, features: Tensor) -> Distribution:
        """What the policy would do."""
        return self._of(self.network, features)

    def at(self, observation: Array, network: ActorCritic | None = None) -> Distribution:
        """What the policy would do for observations (M, ...), or another network would."""
        network = self.network if network is None else network
        return self._of(network, network.normaliser(self.extract(as_input(observation))))

    def _of(self, network: ActorCritic, features: Tensor) -> Distribution:
        out = network.actor(features)
        return Categorical(out) if self.discrete else Gaussian(out, network.log_std)

    @torch.no_grad()
    def watch(self, observation: Array) -> None:
        """Let the normaliser see (M, ...); after an update, so that its log-probs were those."""
        if self.config.normalise_observations and self._whole:
            self.network.normaliser.update(self.extract(as_input(observation)))

    @torch.no_grad()
    def sample(self, observation: Array) -> tuple[Array, Array]:
        """Draw actions (N, ...) and their log-probabilities (N,), for ``collect``."""
        distribution = self.at(observation)
        action = distribution.sample(self.rng)
        return action.numpy(), distribution.log_prob(action).numpy()

    @torch.no_grad()
    def act(self, observation: Array, *, explore: bool = False) -> Array:
        """Mean or most probable actions (N, ...), or drawn ones."""
        distribution = self.at(observation)
        return (distribution.sample(self.explore_rng) if explore else distribution.mode()).numpy()

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
