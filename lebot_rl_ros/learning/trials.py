"""Trials: several episodes of one task in a row, and what a policy remembers of them."""

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Array, BoolArray, Outcome
from lebot_rl_ros.learning.recurrent import RecurrentActorCritic
from lebot_rl_ros.learning.returns import compute_gae
from lebot_rl_ros.learning.rollouts import Rollouts


def trial_input(observation: Array, action: Array, reward: Array, done: Array) -> Array:
    """What the policy sees: (N, O + A + 2) float32.

    Args:
        observation: (N, O) now.
        action: (N, A) the last one, zeros at the start of a trial; choices as one-hot rows.
        reward: (N,) that it earned.
        done: (N,) whether it ended its episode, so that the observation begins the next.
    """
    rest = np.stack((reward, done), axis=1)
    return np.concatenate((observation, action, rest), axis=1).astype(np.float32)


class Memory:
    """What N policies remember of their trials: hidden state, last action, reward and end."""

    def __init__(self, network: RecurrentActorCritic, count: int, actions: int) -> None:
        """Begin N trials."""
        self.network = network
        self.hidden = network.start(count)
        self.action = np.zeros((count, actions), dtype=np.float32)
        self.reward = np.zeros(count, dtype=np.float32)
        self.done = np.zeros(count, dtype=np.float32)

    def input(self, observation: Array) -> Array:
        """What goes into the network now (N, I)."""
        return trial_input(observation, self.action, self.reward, self.done)

    def acted(self, action: Array, hidden: Tensor) -> None:
        """Take what was done: Box actions (N, A) or choices (N,), and the new hidden state."""
        self.hidden = hidden
        if action.ndim == 1:
            self.action = np.eye(self.action.shape[1], dtype=np.float32)[action]
        else:
            self.action = action.astype(np.float32)

    def see(self, outcome: Outcome) -> None:
        """Take what came of it. The end of an episode is seen, but makes nobody forget."""
        self.reward = np.asarray(outcome.reward, dtype=np.float32)
        self.done = outcome.done.astype(np.float32)

    def forget(self, which: BoolArray) -> None:
        """Begin new trials there: another task."""
        self.hidden = torch.where(torch.from_numpy(which)[:, None], 0.0, self.hidden)
        self.action = np.where(which[:, None], 0.0, self.action).astype(np.float32)
        self.reward[which] = 0.0
        self.done[which] = 0.0


def trial_gae(
    rewards: Array, values: Array, *, discount: float, trace: float
) -> tuple[Array, Array]:
    """Advantages and returns (T, N) of trials: they end after T steps, and not before.

    The end of an episode cuts nothing: what is found out in the first is worth what it earns in
    the second.
    """
    last = np.zeros(rewards.shape, dtype=bool)
    last[-1] = True
    following = np.concatenate((values[1:], np.zeros_like(values[:1])))
    return compute_gae(
        rewards, values, following, last, np.zeros_like(last), discount=discount, trace=trace
    )


def episode_returns(trials: Rollouts, episodes: int) -> Array:
    """Returns (episodes, N) by the episode's place in its trial; NaN where it did not begin."""
    place: Array = np.cumsum(trials.done, axis=0) - trials.done
    result = np.full((episodes, trials.rewards.shape[1]), np.nan)
    for i in range(episodes):
        there: Array = place == i
        result[i] = np.where(there.any(axis=0), (trials.rewards * there).sum(axis=0), np.nan)
    return result
