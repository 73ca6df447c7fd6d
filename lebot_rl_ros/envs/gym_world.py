"""The world of the learning methods: environments side by side, checked in every step."""

import math
from typing import Any

import numpy as np

from lebot_rl_ros.envs.bodies import Body
from lebot_rl_ros.learning.method import Array, Box, Discrete, Outcome


class GymWorld:
    """N environments that start over by themselves. See ``learning.method.World``."""

    def __init__(self, name: str, body: Body, seed: int = 0) -> None:
        """Begin all episodes, with draws from ``seed``."""
        self.name, self.body, self.count = name, body, body.count
        self.observation_space, self.action_space = body.observation_space, body.action_space
        self.steps = 0
        self.finished: list[tuple[float, int]] = []
        self._returns, self._lengths = np.zeros(self.count), np.zeros(self.count, np.int64)
        self._whole = np.ones(self.count, np.bool_)  # the episode began at its beginning
        self._shape = (self.count, *_shape(self.observation_space))
        self._action_shape = (self.count, *_shape(self.action_space))
        self._real = isinstance(self.observation_space, Box) and (
            self.observation_space.dtype != 'uint8'  # which is always finite
        )
        self.observation = self._begin(seed)

    def step(self, action: Array) -> Outcome:
        """Act (N, ...); what leaves the action space is clipped to it.

        Raises:
            ValueError: an action, observation or reward is not finite, or its shape is another
                than at the start; the message names the environment, the value and the step.
        """
        action = self._fitting(action)
        self.steps += self.count
        try:
            moved = self.body.step(action)
        except ValueError as error:
            raise ValueError(f'{self._where()}: {error}') from error
        observation, final, reward = moved.observation, moved.final, moved.reward
        reward = np.asarray(reward, np.float32)
        if observation.shape != self._shape:
            raise self._changed('observation', observation.shape, self._shape)
        if reward.shape != (self.count,):
            raise self._changed('reward', reward.shape, (self.count,))
        self._finite('reward', reward)
        if self._real:
            self._finite('observation', final)
        self._returns += reward
        self._lengths += 1
        truncated, done = moved.truncated, moved.terminated | moved.truncated
        if done.any():
            if self._real:
                self._finite('observation', observation)
            truncated = moved.truncated & ~moved.terminated  # what is over was not cut
            for i in np.flatnonzero(done):
                if self._whole[i]:
                    self.finished.append((float(self._returns[i]), int(self._lengths[i])))
                self._returns[i], self._lengths[i], self._whole[i] = 0.0, 0, True
        self.observation = observation
        return Outcome(observation, final, reward, moved.terminated, truncated, moved.info)

    def restart(self, seed: int) -> None:
        """Drop all episodes and begin new ones whose draws start over; equal seeds repeat."""
        self.observation = self._begin(seed)

    def set_task(self, tasks: Any) -> None:
        """Begin new episodes, of these N tasks; None draws one for each episode again.

        Raises:
            ValueError: this environment has no tasks, or there are not N.
        """
        if tasks is not None and len(tasks) != self.count:
            raise ValueError(
                f'{self.name}: {len(tasks)} tasks for {self.count} environments; give one each'
            )
        self.body.set_task(tasks)
        self.observation = self._begin(None)

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Any:
        """Draw tasks, for :meth:`set_task`.

        Raises:
            ValueError: this environment has no tasks.
        """
        return self.body.sample_tasks(count, rng)

    def frame(self) -> Any:
        """Picture (H, W, 3) uint8 of the first environment; None without a render mode."""
        return self.body.frame()

    @property
    def frame_rate(self) -> float:
        """Pictures that make a second, Hz."""
        return self.body.frame_rate

    def close(self) -> None:
        """Close windows and the like."""
        self.body.close()

    def _begin(self, seed: int | None) -> Array:
        observation = self.body.reset(seed)
        self._returns[:], self._lengths[:], self._whole[:] = 0.0, 0, not self.body.staggered
        if observation.shape != self._shape:
            raise ValueError(
                f'{self._where()}: the first observations have shape {observation.shape}, '
                f'expected {self._shape}'
            )
        if self._real:
            self._finite('observation', observation)
        return observation

    def _fitting(self, action: Array) -> Array:
        action = np.asarray(action)
        if action.shape != self._action_shape:
            raise ValueError(
                f'{self._where()}: actions have shape {action.shape}, '
                f'expected {self._action_shape}'
            )
        space = self.action_space
        if isinstance(space, Discrete):
            whole = action.dtype.kind in 'iu'
            # A negative number is huge when its bits are read as an unsigned one.
            if not whole or action.astype(np.int64, copy=False).view(np.uint64).max() >= space.n:
                raise ValueError(
                    f'{self._where()}: actions are {action.tolist()}, must be whole numbers '
                    f'from 0 to {space.n - 1}'
                )
            return action.astype(np.int64, copy=False)
        self._finite('action', action)
        clipped: Array = np.minimum(np.maximum(action, space.low), space.high)
        return clipped

    def _finite(self, what: str, array: Array) -> None:
        # The sum of squares is finite if all are, or it has overflown; it costs a third of
        # isfinite and all.
        if math.isfinite(np.vdot(array, array)) or np.isfinite(array).all():
            return
        bad = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f'{self._where()}: {what} is {array[bad]} at index {bad[1:]} of environment {bad[0]}'
            if len(bad) > 1
            else f'{self._where()}: {what} is {array[bad]} in environment {bad[0]}'
        )

    def _changed(self, what: str, now: tuple[int, ...], before: tuple[int, ...]) -> ValueError:
        return ValueError(f'{self._where()}: {what} has shape {now}, was {before} before')

    def _where(self) -> str:
        return f'{self.name}, step {self.steps}'


def _shape(space: Box | Discrete) -> tuple[int, ...]:
    return space.shape if isinstance(space, Box) else ()
