"""Health of a node on /diagnostics, once a second (REP-107)."""

import time
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from lebot_rl_ros.ros import names
from lebot_rl_ros.ros.qos import OFFER

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
Health = tuple[bytes, str, Mapping[str, object]]


def status(
    name: str, level: bytes, message: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    """Build a status; floats keep every digit, so that a reader gets the same number."""
    pairs = [
        KeyValue(key=key, value=repr(value) if isinstance(value, float) else str(value))
        for key, value in values.items()
    ]
    return DiagnosticStatus(
        level=level, name=name, message=message, hardware_id='lebot', values=pairs
    )


class Diagnostics:
    """Publishes what ``health`` returns once a wall second, and at once on :meth:`publish`."""

    def __init__(self, node: Node, health: Callable[[], Health]) -> None:
        """Start the timer on the steady clock: health is told while simulated time stands, too."""
        self._node, self._health = node, health
        self._publisher = node.create_publisher(DiagnosticArray, names.DIAGNOSTICS, OFFER)
        node.create_timer(1.0, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Publish now."""
        level, message, values = self._health()
        array = DiagnosticArray(
            status=[status(self._node.get_fully_qualified_name(), level, message, values)]
        )
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


class Cadence:
    """How often something happens, in wall time."""

    def __init__(self) -> None:
        """Start counting now."""
        self.count = 0
        self._since = time.monotonic()
        self._last_count = 0

    def tick(self) -> None:
        """It happened."""
        self.count += 1

    def rate(self) -> float:
        """Times per second since the last call."""
        now = time.monotonic()
        rate = (self.count - self._last_count) / max(now - self._since, 1e-9)
        self._since, self._last_count = now, self.count
        return round(rate, 1)
