"""A policy in numpy: one observation in, one action out, in microseconds, without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.policy.files import PolicyManifest, load_policy

Array = npt.NDArray[np.float32]
EPSILON = 1e-4  # added to the normaliser's variance, here and in networks.py


def activate(activation: str, x: Array, scratch: Array) -> None:
    """Apply an activation in place; ``scratch`` has the shape of ``x``."""
    if activation == 'elu':  # max(x, e^min(x, 0) - 1): e^x - 1 >= x, so no branch is needed
        np.minimum(x, 0.0, out=scratch)
        np.exp(scratch, out=scratch)
        np.subtract(scratch, 1.0, out=scratch)
        np.maximum(x, scratch, out=x)
    elif activation == 'tanh':
        np.tanh(x, out=x)
    elif activation == 'relu':
        np.maximum(x, 0.0, out=x)
    else:
        raise ValueError(f'activation is {activation!r}, expected elu, tanh or relu')


class Network:
    """One multilayer perceptron with the observation normaliser folded into its first layer."""

    def __init__(
        self, tensors: Mapping[str, npt.NDArray[Any]], name: str, activation: str
    ) -> None:
        """Take the layers ``{name}.0.weight``, ``{name}.0.bias``, ... of ``tensors``."""
        self._activation = activation
        self._layers: list[tuple[Array, Array]] = []
        while f'{name}.{len(self._layers)}.weight' in tensors:
            layer = f'{name}.{len(self._layers)}'
            weight = tensors[f'{layer}.weight'].astype(np.float64)
            bias = tensors[f'{layer}.bias'].astype(np.float64)
            if not self._layers:
                weight = weight / np.sqrt(tensors['normaliser.var'].astype(np.float64) + EPSILON)
                bias = bias - weight @ tensors['normaliser.mean'].astype(np.float64)
            self._layers.append((weight.astype(np.float32), bias.astype(np.float32)))
        self._buffers = [(np.empty_like(bias), np.empty_like(bias)) for _, bias in self._layers]

    def __call__(self, observation: Array) -> Array:
        """Outputs for one observation (size,): a view that the next call overwrites."""
        x, last = observation, len(self._layers) - 1
        for i, ((weight, bias), (y, scratch)) in enumerate(
            zip(self._layers, self._buffers, strict=True)
        ):
            np.dot(weight, x, out=y)
            np.add(y, bias, out=y)
            if i < last:
                activate(self._activation, y, scratch)
            x = y
        return x

    def many(self, observations: Array) -> Array:
        """Outputs (N, out) for observations (N, size)."""
        x, last = observations, len(self._layers) - 1
        for i, (weight, bias) in enumerate(self._layers):
            x = x @ weight.T + bias
            if i < last:
                activate(self._activation, x, np.empty_like(x))
        return x


class PolicyRuntime:
    """Actor and critic of one policy, for one robot; for one thread, as the buffers are shared."""

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]], manifest: PolicyManifest) -> None:
        """Copy the weights; later changes of ``tensors`` change nothing here."""
        self.manifest = manifest
        self.log_std: Array = tensors['log_std'].astype(np.float32)  # (J,) action units
        self._actor = Network(tensors, 'actor', manifest.network['activation'])
        self._critic = Network(tensors, 'critic', manifest.network['activation'])
        self._observation = np.zeros(manifest.observation_size, dtype=np.float32)

    @classmethod
    def load(cls, folder: str | Path) -> 'PolicyRuntime':
        """Read a policy folder.

        Raises:
            PolicyError: as in :func:`load_policy`.
        """
        return cls(*load_policy(folder))

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
        self._observation[:] = observation
        action = self._actor(self._observation)
        if out is None:
            return action.copy()
        out[:] = action
        return out

    def act_many(self, observations: npt.NDArray[Any]) -> Array:
        """Mean actions (N, J) for observations (N, size): for evaluation and for bags."""
        return self._actor.many(np.asarray(observations, dtype=np.float32))

    def value(self, observation: npt.NDArray[Any]) -> float:
        """Discounted reward that the critic expects from one observation (size,)."""
        self._observation[:] = observation
        return float(self._critic(self._observation)[0])
