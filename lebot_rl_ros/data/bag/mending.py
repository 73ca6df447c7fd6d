"""One MCAP file without an end: what of it can be kept, and the index and footer that it lacks.

Whole chunks stay as they are, octet for octet; of a torn one the messages that can still be
unpacked are packed anew. The format: https://mcap.dev/spec.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.exceptions import UnsupportedCompressionError
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    Channel,
    Chunk,
    Message,
    MessageIndex,
    Metadata,
    Schema,
)
from mcap.stream_reader import get_chunk_data_stream

from .mcap_index import MAGIC, Index
from .types import BagError

_PREFIX = struct.Struct('<BQ')  # of a record: what it is, how long
_MESSAGE = struct.Struct('<HIQQ')  # of a message: channel, sequence, log time, publish time
_MOST = 1 << 28  # octets of a torn chunk that are looked at
_CONTENT = {
    Opcode.SCHEMA,
    Opcode.CHANNEL,
    Opcode.MESSAGE,
    Opcode.CHUNK,
    Opcode.ATTACHMENT,
    Opcode.METADATA,
}


@dataclass
class Findings:
    """What can be kept of a file."""

    spans: list[tuple[int, int]] = field(default_factory=list)  # octets that stay as they are
    index: Index = field(default_factory=Index)  # of them, at the offsets that they will have
    unindexed: list[MessageIndex] = field(default_factory=list)  # the last chunk lacks these
    loose: list[Schema | Channel | Message] = field(default_factory=list)  # out of torn chunks
    lost: int = 0  # octets of content that nobody can read

    @property
    def octets(self) -> int:
        """How much of the file stays as it is."""
        return sum(end - start for start, end in self.spans)

    @property
    def in_place(self) -> bool:
        """Whether it is enough to cut the end off."""
        return len(self.spans) == 1


def scan(path: Path) -> Findings:
    """Find out what can be kept; reads all of the file and checks each chunk's CRC.

    Raises:
        BagError: This is no MCAP file.
    """
    with path.open('rb') as file:
        start = file.read(len(MAGIC))
        if not MAGIC.startswith(start):
            raise BagError(f'{path} is no MCAP file: it begins with {start!r}')
        if start != MAGIC:
            return Findings()
        return _Scan(file).run()


def finish(path: Path, found: Findings, target: Path | None = None) -> None:
    """Write what was found to another file, or cut the end off here; then index and footer."""
    if target is None and not found.in_place:
        raise BagError(f'{path} is damaged in the middle: it cannot be mended in place')
    with path.open('rb') as source, (target or path).open('wb' if target else 'r+b') as file:
        if target:
            for start, end in found.spans:
                _copy(source, file, start, end)
        else:
            file.truncate(found.octets)
            file.seek(found.octets)
        _finish(file, found)
        file.flush()
        os.fsync(file.fileno())


class _Scan:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._found = Findings(spans=[(0, len(MAGIC))])
        self._times: dict[int, list[tuple[int, int]]] = {}  # of the last chunk, by channel
        self._dropped = False  # whether the last chunk was

    def run(self) -> Findings:
        at = len(MAGIC)
        headed = False
        while True:
            prefix = self._file.read(_PREFIX.size)
            if len(prefix) < _PREFIX.size:
                return self._torn(at, headed, prefix, b'')
            opcode, length = _PREFIX.unpack(prefix)
            end = at + _PREFIX.size + length
            if not opcode or end > self._size or headed == (opcode == Opcode.HEADER):
                rest = self._file.read(_MOST) if opcode == Opcode.CHUNK else b''
                return self._torn(at, headed, prefix, rest)
            if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                return self._found  # the data are whole, the index may not be
            if self._keep(opcode, at, self._file.read(length)):
                self._extend(at, end)
            headed, at = True, end

    def _keep(self, opcode: int, at: int, body: bytes) -> bool:
        """Take a whole record into account; False: leave it out."""
        index = self._found.index
        offset = self._found.octets
        if opcode == Opcode.MESSAGE_INDEX:
            return not self._dropped and self._message_index(offset, body)
        self._dropped = False
        stream = ReadDataStream(io.BytesIO(body))
        try:
            if opcode == Opcode.CHUNK:
                self._times = {}
                self._dropped = not self._chunk(offset, body)
                return not self._dropped
            if opcode == Opcode.SCHEMA:
                index.schema(Schema.read(stream))
            elif opcode == Opcode.CHANNEL:
                index.channel(Channel.read(stream))
            elif opcode == Opcode.MESSAGE:
                channel, _, log_time, _ = _MESSAGE.unpack_from(body)
                index.message(channel, log_time)
            elif opcode == Opcode.METADATA:
                index.metadata(offset, len(body) + _PREFIX.size, Metadata.read(stream))
            elif opcode == Opcode.ATTACHMENT:
                index.attachment(offset, len(body) + _PREFIX.size, Attachment.read(stream))
        except BagError:
            raise
        except Exception:  # whatever the package makes of a record that is not what it says
            self._found.lost += len(body) + _PREFIX.size
            return False
        return True

    def _chunk(self, offset: int, body: bytes) -> bool:
        """Take a whole chunk; where its CRC or a channel is wrong, only what can be trusted."""
        index = self._found.index
        chunk = Chunk.read(ReadDataStream(io.BytesIO(body)))
        data = _unpack(chunk)
        records = list(_records(data)) if data is not None else []
        if data is None or sum(len(record) + _PREFIX.size for _, _, record in records) != len(
            data
        ):
            self._found.lost += len(body) + _PREFIX.size
            return False
        self._definitions(records)
        times: dict[int, list[tuple[int, int]]] = {}
        for opcode, start, record in records:
            if opcode == Opcode.MESSAGE:
                channel, _, log_time, _ = _MESSAGE.unpack_from(record)
                times.setdefault(channel, []).append((log_time, start))
        if not times.keys() <= index.channels.keys():
            self._loosen(records)
            return False
        for channel, entries in times.items():
            for log_time, _ in entries:
                index.message(channel, log_time)
        index.chunk(offset, len(body) + _PREFIX.size, chunk)
        self._times = times
        return True

    def _message_index(self, offset: int, body: bytes) -> bool:
        (channel,) = struct.unpack_from('<H', body)
        if not self._times.pop(channel, None):
            return False
        self._found.index.message_index(channel, offset, len(body) + _PREFIX.size)
        return True

    def _definitions(self, records: list[tuple[int, int, bytes]]) -> None:
        for opcode, _, record in records:
            stream = ReadDataStream(io.BytesIO(record))
            if opcode == Opcode.SCHEMA:
                self._found.index.schema(Schema.read(stream))
            elif opcode == Opcode.CHANNEL:
                self._found.index.channel(Channel.read(stream))

    def _loosen(self, records: list[tuple[int, int, bytes]]) -> None:
        """Keep single records of a chunk that cannot stay; its definitions are known already."""
        found = self._found
        for opcode, _, record in records:
            stream = ReadDataStream(io.BytesIO(record))
            if opcode == Opcode.SCHEMA:
                found.loose.append(Schema.read(stream))
            elif opcode == Opcode.CHANNEL:
                found.loose.append(Channel.read(stream))
            elif opcode == Opcode.MESSAGE:
                message = Message.read(stream, len(record))
                if message.channel_id in found.index.channels:
                    found.loose.append(message)
                else:
                    found.lost += len(record) + _PREFIX.size

    def _torn(self, at: int, headed: bool, prefix: bytes, rest: bytes) -> Findings:
        if not headed:
            return Findings(lost=self._size)
        found = self._found
        opcode = prefix[0] if prefix else Opcode.DATA_END
        if opcode in _CONTENT or opcode not in set(Opcode):
            found.lost += self._size - at
        if opcode == Opcode.CHUNK:
            records = list(_records(_unpack_torn(rest)))
            self._definitions(records)
            self._loosen(records)
        found.unindexed = [
            MessageIndex(channel, entries) for channel, entries in self._times.items()
        ]
        return found

    def _extend(self, start: int, end: int) -> None:
        spans = self._found.spans
        if spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))


def _finish(file: BinaryIO, found: Findings) -> None:
    """What follows the records that were kept."""
    index = found.index
    builder = RecordBuilder()
    for entry in found.unindexed:
        start = builder.count
        entry.write(builder)
        index.message_index(entry.channel_id, found.octets + start, builder.count - start)
    if any(isinstance(record, Message) for record in found.loose):
        _pack(builder, found.octets, found.loose, index)
    file.write(builder.end())
    file.write(index.end(file.tell()))


def _pack(builder: RecordBuilder, base: int, records: list[Any], index: Index) -> None:
    """One more chunk, with its message index."""
    content = RecordBuilder()
    times: dict[int, list[tuple[int, int]]] = {}
    for record in records:
        if isinstance(record, Message):
            times.setdefault(record.channel_id, []).append((record.log_time, content.count))
            index.message(record.channel_id, record.log_time)
        record.write(content)
    logged = [log_time for entries in times.values() for log_time, _ in entries]
    data = content.end()
    chunk = Chunk('', data, max(logged), min(logged), zlib.crc32(data), len(data))
    start = builder.count
    chunk.write(builder)
    index.chunk(base + start, builder.count - start, chunk)
    for channel, entries in times.items():
        start = builder.count
        MessageIndex(channel, entries).write(builder)
        index.message_index(channel, base + start, builder.count - start)


def _records(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Whole records of a chunk's content: what, where, and the octets after the prefix."""
    at = 0
    while at + _PREFIX.size <= len(data):
        opcode, length = _PREFIX.unpack_from(data, at)
        end = at + _PREFIX.size + length
        if not opcode or end > len(data):
            return
        yield opcode, at, data[at + _PREFIX.size : end]
        at = end


def _unpack(chunk: Chunk) -> bytes | None:
    try:
        stream, length = get_chunk_data_stream(chunk, validate_crc=True)
        return stream.read(length)
    except UnsupportedCompressionError as error:
        raise BagError(f'a chunk is compressed with {chunk.compression!r}: {error}') from error
    except Exception:  # each compression has errors of its own
        return None


def _unpack_torn(body: bytes) -> bytes:
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
            import lz4.frame

            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data))
    except Exception:  # each compression has errors of its own
        return b''
    return data if not compression else b''


def _copy(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    source.seek(start)
    while start < end:
        block = source.read(min(1 << 20, end - start))
        target.write(block)
        start += len(block)
