"""The walk's proximal policy optimisation; ``methods.ppo`` is that of any environment."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.backprop import Backprop
from lebot_rl_ros.learning.distributions import LOG_2PI as LOG_2PI
from lebot_rl_ros.learning.methods.ppo_losses import Batch as Batch
from lebot_rl_ros.learning.methods.ppo_losses import (
    clip_norm,
    gaussian_gradient,
    normalised,
    value_gradient,
)
from lebot_rl_ros.learning.weights import FullWeights, Weights
from lebot_rl_ros.policy.networks import ActorCritic


@dataclass(frozen=True)
class PPOConfig:
    """How to learn from a rollout; the defaults are those of the shipped policy."""

    epochs: int = 4  # passes over a rollout
    minibatch: int = 2048  # samples a gradient step
    clip: float = 0.2  # of the probability ratio
    value_clip: float | None = None  # largest change of a value in an update; None does not clip
    value_coefficient: float = 0.5
    entropy_coefficient: float = 0.0
    gradient_norm: float = 1.0  # largest, over all that is optimised
    weight_decay: float = 0.0  # of an adapter's A and B, decoupled; never of full weights
    learning_rate: float = 1e-3  # at the start
    rate_range: tuple[float, float] = (1e-5, 3e-3)
    desired_kl: float | None = 0.02  # rate down above twice this, up below half; None keeps it
    target_kl: float | None = None  # an update stops after an epoch beyond it; None never stops
    discount: float = 0.98
    trace: float = 0.95


def policy_gradients(
    mean: Tensor, log_std: Tensor, batch: Batch, config: PPOConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate the surrogate, less entropy_coefficient entropy, by hand.

    Args:
        mean: (B, J) of the policy now.
        log_std: (J,) of the policy now.
        batch: what was sampled, advantages normalised.
        config: coefficients.

    Returns:
        Gradients (B, J) of ``mean`` and (J,) of ``log_std``; then policy_loss, approx_kl and
        clip_fraction (3,), as a tensor, so that nothing waits for them.
    """
    found = gaussian_gradient(mean, log_std, batch, config.clip, config.entropy_coefficient)
    assert found.log_std is not None
    return found.outputs, found.log_std, found.surrogate.statistics(config.clip)


def value_gradients(value: Tensor, batch: Batch, config: PPOConfig) -> tuple[Tensor, Tensor]:
    """Differentiate the critic's loss by hand; see :func:`value_gradient`."""
    return value_gradient(value, batch, config.value_coefficient, config.value_clip)


class PPO:
    """The learner: a network, its optimiser and a rate that adapts to how far updates go."""

    def __init__(
        self, network: ActorCritic, config: PPOConfig, weights: Weights | None = None
    ) -> None:
        """Learn ``weights`` of ``network``, all of them unless given."""
        self.network, self.config = network, config
        self.learning_rate = config.learning_rate
        self.weights = FullWeights(network) if weights is None else weights
        self.flat = self.weights.flat
        self.optimiser = torch.optim.Adam([self.flat], lr=self.learning_rate, fused=True)
        self._pool = ThreadPoolExecutor(1)  # numbers are the same with and without it
        self.actor = Backprop(network.actor, config.minibatch)
        self.critic = Backprop(network.critic, config.minibatch)

    @torch.no_grad()
    def update(
        self, batch: Batch, rng: np.random.Generator, *, critic_only: bool = False
    ) -> dict[str, float]:
        """Learn from one rollout.

        Args:
            batch: B samples; advantages as computed, they are normalised here.
            rng: of the order of the samples.
            critic_only: leave the policy, and the rate, as they are.

        Returns:
            policy_loss, value_loss, entropy, approx_kl, clip_fraction, learning_rate, epochs.
        """
        config, size = self.config, len(batch.actions)
        batch = replace(batch, advantages=normalised(batch.advantages))
        epochs = 0
        for _ in range(config.epochs):
            epochs += 1
            order = torch.split(torch.from_numpy(rng.permutation(size)), config.minibatch)
            steps = [self._step(batch[index], critic_only) for index in order]
            statistics = torch.stack(steps).mean(dim=0).tolist()
            if config.target_kl is not None and statistics[1] > config.target_kl:
                break
        if not np.isfinite(statistics).all():
            raise ValueError(f'the update is not finite: {statistics}; lower the learning rate')
        if not critic_only:
            self._adapt_rate(statistics[1])
        names = ('policy_loss', 'approx_kl', 'clip_fraction', 'value_loss')
        entropy = (
            float(self.network.log_std.sum()) + 0.5 * (1.0 + LOG_2PI) * batch.actions.shape[1]
        )
        return {
            **dict(zip(names, statistics, strict=True)),
            'entropy': entropy,
            'learning_rate': self.learning_rate,
            'epochs': float(epochs),
        }

    def _step(self, batch: Batch, critic_only: bool) -> Tensor:
        """Step once; returns policy_loss, approx_kl, clip_fraction and value_loss (4,)."""
        value_loss = self._pool.submit(self._step_critic, batch)  # beside the actor
        mean = self.actor.forward(batch.observations)
        log_std = self.network.log_std
        d_mean, d_log_std, statistics = policy_gradients(mean, log_std, batch, self.config)
        self.actor.backward(d_mean)
        assert log_std.grad is not None
        log_std.grad.copy_(d_log_std)
        last = value_loss.result()
        self.descend(critic_only=critic_only)
        return torch.cat((statistics, last[None]))

    @torch.no_grad()
    def descend(self, *, critic_only: bool = False) -> None:
        """Step along the gradients that the network's parameters have now, clipped as one vector.

        Args:
            critic_only: leave the policy as it is.
        """
        gradient, config = self.flat.grad, self.config
        assert gradient is not None
        self.weights.gather()
        if critic_only:
            gradient[: self.weights.policy_size].zero_()
        clip_norm(gradient, config.gradient_norm)
        if config.weight_decay and not critic_only:
            self.weights.decay(1.0 - self.learning_rate * config.weight_decay)
        self.optimiser.step()
        self.network.clamp_log_std()
        self.weights.scatter()

    @torch.no_grad()
    def _step_critic(self, batch: Batch) -> Tensor:
        value = self.critic.forward(batch.observations)
        gradient, loss = value_gradients(value, batch, self.config)
        self.critic.backward(gradient)
        return loss

    def _adapt_rate(self, kl: float) -> None:
        desired = self.config.desired_kl
        if desired is not None and kl > 2.0 * desired:
            self.set_rate(max(self.config.rate_range[0], self.learning_rate / 1.5))
        elif desired is not None and kl < 0.5 * desired:
            self.set_rate(min(self.config.rate_range[1], self.learning_rate * 1.5))

    def set_rate(self, learning_rate: float) -> None:
        """Learn at this rate from the next step on."""
        self.learning_rate = learning_rate
        self.optimiser.param_groups[0]['lr'] = learning_rate
