"""What a world is made of: single environments, a vector environment, or the robots' own task.

Each begins the next episode in the very step that ends one, and gives both observations: the one
to which the action led, and the first of the next episode. Gymnasium calls that SAME_STEP.
"""

from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from lebot_rl_ros.learning.method import Array, BoolArray, Space

COMPONENTS = 'reward_components'  # in info: terms by name, (N,) each


class Moved(NamedTuple):
    """One step of N environments; arrays that nobody writes into afterwards."""

    observation: Array  # (N, ...) first of the next episode where one ended
    final: Array  # (N, ...) to which the action led, before any reset
    reward: Array  # (N,)
    terminated: BoolArray  # (N,)
    truncated: BoolArray  # (N,)
    info: dict[str, Any]


class Body(Protocol):
    """N environments that start over by themselves; a world adds checks and statistics."""

    count: int
    observation_space: Space
    action_space: Space
    staggered: bool  # after a reset, episodes are of different ages

    def reset(self, seed: int | None) -> Array:
        """Begin all episodes (N, ...): with new draws, or going on with the old."""

    def step(self, action: Array) -> Moved:
        """Act (N, ...)."""

    def set_task(self, tasks: Any) -> None:
        """Let each environment have its task from the next reset on; None draws them again.

        Raises:
            ValueError: these environments have no tasks.
        """

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Any:
        """Draw tasks; ValueError where there are none."""

    @property
    def frame_rate(self) -> float:
        """Steps that make a second, Hz."""

    def frame(self) -> Any:
        """Picture (H, W, 3) uint8 of the first environment, or None."""

    def close(self) -> None:
        """Close windows and the like."""


def no_tasks(name: str) -> ValueError:
    """The error of an environment that is one task, where a distribution of tasks is needed."""
    ours = sorted(spec.id for spec in gymnasium.registry.values() if _ours(spec))
    return ValueError(
        f'{name} is one task, not a distribution of tasks to draw from (it has no `sample_tasks` '
        f'and `set_task`); environments of this package are {", ".join(ours)}'
    )


def _ours(spec: Any) -> bool:
    return str(spec.entry_point).startswith('lebot_rl_ros.')
