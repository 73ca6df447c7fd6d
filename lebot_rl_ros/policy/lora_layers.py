"""Layers with LoRA adapters in torch.

A layer keeps its place, its parameters and their names; only its class changes. Reading its
``weight`` then gives W + sum of dial * scaling * B A over its adapters, and ``bias`` likewise.
So whoever reads the weight (attention reads that of ``out_proj``, torch's fast encoder those of
its linears) sees the adapters, and a merged layer computes the same bits as an unmerged one.
LoRA: Hu et al., arXiv 2106.09685; initial values as in PEFT and loralib.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear as AttentionOutput

from lebot_rl_ros.policy.adapters import LoraConfig

PREFIX = 'lora_'  # of an adapter's child in a layer


class LoraPart(nn.Module):
    """One adapter in one layer: A (r, in, ...), B (out, r, ...) and perhaps a bias (out,)."""

    bias: nn.Parameter | None

    def __init__(self, weight: Tensor, bias: Tensor | None, config: LoraConfig) -> None:
        """Start as nothing: A Kaiming-uniform with a = sqrt(5), B zero, the bias the base's."""
        super().__init__()
        ones = [1] * (weight.dim() - 2)  # B of a convolution is one of size 1, as in PEFT
        self.lora_A = nn.Parameter(weight.new_empty(config.r, *weight.shape[1:]))
        self.lora_B = nn.Parameter(weight.new_zeros(len(weight), config.r, *ones))
        nn.init.kaiming_uniform_(self.lora_A, a=5.0**0.5)
        trained = bias is not None and config.bias == 'lora_only'
        self.bias = nn.Parameter(bias.detach().clone()) if bias is not None and trained else None
        self.config, self.dial = config, 1.0
        self.dropout = nn.Dropout(config.lora_dropout)

    def delta(self) -> Tensor:
        """What is added to the layer's weight, in its shape."""
        product = self.lora_B.flatten(1) @ self.lora_A.flatten(1)
        return self.dial * self.config.scaling * product.view(-1, *self.lora_A.shape[1:])

    @property
    def drops(self) -> bool:
        """Whether it sees an input of its own now, so that it cannot be part of the weight."""
        return self.training and self.config.lora_dropout > 0


class LoraLayer(nn.Module):
    """What adapted layers share; :func:`adopt` makes them."""

    names = ('weight', 'bias')  # of the parameters that are adapted
    plain: type[nn.Module]  # the class to go back to
    kept: dict[str, Tensor]  # the base's parameters while merged, else empty

    def parts(self) -> dict[str, LoraPart]:
        """Adapters by name."""
        return {
            name[len(PREFIX) :]: child
            for name, child in self._modules.items()
            if isinstance(child, LoraPart)
        }

    def working(self) -> list[LoraPart]:
        """Adapters to be added to what the parameters say; one whose dial is 0 is left out."""
        return [] if self.kept else [part for part in self.parts().values() if part.dial]

    def dropping(self) -> list[LoraPart]:
        """Those among them that see an input of their own."""
        return [part for part in self.working() if part.drops]

    def sum_weight(self, parts: Sequence[LoraPart]) -> Tensor:
        """Weight of the base plus those of adapters."""
        weight: Any = self._parameters[self.names[0]]
        return sum((part.delta() for part in parts), start=weight)

    def sum_bias(self, parts: Sequence[LoraPart]) -> Tensor | None:
        """Bias likewise; an adapter's takes the place of the base's as far as its dial says."""
        base = self._parameters[self.names[1]]
        bias: Tensor | None = base
        for part in parts:
            if base is not None and bias is not None and part.bias is not None:
                bias = bias + part.dial * (part.bias - base)
        return bias

    def read_weight(self) -> Tensor:
        """Weight as the layer has it now."""
        return self.sum_weight([part for part in self.working() if not part.drops])

    def read_bias(self) -> Tensor | None:
        """Bias as the layer has it now."""
        return self.sum_bias(self.working())


class LoraLinear(LoraLayer, nn.Linear):
    """A linear layer with adapters."""

    weight = property(LoraLayer.read_weight)
    bias = property(LoraLayer.read_bias)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = super().forward(input)
        for part in self.dropping():
            y = y + F.linear(part.dropout(input), part.delta())
        return y


class LoraConv2d(LoraLayer, nn.Conv2d):
    """A convolution with adapters; with groups A is (r, in / groups, ...), unlike PEFT's."""

    weight = property(LoraLayer.read_weight)
    bias = property(LoraLayer.read_bias)

    def forward(self, input: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        y = super().forward(input)
        for part in self.dropping():
            y = y + self._conv_forward(part.dropout(input), part.delta(), None)
        return y


class LoraAttention(LoraLayer, nn.MultiheadAttention):
    """Attention with adapters on the joint projection of query, key and value."""

    names = ('in_proj_weight', 'in_proj_bias')
    in_proj_weight = property(LoraLayer.read_weight)
    in_proj_bias = property(LoraLayer.read_bias)


CLASSES: dict[type[nn.Module], type[LoraLayer]] = {
    nn.Linear: LoraLinear,
    AttentionOutput: LoraLinear,
    nn.Conv2d: LoraConv2d,
    nn.MultiheadAttention: LoraAttention,
}
ATTENTION = (nn.MultiheadAttention, AttentionOutput)  # computed from weights, not by `forward`


def plain_class(module: nn.Module) -> type[nn.Module]:
    """Class of a module without adapters."""
    return module.plain if isinstance(module, LoraLayer) else type(module)


def adopt(module: nn.Module) -> LoraLayer:
    """Make a layer ready for adapters, in place, as torch's own ``parametrize`` does."""
    if isinstance(module, LoraLayer):
        return module
    plain, layer = type(module), module  # type: type[nn.Module], Any
    layer.__class__ = CLASSES[plain]
    layer.plain, layer.kept = plain, {}
    return layer


def release(layer: LoraLayer) -> None:
    """Make it a plain layer again."""
    plain = layer.plain
    del layer.plain, layer.kept
    layer.__class__ = plain  # type: ignore[assignment]
