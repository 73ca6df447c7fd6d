"""Recorded steps as tensors, and the optimiser of what is trained."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.offline.contract import OfflineData
from lebot_rl_ros.learning.online.trained import Trained


class Batch(NamedTuple):
    """B steps."""

    seen: Tensor  # (B, O) normalised
    actions: Tensor  # (B, J) as sampled, action units
    rewards: Tensor  # (B,)
    following: Tensor  # (B, O) normalised
    going_on: Tensor  # (B,) 0 where the step ended in a fall, else 1


class Batches:
    """All steps, normalised once; batches are drawn uniformly, with replacement."""

    def __init__(self, data: OfflineData, trained: Trained, seed: int) -> None:
        """Copy what is needed; 0.5 kB a step."""
        with torch.no_grad():
            self.all = Batch(
                trained.normalised(data.tensor('observation')),
                data.tensor('action'),
                data.tensor('reward'),
                trained.normalised(data.tensor('next_observation')),
                1.0 - data.tensor('terminated'),
            )
        self._rng = np.random.default_rng([seed, 5])

    def draw(self, size: int) -> Batch:
        """Some of them."""
        rows = torch.from_numpy(self._rng.integers(len(self.all.rewards), size=size))
        return Batch(*(column[rows] for column in self.all))


def adam(trained: Trained, rate: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """AdamW of what is trained; an adapter's A and B alone decay, as that leads to the base."""
    factors: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in trained.named_parameters():
        (factors if name.endswith(('lora_A', 'lora_B')) else plain).append(parameter)
    groups: list[dict[str, Any]] = [
        {'params': factors, 'weight_decay': weight_decay},
        {'params': plain},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group['params']], rate, weight_decay=0.0, fused=True
    )


class Averaged:
    """The weights of an actor, averaged over its last steps: what is judged and written.

    Recorded steps do not answer: an actor that climbs critics circles about their best point, and
    where it stands at the end is chance. Averages of weights: Polyak and Juditsky, SIAM Journal
    on Control and Optimization 30, 1992.
    """

    def __init__(self, trained: Trained, memory: int) -> None:
        """Begin with the weights as they are; ``memory``: steps that count, about."""
        self._parameters: list[Tensor] = list(trained.parameters())
        self._memory, self._steps = memory, 0
        self._mean, self._live = self._copy(), self._copy()

    def __enter__(self) -> None:
        """Learn: the weights are those of the last step."""
        self._put(self._live)

    def __exit__(self, *_: object) -> None:
        """Show: the weights are their average."""
        self._live = self._copy()
        self._put(self._mean)

    @torch.no_grad()
    def step(self) -> None:
        """Take in the weights after a step; of the first ones all count alike."""
        self._steps += 1
        torch._foreach_lerp_(self._mean, self._parameters, 1.0 / min(self._steps, self._memory))

    def _copy(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)


def check_numbers(config: Any, whole: tuple[str, ...], shares: tuple[str, ...] = ()) -> None:
    """Check fields of a config: counts from 1 on, shares from 0 to 1, the others from 0 on.

    Raises:
        ValueError: one is out of its range; the message names it.
    """
    for name, value in vars(config).items():
        if isinstance(value, str | bool):
            continue
        if name in whole:
            good, wanted = value >= 1, '1 or more'
        elif name in shares:
            good, wanted = 0.0 <= value <= 1.0, 'from 0 to 1'
        else:
            good, wanted = bool(np.isfinite(value)) and value >= 0.0, '0 or more'
        if not good:
            raise ValueError(f'{name} is {value}, must be {wanted}')
