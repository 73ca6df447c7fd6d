"""Advantage-weighted actor-critic: imitate recorded actions, the more so the more they earned.

Nair et al., arXiv 2006.09359. The actor needs no value of an action that nobody has tried, so it
stays among those that were recorded; only the critics look at its own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Metrics
from lebot_rl_ros.learning.objectives import advantage_weights, supervised_gradients
from lebot_rl_ros.learning.offline.batches import Averaged, Batch, Batches, adam, check_numbers
from lebot_rl_ros.learning.offline.contract import OfflineData
from lebot_rl_ros.learning.offline.values import ActionValues, ValuesConfig
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.files import Tensors


@dataclass(frozen=True)
class AWACConfig(ValuesConfig):
    """How to weigh; actions are in action units."""

    # Standard deviations of the advantages of a batch over which a weight grows e-fold. Small
    # trusts the best steps alone; 0 weighs all alike, which is behaviour cloning.
    temperature: float = 0.3
    actor_rate: float = 1e-3
    policy_starts: int = 2000  # updates of the critics before the first one of the actor
    weight_decay: float = 1e-4  # of an adapter's A and B
    gradient_norm: float = 1.0  # largest, of the actor
    memory: int = 1500  # steps of the actor whose weights are averaged

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a number out of range.
        """
        check_numbers(self, ('batch', 'hidden', 'critics', 'memory'), ('discount', 'tau'))


class AWAC:
    """Weighted imitation, weights from critics that learn beside it."""

    name = 'awac'

    def __init__(self, trained: Trained, base: Tensors, config: AWACConfig, seed: int = 0) -> None:
        """Take what is trained, and the base whose critic is begun with."""
        self.trained, self.config, self._seed = trained, config, seed
        self.values = ActionValues(trained, base, config, seed)
        self._optimiser = adam(trained, config.actor_rate, config.weight_decay)
        self._averaged = Averaged(trained, config.memory)
        self._data: OfflineData | None = None
        self.updates, self._last = 0, (0.0, 0.0, 1.0)

    def learn(self, data: OfflineData, steps: int) -> Metrics:
        """Do so many updates of the critics, and of the actor."""
        config = self.config
        if data is not self._data:
            self._data, self._batches = data, Batches(data, self.trained, self._seed)
            self._log_std = spread(data)
        numbers = []
        with self._averaged:
            for _ in range(steps):
                batch = self._batches.draw(config.batch)
                loss, q_mean = self.values.learn(batch)
                self.updates += 1
                if self.updates > config.policy_starts:
                    self._last = self._improve(batch)
                numbers.append((loss, q_mean, *self._last))
        value_loss, q_mean, policy_loss, deviation, ess = np.mean(numbers, axis=0).tolist()
        return {
            'value_loss': value_loss,
            'policy_loss': policy_loss,
            'q_mean': q_mean,
            'deviation': deviation,
            'ess': ess,
        }

    def advantages(self, batch: Batch) -> Tensor:
        """What each recorded action (B,) is worth beyond what the policy would do there."""
        with torch.no_grad():
            mine = self.trained.mean_of(batch.seen)
            both = torch.cat((batch.actions, mine))
            values = self.values(batch.seen.repeat(2, 1), both).amin(dim=0)
        done, would = values.chunk(2)
        return done - would

    def _improve(self, batch: Batch) -> tuple[float, float, float]:
        """One step of the actor: loss, distance from the base, and the share that counts."""
        config, trained = self.config, self.trained
        advantages = self.advantages(batch).numpy()
        weights = advantage_weights(advantages, config.temperature, float(advantages.std()))
        mean = trained.mean_of(batch.seen)
        gradient, loss = supervised_gradients(
            mean.detach(), batch.actions, torch.from_numpy(weights), self._log_std
        )
        self._optimiser.zero_grad()
        torch.autograd.backward(mean, gradient)
        torch.nn.utils.clip_grad_norm_(trained.parameters(), config.gradient_norm)
        self._optimiser.step()
        self._averaged.step()
        change = mean.detach() - trained.base_mean_of(batch.seen)
        ess = float(weights.sum() ** 2 / (weights**2).sum()) / len(weights)
        return float(loss), float(change.square().mean().sqrt()), ess


def spread(data: OfflineData) -> Tensor:
    """Logarithm of the recorded spread of actions (J,), geometric mean over the steps.

    Raises:
        ValueError: the recording has no exploration to learn from.
    """
    std = data.tensor('std')
    if not bool((std > 0.0).all()) or not bool(
        (data.tensor('action') != data.tensor('mean')).any()
    ):
        raise ValueError(
            'the recording has no exploration: every action is the mean one, so none is better '
            'than another; record with `lebot walk --exploration 0.15`'
        )
    return std.log().mean(dim=0)
