"""Asks a running policy node for another adapter, as `ros2 param set` does."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String
from std_srvs.srv import Trigger

from lebot_rl_ros.ros import names, qos

PATIENCE = 5.0  # s to find the node
ANSWER = 15.0  # s to wait for an answer


class NoNodeError(ValueError):
    """No such node answers; the message says what to do."""


class AdapterClient:
    """A node in this process that talks to one policy node."""

    def __init__(self, namespace: str = '', node: str = 'policy') -> None:
        """Join the graph, on the loopback unless the user wants the network; find the node.

        Raises:
            NoNodeError: it is not there within :data:`PATIENCE` seconds.
        """
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = mine = Node(f'adapter_client_{os.getpid()}', namespace=namespace.strip('/'))
        self._executor = EventsExecutor()
        self._executor.add_node(mine)
        self.active: dict[str, Any] = {}  # the newest word of policy/active_adapter
        self._setting = mine.create_client(
            SetParametersAtomically, f'{node}/set_parameters_atomically'
        )
        self._rollback = mine.create_client(Trigger, names.ROLLBACK_ADAPTER)
        self._listing = mine.create_client(Trigger, names.LIST_ADAPTERS)
        # After the clients: who has heard of this one has heard of those, so that no answer is
        # sent to a reader that the node does not know yet, which would be lost.
        mine.create_subscription(String, names.ACTIVE_ADAPTER, self._on_active, qos.LATCHED)
        if not self._until(lambda: self._setting.service_is_ready() and self.active, PATIENCE):
            where = self._setting.srv_name.rpartition('/')[0]
            known = (
                'is there, but not configured'
                if self._setting.service_is_ready()
                else 'is not there'
            )
            self.close()
            raise NoNodeError(
                f'{where} {known}: start `lebot walk` in another terminal, or give --namespace; '
                f'this is ROS domain {os.environ.get("ROS_DOMAIN_ID", "0")}, discovery range '
                f'{os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"]}'
            )

    def set(self, text: str) -> tuple[bool, str, float]:
        """Set the parameter; returns whether it was taken, the reason if not, and seconds."""
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=text)
        request = SetParametersAtomically.Request(
            parameters=[Parameter(name='adapter', value=value)]
        )
        begun = time.perf_counter()
        result = self._call(self._setting, request).result
        seconds = time.perf_counter() - begun
        if result.successful:  # the topic and the answer come by different ways
            self._until(lambda: self.active.get('text') == text, 1.0)
        return result.successful, result.reason, seconds

    def rollback(self) -> tuple[bool, str]:
        """Go back to the adapter that was active before; returns success and what was done."""
        before = self.active
        answer = self._call(self._rollback, Trigger.Request())
        if answer.success:
            self._until(lambda: self.active is not before, 1.0)
        return answer.success, answer.message

    def listing(self) -> list[dict[str, Any]]:
        """Every adapter that the node can see, with its versions.

        Raises:
            ValueError: the node cannot say; the message is its own.
        """
        answer = self._call(self._listing, Trigger.Request())
        if not answer.success:
            raise ValueError(answer.message)
        return list(json.loads(answer.message))

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        rclpy.try_shutdown()

    def __enter__(self) -> 'AdapterClient':
        """Nothing to do: the node has been found."""
        return self

    def __exit__(self, *args: object) -> None:
        """Leave the graph."""
        self.close()

    def _call(self, client: Any, request: Any) -> Any:
        if not self._until(client.service_is_ready, PATIENCE):
            raise NoNodeError(f'{client.srv_name} is not there')
        future = client.call_async(request)
        if not self._until(future.done, ANSWER):
            raise NoNodeError(f'{client.srv_name} has not answered for {ANSWER:g} s')
        return future.result()

    def _until(self, condition: Callable[[], Any], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)
        return bool(condition())

    def _on_active(self, message: String) -> None:
        self.active = json.loads(message.data)
