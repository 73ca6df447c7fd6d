"""Worlds side by side as one, which a learner may step in threads of its own.

While a simulator that lets go of the interpreter lock advances one shard, Python works for
another. What is learned depends on the number of shards, not on their timing.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lebot_rl_ros.learning.method import Array, Outcome, World
from lebot_rl_ros.learning.rollouts import Rollouts


class Shards:
    """A world of worlds; see ``method.World``. Its environments are theirs, in order."""

    def __init__(self, shards: Sequence[Any]) -> None:
        """Take the worlds.

        Raises:
            ValueError: there are none, or their spaces differ.
        """
        if not shards:
            raise ValueError('there are no shards; give one world or more')
        first = shards[0]
        kinds = {str((s.name, s.observation_space, s.action_space)) for s in shards}
        if len(kinds) > 1:
            raise ValueError(f'the shards differ: {sorted(kinds)}')
        self.shards: tuple[Any, ...] = tuple(shards)
        self.name, self.count = first.name, sum(shard.count for shard in shards)
        self.observation_space, self.action_space = first.observation_space, first.action_space
        self._finished: list[tuple[float, int]] = []
        self._edges = np.cumsum([shard.count for shard in shards])[:-1]

    @property
    def observation(self) -> Array:
        """(N, ...) to act on now."""
        return np.concatenate([shard.observation for shard in self.shards])

    @property
    def steps(self) -> int:
        """Taken so far, of all environments together."""
        return sum(shard.steps for shard in self.shards)

    @property
    def finished(self) -> list[tuple[float, int]]:
        """Episodes that ended since they were last taken, shard by shard."""
        for shard in self.shards:
            self._finished += shard.finished
            shard.finished.clear()
        return self._finished

    def step(self, action: Array) -> Outcome:
        """Act (N, ...), one shard after another; ``info`` has what all of them tell."""
        parts = np.split(action, self._edges)
        outcomes = [shard.step(part) for shard, part in zip(self.shards, parts, strict=True)]
        return Outcome(
            np.concatenate([outcome.observation for outcome in outcomes]),
            np.concatenate([outcome.final_observation for outcome in outcomes]),
            np.concatenate([outcome.reward for outcome in outcomes]),
            np.concatenate([outcome.terminated for outcome in outcomes]),
            np.concatenate([outcome.truncated for outcome in outcomes]),
            _together([outcome.info for outcome in outcomes]),
        )

    def restart(self, seed: int) -> None:
        """Begin new episodes whose draws start over; equal seeds repeat."""
        seeds = np.random.SeedSequence(seed).spawn(len(self.shards))
        for shard, own in zip(self.shards, seeds, strict=True):
            shard.restart(int(own.generate_state(1)[0]))

    def set_task(self, tasks: Any) -> None:
        """Begin new episodes, of these N tasks."""
        for shard, part in zip(self.shards, np.split(tasks, self._edges), strict=True):
            shard.set_task(part)

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Any:
        """Draw tasks, as any shard does."""
        return self.shards[0].sample_tasks(count, rng)

    def close(self) -> None:
        """Close all."""
        for shard in self.shards:
            shard.close()


def collect_shards(
    shards: Sequence[World],
    collect: Callable[[World, int], Rollouts],
    pool: ThreadPoolExecutor | None,
) -> Rollouts:
    """Collect from every shard by ``collect(shard, number)``, and put all side by side."""
    numbers = range(len(shards))
    return beside(list((map if pool is None else pool.map)(collect, shards, numbers)))


def beside(parts: Sequence[Rollouts]) -> Rollouts:
    """One rollout of the environments of many, all of T steps."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0] + [part.rewards.shape[1] for part in parts[:-1]])
    steps = np.concatenate([part.cut_steps for part in parts])
    pairs = zip(parts, starts, strict=True)
    whose = np.concatenate([part.cut_environments + start for part, start in pairs])
    order = np.argsort(steps, kind='stable')
    return Rollouts(
        path=np.concatenate([part.path for part in parts], axis=1),
        actions=np.concatenate([part.actions for part in parts], axis=1),
        log_probs=np.concatenate([part.log_probs for part in parts], axis=1),
        rewards=np.concatenate([part.rewards for part in parts], axis=1),
        terminated=np.concatenate([part.terminated for part in parts], axis=1),
        truncated=np.concatenate([part.truncated for part in parts], axis=1),
        cut_steps=steps[order],
        cut_environments=whose[order],
        cut_observations=np.concatenate([part.cut_observations for part in parts])[order],
        mask=np.concatenate([part.mask for part in parts], axis=1),
    )


def _together(infos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Arrays (N,) of all shards, and tables of them; what not all have is left out."""
    told: dict[str, Any] = {}
    for name in infos[0]:
        values = [info.get(name) for info in infos]
        if all(isinstance(v, Mapping) for v in values):
            told[name] = _together([v for v in values if isinstance(v, Mapping)])
        elif all(isinstance(v, np.ndarray) for v in values):
            told[name] = np.concatenate([v for v in values if isinstance(v, np.ndarray)])
    return told
