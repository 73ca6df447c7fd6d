"""The compiled forward pass (``kernel.c``) where it was built; called through ctypes.

It is an optional part: without a C compiler the package installs without it and numpy serves.
"""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.policy.files import ACTIVATIONS

Array = npt.NDArray[np.float32]
VARIABLE = 'LEBOT_KERNEL'  # environment variable; numpy leaves the compiled kernel aside
LAYOUT = 1  # of the structs in kernel.c
LINE = 64  # bytes of a cache line


@cache
def library() -> ctypes.PyDLL | None:
    """Return the newest library beside this file that fits it; None where there is none."""
    files = Path(__file__).parent.glob('_kernel*.so')
    for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            # PyDLL keeps the interpreter's lock: a call is over sooner than the lock is passed on.
            found = ctypes.PyDLL(str(path))
            if ctypes.c_int.in_dll(found, 'lebot_kernel_layout').value == LAYOUT:
                return found
        except (OSError, ValueError):  # of another machine; of other source
            continue
    return None


def available() -> bool:
    """Whether the compiled kernel is here and wanted.

    Raises:
        ValueError: the environment variable ``LEBOT_KERNEL`` is neither empty nor ``numpy``.
    """
    choice = os.environ.get(VARIABLE, '')
    if choice not in ('', 'numpy'):
        raise ValueError(f"{VARIABLE} is {choice!r}; choices are 'numpy' and nothing")
    return not choice and library() is not None


def describe() -> str:
    """One line for people: what computes the policy."""
    if available():
        return f'ok, compiled, {variants()[-1]} lanes'
    if library() is not None:
        return f'numpy, as {VARIABLE} says'
    return 'numpy (slower): not built; with a C compiler here, install the package again'


def variants() -> list[int]:
    """Widths, in lanes of float32, of the compiled variants that this machine runs."""
    found = library()
    widest = found.lebot_kernel_lanes() if found else 0
    return [lanes for lanes in (4, 8, 16) if lanes <= widest]


class CompiledNetwork:
    """A multilayer perceptron for one observation at a time; for one thread."""

    def __init__(self, layers: Sequence[Array], activation: str, lanes: int = 0) -> None:
        """Copy the weights into the kernel's order.

        Args:
            layers: (inputs + 1, outputs) each; the last row is the bias.
            activation: elu, relu or tanh, between the layers.
            lanes: one of :func:`variants`; the widest without it.

        Raises:
            RuntimeError: the kernel was not built.
        """
        found = library()
        if found is None:
            raise RuntimeError(f'no compiled kernel beside {__file__}: it was not built')
        lanes = lanes or variants()[-1]
        self._forward = found[f'lebot_forward_{lanes}']
        self._forward.restype = None
        self._input = _zeros(len(layers[0]) - 1)
        table = [len(layers), ACTIVATIONS.index(activation), self._input.ctypes.data]
        self._arrays: list[Array] = []  # the kernel has their addresses
        for layer in layers:
            rows, outputs = layer.shape
            blocks = -(-outputs // lanes)
            padded = np.zeros((rows, blocks * lanes), dtype=np.float32)
            padded[:, :outputs] = layer
            packed, output = _zeros(padded.size), _zeros(blocks * lanes)
            packed.reshape(blocks, rows, lanes)[:] = padded.reshape(rows, blocks, lanes).swapaxes(
                0, 1
            )
            table += [rows - 1, blocks, packed.ctypes.data, output.ctypes.data]
            self._arrays += [packed, output]
        self._output = output[:outputs]
        # A reference made once is the cheapest argument that ctypes knows.
        self._network = ctypes.byref((ctypes.c_ssize_t * len(table))(*table))

    def __call__(self, observation: npt.NDArray[Any], out: Array) -> None:
        """Write the outputs for one observation (inputs,) to ``out`` (outputs,)."""
        self._input[:] = observation
        self._forward(self._network)
        out[:] = self._output


def _zeros(size: int) -> Array:
    """An array that begins with a cache line, so that no vector lies across two."""
    raw = np.zeros(size + LINE // 4, dtype=np.float32)
    start = -raw.ctypes.data % LINE // 4
    return raw[start : start + size]
