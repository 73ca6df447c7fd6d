"""The records of MCAP: their codes, and how their fields lie. See https://mcap.dev/spec."""

import struct
from collections.abc import Iterator
from typing import Any

MAGIC = b'\x89MCAP0\r\n'
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, METADATA, METADATA_INDEX, DATA_END = 0x0B, 0x0C, 0x0D, 0x0F
HEAD = 31  # octets of a message record before the message itself
TAIL = 37  # of the footer and the magic behind it

RECORD = struct.Struct('<BQ')  # code, octets
CHUNK_HEAD = struct.Struct('<QQQI')  # first and last log time, octets unpacked, CRC
INDEX_HEAD = struct.Struct('<QQQQI')  # the same times, offset, octets, octets of the table
MESSAGE_HEAD = struct.Struct('<HIQQ')  # channel, sequence, log time, publish time


def records(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int]]:
    """Code, start and end of the content of each record; one that is cut off raises."""
    unpack, size = RECORD.unpack_from, len(data)
    while at < size:
        code, length = unpack(data, at)
        end = at + 9 + length
        if end > size:
            raise struct.error(f'a record of {length} octets does not fit')
        yield code, at + 9, end
        at = end


def text(data: bytes, at: int) -> tuple[str, int]:
    """A string that begins with its length, and where the next field begins."""
    end = at + 4 + int.from_bytes(data[at : at + 4], 'little')
    if end > len(data):
        raise struct.error(f'a string of {end - at - 4} octets does not fit')
    return data[at + 4 : end].decode(), end


def table(data: bytes, at: int) -> dict[str, str]:
    """A mapping of strings."""
    end, found = at + 4 + int.from_bytes(data[at : at + 4], 'little'), {}
    at += 4
    while at < end:
        key, at = text(data, at)
        found[key], at = text(data, at)
    return found


def decompressor(name: str) -> Any:
    """A function of data and the size that they will have.

    Raises:
        ModuleNotFoundError: its package is not installed; the message says what to do.
        ValueError: there is no such compression.
    """
    if name not in ('zstd', 'lz4'):
        raise ValueError(f'compression {name!r} is not known; expected zstd, lz4 or none')
    try:
        if name == 'zstd':
            from zstandard import ZstdDecompressor

            return ZstdDecompressor().decompress
        from lz4.frame import decompress  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this bag is compressed with {name}: pip install 'lebot_rl_ros[record]'",
            name=error.name,
        ) from error
    return lambda data, _: decompress(data)
