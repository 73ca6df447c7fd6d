"""Plays a motion onto a running graph: answers each state with the next target."""

import os
import time
from collections.abc import Callable

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import JointMessage, to_ns

FOLLOWS = 'track'  # mode of the driver in which it does what it is told
PATIENCE = 30.0  # s of wall time for a driver that stands up and listens
SILENCE = 2.0  # s of wall time without a state in mid-motion


class MotionPlayer:
    """A node that commands joints until its motion is over, in the driver's own time.

    The driver's limits and its state machine hold as for any command; whoever plays stops by
    falling silent, and the robot then crouches.
    """

    def __init__(self, robot: Robot, namespace: str = '') -> None:
        """Join the graph, on the loopback unless the user wants the network."""
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._robot = robot
        self._node = node = Node('motion_player', namespace=namespace)
        self._command = JointMessage(robot.joint_names)
        self._publisher = node.create_publisher(JointState, names.JOINT_COMMANDS, qos.EVERY)
        node.create_subscription(JointState, names.JOINT_STATES, self._on_state, qos.NEWEST)
        node.create_subscription(
            JointState, names.JOINT_COMMANDS_APPLIED, self._on_applied, qos.NEWEST
        )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._mode, self._heard, self._stamp = '', time.monotonic(), -1
        self._targets: FloatArray = robot.stand[None]
        self._next = 0

    def __enter__(self) -> 'MotionPlayer':
        return self

    def __exit__(self, *args: object) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        rclpy.try_shutdown()

    def play(
        self, targets: FloatArray, on_second: Callable[[float], None] = lambda seconds: None
    ) -> None:
        """Stand up, then send one target (T, J) rad for each state.

        Args:
            targets: of the motion; it should begin and end near the standing pose.
            on_second: told each second of the motion what is left of it, s.

        Raises:
            ValueError: somebody else commands, no driver follows, or it stopped following.
        """
        self._wait(lambda: self._mode == FOLLOWS, PATIENCE, 'followed commands')
        if self._node.count_publishers(names.JOINT_COMMANDS) > 1:
            raise ValueError(
                f'somebody else publishes {names.JOINT_COMMANDS} here: start the graph with '
                '`lebot walk --policy none`'
            )
        self._targets, self._next = targets, 0
        rate, told = self._robot.control_rate, 0
        while self._next < len(targets):
            before = self._next
            self._wait(lambda: self._next > before, SILENCE, 'sent a state')  # noqa: B023
            if self._mode != FOLLOWS:
                raise ValueError(
                    f'the driver stopped following at {before / rate:.1f} s '
                    f'of the motion: it is in mode {self._mode}'
                )
            if self._next // rate > told:
                told = int(self._next // rate)
                on_second(len(targets) / rate - told)

    def _wait(self, until: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not until():
            left = end - time.monotonic()
            if left <= 0:
                raise ValueError(
                    f'no driver {what} within {seconds:g} s in namespace '
                    f'{self._node.get_namespace()}; mode {self._mode or "unknown"}'
                )
            self._executor.spin_once(timeout_sec=min(left, 0.1))

    def _on_state(self, message: JointState) -> None:
        stamp = to_ns(message.header.stamp)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        at = min(self._next, len(self._targets) - 1)
        self._command.stamp(stamp)
        self._command.position[:] = np.clip(
            self._targets[at], self._robot.lower, self._robot.upper
        )
        self._publisher.publish(self._command.serialized())
        self._next += 1

    def _on_applied(self, message: JointState) -> None:
        self._mode = message.header.frame_id
