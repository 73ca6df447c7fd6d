"""Eligibility traces: each step's error moves the weights that earlier steps had used."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lebot_rl_ros.learning.method import State


class Traces:
    """A trace beside every parameter, and steps along it whose length is bounded."""

    def __init__(self, parameters: Sequence[Tensor], bound: float | None) -> None:
        """Start with no memory.

        Args:
            parameters: to move, in place.
            bound: kappa, how many times smaller than an overshoot a step must be; None steps by
                the rate alone. See :meth:`step`.
        """
        self.parameters, self.bound = list(parameters), bound
        self.traces = [torch.zeros_like(parameter) for parameter in self.parameters]

    def decay(self, factor: float) -> None:
        """Multiply every trace by discount times lambda; by 0 where an episode ended."""
        for trace in self.traces:
            trace.mul_(factor)

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """Add the gradients of what was just predicted or done."""
        for trace, gradient in zip(self.traces, gradients, strict=True):
            if gradient is not None:
                trace.add_(gradient)

    @torch.no_grad()
    def step(self, error: float, rate: float) -> float:
        """Move by rate * error * trace; returns the rate that was taken.

        With a bound the rate is divided by max(1, rate * bound * max(|error|, 1) * |trace|_1),
        so that no step overshoots (Elsayed et al., arXiv 2410.14606): an error stands alone
        here, no batch averages it.
        """
        if self.bound is not None:
            length = sum(float(trace.abs().sum()) for trace in self.traces)
            rate /= max(1.0, rate * self.bound * max(abs(error), 1.0) * length)
        for parameter, trace in zip(self.parameters, self.traces, strict=True):
            parameter.add_(trace, alpha=rate * error)
        return rate

    def state(self, prefix: str) -> State:
        """Copies of the traces."""
        return {f'{prefix}.{i}': trace.numpy().copy() for i, trace in enumerate(self.traces)}

    def load_state(self, state: State, prefix: str) -> None:
        """Take what :meth:`state` gave.

        Raises:
            ValueError: one is missing or has another shape.
        """
        for i, trace in enumerate(self.traces):
            found = state.get(f'{prefix}.{i}')
            if found is None or found.shape != tuple(trace.shape):
                shape = 'missing' if found is None else f'of shape {found.shape}'
                raise ValueError(f'{prefix}.{i} is {shape}, expected {tuple(trace.shape)}')
            trace.copy_(torch.from_numpy(found.copy()))
