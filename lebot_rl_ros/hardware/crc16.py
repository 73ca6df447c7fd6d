"""The check sum of Dynamixel's protocol 2.0: CRC-16 with polynomial 8005, not reflected, from 0.

Source: ROBOTIS e-manual, DYNAMIXEL Protocol 2.0, CRC calculation.
"""

import numpy as np
import numpy.typing as npt


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x8005 if crc & 0x8000 else 0)
        table.append(crc & 0xFFFF)
    return tuple(table)


CRC_TABLE = _crc_table()


def crc16(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """CRC-16 with polynomial 8005, not reflected, from 0 (or from ``crc``, to go on)."""
    table = CRC_TABLE
    for byte in data:
        crc = (crc << 8 & 0xFF00) ^ table[crc >> 8 ^ byte]
    return crc


def crc_columns(length: int) -> npt.NDArray[np.uint16]:
    """What each byte adds to the CRC of ``length`` bytes: (length, 256), by place and value.

    The CRC is linear: that of a message is the exclusive or of these, one for each byte.
    """
    table = np.array(CRC_TABLE, np.uint16)
    columns = np.empty((length, 256), np.uint16)
    columns[-1] = table
    for place in range(length - 2, -1, -1):
        after = columns[place + 1]
        columns[place] = (after << 8) ^ table[after >> 8]
    return columns
