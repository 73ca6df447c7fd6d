"""LeBotWalk-v0: walk forward, as plain as a benchmark of locomotion can be."""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from lebot_rl_ros.envs.picture import MODES, Picture
from lebot_rl_ros.mdp.terminations import fallen
from lebot_rl_ros.robot import load_robot, rotations
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.safety.limits import LimitedTarget, limit_target
from lebot_rl_ros.sim.randomisation import NOMINAL, Randomisation
from lebot_rl_ros.sim.simulation import Simulation

Array = npt.NDArray[Any]
PERIOD = 0.1  # s of one step
EPISODE = 1000  # steps


class LeBotWalkEnv(gymnasium.Env[Array, Array]):
    """Walk forward without a command.

    * Observation, 2 J + 4 numbers (20 for eight joints): joint angles (rad) and velocities
      (rad/s), roll and pitch (rad) and their rates (rad/s).
    * Action, J numbers in [-1, 1]: joint target = middle + action * half of the joint's range,
      through the same position, velocity and acceleration limits as on the robot.
    * Reward: forward velocity (m/s) - 0.1 sum(a²) - 0.1 (abs(roll) + abs(pitch))
      - 0.01 sum(diff(a)²), diff being the change since the step before. The forward velocity is
      the simulator's: this is a plain benchmark of simulation, not a reward that a robot has.
    * Terminated by a fall, truncated after 1000 steps of 0.1 s.
    """

    metadata = {'render_modes': MODES, 'render_fps': round(1.0 / PERIOD)}  # noqa: RUF012

    def __init__(
        self,
        robot: str = 'lebot',
        randomisation: Randomisation = NOMINAL,
        render_mode: str | None = None,
    ) -> None:
        """Build the simulation of a robot, by name or by the path of its table."""
        self.render_mode = render_mode
        self._picture = Picture(render_mode)
        self.robot = load_robot(robot)
        control = 1.0 / self.robot.control_rate
        self._ticks = round(PERIOD / control)  # control periods of a step
        self.simulation = Simulation(self.robot, 1, randomisation=randomisation)
        joints = len(self.robot.joints)
        self._middle = 0.5 * (self.robot.lower + self.robot.upper)
        self._half_range = 0.5 * (self.robot.upper - self.robot.lower)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2 * joints + 4,))
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (joints,))
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Stand the robot up at the origin: observation (2 J + 4,) and an empty info."""
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.simulation.seed(int(self.np_random.integers(2**31)) if seed is None else seed)
            self._seeded = True
        self.simulation.reset()
        stand = self.robot.stand
        self._limited = LimitedTarget(stand[None].copy(), np.zeros((1, len(stand))))
        self._action: FloatArray = (stand - self._middle) / self._half_range
        self._steps = 0
        self._picture.show(self.simulation)
        return self._observe()[0], {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Apply an action (J,) for 0.1 s."""
        action = np.clip(np.asarray(action, dtype=float), -1.0, 1.0)
        start = self.simulation.qpos[0, 0]
        target = (self._middle + action * self._half_range)[None]
        for _ in range(self._ticks):
            period = self.simulation.period
            self._limited = limit_target(self.robot, target, self._limited, period)
            self.simulation.step(self._limited.position)
        observation, gravity = self._observe()
        joints = len(self.robot.joints)
        terms = {
            'forward_velocity': (self.simulation.qpos[0, 0] - start) / PERIOD,
            'action': -0.1 * np.square(action).sum(),
            'tilt': -0.1 * np.abs(observation[2 * joints : 2 * joints + 2]).sum(),
            'action_change': -0.01 * np.square(action - self._action).sum(),
        }
        self._action = action
        self._steps += 1
        terminated = bool(fallen(self.robot, gravity))
        self._picture.show(self.simulation)
        return (
            observation,
            float(sum(terms.values())),
            terminated,
            self._steps >= EPISODE and not terminated,
            {'reward_components': {name: float(value) for name, value in terms.items()}},
        )

    def render(self) -> Any:
        """Picture (480, 640, 3) in mode rgb_array, else None."""
        return self._picture.draw(self.simulation)

    def close(self) -> None:
        """Close windows."""
        self._picture.close()

    def _observe(self) -> tuple[Array, FloatArray]:
        """Observation (2 J + 4,) and gravity in the body (3,)."""
        state = self.simulation.sense()
        gravity = rotations.gravity_in_body(state.orientation)[0]
        parts = (
            state.joint_position[0],
            state.joint_velocity[0],
            rotations.roll_pitch(gravity),
            state.angular_velocity[0, :2],
        )
        return np.concatenate(parts).astype(np.float32), gravity
