"""Adapters swapped while the robot walks: parameter ``adapter``, two services, a latched topic."""

import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger

from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.deferred import ENDING, Asked, Worker
from lebot_rl_ros.ros.swap_times import SwapTimes

HISTORY = 8  # policies that a rollback can return to, in memory


class Prepared(Protocol):
    """A policy that may act from the next tick on."""

    @property
    def text(self) -> str:
        """As it was asked for."""

    @property
    def label(self) -> str:
        """With every version; empty for the base alone."""

    @property
    def name(self) -> str:
        """Of the adapter."""

    @property
    def version(self) -> int:
        """Of the adapter; 0 for the base alone and for mixtures."""

    @property
    def sha256(self) -> str:
        """Of the adapter; zeros for the base alone."""

    def close(self) -> None:
        """It will not be returned to."""


One = TypeVar('One', bound=Prepared)
Made = TypeVar('Made', bound=Prepared, covariant=True)


class Source(Protocol[Made]):
    """Prepares adapters for one base, in a thread of its own."""

    @property
    def base(self) -> Made:
        """The base alone."""

    @property
    def base_sha256(self) -> str:
        """Hash of the base's weights."""

    def __call__(self, text: str) -> Made:
        """Prepare what a text names; the message of a ValueError or OSError says why not."""

    def listing(self) -> Sequence[dict[str, Any]]:
        """Every name with its versions."""


class AdapterSwap(Generic[One]):
    """Which adapter acts, which acted before, and how to change it.

    The work of a swap is done in a thread; in the executor's thread a reference is assigned
    between two ticks. A refusal changes nothing.
    """

    def __init__(
        self, node: Node, now: Callable[[], float], begin: Callable[[], object] = lambda: None
    ) -> None:
        """Take over the node's parameter ``adapter`` and offer the services.

        Args:
            node: has declared ``adapter`` and ``adapter_blend``.
            now: robot time, s.
            begin: called first in the thread, to give it a priority.
        """
        self._node, self._now = node, now
        self._source: Source[One] | None = None
        self._active: One | None = None
        self._history: deque[One] = deque()
        self._closed = self._text = ''
        self._following = False  # whether the parameter follows a swap that was made
        self.swaps = self.refused = 0
        self._refusal = ''
        self._swapped: Asked | None = None  # the request that made the newest swap
        self._times = SwapTimes()
        self.acted = self._times.acted
        self._worker = worker = Worker(node, begin)
        worker.on_answer = self._on_answer
        node.add_on_set_parameters_callback(self._on_set)
        for service in node.services:
            if service.srv_type in (SetParameters, SetParametersAtomically):
                worker.serve(service, service.callback, _names_adapter)
        for name, answer in (
            (names.ROLLBACK_ADAPTER, self._on_rollback),
            (names.LIST_ADAPTERS, self._on_list),
        ):
            worker.serve(node.create_service(Trigger, name, answer), answer)

    def begin(self, source: Source[One], swap: Callable[[One, int], None]) -> None:
        """Let the adapter that the parameter names act, from the start.

        Args:
            source: of adapters for the base that runs.
            swap: lets one act from the next tick on, blended over so many ticks.

        Raises:
            ValueError: that adapter cannot be used; nothing has changed.
        """
        text = str(self._node.get_parameter('adapter').value)
        first = source(text)
        self._publisher = self._node.create_publisher(String, names.ACTIVE_ADAPTER, qos.LATCHED)
        self._source, self._swap, self._active, self._text = source, swap, first, text
        swap(first, 0)
        self._tell(first, 'start')

    def end(self, closed: str = '') -> None:
        """Forget all; ``closed`` is the reason if no adapter can be set any more."""
        self._closed = self._closed or closed
        for prepared in [*self._history, *([self._active] if self._active else [])]:
            prepared.close()
        self._history.clear()
        self._source = self._active = None

    def close(self) -> None:
        """Answer every request that still waits, and end the thread."""
        self._closed = self._closed or ENDING
        self._worker.close()
        self.end()

    @property
    def label(self) -> str:
        """Of what acts now; '' for the base alone."""
        return self._active.label if self._active else ''

    @property
    def acting(self) -> str:
        """What acts now, for people."""
        return _said(self._active) if self._active else 'nothing'

    def values(self) -> dict[str, object]:
        """For diagnostics."""
        return {
            'adapter': self.label,
            'swaps': self.swaps,
            'refused_swaps': self.refused,
            'last_refusal': self._refusal,
            **self._times.values(),
        }

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        """Before rclpy sets parameters; in the thread, if a service was asked."""
        given = {parameter.name: parameter.value for parameter in parameters}
        if 'adapter' not in given or self._following:
            return SetParametersResult(successful=True)
        ticks = given.get('adapter_blend', self._node.get_parameter('adapter_blend').value)
        try:
            if self._closed:
                raise ValueError(self._closed)
            if self._source is not None:  # else configuring reads the parameter
                self._set(self._source, given['adapter'], ticks)
        except Exception as error:  # whatever is wrong with a file, the node goes on
            known = isinstance(error, ValueError | OSError)
            self._refusal = str(error) if known else f'{type(error).__name__}: {error}'
            self.refused += 1
            self._node.get_logger().warning(f'adapter refused: {self._refusal}')
            return SetParametersResult(successful=False, reason=self._refusal)
        return SetParametersResult(successful=True)

    def _set(self, source: Source[One], text: str, ticks: int) -> None:
        new = source(text)

        def apply() -> bool:
            old = self._active
            if self._source is not source or old is None:
                new.close()
                raise ValueError(self._closed or 'the policy was configured anew; set it again')
            self._text = text
            if (new.label, new.sha256) == (old.label, old.sha256):
                return False
            self._history.append(old)
            self._let_act(new, ticks)
            return True

        if not self._worker.in_executor(apply):
            new.close()
            return
        if len(self._history) > HISTORY:
            self._history.popleft().close()
        self._tell(new, 'set by parameter')

    def _let_act(self, new: One, ticks: int) -> None:
        """Swap, in the executor's thread."""
        self._swap(new, ticks)
        self._active, self._swapped = new, self._worker.asked
        self._times.swapped(self._swapped)
        self.swaps += 1

    def _on_rollback(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """In the thread."""
        try:
            response.message, response.success = self._roll_back(), True
        except ValueError as error:
            response.message = str(error)
        return response

    def take_back(self, label: str, why: str) -> None:
        """Go back from a version, unless another one acts by then; ``why`` for who listens."""

        def work() -> None:
            if self.label == label:
                self._node.get_logger().warning(f'{self._roll_back(why)}: {why}')

        self._worker.call(work)

    def _roll_back(self, why: str = '') -> str:
        """Let act what acted before, in the thread; returns what was done, for people."""
        ticks = self._node.get_parameter('adapter_blend').value
        old, new = self._worker.in_executor(lambda: self._go_back(ticks))
        self._following = True
        self._node.set_parameters([Parameter('adapter', value=self._text)])
        self._following = False
        self._tell(new, why or f'rolled back from {_said(old)}')
        if old is not new:
            old.close()
        return f'back from {_said(old)} to {_said(new)}'

    def _go_back(self, ticks: int) -> tuple[One, One]:
        source, old = self._source, self._active
        if source is None or old is None:
            raise ValueError(self._closed or 'the policy is not configured')
        if not self._history and not old.label:
            raise ValueError('the base acts alone, and there is nothing before it to return to')
        new = self._history.pop() if self._history else source.base
        # What is newest may have changed since: the parameter gets the versions that really act.
        self._text = new.text if '/' in new.text else new.label
        self._let_act(new, ticks)
        return old, new

    def _on_list(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """In the thread."""
        source, active = self._source, self._active
        if source is None or active is None:
            response.message = self._closed or 'the policy is not configured'
            return response
        acting = {term.partition(':')[0] for term in active.label.split('+')}
        listing = source.listing()
        for entry in listing:
            for known in entry['versions']:
                known['active'] = f'{entry["name"]}@{known["version"]}' in acting
        response.success, response.message = True, json.dumps(listing)
        return response

    def _tell(self, active: One, why: str) -> None:
        """Publish and log what acts from now on."""
        word = {
            'name': active.name,
            'version': active.version,
            'label': active.label,
            'text': self._text,
            'sha256': active.sha256,
            'base_sha256': self._source.base_sha256 if self._source else '',
            'since': round(self._now(), 9),
            'why': why,
        }
        self._publisher.publish(String(data=json.dumps(word)))

    def _on_answer(self, asked: Asked) -> None:
        """In the thread, when the answer is out."""
        if asked is self._swapped and self._active is not None:
            self._times.answered(asked)
            # Telling people costs more than the swap.
            self._node.get_logger().info(f'adapter: {_said(self._active)} acts')


def _names_adapter(request: SetParameters.Request | SetParametersAtomically.Request) -> bool:
    return any(parameter.name == 'adapter' for parameter in request.parameters)


def _said(prepared: Prepared) -> str:
    return prepared.label or 'the base alone'
