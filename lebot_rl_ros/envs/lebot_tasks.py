"""LeBotFaults-v0: walk on in spite of a fault, as a distribution of tasks.

A task is a floor, a load and one fault of one servo. It is not in the observation: the policy can
know it only by what happens, so this is what learners that adapt are tried on.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.envs.velocity_env import LeBotVelocityEnv, LeBotVelocityVectorEnv
from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.sim.fault_text import JOINT_FAULTS, Fault
from lebot_rl_ros.sim.faults import inject
from lebot_rl_ros.sim.randomisation import Randomisation

Array = npt.NDArray[Any]
TASK = np.dtype([
    ('friction', np.float64),  # of the floor
    ('load', np.float64),  # kg on the left front of the back
    ('fault', 'U8'),  # one of sim.fault_text.JOINT_FAULTS
    ('joint', np.int64),  # index of the joint that has it
    ('value', np.float64),  # of a weak servo its share of torque, of a slipped horn rad
])  # fmt: skip

# Sensors as noisy as in training, and nothing else that changes from episode to episode: what
# differs between robots is the task.
SENSORS = Randomisation(
    latency=(0.01, 0.01),
    position_noise=0.003,
    velocity_noise=0.1,
    gyro_noise=0.05,
    tilt_noise=0.01,
    acceleration_noise=0.2,
)
STRAIGHT_ON = VelocityConfig(
    forward=(0.3, 0.3),
    yaw_rate=(0.0, 0.0),
    standing=0.0,
    straight=1.0,
    episode=2.0,
    randomisation=SENSORS,
)


@dataclass(frozen=True)
class FaultRanges:
    """What tasks are drawn from."""

    friction: tuple[float, float] = (0.4, 0.9)
    load: tuple[float, float] = (0.0, 0.2)  # kg; the robot weighs 1.4
    faults: tuple[str, ...] = ('dead', 'weak', 'slip')
    weak: tuple[float, float] = (0.2, 0.5)  # share of torque that is left
    slip: tuple[float, float] = (0.2, 0.4)  # rad, to either side

    def __post_init__(self) -> None:
        """Check the faults.

        Raises:
            ValueError: an unknown fault, or none.
        """
        unknown = [name for name in self.faults if name not in JOINT_FAULTS]
        if unknown or not self.faults:
            raise ValueError(
                f'faults are {self.faults}; choices are {", ".join(JOINT_FAULTS)}, at least one'
            )

    def sample(self, count: int, joints: int, rng: np.random.Generator) -> Array:
        """Draw (count,) of ``TASK`` for a robot with that many joints."""
        tasks = np.zeros(count, dtype=TASK)
        tasks['friction'] = rng.uniform(*self.friction, count)
        tasks['load'] = rng.uniform(*self.load, count)
        tasks['fault'] = np.array(self.faults)[rng.integers(len(self.faults), size=count)]
        tasks['joint'] = rng.integers(joints, size=count)
        weak = rng.uniform(*self.weak, count)
        slip = rng.uniform(*self.slip, count) * rng.choice((-1.0, 1.0), count)
        tasks['value'] = np.select(
            [tasks['fault'] == 'weak', tasks['fault'] == 'slip'], [weak, slip], 0.0
        )
        return tasks


def describe(robot: Robot, task: Any) -> str:
    """One task in words, as a fault is written on the command line."""
    fault = joint_fault(robot, task)
    fault = replace(fault, value=round(fault.value, 3))
    return f'{fault} friction {task["friction"]:.2f} load {task["load"]:.2f} kg'


def joint_fault(robot: Robot, task: Any) -> Fault:
    """The fault of the servo that one task has."""
    kind = str(task['fault'])
    value = float(task['value']) if JOINT_FAULTS[kind][0] else float('nan')
    return Fault(kind, robot.joint_names[int(task['joint'])], value, 0.0)


class FaultsTask(VelocityTask):
    """:class:`VelocityTask`, each robot with a task of its own from the start of an episode on."""

    def __init__(
        self,
        robot: Robot,
        robots: int,
        config: VelocityConfig | None = None,
        ranges: FaultRanges | None = None,
        *,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        """Build the simulation; the config is ``STRAIGHT_ON`` if not given."""
        super().__init__(robot, robots, config or STRAIGHT_ON, seed=seed, threads=threads)
        self.ranges = ranges or FaultRanges()
        self.tasks = np.zeros(robots, dtype=TASK)
        self._pinned = False

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Array:
        """Draw (count,) of ``TASK``."""
        return self.ranges.sample(count, self.action_size, rng)

    def set_task(self, tasks: Array | None) -> None:
        """Keep these tasks (N,) from the next reset on; None draws anew for every episode.

        Raises:
            ValueError: they are not N of ``TASK``, or a joint or fault is unknown.
        """
        self._pinned = tasks is not None
        if tasks is None:
            return
        if tasks.dtype != TASK or tasks.shape != self.tasks.shape:
            raise ValueError(
                f'tasks are {tasks.dtype} of shape {tasks.shape}, must be {TASK} of shape '
                f'{self.tasks.shape}, as sample_tasks gives them'
            )
        wrong = ~np.isin(tasks['fault'], list(JOINT_FAULTS)) | (
            (tasks['joint'] < 0) | (tasks['joint'] >= self.action_size)
        )
        if wrong.any():
            raise ValueError(
                f'task {tasks[wrong][0]}: faults are {", ".join(JOINT_FAULTS)}, joints 0 to '
                f'{self.action_size - 1}'
            )
        self.tasks = tasks.copy()

    def _restart(self, which: npt.NDArray[np.bool_]) -> None:
        super()._restart(which)
        if not self._pinned:
            self.tasks[which] = self.sample_tasks(int(which.sum()), self._rng)
        for i in np.flatnonzero(which).tolist():
            task = self.tasks[i]
            inject(Fault('friction', '', float(task['friction']), 0.0), self.simulation, i)
            inject(Fault('payload', '', float(task['load']), 0.0), self.simulation, i)
            inject(joint_fault(self.robot, task), self.simulation, i)


class LeBotFaultsEnv(LeBotVelocityEnv):
    """One robot that walks straight on at 0.3 m/s, with a fault; else as LeBotVelocity-v0."""

    task: FaultsTask

    def __init__(
        self,
        robot: str = 'lebot',
        config: VelocityConfig | None = None,
        ranges: FaultRanges | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Build the simulation of a robot, by name or by the path of its table."""
        super().__init__(robot, config or STRAIGHT_ON, render_mode)
        self.task = FaultsTask(self.task.robot, 1, config, ranges)  # the same spaces

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Array:
        """Draw (count,) of ``TASK``."""
        return self.task.sample_tasks(count, rng)

    def set_task(self, tasks: Array | None) -> None:
        """Keep the task (1,) from the next reset on; None draws one for every episode."""
        self.task.set_task(tasks)


class LeBotFaultsVectorEnv(LeBotVelocityVectorEnv):
    """Many robots, each with its own fault; else as LeBotVelocity-v0."""

    task: FaultsTask

    def __init__(
        self,
        num_envs: int = 1,
        robot: str = 'lebot',
        config: VelocityConfig | None = None,
        ranges: FaultRanges | None = None,
        render_mode: str | None = None,
        threads: int = 2,
    ) -> None:
        """Build the simulation of ``num_envs`` robots."""
        super().__init__(num_envs, robot, config or STRAIGHT_ON, render_mode, threads=0)
        # The same spaces; the first task is dropped with what it holds.
        self.task = FaultsTask(self.task.robot, num_envs, config, ranges, threads=threads)

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Array:
        """Draw (count,) of ``TASK``."""
        return self.task.sample_tasks(count, rng)

    def set_task(self, tasks: Array | None) -> None:
        """Keep tasks (N,) from the next reset on; None draws new ones for every episode."""
        self.task.set_task(tasks)
