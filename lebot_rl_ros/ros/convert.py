"""Messages to records and back. Messages that are sent every tick are made once and written in place."""

import struct
from array import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Imu, JointState

from lebot_rl_ros.robot import RobotState
from lebot_rl_ros.robot.state import FloatArray

_MARK = 1.2345678901234e-303  # stands where numbers will be written; nothing else in a message looks like it


def to_ns(stamp: Time) -> int:
    """Nanoseconds of a stamp."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def set_stamp(stamp: Time, ns: int) -> None:
    """Write nanoseconds into a stamp."""
    stamp.sec, stamp.nanosec = divmod(ns, 1_000_000_000)


class JointOrder:
    """Finds a robot's joints in messages that name theirs in any order."""

    def __init__(self, names: Sequence[str]) -> None:
        """Remember the order wanted."""
        self._names = list(names)
        self._seen: list[str] = self._names
        self._index: list[int] | None = None

    def __call__(self, names: list[str], values: 'array[float]') -> FloatArray:
        """Values (J,) in the robot's order.

        Raises:
            ValueError: the message has other joints, or another number of values; it says which.
        """
        if len(values) != len(self._names):
            raise ValueError(f'{len(values)} values for the {len(self._names)} joints {", ".join(self._names)}')
        if names != self._seen:
            missing = [name for name in self._names if name not in names]
            extra = [name for name in names if name not in self._names]
            if missing or extra or len(names) != len(self._names):
                raise ValueError(f'joints missing: {missing or "none"}, unknown: {extra or "none"}')
            self._seen, self._index = list(names), [names.index(name) for name in self._names]
            if self._index == list(range(len(names))):
                self._index = None
        found = np.frombuffer(values)
        return found if self._index is None else found[self._index]


class JointMessage:
    """A JointState that is sent every tick: serialized once, then patched in place and sent as bytes.

    Write to ``position`` (and ``velocity``, ``effort`` if ``full``), (J,) each, and to the stamp.
    """

    def __init__(
        self, names: Sequence[str], *, full: bool = False, frame_id: str = ''
    ) -> None:
        """Serialize a message with marks in it, and find them."""
        joints, fields = len(names), ('position', 'velocity', 'effort') if full else ('position',)
        message = JointState(name=list(names))
        message.header.frame_id = frame_id
        for i, field in enumerate(fields):
            setattr(message, field, [_MARK + i] * joints)
        self._buffer = bytearray(serialize_message(message))
        views = {}
        for i, field in enumerate(fields):
            start = self._buffer.index(struct.pack('<d', _MARK + i))
            views[field] = np.frombuffer(self._buffer, '<f8', joints, start)
            views[field][:] = 0.0
        self.position: FloatArray = views['position']
        self.velocity, self.effort = views.get('velocity'), views.get('effort')

    def stamp(self, ns: int) -> None:
        """Set the header's stamp, which follows the four bytes that say how the rest is encoded."""
        struct.pack_into('<iI', self._buffer, 4, *divmod(ns, 1_000_000_000))

    def serialized(self) -> bytes:
        """The message as a publisher takes it."""
        return bytes(self._buffer)


def robot_state(joints: JointState, order: JointOrder, imu: Imu) -> RobotState:
    """One robot's state from the two messages; the stamp is the joints'.

    Raises:
        ValueError: the joints are not the robot's.
    """
    nothing = array('d', [0.0] * len(joints.name))
    q, w, a = imu.orientation, imu.angular_velocity, imu.linear_acceleration
    return RobotState(
        stamp=to_ns(joints.header.stamp),
        joint_position=order(joints.name, joints.position),
        joint_velocity=order(joints.name, joints.velocity),
        joint_effort=order(joints.name, joints.effort or nothing),
        orientation=np.array((q.w, q.x, q.y, q.z)),
        angular_velocity=np.array((w.x, w.y, w.z)),
        linear_acceleration=np.array((a.x, a.y, a.z)),
    )


def is_finite(state: RobotState) -> str:
    """Name of the first field that holds NaN or infinity; empty if none does."""
    for name in ('joint_position', 'joint_velocity', 'orientation', 'angular_velocity'):
        if not np.isfinite(getattr(state, name)).all():
            return name
    return ''


def write_imu(message: Imu, state: RobotState) -> None:
    """Put one robot's orientation, rates and acceleration into a message (REP-145)."""
    q, w, a = message.orientation, message.angular_velocity, message.linear_acceleration
    q.w, q.x, q.y, q.z = state.orientation.tolist()
    w.x, w.y, w.z = state.angular_velocity.tolist()
    a.x, a.y, a.z = state.linear_acceleration.tolist()


def write_odometry(
    message: Odometry, position: FloatArray, orientation: FloatArray, linear: FloatArray, angular: FloatArray
) -> None:
    """Pose in header.frame_id, twist in child_frame_id (REP-105)."""
    p, q = message.pose.pose.position, message.pose.pose.orientation
    p.x, p.y, p.z = position.tolist()
    q.w, q.x, q.y, q.z = orientation.tolist()
    v, w = message.twist.twist.linear, message.twist.twist.angular
    v.x, v.y, v.z = linear.tolist()
    w.x, w.y, w.z = angular.tolist()
