"""Behaviour cloning: do what was recorded."""

from dataclasses import dataclass

import numpy as np
import torch

from lebot_rl_ros.learning.method import Metrics
from lebot_rl_ros.learning.objectives import supervised_gradients
from lebot_rl_ros.learning.offline.batches import adam, check_numbers
from lebot_rl_ros.learning.offline.contract import OfflineData
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.files import Tensors

TARGETS = ('mean', 'action', 'applied_action')


@dataclass(frozen=True)
class BCConfig:
    """How to imitate."""

    # Of a row: mean is what the policy meant, free of the exploration on top of it; action has
    # that, too; applied_action is what the servos got, as where a person or a script drove.
    target: str = 'mean'
    batch: int = 256  # steps of an update
    actor_rate: float = 1e-3  # of Adam
    weight_decay: float = 0.0  # of an adapter's A and B
    gradient_norm: float = 1.0  # largest, of the actor

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: an unknown target, or a number out of range.
        """
        if self.target not in TARGETS:
            raise ValueError(f'target is {self.target!r}; choices are {", ".join(TARGETS)}')
        check_numbers(self, ('batch',))


class BehaviourCloning:
    """Least squares on the mean action, which is the likelihood of a fixed spread."""

    name = 'bc'

    def __init__(self, trained: Trained, base: Tensors, config: BCConfig, seed: int = 0) -> None:
        """Take what is trained; ``base`` is not needed."""
        self.trained, self.config = trained, config
        self._rng = np.random.default_rng([seed, 5])
        self._optimiser = adam(trained, config.actor_rate, config.weight_decay)
        self._data: OfflineData | None = None

    def learn(self, data: OfflineData, steps: int) -> Metrics:
        """Do so many gradient steps; see ``OfflineMethod``."""
        config, trained = self.config, self.trained
        if data is not self._data:
            self._data = data
            with torch.no_grad():
                self._seen = trained.normalised(data.tensor('observation'))
                self._base = trained.base_mean_of(self._seen)
            self._targets = data.tensor(config.target)
            self._flat = torch.zeros(self._targets.shape[1])  # log of a spread of 1
        loss, deviation = torch.zeros(()), torch.zeros(())
        for _ in range(steps):
            rows = torch.from_numpy(self._rng.integers(len(data), size=config.batch))
            mean = trained.mean_of(self._seen[rows])
            gradient, one = supervised_gradients(
                mean.detach(), self._targets[rows], torch.ones(len(rows)), self._flat
            )
            self._optimiser.zero_grad()
            torch.autograd.backward(mean, gradient)
            torch.nn.utils.clip_grad_norm_(trained.parameters(), config.gradient_norm)
            self._optimiser.step()
            loss += one
            deviation += (mean.detach() - self._base[rows]).square().mean()
        joints = self._targets.shape[1]
        return {
            'policy_loss': float(loss) / steps,
            'action_error': float((2.0 * loss / steps / joints).sqrt()),  # rms, action units
            'deviation': float((deviation / steps).sqrt()),
        }
