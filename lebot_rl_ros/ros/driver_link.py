"""The other side of a driver's topics, in this process: states come, commands go."""

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from rclpy.context import Context
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Imu, JointState

from lebot_rl_ros.robot import Robot, RobotState
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import (
    JointMessage,
    JointOrder,
    is_finite,
    robot_state,
    set_stamp,
    to_ns,
)
from lebot_rl_ros.ros.driver_services import DriverServices, GraphError
from lebot_rl_ros.ros.spin import leave
from lebot_rl_ros.ros.velocity import VelocityInput

STALE_IMU = 0.1  # s, as in the policy
COMMAND_TIMEOUT = 0.5  # s, likewise: an older cmd_vel means stand
COMMAND_EVERY = 100_000_000  # ns between two cmd_vel of ours
BACKLOG = 5 * qos.OFFER.depth  # messages that the queues can hold
DRIVERS = ('sim', 'servo_driver')
_count = itertools.count()


@dataclass(frozen=True)
class Seen:
    """One control period, complete: a state, and what the servos had got for the one before."""

    state: RobotState
    applied: FloatArray  # (J,) rad; empty before the first command
    mode: str  # of the driver when it applied that, as in 'track'

    @property
    def stamp(self) -> int:
        """Of the state, ns."""
        return int(self.state.stamp)


class DriverLink:
    """A node that takes the policy's part. Only inside its calls does it listen."""

    def __init__(
        self, robot: Robot, namespace: str, domain: int | None, *, follow_cmd_vel: bool
    ) -> None:
        """Join the graph, on the loopback unless the user wants the network.

        Args:
            robot: whose joints these are.
            namespace: of the driver.
            domain: ROS domain; None is the environment's.
            follow_cmd_vel: listen to ``cmd_vel``; otherwise it is ours to speak.
        """
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        self.robot, self.lockstep = robot, False
        self.context = Context()
        rclpy.init(
            context=self.context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self.node = node = Node(
            f'gym_env_{os.getpid()}_{next(_count)}',  # two in one graph are told apart
            namespace=namespace.strip('/'),
            context=self.context,
            start_parameter_services=False,
        )
        self._executor = EventsExecutor(context=self.context)
        self._executor.add_node(node)
        self._joints: JointState | None = None
        self._imu: Imu | None = None
        self._applied: JointState | None = None
        self.stamp = self._imu_ns = self._applied_ns = self._sent = -1  # newest of each, ns
        self._heard = self._commanded = 0
        self.said: dict[str, dict[str, str]] = {}  # newest words of the drivers about themselves
        self._order = JointOrder(robot.joint_names)
        self._applied_order = JointOrder(robot.joint_names)
        self._message = JointMessage(robot.joint_names)
        self._publish = node.create_publisher(JointState, names.JOINT_COMMANDS, qos.OFFER).publish
        self.services = DriverServices(node, self.spin)
        self.velocity: VelocityInput | None = None
        if follow_cmd_vel:
            self.velocity = VelocityInput(node, stamped=True, timeout=COMMAND_TIMEOUT)
        else:
            self._twist = TwistStamped()
            self._twist.header.frame_id = robot.base_link
            self._wish = node.create_publisher(TwistStamped, names.CMD_VEL, qos.OFFER)
        node.create_subscription(DiagnosticArray, names.DIAGNOSTICS, self._on_health, qos.OFFER)
        # Reliable, as a lost state would stop a driver that waits for its answer.
        node.create_subscription(
            JointState, names.JOINT_COMMANDS_APPLIED, self._on_applied, qos.OFFER
        )
        node.create_subscription(Imu, names.IMU, self._on_imu, qos.OFFER)
        node.create_subscription(JointState, names.JOINT_STATES, self._on_joints, qos.OFFER)

    def close(self) -> None:
        """Leave the graph; nothing can be asked of the link afterwards."""
        leave(self._executor, self.node, self.context)
        vars(self).clear()  # the executor would hold the DDS participant, and its shared memory

    def spin(self, condition: Callable[[], Any], seconds: float) -> bool:
        """Listen until the condition is true or the time is over; returns which."""
        end = time.monotonic() + seconds
        while not (true := bool(condition())) and (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.1))
        return true

    def drain(self) -> None:
        """Take all that has come while nobody listened; of a flood, the queues' worth."""
        for _ in range(BACKLOG):
            heard = self._heard
            self._executor.spin_once(timeout_sec=0.0)
            if heard == self._heard:
                break

    def send(self, stamp: int, target: FloatArray) -> None:
        """Command joint targets (J,) rad for the state of this stamp, ns."""
        self._sent = stamp
        self._message.stamp(stamp)
        self._message.position[:] = target
        self._publish(self._message.serialized())

    def tell(self, stamp: int, command: FloatArray, *, now: bool = False) -> None:
        """Say on ``cmd_vel`` what we follow, (2,) m/s and rad/s, often enough to be believed."""
        if now or not 0 <= stamp - self._commanded < COMMAND_EVERY:
            self._commanded = stamp
            set_stamp(self._twist.header.stamp, stamp)
            self._twist.twist.linear.x, self._twist.twist.angular.z = map(float, command)
            self._wish.publish(self._twist)

    def wait(self, after: int, seconds: float) -> Seen | None:
        """The next period after the state of a stamp, once all that belongs to it has come.

        Raises:
            GraphError: the driver has other joints, or sends what is not finite.
        """
        if not self.spin(lambda: not self._lacking(after), seconds):
            return None
        return self.newest()

    def newest(self) -> Seen:
        """What was heard last; :meth:`wait` says whether it is complete.

        Raises:
            GraphError: as in :meth:`wait`.
        """
        assert self._joints is not None
        assert self._imu is not None
        applied: FloatArray = np.empty(0)
        mode = ''
        try:
            state = robot_state(self._joints, self._order, self._imu)
            if self._applied is not None:
                applied = self._applied_order(self._applied.name, self._applied.position)
                mode = self._applied.header.frame_id
        except ValueError as error:
            raise GraphError(f'the driver is not one of {self.robot.name}: {error}') from None
        broken = is_finite(state)
        if broken or not np.isfinite(applied).all():
            raise GraphError(f'{broken or names.JOINT_COMMANDS_APPLIED} is not finite')
        return Seen(state, applied, mode)

    def lacking(self, after: int = -1) -> str:
        """What the next period after a stamp still waits for, in words; empty if complete."""
        return ' and '.join(self._lacking(after))

    def _lacking(self, after: int) -> list[str]:
        lacking = []
        if self._joints is None or self.stamp <= after:
            lacking.append(names.JOINT_STATES)
        late = self.stamp - self._imu_ns
        if self._imu is None or late > (0 if self.lockstep else STALE_IMU * 1e9):
            lacking.append(names.IMU)
        if self._applied_ns < after:
            lacking.append(names.JOINT_COMMANDS_APPLIED)
        return lacking

    def commanders(self) -> int:
        """How many publish joint commands, this link among them."""
        return int(self.node.count_publishers(names.JOINT_COMMANDS))

    def _on_joints(self, message: JointState) -> None:
        self._heard += 1
        self._joints, self.stamp = message, to_ns(message.header.stamp)
        if self.stamp == self._sent:  # the driver has not had the answer: give the same one
            self._publish(self._message.serialized())

    def _on_imu(self, message: Imu) -> None:
        self._heard += 1
        self._imu, self._imu_ns = message, to_ns(message.header.stamp)

    def _on_applied(self, message: JointState) -> None:
        self._heard += 1
        self._applied, self._applied_ns = message, to_ns(message.header.stamp)

    def _on_health(self, message: DiagnosticArray) -> None:
        self._heard += 1
        mine = self.node.get_namespace().rstrip('/')
        for status in message.status:
            if status.name in [f'{mine}/{driver}' for driver in DRIVERS]:
                values = {pair.key: pair.value for pair in status.values}
                self.said[status.name] = {'message': status.message, **values}
