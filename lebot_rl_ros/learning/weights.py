"""What a learner optimises: all weights of a network, or those of a LoRA adapter on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lebot_rl_ros.policy.adapters import AdapterError, LoraConfig, targeted
from lebot_rl_ros.policy.files import Tensors
from lebot_rl_ros.policy.networks import ActorCritic


class Weights(Protocol):
    """One flat vector that an optimiser steps, and its ties to a network's parameters."""

    flat: nn.Parameter  # with its grad; what belongs to the policy first, the critic after it
    policy_size: int  # numbers of the policy, log_std included

    def gather(self) -> None:
        """Turn the gradients of the network's parameters into those of ``flat``."""

    def scatter(self) -> None:
        """Turn ``flat`` into the network's parameters, in place."""

    def decay(self, factor: float) -> None:
        """Scale what may shrink."""


class FullWeights:
    """All parameters of a network; they become views of the flat vector."""

    def __init__(self, network: ActorCritic, *, train_log_std: bool = True) -> None:
        """Take over the parameters; the spread of the actions may be left as it is."""
        parts = {name: value.detach() for name, value in network.named_parameters()}
        if not train_log_std:
            del parts['log_std']
        self.flat, views, gradients = _flatten(parts)
        _adopt(network, views, gradients)
        self.policy_size = _size_without_critic(parts)

    def gather(self) -> None:
        """Nothing to do: the gradients are views."""

    def scatter(self) -> None:
        """Nothing to do: the parameters are views."""

    def decay(self, factor: float) -> None:
        """Nothing shrinks: decay belongs to A and B."""


@dataclass(frozen=True)
class _Layer:
    """An adapted layer: W = W0 + scaling B A."""

    base: Tensor  # W0 (out, in)
    weight: Tensor  # W, the network's own
    gradient: Tensor  # of W
    a: Tensor  # (r, in)
    b: Tensor  # (out, r)
    a_gradient: Tensor
    b_gradient: Tensor


class LoraWeights:
    """A and B of the adapted layers, their biases if the config says so, and what else is trained.

    The spread of the actions (``log_std``) and, where no layer of the critic is adapted, the whole
    critic are trained as well, but belong to the training and not to the adapter.
    LoRA: Hu et al., arXiv 2106.09685.
    """

    def __init__(
        self,
        network: ActorCritic,
        config: LoraConfig,
        generator: torch.Generator | None = None,
        *,
        train_log_std: bool = True,
    ) -> None:
        """Adapt a network as it is now: its weights are the base, and B = 0 changes nothing.

        Args:
            network: with the weights of the base.
            config: which layers, at what rank.
            generator: of A; torch's own without it.
            train_log_std: false leaves the spread as it is.

        Raises:
            AdapterError: a layer that the network lacks, or dropout.
        """
        if config.lora_dropout:
            raise AdapterError(
                f'lora_dropout is {config.lora_dropout}; this learner trains the merged weights, '
                f'which know no dropout: use 0'
            )
        self.config = config
        parameters = {name: value.detach() for name, value in network.named_parameters()}
        self.layers = adapted_layers(network, config)
        parts: dict[str, Tensor] = {}
        for net in ('actor', 'critic'):
            layers = [layer for layer in self.layers if layer.startswith(f'{net}.')]
            for layer in layers:
                out, size = parameters[f'{layer}.weight'].shape
                a = parts[f'{layer}.lora_A'] = torch.empty(config.r, size)
                nn.init.kaiming_uniform_(a, a=5.0**0.5, generator=generator)
                parts[f'{layer}.lora_B'] = torch.zeros(out, config.r)
            if config.bias == 'lora_only':
                parts |= {f'{layer}.bias': parameters[f'{layer}.bias'] for layer in layers}
            if net == 'actor' and train_log_std:
                parts['log_std'] = parameters['log_std']
            if net == 'critic' and not layers:
                parts |= {name: p for name, p in parameters.items() if name.startswith('critic.')}
        self.flat, self._views, gradients = _flatten(parts)
        self.policy_size = _size_without_critic(parts)
        _adopt(network, self._views, gradients)
        self._matrices = [view for name, view in self._views.items() if '.lora_' in name]
        self._layers = []
        for layer in self.layers:
            weight = network.get_parameter(f'{layer}.weight')
            assert weight.grad is not None
            a_name, b_name = f'{layer}.lora_A', f'{layer}.lora_B'
            self._layers.append(
                _Layer(
                    weight.detach().clone(), weight.detach(), weight.grad,
                    self._views[a_name], self._views[b_name], gradients[a_name], gradients[b_name],
                )
            )  # fmt: skip

    def gather(self) -> None:
        """Project the gradients of W: dA = scaling Bᵀ dW, dB = scaling dW Aᵀ."""
        scaling = self.config.scaling
        for x in self._layers:
            torch.addmm(x.a_gradient, x.b.t(), x.gradient, beta=0, alpha=scaling, out=x.a_gradient)
            torch.addmm(x.b_gradient, x.gradient, x.a.t(), beta=0, alpha=scaling, out=x.b_gradient)

    def scatter(self) -> None:
        """Write W = W0 + scaling B A into the network."""
        for x in self._layers:
            torch.addmm(x.base, x.b, x.a, alpha=self.config.scaling, out=x.weight)

    def decay(self, factor: float) -> None:
        """Scale A and B."""
        for matrix in self._matrices:
            matrix.mul_(factor)

    def tensors(self) -> Tensors:
        """Copy the adapter, with the names of ``policy.adapters``."""
        own = ('lora_A', 'lora_B', *(('bias',) if self.config.bias == 'lora_only' else ()))
        names = [f'{layer}.{name}' for layer in self.layers for name in own]
        return {name: self._views[name].numpy().copy() for name in names}

    def load(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from an adapter of the same layers and rank.

        Raises:
            AdapterError: its tensors are others; the message shows both sides.
        """
        ours = {name: value.shape for name, value in self.tensors().items()}
        theirs = {name: value.shape for name, value in tensors.items()}
        if ours != theirs:
            raise AdapterError(f'the adapter to start from has {theirs}, this one needs {ours}')
        for name, value in tensors.items():
            self._views[name].copy_(torch.from_numpy(np.array(value)))
        self.scatter()


def adapted_layers(network: nn.Module, config: LoraConfig) -> list[str]:
    """Names of the layers that ``target_modules`` means, in the network's order.

    Raises:
        AdapterError: a target that is no layer of the network.
    """
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    found = set()
    for target in config.target_modules:
        layers = targeted(target, linear)
        if not layers:
            raise AdapterError(
                f'target_modules has {target}, which the network lacks; it has {", ".join(linear)}'
            )
        found |= set(layers)
    return [name for name in linear if name in found]


Views = dict[str, Tensor]


def _flatten(parts: Views) -> tuple[nn.Parameter, Views, Views]:
    """One vector of all parts, and each part's view of it and of its gradient."""
    flat = nn.Parameter(torch.cat([value.flatten() for value in parts.values()]))
    flat.grad = torch.zeros_like(flat)
    views, gradients, start = {}, {}, 0
    for name, value in parts.items():
        part = slice(start, start + value.numel())
        views[name] = flat.data[part].view_as(value)
        gradients[name] = flat.grad[part].view_as(value)
        start = part.stop
    return flat, views, gradients


def _adopt(network: ActorCritic, views: Views, gradients: Views) -> None:
    """Make parameters views of a flat vector; the others get a gradient of their own."""
    for name, parameter in network.named_parameters():
        if name in views:
            parameter.data, parameter.grad = views[name], gradients[name]
        else:
            parameter.grad = torch.zeros_like(parameter)


def _size_without_critic(parts: Views) -> int:
    return sum(value.numel() for name, value in parts.items() if not name.startswith('critic.'))
