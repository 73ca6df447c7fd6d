"""The learner's hand on the policy's parameter ``adapter``: asks, and never waits."""

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import String

from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.trial_watch import UNWATCHED

PATIENCE = 8.0  # s of wall time for an answer
LOOK = 0.1  # s between two looks at what is waited for
ASKED_FOR = 'set by parameter'  # the policy's word for a swap through its parameter
STARTED = 'start'  # and for what acts from its start

Answer = Callable[[bool, str], None]


class Meeting:
    """Whether other nodes know this one: what they send before that is lost.

    They answer a service only once they know the client's reader, which was made after the
    subscriptions and is announced after them.
    """

    def __init__(self, node: Node, others: tuple[str, ...]) -> None:
        """Begin; make every subscription of ``node`` first."""
        self._clients = {
            name: node.create_client(GetParameters, f'{name}/get_parameters') for name in others
        }
        self._asked: dict[str, list[Any]] = {name: [] for name in others}
        self._tried = dict.fromkeys(others, 0.0)

    def missing(self) -> list[str]:
        """Who has not answered yet; call it often, it asks again every second."""
        now = time.monotonic()
        for name, client in self._clients.items():
            if now - self._tried[name] > 1.0 and client.service_is_ready():
                self._tried[name] = now
                self._asked[name].append(client.call_async(GetParameters.Request()))
        for name in [n for n, asked in self._asked.items() if any(f.done() for f in asked)]:
            del self._asked[name], self._clients[name]
        return list(self._asked)


class SwapClient:
    """What acts in a policy node, who wanted it, and how to change it."""

    def __init__(self, node: Node, name: str, policy: str = 'policy') -> None:
        """Find the node when it is there; nothing is asked yet.

        Args:
            node: the one that asks.
            name: of the adapter that is its own to swap.
            policy: name of the policy node.
        """
        self._own = f'{name}@'
        self._client = node.create_client(
            SetParametersAtomically, f'{policy}/set_parameters_atomically'
        )
        node.create_subscription(String, names.ACTIVE_ADAPTER, self._on_active, qos.LATCHED)
        node.create_timer(LOOK, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.wanted = ''  # what shall act, as far as this side is concerned
        self.said: str | None = None  # newest word of the policy; None before the first
        self.other = ''  # who acts by somebody else's wish, and why; '' if nobody
        self.lost = False  # the policy has begun anew, so that it must be asked again
        self._asked: str | None = None
        self._answer: Answer = lambda ok, reason: None
        self._future: Any = None
        self._begun = 0.0
        self._heard = False  # the topic was faster than the answer
        self._expected: deque[str] = deque()  # words on the topic that are still to come

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._asked is not None

    @property
    def there(self) -> bool:
        """Whether the policy node can be asked."""
        return bool(self._client.service_is_ready())

    def request(self, label: str, answer: Answer) -> None:
        """Ask the policy for an adapter; ``answer`` hears whether it was taken, and why not.

        A policy that is not there has :data:`PATIENCE` seconds to come.

        Raises:
            ValueError: the last request is not answered yet.
        """
        if self._asked is not None:
            raise ValueError(f'{self._asked or "the base"} was asked for and is not answered yet')
        self._asked, self._answer, self._future = label, answer, None
        self._begun, self._heard, self.lost = time.monotonic(), False, False
        self._send()

    def _send(self) -> None:
        if self._future is None and self._client.service_is_ready():
            value = ParameterValue(
                type=ParameterType.PARAMETER_STRING, string_value=self._asked or ''
            )
            request = SetParametersAtomically.Request(
                parameters=[Parameter(name='adapter', value=value)]
            )
            self._future = self._client.call_async(request)
            self._future.add_done_callback(self._on_answer)

    def _look(self) -> None:
        """Send what could not be sent, and give up what is not answered."""
        if self._asked is None:
            return
        self._send()
        if time.monotonic() - self._begun > PATIENCE:
            if self._future is not None:
                self._client.remove_pending_request(self._future)
            there = 'does not answer' if self._client.service_is_ready() else 'is not there'
            # It may have been done all the same; what then acts has to be asked for again.
            self._end(self.said == self._asked, f'the policy {there}')
            self.lost = True

    def _on_answer(self, future: Any) -> None:
        if future is not self._future or self._asked is None:
            return  # given up
        result = future.result().result
        if result.successful:
            known = self._expected[-1] if self._expected else self.said
            if not self._heard and known != self._asked:
                self._expected.append(self._asked)
            self.other = ''
        self._end(result.successful, result.reason)

    def _end(self, successful: bool, reason: str) -> None:
        if successful:
            self.wanted = self._asked or ''
        answer, self._asked, self._future = self._answer, None, None
        answer(successful, reason)

    def _on_active(self, message: String) -> None:
        word = json.loads(message.data)
        label, why, first = str(word['label']), str(word['why']), self.said is None
        self.said = label
        if why == ASKED_FOR and self._expected and label == self._expected[0]:
            self._expected.popleft()
        elif why == ASKED_FOR and self._asked is not None and label == self._asked:
            self._heard = True
        elif why == STARTED or (first and (not label or label.startswith(self._own))):
            self._expected.clear()
            self.lost, self.other = label != self.wanted, ''
            self._future = None  # one that is on its way went to the process of before
        elif why == UNWATCHED:
            self.lost = label != self.wanted
        elif label == self.wanted:
            self.other = ''
        else:
            self.other = f'{label or "the base alone"} acts ({why})'
