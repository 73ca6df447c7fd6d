"""A policy without torch: one observation in, one action out, in microseconds.

The compiled kernel computes it where it was built, and numpy where not.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.policy import kernel
from lebot_rl_ros.policy.files import PolicyManifest, load_policy

Array = npt.NDArray[np.float32]
EPSILON = 1e-4  # added to the normaliser's variance, here and in networks.py
ZERO = np.zeros((), dtype=np.float32)  # an array: numpy takes 0.2 us to make one of a 0.0


def fold(tensors: Mapping[str, npt.NDArray[Any]], name: str) -> list[Array]:
    """Layers ``{name}.0``, ``{name}.1``, ... with the observation normaliser in the first one.

    Returns:
        New arrays (inputs + 1, outputs), one a layer; the last row is the bias.
    """
    layers: list[Array] = []
    while f'{name}.{len(layers)}.weight' in tensors:
        weight = tensors[f'{name}.{len(layers)}.weight']
        bias = tensors[f'{name}.{len(layers)}.bias']
        if not layers:
            variance = tensors['normaliser.var'].astype(np.float64)
            weight = weight / np.sqrt(variance + EPSILON)
            bias = bias - weight @ tensors['normaliser.mean'].astype(np.float64)
        layer = np.empty((weight.shape[1] + 1, weight.shape[0]), dtype=np.float32)
        layer[:-1], layer[-1] = weight.T, bias
        layers.append(layer)
    return layers


def activate(activation: str, x: Array, scratch: Array) -> None:
    """Apply an activation in place; ``scratch`` has the shape of ``x``."""
    if activation == 'elu':  # max(x, e^min(x, 0) - 1): e^x - 1 >= x, so no branch is needed
        np.minimum(x, ZERO, out=scratch)
        np.expm1(scratch, out=scratch)
        np.maximum(x, scratch, out=x)
    elif activation == 'tanh':
        np.tanh(x, out=x)
    elif activation == 'relu':
        np.maximum(x, ZERO, out=x)
    else:
        raise ValueError(f'activation is {activation!r}, expected elu, tanh or relu')


class Network:
    """One multilayer perceptron in numpy: what serves where the kernel was not compiled."""

    def __init__(self, layers: Sequence[Array], activation: str) -> None:
        """Take layers as :func:`fold` gives them."""
        self._layers, self._activation = layers, activation
        # An input ends with a 1 for the bias; the output of a layer is the input of the next.
        self._inputs = [np.ones(len(layer), dtype=np.float32) for layer in layers]
        self._scratch = [np.empty(layer.shape[1], dtype=np.float32) for layer in layers]
        self._hidden = [
            (layer.T, x, after[:-1], scratch)
            for layer, x, after, scratch in zip(
                layers, self._inputs, self._inputs[1:], self._scratch, strict=False
            )
        ]

    def __call__(self, observation: npt.NDArray[Any], out: Array) -> None:
        """Write the outputs for one observation (inputs,) to ``out`` (outputs,)."""
        self._inputs[0][:-1] = observation
        for weight, x, y, scratch in self._hidden:
            np.dot(weight, x, out=y)
            activate(self._activation, y, scratch)
        out[:] = np.dot(self._layers[-1].T, self._inputs[-1], out=self._scratch[-1])

    def many(self, observations: Array) -> Array:
        """Outputs (N, outputs) for observations (N, inputs)."""
        x, last = observations, len(self._layers) - 1
        for i, layer in enumerate(self._layers):
            x = x @ layer[:-1] + layer[-1]
            if i < last:
                activate(self._activation, x, np.empty_like(x))
        return x


class PolicyRuntime:
    """Actor and critic of one policy, for one robot; for one thread, as the buffers are shared."""

    def __init__(
        self,
        tensors: Mapping[str, npt.NDArray[Any]],
        manifest: PolicyManifest,
        *,
        compiled: bool | None = None,
    ) -> None:
        """Copy the weights; later changes of ``tensors`` change nothing here.

        Args:
            tensors: by the names of the file format.
            manifest: of the policy.
            compiled: by the kernel, or by numpy; as :func:`kernel.available` says without it.
        """
        self.manifest = manifest
        self.compiled = kernel.available() if compiled is None else compiled
        self.log_std: Array = tensors['log_std'].astype(np.float32)  # (J,) action units
        activation = manifest.network['activation']
        actor, critic = fold(tensors, 'actor'), fold(tensors, 'critic')
        self._batch = Network(actor, activation)
        network = kernel.CompiledNetwork if self.compiled else Network
        self._actor, self._critic = network(actor, activation), network(critic, activation)
        self._value = np.empty(1, dtype=np.float32)

    @classmethod
    def load(cls, folder: str | Path, *, compiled: bool | None = None) -> 'PolicyRuntime':
        """Read a policy folder.

        Raises:
            PolicyError: as in :func:`load_policy`.
        """
        return cls(*load_policy(folder), compiled=compiled)

    @property
    def sha256(self) -> str:
        """Hash of the weights, as hexadecimal digits."""
        return self.manifest.sha256

    def act(self, observation: npt.NDArray[Any], out: Array | None = None) -> Array:
        """Mean action (J,), policy units, not clipped, for one observation (size,).

        Args:
            observation: (size,), as the manifest's layout says.
            out: (J,) float32 to write to; a new array without it.
        """
        if out is None:
            out = np.empty_like(self.log_std)
        self._actor(observation, out)
        return out

    def act_many(self, observations: npt.NDArray[Any]) -> Array:
        """Mean actions (N, J) for observations (N, size): for evaluation and for bags."""
        return self._batch.many(np.asarray(observations, dtype=np.float32))

    def value(self, observation: npt.NDArray[Any]) -> float:
        """Discounted reward that the critic expects from one observation (size,)."""
        self._critic(observation, self._value)
        return float(self._value[0])
