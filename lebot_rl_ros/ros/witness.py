"""Watches one robot for the fault campaign, breaks its emulated wires, and plays its operator."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Imu, JointState
from std_srvs.srv import Trigger

from lebot_rl_ros.robot import rotations
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import to_ns
from lebot_rl_ros.ros.spin import leave

ANSWER = 3.0  # s to wait for a service
WATCHED: dict[str, type] = {names.IMU: Imu, names.CAMERA_INFO: CameraInfo}

Joints = tuple[float, ...]  # (J,) rad


@dataclass(frozen=True)
class Word:
    """What one node said of itself on /diagnostics."""

    time: float  # s
    node: str
    level: int  # 0 OK, 1 WARN, 2 ERROR
    message: str
    values: Mapping[str, str]


@dataclass
class Recording:
    """All that was heard, in order. Times are stamps of the messages, s since the epoch."""

    applied: list[tuple[float, str, Joints]] = field(default_factory=list)  # s, mode, targets
    joints: list[tuple[float, Joints]] = field(default_factory=list)  # as published
    truth: list[tuple[float, Joints]] = field(default_factory=list)  # of the emulated body
    path: list[tuple[float, float, float]] = field(default_factory=list)  # s, tilt rad, m/s
    words: list[Word] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)  # s, of one more topic

    @property
    def mode(self) -> str:
        """What the driver does, by its newest word."""
        said = next((word for word in reversed(self.words) if word.node == 'servo_driver'), None)
        if said and (not self.applied or said.time > self.applied[-1][0]):
            return said.values.get('mode', '')
        return self.applied[-1][1] if self.applied else ''

    def speed(self, since: float, window: float) -> float:
        """True forward speed, m/s, over the last ``window`` s; NaN if it is not that long."""
        now = self.path[-1][0] if self.path else since
        if now - since < window:
            return float('nan')
        return float(np.mean([speed for stamp, _, speed in self.path if stamp > now - window]))

    def lies_still(self, since: float, window: float, within: float = 0.01) -> bool:
        """Whether its tilt kept ``within`` rad for the last ``window`` s, all since then."""
        now = self.path[-1][0] if self.path else since
        tilts = [tilt for stamp, tilt, _ in self.path if stamp > now - window]
        return now - since >= window and max(tilts) - min(tilts) < within


class Witness:
    """A node in this process; call :meth:`until` or :meth:`listen` all the time."""

    def __init__(self, domain: int, watched: str = '') -> None:
        """Join the graph of a domain, on the loopback.

        Args:
            domain: of the graph.
            watched: one more topic whose stamps are kept, of :data:`WATCHED`.
        """
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        self._context = Context()
        rclpy.init(
            context=self._context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self._node = node = Node('witness', context=self._context)
        self._executor = EventsExecutor(context=self._context)
        self._executor.add_node(node)
        self.recording = heard = Recording()
        # Clients first: who has heard of the subscriptions has heard of these, too, so that no
        # answer is sent to a reader that is not known yet.
        self._parameters = node.create_client(SetParameters, 'emulator/set_parameters')
        self._triggers = {
            name: node.create_client(Trigger, name)
            for name in (names.CLEAR_FAULTS, names.SIM_RESET)
        }
        node.create_subscription(DiagnosticArray, names.DIAGNOSTICS, self._on_health, qos.OFFER)
        for topic, kept in ((names.JOINT_STATES, heard.joints), (names.TRUE_JOINTS, heard.truth)):
            node.create_subscription(JointState, topic, _joints_keeper(kept), qos.EVERY)
        node.create_subscription(
            JointState, names.JOINT_COMMANDS_APPLIED, self._on_applied, qos.EVERY
        )
        if watched in WATCHED:
            node.create_subscription(WATCHED[watched], watched, self._on_watched, qos.EVERY)
        # The driver starts when somebody listens to this one, so it comes last.
        node.create_subscription(Odometry, names.GROUND_TRUTH, self._on_path, qos.EVERY)

    def __enter__(self) -> 'Witness':
        """Nothing to do: it listens already."""
        return self

    def __exit__(self, *args: object) -> None:
        """Leave the graph."""
        leave(self._executor, self._node, self._context)

    def listen(self, seconds: float) -> None:
        """Take what comes for this long."""
        self.until(lambda: False, seconds)

    def until(self, condition: Callable[[], Any], seconds: float) -> bool:
        """Listen until the condition is true or the time is over; returns which."""
        end = time.monotonic() + seconds
        while not (true := bool(condition())) and (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.02))
        return true

    def set_fault(self, text: str) -> str:
        """Begin a fault now, or end all with ``clear``; returns why not, if refused."""
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=text)
        request = SetParameters.Request(parameters=[Parameter(name='fault', value=value)])
        answer = self._call(self._parameters, request)
        if answer is None:
            return f'the emulator has not answered for {ANSWER:g} s'
        result = answer.results[0]
        return '' if result.successful else str(result.reason)

    def trigger(self, name: str) -> str:
        """Call a service of the operator; returns what it said, empty if it did not answer."""
        answer = self._call(self._triggers[name], Trigger.Request())
        return '' if answer is None else str(answer.message)

    def _call(self, client: Any, request: Any) -> Any:
        future = client.call_async(request)
        self.until(future.done, ANSWER)
        return future.result() if future.done() else None

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.recording.words.append(
                Word(
                    to_ns(message.header.stamp) / 1e9,
                    status.name.lstrip('/'),
                    int.from_bytes(status.level, 'little'),
                    status.message,
                    {pair.key: pair.value for pair in status.values},
                )
            )

    def _on_applied(self, message: JointState) -> None:
        stamp = to_ns(message.header.stamp) / 1e9
        self.recording.applied.append((stamp, message.header.frame_id, tuple(message.position)))

    def _on_watched(self, message: Any) -> None:
        self.recording.watched.append(to_ns(message.header.stamp) / 1e9)

    def _on_path(self, message: Odometry) -> None:
        q = message.pose.pose.orientation
        tilt = rotations.tilt(rotations.gravity_in_body(np.array((q.w, q.x, q.y, q.z))))
        stamp = to_ns(message.header.stamp) / 1e9
        self.recording.path.append((stamp, float(tilt), message.twist.twist.linear.x))


def _joints_keeper(kept: list[tuple[float, Joints]]) -> Callable[[JointState], None]:
    def keep(message: JointState) -> None:
        kept.append((to_ns(message.header.stamp) / 1e9, tuple(message.position)))

    return keep
