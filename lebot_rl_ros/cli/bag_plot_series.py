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
Layout = dict[str, tuple[int, int]]  # name -> offset of the first float64, and their count

START = 4  # octets before the message itself


def _count(data: bytes, at: int) -> int:
    value: int = struct.unpack_from('<I', data, at)[0]
    return value


def _align(at: int, to: int) -> int:
    return START - (START - at) // to * to


def _behind_header(data: bytes) -> int:
    return START + 12 + _count(data, START + 8)


def joint_names(data: bytes) -> list[str]:
    """The names in a JointState."""
    return _joint_names(data)[0]


def _joint_names(data: bytes) -> tuple[list[str], int]:
    at = _align(_behind_header(data), 4)
    names, number = [], _count(data, at)
    at += 4
    for _ in range(number):
        at = _align(at, 4)
        length = _count(data, at)
        names.append(data[at + 4 : at + 3 + length].decode())
        at += 4 + length
    return names, at


def joint_state(data: bytes) -> Layout:
    """sensor_msgs/JointState."""
    at, layout = _joint_names(data)[1], {}
    for name in ('position', 'velocity', 'effort'):
        at = _align(at, 4)
        number = _count(data, at)
        at += 4
        if number:
            at = _align(at, 8)
            layout[name] = at, number
            at += 8 * number
    return layout


def imu(data: bytes) -> Layout:
    """sensor_msgs/Imu; the orientation is x, y, z, w."""
    at = _align(_behind_header(data), 8)
    return {
        'orientation': (at, 4),
        'orientation_covariance': (at + 32, 9),
        'angular_velocity': (at + 104, 3),
        'linear_acceleration': (at + 200, 3),
    }


def odometry(data: bytes) -> Layout:
    """nav_msgs/Odometry."""
    at = _align(_behind_header(data), 4)
    at = _align(at + 4 + _count(data, at), 8)
    return {'position': (at, 3), 'orientation': (at + 24, 4), 'twist': (at + 344, 6)}


def twist_stamped(data: bytes) -> Layout:
    """geometry_msgs/TwistStamped."""
    return {'twist': (_align(_behind_header(data), 8), 6)}


def twist(_data: bytes) -> Layout:
    """geometry_msgs/Twist."""
    return {'twist': (START, 6)}


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
        """Take many."""
        left = np.arange(len(piece.starts))
        while len(left):
            size = int(piece.sizes[left[0]])
            alike = left[piece.sizes[left] == size]
            octets = windows(piece.data, size, piece.starts[alike])
            layout = self._layout(octets[0].tobytes())
            # What stands between the stamp and the first number has to be the same.
            first = min((at for at, _ in layout.values()), default=size)
            same = (octets[:, 12:first] == octets[0, 12:first]).all(axis=1)
            if not same.all():
                alike, octets = alike[same], octets[same]
            self._read(layout, octets, self._total + alike)
            left = left[~np.isin(left, alike)] if len(alike) < len(left) else left[:0]
        self._total += len(piece.starts)
        self._log.append(piece.log)

    def _read(self, layout: Layout, octets: Numbers, places: Numbers) -> None:
        columns: dict[str, Numbers] = {}
        for name, (at, number) in layout.items():
            if at + 8 * number > octets.shape[1]:
                raise ValueError(f'a message of {octets.shape[1]} octets is cut off at {name}')
            columns[name] = np.ascontiguousarray(octets[:, at : at + 8 * number]).view('<f8')
        first = octets[0].tobytes()
        frame = ''
        stamps: Numbers = np.zeros(len(octets), np.int64)
        if self._stamped:
            stamps = stamps_of(octets, 4)
            frame = first[START + 12 : _behind_header(first) - 1].decode(errors='replace')
        if frame not in self._frames:
            self._frames.append(frame)
        if self._layout is joint_state:
            names = joint_names(first)
            self._names = self._names or names
            if names != self._names and sorted(names) == sorted(self._names):
                order = [names.index(wanted) for wanted in self._names]
                columns = {key: value[:, order] for key, value in columns.items()}
        self._parts.append((places, stamps, columns, self._frames.index(frame)))

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
