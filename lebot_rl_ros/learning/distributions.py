"""Distributions of actions: choices, diagonal Gaussians, and noise that depends on the state.

Formulas are pure functions, with derivatives by hand; three records give them one face.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)
VARIANCE_FLOOR = 1e-6  # of state-dependent noise, where all features are zero
Source = np.random.Generator | torch.Generator  # of random numbers


def draw_normal(shape: tuple[int, ...], source: Source) -> Tensor:
    """Standard normal numbers, float32."""
    if isinstance(source, torch.Generator):
        return torch.randn(shape, generator=source)
    return torch.from_numpy(np.asarray(source.standard_normal(shape, dtype=np.float32)))


def draw_uniform(shape: tuple[int, ...], source: Source) -> Tensor:
    """Numbers in [0, 1), float32."""
    if isinstance(source, torch.Generator):
        return torch.rand(shape, generator=source)
    return torch.from_numpy(np.asarray(source.random(shape, dtype=np.float32)))


def categorical_log_prob(logits: Tensor, actions: Tensor) -> Tensor:
    """Log-probability (...) of actions (...) of int64 under logits (..., n)."""
    chosen = logits.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return chosen - torch.logsumexp(logits, dim=-1)


def categorical_entropy(logits: Tensor) -> Tensor:
    """Entropy (...) in nats; a choice of probability zero adds nothing."""
    log_probs = torch.log_softmax(logits, dim=-1)
    return torch.special.entr(log_probs.exp()).sum(dim=-1)


def categorical_kl(logits: Tensor, other: Tensor) -> Tensor:
    """KL(p || q) (...) of logits (..., n) of p and of q."""
    p, q = torch.log_softmax(logits, dim=-1), torch.log_softmax(other, dim=-1)
    return (p.exp() * (p - q)).sum(dim=-1)


def categorical_log_prob_gradient(logits: Tensor, actions: Tensor) -> Tensor:
    """Gradient (..., n) by the logits: one at the action, less the probabilities."""
    gradient = torch.softmax(logits, dim=-1).neg_()
    index = actions.unsqueeze(-1)
    return gradient.scatter_add_(-1, index, torch.ones_like(index, dtype=gradient.dtype))


def categorical_entropy_gradient(logits: Tensor) -> Tensor:
    """Gradient (..., n) of the entropy by the logits: -p (log p + entropy)."""
    log_probs = torch.log_softmax(logits, dim=-1)
    probs = log_probs.exp()
    entropy = torch.special.entr(probs).sum(dim=-1, keepdim=True)
    return torch.special.entr(probs) - probs * entropy


def gaussian_log_prob(mean: Tensor, log_std: Tensor, actions: Tensor) -> Tensor:
    """Log-density (...) of actions (..., A), each number independent of the others.

    Args:
        mean: (..., A).
        log_std: of any shape that fits, as (A,).
        actions: (..., A).
    """
    z = (actions - mean) * torch.exp(-log_std)
    return (-0.5 * z.square() - log_std - 0.5 * LOG_2PI).sum(dim=-1)


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Entropy (...) in nats, for log_std (..., A)."""
    return (log_std + 0.5 * (1.0 + LOG_2PI)).sum(dim=-1)


def gaussian_kl(
    mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor
) -> Tensor:
    """KL(p || q) (...) of p = N(mean, std) and q, the other."""
    ratio = torch.exp(2.0 * (log_std - other_log_std))
    distance = ((mean - other_mean) * torch.exp(-other_log_std)).square()
    return (other_log_std - log_std + 0.5 * (ratio + distance - 1.0)).sum(dim=-1)


def gaussian_log_prob_gradient(
    mean: Tensor, log_std: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients (..., A) of the log-density by the mean and by each log_std."""
    inverse_std = torch.exp(-log_std)
    z = (actions - mean) * inverse_std
    return z * inverse_std, z.square() - 1.0


def state_variance(latent: Tensor, log_std: Tensor) -> Tensor:
    """Variance (..., A) of latent (..., L) @ noise (L, A); log_std (L, A) is that of the noise."""
    return latent.square() @ torch.exp(2.0 * log_std) + VARIANCE_FLOOR


def state_log_prob_gradient(
    mean: Tensor, latent: Tensor, log_std: Tensor, actions: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Differentiate sum(weight log_prob) of state-dependent noise, the features held fixed.

    Args:
        mean: (B, A).
        latent: (B, L) features.
        log_std: (L, A) of the noise matrix.
        actions: (B, A).
        weight: (B,) of each sample.

    Returns:
        Gradients (B, A) of ``mean`` and (L, A) of ``log_std``.
    """
    inverse = 1.0 / state_variance(latent, log_std)
    error = actions - mean
    d_mean = error * inverse * weight[:, None]
    d_variance = (error.square() * inverse - 1.0) * inverse * weight[:, None]  # twice it
    return d_mean, latent.square().t() @ d_variance * torch.exp(2.0 * log_std)


@dataclass(frozen=True)
class Categorical:
    """One of n choices."""

    logits: Tensor  # (..., n), not normalised

    def sample(self, source: Source) -> Tensor:
        """Draw (...) of int64, by the inverse of the cumulated probabilities."""
        cumulated = torch.softmax(self.logits.detach(), dim=-1).cumsum(dim=-1)
        draw = (
            draw_uniform((*self.logits.shape[:-1], 1), source).to(cumulated) * cumulated[..., -1:]
        )
        return (cumulated <= draw).sum(dim=-1).clamp_(max=self.logits.shape[-1] - 1)

    def mode(self) -> Tensor:
        """The most probable choice (...)."""
        return self.logits.argmax(dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """(...) of actions (...)."""
        return categorical_log_prob(self.logits, actions)

    def entropy(self) -> Tensor:
        """(...) in nats."""
        return categorical_entropy(self.logits)

    def kl(self, other: 'Categorical') -> Tensor:
        """KL(self || other) (...)."""
        return categorical_kl(self.logits, other.logits)


@dataclass(frozen=True)
class Gaussian:
    """Independent normal numbers; of the density of an action, not of what a Box clips it to."""

    mean: Tensor  # (..., A)
    log_std: Tensor  # any shape that fits the mean, as (A,)

    def sample(self, source: Source) -> Tensor:
        """Draw (..., A)."""
        noise = draw_normal(tuple(self.mean.shape), source).to(self.mean)
        return (self.mean + torch.exp(self.log_std) * noise).detach()

    def mode(self) -> Tensor:
        """The mean (..., A)."""
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """(...) of actions (..., A)."""
        return gaussian_log_prob(self.mean, self.log_std, actions)

    def entropy(self) -> Tensor:
        """(...) in nats."""
        return gaussian_entropy(self.log_std.expand_as(self.mean))

    def kl(self, other: 'Gaussian') -> Tensor:
        """KL(self || other) (...)."""
        return gaussian_kl(self.mean, self.log_std, other.mean, other.log_std)


@dataclass(frozen=True)
class StateDependentNoise:
    """Generalised state-dependent exploration, gSDE (Raffin et al., arXiv 2005.05719).

    action = mean + latent @ noise, where the noise matrix is drawn once for many steps
    (:class:`NoiseMatrix`): the same state then gets the same action, so robots move smoothly.
    The density of an action is that over all matrices: a diagonal Gaussian with
    :func:`state_variance`.
    """

    mean: Tensor  # (..., A)
    latent: Tensor  # (..., L) features of the state; detached where noise shall not shape them
    log_std: Tensor  # (L, A) of the entries of the noise matrix

    def gaussian(self) -> Gaussian:
        """The same density of an action, as a plain Gaussian."""
        return Gaussian(self.mean, 0.5 * torch.log(state_variance(self.latent, self.log_std)))

    def sample(self, source: 'Source | NoiseMatrix') -> Tensor:
        """Draw (..., A): with matrices held, or (from a source) with new ones for every row."""
        shape = (*self.latent.shape, self.mean.shape[-1])
        unit = source.unit if isinstance(source, NoiseMatrix) else draw_normal(shape, source)
        matrix = unit.to(self.mean) * torch.exp(self.log_std)
        return (self.mean + torch.einsum('...l,...la->...a', self.latent, matrix)).detach()

    def mode(self) -> Tensor:
        """The mean (..., A)."""
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """(...) of actions (..., A)."""
        return self.gaussian().log_prob(actions)

    def entropy(self) -> Tensor:
        """(...) in nats."""
        return self.gaussian().entropy()

    def kl(self, other: 'StateDependentNoise') -> Tensor:
        """KL(self || other) (...)."""
        return self.gaussian().kl(other.gaussian())


class NoiseMatrix:
    """Noise of :class:`StateDependentNoise`, one matrix for each of N environments."""

    def __init__(self, count: int, features: int, actions: int, every: int) -> None:
        """Hold (count, features, actions) of unit noise, drawn anew ``every`` steps.

        Raises:
            ValueError: ``every`` is below 1.
        """
        if every < 1:
            raise ValueError(f'a noise matrix is held for {every} steps; it must be 1 or more')
        self.unit = torch.zeros(count, features, actions)
        self.every, self.age = every, 0

    def advance(self, source: Source) -> None:
        """Call before every step; draws when the matrices are too old."""
        if self.age % self.every == 0:
            self.unit = draw_normal(tuple(self.unit.shape), source)
        self.age += 1


Distribution = Categorical | Gaussian | StateDependentNoise
