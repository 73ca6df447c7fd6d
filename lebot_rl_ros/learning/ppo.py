"""Proximal policy optimisation (Schulman et al., arXiv 1707.06347)."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.backprop import Backprop
from lebot_rl_ros.learning.weights import FullWeights, Weights
from lebot_rl_ros.policy.networks import ActorCritic

LOG_2PI = math.log(2.0 * math.pi)


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


@dataclass(frozen=True)
class Batch:
    """What an update learns from; B samples in any order."""

    observations: Tensor  # (B, O) normalised
    actions: Tensor  # (B, J) as sampled
    log_probs: Tensor  # (B,) when sampled
    values: Tensor  # (B,) when sampled
    advantages: Tensor  # (B,)
    returns: Tensor  # (B,)

    def __getitem__(self, index: Tensor) -> 'Batch':
        """Samples by index."""
        return Batch(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def policy_gradients(
    mean: Tensor, log_std: Tensor, batch: Batch, config: PPOConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate mean(-min(ratio A, clip(ratio) A)) - entropy_coefficient entropy, by hand.

    Args:
        mean: (B, J) of the policy now.
        log_std: (J,) of the policy now.
        batch: what was sampled, advantages normalised.
        config: coefficients.

    Returns:
        Gradients (B, J) of ``mean`` and (J,) of ``log_std``; then policy_loss, approx_kl and
        clip_fraction (3,), as a tensor, so that nothing waits for them.
    """
    size = len(mean)
    inverse_std = torch.exp(-log_std)
    z = (batch.actions - mean).mul_(inverse_std)
    squares = z.square()
    log_prob = squares.sum(1).mul_(-0.5).sub_(log_std.sum() + 0.5 * LOG_2PI * mean.shape[1])
    log_ratio = log_prob.sub_(batch.log_probs)
    ratio = torch.exp(log_ratio)
    gain = ratio * batch.advantages
    clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip) * batch.advantages
    active = gain <= clipped  # else the minimum is the clipped one, which is flat
    weight = (gain * active).mul_(-1.0 / size)  # d loss / d log_prob
    d_log_std = weight @ squares - weight.sum() - config.entropy_coefficient
    d_mean = z.mul_(inverse_std).mul_(weight[:, None])
    statistics = (
        -torch.minimum(gain, clipped).mean(),
        (ratio - 1.0 - log_ratio).mean(),  # never negative (Schulman, "Approximating KL", 2020)
        ((ratio - 1.0).abs() > config.clip).float().mean(),
    )
    return d_mean, d_log_std, torch.stack(statistics)


def value_gradients(value: Tensor, batch: Batch, config: PPOConfig) -> tuple[Tensor, Tensor]:
    """Differentiate value_coefficient mean((value - return)²), clipped if the config says so.

    Args:
        value: (B, 1) of the critic now.
        batch: with values when sampled, and returns.
        config: coefficients.

    Returns:
        Gradient (B, 1) of ``value``, and value_loss (without its coefficient).
    """
    error = value[:, 0] - batch.returns
    loss = error.square()
    gradient = error.mul(2.0 * config.value_coefficient / len(value))
    if config.value_clip is not None:
        change = value[:, 0] - batch.values
        near = batch.values + change.clamp(-config.value_clip, config.value_clip) - batch.returns
        inside = (near.square() <= loss) | (change.abs() <= config.value_clip)
        gradient = gradient * inside  # else the larger loss is the clipped one, which is flat
        loss = torch.maximum(loss, near.square())
    return gradient[:, None], loss.mean()


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
        advantages = batch.advantages
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        batch = replace(batch, advantages=advantages)
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
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((config.gradient_norm / (norm + 1e-6)).clamp_(max=1.0))
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
