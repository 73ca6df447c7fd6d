"""Where the numbers lie in messages of a fixed layout, found by walking through one of them.

Messages of one topic that agree in their strings and counts have all their numbers at the same
places (OMG DDS-XTYPES 1.3, XCDR1: aligned from behind the four octets that name the encoding), so
thousands of them are read at once.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

START = 4  # octets before the message itself


@dataclass
class Layout:
    """Where things lie in messages that are alike."""

    fields: dict[str, tuple[int, int]] = field(default_factory=dict)  # first float64, their count
    # Spans that tell such messages from others: strings and counts. What lies between them is
    # alignment, which a sender may fill with anything.
    fixed: list[tuple[int, int]] = field(default_factory=list)
    frame: str = ''
    names: list[str] = field(default_factory=list)


class Cursor:
    """Walks through one message, and notes what it passes."""

    def __init__(self, data: bytes, *, stamped: bool = True) -> None:
        """Begin behind the header, if the type has one."""
        self._data, self.at, self.layout = data, START, Layout()
        if stamped:
            self.at += 8
            self.layout.frame = self.text()

    def count(self) -> int:
        """A number of things."""
        self._align(4)
        value: int = struct.unpack_from('<I', self._data, self.at)[0]
        self._pass(4)
        return value

    def text(self) -> str:
        """A string."""
        length = self.count()
        start = self.at
        self._pass(length)
        return self._data[start : start + length - 1].decode(errors='replace')

    def numbers(self, name: str, count: int) -> None:
        """So many float64; '' are of no interest.

        Raises:
            ValueError: the message ends before.
        """
        if not count:
            return
        self._align(8)
        if self.at + 8 * count > len(self._data):
            raise ValueError(f'a message of {len(self._data)} octets is cut off at {name}')
        if name:
            self.layout.fields[name] = self.at, count
        self.at += 8 * count

    def _align(self, to: int) -> None:
        self.at += (START - self.at) % to

    def _pass(self, octets: int) -> None:
        self.layout.fixed.append((self.at, self.at + octets))
        self.at += octets


def joint_state(data: bytes) -> Layout:
    """sensor_msgs/JointState."""
    cursor = Cursor(data)
    cursor.layout.names = [cursor.text() for _ in range(cursor.count())]
    for name in ('position', 'velocity', 'effort'):
        cursor.numbers(name, cursor.count())
    return cursor.layout


def imu(data: bytes) -> Layout:
    """sensor_msgs/Imu; the orientation is x, y, z, w."""
    cursor = Cursor(data)
    cursor.numbers('orientation', 4)
    cursor.numbers('orientation_covariance', 9)
    cursor.numbers('angular_velocity', 3)
    cursor.numbers('', 9)
    cursor.numbers('linear_acceleration', 3)
    return cursor.layout


def odometry(data: bytes) -> Layout:
    """nav_msgs/Odometry."""
    cursor = Cursor(data)
    cursor.text()
    cursor.numbers('position', 3)
    cursor.numbers('orientation', 4)
    cursor.numbers('', 36)
    cursor.numbers('twist', 6)
    return cursor.layout


def twist_stamped(data: bytes) -> Layout:
    """geometry_msgs/TwistStamped."""
    cursor = Cursor(data)
    cursor.numbers('twist', 6)
    return cursor.layout


def twist(data: bytes) -> Layout:
    """geometry_msgs/Twist."""
    cursor = Cursor(data, stamped=False)
    cursor.numbers('twist', 6)
    return cursor.layout


LAYOUTS: dict[str, Callable[[bytes], Layout]] = {
    'sensor_msgs/msg/JointState': joint_state,
    'sensor_msgs/msg/Imu': imu,
    'nav_msgs/msg/Odometry': odometry,
    'geometry_msgs/msg/TwistStamped': twist_stamped,
    'geometry_msgs/msg/Twist': twist,
}
