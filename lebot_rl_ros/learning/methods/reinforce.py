"""REINFORCE, the Monte Carlo policy gradient (Williams, Machine Learning 8, 1992)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from lebot_rl_ros.learning.method import Array, BoolArray, Metrics, Space, State, World
from lebot_rl_ros.learning.methods.policy_gradient import PolicyGradient, PolicyGradientConfig
from lebot_rl_ros.learning.returns import discounted_returns, explained_variance, normalise
from lebot_rl_ros.learning.rollouts import Rollouts, collect_episodes

BASELINES = ('none', 'mean', 'value')


@dataclass(frozen=True)
class ReinforceConfig(PolicyGradientConfig):
    """Which returns, less which baseline, weigh the log-probabilities of the actions."""

    episodes: int = 1  # whole ones of each environment before an update
    baseline: Literal['none', 'mean', 'value'] = 'value'  # what is subtracted from the returns
    baseline_rate: float = 0.1  # of 'mean', a running one for every time of an episode
    normalise: bool = True  # returns less baseline to mean 0 and variance 1 over the update
    value_steps: int = 5  # of the critic along its gradient for one of the policy; for 'value'
    discount_states: bool = False  # weigh step t by discount^t; exact, but blind to late steps
    longest: int = 100_000  # steps after which an episode that does not end is an error

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline not in BASELINES:
            raise ValueError(f'baseline is {self.baseline!r}; choices are {", ".join(BASELINES)}')
        if self.episodes < 1:
            raise ValueError(f'episodes is {self.episodes}; it must be 1 or more')


def episode_times(done: BoolArray) -> Array:
    """(T, N) int64: steps since the beginning of the episode, or of the rollout."""
    times = np.zeros(done.shape, dtype=np.int64)
    for t in range(1, len(done)):
        times[t] = np.where(done[t - 1], 0, times[t - 1] + 1)
    return times


class Reinforce(PolicyGradient[ReinforceConfig]):
    """After whole episodes, one step along sum(grad log pi(a) (return - baseline))."""

    name: ClassVar[str] = 'reinforce'
    reference: ClassVar[str] = 'Williams, Machine Learning 8 (1992) 229-256'

    def __init__(
        self, config: ReinforceConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """See :class:`PolicyGradient`."""
        super().__init__(config, observation_space, action_space, seed)
        self.mean = np.zeros(0)  # of the returns at each time of an episode, for 'mean'

    def iterate(self, world: World) -> Metrics:
        """Play whole episodes, then step once."""
        config = self.config
        rollouts = collect_episodes(world, self.sample, config.episodes, longest=config.longest)
        returns, baseline = self.returns(rollouts)
        loss, entropy = self.loss(rollouts, returns - baseline)
        self.descend(loss, None)
        chosen = rollouts.mask
        metrics = {
            'policy_loss': float(loss.detach()),
            'entropy': float(entropy),
            'learning_rate': self.rates[0](self.progress),
            'episode_steps': float(chosen.sum()) / (world.count * config.episodes),
        }
        if config.baseline == 'mean':
            self._follow(returns, episode_times(rollouts.done), chosen)
        if config.baseline == 'value':
            metrics['value_loss'] = self._fit(rollouts.observations[chosen], returns[chosen])
        if config.baseline != 'none':
            metrics['explained_variance'] = explained_variance(baseline[chosen], returns[chosen])
        self.watch(rollouts.observations[chosen])
        return metrics

    def returns(self, rollouts: Rollouts) -> tuple[Array, Array]:
        """Returns and baselines (T, N).

        With a critic, an episode that was truncated goes on as the critic expects. Without one
        there is nothing to say what came after: its return is what was seen, so that the time
        limit becomes part of the task.
        """
        config, next_values = self.config, None
        baseline = np.zeros_like(rollouts.rewards)
        if config.baseline == 'value':
            baseline, next_values = rollouts.values(self.predict)
        elif config.baseline == 'mean':
            times = episode_times(rollouts.done)
            known = np.zeros(max(len(self.mean), int(times.max()) + 1))
            known[: len(self.mean)] = self.mean
            baseline = known[times].astype(np.float32)
        returns = discounted_returns(
            rollouts.rewards,
            rollouts.terminated,
            rollouts.truncated,
            next_values,
            discount=config.discount,
        )
        return returns, baseline

    def loss(self, rollouts: Rollouts, advantages: Array) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss whose gradient is minus that of the expected return of an episode; entropy."""
        chosen = rollouts.mask
        advantages = advantages[chosen]
        if self.config.normalise:
            advantages = normalise(advantages)
        # The same number from each environment, so their mean is over episodes, not over steps.
        episodes = int((rollouts.done & chosen).sum())
        share = np.full(len(advantages), 1.0 / episodes)
        if self.config.discount_states:
            share *= self.config.discount ** episode_times(rollouts.done)[chosen]
        features = self.features(rollouts.observations[chosen])
        weights = np.stack((share * advantages, share))
        return self.policy_loss(features, rollouts.actions[chosen], weights)

    def _fit(self, observations: Array, returns: Array) -> float:
        """Steps of the critic towards the returns; the loss before them."""
        features, target = self.features(observations), torch.from_numpy(returns)
        losses = []
        for _ in range(self.config.value_steps):
            loss = (self.values(features) - target).square().mean()
            self.descend(None, loss)
            losses.append(float(loss.detach()))
        return losses[0] if losses else 0.0

    def _follow(self, returns: Array, times: Array, chosen: BoolArray) -> None:
        """Move the running mean of each time towards that of these episodes."""
        times, returns = times[chosen], returns[chosen]
        count = np.bincount(times, minlength=len(self.mean))
        now = np.bincount(times, returns, minlength=len(self.mean)) / np.maximum(count, 1)
        before = np.concatenate((self.mean, now[len(self.mean) :]))  # a new time begins with it
        self.mean = before + self.config.baseline_rate * np.where(count > 0, now - before, 0.0)

    def state(self) -> State:
        """With the running mean."""
        return {**super().state(), 'baseline': self.mean.copy()}

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave."""
        if 'baseline' not in state:
            raise ValueError(f'{self.name}: the state has no baseline')
        super().load_state(state)
        self.mean = np.array(state['baseline'], dtype=np.float64)
