"""Real-time scheduling for the thread that runs the control loop, where the system allows it."""

import os
import sys

# A thread that wants Python's interpreter waits this long before it takes it from another one
# (5 ms unless told). With a thread that works beside the control loop, that wait is what a tick
# can be late by; also where the loop has a real-time priority, as the lock knows none.
SWITCH_INTERVAL = 0.0002  # s


def share_interpreter() -> None:
    """Let the control loop have the interpreter soon when another thread is busy with it."""
    sys.setswitchinterval(SWITCH_INTERVAL)


def work_beside(priority: int) -> None:
    """Run the calling thread just below the control loop's ``priority``, where that is allowed.

    An ordinary thread that holds the interpreter may be kept from its core by other processes,
    and the control loop would wait with it: up to 59 ms beside four busy ones, against 0.3 ms so.
    """
    if priority > 1:
        ask_for_realtime(priority - 1)


def ask_for_realtime(priority: int) -> str:
    """Run the calling thread under SCHED_FIFO; threads that it starts later are ordinary ones.

    Args:
        priority: 1 to 99; 0 does not ask.

    Returns:
        For diagnostics: what it runs under now, and why.

    Raises:
        ValueError: the priority is out of range.
    """
    if not priority:
        return 'other: not asked for'
    lowest, highest = (
        os.sched_get_priority_min(os.SCHED_FIFO),
        os.sched_get_priority_max(os.SCHED_FIFO),
    )
    if not lowest <= priority <= highest:
        raise ValueError(
            f'realtime_priority is {priority}, must be 0 or from {lowest} to {highest}'
        )
    try:
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except OSError:
        return 'other: not permitted (give the user rtprio, or CAP_SYS_NICE)'
    return f'fifo {priority}'
