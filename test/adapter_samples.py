"""Adapters of random numbers for the shipped base."""

import numpy as np

from lebot_rl_ros.policy.adapters import AdapterManifest, LoraConfig
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.robot import share_path


def load_base():
    """Tensors and manifest of the shipped base."""
    return load_policy(share_path('policies', 'walk'))


def random_adapter(base_manifest, name, seed, r=2, size=0.02, **options):
    """(config, tensors, manifest) for every layer of a base.

    Args:
        base_manifest: of the base.
        name: of the adapter; its version is 1 until a store gives it another.
        seed: of the numbers.
        r: rank.
        size: standard deviation of what is added to a weight; also of the biases.
        options: others of LoraConfig.
    """
    config = LoraConfig(r=r, **options)
    rng = np.random.default_rng(seed)
    shapes = base_manifest.shapes()
    tensors = {}
    for layer in config.target_modules:
        out, inputs = shapes[f'{layer}.weight']
        tensors[f'{layer}.lora_A'] = 0.1 * rng.standard_normal((r, inputs))
        spread = size / (0.1 * config.scaling * np.sqrt(r))  # of r products of two numbers
        tensors[f'{layer}.lora_B'] = spread * rng.standard_normal((out, r))
        if config.bias != 'none':
            tensors[f'{layer}.bias'] = size * rng.standard_normal(out)
    manifest = AdapterManifest(
        name=name,
        version=1,
        base_sha256=base_manifest.sha256,
        robot=base_manifest.robot,
        joint_names=base_manifest.joint_names,
    )
    return config, {key: value.astype(np.float32) for key, value in tensors.items()}, manifest
