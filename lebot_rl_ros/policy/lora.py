"""LoRA in torch, for training and research, of linear layers, convolutions and attention.

A network keeps its modules and the names of its parameters; see ``lora_layers``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from lebot_rl_ros.policy.adapters import AdapterError, LoraConfig, targeted
from lebot_rl_ros.policy.files import Tensors
from lebot_rl_ros.policy.lora_layers import (
    ATTENTION,
    CLASSES,
    PREFIX,
    LoraLayer,
    LoraPart,
    adopt,
    plain_class,
    release,
)


@dataclass(frozen=True)
class TrainableReport:
    """How much of a network is trained."""

    trainable: int  # numbers
    total: int  # numbers, those of the adapters among them
    kilobytes: float  # 1000 bytes, of what is trained

    @property
    def share(self) -> float:
        """Trained part of all numbers, 0 to 1."""
        return self.trainable / self.total if self.total else 0.0

    def __str__(self) -> str:
        return (
            f'{self.trainable:,} of {self.total:,} numbers are trained '
            f'({self.share:.2%}), {self.kilobytes:.1f} kB'
        )


def add_adapter(network: nn.Module, name: str, config: LoraConfig) -> None:
    """Give layers of a network one more adapter, its dial at 1, and freeze all but adapters.

    A target names a layer, or the end of its name (``0`` is ``actor.0`` and ``critic.0``), as in
    PEFT. An attention layer brings its ``out_proj`` along. The outputs stay the same bits.

    Raises:
        AdapterError: the name is taken or has odd characters, a target is unknown or cannot be
            adapted, or the network is merged; nothing was changed.
    """
    if not re.fullmatch(r'[A-Za-z0-9_-]+', name):
        raise AdapterError(f'adapter name {name!r} may have letters, digits, _ and - only')
    taken = adapter_names(network)
    if name in taken:
        raise AdapterError(f'adapter name {name} is taken; the network has {", ".join(taken)}')
    layers = _targets(network, config)
    _check_unmerged(network)
    for module in network.modules():
        if not isinstance(module, LoraPart):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
    for layer in map(adopt, layers):
        weight, bias = (layer._parameters[entry] for entry in layer.names)
        assert weight is not None
        layer.add_module(PREFIX + name, LoraPart(weight, bias, config).train(layer.training))


def remove_adapters(network: nn.Module, *names: str) -> None:
    """Take adapters out, all if none is named; unmerges. What was frozen stays frozen.

    Raises:
        AdapterError: a name is unknown.
    """
    for name in names:
        _parts(network, name)
    unmerge(network)
    for layer in _layers(network).values():
        for name in layer.parts():
            if not names or name in names:
                delattr(layer, PREFIX + name)
        if not layer.parts():
            release(layer)


def adapter_names(network: nn.Module) -> list[str]:
    """Names of a network's adapters, in the order that they came."""
    return list(
        dict.fromkeys(name for layer in _layers(network).values() for name in layer.parts())
    )


def set_weights(network: nn.Module, weights: Mapping[str, float]) -> None:
    """Turn the dials of adapters; those not named stay. 0 is off: the base's bits.

    Raises:
        AdapterError: a name is unknown, a weight is not finite, or the network is merged.
    """
    _check_unmerged(network)
    parts = {name: _parts(network, name) for name in weights}
    for name, weight in weights.items():
        if not math.isfinite(weight):
            raise AdapterError(f'weight of adapter {name} is {weight}, must be finite')
    for name, weight in weights.items():
        for part in parts[name].values():
            part.dial = float(weight)


@torch.no_grad()
def merge(network: nn.Module) -> None:
    """Write the sums into the weights, so that the network is as fast as its base.

    Dropout plays no part. Merged adapters are fixed: they can be neither trained nor turned.
    """
    for layer in _layers(network).values():
        parts = layer.working()  # none while it is merged
        sums = layer.sum_weight(parts), layer.sum_bias(parts)
        for name, value in zip(layer.names, sums, strict=True):
            parameter = layer._parameters[name]
            if parts and parameter is not None and value is not None:
                layer.kept[name] = parameter.detach().clone()
                parameter.copy_(value)


@torch.no_grad()
def unmerge(network: nn.Module) -> None:
    """Put the base's weights back, to the bit: they were kept, as subtracting would round."""
    for layer in _layers(network).values():
        for name, value in layer.kept.items():
            parameter = layer._parameters[name]
            assert parameter is not None
            parameter.copy_(value)
        layer.kept = {}


def adapter_tensors(network: nn.Module, name: str) -> Tensors:
    """Copy one adapter to numpy, by the names of the file format (``actor.0.lora_A``).

    Raises:
        AdapterError: the name is unknown.
    """
    return {key: value.detach().cpu().numpy().copy() for key, value in _state(network, name)}


@torch.no_grad()
def load_adapter_tensors(
    network: nn.Module, name: str, tensors: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Take one adapter's numbers from numpy.

    Raises:
        AdapterError: a name or a shape does not fit, or the network is merged; nothing changed.
    """
    _check_unmerged(network)
    state = dict(_state(network, name))
    if set(state) != set(tensors):
        raise AdapterError(
            f'adapter {name}: missing tensors {sorted(set(state) - set(tensors)) or "none"}, '
            f'unknown tensors {sorted(set(tensors) - set(state)) or "none"}'
        )
    for key, parameter in state.items():
        if tensors[key].shape != tuple(parameter.shape):
            raise AdapterError(
                f'adapter {name}: tensor {key} has shape {tensors[key].shape}, '
                f'expected {tuple(parameter.shape)}'
            )
    for key, parameter in state.items():
        parameter.copy_(torch.tensor(tensors[key]))


def trainable_report(network: nn.Module) -> TrainableReport:
    """Count what an optimiser would change, and what there is."""
    parameters = list(network.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return TrainableReport(
        trainable=sum(parameter.numel() for parameter in trained),
        total=sum(parameter.numel() for parameter in parameters),
        kilobytes=sum(p.numel() * p.element_size() for p in trained) / 1000,
    )


def _layers(network: nn.Module) -> dict[str, LoraLayer]:
    return {name: m for name, m in network.named_modules() if isinstance(m, LoraLayer)}


def _parts(network: nn.Module, name: str) -> dict[str, LoraPart]:
    """One adapter's parts by layer."""
    layers = _layers(network)
    found = {key: layer.parts()[name] for key, layer in layers.items() if name in layer.parts()}
    if not found:
        choices = ', '.join(adapter_names(network)) or 'none'
        raise AdapterError(f'unknown adapter {name}; the network has {choices}')
    return found


def _state(network: nn.Module, name: str) -> list[tuple[str, nn.Parameter]]:
    parts = _parts(network, name)
    return [
        (f'{layer}.{key}', parameter)
        for layer, part in parts.items()
        for key, parameter in part.named_parameters()
    ]


def _check_unmerged(network: nn.Module) -> None:
    for name, layer in _layers(network).items():
        if layer.kept:
            raise AdapterError(f'layer {name} is merged, so its adapters are fixed; unmerge first')


def _targets(network: nn.Module, config: LoraConfig) -> list[nn.Module]:
    """Layers that a config names, each once."""
    modules = dict(network.named_modules())
    plain = {name: plain_class(module) for name, module in modules.items()}
    choices = ', '.join(name for name, kind in plain.items() if kind in CLASSES) or 'none'
    found: dict[str, nn.Module] = {}
    for target in config.target_modules:
        names = targeted(target, modules)
        if not names:
            raise AdapterError(f'the network has no layer {target}; choices are {choices}')
        for name in names:
            if plain[name] not in CLASSES:
                raise AdapterError(
                    f'layer {name} is of class {plain[name].__name__}, which cannot be adapted; '
                    f'choices are {choices}'
                )
            found[name] = modules[name]
            if issubclass(plain[name], nn.MultiheadAttention):
                found[f'{name}.out_proj'] = modules[f'{name}.out_proj']
    for name, module in found.items():
        if plain[name] in ATTENTION and config.lora_dropout:
            raise AdapterError(
                f'layer {name} cannot have lora_dropout {config.lora_dropout}, must be 0: '
                f'attention reads weights and leaves no input to drop from'
            )
        if isinstance(module, nn.MultiheadAttention) and not module._qkv_same_embed_dim:
            raise AdapterError(
                f'layer {name} has keys or values of another size than {module.embed_dim}, '
                f'so there is no joint projection to adapt'
            )
    return list(found.values())
