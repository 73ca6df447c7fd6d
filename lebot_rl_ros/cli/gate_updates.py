"""Good and bad updates, made on purpose: what `lebot benchmark gate` lets the gate judge.

Good ones are honest small steps of a policy gradient on recorded steps; most bad ones are the same
with one thing wrong, so that nothing but that tells them apart.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from lebot_rl_ros.cli import gate_workshop
from lebot_rl_ros.cli.gate_walks import in_order, score
from lebot_rl_ros.cli.gate_workshop import Situation, Workshop
from lebot_rl_ros.learning.online.behaviour import (
    gaussian_kl,
    largest_change,
    mean_actions,
    part_way,
)
from lebot_rl_ros.learning.online.gate import GateConfig
from lebot_rl_ros.learning.online.trained import Trained, TrainedConfig
from lebot_rl_ros.policy.adapters import Adapter
from lebot_rl_ros.policy.compare import golden_observations

TRIES = 4  # directions that a search tries
UNITS = {  # terms of the reward, and the factor by which another unit changes their square
    'roll_pitch_rate': 3283.0,  # degrees for radians
    'tilt': 3283.0,
    'torque': 1e6,  # mN m for N m
    'action_rate': 1e4,  # percent of the action for the action
}


def good(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """An honest small step."""
    rng = np.random.default_rng([seed, 3])
    return workshop.learn(situation, seed, rate=float(10 ** rng.uniform(-3.5, -2.7)))


def not_finite(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """NaN, infinity or the largest float in one number, or in a whole tensor."""
    rng = np.random.default_rng([seed, 3])
    adapter = workshop.learn(situation, seed)
    name = sorted(adapter.tensors)[rng.integers(len(adapter.tensors))]
    value = (np.nan, np.inf, -np.inf, np.finfo(np.float32).max)[seed % 4]
    tensor = adapter.tensors[name].copy()
    if seed % 8 < 4:
        tensor.flat[rng.integers(tensor.size)] = value
    else:
        tensor[:] = value
    return replace(adapter, tensors=adapter.tensors | {name: tensor})


def rate_x100(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """An honest direction, a hundred times as far."""
    return workshop.learn(situation, seed, rate=0.1)


def flipped(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """Advantages with the wrong sign."""
    return workshop.learn(situation, seed, sign=-1.0)


def wrong_units(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """The reward in other units.

    By turns: all of it a thousand times as large, for a learner that takes advantages as they are
    and steps along the plain gradient; one term (the rates of roll and pitch and the tilt in
    degrees, the torque in mN m, the action in percent), so that it drowns the others.
    """
    rows = situation.rows
    if seed % 2:
        return workshop.learn(situation, seed, rewards=1e3 * rows['reward'], plain=True)
    name = list(UNITS)[seed // 2 % len(UNITS)]
    rewards = rows['reward'] + (UNITS[name] - 1.0) * rows[name].astype(np.float64)
    return workshop.learn(situation, seed, rewards=rewards)


def other_normaliser(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """A learner that re-estimated the normaliser, and a base that has kept its own.

    Every other one says so in the hash of its base; the others claim the right base, with a first
    layer that fits the other normaliser.
    """
    base, rows = workshop.base, situation.rows
    if seed % 2:
        adapter = workshop.learn(situation, seed)
        return replace(adapter, manifest=replace(adapter.manifest, base_sha256=f'{seed:064x}'))
    part = rows['observation'][
        -(1 + seed % 4) * gate_workshop.STEPS :
    ]  # of a few robots, and of this fault
    ratio = np.sqrt((part.var(axis=0) + 1e-4) / (base['normaliser.var'] + 1e-4))
    shift = (part.mean(axis=0) - base['normaliser.mean']) / np.sqrt(base['normaliser.var'] + 1e-4)
    weight = base['actor.0.weight']
    trained = Trained(base, workshop.manifest, TrainedConfig('all'))
    with torch.no_grad():
        layer = trained.actor[0]
        assert isinstance(layer, torch.nn.Linear)
        layer.weight.copy_(torch.from_numpy((weight * ratio).astype(np.float32)))
        layer.bias.add_(torch.from_numpy((weight @ shift).astype(np.float32)))
    return workshop.adapter(*trained.export(), situation.accepted)


def other_base(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """Made for other weights, another robot, another order of joints, or other layers."""
    adapter = workshop.learn(situation, seed)
    manifest, tensors, config = adapter.manifest, dict(adapter.tensors), adapter.config
    if seed % 4 == 0:
        manifest = replace(manifest, base_sha256=f'{seed:064x}')
    elif seed % 4 == 1:
        manifest = replace(manifest, robot='other')
    elif seed % 4 == 2:
        manifest = replace(manifest, joint_names=manifest.joint_names[::-1])
    else:
        tensors['actor.1.lora_B'] = np.zeros((256, config.r), np.float32)
    return Adapter(config, tensors, manifest)


def one_saturated(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """The bias of one joint's action far to one side."""
    rng = np.random.default_rng([seed, 3])
    adapter = workshop.learn(situation, seed)
    name = max(name for name in adapter.tensors if name.endswith('.bias'))
    bias = adapter.tensors[name].copy()
    bias[seed % len(bias)] += rng.uniform(1.0, 3.0) * (-1.0) ** rng.integers(2)
    return replace(adapter, tensors=adapter.tensors | {name: bias})


def stale(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """An honest step, made from a version that was accepted long ago."""
    if not situation.history[:-1]:
        raise ValueError('a stale update needs two accepted versions or more before it')
    old = situation.history[seed % (len(situation.history) - 1)]
    made = workshop.learn(replace(situation, accepted=old), seed)
    version = situation.history[-1].manifest.version + 1
    return replace(made, manifest=replace(made.manifest, version=version))


def slow_drift(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """A little down the slope; whoever asks for the next one starts from where this one led."""
    return workshop.learn(situation, seed, sign=-1.0, rate=5e-4)


def small_kl(workshop: Workshop, situation: Situation, seed: int) -> Adapter:
    """The worst that fits under the thresholds: against another run's gradient, or searched for.

    The gradient is that of steps that the gate does not see; the search takes the worst of four
    random directions by walking each. Both go as far as the gate's caps on one step let them.
    """
    if seed % 2:
        rows = in_order(
            workshop.walk(situation.place, gate_workshop.ROBOTS, seed + 7).go(
                situation.accepted, gate_workshop.STEPS
            )
        )
        made = workshop.learn(replace(situation, rows=rows), seed, sign=-1.0)
        return up_to_caps(workshop, situation, made)
    rng = np.random.default_rng([seed, 3])
    tries = [
        up_to_caps(workshop, situation, _random(workshop, situation, rng)) for _ in range(TRIES)
    ]
    walk = workshop.walk(situation.place, 4 * len(tries), seed)
    earned = score(walk, [adapter for adapter in tries for _ in range(4)], 100)
    return tries[int(earned.reshape(len(tries), 4).mean(axis=1).argmin())]


def up_to_caps(workshop: Workshop, situation: Situation, adapter: Adapter) -> Adapter:
    """As far in a direction as leaves 5 % to each cap on one step, by bisection."""
    config, base, manifest = GateConfig(), workshop.base, workshop.manifest
    sets = (golden_observations(base), situation.rows['observation'])
    old = [mean_actions(base, manifest, situation.accepted, x) for x in sets]

    def fits(share: float) -> bool:
        part = part_way(base, situation.accepted, adapter, share)
        for before, x in zip(old, sets, strict=True):
            step = mean_actions(base, manifest, part, x) - before
            kl = gaussian_kl(step, config.sigma)
            if not (
                kl.mean() <= 0.95 * config.kl_mean
                and np.quantile(kl, 0.99) <= 0.95 * config.kl_p99
                and largest_change(step, manifest.action_scale).max() <= 0.95 * config.change
            ):
                return False
        return True

    low, high = 0.0, 64.0
    for _ in range(10):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return part_way(base, situation.accepted, adapter, low)


def _random(workshop: Workshop, situation: Situation, rng: np.random.Generator) -> Adapter:
    trained = Trained(workshop.base, workshop.manifest, workshop.trained)
    if situation.accepted is not None:
        trained.load(situation.accepted.tensors)
    config, tensors = trained.export()
    for name, value in tensors.items():
        if not name.endswith('.lora_A'):
            size = 0.1 * np.abs(workshop.base.get(name, np.ones(1))).mean()
            tensors[name] = (value + size * rng.standard_normal(value.shape)).astype(np.float32)
    return workshop.adapter(config, tensors, situation.accepted)


Maker = Callable[[Workshop, Situation, int], Adapter]
BAD: dict[str, Maker] = {
    'NaN': not_finite,
    'rate x 100': rate_x100,
    'flipped advantage': flipped,
    'reward in wrong units': wrong_units,
    'other normaliser': other_normaliser,
    'other base': other_base,
    'one joint saturated': one_saturated,
    'stale': stale,
    'slow drift': slow_drift,
    'adversarial small KL': small_kl,
}
CATASTROPHIC = ('NaN', 'rate x 100', 'other normaliser', 'other base', 'one joint saturated')
