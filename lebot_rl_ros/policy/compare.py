"""How far adapters move a base: per layer, and in the actions that come out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.policy.adapters import Adapter, merge
from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.runtime import PolicyRuntime

Parts = Sequence[tuple[Adapter, float]]  # adapters with weights; none is the base alone
GOLDEN = 1024  # observations that actions are compared on
SPREAD = 3.0  # standard deviations that they stay within
SEED = 0


@dataclass(frozen=True)
class LayerChange:
    """What two sets of adapters add to one layer's weight; Frobenius norms."""

    layer: str
    base: float  # norm of the base's weight
    first: float  # norm of what the first adds
    second: float
    cosine: float | None  # between what both add; None where one adds nothing
    bias: float  # norm of the difference of the biases


@dataclass(frozen=True)
class ActionChange:
    """How far mean actions differ over :func:`golden_observations`; action units."""

    largest: float
    mean: float  # of the absolute differences
    joint: str  # of the largest


def actor_share(adapter: Adapter, base: PolicyManifest) -> float:
    """Numbers of the adapter's actor layers as a share of those of the base's actor."""
    whole = sum(math.prod(s) for name, s in base.shapes().items() if name.startswith('actor.'))
    mine = sum(v.size for name, v in adapter.tensors.items() if name.startswith('actor.'))
    return mine / whole


def golden_observations(base: Tensors) -> npt.NDArray[np.float32]:
    """Observations (GOLDEN, size) as the base's normaliser knows them, always the same.

    Drawn from N(mean, var) with seed 0 and clipped to three standard deviations: likely values of
    each number, though not likely ones together.
    """
    mean, std = base['normaliser.mean'], np.sqrt(base['normaliser.var'])
    noise = np.random.default_rng(SEED).standard_normal((GOLDEN, mean.size))
    return np.asarray(mean + std * np.clip(noise, -SPREAD, SPREAD), dtype=np.float32)


def compare_layers(base: Tensors, first: Parts, second: Parts = ()) -> list[LayerChange]:
    """Compare what two sets of adapters add to each layer that one of them adapts."""
    changed = [_changes(base, parts) for parts in (first, second)]
    layers = sorted(
        {a for parts in (first, second) for adapter, _ in parts for a in adapter.layers}
    )
    rows = []
    for layer in layers:
        weight = base[f'{layer}.weight']
        nothing = np.zeros(weight.shape)
        one, other = (deltas.get(f'{layer}.weight', nothing) for deltas in changed)
        biases = [deltas.get(f'{layer}.bias', np.zeros(len(weight))) for deltas in changed]
        norms = float(np.linalg.norm(one)), float(np.linalg.norm(other))
        product = math.prod(norms)
        rows.append(
            LayerChange(
                layer=layer,
                base=float(np.linalg.norm(weight)),
                first=norms[0],
                second=norms[1],
                cosine=float(np.sum(one * other)) / product if product else None,
                bias=float(np.linalg.norm(biases[0] - biases[1])),
            )
        )
    return rows


def compare_actions(
    base: Tensors, manifest: PolicyManifest, first: Parts, second: Parts = ()
) -> ActionChange:
    """Compare the mean actions of a base with two sets of adapters."""
    observations = golden_observations(base)
    one, other = (
        PolicyRuntime(merge(base, parts), manifest).act_many(observations)
        for parts in (first, second)
    )
    change = np.abs(one - other)
    joint = int(change.max(axis=0).argmax())
    return ActionChange(float(change.max()), float(change.mean()), manifest.joint_names[joint])


def _changes(base: Tensors, parts: Parts) -> dict[str, npt.NDArray[np.float64]]:
    """What is added to each tensor of the base, summed in double precision."""
    changes: dict[str, npt.NDArray[np.float64]] = {}
    for adapter, weight in parts:
        for layer in adapter.layers:
            terms = {f'{layer}.weight': adapter.delta(layer).astype(np.float64)}
            bias = f'{layer}.bias'
            if bias in adapter.tensors:
                terms[bias] = adapter.tensors[bias].astype(np.float64) - base[bias]
            for name, term in terms.items():
                changes[name] = changes.get(name, np.zeros(term.shape)) + weight * term
    return changes
