"""Messages of the reward node, serialized without ROS."""

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from lebot_rl_ros.data.bag.cdr import POINT_CLOUD, STAMP, parse
from lebot_rl_ros.data.bag.definitions import needs_record

DIAGNOSTICS = 'diagnostic_msgs/msg/DiagnosticArray'
QOS: Mapping[str, Any] = {'history': 'keep_last', 'depth': 1000}  # reliable, volatile
HARDWARE = 'lebot'
SECOND = 1_000_000_000  # ns
CODES = {  # of sensor_msgs/PointField
    np.dtype(np.int8): 1, np.dtype(np.uint8): 2, np.dtype(np.int16): 3, np.dtype(np.uint16): 4,
    np.dtype(np.int32): 5, np.dtype(np.uint32): 6, np.dtype(np.float32): 7,
    np.dtype(np.float64): 8,
}  # fmt: skip


class RewardMessage:
    """One row as a serialized sensor_msgs/PointCloud2."""

    def __init__(self, dtype: np.dtype, example: bytes = b'') -> None:
        """Prepare it; what follows an ``example`` of one row with these fields has its octets."""
        self._data = bytearray(example)
        layout = parse(example) if example else None
        if layout is None or layout.dtype != dtype or layout.width != 1:
            self._data = bytearray(_record(dtype))
            layout = parse(bytes(self._data))
        self._rows = np.frombuffer(self._data, dtype, 1, layout.start)

    def __call__(self, row: np.void) -> bytes:
        """Serialize a row; its own stamp is the message's."""
        self._rows[0] = row
        self._data[STAMP] = struct.pack('<iI', int(row['sec']), int(row['nanosec']))
        return bytes(self._data)


def terms_message(stamp: int, told: Mapping[str, Mapping[str, object]]) -> bytes:
    """What the node tells people, by status; floats keep every digit."""
    types = _types()
    pair, status = (
        types['diagnostic_msgs/msg/KeyValue'],
        types['diagnostic_msgs/msg/DiagnosticStatus'],
    )
    array = types[DIAGNOSTICS](
        _header(stamp),
        [
            status(
                0,
                name,
                '',
                HARDWARE,
                [
                    pair(key, repr(value) if isinstance(value, float) else str(value))
                    for key, value in values.items()
                ],
            )
            for name, values in told.items()
        ],
    )
    return bytes(_store().serialize_cdr(array, DIAGNOSTICS, little_endian=True))


def _record(dtype: np.dtype) -> bytes:
    """A message of one row of zeros."""
    types, fields = _types(), []
    for name in dtype.names or ():
        base, offset = dtype.fields[name][:2]  # type: ignore[index]
        element, shape = (base.subdtype or (base, ()))[:2]
        count = int(shape[0]) if shape else 1
        fields.append(types['sensor_msgs/msg/PointField'](name, offset, CODES[element], count))
    size = dtype.itemsize
    cloud = types[POINT_CLOUD](
        _header(0), 1, 1, fields, False, size, size, np.zeros(size, np.uint8), True
    )
    return bytes(_store().serialize_cdr(cloud, POINT_CLOUD, little_endian=True))


def _header(stamp: int) -> Any:
    types = _types()
    seconds, nanoseconds = divmod(stamp, SECOND)
    return types['std_msgs/msg/Header'](
        types['builtin_interfaces/msg/Time'](seconds, nanoseconds), ''
    )


def _types() -> Mapping[str, Any]:
    types: Mapping[str, Any] = _store().types
    return types


@cache
def _store() -> Any:
    try:
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise needs_record(error) from error
    return get_typestore(Stores.ROS2_JAZZY)
