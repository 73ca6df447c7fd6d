"""The other side of `lebot benchmark methods`: stable-baselines3, set up as its zoo does."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

import lebot_rl_ros.envs  # noqa: F401  (registers ours)
from lebot_rl_ros.cli.benchmark_cells import Cell
from lebot_rl_ros.learning.method import Array

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

ACTIVATIONS = {'tanh': torch.nn.Tanh, 'relu': torch.nn.ReLU, 'elu': torch.nn.ELU}
Judge = Callable[[int, Callable[[Array], Array]], None]


class PeerVecEnv(VecEnv):
    """A vector environment of ours that resets itself, as stable-baselines3 wants it."""

    def __init__(self, env: 'VectorEnv[Any, Any, Any]') -> None:
        """Wrap ``env``; its autoreset gives final observations in the same step."""
        self.render_mode = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.env = env
        self._actions: Array = np.empty(0)

    def reset(self) -> Any:
        """Begin."""
        return self.env.reset(seed=self._seeds[0])[0]

    def step_async(self, actions: Array) -> None:
        """Keep the actions."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Apply them."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            infos[i]['terminal_observation'] = info['final_obs'][i]
            infos[i]['TimeLimit.truncated'] = bool(truncated[i] and not terminated[i])
        return observation, reward, done, infos

    def close(self) -> None:
        """Leave."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Nothing is asked for but the render mode."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Nothing can be set."""

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kw: Any) -> Any:
        """Nothing can be called."""
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """None is."""
        return [False] * self.num_envs


def make_env(cell: Cell, seed: int) -> VecEnv:
    """As its users make it, or LeBot as our vector environment, on which it is far quicker."""
    if cell.env.startswith('LeBot') and not cell.singles:
        import gymnasium

        env = PeerVecEnv(gymnasium.make_vec(cell.env, cell.ours.envs, **cell.kwargs))
        env.seed(seed)
        return env
    return make_vec_env(cell.env, cell.ours.envs, seed=seed, env_kwargs=dict(cell.kwargs))


class _Judge(BaseCallback):
    """Stops the clock every ``every`` steps and has the policy judged."""

    def __init__(self, every: int, clock: Any, judge: Judge) -> None:
        super().__init__()
        self._every, self._due, self._clock, self._judge = every, every, clock, judge

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._due:
            self._due += self._every
            self._clock.stop()
            self._judge(self.num_timesteps, self._act)
            self._clock.start()
        return True

    def _act(self, observation: Array) -> Array:
        normaliser = self.model.get_vec_normalize_env()
        if normaliser is not None:
            observation = np.asarray(normaliser.normalize_obs(observation))
        return self.model.predict(observation, deterministic=True)[0]


def _arguments(cell: Cell, env: VecEnv) -> dict[str, Any]:
    given = dict(cell.theirs)
    for name, value in given.items():
        if isinstance(value, str) and value.startswith('lin_'):
            start = float(value[4:])
            given[name] = lambda left, start=start: left * start
    if 'action_noise' in given:
        std = given['action_noise'] * np.ones(env.action_space.shape or (1,))
        given['action_noise'] = NormalActionNoise(np.zeros_like(std), std)
    policy: Mapping[str, Any] = given.pop('policy_kwargs', {})
    given['policy_kwargs'] = {
        'net_arch': list(cell.hidden), 'activation_fn': ACTIVATIONS[cell.activation], **policy,
    }  # fmt: skip
    return given


def train(cell: Cell, seed: int, clock: Any, every: int, judge: Judge) -> None:
    """Train a model, judged every ``every`` steps while ``clock`` stands still."""
    env = make_env(cell, seed)
    if cell.normalise:
        env = VecNormalize(env, norm_reward=False)
    algorithm = getattr(stable_baselines3, cell.peer)
    model = algorithm('MlpPolicy', env, seed=seed, device='cpu', **_arguments(cell, env))
    model.learn(cell.budget, callback=_Judge(every, clock, judge))
    env.close()
