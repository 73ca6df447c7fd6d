"""Terms of the LeBot environments: those that they log themselves, by weights of one's own."""

from functools import partial

import numpy as np

from lebot_rl_ros.envs.shaping import Array, TermSet, Transition
from lebot_rl_ros.mdp.rewards import RewardConfig

GRAVITY = slice(3, 5)  # x and y of gravity in an observation of LeBotVelocity-v0, newest frame
WALK_WEIGHTS = {'forward_velocity': 1.0, 'action': -0.1, 'tilt': -0.1, 'action_change': -0.01}


def own(name: str, weight: float, step: Transition) -> Array:
    """A component that the environment logs, without the weight that it gave it."""
    if name not in step.own:
        raise ValueError(
            f'the environment logs no reward component {name!r}; it logs {", ".join(step.own)}'
        )
    return np.asarray(step.own[name], dtype=float) / weight


def fall(step: Transition) -> Array:
    """1 on the step that ends in a fall."""
    return np.asarray(step.terminated, dtype=float)


def alive(step: Transition) -> Array:
    """1 on every step that does not end in a fall."""
    return 1.0 - fall(step)


def roll_pitch_rate(step: Transition) -> Array:
    """(rad/s)², of LeBotWalk-v0."""
    return np.square(step.next_observation[..., -2:]).sum(axis=-1)


def joint_velocity(step: Transition) -> Array:
    """Sum of (rad/s)² over the joints, of LeBotWalk-v0."""
    joints = (step.next_observation.shape[-1] - 4) // 2
    return np.square(step.next_observation[..., joints : 2 * joints]).sum(axis=-1)


def level(observation: Array) -> Array:
    """Minus abs(roll) + abs(pitch) in rad, of an observation of LeBotWalk-v0."""
    return -np.abs(observation[..., -4:-2]).sum(axis=-1)


def upright(observation: Array) -> Array:
    """Minus sin² of the angle to level, of an observation of LeBotVelocity-v0."""
    return -np.square(observation[..., GRAVITY]).sum(axis=-1)


def velocity_terms(config: RewardConfig) -> TermSet:
    """Terms of LeBotVelocity-v0; those that ``config`` gives no weight are not to be had."""
    given = {name: weight for name, weight in config.weights.items() if weight}
    return TermSet(
        name='LeBotVelocity-v0',
        terms={
            **{name: partial(own, name, weight) for name, weight in given.items()},
            'fall': fall,
        },
        weights={**given, 'fall': config.fall},
        potentials={'upright': upright},
    )


LEBOT_WALK = TermSet(
    name='LeBotWalk-v0',
    terms={
        **{name: partial(own, name, weight) for name, weight in WALK_WEIGHTS.items()},
        'roll_pitch_rate': roll_pitch_rate,
        'joint_velocity': joint_velocity,
        'alive': alive,
        'fall': fall,
    },
    weights=WALK_WEIGHTS,
    potentials={'level': level},
)
