"""Forward and backward through an MLP without autograd: no graph, nothing allocated."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lebot_rl_ros.policy.networks import MLP

aten = torch.ops.aten


def _tanh(x: Tensor) -> Tensor:
    np.tanh(x.numpy(), out=x.numpy())  # some ten times as fast as torch's
    return x


# In place: x -> activation(x).
ACTIVATE: dict[str, Callable[[Tensor], Tensor]] = {
    'elu': aten.elu_.default,
    'relu': aten.relu_.default,
    'tanh': _tanh,
}
# In place: gradient g of y = activation(x) -> gradient of x; y is enough to know the slope.
DEACTIVATE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'elu': lambda g, y: aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, True, y, grad_input=g),
    'relu': lambda g, y: aten.threshold_backward.grad_input(g, y, 0.0, grad_input=g),
    'tanh': lambda g, y: aten.tanh_backward.grad_input(g, y, grad_input=g),
}


class Backprop:
    """An MLP with buffers for up to ``rows`` rows; gradients go to the parameters' ``grad``."""

    def __init__(self, network: MLP, rows: int) -> None:
        """Make the buffers. Every parameter must have its ``grad`` already."""
        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        self._weights = [layer.weight.detach() for layer in layers]
        self._biases = [layer.bias.detach() for layer in layers]
        self._transposed = [weight.t() for weight in self._weights]
        gradients = [(layer.weight.grad, layer.bias.grad) for layer in layers]
        self._gradients = [(w, b) for w, b in gradients if w is not None and b is not None]
        if len(self._gradients) != len(layers):
            raise ValueError('a parameter of the network has no grad to write to')
        self._activate = ACTIVATE[network.activation_name]
        self._deactivate = DEACTIVATE[network.activation_name]
        self._outputs = [torch.zeros(rows, len(bias)) for bias in self._biases]
        self._errors = [torch.zeros(rows, weight.shape[1]) for weight in self._weights[1:]]
        self._inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (rows, out) for inputs (rows, in): a view that the next call overwrites."""
        self._inputs = []
        for i, (bias, weight) in enumerate(zip(self._biases, self._transposed, strict=True)):
            self._inputs.append(x)
            x = torch.addmm(bias, x, weight, out=_rows(self._outputs[i], len(x)))
            if i < len(self._weights) - 1:
                self._activate(x)
        return x

    @property
    def hidden(self) -> Tensor:
        """What the last layer got to see in the last forward, (rows, widths[-2]): a view."""
        return self._inputs[-1]

    def backward(self, gradient: Tensor) -> None:
        """Write the parameters' gradients for ``gradient`` (rows, out) of the last output."""
        for i in reversed(range(len(self._weights))):
            weight, bias = self._gradients[i]
            torch.mm(gradient.t(), self._inputs[i], out=weight)
            torch.sum(gradient, dim=0, out=bias)
            if i:
                error = _rows(self._errors[i - 1], len(gradient))
                gradient = torch.mm(gradient, self._weights[i], out=error)
                self._deactivate(gradient, self._inputs[i])


def _rows(buffer: Tensor, count: int) -> Tensor:
    return buffer if count == len(buffer) else buffer[:count]
