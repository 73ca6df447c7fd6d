"""What of a walking policy is trained online: an adapter, biases, the last layer, or all of it.

Every kind but the residual is written as a plain adapter of the suite: a change of full rank is
LoRA, too, with the identity for one of its factors. So one file format, one gate and one swap
serve them all.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lebot_rl_ros.policy.adapters import LoraConfig
from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.lora import adapter_tensors, add_adapter, load_adapter_tensors
from lebot_rl_ros.policy.networks import MLP, Normaliser

KINDS = ('lora', 'bias', 'last_layer', 'all', 'residual')
ADAPTER = 'learned'  # its name within the network
RESIDUAL_HIDDEN = (64,)


@dataclass(frozen=True)
class TrainedConfig:
    """What is trained; what is not stays as it is in the base."""

    kind: str = 'lora'
    r: int = 4  # rank of lora
    biases: bool = True  # of lora: those of the adapted layers, too
    bound: float = 0.25  # of residual: the most that it adds to an action, action units

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: an unknown kind, or a number out of range.
        """
        if self.kind not in KINDS:
            raise ValueError(f'kind is {self.kind!r}; choices are {", ".join(KINDS)}')
        if self.r < 1 or not self.bound > 0.0:
            raise ValueError(f'r is {self.r} and bound {self.bound}: both must be positive')


class Trained:
    """The actor of a base with the numbers that are trained; observations and actions are raw."""

    def __init__(
        self, base: Tensors, manifest: PolicyManifest, config: TrainedConfig, seed: int = 0
    ) -> None:
        """Build it; it acts as the base does until something has been learned.

        Args:
            base: the policy's tensors; they stay as they are.
            manifest: the policy's.
            config: what is trained.
            seed: of an adapter's A, and of a residual's weights.
        """
        self.config, self.manifest, self._tensors = config, manifest, dict(base)
        sizes = [len(base['normaliser.mean'])]
        while f'actor.{len(sizes) - 1}.weight' in base:
            sizes.append(len(base[f'actor.{len(sizes) - 1}.weight']))
        self.layers = [f'actor.{i}' for i in range(len(sizes) - 1)]
        self._sizes, self._activation = sizes, str(manifest.network['activation'])
        self.normaliser = Normaliser(sizes[0])
        for name in ('mean', 'var'):
            getattr(self.normaliser, name).copy_(torch.from_numpy(base[f'normaliser.{name}']))
        self._base = self._actor().requires_grad_(False)
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Be the base again; an adapter's A is drawn as at first."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._make()

    def normalised(self, observation: Tensor) -> Tensor:
        """Observations (..., O) as the networks take them."""
        return self.normaliser(observation)

    def mean(self, observation: Tensor) -> Tensor:
        """Mean actions (..., J), policy units, for raw observations (..., O); differentiable."""
        return self.mean_of(self.normaliser(observation))

    def mean_of(self, normalised: Tensor, actor: nn.Module | None = None) -> Tensor:
        """Mean actions (..., J) for normalised observations (..., O); differentiable.

        Args:
            normalised: observations.
            actor: an older copy of ``self.actor``, to be asked in its place.
        """
        actor = self.actor if actor is None else actor
        if self.config.kind == 'residual':
            return self._base(normalised) + torch.tanh(actor(normalised)) * self.config.bound
        return actor(normalised)

    @torch.no_grad()
    def base_mean(self, observation: Tensor) -> Tensor:
        """Mean actions (..., J) of the base alone, for raw observations."""
        return self._base(self.normaliser(observation))

    @torch.no_grad()
    def base_mean_of(self, normalised: Tensor) -> Tensor:
        """Mean actions (..., J) of the base alone, for normalised observations."""
        return self._base(normalised)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What is trained, by name."""
        for name, parameter in self.actor.named_parameters():
            if parameter.requires_grad:
                yield name, parameter

    def parameters(self) -> list[nn.Parameter]:
        """What is trained, always in the same order."""
        return [parameter for _, parameter in self.named_parameters()]

    @property
    def count(self) -> int:
        """Numbers that are trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def lora(self) -> LoraConfig:
        """What the exported tensors are, for the file format."""
        kind = self.config.kind
        if kind == 'residual':
            raise ValueError(
                'a residual network is no adapter and cannot be written as one; train '
                f'{", ".join(KINDS[:-1])} to let it act through the graph'
            )
        if kind == 'lora':
            r, bias = self.config.r, 'lora_only' if self.config.biases else 'none'
            return LoraConfig(r, float(r), tuple(self.layers), bias=bias)
        if kind == 'bias':
            return LoraConfig(1, 1.0, tuple(self.layers), bias='lora_only')
        if kind == 'last_layer':
            r = min(self._sizes[-2:])
            return LoraConfig(r, float(r), (self.layers[-1],), bias='lora_only')
        r = max(min(a, b) for a, b in zip(self._sizes, self._sizes[1:], strict=False))
        return LoraConfig(r, float(r), tuple(self.layers), bias='lora_only')

    @torch.no_grad()
    def export(self) -> tuple[LoraConfig, Tensors]:
        """The adapter as it is now, in the names of the file format.

        Raises:
            ValueError: what is trained is a residual network.
        """
        lora = self.lora
        if self.config.kind == 'lora':
            found = adapter_tensors(self._holder, ADAPTER)
            return lora, {name: np.array(value, np.float32) for name, value in found.items()}
        own = dict(self.actor.named_parameters())
        tensors: Tensors = {}
        for target in lora.target_modules:
            i = target.rpartition('.')[2]
            base = self._tensors[f'{target}.weight']
            change = own[f'{i}.weight'].detach().numpy() - base
            tensors[f'{target}.lora_A'], tensors[f'{target}.lora_B'] = factors(change, lora.r)
            tensors[f'{target}.bias'] = own[f'{i}.bias'].detach().numpy().copy()
        return lora, tensors

    @torch.no_grad()
    def load(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take what :meth:`export` gave.

        Raises:
            ValueError: a tensor is missing or of another shape.
        """
        if self.config.kind == 'lora':
            load_adapter_tensors(self._holder, ADAPTER, tensors)
            return
        lora, own = self.lora, dict(self.actor.named_parameters())
        for target in lora.target_modules:
            names = [f'{target}.{part}' for part in ('lora_A', 'lora_B', 'bias')]
            missing = [name for name in names if name not in tensors]
            if missing:
                raise ValueError(f'{missing[0]} is missing among {sorted(tensors)}')
            a, b, bias = (tensors[name] for name in names)
            weight = self._tensors[f'{target}.weight'] + np.float32(lora.scaling) * (b @ a)
            i = target.rpartition('.')[2]
            for name, value in ((f'{i}.weight', weight), (f'{i}.bias', bias)):
                if own[name].requires_grad:
                    own[name].copy_(torch.from_numpy(np.asarray(value, np.float32)))

    def _actor(self) -> MLP:
        """The base's actor, anew."""
        actor = MLP(self._sizes, self._activation, gain=1.0)
        actor.load_state_dict(
            {
                name.removeprefix('actor.'): torch.from_numpy(np.array(value))
                for name, value in self._tensors.items()
                if name.startswith('actor.')
            }
        )
        return actor

    def _make(self) -> None:
        kind = self.config.kind
        if kind == 'residual':
            self.actor = MLP(
                [self._sizes[0], *RESIDUAL_HIDDEN, self._sizes[-1]], self._activation, gain=0.0
            )
            return
        self.actor = self._actor()
        if kind == 'lora':
            self._holder = nn.ModuleDict({'actor': self.actor})
            add_adapter(self._holder, ADAPTER, self.lora)
            return
        last = len(self.layers) - 1
        for name, parameter in self.actor.named_parameters():
            trained = (
                kind == 'all'
                or (kind == 'bias' and name.endswith('.bias'))
                or (kind == 'last_layer' and name.startswith(f'{last}.'))
            )
            parameter.requires_grad_(trained)


def factors(
    change: npt.NDArray[np.float32], r: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A (r, in) and B (out, r) whose product B A is exactly ``change`` (out, in).

    One of them is the identity, so no bit is lost; both are zero where nothing changed.

    Raises:
        ValueError: the rank is less than the smaller side, which the identity needs.
    """
    out, size = change.shape
    least = min(out, size)
    a, b = np.zeros((r, size), np.float32), np.zeros((out, r), np.float32)
    if not change.any():
        return a, b
    if r < least:
        raise ValueError(f'rank is {r}, but a change of shape {change.shape} needs {least}')
    if size <= out:
        a[:size], b[:, :size] = np.eye(size, dtype=np.float32), change
    else:
        a[:out], b[:, :out] = change, np.eye(out, dtype=np.float32)
    return a, b
