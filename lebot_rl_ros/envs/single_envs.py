"""Plain Gymnasium environments in a row."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from lebot_rl_ros.envs.bodies import COMPONENTS, Moved, no_tasks
from lebot_rl_ros.envs.spaces import space_of
from lebot_rl_ros.learning.method import Array, Box

RATE = 30.0  # Hz, of pictures, where the environment does not say


class SingleEnvs:
    """Plain environments in a row; leaner than Gymnasium's SyncVectorEnv, which copies twice."""

    staggered = False

    def __init__(self, name: str, makers: Sequence[Callable[[], gymnasium.Env[Any, Any]]]) -> None:
        """Build one environment by each maker."""
        self.name, self.envs = name, [make() for make in makers]
        self.count = len(self.envs)
        first = self.envs[0]
        self.observation_space = space_of(first.observation_space, name, 'observation')
        self.action_space = space_of(first.action_space, name, 'action')
        box = self.observation_space if isinstance(self.observation_space, Box) else None
        self._shape = box.shape if box else ()
        self._dtype = np.dtype(box.dtype if box else np.int64)
        self._steps = [env.step for env in self.envs]
        # Many environments assert that an action has exactly the type of their space.
        self._scalars = not isinstance(self.action_space, Box)
        self._kind = first.action_space.dtype
        self._options: list[dict[str, Any] | None] = [None] * self.count

    def reset(self, seed: int | None) -> Array:
        """Begin all episodes."""
        seeds: list[int | None] = [None] * self.count
        if seed is not None:
            seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(self.count)]
        observation = np.empty((self.count, *self._shape), self._dtype)
        for i, env in enumerate(self.envs):
            observation[i] = self._fitting(env.reset(seed=seeds[i], options=self._options[i])[0])
        return observation

    def step(self, action: Array) -> Moved:
        """Act, one environment after the other."""
        final = np.empty((self.count, *self._shape), self._dtype)
        reward = np.empty(self.count, np.float32)
        terminated, truncated = np.zeros(self.count, np.bool_), np.zeros(self.count, np.bool_)
        actions = action.tolist() if self._scalars else action.astype(self._kind, copy=False)
        shape, infos = self._shape, []
        first: dict[int, Any] = {}
        for i, step in enumerate(self._steps):
            seen, reward[i], over, cut, info = step(actions[i])
            final[i] = seen if np.shape(seen) == shape else self._fitting(seen)
            infos.append(info)
            if over or cut:
                terminated[i], truncated[i] = over, cut
                first[i] = self.envs[i].reset(options=self._options[i])[0]
        observation = final
        if first:
            observation = final.copy()
            for i, seen in first.items():
                observation[i] = self._fitting(seen)
        together: dict[str, Any] = {'each': infos}
        if COMPONENTS in infos[0]:
            together[COMPONENTS] = {
                name: np.array([info[COMPONENTS][name] for info in infos])
                for name in infos[0][COMPONENTS]
            }
        return Moved(observation, final, reward, terminated, truncated, together)

    def set_task(self, tasks: Any) -> None:
        """Tell each environment its task: by its own ``set_task``, or as an option of reset."""
        self._needs_tasks()
        for i, env in enumerate(self.envs):
            if hasattr(env.unwrapped, 'set_task'):
                env.unwrapped.set_task(None if tasks is None else tasks[i : i + 1])
            else:
                self._options[i] = None if tasks is None else {'task': tasks[i]}

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Any:
        """Draw tasks as the first environment does."""
        self._needs_tasks()
        return self.envs[0].unwrapped.sample_tasks(count, rng)  # type: ignore[attr-defined]

    @property
    def frame_rate(self) -> float:
        """As the first environment says."""
        return float(self.envs[0].metadata.get('render_fps') or RATE)

    def frame(self) -> Any:
        """What the first environment renders."""
        return self.envs[0].render()

    def close(self) -> None:
        """Close all."""
        for env in self.envs:
            env.close()

    def _fitting(self, seen: Any) -> Any:
        """An assignment would broadcast what has another shape."""
        if np.shape(seen) != self._shape:
            raise ValueError(f'an observation has shape {np.shape(seen)}, expected {self._shape}')
        return seen

    def _needs_tasks(self) -> None:
        if not hasattr(self.envs[0].unwrapped, 'sample_tasks'):
            raise no_tasks(self.name)
