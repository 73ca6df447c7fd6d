"""Gymnasium's vector environments, where they reset as a world must."""

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv

from lebot_rl_ros.envs.bodies import Moved, no_tasks
from lebot_rl_ros.envs.single_envs import RATE
from lebot_rl_ros.envs.spaces import space_of
from lebot_rl_ros.learning.method import Array, BoolArray, Box


class ManyEnvs:
    """A vector environment in mode SAME_STEP."""

    staggered = False

    def __init__(self, name: str, env: VectorEnv[Any, Any, Any]) -> None:
        """Take the environment.

        Raises:
            ValueError: it resets in another mode, so that final observations would be lost.
        """
        mode = env.metadata.get('autoreset_mode')
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f'{name} resets in mode {mode}, must be {AutoresetMode.SAME_STEP}: '
                f'else a step without effect follows every episode'
            )
        self.name, self.env, self.count = name, env, env.num_envs
        self.observation_space = space_of(env.single_observation_space, name, 'observation')
        self.action_space = space_of(env.single_action_space, name, 'action')
        box = isinstance(self.observation_space, Box)
        self._dtype = np.dtype(self.observation_space.dtype if box else np.int64)  # type: ignore[union-attr]

    def reset(self, seed: int | None) -> Array:
        """Begin all episodes."""
        return np.array(self.env.reset(seed=seed)[0], self._dtype)

    def step(self, action: Array) -> Moved:
        """Act, all at once."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        observation = np.asarray(seen, self._dtype)
        final, done = observation, terminated | truncated
        if done.any():
            if 'final_obs' not in info:
                raise ValueError('an episode ended, and info has no final_obs')
            final = observation.copy()
            for i in np.flatnonzero(done):
                final[i] = info['final_obs'][i]
        return Moved(observation, final, reward, terminated, truncated, info)

    def set_task(self, tasks: Any) -> None:
        """Tell the environment its N tasks."""
        self._needs_tasks()
        self.env.unwrapped.set_task(tasks)  # type: ignore[attr-defined]

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Any:
        """Draw tasks as the environment does."""
        self._needs_tasks()
        return self.env.unwrapped.sample_tasks(count, rng)  # type: ignore[attr-defined]

    @property
    def frame_rate(self) -> float:
        """As the environment says."""
        return float(self.env.metadata.get('render_fps') or RATE)

    def frame(self) -> Any:
        """What is rendered first."""
        frames = self.env.render()
        return frames[0] if frames else None

    def close(self) -> None:
        """Close it."""
        self.env.close()

    def _needs_tasks(self) -> None:
        if not hasattr(self.env.unwrapped, 'set_task'):
            raise no_tasks(self.name)


class SameStepCartPole(CartPoleVectorEnv):
    """Gymnasium's many cart-poles, which are reset in the step in which they end.

    Gymnasium's own class lets a step without effect follow each episode. The numbers are its own
    to the last bit, in half the time: actions were checked already, and arrays are reused.
    """

    metadata = {**CartPoleVectorEnv.metadata, 'autoreset_mode': AutoresetMode.SAME_STEP}  # noqa: RUF012

    def step(self, action: Array) -> tuple[Array, Array, BoolArray, BoolArray, dict[str, Any]]:
        """Push each cart left (0) or right (1) for 20 ms, and begin the next episodes.

        The equations are those of Barto, Sutton and Anderson (1983), without friction.
        """
        state: Array = np.asarray(self.state)  # itself, no copy
        x, x_speed, angle, spin = state
        cos, sin, moment, mass = np.cos(angle), np.sin(angle), self.polemass_length, self.masspole
        force = (2 * action - 1) * self.force_mag
        push = (force + moment * np.square(spin) * sin) / self.total_mass
        angular = (self.gravity * sin - cos * push) / (
            self.length * (4.0 / 3.0 - mass * np.square(cos) / self.total_mass)
        )
        linear = push - moment * angular * cos / self.total_mass
        rates = np.stack((x_speed, linear, spin, angular))
        rates *= self.tau
        state += rates  # Euler: positions go on with the speeds from before
        terminated = np.abs(x) > self.x_threshold
        terminated |= np.abs(angle) > self.theta_threshold_radians
        self.steps += 1
        truncated = self.steps >= self.max_episode_steps
        reward = np.ones(self.num_envs, np.float32)
        observation, info = state.T.astype(np.float32), {}
        done = terminated | truncated
        if done.any():
            info['final_obs'] = observation
            state[:, done] = self.np_random.uniform(self.low, self.high, (4, int(done.sum())))
            self.steps[done] = 0
            observation = state.T.astype(np.float32)
        return observation, reward, terminated, truncated, info
