"""Services that a thread answers, while the executor goes on with the control loop.

rclpy's events executor does not await coroutines. So the service's callback returns a mark, and
where rclpy would send the response, the mark goes to the thread together with the request's
header. There the service's real callback runs, and the answer is sent from there. What must not
happen in the middle of a tick is given back to the executor's thread, between two of its
callbacks. All this is the same with rclpy's other executors.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass
from typing import Any, TypeVar

from rclpy.node import Node
from rclpy.service import Service

Result = TypeVar('Result')
ENDING = 'the node is ending'


@dataclass
class Asked:
    """A request that is to be answered by the thread."""

    request: Any
    response: Any
    arrived: float  # time.perf_counter()
    spent: float = 0.0  # s that the executor's thread has given to it


class Worker:
    """One thread, which answers requests in the order in which they came."""

    def __init__(self, node: Node, begin: Callable[[], object] = lambda: None) -> None:
        """Start no thread before there is work; it calls ``begin`` first."""
        self._node, self._begin = node, begin
        self._thread = 0
        self._pool = ThreadPoolExecutor(1, 'worker', self._start)
        self.closing = False
        self.asked: Asked | None = None  # what is being answered
        self.on_answer: Callable[[Asked], None] = lambda asked: None

    def serve(
        self,
        service: Service,
        answer: Callable[[Any, Any], Any],
        wanted: Callable[[Any], bool] = lambda request: True,
    ) -> None:
        """Let the thread answer a service.

        Args:
            service: whose callback and ``send_response`` are replaced.
            answer: from request and empty response, in the thread.
            wanted: which requests; the others go to the old callback at once.
        """
        at_once, send = service.callback, service.send_response

        def callback(request: Any, response: Any) -> Any:
            if wanted(request):
                return Asked(request, response, time.perf_counter())
            return at_once(request, response)

        def send_response(response: Any, header: Any) -> None:
            if not isinstance(response, Asked):
                send(response, header)
                return
            self._pool.submit(self._answer, response, answer, lambda done: send(done, header))
            response.spent = time.perf_counter() - response.arrived

        service.callback = callback
        service.send_response = send_response  # type: ignore[method-assign]

    def call(self, work: Callable[[], object]) -> None:
        """Let the thread do something that nobody asked for by a service."""
        if not self.closing:
            self._pool.submit(self._call, work)

    def in_executor(self, call: Callable[[], Result]) -> Result:
        """Call something between two callbacks of the executor, and wait for its result.

        From any other thread than this worker's it is called in place.

        Raises:
            ValueError: the node is ending, and the executor no longer serves it.
        """
        if threading.get_ident() != self._thread:
            return call()
        asked, done = self.asked, Future[Result]()

        def run() -> None:
            begun = time.perf_counter()
            try:
                done.set_result(call())
            except Exception as error:
                done.set_exception(error)
            if asked is not None:
                asked.spent += time.perf_counter() - begun

        if self._node.executor is not None:
            self._node.executor.create_task(run)
        while not self.closing:
            try:
                return done.result(timeout=0.1)
            except NotYetError:
                continue
        raise ValueError(ENDING)

    def close(self) -> None:
        """Let the thread answer all that it was given, and end it; ``closing`` tells it."""
        self.closing = True
        self._pool.shutdown()

    def _start(self) -> None:
        self._thread = threading.get_ident()
        self._begin()

    def _call(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # as nobody waits for this call
            self._node.get_logger().error(f'something was not done: {error!r}')

    def _answer(
        self, asked: Asked, answer: Callable[[Any, Any], Any], send: Callable[[Any], None]
    ) -> None:
        self.asked = asked
        try:
            send(answer(asked.request, asked.response))
            self.on_answer(asked)
        except Exception as error:  # as nobody waits for this call
            self._node.get_logger().error(f'a request was not answered: {error!r}')
        self.asked = None
