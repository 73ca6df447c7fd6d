"""Worlds whose reward is shaped: what :mod:`shaped_reward` does, for the learning methods."""

from typing import Any

import numpy as np

from lebot_rl_ros.envs.bodies import COMPONENTS, Body, Moved
from lebot_rl_ros.envs.gym_world import GymWorld
from lebot_rl_ros.envs.shaped_reward import terms_for
from lebot_rl_ros.envs.shaping import Array, Shaper, Shaping, Transition
from lebot_rl_ros.envs.world import make_world


class ShapedBody:
    """A body with another reward; all that it does not do, the body does."""

    def __init__(self, body: Body, shaper: Shaper) -> None:
        """Shape the reward of ``body``."""
        self._body, self.shaper = body, shaper

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def reset(self, seed: int | None) -> Array:
        """Begin all episodes."""
        self._observation = self._body.reset(seed)
        return self._observation

    def step(self, action: Array) -> Moved:
        """Act (N, ...); info has `reward_components` and `own_reward`, (N,) each."""
        moved = self._body.step(action)
        components = self.shaper(
            Transition(
                observation=self._observation,
                action=action,
                next_observation=moved.final,
                terminated=moved.terminated,
                truncated=moved.truncated,
                own=moved.info.get(COMPONENTS, {}),
            )
        )
        self._observation = moved.observation
        info = {**moved.info, COMPONENTS: components, 'own_reward': moved.reward}
        reward = moved.reward
        if self.shaper.shaping.mode == 'replace':
            reward = sum(components.values(), np.zeros(len(moved.reward)))
        return moved._replace(reward=reward, info=info)


def make_shaped_world(
    env_id: str, count: int, seed: int = 0, shaping: Shaping | None = None, **kwargs: Any
) -> GymWorld:
    """Build a world of ``count`` environments with a shaped reward.

    Args:
        env_id: as ``LunarLander-v3``.
        count: how many, N.
        seed: of all draws.
        shaping: what is changed of the reward; default: nothing, which logs the components.
        **kwargs: for the environment.

    Raises:
        ValueError: as :func:`~lebot_rl_ros.envs.world.make_world`; or the environment has no
            terms, or none of these names.
    """
    terms = terms_for(env_id, getattr(kwargs.get('config'), 'reward', None))
    shaper = Shaper(shaping or Shaping(), terms)
    body = make_world(env_id, count, seed, **kwargs).body
    return GymWorld(env_id, ShapedBody(body, shaper), seed)
