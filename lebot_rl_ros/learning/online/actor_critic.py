"""Actor-critic in small batches: the critic's errors say how good the last second was."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Metrics, State
from lebot_rl_ros.learning.online.on_policy import (
    OnPolicy,
    OnPolicyConfig,
    RunningSize,
    cut_norm,
    staleness,
)
from lebot_rl_ros.learning.online.stale import (
    effective_sample_size,
    fixed_spread_kl,
    fresh,
    log_prob,
)
from lebot_rl_ros.learning.online.steps import Steps, cuts, usable
from lebot_rl_ros.learning.returns import BoolArray, FloatArray, explained_variance, vtrace
from lebot_rl_ros.learning.state import load_optimiser_state, optimiser_state


@dataclass(frozen=True)
class OnlineActorCriticConfig(OnPolicyConfig):
    """Batches of a second, one step of the optimiser each."""

    batch: int = 50
    trace: float = 0.9
    weight_clip: float = 1.0  # largest V-trace weight

    def __post_init__(self) -> None:
        """Check; ValueError as above."""
        super().__post_init__()
        if not self.weight_clip > 0.0:
            raise ValueError(f'weight_clip is {self.weight_clip}, must be positive')


class OnlineActorCritic(OnPolicy[OnlineActorCriticConfig]):
    """TD advantages by V-trace (IMPALA, arXiv 1802.01561); each step is learned from once.

    Advantages count in units of their running root mean square, so that a rate means the same on
    every reward. See ``streaming`` for the form without batches.
    """

    name = 'actor_critic'

    def forget_moments(self) -> None:
        """Make both Adams anew, of what is trained now, and the size of advantages."""
        self._size = RunningSize()
        self.optimiser = torch.optim.AdamW(
            self.actor_groups(), lr=self.config.learning_rate, fused=True
        )
        self.value_optimiser = torch.optim.Adam(
            self.critic.parameters(), lr=self.config.value_learning_rate, fused=True
        )

    def update(self) -> Metrics:
        """Learn from every whole batch that waits; the metrics are means over the batches.

        Returns:
            policy_loss, value_loss, explained_variance (of the critic before), ess, lag_versions,
            kl_to_base, mean_log_ratio, gradient_norm, batch_reward, left_out (steps).

        Raises:
            ValueError: a gradient is not finite.
        """
        rows: list[Metrics] = []
        while self.waiting >= self.config.batch:
            warm = self.learned >= self.config.warmup
            rows.append(self._learn(self.take(self.config.batch), warm))
        names = dict.fromkeys(name for row in rows for name in row)
        return {n: float(np.mean([row[n] for row in rows if n in row])) for n in names}

    def _learn(self, steps: Steps, warm: bool) -> Metrics:
        config = self.config
        x = self.trained.normalised(torch.from_numpy(steps.observation))
        std, actions = torch.from_numpy(steps.std), torch.from_numpy(steps.action)
        mean = self.trained.mean_of(x)
        now = log_prob(actions, mean, std)
        log_ratios = now.detach().double().numpy() - steps.log_prob
        kept = fresh(log_ratios, steps.turn, self._turn, config.lag, config.largest_log_ratio)
        metrics = staleness(steps, kept, log_ratios, self._turn)
        metrics['ess'] = effective_sample_size(log_ratios[kept])
        used = usable(steps, kept)
        if not used.any():
            return metrics
        values, targets, advantages = self.judge(steps, used, log_ratios)
        gain = advantages[used] / self._size(advantages[used])
        index = torch.from_numpy(np.flatnonzero(used))
        kl = fixed_spread_kl(mean, self.trained.base_mean_of(x), std)[index].mean()
        policy_loss = -(now[index] * torch.from_numpy(gain).float()).mean()
        value_loss = (self.critic(x[index]) - torch.from_numpy(targets[used]).float()).square()
        return metrics | {
            'policy_loss': float(policy_loss.detach()),
            'value_loss': self._descend_critic(value_loss.mean()),
            'explained_variance': explained_variance(values[used], targets[used]),
            'gradient_norm': self._descend(policy_loss + config.kl_coefficient * kl, warm),
            'kl_to_base': float(kl.detach()),
        }

    def judge(
        self, steps: Steps, used: BoolArray, log_ratios: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Values, targets of the critic and weighed advantages (B,), right where ``used`` (B,)."""
        values, next_values = self.values(steps)
        targets, advantages = vtrace(
            np.where(used, log_ratios, 0.0),
            steps.reward.astype(np.float64),
            values,
            next_values,
            steps.terminated,
            cuts(steps, used),
            discount=self.config.discount,
            trace=self.config.trace,
            rho_clip=self.config.weight_clip,
            c_clip=self.config.weight_clip,
        )
        return values, targets, advantages

    def _descend(self, loss: Tensor, warm: bool) -> float:
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = cut_norm(self.trained.parameters(), self.config.gradient_norm)
        if warm:
            self.optimiser.step()
        return norm

    def _descend_critic(self, loss: Tensor) -> float:
        self.value_optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        cut_norm(list(self.critic.parameters()), self.config.gradient_norm)
        self.value_optimiser.step()
        return float(loss.detach())

    def state(self) -> State:
        """With both Adams' moments, and the size of advantages."""
        return {
            **super().state(),
            'size': self._size.state(),
            **optimiser_state(self.optimiser, 'optimiser'),
            **optimiser_state(self.value_optimiser, 'value_optimiser'),
        }

    def load_state(self, state: State) -> None:
        """Go on from :meth:`state`, bit for bit; ValueError where it does not fit."""
        super().load_state(state)
        self._size.load_state(state.get('size'))
        load_optimiser_state(self.optimiser, state, 'optimiser')
        load_optimiser_state(self.value_optimiser, state, 'value_optimiser')
