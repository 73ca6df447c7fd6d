"""Two ways from PPO's losses to new weights, with equal gradients.

:class:`FastPath` does without autograd; it takes plain networks whose weights are all trained.
:class:`GeneralPath` takes whatever torch can differentiate: pictures, shared layers, adapters.
"""

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from lebot_rl_ros.learning.backprop import Backprop
from lebot_rl_ros.learning.distributions import (
    Categorical,
    Distribution,
    Gaussian,
    StateDependentNoise,
)
from lebot_rl_ros.learning.methods.ppo_losses import (
    ActorGradient,
    Batch,
    Losses,
    clip_norm,
    policy_gradient,
    value_gradient,
)
from lebot_rl_ros.learning.modules import FeatureActorCritic, last_hidden
from lebot_rl_ros.learning.weights import FullWeights
from lebot_rl_ros.policy.networks import ActorCritic

ADAM_EPSILON = 1e-5  # larger than usual: small gradients of a late policy are mostly noise
# Multiplications from which on actor and critic are differentiated beside each other; below, the
# hand-over costs more than it brings. The numbers are the same.
WORTH_A_THREAD = 4_000_000


def torch_thread() -> ThreadPoolExecutor:
    """A thread in which torch computes the bits that it computes in this one.

    One that was not told how many of torch's own it may use sums in another order.
    """
    return ThreadPoolExecutor(
        1, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)
    )


class Path(ABC):
    """How a network acts, and how it learns from a minibatch."""

    optimiser: torch.optim.Optimizer

    def __init__(self, network: ActorCritic, discrete: bool) -> None:
        """Take a network; ``log_std`` of two axes means noise that depends on the state."""
        self.network, self.discrete = network, discrete

    def distribution(self, outputs: Tensor, latent: Tensor) -> Distribution:
        """What the actor means by its outputs (B, n), which came of features (B, L)."""
        log_std = self.network.log_std.detach()
        if self.discrete:
            return Categorical(outputs)
        if log_std.dim() == 1:
            return Gaussian(outputs, log_std)
        return StateDependentNoise(outputs, latent, log_std)

    @abstractmethod
    def policy(self, x: Tensor) -> Distribution:
        """Of actions for observations (B, ...); it is good until the next call."""

    @abstractmethod
    def values(self, x: Tensor) -> Tensor:
        """What the critic expects (B,) of observations (B, ...)."""

    @abstractmethod
    def differentiate(self, batch: Batch, losses: Losses, *, tell: bool) -> Tensor | None:
        """Give every trained parameter its gradient.

        Returns:
            policy_loss, approx_kl, clip_fraction, entropy, value_loss (5,), if they shall be told.
        """

    @abstractmethod
    def descend(self, rate: float, largest: float) -> Tensor:
        """Step along the gradients, shortened to a norm of ``largest``; the norm before, ()."""

    def _set_rate(self, rate: float) -> None:
        self.optimiser.param_groups[0]['lr'] = rate


class FastPath(Path):
    """Gradients by hand, and Adam on one flat vector of all weights."""

    def __init__(self, network: ActorCritic, discrete: bool, rows: int) -> None:
        """Take over a network's weights, for minibatches of up to ``rows``."""
        super().__init__(network, discrete)
        self.weights = FullWeights(network, train_log_std=not discrete)
        self.optimiser = torch.optim.Adam([self.weights.flat], eps=ADAM_EPSILON, fused=True)
        work = rows * self.weights.flat.numel()
        self._beside = torch_thread() if work >= WORTH_A_THREAD else None
        self._build(rows)

    @staticmethod
    def fits(network: ActorCritic, discrete: bool) -> bool:
        """Whether a network is plain, and all of it is trained."""
        layers = [*network.actor, *network.critic]
        names = {n for n, p in network.named_parameters() if not p.requires_grad}
        return (
            type(network) is ActorCritic
            and all(type(layer) is nn.Linear for layer in layers)
            and names <= ({'log_std'} if discrete else set())
        )

    def _build(self, rows: int) -> None:
        self._rows = rows
        self.actor = Backprop(self.network.actor, rows)
        self.critic = Backprop(self.network.critic, rows)

    def policy(self, x: Tensor) -> Distribution:
        """See the base class."""
        if len(x) > self._rows:  # more environments than a minibatch has samples
            self._build(len(x))
        outputs = self.actor.forward(x)
        return self.distribution(outputs, self.actor.hidden)

    def values(self, x: Tensor) -> Tensor:
        """See the base class."""
        parts = torch.split(x, self._rows)
        return torch.cat([self.critic.forward(part)[:, 0].clone() for part in parts])

    @torch.no_grad()
    def differentiate(self, batch: Batch, losses: Losses, *, tell: bool) -> Tensor | None:
        """See the base class."""
        beside = self._beside.submit(self._critic, batch, losses) if self._beside else None
        policy = self.policy(batch.observations)
        found = policy_gradient(policy, batch, losses.clip, losses.entropy_coefficient)
        self.actor.backward(found.outputs)
        if found.log_std is not None:
            assert self.network.log_std.grad is not None
            self.network.log_std.grad.copy_(found.log_std)
        value_loss = beside.result() if beside else self._critic(batch, losses)
        return numbers(policy, found, value_loss, losses.clip) if tell else None

    @torch.no_grad()  # which holds for one thread only
    def _critic(self, batch: Batch, losses: Losses) -> Tensor:
        value = self.critic.forward(batch.observations)
        gradient, loss = value_gradient(value, batch, losses.value_coefficient, losses.value_clip)
        self.critic.backward(gradient)
        return loss

    @torch.no_grad()
    def descend(self, rate: float, largest: float) -> Tensor:
        """See the base class."""
        assert self.weights.flat.grad is not None
        norm = clip_norm(self.weights.flat.grad, largest)
        self._set_rate(rate)
        self.optimiser.step()
        return norm


class GeneralPath(Path):
    """The same gradients of the outputs, carried on by autograd."""

    def __init__(self, network: ActorCritic, discrete: bool, rows: int) -> None:
        """Train what of a network is not frozen; ``rows`` are looked at in one go."""
        super().__init__(network, discrete)
        self._rows = rows
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(self.parameters, eps=ADAM_EPSILON, fused=True)
        for parameter in network.parameters():
            parameter.grad = None
        network.eval()

    def _actor(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features, those that the last layer sees, and outputs."""
        network = self.network
        features = network.features(x) if isinstance(network, FeatureActorCritic) else x
        latent = last_hidden(network.actor, features)
        return features, latent, network.actor[-1](latent)

    def _value(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        network = self.network
        if isinstance(network, FeatureActorCritic):
            x = network.critic_features(x, features)
        return network.critic(x)

    @torch.no_grad()
    def policy(self, x: Tensor) -> Distribution:
        """See the base class."""
        _, latent, outputs = self._actor(x)
        return self.distribution(outputs, latent)

    @torch.no_grad()
    def values(self, x: Tensor) -> Tensor:
        """See the base class."""
        return torch.cat([self._value(part)[:, 0] for part in torch.split(x, self._rows)])

    def differentiate(self, batch: Batch, losses: Losses, *, tell: bool) -> Tensor | None:
        """See the base class."""
        self.optimiser.zero_grad()
        self.network.train()  # for dropout
        features, latent, outputs = self._actor(batch.observations)
        value = self._value(batch.observations, features)
        with torch.no_grad():
            policy = self.distribution(outputs.detach(), latent.detach())
            found = policy_gradient(policy, batch, losses.clip, losses.entropy_coefficient)
            d_value, value_loss = value_gradient(
                value.detach(), batch, losses.value_coefficient, losses.value_clip
            )
        ends = [(outputs, found.outputs), (value, d_value)]
        if found.log_std is not None:
            ends.append((self.network.log_std, found.log_std))
        ends = [(end, gradient) for end, gradient in ends if end.requires_grad]
        torch.autograd.backward([end for end, _ in ends], [gradient for _, gradient in ends])
        self.network.eval()
        return numbers(policy, found, value_loss, losses.clip) if tell else None

    def descend(self, rate: float, largest: float) -> Tensor:
        """See the base class."""
        norm = nn.utils.clip_grad_norm_(self.parameters, largest)
        self._set_rate(rate)
        self.optimiser.step()
        return norm


@torch.no_grad()
def numbers(policy: Distribution, found: ActorGradient, value_loss: Tensor, clip: float) -> Tensor:
    """What :meth:`Path.differentiate` tells."""
    rest = torch.stack((policy.entropy().mean(), value_loss))
    return torch.cat((found.surrogate.statistics(clip), rest))
