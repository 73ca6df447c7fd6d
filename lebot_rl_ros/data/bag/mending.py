"""One MCAP file without an end: what of it can be kept, and the index and footer that it lacks.

Whole chunks stay as they are, octet for octet; of a torn one the messages that can still be
unpacked are packed anew. The format: https://mcap.dev/spec.
"""

import io
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mcap.data_stream import ReadDataStream
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

from lebot_rl_ros.data.bag.mcap_index import MAGIC, Index
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.data.bag.unpacking import PREFIX, records_of, unpack, unpack_torn

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


class _Scan:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._found = Findings(spans=[(0, len(MAGIC))])
        self._times: dict[int, list[tuple[int, int]]] = {}  # of the last chunk, if it was kept

    def run(self) -> Findings:
        at = len(MAGIC)
        headed = False
        while True:
            prefix = self._file.read(PREFIX.size)
            if len(prefix) < PREFIX.size:
                return self._torn(at, headed, prefix, b'')
            opcode, length = PREFIX.unpack(prefix)
            end = at + PREFIX.size + length
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
            return self._message_index(offset, body)
        stream = ReadDataStream(io.BytesIO(body))
        try:
            if opcode == Opcode.CHUNK:
                self._times = {}
                return self._chunk(offset, body)
            if opcode == Opcode.SCHEMA:
                index.schema(Schema.read(stream))
            elif opcode == Opcode.CHANNEL:
                index.channel(Channel.read(stream))
            elif opcode == Opcode.MESSAGE:
                channel, _, log_time, _ = _MESSAGE.unpack_from(body)
                index.message(channel, log_time)
            elif opcode == Opcode.METADATA:
                index.metadata(offset, len(body) + PREFIX.size, Metadata.read(stream))
            elif opcode == Opcode.ATTACHMENT:
                index.attachment(offset, len(body) + PREFIX.size, Attachment.read(stream))
        except BagError:
            raise
        except Exception:  # whatever the package makes of a record that is not what it says
            self._found.lost += len(body) + PREFIX.size
            return False
        return True

    def _chunk(self, offset: int, body: bytes) -> bool:
        """Take a whole chunk; where its CRC or a channel is wrong, only what can be trusted."""
        index = self._found.index
        chunk = Chunk.read(ReadDataStream(io.BytesIO(body)))
        data = unpack(chunk)
        records = list(records_of(data)) if data is not None else []
        if data is None or sum(len(record) + PREFIX.size for _, _, record in records) != len(data):
            self._found.lost += len(body) + PREFIX.size
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
        index.chunk(offset, len(body) + PREFIX.size, chunk)
        self._times = times
        return True

    def _message_index(self, offset: int, body: bytes) -> bool:
        (channel,) = struct.unpack_from('<H', body)
        if not self._times.pop(channel, None):
            return False
        self._found.index.message_index(channel, offset, len(body) + PREFIX.size)
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
                    found.lost += len(record) + PREFIX.size

    def _torn(self, at: int, headed: bool, prefix: bytes, rest: bytes) -> Findings:
        if not headed:
            return Findings(lost=self._size)
        found = self._found
        opcode = prefix[0] if prefix else Opcode.DATA_END
        if opcode in _CONTENT or opcode not in set(Opcode):
            found.lost += self._size - at
        if opcode == Opcode.CHUNK:
            records = list(records_of(unpack_torn(rest)))
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
