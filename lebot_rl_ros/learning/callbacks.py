"""What can happen beside the learning: evaluations, the best model kept, an early stop."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from lebot_rl_ros.learning.method import Method, Metrics, State, World
from lebot_rl_ros.learning.runner import Callback, Runner

LONGEST = 100_000  # steps of one environment in an evaluation


class Repeatable(World, Protocol):
    """A world whose episodes start over from a seed, as ``envs.world`` makes them."""

    def restart(self, seed: int) -> None:
        """Begin new episodes whose draws start over."""


@dataclass(frozen=True)
class Scores:
    """Whole episodes of a method that does its best."""

    returns: npt.NDArray[np.float64]  # (E,) undiscounted
    lengths: npt.NDArray[np.int64]  # (E,) steps

    def metrics(self) -> Metrics:
        """Means, and the spread of the returns."""
        return {
            'eval_return': float(self.returns.mean()),
            'eval_return_std': float(self.returns.std()),
            'eval_length': float(self.lengths.mean()),
        }


def evaluate(method: Method[Any], world: Repeatable, episodes: int, seed: int) -> Scores:
    """Let a method act without exploring; equal seeds give equal episodes.

    Every environment plays its share of the episodes: taking those that end first would favour
    the short ones. Nothing of the learning is disturbed.

    Raises:
        ValueError: an episode does not end, or there are none to play.
    """
    if episodes < 1:
        raise ValueError(f'{episodes} episodes to evaluate; there must be at least one')
    left = np.array([len(range(i, episodes, world.count)) for i in range(world.count)])
    returns: list[float] = []
    lengths: list[int] = []
    everyone = np.ones(world.count, np.bool_)
    total, age = np.zeros(world.count), np.zeros(world.count, np.int64)
    with torch.random.fork_rng(devices=[]):
        world.restart(seed)
        method.forget(everyone)
        steps = 0
        while left.any():
            steps += 1
            if steps > LONGEST:
                raise ValueError(f'{world.name}: episodes did not end within {LONGEST} steps')
            outcome = world.step(method.act(world.observation))
            total += outcome.reward
            age += 1
            done = outcome.done
            if not done.any():
                continue
            for i in np.flatnonzero(done & (left > 0)):
                returns.append(float(total[i]))
                lengths.append(int(age[i]))
                left[i] -= 1
            total[done], age[done] = 0.0, 0
            method.forget(done)
        method.forget(everyone)
    world.finished.clear()
    return Scores(np.array(returns), np.array(lengths))


class Evaluation(Callback):
    """Evaluates every so many steps and at the end; remembers the best.

    The episodes are the same each time, so that differences are the method's.
    """

    def __init__(
        self,
        score: Callable[[Method[Any]], Metrics],
        every: int,
    ) -> None:
        """Prepare.

        Args:
            score: gives ``eval_return`` and other numbers of a method as it is now.
            every: steps between evaluations.
        """
        if every < 1:
            raise ValueError(f'an evaluation every {every} steps; there must be at least one')
        self.score, self.every = score, every
        self.best, self.best_steps = -math.inf, 0
        self.best_state: State = {}
        self.count = 0  # evaluations
        self.since_best = 0  # evaluations that were no better
        self.latest: Metrics = {}
        self._next = every

    @classmethod
    def in_world(cls, world: Repeatable, every: int, episodes: int, seed: int) -> 'Evaluation':
        """Play whole episodes in a world of its own."""
        return cls(lambda method: evaluate(method, world, episodes, seed).metrics(), every)

    def at_row(self, run: Runner, row: Metrics) -> None:
        """Evaluate if it is time; the row gets the numbers."""
        if run.steps < self._next and not run.over:
            return
        self._next = (run.steps // self.every + 1) * self.every
        self.latest = self.score(run.method)
        row.update(self.latest)
        self.count += 1
        self.since_best += 1
        if self.latest['eval_return'] > self.best:
            self.best, self.best_steps, self.since_best = (
                self.latest['eval_return'], run.steps, 0,
            )  # fmt: skip
            self.best_state = {name: array.copy() for name, array in run.method.state().items()}

    def state(self) -> tuple[dict[str, Any], State]:
        """The best so far."""
        data = {
            'best': self.best if self.count else None,  # JSON knows no infinity
            'best_steps': self.best_steps,
            'count': self.count,
            'since_best': self.since_best,
            'next': self._next,
            'latest': self.latest,
        }
        return data, self.best_state

    def load_state(self, data: dict[str, Any], arrays: State) -> None:
        """Take what :meth:`state` gave."""
        self.best = -math.inf if data['best'] is None else float(data['best'])
        self.best_steps, self.count = int(data['best_steps']), int(data['count'])
        self.since_best, self._next = int(data['since_best']), int(data['next'])
        self.latest, self.best_state = dict(data['latest']), arrays


class BestModel(Callback):
    """Writes the best model whenever an evaluation finds a better one."""

    def __init__(self, evaluation: Evaluation, write: Callable[[Runner, State], object]) -> None:
        """``write`` gets the run and the state of the best; it stands after the evaluation."""
        self.evaluation, self.write = evaluation, write
        self._written = -math.inf

    def begin(self, run: Runner) -> None:
        """What is known from before is on disk."""
        self._written = self.evaluation.best

    def at_row(self, run: Runner, row: Metrics) -> None:
        """Write if there is news."""
        if self.evaluation.best > self._written:
            self._written = self.evaluation.best
            self.write(run, self.evaluation.best_state)


class EarlyStop(Callback):
    """Ends a training whose evaluations reach a target, or get no better any more."""

    def __init__(
        self, evaluation: Evaluation, target: float | None = None, patience: int | None = None
    ) -> None:
        """Prepare; it stands after the evaluation.

        Args:
            evaluation: whose ``eval_return`` is judged.
            target: return that is enough.
            patience: evaluations in a row that may be no better than the best.

        Raises:
            ValueError: neither is given, or patience is not positive.
        """
        if target is None and patience is None:
            raise ValueError('an early stop needs a target, or patience')
        if patience is not None and patience < 1:
            raise ValueError(f'patience is {patience}, must be at least 1')
        self.evaluation, self.target, self.patience = evaluation, target, patience
        self._judged = 0

    def begin(self, run: Runner) -> None:
        """What was judged before is not judged again."""
        self._judged = self.evaluation.count

    def at_row(self, run: Runner, row: Metrics) -> None:
        """Judge the latest evaluation, once."""
        if self.evaluation.count == self._judged:
            return
        self._judged, latest = self.evaluation.count, self.evaluation.latest['eval_return']
        if self.target is not None and latest >= self.target:
            run.stop(f'return {latest:.6g} reached the target {self.target:g}')
        elif self.patience is not None and self.evaluation.since_best >= self.patience:
            run.stop(f'{self.patience} evaluations were no better than {self.evaluation.best:.6g}')
