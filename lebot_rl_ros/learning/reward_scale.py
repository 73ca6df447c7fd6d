"""Rewards of any size, brought to one that a critic learns well."""

import numpy as np
import torch
from torch import nn

from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.policy.networks import Normaliser
from lebot_rl_ros.policy.runtime import EPSILON


class RewardScale(nn.Module):
    """Divides rewards by the spread of discounted returns, so that a critic's errors are near 1.

    As in VecNormalize of OpenAI Baselines: the mean stays, so that signs stay.
    """

    LARGEST = 10.0  # scaled rewards are cut there

    def __init__(self, discount: float) -> None:
        """Start as the identity."""
        super().__init__()
        self.discount = discount
        self.returns = Normaliser(1)
        self._running: Array | None = None  # (N,) return of each episode so far

    def start_over(self) -> None:
        """All episodes begin anew."""
        self._running = None

    def scale(self, rewards: Array, done: Array) -> Array:
        """Look at a rollout's rewards (T, N) and ends of episodes, and return them scaled."""
        running = np.zeros(rewards.shape[1]) if self._running is None else self._running
        if running.shape != rewards.shape[1:]:
            running = np.zeros(rewards.shape[1])
        returns = np.empty_like(rewards)
        for t, reward in enumerate(rewards):
            running = self.discount * running + reward
            returns[t] = running
            running = running * ~done[t]
        self._running = running
        self.returns.update(torch.from_numpy(returns.reshape(-1, 1)))
        factor = 1.0 / np.sqrt(float(self.returns.var) + EPSILON)
        return np.clip(rewards * np.float32(factor), -self.LARGEST, self.LARGEST)
