"""The task behind LeBotVelocity-v0 as a world's body, without Gymnasium between."""

from typing import Any

import numpy as np

from lebot_rl_ros.envs.bodies import COMPONENTS, Moved, no_tasks
from lebot_rl_ros.envs.picture import Picture
from lebot_rl_ros.envs.velocity_task import VelocityTask
from lebot_rl_ros.learning.method import Array, Box, Space
from lebot_rl_ros.mdp.observations import LIMIT

PICTURE = 480, 360  # pixels; as wide as a GIF of it


class Robots:
    """Robots that follow commands; see :class:`VelocityTask`."""

    def __init__(
        self, name: str, task: VelocityTask, *, render_mode: str | None = None, stagger: bool
    ) -> None:
        """Take the task; ``stagger`` spreads the ages of the first episodes.

        Else all robots time out together, again and again.
        """
        self.name, self.task, self.count, self.staggered = name, task, task.robots, stagger
        size, joints = (task.observation_size,), (task.action_size,)
        bound = np.full(size, LIMIT, np.float32)
        self.observation_space: Space = Box(size, -bound, bound)
        one = np.ones(joints, np.float32)
        self.action_space: Space = Box(joints, -one, one)
        self._picture = Picture(render_mode, PICTURE)

    def reset(self, seed: int | None) -> Array:
        """Begin all episodes."""
        if seed is not None:
            self.task.seed(seed)
        observation = np.array(self.task.reset(), np.float32)
        if self.staggered:
            self.task.stagger()
        return observation

    def step(self, action: Array) -> Moved:
        """Act for one control period."""
        outcome = self.task.step(action.astype(np.float64))
        return Moved(
            np.asarray(outcome.observation, np.float32),
            np.asarray(outcome.final_observation, np.float32),
            outcome.reward,
            outcome.terminated,
            outcome.truncated,
            {COMPONENTS: outcome.terms},
        )

    def set_task(self, tasks: Any) -> None:
        """There are none."""
        raise no_tasks(self.name)

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Any:
        """There are none."""
        raise no_tasks(self.name)

    @property
    def frame_rate(self) -> float:
        """The control rate."""
        return float(self.task.robot.control_rate)

    def frame(self) -> Any:
        """Picture of the first robot."""
        return self._picture.draw(self.task.simulation)

    def close(self) -> None:
        """Give OpenGL back."""
        self._picture.close()
