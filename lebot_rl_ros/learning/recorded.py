"""Two ways to learn from recorded steps, with one learner: imitate them, or improve on them.

Gradients are written by hand, so all of this runs under ``torch.no_grad``.
"""

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.data.transitions import Transitions, TransitionsError
from lebot_rl_ros.learning.objectives import advantage_weights, recorded_gae, supervised_gradients
from lebot_rl_ros.learning.ppo import PPO, Batch, policy_gradients
from lebot_rl_ros.learning.returns import BoolArray, FloatArray
from lebot_rl_ros.policy.networks import ActorCritic

CRITIC_RATE = 1e-2  # at the start of its own epochs; the base's may be far off for another reward


class Objective(Protocol):
    """One way to learn."""

    observations: Tensor  # normalised: judged by
    actions: Tensor  # recorded there

    def epoch(self, rng: np.random.Generator) -> float:
        """Learn from all steps once; returns the mean loss."""

    def judge(self, mean: Tensor) -> float:
        """Loss of the mean actions for ``observations``."""


class Cloning:
    """Imitate, weighted by advantage."""

    def __init__(
        self, learner: PPO, data: Transitions, judged: Transitions, temperature: float = 0.0
    ) -> None:
        """Weigh the steps.

        Args:
            learner: with a critic to judge them by.
            data: to learn from.
            judged: to measure the loss by.
            temperature: of the weights; 0 weighs all steps alike.
        """
        self._learner = learner
        self._data = _observe(learner.network, data)
        self._actions = torch.from_numpy(data.actions)
        self.observations = _observe(learner.network, judged)
        self.actions = torch.from_numpy(judged.actions)
        advantages = [_advantages(learner, part)[0] for part in (data, judged)]
        scale = float(np.std(advantages[0]))
        self._weights, self._judged_weights = (
            torch.from_numpy(advantage_weights(a, temperature, scale)) for a in advantages
        )

    def epoch(self, rng: np.random.Generator) -> float:
        """Step once for each minibatch; returns the mean loss."""
        learner, losses = self._learner, []
        order = torch.from_numpy(rng.permutation(len(self._data)))
        for index in torch.split(order, learner.config.minibatch):
            mean = learner.actor.forward(self._data[index])
            gradient, loss = supervised_gradients(
                mean, self._actions[index], self._weights[index], learner.network.log_std
            )
            learner.actor.backward(gradient)
            learner.descend()
            losses.append(loss)
        return float(torch.stack(losses).mean())

    def judge(self, mean: Tensor) -> float:
        """Loss of the mean actions for ``observations``."""
        weights, log_std = self._judged_weights, self._learner.network.log_std
        return float(supervised_gradients(mean, self.actions, weights, log_std)[1])


class Improving:
    """Learn from what the actions earned."""

    def __init__(
        self,
        learner: PPO,
        data: Transitions,
        judged: Transitions,
        critic_epochs: int,
        rng: np.random.Generator,
    ) -> None:
        """Teach the critic what the data earn, and take the advantages from it.

        Args:
            learner: with the policy that recorded the data.
            data: to learn from.
            judged: to measure the loss by.
            critic_epochs: passes over the data for the critic alone.
            rng: of the order of the steps.

        Raises:
            TransitionsError: another policy recorded the data, or there is nothing to learn from.
        """
        self._learner = learner
        rate = learner.learning_rate
        for epoch in range(critic_epochs):
            learner.set_rate(CRITIC_RATE * (1.0 - epoch / critic_epochs))
            learner.update(_batch(learner, data, trace=1.0), rng, critic_only=True)
        learner.set_rate(rate)
        learner.optimiser.state.clear()  # Adam's step count would be too high for the policy
        self._batch = _batch(learner, data)
        std, mean = torch.std_mean(self._batch.advantages)
        part = _batch(learner, judged)
        self._judged = replace(part, advantages=(part.advantages - mean) / (std + 1e-8))
        self.observations, self.actions = self._judged.observations, self._judged.actions
        outside = self._statistics(learner.network.actor(self.observations))[2]
        if outside > 0.5:
            raise TransitionsError(
                f'{outside:.0%} of the log_probs are too far from what the policy gives these '
                f'actions: another one recorded them; start from its adapter, and give the std '
                f'that it had'
            )

    def epoch(self, rng: np.random.Generator) -> float:
        """Update once; returns the mean loss."""
        return self._learner.update(self._batch, rng)['policy_loss']

    def judge(self, mean: Tensor) -> float:
        """policy_loss of the mean actions for ``observations``."""
        return self._statistics(mean)[0]

    def _statistics(self, mean: Tensor) -> list[float]:
        """policy_loss, approx_kl and clip_fraction."""
        network, config = self._learner.network, self._learner.config
        numbers = policy_gradients(mean, network.log_std, self._judged, config)[2]
        return [float(number) for number in numbers]


def _observe(network: ActorCritic, data: Transitions) -> Tensor:
    normalised: Tensor = network.normaliser(torch.from_numpy(data.observations))
    return normalised


def _advantages(
    learner: PPO, data: Transitions, trace: float | None = None
) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
    """Advantages, returns, values (N,) by the critic as it is, and which steps have them."""
    values = learner.network.critic(_observe(learner.network, data))[:, 0].numpy()
    config = learner.config
    advantages, returns, known = recorded_gae(
        data, values, discount=config.discount, trace=config.trace if trace is None else trace
    )
    return advantages, returns, values, known


def _batch(learner: PPO, data: Transitions, trace: float | None = None) -> Batch:
    """The steps that have an advantage."""
    advantages, returns, values, known = _advantages(learner, data, trace)
    if known.sum() < 2:
        raise TransitionsError(
            'truncated is set at every step, or at all but one; there is nothing to learn from'
        )
    assert data.log_probs is not None
    columns = (data.actions, data.log_probs, values, advantages, returns)
    tensors = [torch.from_numpy(column[known].astype(np.float32)) for column in columns]
    return Batch(_observe(learner.network, data)[torch.from_numpy(known)], *tensors)
