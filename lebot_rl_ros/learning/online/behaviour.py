"""How far an adapter moves what a policy does: pure functions, and a step on the way to it.

J joints, N observations. Mean actions are in action units and not clipped.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.policy.adapters import Adapter, merge
from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.mixing import mix
from lebot_rl_ros.policy.runtime import PolicyRuntime

FloatArray = npt.NDArray[np.floating]
LIMIT = 1.0  # action units, where a joint's target stops following the action


def mean_actions(
    base: Tensors, manifest: PolicyManifest, adapter: Adapter | None, observations: FloatArray
) -> FloatArray:
    """Mean actions (N, J) of a base with an adapter, or alone, for observations (N, O)."""
    tensors = base if adapter is None else merge(base, [(adapter, 1.0)])
    with np.errstate(over='ignore', invalid='ignore'):  # the caller judges what is not finite
        return PolicyRuntime(tensors, manifest, compiled=False).act_many(observations)


def gaussian_kl(difference: FloatArray, sigma: float) -> FloatArray:
    """KL divergence (N,), nats, of Gaussians of one fixed spread whose means differ by (N, J).

    0.5 |difference / sigma|², in closed form; the same in both directions.
    """
    return 0.5 * np.square(difference / sigma).sum(axis=-1)


def largest_change(difference: FloatArray, action_scale: float) -> FloatArray:
    """Largest change of each joint's mean target (J,), rad, for differences (N, J)."""
    return action_scale * np.abs(difference).max(axis=0)


def saturation(actions: FloatArray) -> FloatArray:
    """Share of observations for which each joint sits at its limit, (J,), for actions (N, J)."""
    return (np.abs(actions) >= LIMIT).mean(axis=0)


def describe_change(
    base: FloatArray,
    old: FloatArray,
    new: FloatArray,
    manifest: PolicyManifest,
    sigma: float,
) -> dict[str, float]:
    """Numbers of a change from mean actions ``old`` to ``new``, and of all from ``base``'s.

    Args:
        base: (N, J) of the base alone.
        old: (N, J) of the last accepted version.
        new: (N, J) of the version that is judged.
        manifest: of the base.
        sigma: spread of the Gaussians, action units.

    Returns:
        change and change_base (rad, largest), kl_mean, kl_p99 and kl_base (nats; mean, 99th
        percentile, mean), and of each joint change/JOINT (rad, of the step) and saturation/JOINT
        (rise of the share from base).
    """
    step, whole = new - old, new - base
    changes = largest_change(step, manifest.action_scale)
    kl, rise = gaussian_kl(step, sigma), saturation(new) - saturation(base)
    found = {
        'change': changes.max(),
        'change_base': largest_change(whole, manifest.action_scale).max(),
        'kl_mean': kl.mean(),
        'kl_p99': np.quantile(kl, 0.99),
        'kl_base': gaussian_kl(whole, sigma).mean(),
    }
    for joint, change, more in zip(manifest.joint_names, changes, rise, strict=True):
        found |= {f'change/{joint}': change, f'saturation/{joint}': more}
    return {name: float(value) for name, value in found.items()}


def layer_changes(base: Tensors, adapter: Adapter) -> dict[str, tuple[float, float]]:
    """What an adapter adds to each layer: two numbers a layer.

    Returns:
        Frobenius norm of the change of the weight over that of the base's weight; Euclidean norm
        of the change of the bias, in units of the layer's output.
    """
    found = {}
    for layer in adapter.layers:
        weight, bias = base[f'{layer}.weight'], base[f'{layer}.bias']
        with np.errstate(over='ignore', invalid='ignore'):
            delta = np.linalg.norm(adapter.delta(layer).astype(np.float64))
        change = np.asarray(adapter.tensors.get(f'{layer}.bias', bias), np.float64) - bias
        norm = float(np.linalg.norm(weight))
        found[layer] = float(delta) / norm if norm else float(delta), float(np.linalg.norm(change))
    return found


def part_way(base: Tensors, old: Adapter | None, new: Adapter, share: float) -> Adapter:
    """The adapter that goes a share of the way from ``old`` (the base without it) to ``new``.

    From the base, B and the change of the biases are scaled: exact. Between adapters of one
    config, A, B and biases are interpolated one by one: that keeps the rank, and with it a file
    that the learner can go on from; W then differs from the exact point by share (1 - share) dB dA
    at most, which is of second order in the step. Others are mixed exactly at the sum of their
    ranks. Whoever asks measures what came out, and need not trust the algebra.

    Args:
        base: tensors of the base that both were made for.
        old: where the way begins.
        new: where it ends; its manifest is kept, with the share noted under ``training``.
        share: 0 to 1.
    """
    if share == 1.0:
        return new
    config, tensors = new.config, Tensors()
    if old is not None and (old.config != config or set(old.tensors) != set(new.tensors)):
        config, tensors, _ = mix(new.manifest.name, base, [(old, 1.0 - share), (new, share)])
    else:
        for name, value in new.tensors.items():
            if old is not None:
                start = old.tensors[name]
            elif name.endswith('.bias'):
                start = base[name]
            else:  # W is linear in B alone
                start = value if name.endswith('.lora_A') else np.zeros_like(value)
            between = start + share * (value.astype(np.float64) - start)
            tensors[name] = between.astype(np.float32)
    training = {**new.manifest.training, 'share_of_step': share}
    return Adapter(config, tensors, replace(new.manifest, sha256='', training=training))
