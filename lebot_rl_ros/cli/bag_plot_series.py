"""Numbers out of a bag for pictures: columns of the messages that have a fixed layout, thinned.

Messages of one topic that agree in length and in frame id have all their numbers at the same
places (OMG DDS-XTYPES 1.3, XCDR1: aligned from behind the four octets that name the encoding), so
thousands of them are read at once.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.cdr import windows
from lebot_rl_ros.data.bag.scan import Piece
from lebot_rl_ros.data.octets import stamps_of

Numbers = npt.NDArray[Any]

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


@dataclass
class Columns:
    """One topic: a row a message, in the order of the bag."""

    log: Numbers  # (N,) ns
    stamps: Numbers  # (N,) ns; zeros where the type has none
    fields: dict[str, Numbers]  # (N, C) float64; NaN where a message has fewer
    frames: list[str] = field(default_factory=list)  # frame ids that occur
    frame: Numbers = field(default_factory=lambda: np.zeros(0, int))  # (N,) which of them
    names: list[str] = field(default_factory=list)  # of the joints


class Collector:
    """Takes the messages of one topic; :meth:`columns` gives their numbers."""

    def __init__(self, type_name: str) -> None:
        """Choose the layout.

        Raises:
            ValueError: the type has none here.
        """
        if type_name not in LAYOUTS:
            raise ValueError(f'{type_name} has no layout here; known are {", ".join(LAYOUTS)}')
        self._layout = LAYOUTS[type_name]
        self._stamped = type_name != 'geometry_msgs/msg/Twist'
        self._log: list[Numbers] = []
        self._total = 0
        self._parts: list[tuple[Numbers, Numbers, dict[str, Numbers], int]] = []
        self._frames: list[str] = []
        self._names: list[str] = []

    def add(self, piece: Piece) -> None:
        """Take many.

        Raises:
            ValueError: one is not of the type.
        """
        left = np.arange(len(piece.starts))
        while len(left):
            size = int(piece.sizes[left[0]])
            alike = left[piece.sizes[left] == size]
            octets = windows(piece.data, size, piece.starts[alike])
            layout = self._layout(octets[0].tobytes())
            spans = [np.arange(start, end) for start, end in layout.fixed]
            if spans:
                fixed = octets[:, np.concatenate(spans)]
                same = (fixed == fixed[0]).all(axis=1)
                alike, octets = alike[same], octets[same]
            self._read(layout, octets, self._total + alike)
            left = left[~np.isin(left, alike)] if len(alike) < len(left) else left[:0]
        self._total += len(piece.starts)
        self._log.append(piece.log)

    def _read(self, layout: Layout, octets: Numbers, places: Numbers) -> None:
        columns = {
            name: np.ascontiguousarray(octets[:, at : at + 8 * number]).view('<f8')
            for name, (at, number) in layout.fields.items()
        }
        stamps = stamps_of(octets, START) if self._stamped else np.zeros(len(octets), np.int64)
        if layout.frame not in self._frames:
            self._frames.append(layout.frame)
        self._names = self._names or layout.names
        if layout.names != self._names and sorted(layout.names) == sorted(self._names):
            order = [layout.names.index(wanted) for wanted in self._names]
            columns = {key: value[:, order] for key, value in columns.items()}
        self._parts.append((places, stamps, columns, self._frames.index(layout.frame)))

    def columns(self) -> Columns:
        """All that came, in the order of log time."""
        stamps, frame = np.zeros(self._total, np.int64), np.zeros(self._total, int)
        fields: dict[str, Numbers] = {}
        for places, part, columns, which in self._parts:
            stamps[places], frame[places] = part, which
            for name, values in columns.items():
                if name not in fields:
                    fields[name] = np.full((self._total, values.shape[1]), np.nan)
                width = min(values.shape[1], fields[name].shape[1])
                fields[name][places, :width] = values[:, :width]
        log = np.concatenate(self._log) if self._log else np.zeros(0, np.int64)
        order = np.argsort(log, kind='stable')
        return Columns(
            log[order],
            stamps[order],
            {name: values[order] for name, values in fields.items()},
            self._frames,
            frame[order],
            self._names,
        )


def collect(pieces: Iterable[Piece], types: Mapping[str, str]) -> dict[str, Columns]:
    """Columns of every topic in ``types`` (topic -> type) that has a layout and messages.

    Raises:
        ValueError: a message is not of its type.
    """
    collectors = {name: Collector(kind) for name, kind in types.items() if kind in LAYOUTS}
    for piece in pieces:
        collector = collectors.get(piece.topic)
        if collector is not None:
            try:
                collector.add(piece)
            except (ValueError, struct.error) as error:
                raise ValueError(f'{piece.topic}: {error}') from error
    found = {name: collector.columns() for name, collector in collectors.items()}
    return {name: columns for name, columns in found.items() if len(columns.log)}


def envelope(time: Numbers, values: Numbers, bins: int = 1200) -> tuple[Numbers, Numbers, Numbers]:
    """Smallest and largest of every bin, so that no peak is lost however long the bag is.

    Args:
        time: (N,).
        values: (N,); NaN is left out, and stays where a bin has nothing else.
        bins: at most so many; with fewer values every one is its own bin.

    Returns:
        Times (B,) of the first value of each bin, smallest (B,) and largest (B,).
    """
    if len(values) <= bins:
        return time, values, values
    edges = np.linspace(0, len(values), bins, endpoint=False).astype(int)
    return time[edges], np.fmin.reduceat(values, edges), np.fmax.reduceat(values, edges)


def thin(time: Numbers, values: Numbers, bins: int = 1200) -> tuple[Numbers, Numbers]:
    """A line through the envelope: smallest and largest of every bin in turn, (2 B,) each."""
    if len(values) <= 2 * bins:
        return time, values
    at, low, high = envelope(time, values, bins)
    return np.repeat(at, 2), np.stack((low, high), axis=1).ravel()


def mean_over(time: Numbers, values: Numbers, seconds: float) -> Numbers:
    """Running mean (N,) over a centred window; at the two ends over what there is of it."""
    if len(values) < 2:
        return values
    sums = np.concatenate(([0.0], np.cumsum(np.nan_to_num(values))))
    counts = np.concatenate(([0], np.cumsum(np.isfinite(values))))
    low = np.searchsorted(time, time - seconds / 2, side='left')
    high = np.searchsorted(time, time + seconds / 2, side='right')
    found = np.maximum(counts[high] - counts[low], 1)
    out: Numbers = (sums[high] - sums[low]) / found
    return out
