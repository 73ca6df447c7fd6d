"""How long swaps of adapters take, and how much of it the control loop gives."""

import time
from collections import deque

import numpy as np

from lebot_rl_ros.ros.deferred import Asked

MEASURED = 1000  # swaps that the figures are of


class SwapTimes:
    """Figures of the last :data:`MEASURED` swaps."""

    def __init__(self) -> None:
        """Begin with none."""
        self._requested: float | None = None  # time.perf_counter(), until the new one has acted
        self._work: deque[float] = deque(maxlen=MEASURED)  # s in the executor's thread
        self._effect: deque[float] = deque(maxlen=MEASURED)  # s from request to first command

    def swapped(self, asked: Asked | None) -> None:
        """Another policy acts from the next tick on, by this request; None: by nobody's."""
        self._requested = asked.arrived if asked else time.perf_counter()

    def acted(self) -> None:
        """A command of the active policy is out."""
        if self._requested is not None:
            self._effect.append(time.perf_counter() - self._requested)
            self._requested = None

    def answered(self, asked: Asked) -> None:
        """The answer to a request that made a swap is out."""
        self._work.append(asked.spent)

    def values(self) -> dict[str, object]:
        """For diagnostics."""
        return {
            **_figures('swap_work', self._work),
            **_figures('request_to_effect', self._effect),
        }


def _figures(name: str, seconds: deque[float]) -> dict[str, object]:
    """The last, mean and percentiles, in ms."""
    if not seconds:
        return {}
    ms = 1e3 * np.array(seconds)
    p50, p99 = np.percentile(ms, (50, 99))
    return {
        f'{name}_ms': round(float(ms[-1]), 4),
        f'{name}_mean_ms': round(float(ms.mean()), 4),
        f'{name}_p50_ms': round(float(p50), 4),
        f'{name}_p99_ms': round(float(p99), 4),
    }
