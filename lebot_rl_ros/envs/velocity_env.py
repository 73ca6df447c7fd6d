"""LeBotVelocity-v0: follow a commanded speed and yaw rate, as one environment or as many."""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from lebot_rl_ros.envs.picture import MODES, Picture, components
from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.mdp.observations import LIMIT
from lebot_rl_ros.robot import load_robot

Array = npt.NDArray[Any]
RATE = round(1.0 / 0.02)  # Hz, of the pictures


def _spaces(task: VelocityTask) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    return (
        gymnasium.spaces.Box(-LIMIT, LIMIT, (task.observation_size,), np.float32),
        gymnasium.spaces.Box(-1.0, 1.0, (task.action_size,), np.float32),
    )


class LeBotVelocityEnv(gymnasium.Env[Array, Array]):
    """One robot, told a new speed and yaw rate every few seconds and rewarded for following.

    Observation and action are those of the shipped policy; the reward knows only what the robot
    can sense. An episode is terminated by a fall and truncated after ``config.episode`` seconds.
    """

    metadata = {'render_modes': MODES, 'render_fps': RATE}  # noqa: RUF012

    def __init__(
        self,
        robot: str = 'lebot',
        config: VelocityConfig | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Build the simulation of a robot, by name or by the path of its table."""
        self.render_mode = render_mode
        self._picture = Picture(render_mode)
        self.task = VelocityTask(load_robot(robot), 1, config)
        self.observation_space, self.action_space = _spaces(self.task)
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode: observation (O,) and an empty info."""
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.task.seed(int(self.np_random.integers(2**31)) if seed is None else seed)
            self._seeded = True
        observation = self.task.reset()[0]
        self._picture.show(self.task.simulation)
        return observation, {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Apply an action (J,) for one control period."""
        outcome = self.task.step(np.asarray(action, dtype=float)[None], restart=False)
        self._picture.show(self.task.simulation)
        return (
            outcome.final_observation[0],
            float(outcome.reward[0]),
            bool(outcome.terminated[0]),
            bool(outcome.truncated[0]),
            {'reward_components': components(outcome.terms)},
        )

    def render(self) -> Any:
        """Picture (480, 640, 3) in mode rgb_array, else None."""
        return self._picture.draw(self.task.simulation)

    def close(self) -> None:
        """Close windows."""
        self._picture.close()


class LeBotVelocityVectorEnv(VectorEnv[Array, Array, Array]):
    """Many robots in one simulation, on threads. A robot whose episode ends is reset at once.

    Where it was, ``info['final_obs']`` has the last observation of the episode that ended, and
    ``info['_final_obs']`` says for whom.
    """

    metadata = {  # noqa: RUF012
        'render_modes': MODES,
        'render_fps': RATE,
        'autoreset_mode': AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        robot: str = 'lebot',
        config: VelocityConfig | None = None,
        render_mode: str | None = None,
        threads: int = 2,
    ) -> None:
        """Build the simulation of ``num_envs`` robots."""
        self.num_envs, self.render_mode = num_envs, render_mode
        self._picture = Picture(render_mode)
        self.task = VelocityTask(load_robot(robot), num_envs, config, threads=threads)
        self.single_observation_space, self.single_action_space = _spaces(self.task)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seeded = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start all episodes: observations (N, O) and an empty info.

        Raises:
            ValueError: a list of seeds; all robots draw from one.
        """
        if isinstance(seed, list):
            raise ValueError(
                f'seed is {seed}: the robots share one simulation, so give one number'
            )
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.task.seed(int(self.np_random.integers(2**31)) if seed is None else seed)
            self._seeded = True
        return self.task.reset(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Apply actions (N, J) for one control period; info has arrays (N,) of reward terms."""
        outcome = self.task.step(np.asarray(actions, dtype=float))
        self._picture.show(self.task.simulation)
        info: dict[str, Any] = {'reward_components': outcome.terms}
        done = outcome.terminated | outcome.truncated
        if done.any():
            info['final_obs'], info['_final_obs'] = outcome.final_observation, done
        return outcome.observation, outcome.reward, outcome.terminated, outcome.truncated, info

    def render(self) -> Any:
        """Pictures of the first robot, as a tuple of one, in mode rgb_array; else None."""
        picture = self._picture.draw(self.task.simulation)
        return None if picture is None else (picture,)

    def close_extras(self, **kwargs: Any) -> None:
        """Close windows."""
        self._picture.close()
