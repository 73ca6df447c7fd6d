"""Gymnasium's spaces as those of the learning methods."""

from typing import Any

import gymnasium
import numpy as np

from lebot_rl_ros.learning.method import Box, Discrete, Space

KNOWN = 'Discrete from 0 on, Box and, as an observation, MultiBinary'


def space_of(space: gymnasium.Space[Any], env: str, what: str) -> Space:
    """Convert one environment's space.

    Args:
        space: of one environment, not of many.
        env: its id, for the message.
        what: 'observation' or 'action'.

    Returns:
        Real numbers are float32; only images keep their uint8. Bits are a Box of 0 and 1.

    Raises:
        ValueError: a space that no method understands; the message says what to do.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        if space.start != 0:
            raise ValueError(f'{env}: its {what}s count from {space.start}; known are {KNOWN}')
        return Discrete(int(space.n))
    if isinstance(space, gymnasium.spaces.MultiBinary) and what == 'observation':
        return Box(
            space.shape, np.zeros(space.shape, np.float32), np.ones(space.shape, np.float32)
        )
    if isinstance(space, gymnasium.spaces.Box):
        kind = np.uint8 if space.dtype == np.uint8 else np.float32
        return Box(space.shape, space.low.astype(kind), space.high.astype(kind), kind.__name__)
    wrappers = 'gymnasium.wrappers.FlattenObservation' if what == 'observation' else 'a wrapper'
    raise ValueError(f'{env}: its {what}s are {space}; known are {KNOWN}. {wrappers} may help')
