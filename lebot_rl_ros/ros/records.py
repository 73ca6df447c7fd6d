"""Rows of numbers as sensor_msgs/PointCloud2: named, typed fields in a standard message."""

from array import array

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import PointCloud2, PointField

from lebot_rl_ros.ros.convert import SerializedMessage

_DATATYPES = {
    np.dtype(np.int8): PointField.INT8,
    np.dtype(np.uint8): PointField.UINT8,
    np.dtype(np.int16): PointField.INT16,
    np.dtype(np.uint16): PointField.UINT16,
    np.dtype(np.int32): PointField.INT32,
    np.dtype(np.uint32): PointField.UINT32,
    np.dtype(np.float32): PointField.FLOAT32,
    np.dtype(np.float64): PointField.FLOAT64,
}
_FILL = b'\xa5'  # stands where rows will be written
_DTYPES = {code: dtype for dtype, code in _DATATYPES.items()}


class RecordMessage(SerializedMessage):
    """A reused message of ``width`` rows: write into ``rows``, then publish ``message``."""

    def __init__(self, dtype: np.dtype, width: int = 1) -> None:
        """Prepare the message.

        Raises:
            ValueError: a field's type has no PointField code; the message names it.
        """
        fields = []
        for name in dtype.names or ():
            base, offset = dtype.fields[name][:2]  # type: ignore[index]
            element, shape = (base.subdtype or (base, ()))[:2]
            if element not in _DATATYPES or len(shape) > 1:
                known = ', '.join(map(str, _DATATYPES))
                raise ValueError(f'field {name}: {base} has no PointField type; use {known}')
            count = int(shape[0]) if shape else 1
            fields.append(
                PointField(name=name, offset=offset, datatype=_DATATYPES[element], count=count)
            )
        size = dtype.itemsize * width
        message = PointCloud2(
            height=1,
            width=width,
            fields=fields,
            point_step=dtype.itemsize,
            row_step=size,
            data=array('B', _FILL * size),
            is_dense=True,
        )
        super().__init__(message)
        # data is all of the message but the flag is_dense behind it, and what aligns the end
        start = self._buffer.rindex(_FILL) + 1 - size
        self.rows: npt.NDArray[np.void] = np.frombuffer(self._buffer, dtype, width, start)
        self._buffer[start : start + size] = bytes(size)


def record_dtype(message: PointCloud2) -> np.dtype:
    """The dtype that a message describes."""
    names, formats, offsets = [], [], []
    for field in message.fields:
        if field.datatype not in _DTYPES:
            raise ValueError(f'field {field.name}: unknown PointField type {field.datatype}')
        names.append(field.name)
        element = _DTYPES[field.datatype]
        formats.append((element, (field.count,)) if field.count > 1 else element)
        offsets.append(field.offset)
    return np.dtype(
        {'names': names, 'formats': formats, 'offsets': offsets, 'itemsize': message.point_step}
    )


def read_record(message: PointCloud2, dtype: np.dtype | None = None) -> npt.NDArray[np.void]:
    """Rows (width,) of a message, as its own fields say.

    Args:
        message: the message.
        dtype: its dtype if it is known, to skip the reading of fields.

    Raises:
        ValueError: the data are not as long as the message says.
    """
    dtype = dtype or record_dtype(message)
    if len(message.data) != dtype.itemsize * message.width or message.is_bigendian:
        endian = ', big-endian' if message.is_bigendian else ''
        raise ValueError(
            f'record of {message.width} rows of {dtype.itemsize} bytes '
            f'has {len(message.data)} bytes{endian}'
        )
    return np.frombuffer(message.data, dtype=dtype)
