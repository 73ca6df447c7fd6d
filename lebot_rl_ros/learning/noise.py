"""Noise on actions, by which a deterministic policy explores; -1 to 1 is the range of actions."""

from typing import Protocol

import numpy as np

from lebot_rl_ros.learning.method import Array, BoolArray

THETA = 0.15  # how fast Ornstein-Uhlenbeck's noise forgets, per step (arXiv 1509.02971)


class Noise(Protocol):
    """One source of noise for N environments."""

    memory: Array  # (N, A), or empty where nothing is remembered

    def __call__(self, count: int, std: float, rng: np.random.Generator) -> Array:
        """Noise (count, A) float32 of standard deviation ``std`` for the next step."""

    def forget(self, done: BoolArray) -> None:
        """Begin anew for these environments (N,)."""


class GaussianNoise:
    """Every step for itself."""

    def __init__(self, actions: int) -> None:
        """For actions of that many numbers, A."""
        self.actions = actions
        self.memory: Array = np.zeros((0, actions), np.float32)

    def __call__(self, count: int, std: float, rng: np.random.Generator) -> Array:
        """Draw; see :class:`Noise`."""
        return std * rng.standard_normal((count, self.actions), dtype=np.float32)

    def forget(self, done: BoolArray) -> None:
        """Nothing is remembered."""


class OrnsteinUhlenbeckNoise:
    """A random walk that is pulled back to zero, for bodies with inertia.

    x <- (1 - theta) x + std sqrt(theta (2 - theta)) n with normal n: after some steps x has the
    standard deviation ``std``, so that it compares with Gaussian noise.
    """

    def __init__(self, actions: int, theta: float = THETA) -> None:
        """For actions of that many numbers, A."""
        self.actions, self.theta = actions, theta
        self.memory: Array = np.zeros((0, actions), np.float32)

    def __call__(self, count: int, std: float, rng: np.random.Generator) -> Array:
        """Go on; see :class:`Noise`. Another ``count`` than last time begins anew."""
        if len(self.memory) != count:
            self.memory = np.zeros((count, self.actions), np.float32)
        spread = std * (self.theta * (2.0 - self.theta)) ** 0.5
        normal = rng.standard_normal(self.memory.shape, dtype=np.float32)
        self.memory = (1.0 - self.theta) * self.memory + np.float32(spread) * normal
        return self.memory

    def forget(self, done: BoolArray) -> None:
        """Begin at zero."""
        if len(self.memory) == len(done):
            self.memory[done] = 0.0


NOISES: dict[str, type[GaussianNoise] | type[OrnsteinUhlenbeckNoise]] = {
    'gaussian': GaussianNoise,
    'ornstein-uhlenbeck': OrnsteinUhlenbeckNoise,
}


def make_noise(kind: str, actions: int) -> Noise:
    """Noise by its name.

    Raises:
        ValueError: there is none of that name; the message gives the choices.
    """
    if kind not in NOISES:
        raise ValueError(f'no noise {kind!r}; choices are {", ".join(NOISES)}')
    return NOISES[kind](actions)
