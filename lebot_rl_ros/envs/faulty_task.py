"""Many robots with a fault: to train an oracle, to judge, and one for learners of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from lebot_rl_ros.envs.adapting import COMMAND, GET_UP, NOISY, Array, let_fail
from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.mdp.observations import LIMIT
from lebot_rl_ros.robot import Robot, rotations
from lebot_rl_ros.sim.fault_text import parse_fault


class FaultyTask(VelocityTask):
    """Many such robots, all with the faults from the start, told one command.

    On a slope they head in all directions, evenly: one that walks there for minutes does, too.
    """

    def __init__(
        self,
        robot: Robot,
        robots: int,
        faults: Sequence[str],
        config: VelocityConfig | None = None,
        *,
        command: tuple[float, float] = COMMAND,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        """Take faults as text, their times ignored; the rest is the task's.

        Raises:
            ValueError: a fault that cannot be read.
        """
        self.faults = [parse_fault(text, robot.joint_names) for text in faults]
        config = config or VelocityConfig(randomisation=NOISY)
        super().__init__(robot, robots, config, seed=seed, threads=threads)
        self.pinned_command = np.array(command, dtype=float)
        sloped = any(fault.kind == 'slope' for fault in self.faults)
        # rad, from where the floor rises
        self._headings = 2.0 * np.pi * np.arange(robots) / robots if sloped else np.zeros(robots)

    def _restart(self, which: npt.NDArray[np.bool_]) -> None:
        super()._restart(which)
        for index in np.flatnonzero(which).tolist():
            half, qpos = 0.5 * self._headings[index], self.simulation.qpos[index]
            turn = np.array([np.cos(half), 0.0, 0.0, np.sin(half)])
            qpos[3:7] = rotations.multiply(turn, qpos[3:7])
            let_fail(self.simulation, self.faults, index)


@dataclass(frozen=True)
class Judged:
    """How well a policy walks with a fault."""

    reward: float  # mean a second of robot time, getting up included
    falls: float  # a minute of walking
    forward: float  # m/s, of base_link, by the simulator's truth, mean over the time it walks


def judge(
    task: FaultyTask,
    act: Any,
    seed: int,
    seconds: float = 15.0,
    settle: float = 5.0,
    get_up: float = GET_UP,
) -> Judged:
    """Let all robots of a task walk, and count from when they have settled.

    From a stand a robot with a dead knee walks well for three seconds, until the knee has given
    way: that is not how it walks.

    Args:
        task: its robots reset themselves; episodes must be longer than a rollout.
        act: observations (N, O) to actions (N, J), deterministic.
        seed: of noise and starts; equal seeds judge by equal rollouts.
        seconds: of walking that count, each robot.
        settle: seconds of walking before that.
        get_up: seconds of robot time that a fall adds, without reward.
    """
    task.seed(seed)
    observation, total, falls, forward = task.reset(), 0.0, 0, 0.0
    first, periods = (round(t / task.simulation.period) for t in (settle, seconds))
    for period in range(first + periods):
        outcome = task.step(act(observation))
        observation = outcome.observation
        if period < first:
            continue
        total += float(outcome.reward.sum())
        falls += int(outcome.terminated.sum())
        forward += float(task.simulation.truth().linear_velocity[:, 0].mean())
    walked = task.robots * seconds
    return Judged(total / (walked + get_up * falls), 60.0 * falls / walked, forward / periods)


class FaultyEnv(gymnasium.Env[Array, Array]):
    """One faulty robot as an environment, for learners of others; falls end an episode.

    ``seconds`` is robot time as :class:`FaultyRobot` counts it: with :data:`GET_UP` a fall.
    """

    def __init__(self, task: FaultyTask, *, squashed: bool = False) -> None:
        """Wrap a task of one robot.

        Args:
            task: of one robot.
            squashed: actions come as the tanh of those of the task, from a policy that squashes
                its Gaussian: its mean and spread are then those of a plain one.

        Raises:
            ValueError: the task has more robots.
        """
        if task.robots != 1:
            raise ValueError(f'the task has {task.robots} robots, an environment has 1')
        self.task = task
        self.observation_space = gymnasium.spaces.Box(
            -LIMIT, LIMIT, (task.observation_size,), np.float32
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (task.action_size,), np.float32)
        self._squashed = squashed
        self.steps, self.fallen_at = 0, list[float]()

    @property
    def seconds(self) -> float:
        """Robot time so far."""
        return self.steps * self.task.simulation.period + GET_UP * len(self.fallen_at)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Stand; observation (O,) and an empty info."""
        super().reset(seed=seed)
        if seed is not None:
            self.task.seed(seed)
        return self.task.reset()[0], {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Apply an action (J,) for one control period."""
        action = np.asarray(action, dtype=float)[None]
        if self._squashed:
            action = unsquash(action)
        outcome = self.task.step(action, restart=False)
        self.steps += 1
        terminated = bool(outcome.terminated[0])
        if terminated:
            self.fallen_at.append(self.seconds)
        return (
            outcome.final_observation[0], float(outcome.reward[0]),
            terminated, bool(outcome.truncated[0]), {},
        )  # fmt: skip


def unsquash(action: Array) -> Array:
    """Inverse of tanh; +-1, which no finite number gives, is taken for a little less."""
    return np.asarray(np.arctanh(np.clip(action, -1.0 + 1e-6, 1.0 - 1e-6)))
