"""Actor-critic: the critic's error, not the whole return, says how good an action was."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Array, Metrics, State, World
from lebot_rl_ros.learning.methods.policy_gradient import PolicyGradient, PolicyGradientConfig
from lebot_rl_ros.learning.returns import compute_gae, explained_variance, normalise
from lebot_rl_ros.learning.rollouts import Rollouts, collect, flatten
from lebot_rl_ros.learning.traces import Traces


@dataclass(frozen=True)
class ActorCriticMethodConfig(PolicyGradientConfig):
    """Online, batched, or on a stream with eligibility traces."""

    steps: int = 8  # of each environment before an update; 1 is one-step TD
    trace: float = 1.0  # lambda; in a batch 1 looks up to `steps` ahead, 0 one step
    normalise_advantages: bool = False  # to mean 0 and variance 1 over an update
    updates: int = 32  # an iteration, between two reports
    streaming: bool = False  # eligibility traces, without batches and Adam; of one environment
    policy_bound: float | None = 3.0  # of a streaming step; see learning.traces
    value_bound: float | None = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.updates < 1:
            raise ValueError(f'steps {self.steps} and updates {self.updates} must be 1 or more')
        if not 0.0 <= self.trace <= 1.0:
            raise ValueError(f'trace is {self.trace}; it must be in [0, 1]')


class ActorCriticMethod(PolicyGradient[ActorCriticMethodConfig]):
    """Sutton and Barto 2018, sections 13.5 and 13.6; with batches it is A2C."""

    name: ClassVar[str] = 'actor_critic'
    reference: ClassVar[str] = 'Sutton and Barto 2018, section 13.5; A2C of arXiv 1602.01783'

    def make_optimisers(self) -> None:
        """Adam on what is trained now, and traces beside it."""
        super().make_optimisers()
        bounds = (self.config.policy_bound, self.config.value_bound)
        groups = [group['params'] for group in self.optimiser.param_groups]
        self.traces = [Traces(*pair) for pair in zip(groups, bounds, strict=True)]

    def iterate(self, world: World) -> Metrics:
        """Learn ``updates`` times; the metrics are means over them.

        Raises:
            ValueError: a stream of several environments.
        """
        if self.config.streaming and world.count != 1:
            raise ValueError(
                f'{self.name}: streaming learns from 1 environment, here are {world.count}'
            )
        learn = self._stream if self.config.streaming else self._update
        rows = [learn(world) for _ in range(self.config.updates)]
        metrics = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        return {**metrics, 'learning_rate': self.rates[0](self.progress)}

    def _update(self, world: World) -> Metrics:
        rollouts = collect(world, self.sample, self.config.steps)
        advantages, returns = self.advantages(rollouts)
        policy_loss, value_loss, entropy = self.losses(rollouts, advantages, returns)
        self.descend(policy_loss, value_loss)
        self.watch(flatten(rollouts.observations))
        return {
            'policy_loss': float(policy_loss.detach()),
            'value_loss': float(value_loss.detach()),
            'entropy': float(entropy),
            'explained_variance': explained_variance(returns - advantages, returns),
        }

    def advantages(self, rollouts: Rollouts) -> tuple[Array, Array]:
        """Advantages and targets of the critic (T, N); with one step, reward + discount V' - V."""
        values, next_values = rollouts.values(self.predict)
        return compute_gae(
            rollouts.rewards,
            values,
            next_values,
            rollouts.terminated,
            rollouts.truncated,
            discount=self.config.discount,
            trace=self.config.trace,
        )

    def losses(
        self, rollouts: Rollouts, advantages: Array, returns: Array
    ) -> tuple[Tensor, Tensor, Tensor]:
        """policy_loss and value_loss, means over the steps, and the entropy.

        Advantages and returns are constants: the gradient does not go through the critic's
        estimate of what comes next (a semi-gradient).
        """
        features = self.features(flatten(rollouts.observations))
        gain = flatten(advantages)
        if self.config.normalise_advantages:
            gain = normalise(gain)
        weights = np.stack((gain, np.ones_like(gain))) / len(gain)
        policy_loss, entropy = self.policy_loss(features, flatten(rollouts.actions), weights)
        error = self.values(features) - torch.from_numpy(flatten(returns))
        return policy_loss, error.square().mean(), entropy

    def _stream(self, world: World) -> Metrics:
        """One step, and at once one step of the weights along their traces."""
        config = self.config
        features = self.features(world.observation)
        distribution, value = self.distribution(features), self.values(features)[0]
        action = distribution.sample(self.rng)
        log_prob, entropy = distribution.log_prob(action)[0], distribution.entropy()[0]
        outcome = world.step(action.numpy())
        ahead = 0.0
        if not outcome.terminated[0]:
            ahead = float(self.predict(outcome.final_observation)[0])
        error = float(outcome.reward[0]) + config.discount * ahead - float(value.detach())
        # The step is error * trace, so the sign keeps the entropy growing whatever the error.
        gain = log_prob + config.entropy_coefficient * float(np.sign(error)) * entropy
        for i, (traces, target) in enumerate(zip(self.traces, (gain, value), strict=True)):
            if traces.parameters:
                traces.decay(config.discount * config.trace)
                traces.add(torch.autograd.grad(target, traces.parameters, allow_unused=True))
                traces.step(error, self.rates[i](self.progress))
                if outcome.done[0]:
                    traces.decay(0.0)
        self.network.clamp_log_std()
        self.watch(world.observation)
        return {
            'policy_loss': -float(log_prob.detach()) * error,
            'value_loss': error**2,
            'entropy': float(entropy.detach()),
        }

    def state(self) -> State:
        """With the traces of a stream."""
        state = super().state()
        if self.config.streaming:
            for name, traces in zip(('actor', 'critic'), self.traces, strict=True):
                state |= traces.state(f'trace.{name}')
        return state

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; ValueError where it does not fit."""
        super().load_state(state)
        if self.config.streaming:
            for name, traces in zip(('actor', 'critic'), self.traces, strict=True):
                traces.load_state(state, f'trace.{name}')
