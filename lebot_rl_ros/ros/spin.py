"""How every node starts, spins and ends."""

import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import Executor
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

AnyNode = TypeVar('AnyNode', bound=Node)
MEMORY = Path('/dev/shm')
FAREWELL, QUIET = 2.0, 0.1  # s at the end for what is still to be done, and without any of it


class Stop:
    """True once SIGINT or SIGTERM has come.

    The context stays valid, so that a node can still make the robot safe.
    """

    def __init__(self) -> None:
        """Install the handlers; `ros2 launch` may send SIGINT twice: a second must not hurt."""
        self._requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._requested = True

    def __bool__(self) -> bool:
        """Whether to stop."""
        return self._requested


def spin(executor: Executor, stop: Stop) -> None:
    """Serve the node until stopped.

    In timed turns, as the events executor's plain spin never returns in Jazzy's wheel.
    """
    while not stop:
        executor.spin_once(timeout_sec=0.1)


def finish(executor: Executor, done: Callable[[], int]) -> None:
    """Serve what was said before the end, while the count of what is ``done`` grows.

    Where time goes fast a node may lie behind, and what it had not come to would be lost.
    """
    now = time.monotonic()
    end, quiet, count = now + FAREWELL, now + QUIET, done()
    while time.monotonic() < min(end, quiet):
        executor.spin_once(timeout_sec=QUIET)
        if done() != count:
            quiet, count = time.monotonic() + QUIET, done()


def leave(executor: Executor, node: Node, context: Context) -> None:
    """End a node's part in the graph while its process goes on: nothing of it is left.

    Only when neither executor nor node holds the DDS participant does it go with the context, and
    its shared memory with it.
    """
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown(context=context)
    context.destroy()


def drop_shared_memory() -> None:
    """Unlink what Fast DDS keeps in ``/dev/shm`` for this process, which is about to end.

    Left behind, it fills the memory, and peers look for its reader. To take the participant down
    would do it too, but waits for ever in one exit of some hundreds. Its files are those whose
    lock (``_el``) this process has open; peers' are only mapped. (A peer that still talks to it
    may make one port's file once more; that is used again by the next one of its name.)
    """
    for descriptor in Path('/proc/self/fd').glob('*'):
        with contextlib.suppress(OSError):  # the one that lists them is gone by now
            lock = descriptor.readlink()
            if lock.parent == MEMORY and lock.name.startswith('fastrtps_'):
                name = lock.name.removesuffix('_el')
                for file in (name, f'{name}_el', f'sem.{name}_mutex'):
                    (MEMORY / file).unlink(missing_ok=True)


def run(
    factory: Callable[[], AnyNode],
    args: list[str] | None = None,
    loop: Callable[[AnyNode, Executor, Stop], None] | None = None,
) -> NoReturn:
    """Start a node, run it until it is stopped, clean up, and end the process.

    A ValueError or OSError of the factory (a bad parameter, a policy of another robot) ends the
    process with status 2 (``bringup.graph.REFUSED``) and its message, before anything moved.
    """
    stop = Stop()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    executor = EventsExecutor()
    node: AnyNode | None = None
    status = 0
    try:
        node = factory()
        executor.add_node(node)
        gc.collect()
        gc.freeze()  # what was loaded stays; collections in the loop need not walk through it
        if loop:
            loop(node, executor, stop)
        else:
            spin(executor, stop)
    except (ValueError, OSError) as error:
        if node is not None:
            raise
        print(f'[FATAL] {error}', file=sys.stderr, flush=True)
        status = 2
    finally:
        # `ros2 launch` may interrupt twice, and Python ends with the default handlers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        drop_shared_memory()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is cleaned up. Python's own teardown would only destroy what is left of rclpy and DDS, in
    # an order that they do not always survive: about one exit in a hundred ended in SIGABRT.
    os._exit(status)
