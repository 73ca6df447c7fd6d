"""Proximal policy optimisation (Schulman et al., arXiv 1707.06347), of any environment.

The losses are in ``ppo_losses``, the ways from them to new weights in ``ppo_paths``, the epochs
in ``ppo_update``. The walk's own trainer, ``learning.ppo``, has the same losses.
"""

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lebot_rl_ros.learning.method import (
    Array,
    Box,
    Discrete,
    Method,
    Metrics,
    Space,
    State,
    World,
    unfit,
)
from lebot_rl_ros.learning.methods.ppo_config import PPOMethodConfig as PPOMethodConfig
from lebot_rl_ros.learning.methods.ppo_losses import Batch
from lebot_rl_ros.learning.methods.ppo_paths import FastPath, GeneralPath, Path
from lebot_rl_ros.learning.methods.ppo_sampler import Sampler
from lebot_rl_ros.learning.methods.ppo_update import update
from lebot_rl_ros.learning.modules import (
    Build,
    FeatureActorCritic,
    Flatten,
    as_input,
    is_vector,
    make_extractor,
)
from lebot_rl_ros.learning.returns import compute_gae, explained_variance
from lebot_rl_ros.learning.reward_scale import RewardScale
from lebot_rl_ros.learning.rollouts import Rollouts, collect, flatten
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
from lebot_rl_ros.policy.runtime import EPSILON

IDENTITY = 1.0 - EPSILON  # variance with which a normaliser leaves its input as it is, to the bit


class PPOMethod(Method[PPOMethodConfig]):
    """Rollouts and clipped updates by turns."""

    name: ClassVar[str] = 'ppo'
    reference: ClassVar[str] = 'Schulman et al., arXiv 1707.06347'
    path: Path

    def __init__(
        self,
        config: PPOMethodConfig,
        observation_space: Space,
        action_space: Space,
        seed: int = 0,
        extractor: Build | None = None,
    ) -> None:
        """Build networks and optimiser.

        Args:
            config: how to learn.
            observation_space: of one environment; anything that an extractor takes.
            action_space: choices, or vectors of real numbers.
            seed: of weights, actions and order of samples.
            extractor: builds features of one's own from the space, in place of the config's.

        Raises:
            ValueError: the actions or observations are of another kind, or the config asks for
                what they cannot have.
        """
        super().__init__(config, observation_space, action_space, seed)
        self.discrete = isinstance(action_space, Discrete)
        if isinstance(action_space, Box) and not is_vector(action_space):
            raise unfit(self.name, 'actions', action_space, 'it takes choices and real vectors')
        if self.discrete and config.state_dependent:
            raise unfit(self.name, 'actions', action_space, 'state_dependent is for vectors')
        if config.normalise_observations and not is_vector(observation_space):
            choices = 'normalise_observations is for vectors'
            raise unfit(self.name, 'observations', observation_space, choices)
        with torch.random.fork_rng(devices=[]):  # the weights are drawn by the seed alone
            torch.manual_seed(seed)
            choice = config.extractor if extractor is None else extractor
            self.network = self._make_network(choice)
        self.rate, self.clip = Schedule.parse(config.learning_rate), Schedule.parse(config.clip)
        self.reward_scale = RewardScale(config.discount) if config.normalise_rewards else None
        self.explore_rng = np.random.default_rng([seed, 1])
        self.make_optimisers()

    def _make_network(self, choice: str | Build | None) -> ActorCritic:
        config, actions = self.config, self.action_space
        size = actions.n if isinstance(actions, Discrete) else actions.shape[0]
        features = make_extractor(choice, self.observation_space)
        # Fixed features are computed once, before the network, which then may be a plain one.
        learned = next(features.parameters(), None) is not None or config.shared
        plain = learned or (is_vector(self.observation_space) and type(features) is Flatten)
        self.features: nn.Module = nn.Identity() if plain else features
        network: ActorCritic
        if learned:
            network = FeatureActorCritic(
                self.observation_space, size, config.hidden, config.activation,
                config.initial_std, extractor=choice, shared=config.shared,
            )  # fmt: skip
        else:
            network = ActorCritic(
                features.size, size, config.hidden, config.activation, config.initial_std
            )
        if config.state_dependent:
            latent = config.hidden[-1] if config.hidden else features.size
            spread = torch.full((latent, size), math.log(config.initial_std))
            network.log_std = nn.Parameter(spread)
        if self.discrete:
            network.log_std.requires_grad_(False)  # choices have no spread
        if not config.normalise_observations:
            network.normaliser.var.fill_(IDENTITY)
        return network

    def make_optimisers(self) -> None:
        """Train what of the network is not frozen, from now on, with a new optimiser."""
        path = FastPath if FastPath.fits(self.network, self.discrete) else GeneralPath
        self.path = path(self.network, self.discrete, self.config.minibatch)
        trained = [p.requires_grad for n, p in self.network.named_parameters() if n != 'log_std']
        self._whole = all(trained)  # a part, as an adapter, belongs to a normaliser that stays
        self._look_at_normaliser()

    def _look_at_normaliser(self) -> None:
        """Use it if it is asked for, and also where weights came with one of their own."""
        mean, var = self.network.normaliser.mean, self.network.normaliser.var
        plain = not mean.any() and torch.equal(var, torch.full_like(var, IDENTITY))
        self._normalised = self.config.normalise_observations or not plain

    def iterate(self, world: World) -> Metrics:
        """Collect one rollout and learn from it.

        Raises:
            ValueError: the update is not finite.
        """
        config = self.config
        with torch.no_grad():
            sampler = Sampler(self.path, self._prepare, self.rng, config.noise_steps)
            rollouts = collect(world, sampler, config.horizon)
            batch, raw = self._batch(rollouts)
        told = explained_variance(batch.values.numpy(), batch.returns.numpy())
        rate, clip = self.rate(self.progress), self.clip(self.progress)
        learned = update(self.path, batch, config, self.rng, rate=rate, clip=clip)
        if config.normalise_observations and self._whole:
            self.network.normaliser.update(raw)  # after it: the log_probs were those of the old
        return {'explained_variance': told, **learned}

    def act(self, observation: Array, *, explore: bool = False) -> Array:
        """Means or most probable choices (N, ...), or draws around them."""
        with torch.no_grad():
            policy = self.path.policy(self._prepare(observation))
            action = policy.sample(self.explore_rng) if explore else policy.mode()
            return action.numpy().copy()

    def start_over(self) -> None:
        """Begin the returns anew that scale rewards."""
        if self.reward_scale is not None:
            self.reward_scale.start_over()

    def state(self) -> State:
        """Network, optimiser, random draws, and the scale of rewards if there is one."""
        state = {**module_state(self.network), **optimiser_state(self.path.optimiser)}
        if self.reward_scale is not None:
            state |= module_state(self.reward_scale, 'reward_scale')
        return {
            **state,
            **draws_state(rng=self.rng, explore_rng=self.explore_rng),
        }

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; ValueError where it does not fit."""
        load_module_state(self.network, state)
        self._look_at_normaliser()
        load_optimiser_state(self.path.optimiser, state)
        if self.reward_scale is not None:
            load_module_state(self.reward_scale, state, 'reward_scale')
        load_draws(state, rng=self.rng, explore_rng=self.explore_rng)

    def _prepare(self, observation: Array) -> Tensor:
        """Input of the network for observations (N, ...)."""
        x: Tensor = self.features(as_input(observation))
        return self.network.normaliser(x) if self._normalised else x

    def _values(self, observation: Array) -> Array:
        return self.path.values(self._prepare(observation)).numpy()

    def _batch(self, rollouts: Rollouts) -> tuple[Batch, Tensor]:
        """What to learn from, and its observations as they were before the normaliser."""
        config, rewards = self.config, rollouts.rewards
        if self.reward_scale is not None:
            rewards = self.reward_scale.scale(rewards, rollouts.done)
        values, next_values = rollouts.values(self._values)
        advantages, returns = compute_gae(
            rewards, values, next_values, rollouts.terminated, rollouts.truncated,
            discount=config.discount, trace=config.trace,
        )  # fmt: skip
        parts = (rollouts.actions, rollouts.log_probs, values, advantages, returns)
        raw: Tensor = self.features(as_input(flatten(rollouts.observations)))
        batch = Batch(
            self.network.normaliser(raw) if self._normalised else raw,
            *(torch.from_numpy(np.ascontiguousarray(flatten(part))) for part in parts),
        )
        return batch, raw
