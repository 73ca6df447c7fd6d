"""Deep deterministic policy gradient (Lillicrap et al., arXiv 1509.02971).

The critic learns Q(s, a) <- r + gamma Q'(s', mu'(s')) from replayed steps, of slow copies Q', mu';
the actor climbs its slope: grad J = E[grad_a Q(s, a) grad mu(s)] at a = mu(s).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.deterministic import (
    DeterministicNetwork,
    bellman_target,
    value_loss,
)
from lebot_rl_ros.learning.method import Array, Box, Metrics, Space, State, World
from lebot_rl_ros.learning.off_policy import OffPolicy, OffPolicyConfig, optimiser
from lebot_rl_ros.learning.replay import Minibatch
from lebot_rl_ros.learning.schedules import Schedule
from lebot_rl_ros.learning.state import (
    load_module_state,
    load_optimiser_state,
    load_rng_state,
    module_state,
    optimiser_state,
    rng_state,
)
from lebot_rl_ros.learning.targets import Target

PARTS = ('actor.', 'critics.', 'normaliser.')  # of a network that can be given to start from


@dataclass(frozen=True)
class DDPGConfig(OffPolicyConfig):
    """What is learned, and how fast."""

    hidden: tuple[int, ...] = (400, 300)  # widths, of the actor and of each critic
    activation: str = 'relu'  # or elu, tanh
    layer_norm: bool = False  # of the critics; steadier with many gradient steps per step
    weights: str = 'orthogonal'  # how they begin; uniform: within 1 / sqrt(inputs)
    squash: str = 'tanh'  # how the actor's output becomes an action; `clip`: in the world's units
    normalise: bool = False  # observations, by the steps before learning starts; frozen then
    learning_rate: str | float = 1e-3  # schedule, of the actor and the critics
    critic_rate: str | float | None = None  # schedule, of the critics if theirs is another
    tau: float = 0.005  # step of the target networks towards the networks
    critic_warmup: int = 0  # gradient steps at the start that leave the actor as it is
    base_coefficient: float = (
        0.0  # of |mu(s) - mu_base(s)|^2, the policy at the start, in the loss
    )


class DDPG(OffPolicy[DDPGConfig]):
    """One critic, and a step of the actor for each of its steps."""

    name = 'ddpg'
    reference = 'Lillicrap et al., Continuous control with deep RL, arXiv 1509.02971'
    critics: ClassVar[int] = 1

    def __init__(
        self, config: DDPGConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Build networks, targets and optimisers; see :class:`OffPolicy`."""
        super().__init__(config, observation_space, action_space, seed)
        assert isinstance(observation_space, Box)
        assert isinstance(action_space, Box)
        with torch.random.fork_rng(devices=[]):  # the weights are drawn by the seed alone
            torch.manual_seed(seed)
            self.network = DeterministicNetwork(
                observation_space.shape[0], action_space, config.hidden, config.activation,
                critics=self.critics, layer_norm=config.layer_norm, squash=config.squash,
                weights=config.weights,
            )  # fmt: skip
        self.target, self.base = Target(self.network), Target(self.network)
        self.rates = (
            Schedule.parse(config.learning_rate),
            Schedule.parse(
                config.learning_rate if config.critic_rate is None else config.critic_rate
            ),
        )
        self.make_optimisers()

    @property
    def policy_delay(self) -> int:
        """Gradient steps of the critics for one of the actor and of the targets."""
        return 1

    def make_optimisers(self) -> None:
        """Train what has ``requires_grad``; the targets, and the base, are what is there now."""
        self.target.follow(self.network)
        self.base.follow(self.network)
        network, rates = self.network, [rate(self.progress) for rate in self.rates]
        self._actor_parameters = [p for p in network.actor.parameters() if p.requires_grad]
        self.actor_optimiser = optimiser(self._actor_parameters, rates[0])
        self.critic_optimiser = optimiser(list(network.critics.parameters()), rates[1])

    def warm_start(self, tensors: Mapping[str, Array]) -> None:
        """Begin from a trained actor, and from critics and a normaliser where they are given.

        The policy is then the base that ``base_coefficient`` holds on to.

        Args:
            tensors: by the names of the network (``actor.0.weight``, ``critics.0.layers.0.bias``,
                ``normaliser.mean``), also with ``network.`` before them as in :meth:`state`, or of
                a policy file of the suite; its ``log_std`` and state values say nothing here.

        Raises:
            ValueError: there is no actor, or something does not fit.
        """
        given = {name.removeprefix('network.'): value for name, value in tensors.items()}
        parts = {name: value for name, value in given.items() if name.startswith(PARTS)}
        if not any(name.startswith('actor.') for name in parts):
            raise ValueError(f'nothing to start from: no actor among {sorted(tensors) or "none"}')
        mean, var = parts.get('normaliser.mean', np.zeros(1)), parts.get('normaliser.var', 1.0)
        normalised = bool(np.any(mean != 0.0) or np.any(var != 1.0))
        if normalised and not self.config.normalise:
            raise ValueError('the actor to start from has a normaliser: set normalise to true')
        named = {f'network.{name}': value for name, value in parts.items()}
        load_module_state(self.network, module_state(self.network) | named)
        if normalised:
            self.network.normaliser.count.clamp_(min=1.0)  # so that `begin` leaves it as it is
        self.make_optimisers()

    def begin(self) -> None:
        """Fix the normaliser, unless it came with the policy: replayed values must hold still."""
        if self.config.normalise and not float(self.network.normaliser.count):
            self.network.normaliser.update(
                torch.from_numpy(self.replay.observations[: len(self.replay)])
            )

    def iterate(self, world: World) -> Metrics:
        """Set the rates for this iteration, and go on as all off-policy methods do."""
        optimisers = self.actor_optimiser, self.critic_optimiser
        for one, schedule in zip(optimisers, self.rates, strict=True):
            if one is not None:
                one.param_groups[0]['lr'] = schedule(self.progress)
        metrics = super().iterate(world)
        return {**metrics, 'learning_rate': self.rates[0](self.progress)}

    @torch.no_grad()
    def unit_policy(self, observation: Array) -> Array:
        """Unit actions (N, A) for observations (N, O)."""
        seen = self.normalised(torch.from_numpy(observation.astype(np.float32, copy=False)))
        return self.network.policy(seen).numpy()

    def normalised(self, observation: Tensor) -> Tensor:
        """Observations as the networks take them."""
        return self.network.normaliser(observation) if self.config.normalise else observation

    def learn(self, batch: Minibatch) -> None:
        """One step of the critics, and one of the actor and the targets when it is due."""
        observation = self.normalised(batch.observations)
        with torch.no_grad():
            following = self.next_values(self.normalised(batch.next_observations))
            targets = bellman_target(batch.rewards, batch.discounts, following)
        if self.critic_optimiser is not None:
            values = self.network.values(observation, batch.actions)
            loss = value_loss(values, targets)
            self.critic_optimiser.zero_grad()
            torch.autograd.backward(loss)
            self.critic_optimiser.step()
            self.note('value_loss', loss)
        if self.updates % self.policy_delay == 0:
            if self.actor_optimiser is not None and self.updates > self.config.critic_warmup:
                loss = self.policy_loss(observation)
                self.actor_optimiser.zero_grad()
                # The critic lends its slope; its own weights need no gradient now.
                torch.autograd.backward(loss, inputs=self._actor_parameters)
                self.actor_optimiser.step()
                self.note('policy_loss', loss)
            self.target.update(self.config.tau)

    def next_values(self, observation: Tensor) -> Tensor:
        """What comes after (B,), by the targets: Q'(s', mu'(s')); observations (B, O)."""
        target = self.target.network
        return target.critics[0](observation, target.policy(observation))

    def policy_loss(self, observation: Tensor) -> Tensor:
        """-mean Q(s, mu(s)) by the first critic, and how far the policy is from its base."""
        action = self.network.policy(observation)
        loss = -self.network.critics[0](observation, action).mean()
        if self.config.base_coefficient:
            with torch.no_grad():
                base = self.base.network.policy(observation)
            loss = loss + self.config.base_coefficient * (action - base).square().sum(-1).mean()
        return loss

    def state(self) -> State:
        """Networks, targets, optimisers, noise and draws; without the replay."""
        state = {
            **module_state(self.network),
            **module_state(self.target.network, 'target'),
            'rng': rng_state(self.rng),
            'noise': self.noise.memory.copy(),
            'counts': np.array([self.taken, self.updates]),
            'credit': np.array(self.credit),
        }
        if self.config.base_coefficient:
            state |= module_state(self.base.network.actor, 'base')
        for i, one in enumerate((self.actor_optimiser, self.critic_optimiser)):
            if one is not None:
                state |= optimiser_state(one, f'optimiser.{i}')
        return state

    def load_state(self, state: State) -> None:
        """Go on from :meth:`state`; the replay fills again, by the policy, before it learns."""
        missing = [name for name in ('rng', 'noise', 'counts', 'credit') if name not in state]
        if missing:
            raise ValueError(f'{missing[0]} is missing in the state of {self.name}')
        load_module_state(self.network, state)
        load_module_state(self.target.network, state, 'target')
        if self.config.base_coefficient:
            load_module_state(self.base.network.actor, state, 'base')
        for i, one in enumerate((self.actor_optimiser, self.critic_optimiser)):
            if one is not None:
                load_optimiser_state(one, state, f'optimiser.{i}')
        load_rng_state(self.rng, state['rng'])
        self.noise.memory = state['noise'].copy()
        self.taken, self.updates = state['counts'].tolist()
        self.credit = float(state['credit'])
