"""The contract of every learning method, and of the world that it learns in.

A runner calls ``iterate`` until the steps are spent; a method collects as much experience as it
wants from the world, learns from it, and tells numbers. It knows no clock, no files, no screen.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Metrics = dict[str, float]
State = dict[str, Array]  # what a file keeps, flat: names and arrays
Config = TypeVar('Config')


@dataclass(frozen=True)
class Discrete:
    """``n`` choices: actions, or observations of a table, are int64 from 0 on."""

    n: int


@dataclass(frozen=True)
class Box:
    """Vectors or images of real numbers."""

    shape: tuple[int, ...]
    low: Array = field(repr=False)  # of that shape, perhaps -inf
    high: Array = field(repr=False)
    dtype: str = 'float32'  # uint8 for images


Space = Discrete | Box


@dataclass(frozen=True)
class Outcome:
    """One step of N environments. Where an episode ended, ``observation`` begins the next one."""

    observation: Array  # (N, ...)
    final_observation: Array  # (N, ...) to which the action led, before any reset
    reward: Array  # (N,) float32
    terminated: BoolArray  # (N,) over for good: nothing comes after it
    truncated: BoolArray  # (N,) cut, as by a time-out: bootstrap from final_observation
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> BoolArray:
        """(N,) the episode ended, whichever way."""
        return self.terminated | self.truncated


class World(Protocol):
    """N environments side by side, which start over by themselves. See ``envs.world``."""

    name: str
    count: int  # N
    observation_space: Space  # of one environment
    action_space: Space
    observation: Array  # (N, ...) to act on now
    steps: int  # taken so far, of all environments together
    # Returns and lengths of the episodes that ended since they were last taken.
    finished: list[tuple[float, int]]

    def step(self, action: Array) -> Outcome:
        """Act (N, ...); actions of a Box are clipped to it here, not by the method.

        Raises:
            ValueError: an action, observation or reward is not finite, or its shape is another
                than at the start; the message names the environment, the value and the step.
        """

    def set_task(self, tasks: Any) -> None:
        """Begin new episodes, of these tasks (N of them); only of a distribution of tasks.

        Raises:
            ValueError: this environment has no tasks.
        """

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Any:
        """Draw tasks, in whatever form ``set_task`` takes."""


class Method(ABC, Generic[Config]):
    """One learner. ``config`` is a frozen dataclass; all draws come from ``rng`` and torch."""

    name: ClassVar[str]  # on the command line
    reference: ClassVar[str]  # paper or book
    progress: float = 0.0  # share of the steps that are spent; set by the runner, for schedules

    def __init__(
        self, config: Config, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Build what is learned. A subclass checks the spaces with :func:`unfit` first.

        Raises:
            ValueError: the method cannot work with these spaces.
        """
        self.config = config
        self.observation_space, self.action_space = observation_space, action_space
        self.seed, self.rng = seed, np.random.default_rng(seed)

    @abstractmethod
    def iterate(self, world: World) -> Metrics:
        """Take some steps in the world and learn from them; the metrics of what was learned.

        Names of the field: policy_loss, value_loss, entropy, approx_kl, clip_fraction,
        explained_variance, learning_rate, ...
        """

    @abstractmethod
    def act(self, observation: Array, *, explore: bool = False) -> Array:
        """Actions (N, ...) for observations (N, ...): the best known, or one that explores.

        Draws of ``explore`` do not disturb those of the learning.
        """

    def forget(self, done: BoolArray) -> None:
        """Begin anew for these environments (N,), where :meth:`act` remembers what it saw."""

    def start_over(self) -> None:
        """All episodes of the world begin anew: drop what was kept of them for the learning."""

    @abstractmethod
    def state(self) -> State:
        """Weights, optimisers and random states: all that going on to the same numbers needs.

        Replay is left out by those who have one: it is large, and fills again.
        """

    @abstractmethod
    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; ValueError where it does not fit."""


def unfit(method: str, what: str, space: Space, choices: str) -> ValueError:
    """The error of a method that cannot work with a space, e.g. DDPG with discrete actions.

    Args:
        method: its name.
        what: 'actions' or 'observations'.
        space: that the environment has.
        choices: methods that could, in words.
    """
    kind = f'{space.n} discrete' if isinstance(space, Discrete) else f'continuous {space.shape}'
    return ValueError(f'{method} cannot work with {kind} {what}; {choices}')
