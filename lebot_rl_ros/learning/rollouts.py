"""The one collection of experience of the methods that learn on-policy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.learning.method import Array, BoolArray, Outcome, World

# Observations (N, ...) -> actions (N, ...) and their log-probabilities (N,).
Act = Callable[[Array], tuple[Array, Array]]
IndexArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Rollouts:
    """T steps of N environments. The action of step t was taken on ``observations[t]``."""

    path: Array  # (T + 1, N, ...) observations; the last is where the next rollout starts
    actions: Array  # (T, N, ...) as sampled, not as clipped
    log_probs: Array  # (T, N) float32, of the sampled actions
    rewards: Array  # (T, N) float32
    terminated: BoolArray  # (T, N)
    truncated: BoolArray  # (T, N); never together with terminated, which is the stronger
    cut_steps: IndexArray  # (C,) the truncated steps, in order of time,
    cut_environments: IndexArray  # (C,) whose they were,
    cut_observations: Array  # (C, ...) and to which observations they led, before the reset
    mask: BoolArray  # (T, N) the steps to learn from; all, but in `collect_episodes`

    @property
    def observations(self) -> Array:
        """(T, N, ...) that were acted on."""
        return self.path[:-1]

    @property
    def done(self) -> BoolArray:
        """(T, N) the episode ended after this step, whichever way."""
        return self.terminated | self.truncated

    def values(self, predict: Callable[[Array], Array]) -> tuple[Array, Array]:
        """Values of the observations acted on, and of those they led to, before any reset.

        Args:
            predict: the critic, observations (M, ...) -> values (M,); it is called once.

        Returns:
            values and next_values (T, N) each; the latter mean nothing where terminated.
        """
        steps, count = self.rewards.shape
        path = self.path.reshape(-1, *self.path.shape[2:])
        if len(self.cut_steps):
            path = np.concatenate((path, self.cut_observations))
        everything = predict(path)
        along = everything[: (steps + 1) * count].reshape(steps + 1, count)
        following = along[1:].copy()
        following[self.cut_steps, self.cut_environments] = everything[(steps + 1) * count :]
        return along[:-1], following


def flatten(array: Array) -> Array:
    """(T, N, ...) -> (T * N, ...), without a copy where there need be none."""
    return array.reshape(-1, *array.shape[2:])


def collect(
    world: World,
    act: Act,
    horizon: int,
    *,
    watch: Callable[[Outcome], object] | None = None,
    stop: Callable[[Outcome], bool] | None = None,
) -> Rollouts:
    """Act for ``horizon`` steps of all N environments, on from where the world is.

    Args:
        world: in which to act.
        act: what to do.
        horizon: T, at most.
        watch: called after every step, e.g. to begin a recurrent state anew where ``done``.
        stop: called after every step; True ends the rollout early, after this step.
    """
    # Arrays double when they are full, as an early end is the rule where `stop` is given.
    size = horizon if stop is None else min(horizon, 256)
    first, count = world.observation, world.count
    path = np.empty((size + 1, *first.shape), dtype=first.dtype)
    path[0] = first
    log_probs, rewards = np.empty((2, size, count), dtype=np.float32)
    terminated, truncated = np.empty((2, size, count), dtype=bool)
    actions = np.empty(0)
    cuts: list[tuple[int, IndexArray, Array]] = []
    steps = 0
    while steps < horizon:
        action, log_prob = act(path[steps])
        if steps == 0:
            actions = np.empty((size, *action.shape), dtype=action.dtype)
        elif steps == size:
            size *= 2
            path, actions, log_probs, rewards, terminated, truncated = (
                _longer(x) for x in (path, actions, log_probs, rewards, terminated, truncated)
            )
        outcome = world.step(action)
        path[steps + 1] = outcome.observation
        actions[steps], log_probs[steps], rewards[steps] = action, log_prob, outcome.reward
        terminated[steps] = outcome.terminated
        truncated[steps] = cut = outcome.truncated & ~outcome.terminated
        if cut.any():
            which = np.flatnonzero(cut)
            cuts.append((steps, which, outcome.final_observation[which].astype(first.dtype)))
        steps += 1
        if watch is not None:
            watch(outcome)
        if stop is not None and stop(outcome):
            break
    return Rollouts(
        path[: steps + 1],
        actions[:steps],
        log_probs[:steps],
        rewards[:steps],
        terminated[:steps],
        truncated[:steps],
        np.concatenate([np.full(len(which), t) for t, which, _ in cuts] or [np.empty(0, int)]),
        np.concatenate([which for _, which, _ in cuts] or [np.empty(0, int)]),
        np.concatenate([last for _, _, last in cuts] or [first[:0]]),
        np.ones((steps, count), dtype=bool),
    )


def collect_episodes(
    world: World,
    act: Act,
    each: int,
    *,
    watch: Callable[[Outcome], object] | None = None,
    longest: int = 100_000,
) -> Rollouts:
    """Act until every environment has ended ``each`` episodes; ``mask`` has those and no others.

    The same number from each, as the first to end anywhere would be the short ones. What an
    environment is in the middle of counts as an episode that begins there: all its steps in here
    are of the present policy.

    Raises:
        ValueError: they did not end within ``longest`` steps of each environment.
    """
    ended = np.zeros(world.count, dtype=np.int64)
    mask: list[BoolArray] = []

    def stop(outcome: Outcome) -> bool:
        mask.append(ended < each)
        ended[outcome.done] += 1
        return bool((ended >= each).all())

    rollouts = collect(world, act, longest, watch=watch, stop=stop)
    if (ended < each).any():
        raise ValueError(
            f'{world.name}: {each} episodes did not end within {longest} steps; whole episodes '
            f'need a time limit'
        )
    rollouts.mask[:] = np.array(mask)
    return rollouts


def _longer(array: Array) -> Array:
    """Twice the room, the contents kept; the path has one row more than the others."""
    return np.concatenate((array, np.empty((array.shape[0], *array.shape[1:]), dtype=array.dtype)))
