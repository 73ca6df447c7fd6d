"""Who else is in the graph of a recorder: whether they know it, and their parameters."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python

AGAIN = 1.0  # s after which a request is sent anew: its answer may have been lost
LONGEST = 15.0  # s, then a node that does not answer is left alone


class _Asked:
    """One node that is being asked: which parameters it has, and then for their values."""

    def __init__(self, node: Node, name: str) -> None:
        self._node, self.name = node, name
        self._clients: list[Any] = []
        self._futures: list[Any] = []
        self._sent = 0.0
        self._began = time.monotonic()
        self._request: Any = None
        self._step(ListParameters, ListParameters.Request())

    def _step(self, kind: Any, request: Any) -> None:
        self._request, self._sent, self._futures = request, 0.0, []
        verb = 'list' if kind is ListParameters else 'get'
        self._clients.append(self._node.create_client(kind, f'{self.name}/{verb}_parameters'))

    def look(self) -> Any:
        """Send what is due; the answer to the newest request, once it is there."""
        done = next((future for future in self._futures if future.done()), None)
        if done is not None:
            return done.result()
        now = time.monotonic()
        if now - self._sent > AGAIN and self._clients[-1].service_is_ready():
            self._sent = now
            self._futures.append(self._clients[-1].call_async(self._request))
        return None

    def get(self, names: list[str]) -> None:
        """Ask for the values of these."""
        self.names = names
        self._step(GetParameters, GetParameters.Request(names=names))

    @property
    def late(self) -> bool:
        """Whether it is not worth waiting any longer."""
        return time.monotonic() - self._began > LONGEST

    def close(self) -> None:
        """Leave its services."""
        for client in self._clients:
            self._node.destroy_client(client)


class OtherNodes:
    """Asks every node for its parameters, without waiting; who answered knows this recorder.

    A node is asked once all that it publishes is listened to. It answers only when it has heard
    of the client's reader, which was announced after those subscriptions: so from then on none
    of its messages can be lost to discovery.
    """

    def __init__(
        self, node: Node, heard: Callable[[str], bool], expected: Iterable[str] = ()
    ) -> None:
        """Begin.

        Args:
            node: asks.
            heard: whether a topic, by its absolute name, is listened to or need not be.
            expected: names of nodes in the recorder's namespace that :meth:`missing` waits for.
        """
        self._node, self._heard = node, heard
        below = node.get_namespace().rstrip('/')
        self._own, self._below = node.get_fully_qualified_name(), f'{below}/'
        self._expected = {f'{below}/{name}' for name in expected}
        self._asked: dict[str, _Asked] = {}
        self._answered: set[str] = set()
        self.parameters: dict[str, dict[str, Any]] = {}  # by the nodes' full names

    def missing(self) -> list[str]:
        """Expected nodes of which it is not known that they know the recorder."""
        return sorted(self._expected - self._answered)

    @property
    def complete(self) -> bool:
        """Whether the parameters of all expected nodes are known."""
        return self._expected <= set(self.parameters)

    def look(self) -> bool:
        """Go on where something has come; call it some times a second.

        Returns:
            Whether more parameters are known now.
        """
        known = len(self.parameters)
        for name, space in self._node.get_node_names_and_namespaces():
            full = f'{space.rstrip("/")}/{name}'
            met = full in self._asked or full in self.parameters or full == self._own
            if not met and full.startswith(self._below) and self._listened(name, space):
                self._asked[full] = _Asked(self._node, full)
        for full, asked in list(self._asked.items()):
            answer = asked.look()
            if isinstance(answer, ListParameters.Response):
                self._answered.add(full)
                asked.get(list(answer.result.names))
            elif isinstance(answer, GetParameters.Response):
                values = map(parameter_value_to_python, answer.values)
                self.parameters[full] = dict(zip(asked.names, values, strict=False))
            if full in self.parameters or asked.late:
                self.parameters.setdefault(full, {})
                self._asked.pop(full).close()
        return len(self.parameters) > known

    def _listened(self, name: str, space: str) -> bool:
        """Whether all that a node publishes so far is listened to."""
        try:
            topics = {t for t, _ in self._node.get_publisher_names_and_types_by_node(name, space)}
        except RuntimeError:  # it is gone again
            return False
        # Our own nodes make this publisher after all others.
        complete = '/diagnostics' in topics or f'{space.rstrip("/")}/{name}' not in self._expected
        return complete and all(map(self._heard, topics))
