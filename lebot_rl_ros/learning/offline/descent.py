"""What methods of this room share that learn by plain gradient steps: Adam, and weights kept."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Descent:
    """Adam on some parameters, with the gradient cut to a largest norm."""

    def __init__(self, parameters: Sequence[nn.Parameter], rate: float, norm: float) -> None:
        """Take what is trained.

        Args:
            parameters: that are trained.
            rate: of Adam.
            norm: the gradient's largest.
        """
        self._parameters, self._rate, self._norm = list(parameters), rate, norm
        self._optimiser = torch.optim.Adam(self._parameters, lr=rate)

    def step(self, loss: Tensor) -> None:
        """One step down a loss.

        Raises:
            ValueError: the gradient is not finite.
        """
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._norm)
        if not bool(torch.isfinite(norm)):
            raise ValueError(
                f'the gradient is not finite; lower the actor_rate (now {self._rate:g})'
            )
        self._optimiser.step()

    def weights(self) -> list[Tensor]:
        """Copies, in the order of the parameters."""
        return [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def load(self, weights: Sequence[Tensor]) -> None:
        """Take what :meth:`weights` gave."""
        for parameter, value in zip(self._parameters, weights, strict=True):
            parameter.copy_(value)
