"""How much an adapter helps on its task: one error for speed and yaw rate, by ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lebot_rl_ros.envs.evaluation import SETTLING, Act
from lebot_rl_ros.envs.recipes import Command, Judging
from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray

WINDOW = 2.0  # s, whole cycles of the gait: what sways within one is no error
AHEAD = 0.2  # m in front of base_link: the point whose velocity is judged
RESAMPLES = 10_000
SEEDS = tuple(range(2000, 2010))  # of the judging; training has others


@dataclass(frozen=True)
class TaskScore:
    """What one policy did with some commands; means over windows, robots and commands."""

    error: float  # m/s, of the velocity of the point ahead
    speed_error: float  # m/s, of base_link along x, absolute
    yaw_rate_error: float  # rad/s, absolute
    falls_per_minute: float  # of one robot


def velocity_error(
    forward: FloatArray, lateral: FloatArray, yaw_rate: FloatArray, asked: FloatArray
) -> FloatArray:
    """Velocity error (...) in m/s of the point ``AHEAD`` of base_link.

    One number for both parts of a command: a yaw rate wrong by 0.1 rad/s counts as 0.02 m/s
    sideways, and so does drifting sideways.

    Args:
        forward: (...) m/s, mean over a window.
        lateral: (...) m/s, likewise.
        yaw_rate: (...) rad/s, likewise.
        asked: (..., 2) m/s and rad/s.
    """
    aside = lateral + AHEAD * (yaw_rate - asked[..., 1])
    return np.asarray(np.hypot(forward - asked[..., 0], aside))


def score(
    robot: Robot,
    act: Act,
    config: VelocityConfig,
    commands: Sequence[Command],
    *,
    robots: int = 8,
    seconds: float = 11.0,
    seed: int = 1000,
    threads: int = 2,
) -> TaskScore:
    """Let ``robots`` robots follow each command, all of them at once.

    The first second is not judged. A robot that falls stays down: from that window on its velocity
    counts as zero, so it has the full error of its command.

    Args:
        robot: who walks.
        act: the policy, deterministic.
        config: the task with its randomisation; commands and episode length are replaced.
        commands: to follow.
        robots: for each command.
        seconds: of simulated time, 1 s and whole windows.
        seed: of randomisation and noise.
        threads: of the simulation; they change nothing but the time it takes.
    """
    asked = np.repeat(np.asarray(commands, dtype=float), robots, axis=0)
    config = replace(config, episode=10.0 * seconds)
    task = VelocityTask(robot, len(asked), config, seed=seed, threads=threads)
    task.pinned_command = asked
    observation = task.reset()
    settling, window = (round(t / task.simulation.period) for t in (SETTLING, WINDOW))
    windows = (round(seconds / task.simulation.period) - settling) // window
    if windows < 1:
        raise ValueError(f'seconds is {seconds:g}, must be {SETTLING + WINDOW:g} or more')
    sums = np.zeros((windows, len(asked), 3))  # forward, lateral, yaw rate
    down = np.zeros(len(asked), dtype=bool)
    upright = 0  # periods of all robots
    for period in range(settling + windows * window):
        outcome = task.step(act(observation), restart=False)
        observation = outcome.observation
        down |= outcome.terminated
        upright += len(down) - int(down.sum())
        if period >= settling:
            part = (period - settling) // window
            truth = task.simulation.truth()
            sums[part, :, :2] += truth.linear_velocity[:, :2]
            sums[part, :, 2] += truth.angular_velocity[:, 2]
            sums[part:, down] = 0.0
    mean = sums / window
    minutes = upright * task.simulation.period / 60.0
    return TaskScore(
        error=float(velocity_error(mean[..., 0], mean[..., 1], mean[..., 2], asked).mean()),
        speed_error=float(np.abs(mean[..., 0] - asked[:, 0]).mean()),
        yaw_rate_error=float(np.abs(mean[..., 2] - asked[:, 1]).mean()),
        falls_per_minute=float(down.sum() / minutes),
    )


@dataclass(frozen=True)
class Comparison:
    """One policy against the base, on the same robots, seed by seed."""

    seeds: tuple[int, ...]
    base: tuple[TaskScore, ...]  # one a seed
    other: tuple[TaskScore, ...]  # likewise

    @property
    def improvement(self) -> float:
        """Share of the base's error that is gone; negative where it grew."""
        return 1.0 - float(np.mean(_errors(self.other)) / np.mean(_errors(self.base)))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the improvement: seeds are drawn again, in pairs."""
        rng = np.random.default_rng(0)
        draws = rng.integers(0, len(self.seeds), (RESAMPLES, len(self.seeds)))
        ratio = _errors(self.other)[draws].mean(axis=1) / _errors(self.base)[draws].mean(axis=1)
        low, high = np.quantile(1.0 - ratio, (0.025, 0.975))
        return float(low), float(high)

    def as_data(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {
            'seeds': list(self.seeds),
            'base': means(self.base),
            'other': means(self.other),
            'improvement': self.improvement,
            'improvement_interval_95': list(self.interval),
        }


def means(scores: Sequence[TaskScore]) -> dict[str, float]:
    """Mean of each number over the seeds, and the standard deviation of the error."""
    table = {
        entry.name: float(np.mean([getattr(s, entry.name) for s in scores]))
        for entry in fields(TaskScore)
    }
    spread = float(np.std(_errors(scores), ddof=1)) if len(scores) > 1 else 0.0
    return {**table, 'error_std': spread}


def score_seeds(
    robot: Robot, act: Act, config: VelocityConfig, judging: Judging, seeds: Sequence[int]
) -> tuple[TaskScore, ...]:
    """Score a policy once for each seed."""
    return tuple(
        score(
            robot, act, config, judging.commands,
            robots=judging.robots, seconds=judging.seconds, seed=seed,
        )
        for seed in seeds
    )  # fmt: skip


def compare(
    robot: Robot,
    base: Act,
    other: Act,
    config: VelocityConfig,
    judging: Judging,
    seeds: Sequence[int],
) -> Comparison:
    """Score two policies on the same robots, commands and noise."""
    return Comparison(
        tuple(seeds),
        score_seeds(robot, base, config, judging, seeds),
        score_seeds(robot, other, config, judging, seeds),
    )


def _errors(scores: Sequence[TaskScore]) -> FloatArray:
    return np.array([entry.error for entry in scores])
