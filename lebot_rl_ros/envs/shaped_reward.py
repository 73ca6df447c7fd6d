"""Gymnasium wrappers that shape the reward of one environment, or of many side by side.

Both tell, on every step, ``info['reward_components']`` (what the shaping gives, weighted and
scaled) and ``info['own_reward']`` (what the environment gave). Components sum to the shaped
reward; in mode `log` the reward is left alone all the same.
"""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper

from lebot_rl_ros.envs.lebot_terms import LEBOT_WALK, velocity_terms
from lebot_rl_ros.envs.lunar_lander import LUNAR_LANDER
from lebot_rl_ros.envs.shaping import Array, Shaper, Shaping, TermSet, Transition
from lebot_rl_ros.mdp.rewards import RewardConfig

ENVIRONMENTS = ('LunarLander-v3', 'LeBotWalk-v0', 'LeBotVelocity-v0')
COMPONENTS = 'reward_components'


def terms_for(name: str | None, reward: RewardConfig | None = None) -> TermSet:
    """Terms of an environment by its id; ``reward`` is that of LeBotVelocity-v0's task.

    Raises:
        ValueError: it has none here; the message gives the ids that do.
    """
    if name == 'LunarLander-v3':
        return LUNAR_LANDER
    if name == 'LeBotWalk-v0':
        return LEBOT_WALK
    if name == 'LeBotVelocity-v0':
        return velocity_terms(reward or RewardConfig())
    raise ValueError(f'no reward terms of {name}; environments are {", ".join(ENVIRONMENTS)}')


def terms_of(env: Any) -> TermSet:
    """Terms of an environment, or of many side by side; errors as :func:`terms_for`."""
    spec, single = env.spec, env.unwrapped
    if isinstance(single, SyncVectorEnv):
        spec, single = single.envs[0].spec, single.envs[0].unwrapped
    task = getattr(single, 'task', None)
    config = getattr(task, 'config', None)
    return terms_for(getattr(spec, 'id', None), getattr(config, 'reward', None))


class ShapedReward(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Shapes the reward of one environment."""

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        shaping: Shaping | None = None,
        terms: TermSet | None = None,
    ) -> None:
        """Wrap an environment.

        Args:
            env: whose reward it is.
            shaping: what is changed of it; default: nothing, which logs the components.
            terms: of the environment; default: by its id.

        Raises:
            ValueError: terms are not known, or the shaping names one that is not among them.
        """
        RecordConstructorArgs.__init__(self, shaping=shaping, terms=terms)
        gymnasium.Wrapper.__init__(self, env)
        self.shaper = Shaper(shaping or Shaping(), terms or terms_of(env))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._observation = np.array(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act; the reward is the shaped one, unless the mode is `log`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        before, self._observation = self._observation, np.array(observation)
        components = self.shaper(
            Transition(
                observation=before,
                action=np.asarray(action),
                next_observation=self._observation,
                terminated=np.asarray(terminated),
                truncated=np.asarray(truncated),
                own=info.get(COMPONENTS, {}),
            )
        )
        numbers = {name: float(value) for name, value in components.items()}
        info = {**info, COMPONENTS: numbers, 'own_reward': float(reward)}
        if self.shaper.shaping.mode == 'replace':
            reward = sum(numbers.values())
        return observation, float(reward), terminated, truncated, info


class ShapedRewardVector(VectorWrapper):
    """Shapes the rewards of N environments side by side; ``info`` has arrays (N,).

    Every mode of automatic reset is understood: a step that only resets (`NEXT_STEP`) is worth
    nothing, and where the reset came at once (`SAME_STEP`) the last observation is the judged one.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        shaping: Shaping | None = None,
        terms: TermSet | None = None,
    ) -> None:
        """Wrap environments; see :class:`ShapedReward`."""
        super().__init__(env)
        self.shaper = Shaper(shaping or Shaping(), terms or terms_of(env))
        self._reset_next = env.metadata.get('autoreset_mode') == AutoresetMode.NEXT_STEP
        self._restarting = np.zeros(env.num_envs, dtype=bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin all episodes."""
        observation, info = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self._observation = np.array(observation)
        self._restarting = np.zeros(self.num_envs, dtype=bool)
        return observation, info

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Act; rewards (N,) are the shaped ones, unless the mode is `log`."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        done = np.asarray(terminated | truncated)
        if self._restarting.all():  # nobody moved
            components = dict.fromkeys(self.shaper.names, np.zeros(self.num_envs))
        else:
            components = self.shaper(
                Transition(
                    observation=self._observation,
                    action=np.asarray(actions),
                    next_observation=_before_reset(observation, info, done),
                    terminated=np.asarray(terminated),
                    truncated=np.asarray(truncated),
                    own=_own(info, done),
                )
            )
        self._observation = np.array(observation)
        if self._reset_next:
            idle, self._restarting = self._restarting, done
            components = {name: np.where(idle, 0.0, v) for name, v in components.items()}
        info = {**info, COMPONENTS: components, 'own_reward': np.array(reward)}
        info.pop(f'_{COMPONENTS}', None)  # whose they are: everybody's, now
        if self.shaper.shaping.mode == 'replace':
            reward = sum(components.values(), np.zeros(self.num_envs))
        return observation, reward, terminated, truncated, info


def _before_reset(observation: Array, info: dict[str, Any], done: npt.NDArray[np.bool_]) -> Array:
    """Observations (N, O) as the actions left them."""
    found = np.array(observation)
    if 'final_obs' in info:
        for index in np.flatnonzero(done):
            found[index] = info['final_obs'][index]
    return found


def _own(info: dict[str, Any], done: npt.NDArray[np.bool_]) -> dict[str, Array]:
    """Components (N,) that the environments log; of an ended episode they lie in its last info."""
    now: dict[str, Any] = info.get(COMPONENTS, {})
    last: dict[str, Any] = info.get('final_info', {}).get(COMPONENTS, {})
    found = {}
    for name in (*now, *(name for name in last if name not in now)):
        if not name.startswith('_'):  # a mask, of Gymnasium's
            found[name] = np.array(now.get(name, np.zeros(len(done))), dtype=float)
            if name in last:
                found[name][done] = last[name][done]
    return found
