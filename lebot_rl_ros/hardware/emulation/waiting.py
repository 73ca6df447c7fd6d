"""Waiting for bytes or for a time, whichever is first, to some microseconds."""

import select
import time
from collections.abc import Sequence

from lebot_rl_ros.hardware.emulation.line import Line

SPIN = 100e-6  # s before a time that are waited for awake: sleep is not that exact


def wait(lines: Sequence[Line], due: float | None, longest: float) -> None:
    """Return when a line has bytes, at ``due`` (perf_counter), or after ``longest`` s."""
    # select, as poll and epoll round a time up to whole milliseconds.
    plugged = [line for line in lines if line.plugged]
    now = time.perf_counter()
    end = now + longest if due is None else min(due, now + longest)
    if select.select(plugged, (), (), max(end - now - (due is not None) * SPIN, 0.0))[0]:
        return
    while due is not None and time.perf_counter() < end:
        if select.select(plugged, (), (), 0.0)[0]:
            return
