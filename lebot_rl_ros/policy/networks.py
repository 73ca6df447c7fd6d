"""Actor, critic and normaliser in torch; ``state_dict`` has the names of the file format."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lebot_rl_ros.policy.files import Tensors
from lebot_rl_ros.policy.runtime import EPSILON

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    'elu': nn.functional.elu,
    'relu': nn.functional.relu,
    'tanh': torch.tanh,
}
LOG_STD = (-3.0, 0.0)  # range of log_std, action units: 0.05 to 1.0


def check_initial_std(std: float) -> None:
    """Refuse a spread to begin with that the first update would take back.

    Raises:
        ValueError: it is beyond LOG_STD.
    """
    if not LOG_STD[0] <= math.log(max(std, 1e-9)) <= LOG_STD[1]:
        least, most = (math.exp(edge) for edge in LOG_STD)
        raise ValueError(f'initial_std is {std}, must be from {least:.2g} to {most:.2g}')


class MLP(nn.ModuleList):
    """Linear layers with an activation between them, named ``0.weight``, ``0.bias``, ..."""

    def __init__(self, widths: Sequence[int], activation: str, gain: float | None) -> None:
        """Build layers, orthogonal ones or torch's own.

        Args:
            widths: of input, hidden layers and output.
            activation: elu, relu or tanh.
            gain: of the last layer of orthogonal ones; small for an actor, so that it starts near
                its default. None: weights and biases are uniform within 1 / sqrt(inputs).
        """
        super().__init__(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation_name, self.activation = activation, ACTIVATIONS[activation]
        if gain is None:
            return
        for i, layer in enumerate(self):
            assert isinstance(layer, nn.Linear)
            nn.init.orthogonal_(layer.weight, gain if i == len(self) - 1 else 2.0**0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., widths[0]) -> (..., widths[-1])."""
        for i, layer in enumerate(self):
            x = layer(x) if i == len(self) - 1 else self.activation(layer(x))
        return x


class Normaliser(nn.Module):
    """Running mean and variance of what was seen; float32 on disk, so float32 here."""

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        """Start as the identity."""
        super().__init__()
        self.register_buffer('mean', torch.zeros(size))
        self.register_buffer('var', torch.ones(size))
        self.register_buffer('count', torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(..., size), to mean 0 and variance 1."""
        return (x - self.mean) * torch.rsqrt(self.var + EPSILON)

    @torch.no_grad()
    def update(self, batch: Tensor, cap: float = 1e6) -> None:
        """Merge a batch (n, size) by Chan's formula; past ``cap`` samples it forgets slowly."""
        count, n = float(self.count), float(len(batch))
        var, mean = torch.var_mean(batch, dim=0, correction=0)
        if not bool(torch.isfinite(var).all()):
            raise ValueError('observations are not finite, so the normaliser refuses them')
        total, delta = count + n, mean - self.mean
        self.mean += delta * (n / total)
        self.var.copy_((self.var * count + var * n + delta.square() * (count * n / total)) / total)
        self.count.fill_(min(total, cap))


class ActorCritic(nn.Module):
    """Diagonal Gaussian policy, its spread the same in all states, and a critic beside it."""

    def __init__(
        self,
        observation: int,
        actions: int,
        hidden: Sequence[int] = (128, 128),
        activation: str = 'elu',
        initial_std: float = 0.4,
    ) -> None:
        """Build both networks for observations (..., observation) and actions (..., actions)."""
        super().__init__()
        self.actor = MLP([observation, *hidden, actions], activation, gain=0.01)
        self.critic = MLP([observation, *hidden, 1], activation, gain=1.0)
        self.log_std = nn.Parameter(torch.full((actions,), float(np.log(initial_std))))
        self.normaliser = Normaliser(observation)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean action (..., actions) and value (...) for raw observations."""
        x = self.normaliser(observation)
        return self.actor(x), self.critic(x).squeeze(-1)

    @torch.no_grad()
    def clamp_log_std(self) -> None:
        """Keep the spread in range; done to the parameter, so that a gradient can lead back."""
        self.log_std.clamp_(*LOG_STD)

    def tensors(self) -> Tensors:
        """Copy everything to numpy, by the names of the file format.

        Raises:
            ValueError: layers carry adapters: plain weights would silently leave them out.
        """
        state = self.state_dict()
        carried = sorted({name for name in state if '.lora_' in name})
        if carried:
            raise ValueError(
                f'the network carries adapters ({carried[0]}, ...), which plain weights would '
                f'leave out; take them with `adapter_tensors`, then `remove_adapters`'
            )
        return {name: value.detach().numpy().copy() for name, value in state.items()}

    def load_tensors(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take weights by the names of the file format; shapes must fit."""
        self.load_state_dict(
            {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
        )
