"""A robot with a fault, stepped directly as the ROS graph would.

:class:`FaultyRobot` is the graph in one process: what `sim`, `policy` and `reward` do in lockstep
happens here in one call, through the same lines (simulation, walker, limits, scorer), and gives
the same rows. So a learner cannot tell the two apart, but for the time it takes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.rows import reward_dtype
from lebot_rl_ros.mdp.commands import Gait
from lebot_rl_ros.mdp.rewards import RewardConfig
from lebot_rl_ros.mdp.scoring import Scorer
from lebot_rl_ros.robot import Robot, RobotState
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.safety.limits import LimitedTarget, limit_target
from lebot_rl_ros.safety.supervisor import Mode
from lebot_rl_ros.sim.fault_text import Fault, parse_fault
from lebot_rl_ros.sim.faults import inject
from lebot_rl_ros.sim.randomisation import NOMINAL, TRAINING, Randomisation
from lebot_rl_ros.sim.simulation import Simulation

GET_UP = 6.0  # s of robot time that a fall costs, without reward
COMMAND = (0.3, 0.0)  # m/s forward, rad/s
# Sensors as noisy as in training on a robot as drawn: what it is shall not differ between runs.
NOISY = Randomisation(
    position_noise=TRAINING.position_noise,
    velocity_noise=TRAINING.velocity_noise,
    gyro_noise=TRAINING.gyro_noise,
    tilt_noise=TRAINING.tilt_noise,
    acceleration_noise=TRAINING.acceleration_noise,
)
Array = npt.NDArray[Any]


class Acting(Protocol):
    """What drives the robot; ``control.walker.Walker`` is the one that the policy node runs."""

    row: Array  # of policy/steps

    def reset(self) -> None:
        """Forget the past."""

    def fell(self) -> None:
        """Hear of a fall."""

    def applied(self, target: FloatArray) -> FloatArray:
        """Take what the servos got (J,) rad; give it in action units."""

    def act(self, state: RobotState, command: FloatArray) -> FloatArray:
        """Joint target (J,) rad."""

    def record(self, stamp: int) -> None:
        """Begin the row of this step."""

    def complete(self, next_stamp: int, applied_action: FloatArray, mode: int) -> None:
        """Finish it."""


def let_fail(simulation: Simulation, faults: Sequence[Fault], index: int = 0) -> None:
    """Give a robot that was just put back its faults, and stand it as its servos hold it.

    A horn that has slipped stays slipped: the servo reads the standing angle, and the leg is off.
    """
    for fault in faults:
        inject(fault, simulation, index)
    robot, model = simulation.robot, simulation.nominal
    for joint, name in enumerate(robot.joint_names):
        address = model.joint(name).qposadr[0]
        simulation.qpos[index, address] = robot.stand[joint] + simulation.horn_offset[index, joint]


class FaultyRobot:
    """One robot with faults that begin at their times; rows as the topics carry them.

    After a fall :data:`GET_UP` seconds pass without rows, then it stands again, its faults with
    it. It is drawn once, by the seed, and stays the same robot.
    """

    def __init__(
        self,
        robot: Robot,
        walker: Acting,
        gait: Gait,
        faults: Sequence[str] = (),
        *,
        seed: int = 0,
        command: tuple[float, float] = COMMAND,
        randomisation: Randomisation = NOMINAL,
        reward: RewardConfig | None = None,
    ) -> None:
        """Stand at time 0.

        Args:
            robot: who walks.
            walker: what drives it; its exploration is its own.
            gait: whose clock the reward reads; the policy's.
            faults: as ``sim.fault_text`` reads them, with the second (s) in which they begin.
            seed: of the draw and of the sensors' noise.
            command: (m/s, rad/s), all the time.
            randomisation: what the robot is drawn from.
            reward: weights; the task's own without it.

        Raises:
            ValueError: a fault that cannot be read.
        """
        self.robot, self.walker = robot, walker
        self.command: FloatArray = np.array(command, dtype=float)
        self._faults = sorted(
            (parse_fault(text, robot.joint_names) for text in faults), key=lambda f: f.time
        )
        self._begun = 0  # how many of them have
        self._seed = seed
        self.simulation = Simulation(robot, seed=seed, randomisation=randomisation)
        self._scorer = Scorer(robot, gait, reward or RewardConfig())
        self._earned: Array = np.zeros(1, dtype=reward_dtype(self._scorer.names))
        self._offset = 0  # ns that getting up took so far
        self.fallen_at: list[float] = []  # s of robot time
        self.ticks = 0
        self._limited: LimitedTarget
        self._state: RobotState
        self._stand()

    @property
    def seconds(self) -> float:
        """Robot time so far, getting up included."""
        return int(self._state.stamp) / 1e9

    @property
    def terms(self) -> list[str]:
        """Names of the reward's terms, as in its rows."""
        return self._scorer.names

    def step(self) -> tuple[Array, Array]:
        """One control period: its row of `policy/steps` and of `reward/rewards`, (1,) each.

        Where the policy gives no finite target there are none, (0,): the servos keep their last.
        """
        state, walker, earned = self._state, self.walker, self._earned
        stamp = int(state.stamp)
        target = walker.act(state, self.command)
        walker.record(stamp)
        self._limited = limit_target(self.robot, target, self._limited, self.simulation.period)
        while self._begun < len(self._faults) and self._faults[self._begun].time * 1e9 <= stamp:
            inject(self._faults[self._begun], self.simulation)
            self._begun += 1
        self.simulation.step(self._limited.position[None])
        self._state = self._sense()
        following = int(self._state.stamp)
        row = walker.row
        walker.complete(following, walker.applied(self._limited.position), Mode.TRACK)
        row = row.copy()  # the scorer holds on to what it is given, the walker writes on
        score = self._scorer(
            stamp, self._state, row['command'], row['applied_action'], followed=True
        )
        self.ticks += 1
        if score.terminated:
            self._get_up()
        if not np.isfinite(target).all():
            return np.empty(0, row.dtype), np.empty(0, earned.dtype)
        earned['sec'], earned['nanosec'] = row['sec'], row['nanosec']
        earned['reward'] = score.reward
        earned['terminated'], earned['truncated'] = score.terminated, score.truncated
        for name, value in score.terms.items():
            earned[name] = value
        return row.reshape(1), earned.copy()

    def _get_up(self) -> None:
        self.fallen_at.append(self.seconds)
        self.walker.fell()  # which sees it stand again, no more
        self._offset += round(GET_UP * 1e9)
        self._stand()

    def _stand(self) -> None:
        simulation = self.simulation
        simulation.rng = np.random.default_rng(self._seed)  # the same robot again,
        simulation.reset()
        simulation.rng = np.random.default_rng([self._seed, 1 + len(self.fallen_at)])  # new noise
        let_fail(simulation, self._faults[: self._begun])
        stand = self.robot.stand
        self._limited = LimitedTarget(stand.copy(), np.zeros_like(stand))
        self.walker.reset()
        for _ in range(2):  # the last action and the one before
            self.walker.applied(stand)
        self._state = self._sense()

    def _sense(self) -> RobotState:
        states = self.simulation.sense()
        state = RobotState(*(getattr(states, name)[0] for name in states.__slots__))
        return replace(state, stamp=int(state.stamp) + self._offset)
