"""Listens to a running graph for people: health, path, rewards."""

import json
import math
import os
import time
from dataclasses import dataclass, field
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import to_ns

DEADMAN = 0.5  # s, as in the policy: an older cmd_vel means stand


@dataclass
class Health:
    """Newest word of one node."""

    level: int  # 0 OK, 1 WARN, 2 ERROR
    message: str
    values: dict[str, str]
    heard: float  # time.monotonic()


@dataclass
class Heard:
    """Everything that was heard so far; lists grow by one per message."""

    health: dict[str, Health] = field(default_factory=dict)
    time: list[float] = field(default_factory=list)  # s
    pose: list[tuple[float, float, float, float]] = field(default_factory=list)  # m, yaw in rad
    velocity: list[float] = field(default_factory=list)  # m/s forward
    yaw_rate: list[float] = field(default_factory=list)  # rad/s
    # s, m/s, rad/s; changes only
    commands: list[tuple[float, float, float]] = field(default_factory=list)
    rewards: list[tuple[float, float]] = field(default_factory=list)  # s, mean reward of a step
    # s since, label, why: what acts from the start, and every change
    adapters: list[tuple[float, str, str]] = field(default_factory=list)
    terms: dict[str, str] = field(default_factory=dict)  # newest word of the reward node
    falls: list[float] = field(default_factory=list)  # s, by the reward node's count
    verdicts: list[dict[str, Any]] = field(default_factory=list)  # of the learner, every one
    statistics: dict[str, str] = field(default_factory=dict)  # newest ones of the learner


class Monitor:
    """A node in this process that only listens; call :meth:`listen` often."""

    def __init__(self, namespace: str, heard: Heard, path: str = names.GROUND_TRUTH) -> None:
        """Join the graph, on the loopback unless the user wants the network; fill ``heard``.

        Args:
            namespace: of the graph.
            heard: is filled.
            path: topic that says where the robot is; a real one knows its own odometry only.
        """
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = node = Node('monitor', namespace=namespace)
        self._prefix = f'/{namespace.strip("/")}/'.replace('//', '/')
        self.heard = heard
        self._commanded = 0.0  # s, when cmd_vel last came
        node.create_subscription(DiagnosticArray, names.DIAGNOSTICS, self._on_health, qos.OFFER)
        node.create_subscription(DiagnosticArray, names.REWARD_TERMS, self._on_terms, qos.OFFER)
        node.create_subscription(TwistStamped, names.CMD_VEL, self._on_command, qos.OFFER)
        node.create_subscription(String, names.ACTIVE_ADAPTER, self._on_adapter, qos.LATCHED)
        node.create_subscription(String, names.LEARNER_VERDICTS, self._on_verdict, qos.HISTORY)
        node.create_subscription(
            DiagnosticArray, names.LEARNER_STATISTICS, self._on_statistics, qos.OFFER
        )
        node.create_subscription(Odometry, path, self._on_path, qos.EVERY)
        self._executor = EventsExecutor()
        self._executor.add_node(node)

    def listen(self, seconds: float) -> None:
        """Take what comes for this long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def __enter__(self) -> 'Monitor':
        """Nothing to do: it listens already."""
        return self

    def __exit__(self, *args: object) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        rclpy.try_shutdown()

    def drivers(self) -> int:
        """How many processes say what the joints do; two mean two robots on one name."""
        return self._node.count_publishers(names.JOINT_STATES)

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self._prefix):
                name = status.name[len(self._prefix) :]
                values = {pair.key: pair.value for pair in status.values}
                self.heard.health[name] = Health(
                    int.from_bytes(status.level, 'little'),
                    status.message,
                    values,
                    time.monotonic(),
                )

    def _on_terms(self, message: DiagnosticArray) -> None:
        before, values = int(self.heard.terms.get('falls', 0)), _pairs(message)
        self.heard.terms = values
        more = int(values.get('falls', 0)) - before  # one that was started again counts anew
        self.heard.falls += [to_ns(message.header.stamp) / 1e9] * more
        self.heard.rewards.append(
            (to_ns(message.header.stamp) / 1e9, float(values['mean_reward']))
        )

    def _on_verdict(self, message: String) -> None:
        verdict = json.loads(message.data)
        if verdict not in self.heard.verdicts:  # one that is started again may say it again
            self.heard.verdicts.append(verdict)

    def _on_statistics(self, message: DiagnosticArray) -> None:
        self.heard.statistics = _pairs(message)

    def _on_adapter(self, message: String) -> None:
        active = json.loads(message.data)
        self.heard.adapters.append((active['since'], active['label'], active['why']))

    def _on_command(self, message: TwistStamped) -> None:
        # In the robot's time, by arrival: the sender's clock may be another.
        self._commanded = self.heard.time[-1] if self.heard.time else 0.0
        self._command(self._commanded, message.twist.linear.x, message.twist.angular.z)

    def _command(self, time: float, vx: float, wz: float) -> None:
        if not self.heard.commands or self.heard.commands[-1][1:] != (vx, wz):
            self.heard.commands.append((time, vx, wz))

    def _on_path(self, message: Odometry) -> None:
        heard, stamp = self.heard, to_ns(message.header.stamp) / 1e9
        if heard.time and stamp <= heard.time[-1]:
            return  # sent again while the graph was waiting
        if heard.commands and stamp - self._commanded > DEADMAN:
            self._command(self._commanded + DEADMAN, 0.0, 0.0)
        position, twist = message.pose.pose.position, message.twist.twist
        q = message.pose.pose.orientation
        yaw = math.atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y * q.y + q.z * q.z))
        heard.time.append(stamp)
        heard.pose.append((position.x, position.y, position.z, yaw))
        heard.velocity.append(twist.linear.x)
        heard.yaw_rate.append(twist.angular.z)


def _pairs(message: DiagnosticArray) -> dict[str, str]:
    return {pair.key: pair.value for pair in message.status[0].values}


LEVELS = {
    int.from_bytes(DiagnosticStatus.OK, 'little'): 'ok',
    int.from_bytes(DiagnosticStatus.WARN, 'little'): 'warn',
    int.from_bytes(DiagnosticStatus.ERROR, 'little'): 'error',
}
