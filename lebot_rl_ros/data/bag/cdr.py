"""Where the rows of a serialized sensor_msgs/PointCloud2 lie, and many of them at once.

All messages of a publisher are alike but for the stamp and the rows: a message that is, octet for
octet, is not parsed again. Encoding: CDR, little-endian (OMG DDSI-RTPS 2.5, section 10), behind
four octets that name it; alignment counts from behind those.
"""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.octets import difference

Array = npt.NDArray[np.generic]

POINT_CLOUD = 'sensor_msgs/msg/PointCloud2'
LITTLE_ENDIAN = b'\x00\x01'  # plain CDR
STAMP = slice(4, 12)  # the octets before the frame that differ from message to message
DTYPES = (None, 'i1', 'u1', '<i2', '<u2', '<i4', '<u4', '<f4', '<f8')  # by PointField's codes


@dataclass(frozen=True)
class Layout:
    """What all messages of one publisher share."""

    dtype: np.dtype
    width: int  # rows in a message
    start: int  # octets before the rows
    size: int  # octets of a message
    prefix: bytes  # those before the rows

    def matches(self, octets: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which of the messages (N, size) have this layout."""
        wanted = np.frombuffer(self.prefix, np.uint8)
        same = (octets[:, : STAMP.start] == wanted[: STAMP.start]).all(axis=1)
        behind = octets[:, STAMP.stop : self.start] == wanted[STAMP.stop :]
        same &= behind.all(axis=1)
        return same

    def rows(self, octets: npt.NDArray[np.uint8]) -> npt.NDArray[np.void]:
        """Rows (N * width,) of messages (N, size), copied."""
        end = self.start + self.dtype.itemsize * self.width
        copied = np.ascontiguousarray(octets[:, self.start : end])
        return copied.reshape(-1).view(self.dtype) if copied.size else np.zeros(0, self.dtype)


def parse(data: bytes) -> Layout:
    """Read a message as far as its rows.

    Raises:
        ValueError: it is not such a message, or its numbers contradict each other.
    """
    if data[:2] != LITTLE_ENDIAN:
        raise ValueError(f'encoding {data[:2].hex()} is not known; expected CDR, little-endian')
    try:
        return _parse(data)
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f'a message of {len(data)} octets is no PointCloud2: {error}') from error


def _parse(data: bytes) -> Layout:
    at = 12  # behind the stamp

    def number(code: str) -> int:
        nonlocal at
        size = struct.calcsize(code)
        at += -(at - 4) % size
        (value,) = struct.unpack_from('<' + code, data, at)
        at += size
        return int(value)

    def text() -> str:
        nonlocal at
        length = number('I')
        at += length
        if at > len(data):
            raise struct.error(f'a string of {length} octets does not fit')
        return data[at - length : at - 1].decode()

    text()  # frame_id
    height, width, count = number('I'), number('I'), number('I')
    names, formats, offsets = [], [], []
    for _ in range(count):
        names.append(text())
        offsets.append(number('I'))
        code, repeated = number('B'), number('I')
        if not 0 < code < len(DTYPES):
            raise ValueError(f'field {names[-1]}: unknown PointField type {code}')
        formats.append((DTYPES[code], (repeated,)) if repeated > 1 else DTYPES[code])
    big_endian, step, _, size = number('B'), number('I'), number('I'), number('I')
    if big_endian or size != step * width * height or at + size > len(data):
        endian = ', big-endian' if big_endian else ''
        raise ValueError(
            f'a record of {width * height} rows of {step} octets has {size} octets{endian}, '
            f'in a message of {len(data)}'
        )
    dtype = np.dtype({'names': names, 'formats': formats, 'offsets': offsets, 'itemsize': step})
    return Layout(dtype, width * height, at, len(data), data[:at])


class RowReader:
    """Takes the rows out of the messages of one topic, which all have fields alike."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.dtype: np.dtype | None = None
        self._layout: Layout | None = None

    def read(
        self, data: bytes, starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.void], npt.NDArray[np.intp]]:
        """Rows (R,) of messages, and the number (R,) of the message that each one came in.

        Args:
            data: octets that the messages lie in.
            starts: (N,) where.
            sizes: (N,) octets of each.

        Raises:
            ValueError: a message cannot be read, or has other fields than the others.
        """
        left = np.arange(len(starts))
        rows, owners = [], []
        while len(left):
            layout = self._layout
            if layout is None or sizes[left[0]] != layout.size:
                layout = self._parse(data, starts, sizes, left[0])
            alike = left[sizes[left] == layout.size]
            octets = windows(data, layout.size, starts[alike])
            same = layout.matches(octets)
            if not same[0]:  # the oldest that is left decides
                layout = self._parse(data, starts, sizes, left[0])
                same = layout.matches(octets)
            if not same.all():
                alike, octets = alike[same], octets[same]
            rows.append(layout.rows(octets))
            owners.append(np.repeat(alike, layout.width))
            left = left[~np.isin(left, alike)] if len(alike) < len(left) else left[:0]
        if len(rows) == 1:
            return rows[0], owners[0]
        assert self.dtype is not None or not rows
        if not rows:
            return np.zeros(0, self.dtype or np.dtype([])), np.zeros(0, np.intp)
        owner = np.concatenate(owners)
        order = np.argsort(owner, kind='stable')
        return np.concatenate(rows)[order], owner[order]

    def _parse(
        self,
        data: bytes,
        starts: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        which: np.intp,
    ) -> Layout:
        start = int(starts[which])
        layout = parse(data[start : start + int(sizes[which])])
        if self.dtype is None:
            self.dtype = layout.dtype
        elif self.dtype != layout.dtype:
            raise ValueError(
                f'its messages have different fields: {difference(layout.dtype, self.dtype)}'
            )
        self._layout = layout
        return layout


def windows(data: bytes, size: int, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Octets (N, size) that begin at each start (N,) in data."""
    if not size or not len(starts):
        return np.zeros((len(starts), size), np.uint8)
    every = np.ndarray(len(data) - size + 1, np.dtype((np.void, size)), data, 0, (1,))
    return every[starts].view(np.uint8).reshape(len(starts), size)
