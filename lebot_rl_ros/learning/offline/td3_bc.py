"""TD3 with a behaviour term: climb the critics, but stay by what was recorded.

Fujimoto and Gu, arXiv 2106.06860.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lebot_rl_ros.learning.method import Metrics
from lebot_rl_ros.learning.offline.batches import Averaged, Batches, adam, check_numbers
from lebot_rl_ros.learning.offline.contract import OfflineData
from lebot_rl_ros.learning.offline.values import ActionValues, ValuesConfig
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.files import Tensors


@dataclass(frozen=True)
class TD3BCConfig(ValuesConfig):
    """How to climb; actions are in action units."""

    alpha: float = 2.5  # how much the values count beside the squared distance to the actions
    actor_rate: float = 1e-3
    policy_delay: int = 2  # updates of the critics for one of the actor
    policy_starts: int = 2000  # updates of the critics before the first one of the actor
    hinge: float = 10.0  # of the square of what is beyond ``deviation``, in the loss
    weight_decay: float = 1e-4  # of an adapter's A and B
    gradient_norm: float = 1.0  # largest, of the actor
    memory: int = 1500  # steps of the actor whose weights are averaged

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a number out of range.
        """
        check_numbers(
            self, ('batch', 'hidden', 'critics', 'memory', 'policy_delay'), ('discount', 'tau')
        )


class TD3BC:
    """Deterministic policy gradient on recorded steps."""

    name = 'td3_bc'

    def __init__(
        self, trained: Trained, base: Tensors, config: TD3BCConfig, seed: int = 0
    ) -> None:
        """Take what is trained, and the base whose critic is begun with."""
        self.trained, self.config, self._seed = trained, config, seed
        self.values = ActionValues(trained, base, config, seed)
        self._optimiser = adam(trained, config.actor_rate, config.weight_decay)
        self._averaged = Averaged(trained, config.memory)
        self._data: OfflineData | None = None
        self.updates, self._last = 0, (0.0, 0.0)

    def learn(self, data: OfflineData, steps: int) -> Metrics:
        """Do so many updates of the critics, and of the actor as they are due."""
        config = self.config
        if data is not self._data:
            self._data, self._batches = data, Batches(data, self.trained, self._seed)
        numbers = []
        with self._averaged:
            for _ in range(steps):
                batch = self._batches.draw(config.batch)
                loss, q_mean = self.values.learn(batch)
                self.updates += 1
                if self.updates > config.policy_starts and self.updates % config.policy_delay == 0:
                    self._last = self._improve(batch.seen, batch.actions)
                numbers.append((loss, q_mean, *self._last))
        value_loss, q_mean, policy_loss, deviation = np.mean(numbers, axis=0).tolist()
        return {
            'value_loss': value_loss,
            'policy_loss': policy_loss,
            'q_mean': q_mean,
            'deviation': deviation,
        }

    def _improve(self, seen: Tensor, actions: Tensor) -> tuple[float, float]:
        """One step of the actor; its loss, and how far it is from the base."""
        config, trained = self.config, self.trained
        action = trained.mean_of(seen)
        change = action - trained.base_mean_of(seen)
        values = self.values(seen, action)
        loss = -behaviour_scale(values, config.alpha) * values.mean()
        loss = loss + F.mse_loss(action, actions)
        beyond = F.relu(change.abs() - config.deviation).square().sum(dim=-1).mean()
        loss = loss + config.hinge * beyond
        parameters = trained.parameters()
        self._optimiser.zero_grad()
        # The critics lend their slope; their own weights need no gradient now.
        torch.autograd.backward(loss, inputs=parameters)
        torch.nn.utils.clip_grad_norm_(parameters, config.gradient_norm)
        self._optimiser.step()
        self._averaged.step()
        return loss.item(), float(change.detach().square().mean().sqrt())


def behaviour_scale(values: Tensor, alpha: float) -> float:
    """How much values (...) count beside a squared distance: alpha / mean |Q|, equation 5."""
    return alpha / max(float(values.detach().abs().mean()), 1e-6)
