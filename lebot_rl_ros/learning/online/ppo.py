"""Proximal policy optimisation from a robot's newest seconds, some of them of an older policy."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Metrics, State
from lebot_rl_ros.learning.online.on_policy import (
    OnPolicy,
    OnPolicyConfig,
    cut_norm,
    staleness,
)
from lebot_rl_ros.learning.online.stale import (
    decoupled_gradient,
    effective_sample_size,
    fixed_spread_kl,
    fresh,
    log_prob,
    truncated_weights,
)
from lebot_rl_ros.learning.online.steps import Steps, cuts, usable
from lebot_rl_ros.learning.returns import (
    BoolArray,
    FloatArray,
    compute_gae,
    explained_variance,
    normalise,
)
from lebot_rl_ros.learning.state import load_optimiser_state, optimiser_state


@dataclass(frozen=True)
class OnlinePPOConfig(OnPolicyConfig):
    """Batches of 5 s at 50 Hz, some epochs each.

    Walking with a slipped horn, batches of 10 s recovered more slowly, and of 20 s more so.
    """

    batch: int = 250
    epochs: int = 6  # passes over a batch
    minibatch: int = 125  # steps a gradient step
    clip: float = 0.2  # of the probability ratio to the proximal policy
    weight_clip: float = 2.0  # largest weight of a step, proximal over behaviour
    target_kl: float = 0.04  # nats from the proximal policy; beyond it the critic alone goes on
    least: float = 0.25  # share of a batch that must be left of it; with less nothing is learned
    base_kl: float = 30.0  # nats, mean over a batch: cap of the distance to the base

    def __post_init__(self) -> None:
        """Check; ValueError as above."""
        super().__post_init__()
        for name in ('epochs', 'minibatch', 'clip', 'weight_clip', 'target_kl', 'base_kl'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name} is {getattr(self, name)}, must be positive')
        if not 0.0 <= self.least <= 1.0:
            raise ValueError(f'least is {self.least}, must be in [0, 1]')


@dataclass(frozen=True)
class _Batch:
    """What an update learns from, as tensors; U steps."""

    x: Tensor  # (U, O) normalised observations
    actions: Tensor  # (U, J)
    std: Tensor  # (U, J)
    proximal: Tensor  # (U, J) mean actions when the update began
    proximal_log_prob: Tensor  # (U,)
    base: Tensor  # (U, J) mean actions of the base
    weights: Tensor  # (U,) proximal over behaviour, truncated
    advantages: Tensor  # (U,) normalised
    returns: Tensor  # (U,)

    def __getitem__(self, index: Tensor) -> '_Batch':
        return _Batch(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


class OnlinePPO(OnPolicy[OnlinePPOConfig]):
    """PPO (arXiv 1707.06347) with decoupled policies (arXiv 2110.00641) and GAE (1506.02438)."""

    name = 'ppo'

    def forget_moments(self) -> None:
        """Make both Adams anew, of what is trained now."""
        self.optimiser = torch.optim.AdamW(
            self.actor_groups(), lr=self.config.learning_rate, fused=True
        )
        self.value_optimiser = torch.optim.Adam(
            self.critic.parameters(), lr=self.config.value_learning_rate, fused=True
        )

    def update(self) -> Metrics:
        """Learn from every whole batch that waits; the metrics are of the last.

        Returns:
            policy_loss, value_loss, approx_kl (from the proximal policy, over the batch, after the
            update), clip_fraction, explained_variance (of the critic before it), ess,
            lag_versions, kl_to_base, mean_log_ratio, gradient_norm, batch_reward, left_out
            (steps), epochs, policy_steps (of the optimiser).

        Raises:
            ValueError: a gradient is not finite.
        """
        metrics: Metrics = {}
        while self.waiting >= self.config.batch:
            warm = self.learned >= self.config.warmup
            metrics = self._learn(self.take(self.config.batch), warm)
        return metrics

    @torch.no_grad()
    def _learn(self, steps: Steps, warm: bool) -> Metrics:
        config = self.config
        x = self.trained.normalised(torch.from_numpy(steps.observation))
        std, actions = torch.from_numpy(steps.std), torch.from_numpy(steps.action)
        proximal = self.trained.mean_of(x)
        proximal_log_prob = log_prob(actions, proximal, std)
        log_ratios = proximal_log_prob.double().numpy() - steps.log_prob
        kept = fresh(log_ratios, steps.turn, self._turn, config.lag, config.largest_log_ratio)
        metrics = staleness(steps, kept, log_ratios, self._turn)
        metrics['ess'] = effective_sample_size(log_ratios[kept])
        used = usable(steps, kept)
        if used.sum() < max(2.0, config.least * len(steps)):
            return metrics
        values, advantages, returns = self.judge(steps, used)
        weights = truncated_weights(log_ratios[used], config.weight_clip)
        index = torch.from_numpy(np.flatnonzero(used))
        batch = _Batch(
            x[index], actions[index], std[index], proximal[index], proximal_log_prob[index],
            self.trained.base_mean_of(x[index]), torch.from_numpy(weights).float(),
            torch.from_numpy(normalise(advantages[used])).float(),
            torch.from_numpy(returns[used]).float(),
        )  # fmt: skip
        metrics['explained_variance'] = explained_variance(values[used], returns[used])
        before = [parameter.clone() for parameter in self.trained.parameters()]
        metrics |= self._epochs(batch, warm)
        return metrics | self._hold_back(batch, before)

    def judge(self, steps: Steps, used: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Values, advantages and returns (B,) by GAE, right where ``used`` (B,).

        A trajectory that was cut, or that a hole ends, is bootstrapped from the critic's value of
        its last step's next observation.
        """
        values, next_values = self.values(steps)
        advantages, returns = compute_gae(
            steps.reward.astype(np.float64), values, next_values, steps.terminated,
            cuts(steps, used), discount=self.config.discount, trace=self.config.trace,
        )  # fmt: skip
        return values, advantages, returns

    def _epochs(self, batch: _Batch, warm: bool) -> Metrics:
        """Some passes; the policy stops at the target KL, the critic goes on."""
        told: list[tuple[float, float, float]] = []
        value_losses: list[float] = []
        epochs, stopped = 0, not warm
        for _ in range(self.config.epochs):
            epochs += not stopped
            order = torch.from_numpy(self.rng.permutation(len(batch.x)))
            for part in map(batch.__getitem__, torch.split(order, self.config.minibatch)):
                if not stopped:
                    numbers = self._step(part)
                    stopped = numbers is None
                    if numbers is not None:
                        told.append(numbers)
                value_losses.append(self._step_critic(part))
        names = ('policy_loss', 'clip_fraction', 'gradient_norm')
        means = np.mean(told, axis=0).tolist() if told else [0.0, 0.0, 0.0]
        return {
            **dict(zip(names, means, strict=True)),
            'value_loss': float(np.mean(value_losses)),
            'epochs': float(epochs),
            'policy_steps': float(len(told)),
        }

    def _step(self, part: _Batch) -> tuple[float, float, float] | None:
        """Step the policy, unless it is beyond the target KL: None."""
        config = self.config
        with torch.enable_grad():
            mean = self.trained.mean_of(part.x)
        now = mean.detach()
        if float(fixed_spread_kl(now, part.proximal, part.std).mean()) > config.target_kl:
            return None
        gradient, surrogate = decoupled_gradient(
            now, part.std, part.actions, part.proximal_log_prob, part.weights, part.advantages,
            config.clip,
        )  # fmt: skip
        if config.kl_coefficient:
            pull = (now - part.base) / part.std.square()
            gradient.add_(pull, alpha=config.kl_coefficient / len(now))
        self.optimiser.zero_grad()
        mean.backward(gradient)  # type: ignore[no-untyped-call]
        norm = cut_norm(self.trained.parameters(), config.gradient_norm)
        self.optimiser.step()
        policy_loss, _, clip_fraction = surrogate.statistics(config.clip).tolist()
        return policy_loss, clip_fraction, norm

    def _step_critic(self, part: _Batch) -> float:
        with torch.enable_grad():
            loss = (self.critic(part.x) - part.returns).square().mean()
        self.value_optimiser.zero_grad()
        loss.backward()
        cut_norm(list(self.critic.parameters()), self.config.gradient_norm)
        self.value_optimiser.step()
        return float(loss.detach())

    def _hold_back(self, batch: _Batch, before: list[Tensor]) -> Metrics:
        """Go half the way back to the proximal policy, until the base is near enough."""
        was = float(fixed_spread_kl(batch.proximal, batch.base, batch.std).mean())
        cap = max(self.config.base_kl, was)  # other states may lie beyond it already
        for turn in range(9):
            mean = self.trained.mean_of(batch.x)
            to_base = float(fixed_spread_kl(mean, batch.base, batch.std).mean())
            if to_base <= cap or turn == 8:
                break
            for parameter, old in zip(self.trained.parameters(), before, strict=True):
                parameter.lerp_(old, 0.5 if turn < 7 else 1.0)
        kl = float(fixed_spread_kl(mean, batch.proximal, batch.std).mean())
        return {'approx_kl': kl, 'kl_to_base': to_base}

    def state(self) -> State:
        """With both Adams' moments."""
        return {
            **super().state(),
            **optimiser_state(self.optimiser, 'optimiser'),
            **optimiser_state(self.value_optimiser, 'value_optimiser'),
        }

    def load_state(self, state: State) -> None:
        """Go on from :meth:`state`, bit for bit; ValueError where it does not fit."""
        super().load_state(state)
        load_optimiser_state(self.optimiser, state, 'optimiser')
        load_optimiser_state(self.value_optimiser, state, 'value_optimiser')
