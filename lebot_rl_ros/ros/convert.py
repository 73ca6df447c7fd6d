"""Messages to records and back. What is sent every tick is made once and written in place."""

import struct
from array import array
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Imu, JointState

from lebot_rl_ros.robot import RobotState
from lebot_rl_ros.robot.state import FloatArray

_MARK = 1.2345678901234e-303  # stands where numbers will be written; nothing else looks like it
_NEXT = 1e-305  # from one mark to the next


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
            raise ValueError(
                f'{len(values)} values for the {len(self._names)} joints {", ".join(self._names)}'
            )
        if names != self._seen:
            missing = [name for name in self._names if name not in names]
            extra = [name for name in names if name not in self._names]
            if missing or extra or len(names) != len(self._names):
                raise ValueError(
                    f'joints missing: {missing or "none"}, unknown: {extra or "none"}'
                )
            self._seen, self._index = list(names), [names.index(name) for name in self._names]
            if self._index == list(range(len(names))):
                self._index = None
        found = np.frombuffer(values)
        return found if self._index is None else found[self._index]


class SerializedMessage:
    """A message that is sent often: serialized once, then patched in place and sent as bytes.

    Sending bytes costs a quarter of filling in and converting a message.
    """

    def __init__(self, message: Any) -> None:
        """Serialize a message that begins with a header."""
        self._buffer = bytearray(_exact(message))

    def stamp(self, ns: int) -> None:
        """Set the header's stamp, which follows the four bytes that name the encoding."""
        struct.pack_into('<iI', self._buffer, 4, *divmod(ns, 1_000_000_000))

    def serialized(self) -> bytes:
        """The message as a publisher takes it."""
        return bytes(self._buffer)


def _exact(message: Any) -> bytes:
    """Serialize a message, and nothing behind it.

    The room that rmw reserves also aligns numbers of empty arrays, and goes out with whatever lies
    in it: eight octets behind a JointState without velocities, which strict readers refuse.
    """
    data: bytes = serialize_message(message)
    while True:
        try:
            if deserialize_message(data[:-1], type(message)) != message:
                return data
        except Exception:  # the end is cut off
            return data
        data = data[:-1]


class PatchedMessage(SerializedMessage):
    """A message of which some float64 change; ``values[path]`` is a view to write to."""

    def __init__(self, message: Any, numbers: Mapping[str, int]) -> None:
        """Find the numbers in the serialized message.

        Args:
            message: complete but for the numbers.
            numbers: path of the first float64 of each run of them, or of a float64 array, and
                their count.
        """
        marks = {path: _MARK + i * _NEXT for i, path in enumerate(numbers)}
        for path, count in numbers.items():
            *parents, last = path.split('.')
            owner = reduce(getattr, parents, message)
            alone = isinstance(getattr(owner, last), float)
            setattr(owner, last, marks[path] if alone else [marks[path]] * count)
        super().__init__(message)
        self.values: dict[str, FloatArray] = {}
        for path, count in numbers.items():
            start = self._buffer.index(struct.pack('<d', marks[path]))
            self.values[path] = np.frombuffer(self._buffer, '<f8', count, start)
            self.values[path][:] = 0.0


class JointMessage(PatchedMessage):
    """JointState: positions, and if ``full`` also velocities and efforts, (J,) each."""

    def __init__(self, names: Sequence[str], *, full: bool = False, frame_id: str = '') -> None:
        """Prepare the message."""
        fields = ('position', 'velocity', 'effort') if full else ('position',)
        message = JointState(name=list(names))
        message.header.frame_id = frame_id
        super().__init__(message, dict.fromkeys(fields, len(names)))
        self.position = self.values['position']
        nothing: FloatArray = np.zeros(0)
        self.velocity = self.values.get('velocity', nothing)
        self.effort = self.values.get('effort', nothing)


class ImuMessage(PatchedMessage):
    """Imu (REP-145): orientation, rates and acceleration, covariances unknown."""

    def __init__(self, frame_id: str) -> None:
        """Prepare the message."""
        message = Imu()
        message.header.frame_id = frame_id
        super().__init__(
            message, {'orientation.x': 4, 'angular_velocity.x': 3, 'linear_acceleration.x': 3}
        )

    def write(self, state: RobotState) -> None:
        """Put one robot's in."""
        self.values['orientation.x'][:3] = state.orientation[1:]
        self.values['orientation.x'][3] = state.orientation[0]
        self.values['angular_velocity.x'][:] = state.angular_velocity
        self.values['linear_acceleration.x'][:] = state.linear_acceleration


class OdometryMessage(PatchedMessage):
    """Odometry: pose in ``odom``, twist in the child frame (REP-105)."""

    def __init__(self, child_frame_id: str) -> None:
        """Prepare the message."""
        message = Odometry(child_frame_id=child_frame_id)
        message.header.frame_id = 'odom'
        super().__init__(message, {'pose.pose.position.x': 7, 'twist.twist.linear.x': 6})

    def write(
        self,
        position: FloatArray,
        orientation: FloatArray,
        linear: FloatArray,
        angular: FloatArray,
    ) -> None:
        """Put a pose (m, w x y z) and a twist (m/s, rad/s) in."""
        pose, twist = self.values['pose.pose.position.x'], self.values['twist.twist.linear.x']
        pose[:3], pose[3:6], pose[6] = position, orientation[1:], orientation[0]
        twist[:3], twist[3:] = linear, angular


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
