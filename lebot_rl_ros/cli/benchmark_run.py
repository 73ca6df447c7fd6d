"""One run of `lebot benchmark methods` in a process of its own: one side, one cell, one seed.

    python -m lebot_rl_ros.cli.benchmark_run --cell ppo:CartPole-v1 --side ours --seed 0 FILE.json

Writes the curve of the deterministic policy's return and the seconds of the training without those
of the evaluations. Torch has one thread, which is the quickest for networks of this size, on
either side.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lebot_rl_ros.cli.benchmark_cells import CELLS, Cell
from lebot_rl_ros.envs.world import make_world
from lebot_rl_ros.learning.method import Array, World

EVALUATION_SEED = 90_000  # of worlds in which policies are judged; far from those of training


@dataclass
class Clock:
    """Wall and CPU seconds of a training, stopped while it is judged."""

    wall: float = 0.0
    cpu: float = 0.0
    _since: tuple[float, float] = field(default=(0.0, 0.0))

    def start(self) -> None:
        """Go on."""
        self._since = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Stand still."""
        self.wall += time.perf_counter() - self._since[0]
        self.cpu += time.process_time() - self._since[1]


def mean_return(world: World, act: Callable[[Array], Array], episodes: int) -> float:
    """Mean return of the first ``episodes`` episodes to begin, so that long ones count too.

    Every environment plays the same number of episodes: the first to end would be the short ones.
    """
    each = -(-episodes // world.count)
    returns, done = np.zeros(world.count), np.zeros(world.count, int)
    total, running = 0.0, np.zeros(world.count)
    while (done < each).any():
        outcome = world.step(act(world.observation))
        running += outcome.reward
        ended = outcome.done & (done < each)
        total += float(running[ended].sum())
        returns[ended] += running[ended]
        done += ended
        running[outcome.done] = 0.0
    return float(returns.mean() / each)


def judge(cell: Cell, act: Callable[[Array], Array]) -> float:
    """Return of a policy in fresh worlds; the same ones at every call."""
    count = min(cell.episodes, 20)
    world = make_world(cell.env, count, seed=EVALUATION_SEED, **cell.kwargs)
    try:
        return mean_return(world, act, cell.episodes)
    finally:
        world.close()


Report = Callable[[int, float], None]


def run_ours(cell: Cell, seed: int, clock: Clock, report: Report) -> None:
    """Train our side."""
    from lebot_rl_ros.learning.registry import find

    cls, config = find(cell.method)
    ours = cell.ours
    kwargs = {**ours.env, **cell.kwargs}
    world = make_world(cell.env, ours.envs, seed=seed, stagger=ours.stagger, **kwargs)
    torch.manual_seed(seed)
    method = cls(config(**ours.config), world.observation_space, world.action_space, seed)
    due = every = cell.budget // cell.evaluations
    clock.start()
    while world.steps < cell.budget:
        method.progress = world.steps / cell.budget
        method.iterate(world)
        world.finished.clear()
        if world.steps >= due:
            clock.stop()
            report(world.steps, judge(cell, method.act))
            due += every * (1 + (world.steps - due) // every)
            clock.start()
    clock.stop()


def run_theirs(cell: Cell, seed: int, clock: Clock, report: Report) -> None:
    """Train stable-baselines3's side."""
    from lebot_rl_ros.cli.benchmark_peer import train

    every = cell.budget // cell.evaluations
    clock.start()
    train(cell, seed, clock, every, lambda steps, act: report(steps, judge(cell, act)))
    clock.stop()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cell', required=True, choices=sorted(CELLS))
    parser.add_argument('--side', required=True, choices=('ours', 'theirs'))
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('file', type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cell, clock = CELLS[args.cell], Clock()
    curve = []

    def report(steps: int, value: float) -> None:
        curve.append((steps, value))
        sys.stdout.write(f'{steps} {value:.2f} {clock.wall:.1f}\n')
        sys.stdout.flush()

    (run_ours if args.side == 'ours' else run_theirs)(cell, args.seed, clock, report)
    row = {
        'cell': args.cell, 'side': args.side, 'seed': args.seed, 'curve': curve,
        'wall': clock.wall, 'cpu': clock.cpu, 'settings': cell.settings,
    }  # fmt: skip
    temporary = args.file.with_suffix(f'.{os.getpid()}')
    temporary.write_text(json.dumps(row))
    temporary.rename(args.file)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
