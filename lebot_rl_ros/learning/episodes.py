"""Whole episodes, in groups that begin alike: what GRPO and DPO compare.

How alike is for the world to say. With tasks a group shares its task. Where a world can begin
again from a seed, a group shares the very state. Else it shares the distribution of starts; luck
with the start is then mistaken for skill, which costs precision but favours no action.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.learning.groups import FloatArray, repeat
from lebot_rl_ros.learning.method import Array, BoolArray, Outcome, World
from lebot_rl_ros.learning.rollouts import Act, IndexArray, Rollouts, collect

Starts = Literal['auto', 'task', 'seed', 'any']


@runtime_checkable
class Restartable(Protocol):
    """A world that can begin anew when told."""

    def restart(self, seed: int) -> None:
        """Begin new episodes; after equal seeds they begin alike."""


@dataclass(frozen=True)
class Episodes:
    """M steps of E episodes, one episode after another, each in the order of time."""

    observations: Array  # (M, ...)
    actions: Array  # (M, ...) as sampled
    log_probs: Array  # (M,) when sampled
    rewards: Array  # (M,)
    number: IndexArray  # (M,) which episode, from 0 on
    groups: IndexArray  # (E,) which group, from 0 on
    cut: BoolArray  # (E,) truncated, or still going on when the rollout ended
    taken: int  # steps that the world took for these

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(E,) steps."""
        return np.bincount(self.number, minlength=len(self.groups))

    @property
    def returns(self) -> FloatArray:
        """(E,) sums of the rewards."""
        returns = np.bincount(self.number, self.rewards, minlength=len(self.groups))
        return returns.astype(np.float64)

    def select(self, episodes: BoolArray) -> 'Episodes':
        """Some episodes, (E,); groups keep their numbers."""
        steps = episodes[self.number]
        number = (np.cumsum(episodes) - 1)[self.number[steps]]
        return Episodes(
            self.observations[steps],
            self.actions[steps],
            self.log_probs[steps],
            self.rewards[steps],
            number,
            self.groups[episodes],
            self.cut[episodes],
            self.taken,
        )


def play_groups(
    world: World,
    act: Act,
    rng: np.random.Generator,
    *,
    size: int,
    starts: Starts = 'auto',
    window: int = 1,
    longest: int = 1000,
) -> Episodes:
    """Begin anew and play episodes, in groups that begin alike.

    Args:
        world: where; episodes that are under way are dropped.
        act: what to do.
        rng: draws tasks and seeds.
        size: episodes of a group, at least: for tasks, and where nothing is shared but the
            distribution of starts, so many environments in a row make a group.
        starts: what a group shares. 'task': its task. 'seed': its first state: the world begins
            ``size`` times from one seed, and each environment is a group. 'any': nothing. 'auto'
            is 'task' where there are tasks, else 'any'.
        window: steps in which episodes begin; with 'seed' each environment plays one.
        longest: steps that an episode may take at most; then it is cut.

    Raises:
        ValueError: the size does not fit the world, or the world cannot do it.
    """
    if starts == 'seed':
        if not isinstance(world, Restartable) or size < 2:
            raise ValueError(
                f'groups of {size} from one seed in {world.name}: the size must be at least 2 '
                f'and the world must be one that can restart; other starts are auto, task, any'
            )
        seed = int(rng.integers(2**31))
        parts = []
        for _ in range(size):
            world.restart(seed)
            parts.append(play(world, act, np.arange(world.count), window=1, longest=longest))
        return join(parts)
    if size < 2 or world.count % size:
        raise ValueError(
            f'groups of {size} do not fit {world.count} environments of {world.name}; the size '
            f'must divide their number and be at least 2'
        )
    if not (starts in ('auto', 'task') and _begin_tasks(world, size, rng, starts == 'task')):
        if not isinstance(world, Restartable):
            raise ValueError(f'{world.name} has no tasks and cannot restart, so there is no start')
        world.restart(int(rng.integers(2**31)))
    return play(world, act, np.arange(world.count) // size, window=window, longest=longest)


def _begin_tasks(world: World, size: int, rng: np.random.Generator, must: bool) -> bool:
    """Give each group a task, if there are any."""
    try:
        tasks = world.sample_tasks(world.count // size, rng)
    except ValueError:
        if must:
            raise
        return False
    world.set_task(repeat(tasks, size))
    return True


def play(world: World, act: Act, groups: IndexArray, *, window: int, longest: int) -> Episodes:
    """Play every episode that begins within ``window`` steps to its end, and no other.

    To take what *ends* within some steps would favour short episodes. What begins within them
    does not: when to stop beginning is decided without looking ahead (Wald's identity).

    Args:
        world: where each environment is at the start of an episode.
        act: what to do.
        groups: (N,) of each environment.
        window: steps in which episodes begin; 1 takes one episode of each environment.
        longest: steps after the window's last; what has not ended then is cut.
    """
    counts = np.ones(world.count, dtype=bool)
    mask: list[BoolArray] = []

    def stop(outcome: Outcome) -> bool:
        mask.append(counts.copy())
        counts[outcome.done] = len(mask) < window
        return not counts.any()

    rollouts = collect(world, act, window - 1 + longest, stop=stop)
    return tell_apart(rollouts, np.array(mask), groups)


def tell_apart(rollouts: Rollouts, mask: BoolArray, groups: IndexArray) -> Episodes:
    """Take the episodes out of a rollout whose steps are in ``mask`` (T, N); groups (N,)."""
    begins = mask.copy()
    begins[1:] &= rollouts.done[:-1]
    environment, time = np.nonzero(mask.T)  # one environment after another
    first = begins[time, environment]
    number = np.cumsum(first) - 1
    ended = np.zeros(int(first.sum()), dtype=bool)
    ended[number[rollouts.terminated[time, environment]]] = True
    return Episodes(
        rollouts.observations[time, environment],
        rollouts.actions[time, environment],
        rollouts.log_probs[time, environment],
        rollouts.rewards[time, environment],
        number,
        groups[environment[first]],
        ~ended,
        mask.size,
    )


def join(parts: list[Episodes], *, apart: bool = False) -> Episodes:
    """Put rollouts together; with ``apart`` their groups are different ones."""
    number, groups, episodes, first = [], [], 0, 0
    for part in parts:
        number.append(part.number + episodes)
        groups.append(part.groups + first)
        episodes += len(part.groups)
        first += int(part.groups.max(initial=-1)) + 1 if apart else 0
    return Episodes(
        np.concatenate([part.observations for part in parts]),
        np.concatenate([part.actions for part in parts]),
        np.concatenate([part.log_probs for part in parts]),
        np.concatenate([part.rewards for part in parts]),
        np.concatenate(number),
        np.concatenate(groups),
        np.concatenate([part.cut for part in parts]),
        sum(part.taken for part in parts),
    )
