"""The trainings of `lebot compare rewards`: by one reward, judged by the environment's own."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lebot_rl_ros.envs  # noqa: F401  (registers ours)
from lebot_rl_ros.envs.gym_world import GymWorld
from lebot_rl_ros.envs.shaped_reward import COMPONENTS
from lebot_rl_ros.envs.shaped_world import make_shaped_world
from lebot_rl_ros.envs.shaping import Array, Shaping
from lebot_rl_ros.learning.method import Method, State
from lebot_rl_ros.learning.registry import find
from lebot_rl_ros.learning.runner import Runner
from lebot_rl_ros.learning.settings import config_from

JUDGING_SEED = 80_000  # of the episodes that judge; training has others


@dataclass(frozen=True)
class Job:
    """One training."""

    name: str  # of the reward
    shaping: Shaping
    env: str
    env_arguments: Mapping[str, Any]
    method: str
    settings: Mapping[str, Any]  # fields of the method's config
    seed: int
    steps: int  # of all environments together
    count: int  # environments side by side
    evaluations: int
    episodes: int  # of an evaluation
    stagger: bool = False  # spread the ages of the first episodes; LeBotVelocity-v0 only


@dataclass(frozen=True)
class Judgement:
    """Episodes of a deterministic policy, by the environment's own reward."""

    returns: Array  # (E,)
    lengths: Array  # (E,) steps
    parts: dict[str, Array]  # (E,) each: what every term brought to the return

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())


@dataclass(frozen=True)
class Run:
    """What came of a job."""

    job: Job
    curve: list[tuple[int, float]]  # steps, mean own return
    last: Judgement
    weights: State = field(repr=False)  # of the method at the end


class Judge:
    """The same episodes again and again, in plain environments whose reward is only split up."""

    def __init__(self, env: str, arguments: Mapping[str, Any], episodes: int) -> None:
        """Make ``episodes`` environments."""
        shaping = Shaping(mode='log')
        self._world = make_shaped_world(env, episodes, JUDGING_SEED, shaping, **arguments)

    def __call__(self, method: Method[Any]) -> Judgement:
        """Let a method do its best for one episode in each."""
        world, count = self._world, self._world.count
        world.restart(JUDGING_SEED)
        method.forget(np.ones(count, bool))
        playing, returns, lengths = np.ones(count, bool), np.zeros(count), np.zeros(count, int)
        parts: dict[str, Array] = {}
        while playing.any():
            outcome = world.step(method.act(world.observation))
            returns += playing * outcome.reward
            lengths += playing
            for name, values in outcome.info[COMPONENTS].items():
                parts[name] = parts.get(name, np.zeros(count)) + playing * values
            playing &= ~outcome.done
            method.forget(outcome.done)
        world.finished.clear()
        method.forget(np.ones(count, bool))
        return Judgement(returns, lengths, parts)

    def close(self) -> None:
        """Close the environments."""
        self._world.close()


def make(job: Job) -> tuple[GymWorld, Method[Any]]:
    """World and method of a job, the method untrained.

    Raises:
        ValueError: something of the job does not fit; the message says what.
    """
    world = make_shaped_world(
        job.env, job.count, job.seed, job.shaping, stagger=job.stagger, **job.env_arguments
    )
    cls, config = find(job.method)
    torch.manual_seed(job.seed)
    method = cls(
        config_from(config, job.settings), world.observation_space, world.action_space, job.seed
    )
    return world, method


def train(job: Job, tell: Callable[[str], None] = lambda words: None) -> Run:
    """Train by the shaped reward; judge on the way by the own one."""
    torch.set_num_threads(1)
    world, method = make(job)
    judge = Judge(job.env, job.env_arguments, job.episodes)
    last = judge(method)
    curve, every = [(0, last.mean)], max(1, job.steps // job.evaluations)
    due = every
    for row in Runner(method, world, job.steps, rows=100_000).run():
        steps = int(row['steps'])
        if steps < due and steps < job.steps:
            continue
        due = (steps // every + 1) * every
        last = judge(method)
        curve.append((steps, last.mean))
        tell(f'{job.name}, seed {job.seed}: {steps:,} steps, own return {last.mean:.1f}')
    world.close()
    judge.close()
    return Run(job, curve, last, method.state())


def save_run(run: Run, path: Path) -> None:
    """Keep a run, so that a comparison that was stopped goes on with the next."""
    last = run.last
    arrays = {
        'job': np.frombuffer(_words(run.job).encode(), np.uint8),
        'curve': np.array(run.curve, dtype=float),
        'returns': last.returns,
        'lengths': last.lengths,
        **{f'parts/{name}': values for name, values in last.parts.items()},
        **{f'weights/{name}': values for name, values in run.weights.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix('.part')
    with part.open('wb') as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)  # whole or not at all


def load_run(job: Job, path: Path) -> Run | None:
    """Take a run that was kept; None where there is none, or it was of another job."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if arrays['job'].tobytes().decode() != _words(job):
        return None

    def below(prefix: str) -> dict[str, Array]:
        return {
            name.removeprefix(prefix): values
            for name, values in arrays.items()
            if name.startswith(prefix)
        }

    last = Judgement(arrays['returns'], arrays['lengths'], below('parts/'))
    curve = [(int(steps), float(value)) for steps, value in arrays['curve']]
    return Run(job, curve, last, below('weights/'))


def _words(job: Job) -> str:
    return json.dumps(asdict(job), sort_keys=True)
