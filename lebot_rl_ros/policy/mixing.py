"""Several adapters as one: exact, at the price of a rank that is the sum of theirs."""

from collections.abc import Sequence

import numpy as np

from lebot_rl_ros.policy.adapters import Adapter, AdapterError, AdapterManifest, LoraConfig
from lebot_rl_ros.policy.files import Tensors
from lebot_rl_ros.policy.terms import Term, format_mix


def mix(
    name: str, base: Tensors, parts: Sequence[tuple[Adapter, float]]
) -> tuple[LoraConfig, Tensors, AdapterManifest]:
    """Linear mixture of adapters as one adapter: merged, it gives what the parts would give.

    Sum of w s B A is [w1 s1 B1, w2 s2 B2, ...] [A1; A2; ...], so nothing is lost; an
    adapter that lacks a layer adds zeros there. Biases, where one part has them, are mixed as
    changes of the base's.

    Args:
        name: of the mixture; its version is 1 until a store gives it another.
        base: tensors of the base that the parts were made for and checked against.
        parts: adapters with their weights.

    Returns:
        Config, tensors and manifest, as a store adds them.

    Raises:
        AdapterError: there are no parts, or they were made for different bases.
    """
    if not parts:
        raise AdapterError("there is nothing to mix; expected adapters such as 'turn:0.5+ice:0.5'")
    first = parts[0][0].manifest
    for adapter, _ in parts:
        if adapter.manifest.base_sha256 != first.base_sha256:
            raise AdapterError(
                f'{first.label} was made for base {first.base_sha256}, {adapter.manifest.label} '
                f'for {adapter.manifest.base_sha256}; only adapters of one base can be mixed'
            )
    layers = sorted({layer for adapter, _ in parts for layer in adapter.layers})
    biased = any(adapter.config.bias != 'none' for adapter, _ in parts)
    rank = sum(adapter.config.r for adapter, _ in parts)
    tensors: Tensors = {}
    for layer in layers:
        out, inputs = base[f'{layer}.weight'].shape
        lora_a = np.zeros((rank, inputs), dtype=np.float32)
        lora_b = np.zeros((out, rank), dtype=np.float32)
        bias = base[f'{layer}.bias'].astype(np.float64)
        row = 0
        for adapter, weight in parts:
            rows = slice(row, row + adapter.config.r)
            row += adapter.config.r
            if layer in adapter.layers:
                lora_a[rows] = adapter.tensors[f'{layer}.lora_A']
                factor = weight * adapter.config.scaling
                lora_b[:, rows] = factor * adapter.tensors[f'{layer}.lora_B'].astype(np.float64)
            if f'{layer}.bias' in adapter.tensors:
                change = adapter.tensors[f'{layer}.bias'] - base[f'{layer}.bias']
                bias += weight * change.astype(np.float64)
        tensors[f'{layer}.lora_A'], tensors[f'{layer}.lora_B'] = lora_a, lora_b
        if biased:
            tensors[f'{layer}.bias'] = bias.astype(np.float32)
    config = LoraConfig(
        r=rank,
        lora_alpha=float(rank),
        target_modules=tuple(layers),
        bias='lora_only' if biased else 'none',
    )
    terms = [Term(a.manifest.name, a.manifest.version, float(weight)) for a, weight in parts]
    manifest = AdapterManifest(
        name=name,
        version=1,
        base_sha256=first.base_sha256,
        robot=first.robot,
        joint_names=first.joint_names,
        parent=format_mix(terms),  # with the versions that were taken, so that it can be repeated
        training={
            'mixed': [
                {'adapter': adapter.manifest.label, 'weight': weight,
                 'sha256': adapter.manifest.sha256}
                for adapter, weight in parts
            ]
        },
    )  # fmt: skip
    return config, tensors, manifest
