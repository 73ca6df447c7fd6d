"""PPO's losses, differentiated by hand, as pure functions (Schulman et al., arXiv 1707.06347).

Every gradient is that of the outputs of a network, for ``Backprop`` or for autograd to carry on.
``weight`` (B,) is everywhere d loss / d log_prob, from :func:`surrogate_weight`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lebot_rl_ros.learning.distributions import (
    LOG_2PI,
    Categorical,
    Distribution,
    Gaussian,
    state_variance,
)


@dataclass(frozen=True)
class Batch:
    """What an update learns from; B samples in any order."""

    observations: Tensor  # (B, ...) as the network takes them
    actions: Tensor  # (B, J) as sampled, or (B,) choices
    log_probs: Tensor  # (B,) when sampled
    values: Tensor  # (B,) when sampled
    advantages: Tensor  # (B,)
    returns: Tensor  # (B,)

    def __getitem__(self, index: Tensor | slice) -> 'Batch':
        """Samples by index, or a run of them without a copy."""
        return Batch(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Losses:
    """policy_loss - entropy_coefficient entropy + value_coefficient value_loss."""

    clip: float  # of the probability ratio
    entropy_coefficient: float  # of nats
    value_coefficient: float
    value_clip: float | None  # largest change of a value that counts; None does not clip


@dataclass(frozen=True)
class Surrogate:
    """How far a policy went from the one that sampled, sample by sample; (B,) each."""

    log_ratio: Tensor  # log of what follows
    ratio: Tensor  # probability now over probability then
    gain: Tensor  # ratio times advantage
    clipped: Tensor  # the same with the ratio clipped

    def statistics(self, clip: float) -> Tensor:
        """Make (3,) of policy_loss (without entropy), approx_kl and clip_fraction.

        approx_kl is never negative (Schulman, "Approximating KL divergence", 2020).
        """
        parts = (
            -torch.minimum(self.gain, self.clipped).mean(),
            (self.ratio - 1.0 - self.log_ratio).mean(),
            ((self.ratio - 1.0).abs() > clip).float().mean(),
        )
        return torch.stack(parts)  # a tensor, so that nothing waits for it


@dataclass(frozen=True)
class ActorGradient:
    """Of mean(-surrogate) - entropy_coefficient mean(entropy)."""

    outputs: Tensor  # (B, n) of what the actor said: mean or logits
    log_std: Tensor | None  # in the shape of log_std; None of a choice
    surrogate: Surrogate


def surrogate_weight(
    log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, clip: float
) -> tuple[Tensor, Surrogate]:
    """Differentiate mean(-min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)) by log_prob.

    Args:
        log_prob: (B,) of the policy now; overwritten.
        old_log_prob: (B,) when sampled.
        advantages: (B,).
        clip: largest change of the ratio that still earns anything.

    Returns:
        d loss / d log_prob (B,), and what it was made of.
    """
    log_ratio = log_prob.sub_(old_log_prob)
    ratio = torch.exp(log_ratio)
    gain = ratio * advantages
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip) * advantages
    active = gain <= clipped  # else the minimum is the clipped one, which is flat
    weight = (gain * active).mul_(-1.0 / len(log_prob))
    return weight, Surrogate(log_ratio, ratio, gain, clipped)


def gaussian_gradient(
    mean: Tensor, log_std: Tensor, batch: Batch, clip: float, entropy_coefficient: float
) -> ActorGradient:
    """Differentiate for a normal distribution whose spread is the same in all states.

    Args:
        mean: (B, J) of the policy now.
        log_std: (J,) of the policy now.
        batch: what was sampled, advantages as they shall count.
        clip: of the ratio.
        entropy_coefficient: of the entropy in nats.
    """
    inverse_std = torch.exp(-log_std)
    z = (batch.actions - mean).mul_(inverse_std)
    squares = z.square()
    log_prob = squares.sum(1).mul_(-0.5).sub_(log_std.sum() + 0.5 * LOG_2PI * mean.shape[1])
    weight, surrogate = surrogate_weight(log_prob, batch.log_probs, batch.advantages, clip)
    d_log_std = weight @ squares - weight.sum() - entropy_coefficient
    d_mean = z.mul_(inverse_std).mul_(weight[:, None])
    return ActorGradient(d_mean, d_log_std, surrogate)


def state_dependent_gradient(
    mean: Tensor,
    latent: Tensor,
    log_std: Tensor,
    batch: Batch,
    clip: float,
    entropy_coefficient: float,
) -> ActorGradient:
    """Differentiate for noise that depends on features of the state (arXiv 2005.05719).

    Args:
        mean: (B, J).
        latent: (B, L) features; noise does not shape them, so they have no gradient of it.
        log_std: (L, J) of the noise matrix.
        batch: as above.
        clip: as above.
        entropy_coefficient: as above.
    """
    squares = latent.square()
    inverse = state_variance(latent, log_std).reciprocal_()
    error = batch.actions - mean
    z_squares = error.square().mul_(inverse)
    constant = 0.5 * LOG_2PI * mean.shape[1]
    log_prob = (z_squares - torch.log(inverse)).sum(1).mul_(-0.5).sub_(constant)
    weight, surrogate = surrogate_weight(log_prob, batch.log_probs, batch.advantages, clip)
    # variance = latent² exp(2 log_std), and the entropy is half the sum of its logarithms.
    twice = z_squares.sub_(1.0).mul_(weight[:, None]).sub_(entropy_coefficient / len(mean))
    d_log_std = (squares.t() @ twice.mul_(inverse)).mul_(torch.exp(2.0 * log_std))
    return ActorGradient(error.mul_(inverse).mul_(weight[:, None]), d_log_std, surrogate)


def categorical_gradient(
    logits: Tensor, batch: Batch, clip: float, entropy_coefficient: float
) -> ActorGradient:
    """Differentiate for a choice among n.

    Args:
        logits: (B, n) of the policy now, not normalised.
        batch: as above, actions (B,) of int64.
        clip: as above.
        entropy_coefficient: as above.
    """
    log_probs = torch.log_softmax(logits, dim=1)
    probs = log_probs.exp()
    index = batch.actions[:, None]
    log_prob = log_probs.gather(1, index)[:, 0]
    weight, surrogate = surrogate_weight(log_prob, batch.log_probs, batch.advantages, clip)
    gradient = (probs * -weight[:, None]).scatter_add_(1, index, weight[:, None])
    if entropy_coefficient:
        information = probs * log_probs
        information.sub_(probs * information.sum(1, keepdim=True))  # - d entropy / d logits
        gradient.add_(information, alpha=entropy_coefficient / len(logits))
    return ActorGradient(gradient, None, surrogate)


def policy_gradient(
    policy: Distribution, batch: Batch, clip: float, entropy_coefficient: float
) -> ActorGradient:
    """Differentiate for whatever distribution the actions are drawn from."""
    if isinstance(policy, Categorical):
        return categorical_gradient(policy.logits, batch, clip, entropy_coefficient)
    if isinstance(policy, Gaussian):
        return gaussian_gradient(policy.mean, policy.log_std, batch, clip, entropy_coefficient)
    return state_dependent_gradient(
        policy.mean, policy.latent, policy.log_std, batch, clip, entropy_coefficient
    )


def value_gradient(
    value: Tensor, batch: Batch, coefficient: float, value_clip: float | None
) -> tuple[Tensor, Tensor]:
    """Differentiate coefficient mean((value - return)²), clipped near the old value or not.

    Clipped, a sample's loss is the larger of that of the value and that of the value held within
    ``value_clip`` of what it was when sampled.

    Args:
        value: (B, 1) of the critic now.
        batch: with values when sampled, and returns.
        coefficient: of the mean square.
        value_clip: in units of the value; None does not clip.

    Returns:
        Gradient (B, 1) of ``value``, and value_loss (without its coefficient).
    """
    error = value[:, 0] - batch.returns
    loss = error.square()
    gradient = error.mul(2.0 * coefficient / len(value))
    if value_clip is not None:
        change = value[:, 0] - batch.values
        near = batch.values + change.clamp(-value_clip, value_clip) - batch.returns
        inside = (near.square() <= loss) | (change.abs() <= value_clip)
        gradient = gradient * inside  # else the larger loss is the clipped one, which is flat
        loss = torch.maximum(loss, near.square())
    return gradient[:, None], loss.mean()


def clip_norm(gradient: Tensor, largest: float) -> Tensor:
    """Shorten a gradient, in place, to a norm of ``largest`` at most; the norm before, ()."""
    norm = torch.linalg.vector_norm(gradient)
    gradient.mul_((largest / (norm + 1e-6)).clamp_(max=1.0))
    return norm


def normalised(advantages: Tensor) -> Tensor:
    """Advantages (B,) to mean 0 and standard deviation 1."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
