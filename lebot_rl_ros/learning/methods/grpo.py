"""GRPO: what a group of episodes from one start earned stands in for a critic.

Shao et al., arXiv 2402.03300. With options of DAPO (Yu et al., arXiv 2503.14476) and of Dr. GRPO
(Liu et al., arXiv 2503.20783).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.episodes import Episodes, Starts, join, play_groups
from lebot_rl_ros.learning.groups import (
    FloatArray,
    group_advantages,
    informative,
    overlong_penalty,
    step_weights,
)
from lebot_rl_ros.learning.method import Metrics, Space, State, World
from lebot_rl_ros.learning.methods.reference_policy import ReferencePolicy
from lebot_rl_ros.learning.methods.stochastic_policy import StochasticPolicyConfig
from lebot_rl_ros.learning.schedules import Schedule


@dataclass(frozen=True)
class GRPOConfig(StochasticPolicyConfig):
    """How episodes are grouped, compared and learned from."""

    group_size: int = 8  # episodes of a group, at least
    starts: Starts = 'auto'  # what a group shares, see `play_groups`: task, seed or any
    window: int = 128  # steps in which episodes begin before an update; with seed only one does
    longest: int = 1000  # steps of an episode, after which it is cut
    scale: bool = True  # advantages in standard deviations of the group; Dr. GRPO: false
    per: Literal['step', 'episode'] = 'step'  # what has equal weight; GRPO: episode, DAPO: step
    clip_low: str | float = 0.2  # largest fall of the ratio that still earns anything; a schedule
    clip_high: str | float = 0.2  # largest rise; DAPO: 0.28, so that rare actions can grow
    kl_coefficient: float = 0.0  # of the KL to the reference (k3); GRPO: 0.04, DAPO: 0
    reference_every: int = 0  # updates after which the policy becomes the reference; 0 is never
    entropy_coefficient: float = 0.0  # nats are worth so much of an advantage
    dynamic_sampling: bool = False  # drop groups that do not differ, and play more (DAPO)
    rounds: int = 4  # of playing for one update, at most; for dynamic sampling
    overlong: Literal['keep', 'mask'] = 'keep'  # mask: do not learn from cut episodes (DAPO)
    overlong_penalty: float = 0.0  # off the return of an episode as long as can be (DAPO)
    overlong_margin: int = 100  # steps before the longest from which on the penalty grows
    epochs: int = 4  # passes over the steps
    minibatch: int = 256  # steps


class Batch(NamedTuple):
    """Steps of episodes, in any order; B of them."""

    observations: Tensor  # (B, ...)
    actions: Tensor  # (B, ...)
    log_probs: Tensor  # (B,) when sampled
    reference: Tensor  # (B,) log-probabilities under the reference
    advantages: Tensor  # (B,) of the episode
    weights: Tensor  # (B,) of the step; all together 1


def clipped_gain(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A), the clip of PPO and DAPO."""
    return torch.minimum(
        ratio * advantages, ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantages
    )


def k3(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Estimate KL(policy || reference) from actions of the policy, each (...); never negative.

    Schulman, "Approximating KL divergence" (2020). Its gradient is, in the mean over the policy's
    actions, that of the KL the other way round, KL(reference || policy).
    """
    difference = reference - log_probs
    return torch.exp(difference) - difference - 1.0


class GRPO(ReferencePolicy[GRPOConfig]):
    """Play groups, and make likelier what did better than its group."""

    name: ClassVar[str] = 'grpo'
    reference: ClassVar[str] = 'arXiv 2402.03300'

    def __init__(
        self, config: GRPOConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """See :class:`ReferencePolicy`."""
        super().__init__(config, observation_space, action_space, seed)
        self.clips = Schedule.parse(config.clip_low), Schedule.parse(config.clip_high)
        self.updates = 0

    def iterate(self, world: World) -> Metrics:
        """Play until there is something to compare, then learn from it."""
        config = self.config
        episodes, told = self.gather(world)
        metrics = {
            'episodes': float(len(episodes.groups)),
            'informative_groups': told,
            'used_steps': len(episodes.number) / episodes.taken,
            'learning_rate': self.rate(self.progress),
        }
        if len(episodes.number):  # else all groups were dropped
            metrics |= self.update(self.batch(episodes))
            self.watch(episodes.observations)
        self.updates += 1
        if config.reference_every and self.updates % config.reference_every == 0:
            self.refer()
        return metrics

    def gather(self, world: World) -> tuple[Episodes, float]:
        """Play for one update; the episodes to learn from, and the share of groups that differ.

        With dynamic sampling groups whose returns are all equal are dropped, and as many as a
        round has are played for, in a few rounds at most.
        """
        config = self.config
        parts: list[Episodes] = []
        wanted = kept = groups = 0
        for _ in range(config.rounds if config.dynamic_sampling else 1):
            part = play_groups(
                world,
                self.sample,
                self.rng,
                size=config.group_size,
                starts=config.starts,
                window=config.window,
                longest=config.longest,
            )
            telling = informative(self.earned(part), part.groups)
            wanted = len(np.unique(part.groups))
            groups, kept = groups + wanted, kept + len(np.unique(part.groups[telling]))
            parts.append(part.select(telling) if config.dynamic_sampling else part)
            if kept >= wanted:
                break
        return join(parts, apart=True), kept / groups

    def earned(self, episodes: Episodes) -> FloatArray:
        """Returns (E,), less the penalty for length."""
        config = self.config
        if not config.overlong_penalty:
            return episodes.returns
        penalty = overlong_penalty(episodes.lengths, config.longest, config.overlong_margin)
        return episodes.returns + config.overlong_penalty * penalty

    def batch(self, episodes: Episodes) -> Batch:
        """What an update learns from: the episode's advantage in each of its steps."""
        config, number = self.config, episodes.number
        advantages = group_advantages(self.earned(episodes), episodes.groups, scale=config.scale)
        weights = step_weights(episodes.lengths, config.per)
        if config.overlong == 'mask':  # they still count in the mean of their group
            weights = np.where(episodes.cut, 0.0, weights)
        actions = torch.from_numpy(episodes.actions)
        old = torch.from_numpy(episodes.log_probs)
        return Batch(
            torch.from_numpy(episodes.observations),
            actions,
            old,
            self.reference_log_prob(episodes.observations, actions)
            if config.kl_coefficient
            else old,
            torch.from_numpy(advantages[number].astype(np.float32)),
            torch.from_numpy(weights[number].astype(np.float32)),
        )

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is descended, and policy_loss, kl, entropy, approx_kl, clip_fraction (5,)."""
        config = self.config
        low, high = (clip(self.progress) for clip in self.clips)
        distribution = self.at(batch.observations.numpy())
        log_probs, entropy = distribution.log_prob(batch.actions), distribution.entropy()
        log_ratio = log_probs - batch.log_probs
        ratio = log_ratio.exp()
        policy_loss = -(batch.weights * clipped_gain(ratio, batch.advantages, low, high)).sum()
        kl = k3(log_probs, batch.reference)
        loss = policy_loss
        if config.kl_coefficient:
            loss = loss + config.kl_coefficient * (batch.weights * kl).sum()
        if config.entropy_coefficient:
            loss = loss - config.entropy_coefficient * (batch.weights * entropy).sum()
        outside = (ratio < 1.0 - low) | (ratio > 1.0 + high)
        parts = (
            policy_loss, kl.mean(), entropy.mean(),
            (ratio - 1.0 - log_ratio).mean(), outside.float().mean(),
        )  # fmt: skip
        return loss, torch.stack(parts).detach()

    def update(self, batch: Batch) -> Metrics:
        """Pass over the steps a few times; means over the minibatches."""
        count, numbers = len(batch.weights), []
        for _ in range(self.config.epochs):
            order = torch.from_numpy(self.rng.permutation(count))
            for index in torch.split(order, self.config.minibatch):
                part = Batch(*(column[index] for column in batch))
                # As many times as there are minibatches: each stands for all steps.
                part = part._replace(weights=part.weights * (count / len(index)))
                loss, told = self.loss(part)
                self.descend(loss)
                numbers.append(told)
        names = ('policy_loss', 'kl', 'entropy', 'approx_kl', 'clip_fraction')
        metrics = dict(zip(names, torch.stack(numbers).mean(dim=0).tolist(), strict=True))
        if not self.config.kl_coefficient:
            del metrics['kl']  # nobody asked the reference
        return metrics

    def state(self) -> State:
        """With the number of updates."""
        return {**super().state(), 'updates': np.array(self.updates)}

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave."""
        if 'updates' not in state:
            raise ValueError(f'{self.name}: the state has no updates')
        super().load_state(state)
        self.updates = int(state['updates'])
