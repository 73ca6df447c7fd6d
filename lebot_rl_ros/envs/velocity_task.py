"""Command tracking for many robots at once: behind LeBotVelocity-v0 and `lebot train base`."""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.mdp import rewards
from lebot_rl_ros.mdp.commands import ActionSpace, Gait
from lebot_rl_ros.mdp.observations import History, ObservationLayout
from lebot_rl_ros.mdp.step import Step
from lebot_rl_ros.mdp.task import make_step
from lebot_rl_ros.mdp.terminations import fallen
from lebot_rl_ros.robot import Robot, RobotState
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.safety.limits import LimitedTarget, limit_target
from lebot_rl_ros.sim.randomisation import TRAINING, Randomisation
from lebot_rl_ros.sim.simulation import Simulation


@dataclass(frozen=True)
class VelocityConfig:
    """What is asked of the robots, and for how long."""

    forward: tuple[float, float] = (0.0, 0.6)  # m/s
    yaw_rate: tuple[float, float] = (-0.65, 0.65)  # rad/s
    standing: float = 0.1  # share of commands that ask to stand
    straight: float = 0.2  # share that ask for no yaw
    hold: float = 5.0  # s between new commands
    episode: float = 20.0  # s
    randomisation: Randomisation = TRAINING
    reward: rewards.RewardConfig = field(default_factory=rewards.RewardConfig)
    action_space: ActionSpace = ActionSpace()
    gait: Gait = Gait(frequency=2.5)
    history: int = 1
    true_speed: bool = False  # reward the simulator's speed: leg odometry is blind to sliding


@dataclass(frozen=True)
class Outcome:
    """One period of all robots; after a reset, ``observation`` is already the next episode's."""

    observation: FloatArray  # (N, obs) float32
    final_observation: FloatArray  # (N, obs) before any reset
    reward: FloatArray  # (N,)
    terminated: npt.NDArray[np.bool_]  # (N,) a fall
    truncated: npt.NDArray[np.bool_]  # (N,) time is up
    terms: dict[str, FloatArray]  # (N,) each


class VelocityTask:
    """``robots`` robots that are told a speed and a yaw rate and rewarded for following."""

    def __init__(
        self,
        robot: Robot,
        robots: int,
        config: VelocityConfig | None = None,
        *,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        """Build the simulation; see :class:`Simulation` for ``threads``."""
        self.robot, self.robots = robot, robots
        self.config = config or VelocityConfig()
        self.simulation = Simulation(
            robot, robots, seed=seed, randomisation=self.config.randomisation, threads=threads
        )
        self.layout = ObservationLayout.of(robot, history=self.config.history)
        self._rng = np.random.default_rng([seed, 1])
        self._history = History(self.layout, robots)
        self._command = np.zeros((robots, 2))
        self._start = np.zeros(robots, dtype=np.int64)  # ns, of the gait clock
        self._age = np.zeros(robots, dtype=np.int64)  # periods
        self._action: FloatArray = np.zeros((robots, len(robot.joints)))
        self._limited = LimitedTarget(
            np.tile(robot.stand, (robots, 1)), np.zeros_like(self._action)
        )
        self.pinned_command: FloatArray | None = None

    @property
    def action_size(self) -> int:
        """Numbers in one action."""
        return len(self.robot.joints)

    @property
    def observation_size(self) -> int:
        """Numbers in one observation."""
        return self.layout.size

    def seed(self, seed: int) -> None:
        """Restart every draw and the clock; after a reset too, nothing is left of before."""
        self.simulation.seed(seed)
        self._rng = np.random.default_rng([seed, 1])

    def reset(self) -> FloatArray:
        """Start all episodes; (N, obs)."""
        self._restart(np.ones(self.robots, dtype=bool))
        return self._observe(self._step(self._action))

    def stagger(self) -> None:
        """Spread the ages of the episodes, so that robots do not all time out together."""
        self._age[:] = self._rng.integers(0, self._periods(self.config.episode), self.robots)

    def step(self, action: FloatArray, *, restart: bool = True) -> Outcome:
        """Apply actions (N, J), policy units, for one control period.

        Robots whose episode ended begin the next one, unless ``restart`` is false.
        """
        config = self.config
        target = config.action_space.target(self.robot, action)
        self._limited = limit_target(self.robot, target, self._limited, self.simulation.period)
        previous, self._action = (
            self._action,
            config.action_space.action(self.robot, self._limited.position),
        )
        self.simulation.step(self._limited.position)
        self._age += 1
        step = self._step(previous)
        judged = step
        if config.true_speed:
            judged = replace(step, velocity=self.simulation.truth().linear_velocity)
        terms = rewards.reward_terms(config.reward, self.robot, judged)
        terminated = fallen(self.robot, step.gravity)
        terms['fall'] = config.reward.fall * terminated
        truncated = (self._age >= self._periods(config.episode)) & ~terminated
        self._new_commands(self._age % self._periods(config.hold) == 0)
        final = self._observe(step)
        observation, done = final, terminated | truncated
        if restart and done.any():
            self._restart(done)
            observation = np.where(done[:, None], self._observe(self._step(self._action)), final)
        return Outcome(observation, final, sum(terms.values()), terminated, truncated, terms)  # type: ignore[arg-type]

    def _step(self, previous_action: FloatArray) -> Step:
        state: RobotState = self.simulation.sense()
        state = replace(state, stamp=state.stamp + self._start)
        return make_step(
            self.robot, self.config.gait, state, self._command, self._action, previous_action
        )

    def _observe(self, step: Step) -> FloatArray:
        return self._history(self.layout.observe(self.robot, step))

    def _restart(self, which: npt.NDArray[np.bool_]) -> None:
        self.simulation.reset(which)
        self._history.reset(which)
        self._age[which] = 0
        self._start[which] = self._rng.integers(0, 1_000_000_000, int(which.sum()))
        self._action[which] = 0.0
        self._limited.position[which] = self.robot.stand
        self._limited.velocity[which] = 0.0
        self._new_commands(which)

    def _new_commands(self, which: npt.NDArray[np.bool_]) -> None:
        count = int(which.sum())
        if not count:
            return
        if self.pinned_command is not None:
            self._command[which] = np.broadcast_to(self.pinned_command, self._command.shape)[which]
            return
        config, rng = self.config, self._rng
        command = np.stack(
            (rng.uniform(*config.forward, count), rng.uniform(*config.yaw_rate, count)), axis=1
        )
        kind = rng.random(count)
        command[kind < config.standing + config.straight, 1] = 0.0
        command[kind < config.standing] = 0.0
        self._command[which] = command

    def _periods(self, seconds: float) -> int:
        return round(seconds / self.simulation.period)
