"""What lies in a chunk of an MCAP file, whole or torn."""

import struct
from collections.abc import Iterator

from mcap.exceptions import UnsupportedCompressionError
from mcap.records import Chunk
from mcap.stream_reader import get_chunk_data_stream

from lebot_rl_ros.data.bag.types import BagError

PREFIX = struct.Struct('<BQ')  # of a record: what it is, how long


def records_of(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Whole records of a chunk's content: what, where, and the octets after the prefix."""
    at = 0
    while at + PREFIX.size <= len(data):
        opcode, length = PREFIX.unpack_from(data, at)
        end = at + PREFIX.size + length
        if not opcode or end > len(data):
            return
        yield opcode, at, data[at + PREFIX.size : end]
        at = end


def unpack(chunk: Chunk) -> bytes | None:
    """The content of a chunk; None where it, or its CRC, is wrong."""
    try:
        stream, length = get_chunk_data_stream(chunk, validate_crc=True)
        return stream.read(length)
    except UnsupportedCompressionError as error:
        raise BagError(f'a chunk is compressed with {chunk.compression!r}: {error}') from error
    except Exception:  # each compression has errors of its own
        return None


def unpack_torn(body: bytes) -> bytes:
    """As much of a torn chunk's content as can be unpacked; often nothing."""
    if len(body) < 32:
        return b''
    length = int.from_bytes(body[28:32], 'little')
    compression = body[32 : 32 + length]
    data = body[32 + length + 8 :]
    try:
        if compression == b'zstd':
            import zstandard

            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        if compression == b'lz4':
            import lz4.frame  # type: ignore[import-untyped]

            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data))
    except Exception:  # each compression has errors of its own
        return b''
    return data if not compression else b''
