"""LoRA adapters: what one is, which base it belongs to, and merged into it, without torch.

LoRA: Hu et al., arXiv 2106.09685; the rank-stabilised scale: Kalajdzievski, arXiv 2312.03732.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.folders import PolicyError

SCHEMA = 1
BIASES = ('none', 'lora_only')
VERDICTS = ('candidate', 'accepted', 'rejected')


class AdapterError(PolicyError):
    """An adapter that cannot be used; the message has the file, the value and what was wanted."""


@dataclass(frozen=True)
class LoraConfig:
    """What of a network is adapted, and how; names are PEFT's."""

    r: int = 2
    lora_alpha: float = 2.0
    target_modules: tuple[str, ...] = (
        'actor.0', 'actor.1', 'actor.2', 'critic.0', 'critic.1', 'critic.2',
    )  # fmt: skip
    use_rslora: bool = False  # alpha / sqrt(r) in place of alpha / r
    bias: str = 'none'  # or lora_only: the biases of the adapted layers are trained, too
    lora_dropout: float = 0.0  # of a layer's input, while training

    def __post_init__(self) -> None:
        """Check.

        Raises:
            AdapterError: a value out of range; the message has the range.
        """
        if self.r < 1:
            raise AdapterError(f'r is {self.r}, must be 1 or more')
        if not (math.isfinite(self.lora_alpha) and self.lora_alpha > 0):
            raise AdapterError(f'lora_alpha is {self.lora_alpha}, must be positive')
        if not 0.0 <= self.lora_dropout < 1.0:
            raise AdapterError(f'lora_dropout is {self.lora_dropout}, must be in [0, 1)')
        if self.bias not in BIASES:
            raise AdapterError(f'bias is {self.bias!r}; choices are {", ".join(BIASES)}')
        if not self.target_modules:
            raise AdapterError('target_modules is empty; name at least one layer')

    @property
    def scaling(self) -> float:
        """Factor on B A."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


@dataclass(frozen=True)
class AdapterManifest:
    """What an adapter belongs to, where it comes from and what is known of it."""

    name: str
    version: int
    base_sha256: str  # of the base's model.safetensors
    robot: str
    joint_names: tuple[str, ...]
    sha256: str = ''  # of adapter_model.safetensors; save_adapter fills it in
    parent: str = ''  # NAME@VERSION that training went on from, or the mixture that it is
    created: str = ''  # ISO 8601, UTC
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    verdict: str = 'candidate'
    reason: str = ''  # of the verdict
    schema: int = SCHEMA

    @property
    def label(self) -> str:
        """NAME@VERSION."""
        return f'{self.name}@{self.version}'


@dataclass(frozen=True)
class Adapter:
    """One adapter in memory.

    ``tensors`` have plain names: ``actor.0.lora_A`` (r, in), ``actor.0.lora_B`` (out, r) and,
    where biases are trained, ``actor.0.bias`` (out,), which replaces the base's.
    """

    config: LoraConfig
    tensors: Tensors
    manifest: AdapterManifest

    @property
    def layers(self) -> list[str]:
        """Names of the adapted layers."""
        return sorted(name[: -len('.lora_A')] for name in self.tensors if name.endswith('.lora_A'))

    @property
    def count(self) -> int:
        """Numbers in it."""
        return sum(value.size for value in self.tensors.values())

    def check(self, base: PolicyManifest, where: str | Path = '') -> None:
        """Refuse a base that this adapter was not made for.

        Raises:
            AdapterError: the first difference; the message shows both sides.
        """
        manifest, where = self.manifest, where or self.manifest.label
        for label, mine, other in (
            ('robot', manifest.robot, base.robot),
            ('joint order', list(manifest.joint_names), list(base.joint_names)),
            ('base', manifest.base_sha256, base.sha256),
        ):
            if mine != other:
                raise AdapterError(f'{where} was made for {label} {mine}, this is {other}')
        check_shapes(self.config, self.tensors, base, where)

    def delta(self, layer: str) -> npt.NDArray[np.float32]:
        """What is added to a layer's weight: scaling B A, (out, in)."""
        product = self.tensors[f'{layer}.lora_B'] @ self.tensors[f'{layer}.lora_A']
        return np.asarray(np.float32(self.config.scaling) * product)


def merge(base: Tensors, parts: Sequence[tuple[Adapter, float]]) -> Tensors:
    """Base and adapters as plain weights: W + sum of weight * scaling * B A, biases likewise.

    Args:
        base: tensors of the base policy; they stay as they are.
        parts: adapters that were checked against it, with a weight each. 0 leaves the base.
    """
    merged = dict(base)
    for adapter, weight in parts:
        for layer in adapter.layers if weight else ():
            name = f'{layer}.weight'
            merged[name] = merged[name] + np.float32(weight) * adapter.delta(layer)
            name = f'{layer}.bias'
            if name in adapter.tensors:
                change = adapter.tensors[name] - base[name]
                merged[name] = merged[name] + np.float32(weight) * change
    return merged


def targeted(target: str, names: Iterable[str]) -> list[str]:
    """Layers that a target means, by PEFT's rule: of that name, or of a name that ends so."""
    return [name for name in names if name == target or name.endswith(f'.{target}')]


def check_shapes(
    config: LoraConfig, tensors: Mapping[str, npt.NDArray[Any]], base: PolicyManifest, where: Any
) -> None:
    """Refuse tensors that do not fit the layers of a base.

    Raises:
        AdapterError: the first layer or tensor that does not; the message shows both sides.
    """
    shapes = base.shapes()
    linear = [name[: -len('.weight')] for name in shapes if name.endswith('.weight')]
    expected: dict[str, tuple[int, ...]] = {}
    for target in config.target_modules:
        layers = targeted(target, linear)
        if not layers:
            raise AdapterError(
                f'{where} adapts a layer {target} that the base lacks; it has {", ".join(linear)}'
            )
        for layer in layers:
            out, size = shapes[f'{layer}.weight']
            expected[f'{layer}.lora_A'] = (config.r, size)
            expected[f'{layer}.lora_B'] = (out, config.r)
            if config.bias != 'none':
                expected[f'{layer}.bias'] = (out,)
    for name, shape in expected.items():
        if name not in tensors:
            raise AdapterError(f'{where}: tensor {name} is missing; expected one of shape {shape}')
        if tensors[name].shape != shape:
            raise AdapterError(
                f'{where}: tensor {name} has shape {tensors[name].shape}, the base needs {shape}'
            )
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise AdapterError(f'{where}: unknown tensors {unknown}; expected {sorted(expected)}')
