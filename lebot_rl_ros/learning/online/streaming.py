"""Actor-critic on a stream: each step once, in order, at once; no batch, no replay, no Adam."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from lebot_rl_ros.learning.method import Metrics, State
from lebot_rl_ros.learning.online.on_policy import (
    OnPolicy,
    OnPolicyConfig,
    RunningSize,
    staleness,
)
from lebot_rl_ros.learning.online.stale import (
    effective_sample_size,
    fixed_spread_kl,
    fresh,
    log_prob,
    truncated_weights,
)
from lebot_rl_ros.learning.online.steps import Steps, usable
from lebot_rl_ros.learning.returns import BoolArray
from lebot_rl_ros.learning.traces import Traces

UNIT = 3.0  # running root mean squares; a larger error moves the weights no further


@dataclass(frozen=True)
class StreamingActorCriticConfig(OnPolicyConfig):
    """Rates are factors on a bounded step, near 1 as a rule."""

    batch: int = 25  # steps whose age is judged together
    trace: float = 0.8
    learning_rate: float = 1.0
    value_learning_rate: float = 1.0
    weight_clip: float = 1.0  # largest weight of a step
    policy_bound: float = 30.0  # kappa; see learning.traces
    value_bound: float = 2.0

    def __post_init__(self) -> None:
        """Check; ValueError as above."""
        super().__post_init__()
        for name in ('weight_clip', 'policy_bound', 'value_bound'):
            if not getattr(self, name) > 0.0:
                raise ValueError(f'{name} is {getattr(self, name)}, must be positive')


class StreamingActorCritic(OnPolicy[StreamingActorCriticConfig]):
    """Eligibility traces with bounded steps (Elsayed et al., arXiv 2410.14606).

    A step of an older policy weighs min(ratio, weight_clip), as do all that led to it. The paper
    scales rewards so that errors are about 1; here they are measured by their running size, as
    the critic comes from the base and has its units.
    """

    name = 'streaming_actor_critic'

    def forget_moments(self) -> None:
        """Empty traces, of what is trained now; the size of errors is forgotten, too."""
        self._size = RunningSize()
        self._goes_on = False  # the traces belong to the step before the next one
        self._policy = Traces(self.trained.parameters(), self.config.policy_bound)
        self._value = Traces(list(self.critic.parameters()), self.config.value_bound)

    def update(self) -> Metrics:
        """Learn from every whole batch that waits; the metrics are means over the batches.

        Returns:
            policy_loss, value_loss, ess, lag_versions, kl_to_base, mean_log_ratio, batch_reward,
            left_out (steps), step_length (share of the policy's rate that its bound left).

        Raises:
            ValueError: an error is not finite.
        """
        rows: list[Metrics] = []
        while self.waiting >= self.config.batch:
            rows.append(self._learn(self.take(self.config.batch)))
        names = dict.fromkeys(name for row in rows for name in row)
        return {n: float(np.mean([row[n] for row in rows if n in row])) for n in names}

    def _learn(self, steps: Steps) -> Metrics:
        config = self.config
        x = self.trained.normalised(torch.from_numpy(steps.observation))
        std = torch.from_numpy(steps.std)
        with torch.no_grad():
            mean = self.trained.mean_of(x)
            now = log_prob(torch.from_numpy(steps.action), mean, std)
        log_ratios = now.double().numpy() - steps.log_prob
        kept = fresh(log_ratios, steps.turn, self._turn, config.lag, config.largest_log_ratio)
        metrics = staleness(steps, kept, log_ratios, self._turn)
        metrics['ess'] = effective_sample_size(log_ratios[kept])
        used = usable(steps, kept)
        if used.any():
            kl = fixed_spread_kl(mean, self.trained.base_mean_of(x), std)
            metrics['kl_to_base'] = float(kl[torch.from_numpy(used)].mean())
        return metrics | self._stream(steps, used)

    def _stream(self, steps: Steps, used: BoolArray) -> Metrics:
        """Each step in turn; the traces are cut where the next does not follow from it."""
        told: list[tuple[float, float, float]] = []
        warm = self.learned - len(steps) >= self.config.warmup
        over = steps.terminated | steps.truncated
        for t in range(len(steps)):
            if not (self._goes_on and steps.follows[t] and used[t]):
                self._policy.decay(0.0)
                self._value.decay(0.0)
            if used[t]:
                told.append(self._move(steps[t : t + 1], warm))
            self._goes_on = bool(used[t] and not over[t])
        names = ('policy_loss', 'value_loss', 'step_length')
        return dict(zip(names, np.mean(told, axis=0).tolist(), strict=True)) if told else {}

    def _move(self, step: Steps, warm: bool) -> tuple[float, float, float]:
        """One step of the weights, along their traces, by what the critic was wrong."""
        config = self.config
        x, following = (
            self.trained.normalised(torch.from_numpy(observation))
            for observation in (step.observation, step.next_observation)
        )
        std = torch.from_numpy(step.std)
        value, mean = self.critic(x)[0], self.trained.mean_of(x)
        log_probability = log_prob(torch.from_numpy(step.action), mean, std)[0]
        with torch.no_grad():
            ahead = 0.0 if step.terminated[0] else float(self.critic(following)[0])
        error = float(step.reward[0]) + config.discount * ahead - float(value.detach())
        if not math.isfinite(error):
            raise ValueError(f'the error of a step is {error}; lower the learning rates')
        unit = UNIT * self._size(np.array([error]))
        log_ratio = log_probability.detach().double().numpy() - step.log_prob
        weight = float(truncated_weights(log_ratio, config.weight_clip)[0])
        gain = log_probability
        if config.kl_coefficient:
            # The step is error * trace, so the sign keeps the pull to the base whatever the error.
            kl = fixed_spread_kl(mean, self.trained.base_mean_of(x), std)[0]
            gain = gain - config.kl_coefficient * math.copysign(1.0, error) * kl
        for traces, objective in ((self._policy, gain), (self._value, value)):
            traces.decay(config.discount * config.trace)
            traces.add(torch.autograd.grad(objective, traces.parameters, allow_unused=True))
            traces.decay(weight)
        # Only the bound measures in units: the critic's values stay what they are.
        self._value.bound = config.value_bound / unit
        self._value.step(error / unit, config.value_learning_rate * unit)
        rate = config.learning_rate * warm
        share = self._policy.step(error / unit, rate) / rate if rate else 0.0
        return -float(log_probability.detach()) * error / unit, error**2, share

    def state(self) -> State:
        """With the traces, and the size of errors."""
        return {
            **super().state(),
            'size': self._size.state(),
            'goes_on': np.array([self._goes_on]),
            **self._policy.state('trace.policy'),
            **self._value.state('trace.value'),
        }

    def load_state(self, state: State) -> None:
        """Go on from :meth:`state`, bit for bit; ValueError where it does not fit."""
        if 'goes_on' not in state:
            raise ValueError('goes_on is missing in the state')
        super().load_state(state)
        self._size.load_state(state.get('size'))
        self._goes_on = bool(state['goes_on'][0])
        self._policy.load_state(state, 'trace.policy')
        self._value.load_state(state, 'trace.value')
