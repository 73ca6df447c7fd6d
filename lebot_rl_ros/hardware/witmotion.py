"""The wire protocol of WitMotion's serial IMUs, both sides of it. Bytes in, numbers out; no port.

Source: WIT Standard Communication Protocol (maker's documentation, 2023) and the datasheets of
HWT905-TTL v20-0707 and WT901 v20-0605, chapters 'Output Data Format' and 'Config Commands'.

A device sends frames ``55 type 8-bytes sum``, little-endian, one group of them per sample, in the
order of their types. It takes commands ``FF AA register low high`` of five bytes and answers none.
"""

import struct
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TIME, ACCELERATION, GYRO, ANGLE, MAGNETOMETER, QUATERNION = 0x50, 0x51, 0x52, 0x53, 0x54, 0x59
NAMES = {
    TIME: 'time',
    ACCELERATION: 'acceleration',
    GYRO: 'gyro',
    ANGLE: 'angle',
    MAGNETOMETER: 'magnetometer',
    QUATERNION: 'quaternion',
}
HEAD, FRAME_SIZE = 0x55, 11
FIRST_TYPE, LAST_TYPE = 0x50, 0x5F  # 5F is the answer to a read of registers

# The unit g of the device is the standard one (CGPM 1901), not the local gravity.
STANDARD_GRAVITY = 9.80665  # m/s²
ACCELERATION_SCALE = 16 * STANDARD_GRAVITY / 32768  # m/s² per count
GYRO_SCALE = np.deg2rad(2000) / 32768  # rad/s per count
ANGLE_SCALE = np.pi / 32768  # rad per count
QUATERNION_SCALE = 1 / 32768

EPOCH = datetime(2000, 1, 1)  # of the device's clock, which has two digits for the year

SAVE, CONTENT, RATE, BAUD, KEY = 0x00, 0x02, 0x03, 0x04, 0x69  # registers
UNLOCK_SECONDS = 10.0  # the device locks itself again this long after the unlock command
UNLOCK_VALUE = 0xB588
RATE_CODES = {  # Hz; 0x0C is a single sample, 0x0D none
    0.2: 0x01,
    0.5: 0x02,
    1.0: 0x03,
    2.0: 0x04,
    5.0: 0x05,
    10.0: 0x06,  # as delivered
    20.0: 0x07,
    50.0: 0x08,
    100.0: 0x09,
    125.0: 0x0A,  # of the WT931 only, in the maker's newer documents
    200.0: 0x0B,
}
BAUD_CODES = {
    4800: 0x01,
    9600: 0x02,  # as delivered
    19200: 0x03,
    38400: 0x04,
    57600: 0x05,
    115200: 0x06,
    230400: 0x07,
    460800: 0x08,
    921600: 0x09,
}


class Frame(NamedTuple):
    """One frame whose sum is right."""

    type: int
    payload: bytes  # 8
    gap: bool  # bytes were thrown away since the frame before


class Parser:
    """Finds frames in a stream: never raises, keeps at most ten bytes between two calls."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.damaged = 0  # frames whose sum was wrong
        self.skipped = 0  # bytes that belonged to no frame
        self._rest = b''
        self._gap = False

    def reset(self) -> None:
        """Forget half a frame; the counts stay."""
        self._rest, self._gap = b'', False

    def feed(self, data: bytes) -> list[Frame]:
        """Take a chunk of any size, as it came; returns the frames that are complete now."""
        data = self._rest + data
        frames, start, last = [], 0, len(data) - FRAME_SIZE
        while start <= last:
            if data[start] == HEAD and FIRST_TYPE <= data[start + 1] <= LAST_TYPE:
                if sum(data[start : start + 10]) & 0xFF == data[start + 10]:
                    payload = data[start + 2 : start + 10]
                    frames.append(Frame(data[start + 1], payload, self._gap))
                    start, self._gap = start + FRAME_SIZE, False
                    continue
                self.damaged += 1
            start = self._skip(data, start, start + 1)
        self._rest = data[self._skip(data, start, start) :]
        return frames

    def _skip(self, data: bytes, start: int, first: int) -> int:
        """Where the next frame may start, from ``first`` on; what is before it is thrown away."""
        found = data.find(HEAD, first)
        found = found if found >= 0 else len(data)
        self.skipped += found - start
        self._gap = self._gap or found > start
        return found


def frame(type: int, payload: bytes) -> bytes:
    """A whole frame around 8 bytes."""
    head = bytes((HEAD, type)) + payload
    return head + bytes((sum(head) & 0xFF,))


def counts(payload: bytes) -> tuple[int, int, int, int]:
    """The four numbers of a frame, as the device counts."""
    return struct.unpack('<4h', payload)


def encode(type: int, values: npt.ArrayLike, scale: float, fourth: int = 0) -> bytes:
    """A frame of three or four numbers in SI units, rounded and clipped as a device does.

    Args:
        type: of the frame.
        values: three, or four for a quaternion w x y z.
        scale: units per count.
        fourth: what stands behind three: temperature (0.01 deg C), voltage or version.
    """
    counted = (np.asarray(values) / scale).tolist()  # Python's numbers are quicker than numpy's
    whole = [min(max(round(value), -32768), 32767) for value in counted]
    return frame(type, struct.pack('<4h', *whole, *(() if len(whole) == 4 else (fourth,))))


def decode_time(payload: bytes) -> int | None:
    """Milliseconds since :data:`EPOCH` of a time frame; None if it holds no date."""
    year, month, day, hour, minute, second, ms = struct.unpack('<6BH', payload)
    try:
        # Not the constructor's microseconds: a device may count its milliseconds past 999.
        date = datetime(2000 + year, month, day, hour, minute, second)
    except ValueError:
        return None
    since = date - EPOCH
    return (since.days * 86400 + since.seconds) * 1000 + ms


def encode_time(seconds: float) -> bytes:
    """The time frame for seconds since :data:`EPOCH`, rounded to ms."""
    ms = round(seconds * 1000)
    date = EPOCH + timedelta(seconds=ms // 1000)
    clock = (date.year % 100, date.month, date.day, date.hour, date.minute, date.second)
    return frame(TIME, struct.pack('<6BH', *clock, ms % 1000))


def command(register: int, value: int) -> bytes:
    """Write a register, in RAM: it is lost with the power unless :func:`save` follows."""
    return struct.pack('<BBBH', 0xFF, 0xAA, register, value)


def unlock() -> bytes:
    """Let the next 10 s of commands in."""
    return command(KEY, UNLOCK_VALUE)


def save() -> bytes:
    """Keep the registers over a loss of power. Wears the device's memory: only when asked to."""
    return command(SAVE, 0)


def set_content(types: Sequence[int]) -> bytes:
    """Choose the frames of a group.

    Raises:
        ValueError: there is no such frame.
    """
    unknown = [type for type in types if type not in NAMES]
    if unknown:
        raise ValueError(f'no frames of type {unknown}; choices are {_choices(NAMES)}')
    return command(CONTENT, sum(1 << (type - FIRST_TYPE) for type in set(types)))


def set_rate(rate: float) -> bytes:
    """Choose how many groups come a second, Hz.

    Raises:
        ValueError: the device has no such rate.
    """
    if rate not in RATE_CODES:
        raise ValueError(f'rate is {rate} Hz; choices are {_choices(RATE_CODES)}')
    return command(RATE, RATE_CODES[rate])


def set_baud(baud: int) -> bytes:
    """Choose the port's speed; the device changes at once, so the next command needs it.

    Raises:
        ValueError: the device has no such speed.
    """
    if baud not in BAUD_CODES:
        raise ValueError(f'baud is {baud}; choices are {_choices(BAUD_CODES)}')
    return command(BAUD, BAUD_CODES[baud])


def wire_share(types: Sequence[int], rate: float, baud: int) -> float:
    """Share of the wire that a stream takes: ten bits per byte; over 1 the device sends less."""
    return len(types) * FRAME_SIZE * 10 * rate / baud


def _choices(table: dict[int, str] | dict[float, int] | dict[int, int]) -> str:
    return ', '.join(f'{key:g}' if isinstance(key, float) else str(key) for key in table)
