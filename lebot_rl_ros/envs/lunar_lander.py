"""Terms of Gymnasium's LunarLander-v3, discrete and continuous: its own reward, and a few more.

The environment's reward is the change of -100 distance - 100 speed - 100 abs(angle) + 10 legs
from one step to the next, less fuel; but the last step is worth 100 at rest and -100 after a
crash, whatever else it brought. So nothing but `landing`, `miss` and `crash` counts on that step.

Observation (..., 8): x, y, velocities in x and y, angle, angular velocity, contact of each leg.
Its units are the environment's: half a screen, and what it makes of velocities.
"""

from collections.abc import Callable

import numpy as np

from lebot_rl_ros.envs.shaping import Array, Term, TermSet, Transition


def distance(observation: Array) -> Array:
    """To the middle of the pad."""
    x, y = _columns(observation, 0, 1)
    return np.hypot(x, y)


def speed(observation: Array) -> Array:
    """Of the body."""
    x, y = _columns(observation, 2, 3)
    return np.hypot(x, y)


def angle(observation: Array) -> Array:
    """To the upright, rad, absolute."""
    return np.abs(_columns(observation, 4)[0])


def legs(observation: Array) -> Array:
    """How many touch the ground: 0, 1 or 2."""
    left, right = _columns(observation, 6, 7)
    return left + right


def main_engine(step: Transition) -> Array:
    """Power of the main engine: 0, or 0.5 to 1."""
    if _discrete(step):
        power = np.asarray(step.action == 2, dtype=float)
    else:
        throttle = np.asarray(step.action[..., 0], dtype=float)
        power = np.where(throttle > 0.0, 0.5 + 0.5 * np.clip(throttle, 0.0, 1.0), 0.0)
    return _under_way(step, power)


def side_engine(step: Transition) -> Array:
    """Power of the side engines: 0, or 0.5 to 1."""
    if _discrete(step):
        power = np.asarray((step.action == 1) | (step.action == 3), dtype=float)
    else:
        throttle = np.abs(np.asarray(step.action[..., 1], dtype=float))
        power = np.where(throttle > 0.5, np.clip(throttle, 0.5, 1.0), 0.0)
    return _under_way(step, power)


def landing(step: Transition) -> Array:
    """1 on the step that ends at rest.

    The physics stops a body that has come to rest, so its velocities are zero to the last bit;
    a crash happens in motion.
    """
    still = ~np.any(step.next_observation[..., 2:4], axis=-1) & (
        step.next_observation[..., 5] == 0
    )
    return np.asarray(step.terminated & still, dtype=float)


def crash(step: Transition) -> Array:
    """1 on the step that ends otherwise: the body hit the ground, or left the screen."""
    return np.asarray(step.terminated, dtype=float) - landing(step)


def miss(step: Transition) -> Array:
    """Distance along x to the middle of the pad, on the step that ends at rest."""
    return landing(step) * np.abs(_columns(step.next_observation, 0)[0])


def spin(step: Transition) -> Array:
    """Angular velocity, absolute, in the environment's unit of 2.5 rad/s, on every step."""
    return _under_way(step, np.abs(_columns(step.next_observation, 5)[0]))


def time(step: Transition) -> Array:
    """1 on every step."""
    return np.ones(np.shape(step.terminated))


def _change(measure: Callable[[Array], Array]) -> Term:
    def term(step: Transition) -> Array:
        change = measure(step.next_observation) - measure(step.observation)
        return _under_way(step, change)

    return term


def _under_way(step: Transition, values: Array) -> Array:
    return np.where(step.terminated, 0.0, values)


def _discrete(step: Transition) -> bool:
    return bool(np.issubdtype(step.action.dtype, np.integer))


def _columns(observation: Array, *columns: int) -> list[Array]:
    """As float64: single precision would lose digits of the small changes."""
    return [np.asarray(observation[..., column], dtype=float) for column in columns]


def _negative(measure: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda observation: -measure(observation)


LUNAR_LANDER = TermSet(
    name='LunarLander-v3',
    terms={
        'distance': _change(distance),
        'velocity': _change(speed),
        'angle': _change(angle),
        'legs': _change(legs),
        'main_engine': main_engine,
        'side_engine': side_engine,
        'landing': landing,
        'crash': crash,
        'miss': miss,
        'spin': spin,
        'time': time,
    },
    weights={
        'distance': -100.0,
        'velocity': -100.0,
        'angle': -100.0,
        'legs': 10.0,
        'main_engine': -0.3,
        'side_engine': -0.03,
        'landing': 100.0,
        'crash': -100.0,
    },
    # The nearer, slower and more upright, the higher, so that weights are positive.
    potentials={
        'distance': _negative(distance),
        'velocity': _negative(speed),
        'angle': _negative(angle),
        'legs': legs,
    },
)
