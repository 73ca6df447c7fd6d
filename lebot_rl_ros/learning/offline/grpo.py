"""GRPO of an adapter: groups of simulated continuations from recorded states.

Shao et al., arXiv 2402.03300. From a recorded step a group of simulated robots goes on, each with
noise of its own; what did better than its group becomes likelier. The losses and the groups are
those of ``learning/methods/grpo.py``; who simulates is a world whose tasks are recorded rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.episodes import Episodes, play_groups
from lebot_rl_ros.learning.groups import step_weights
from lebot_rl_ros.learning.method import Array, Metrics, World
from lebot_rl_ros.learning.methods.grpo import clipped_gain
from lebot_rl_ros.learning.offline.contract import OfflineData
from lebot_rl_ros.learning.offline.credit import Credit, step_advantages
from lebot_rl_ros.learning.offline.descent import Descent
from lebot_rl_ros.learning.online.stale import fixed_spread_kl, log_prob
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.files import Tensors


@dataclass(frozen=True)
class OfflineGRPOConfig:
    """How continuations are played, compared and learned from."""

    groups: int = 16  # recorded states of a round
    group_size: int = 8  # continuations of each
    horizon: int = 50  # steps of one, at most
    std: float = 0.1  # of the sampled actions, action units
    credit: Credit = 'togo'  # what a step earns: what came after it, or all
    discount: float = 0.98  # of what came after
    scale: bool = True  # advantages in standard deviations of the group; Dr. GRPO: false
    clip: float = 0.2  # of the probability ratio
    kl_coefficient: float = 0.0  # of the KL divergence from the reference, in advantages a nat
    epochs: int = 2  # passes over the steps of a round
    minibatch: int = 800  # steps
    target_kl: float = 0.05  # nats from the policy that played; beyond it the next round begins
    actor_rate: float = 1e-3
    gradient_norm: float = 1.0  # largest

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a number out of range.
        """
        for name, least in (
            ('groups', 1), ('group_size', 2), ('horizon', 1), ('epochs', 1), ('minibatch', 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f'{name} is {getattr(self, name)}, must be {least} or more')
        for name in ('std', 'clip', 'target_kl', 'actor_rate', 'gradient_norm'):
            if not getattr(self, name) > 0.0:
                raise ValueError(f'{name} is {getattr(self, name)}, must be positive')
        if not 0.0 <= self.discount <= 1.0 or not self.kl_coefficient >= 0.0:
            raise ValueError(
                f'discount is {self.discount}, must be in [0, 1]; kl_coefficient is '
                f'{self.kl_coefficient}, must be 0 or more'
            )
        if self.credit not in ('togo', 'episode'):
            raise ValueError(f'credit is {self.credit!r}; choices are togo, episode')


class Batch(NamedTuple):
    """Steps of a round, in any order; B of them."""

    x: Tensor  # (B, O) normalised observations
    actions: Tensor  # (B, J)
    log_probs: Tensor  # (B,) when sampled
    reference: Tensor  # (B, J) mean actions of the reference
    advantages: Tensor  # (B,)
    weights: Tensor  # (B,) of the step; all together 1


class OfflineGRPO:
    """Plays rounds and learns from them; set :attr:`world` before the first :meth:`learn`."""

    name: ClassVar[str] = 'grpo'

    def __init__(
        self, trained: Trained, base: Tensors, config: OfflineGRPOConfig, seed: int = 0
    ) -> None:
        """Begin at what is trained, which is the reference from then on."""
        self.trained, self.config = trained, config
        self.world: World | None = None  # of groups * group_size robots; its tasks are rows
        self.rounds = 0
        self.last: Episodes | None = None  # that were played
        self._rng = np.random.default_rng(seed)
        self._descent = Descent(trained.parameters(), config.actor_rate, config.gradient_norm)
        self._waiting: Iterator[Batch] = iter(())
        self._told: Metrics = {}
        self._reference = self._descent.weights()

    def learn(self, data: OfflineData, steps: int) -> Metrics:
        """Do so many gradient steps, and play as many rounds as they need.

        Returns:
            policy_loss, approx_kl, clip_fraction; of the last round: reward (of a step), falls
            (share of the continuations), deviation; simulated_steps so far.

        Raises:
            ValueError: there is no world, it has another number of robots, or a gradient is not
                finite.
        """
        told = []
        for _ in range(steps):
            batch = next(self._waiting, None)
            if batch is None:
                self._waiting = self._play()
                batch = next(self._waiting)
            loss, numbers = self.loss(batch)
            self._descent.step(loss)
            told.append(numbers)
            if float(numbers[1]) > self.config.target_kl:
                self._waiting = iter(())
        metrics = dict(self._told)
        if told:
            means = torch.stack(told).mean(dim=0).tolist()
            metrics |= dict(zip(('policy_loss', 'approx_kl', 'clip_fraction'), means, strict=True))
        return metrics

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is descended, and policy_loss, approx_kl, clip_fraction (3,)."""
        config = self.config
        mean = self.trained.mean_of(batch.x)
        std = torch.full_like(mean, config.std)
        log_ratio = log_prob(batch.actions, mean, std) - batch.log_probs
        ratio = log_ratio.exp()
        gain = clipped_gain(ratio, batch.advantages, config.clip, config.clip)
        policy_loss = loss = -(batch.weights * gain).sum()
        if config.kl_coefficient:
            kl = fixed_spread_kl(mean, batch.reference, std)
            loss = loss + config.kl_coefficient * (batch.weights * kl).sum()
        outside = ((ratio - 1.0).abs() > config.clip).float().mean()
        told = torch.stack((policy_loss, (ratio - 1.0 - log_ratio).mean(), outside))
        return loss, told.detach()

    @torch.no_grad()
    def sample(self, observation: Array) -> tuple[Array, Array]:
        """Actions (N, J) for observations (N, O), and their log-probabilities (N,)."""
        mean = self.trained.mean(torch.from_numpy(np.asarray(observation, np.float32)))
        noise = self._rng.standard_normal(tuple(mean.shape), dtype=np.float32)
        std = torch.full_like(mean, self.config.std)
        action = mean + std * torch.from_numpy(noise)
        return action.numpy(), log_prob(action, mean, std).numpy()

    def _play(self) -> Iterator[Batch]:
        """Play a round; minibatches of its steps, epoch after epoch."""
        config, world = self.config, self.world
        if world is None:
            raise ValueError('grpo learns from simulated continuations, and has no simulator')
        wanted = config.groups * config.group_size
        if world.count != wanted:
            raise ValueError(
                f'{world.name} has {world.count} robots, {config.groups} groups of '
                f'{config.group_size} need {wanted}'
            )
        episodes = self.last = play_groups(
            world, self.sample, self._rng, size=config.group_size, starts='task',
            longest=config.horizon,
        )  # fmt: skip
        self.rounds += 1
        batch = self._batch(episodes)
        with torch.no_grad():
            change = self.trained.mean_of(batch.x) - self.trained.base_mean_of(batch.x)
        self._told = {
            'reward': float(episodes.rewards.mean()),
            'falls': float((~episodes.cut).mean()),
            'deviation': float(change.square().mean().sqrt()),
            'simulated_steps': float(world.steps),
        }
        return self._minibatches(batch)

    @torch.no_grad()
    def _batch(self, episodes: Episodes) -> Batch:
        config, number = self.config, episodes.number
        advantages = step_advantages(episodes, config.credit, config.discount, scale=config.scale)
        x = self.trained.normalised(torch.from_numpy(episodes.observations.astype(np.float32)))
        return Batch(
            x,
            torch.from_numpy(episodes.actions),
            torch.from_numpy(episodes.log_probs),
            self._reference_mean(x) if config.kl_coefficient else torch.zeros(len(x), 1),
            torch.from_numpy(advantages.astype(np.float32)),
            torch.from_numpy(step_weights(episodes.lengths, 'step')[number].astype(np.float32)),
        )

    def _minibatches(self, batch: Batch) -> Iterator[Batch]:
        count = len(batch.weights)
        for _ in range(self.config.epochs):
            order = torch.from_numpy(self._rng.permutation(count))
            for index in torch.split(order, self.config.minibatch):
                part = Batch(*(column[index] for column in batch))
                # As many times as there are minibatches: each stands for all steps.
                yield part._replace(weights=part.weights * (count / len(index)))

    def _reference_mean(self, x: Tensor) -> Tensor:
        """Mean actions (B, J) of what was trained when this began."""
        now = self._descent.weights()
        self._descent.load(self._reference)
        mean = self.trained.mean_of(x)
        self._descent.load(now)
        return mean
