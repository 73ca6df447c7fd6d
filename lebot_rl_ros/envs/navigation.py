"""Navigation-v0: a point in the plane and a goal, as many tasks (Finn et al., 1703.03400)."""

from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

Array = npt.NDArray[Any]
Sight = Literal['hidden', 'shown']
Area = Literal['square', 'circle']
Reward = Literal['distance', 'squared']
STEP = 0.1  # of the plane, along each axis, for an action of 1
HORIZON = 20  # steps of an episode; the farthest goal is five away
SIDE = 0.5  # half the square, or the circle's radius


def sample_goals(area: Area, count: int, rng: np.random.Generator) -> Array:
    """Goals (count, 2), even in the square [-0.5, 0.5]² or on the circle of radius 0.5."""
    if area == 'square':
        return rng.uniform(-SIDE, SIDE, (count, 2))
    angle = rng.uniform(-np.pi, np.pi, count)
    return SIDE * np.stack((np.cos(angle), np.sin(angle)), axis=1)


def oracle(position: Array, goal: Array) -> Array:
    """The best actions (N, 2) for who knows the goal: straight there, and stay."""
    return np.clip((goal - position) / STEP, -1.0, 1.0)


class Points:
    """N points, each with its goal: the numbers behind both environments.

    * Observation: position (2,), starting at the origin; with the goal shown also the goal (2,).
    * Action: (2,) in [-1, 1], a move of up to 0.1 along each axis.
    * Reward: minus the squared distance to the goal after the move, as in the paper; or minus
      the distance, of which the slope says where the goal is but not how far.
    * An episode is truncated after 20 steps; nothing terminates it.
    """

    def __init__(self, count: int, goal: Sight, area: Area, reward: Reward) -> None:
        """Begin at the origin with no goal; see :meth:`reset`.

        Raises:
            ValueError: unknown ``goal``, ``area`` or ``reward``.
        """
        for name, value, choices in (
            ('goal', goal, ('hidden', 'shown')),
            ('area', area, ('square', 'circle')),
            ('reward', reward, ('distance', 'squared')),
        ):
            if value not in choices:
                raise ValueError(f'{name} is {value!r}, must be {" or ".join(choices)}')
        self.count, self.shown, self.area = count, goal == 'shown', area
        self.squared = reward == 'squared'
        self.position = np.zeros((count, 2))
        self.goal = np.zeros((count, 2))
        self.age = np.zeros(count, dtype=np.int64)  # steps
        self.pinned = False  # goals were told, and stay

    def spaces(self) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
        """Of one observation and one action."""
        reach = [HORIZON * STEP] * 2 + [SIDE] * 2 * self.shown
        high = np.array(reach, dtype=np.float32)
        return (
            gymnasium.spaces.Box(-high, high, dtype=np.float32),
            gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32),
        )

    def set_task(self, goals: Array | None) -> None:
        """Keep these goals (N, 2) from the next reset on; None draws anew at every reset.

        Raises:
            ValueError: not one goal for each point, or one is not finite.
        """
        self.pinned = goals is not None
        if goals is None:
            return
        goals = np.asarray(goals, dtype=float)
        if goals.shape != self.goal.shape or not np.isfinite(goals).all():
            raise ValueError(
                f'tasks have shape {goals.shape}, must be finite goals {self.goal.shape}'
            )
        self.goal = goals.copy()

    def reset(self, which: npt.NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Put points (N,) back to the origin, with new goals unless goals were told."""
        self.position[which] = 0.0
        self.age[which] = 0
        if not self.pinned:
            self.goal[which] = sample_goals(self.area, int(which.sum()), rng)

    def move(self, actions: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Move by actions (N, 2); rewards (N,) and whose time is up (N,)."""
        self.position = self.position + STEP * np.clip(actions, -1.0, 1.0)
        self.age += 1
        square = np.square(self.goal - self.position).sum(axis=1)
        return -(square if self.squared else np.sqrt(square)), self.age >= HORIZON

    def observe(self) -> Array:
        """(N, 2 or 4) float32."""
        parts = (self.position, self.goal) if self.shown else (self.position,)
        return np.concatenate(parts, axis=1).astype(np.float32)


class NavigationEnv(gymnasium.Env[Array, Array]):
    """One point; see :class:`Points`."""

    metadata = {'render_modes': []}  # noqa: RUF012

    def __init__(
        self, goal: Sight = 'hidden', area: Area = 'square', reward: Reward = 'squared'
    ) -> None:
        """Show the goal to the policy or hide it; see :class:`Points` for the rest."""
        self.points = Points(1, goal, area, reward)
        self.observation_space, self.action_space = self.points.spaces()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode: observation (2 or 4,) and an empty info."""
        super().reset(seed=seed)
        self.points.reset(np.ones(1, dtype=bool), self.np_random)
        return self.points.observe()[0], {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move by an action (2,)."""
        reward, late = self.points.move(np.asarray(action, dtype=float)[None])
        return self.points.observe()[0], float(reward[0]), False, bool(late[0]), {}

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Array:
        """Goals (count, 2)."""
        return sample_goals(self.points.area, count, rng)

    def set_task(self, tasks: Array | None) -> None:
        """Keep the goal (1, 2) from the next reset on; None draws one at every reset."""
        self.points.set_task(tasks)

    def oracle(self) -> Array:
        """What who knows the goal does now (2,)."""
        return oracle(self.points.position, self.points.goal)[0]


class NavigationVectorEnv(VectorEnv[Array, Array, Array]):
    """Many points in one array, each reset at once when its time is up.

    ``info['final_obs']`` then has the last observations, ``info['_final_obs']`` says whose.
    """

    metadata = {  # noqa: RUF012
        'render_modes': [],
        'autoreset_mode': AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        goal: Sight = 'hidden',
        area: Area = 'square',
        reward: Reward = 'squared',
    ) -> None:
        """``num_envs`` points; see :class:`NavigationEnv`."""
        self.num_envs = num_envs
        self.points = Points(num_envs, goal, area, reward)
        self.single_observation_space, self.single_action_space = self.points.spaces()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start all episodes: observations (N, 2 or 4) and an empty info.

        Raises:
            ValueError: a list of seeds; all points draw from one.
        """
        if isinstance(seed, list):
            raise ValueError(f'seed is {seed}: the points share one generator, so give one number')
        super().reset(seed=seed)
        self.points.reset(np.ones(self.num_envs, dtype=bool), self.np_random)
        return self.points.observe(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Move by actions (N, 2)."""
        reward, late = self.points.move(np.asarray(actions, dtype=float))
        info: dict[str, Any] = {}
        if late.any():
            info['final_obs'], info['_final_obs'] = self.points.observe(), late
            self.points.reset(late, self.np_random)
        return self.points.observe(), reward, np.zeros(self.num_envs, dtype=bool), late, info

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Array:
        """Goals (count, 2)."""
        return sample_goals(self.points.area, count, rng)

    def set_task(self, tasks: Array | None) -> None:
        """Keep goals (N, 2) from the next reset on; None draws new ones at every reset."""
        self.points.set_task(tasks)

    def oracle(self) -> Array:
        """What who knows the goals does now (N, 2)."""
        return oracle(self.points.position, self.points.goal)
