"""The loop round every learning method: steps are spent, rows of numbers come out."""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from lebot_rl_ros.learning.method import Method, Metrics, State, World

RECENT = 100  # episodes that a mean is over
IDLE = 10_000  # iterations without a step in the world, after which there will be none


class Callback:
    """What happens beside the learning. Each hook does nothing until it is overridden."""

    def begin(self, run: 'Runner') -> None:
        """Before the first step, also of a training that is resumed."""

    def at_row(self, run: 'Runner', row: Metrics) -> None:
        """A row is ready; numbers may be added to it."""

    def at_segment(self, run: 'Runner') -> None:
        """Between two segments, where all episodes start over."""

    def state(self) -> tuple[dict[str, Any], State]:
        """Plain data and arrays that going on needs."""
        return {}, {}

    def load_state(self, data: dict[str, Any], arrays: State) -> None:
        """Take what :meth:`state` gave."""


class Runner:
    """Runs one method in one world.

    With a ``segment``, all random draws and all episodes start over after that many steps, from
    the seed and the segment's number. So a checkpoint between two segments needs no state of the
    world, and a training resumes to the same numbers (off-policy methods refill their replay).
    """

    def __init__(
        self,
        method: Method[Any],
        world: World,
        steps: int,
        callbacks: Sequence[Callback] = (),
        *,
        segment: int = 0,
        rows: int = 500,
    ) -> None:
        """Prepare a training.

        Args:
            method: what learns.
            world: in which it learns; with a segment it needs a method ``restart(seed)``.
            steps: of all environments together; the last iteration may go beyond.
            callbacks: called in this order.
            segment: steps between two starts over; 0 never starts over.
            rows: how many rows of numbers there are at most, about.

        Raises:
            ValueError: a number that makes no sense, or a world that cannot start over.
        """
        if steps < 1 or segment < 0 or rows < 1:
            raise ValueError(
                f'steps, segment and rows are {steps}, {segment} and {rows}; must be at least '
                f'1, 0 and 1'
            )
        if segment and not hasattr(world, 'restart'):
            raise ValueError(f'{world.name} has no `restart(seed)`, which segments need')
        self.method, self.world, self.total, self.callbacks = method, world, steps, callbacks
        self.segment, self._interval = segment, max(1, steps // rows)
        self.steps = 0  # spent
        self.segments = 0  # of them whole segments
        self.seconds = 0.0  # spent in the method, evaluations not counted
        self.episodes = 0  # that ended
        self.recent: deque[tuple[float, int]] = deque(maxlen=RECENT)  # return, length
        self.history: list[Metrics] = []
        self.stopped = ''  # why, if before all steps were spent

    @property
    def over(self) -> bool:
        """Nothing is left to do."""
        return bool(self.stopped) or self.steps >= self.total

    def stop(self, why: str) -> None:
        """End after this row."""
        self.stopped = why

    def run(self) -> Iterator[Metrics]:
        """Train to the end; yield rows: steps, seconds, episodes, and means since the last row.

        ``episode_return`` and ``episode_length`` are of the last 100 episodes that ended, from
        the first on.

        Raises:
            ValueError: a number of the method or the world is not finite; the message names it.
        """
        for callback in self.callbacks:
            callback.begin(self)
        method, world = self.method, self.world
        sums: dict[str, list[float]] = {}
        row_at, offset, idle = self.steps + self._interval, self.steps - world.steps, 0
        self._start_segment()
        while not self.over:
            method.progress = self.steps / self.total
            started = time.perf_counter()
            metrics = method.iterate(world)
            self.seconds += time.perf_counter() - started
            idle = idle + 1 if self.steps == world.steps + offset else 0
            if idle > IDLE:
                raise ValueError(f'{method.name} took no step in {IDLE} iterations')
            self.steps = world.steps + offset
            for name, value in metrics.items():
                if not math.isfinite(value):
                    raise self._broken(name, value)
                sums.setdefault(name, []).append(value)
            if world.finished:
                self._take_finished()
            at_segment = self.segment and self.steps >= (self.segments + 1) * self.segment
            if self.steps >= row_at or at_segment or self.over:
                row_at = self.steps + self._interval
                yield self._row(sums)
                sums.clear()
            if at_segment:
                self.segments = self.steps // self.segment
                for callback in self.callbacks:
                    callback.at_segment(self)
                if not self.over:
                    self._start_segment()

    def _row(self, sums: dict[str, list[float]]) -> Metrics:
        row = {'steps': float(self.steps), 'seconds': self.seconds, 'episodes': self.episodes}
        if self.recent:
            returns, lengths = zip(*self.recent, strict=True)
            row |= {'episode_return': np.mean(returns), 'episode_length': np.mean(lengths)}
        row = {name: float(value) for name, value in row.items()}
        row |= {name: sum(values) / len(values) for name, values in sums.items()}
        for callback in self.callbacks:
            callback.at_row(self, row)
        self.history.append(row)
        return row

    def _take_finished(self) -> None:
        self.episodes += len(self.world.finished)
        self.recent.extend(self.world.finished)
        self.world.finished.clear()

    def _start_segment(self) -> None:
        if not self.segment:
            return
        root = np.random.SeedSequence([self.method.seed, self.segments])
        world_seed, torch_seed = (int(word) for word in root.generate_state(2))
        torch.manual_seed(torch_seed)
        self.world.restart(world_seed)  # type: ignore[attr-defined]
        self.method.forget(np.ones(self.world.count, dtype=np.bool_))
        self.method.start_over()

    def _broken(self, name: str, value: float) -> ValueError:
        return ValueError(
            f'{self.method.name} on {self.world.name}: {name} is {value} after {self.steps} '
            f'steps. A smaller learning_rate or max_grad_norm may help, or another reward scale'
        )
