"""A policy without spread and critics of its actions: what DDPG and its heirs learn."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lebot_rl_ros.learning.method import Box
from lebot_rl_ros.policy.networks import MLP, Normaliser

SQUASHES = ('tanh', 'clip')
WEIGHTS = ('orthogonal', 'uniform')


class ActionCritic(nn.Module):
    """Q: what an action in a state is worth. LayerNorm, if any, before each activation."""

    def __init__(
        self,
        observation: int,
        actions: int,
        hidden: Sequence[int],
        activation: str,
        layer_norm: bool,
        weights: str,
    ) -> None:
        """Build layers for observations (..., observation) and actions (..., actions)."""
        super().__init__()
        gain = 1.0 if weights == 'orthogonal' else None
        self.layers = MLP([observation + actions, *hidden, 1], activation, gain)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in hidden if layer_norm)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Values (...); actions are of the range -1 to 1."""
        x = torch.cat((observation, action), dim=-1)
        if not self.norms:
            return self.layers(x).squeeze(-1)
        for layer, norm in zip(self.layers, self.norms, strict=False):  # the last has no norm
            x = self.layers.activation(norm(layer(x)))
        return self.layers[-1](x).squeeze(-1)


class DeterministicNetwork(nn.Module):
    """Actor and critics; actions within it are of the range -1 to 1 (unit actions).

    The actor has the names of the suite's policy files (``actor.0.weight``, ``normaliser.mean``).
    """

    centre: Tensor
    reach: Tensor

    def __init__(
        self,
        observation: int,
        action: Box,
        hidden: Sequence[int] = (400, 300),
        activation: str = 'relu',
        *,
        critics: int = 1,
        layer_norm: bool = False,
        squash: str = 'tanh',
        weights: str = 'orthogonal',
    ) -> None:
        """Build the networks.

        Args:
            observation: numbers in one.
            action: bounded space of actions.
            hidden: widths, of the actor and of each critic.
            activation: of both; elu, relu or tanh.
            critics: how many.
            layer_norm: of the critics: a guard against values that run away beyond the data.
            squash: how the actor's last layer becomes an action. ``tanh`` bends it into the range;
                ``clip`` takes it as an action in the units of the world, as the Gaussian
                policies of this suite mean theirs, and cuts it there.
            weights: how they begin: ``orthogonal``, the actor's last ones small, biases 0; or
                ``uniform`` within 1 / sqrt(inputs), biases too (arXiv 1509.02971, hidden ones).

        Raises:
            ValueError: there is no such squash, or no such beginning.
        """
        super().__init__()
        if squash not in SQUASHES:
            raise ValueError(f'no squash {squash!r}; choices are {", ".join(SQUASHES)}')
        if weights not in WEIGHTS:
            raise ValueError(f'no weights {weights!r}; choices are {", ".join(WEIGHTS)}')
        actions = action.low.size
        self.squash = squash
        gain = 0.01 if weights == 'orthogonal' else None
        self.actor = MLP([observation, *hidden, actions], activation, gain)
        self.critics = nn.ModuleList(
            ActionCritic(observation, actions, hidden, activation, layer_norm, weights)
            for _ in range(critics)
        )
        self.normaliser = Normaliser(observation)
        low, high = torch.tensor(action.low).float(), torch.tensor(action.high).float()
        self.register_buffer('centre', (high + low) / 2.0, persistent=False)
        self.register_buffer('reach', (high - low) / 2.0, persistent=False)

    def policy(self, observation: Tensor) -> Tensor:
        """Unit actions (..., A) for normalised observations (..., O)."""
        if self.squash == 'tanh':
            return torch.tanh(self.actor(observation))
        return ((self.actor(observation) - self.centre) / self.reach).clamp(-1.0, 1.0)

    def values(self, observation: Tensor, action: Tensor) -> list[Tensor]:
        """Each critic's values (...) of unit actions (..., A), observations normalised."""
        return [critic(observation, action) for critic in self.critics]


def bellman_target(rewards: Tensor, discounts: Tensor, next_values: Tensor) -> Tensor:
    """The target r + gamma Q(s', a'); ``discounts`` (B,) are 0 where the episode terminated."""
    return torch.addcmul(rewards, discounts, next_values)


def value_loss(values: Sequence[Tensor], targets: Tensor) -> Tensor:
    """Mean squared error of each critic's values (B,), summed over the critics."""
    return torch.stack([F.mse_loss(value, targets) for value in values]).sum()
