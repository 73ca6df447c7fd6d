"""One MCAP file by its index: channels, chunks, where messages lie. Nothing of ROS is known here.

Records are read as octets, many at once, since a Python object for each message costs more than
all the rest.
"""

import os
import struct
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.mcap_contents import Channel as Channel
from lebot_rl_ros.data.bag.mcap_contents import Chunk, Contents
from lebot_rl_ros.data.bag.mcap_format import (
    CHANNEL,
    CHUNK,
    CHUNK_HEAD,
    DATA_END,
    FOOTER,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    MESSAGE_INDEX,
    METADATA,
    METADATA_INDEX,
    RECORD,
    SCHEMA,
    TAIL,
    decompressor,
    records,
    text,
)
from lebot_rl_ros.data.bag.types import BagError

PIECE = 1 << 20  # octets of messages outside of chunks that are read at once

Offsets = npt.NDArray[np.int64]


class McapFile(Contents):
    """An open file. Its end is read first: a file without one was cut off."""

    def __init__(self, path: Path) -> None:
        """Read the index; a file that has none is walked through once.

        Raises:
            BagError: it cannot be read, is no MCAP file, has no end, or is damaged.
        """
        super().__init__()
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise BagError(f'{path} cannot be read: {error.strerror}') from error
        self._descriptor, self.size = descriptor, os.fstat(descriptor).st_size
        self.close = weakref.finalize(self, os.close, descriptor)
        try:
            self._open()
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError) as error:
            raise BagError(f'{path} is damaged: its index cannot be read ({error!r})') from error

    def read(self, chunk: Chunk) -> tuple[bytes, dict[int, Offsets] | None]:
        """Records of a chunk, and where in them each channel's messages begin; None: not known.

        Raises:
            BagError: the file is damaged there.
        """
        try:
            return self._read(chunk)
        except (struct.error, ValueError) as error:
            if isinstance(error, BagError):
                raise
            raise self._damaged(chunk.offset, f'a chunk cannot be read: {error}') from error

    def _read(self, chunk: Chunk) -> tuple[bytes, dict[int, Offsets] | None]:
        data = self._at(chunk.offset, chunk.length + chunk.index_length)
        if chunk.bare:
            return data, None
        _, _, size, crc = CHUNK_HEAD.unpack_from(data, 9)
        compression, at = text(data, 9 + CHUNK_HEAD.size)
        length = int.from_bytes(data[at : at + 8], 'little')
        content = self._decompress(data[at + 8 : at + 8 + length], compression, size, chunk)
        if crc and zlib.crc32(content) != crc:
            raise self._damaged(chunk.offset, 'a chunk does not match its checksum')
        offsets: dict[int, Offsets] = {}
        for code, at, end in records(data, chunk.length):
            if code == MESSAGE_INDEX:
                channel = int.from_bytes(data[at : at + 2], 'little')
                pairs = np.frombuffer(data, '<i8', (end - at - 6) // 8, at + 6)
                offsets[channel] = np.sort(pairs[1::2])  # they are in the order of time
        return content, offsets if chunk.index_length else None

    def messages(self, content: bytes) -> Iterator[tuple[int, int, int, int, int]]:
        """Channel, log time, publish time, start and end of every message among records."""
        try:
            for code, start, end in records(content):
                if code == MESSAGE:
                    channel, _, log_time, publish_time = MESSAGE_HEAD.unpack_from(content, start)
                    yield channel, log_time, publish_time, start + MESSAGE_HEAD.size, end
        except struct.error as error:
            raise BagError(f'{self.path} is damaged: a chunk cannot be read: {error}') from error

    def _open(self) -> None:
        if self._at(0, min(8, self.size)) != MAGIC[: self.size]:
            raise BagError(f'{self.path} is not an MCAP file')
        tail = self._at(max(0, self.size - TAIL), min(TAIL, self.size))
        if len(tail) < TAIL or tail[-8:] != MAGIC or RECORD.unpack_from(tail) != (FOOTER, 20):
            raise self._without_end()
        summary = int.from_bytes(tail[9:17], 'little')
        places: list[int] = []
        if summary:
            data = self._at(summary, self.size - TAIL - summary)
            crc = int.from_bytes(tail[25:29], 'little')  # of all from the summary to itself
            if crc and zlib.crc32(data + tail[:25]) != crc:
                raise BagError(
                    f'{self.path} is damaged: its index does not match its checksum; '
                    f'`lebot bag recover {self.path.parent}` keeps what can be read'
                )
            for code, at, end in records(data):
                if code == METADATA_INDEX:
                    places.append(int.from_bytes(data[at : at + 8], 'little'))
                else:
                    self.note(code, data, at, end)
        if not self.is_whole():
            self._walk()
        for place in places:
            _, length = RECORD.unpack(self._at(place, 9))
            self.note(METADATA, self._at(place + 9, length), 0, length)

    def _walk(self) -> None:
        """Find out by reading all of it, record by record, what no index says."""
        self.chunks, self.counts = [], {}
        at, first = 8, None  # where a stretch of messages outside of chunks begins
        while True:
            head = self._at(at, 9)
            code, length = RECORD.unpack(head)
            if first is not None and (code != MESSAGE or at - first > PIECE):
                self._add(Chunk(0, 0, first, at - first, 0, None, bare=True))
                first = None
            if code in (DATA_END, FOOTER):
                break
            if code == MESSAGE:
                first = at if first is None else first
            elif code == CHUNK:
                self._add(Chunk(0, 0, at, length + 9, 0, None))
            elif code in (SCHEMA, CHANNEL, METADATA):
                self.note(code, self._at(at + 9, length), 0, length)
            at += 9 + length

    def _add(self, chunk: Chunk) -> None:
        content = self.read(chunk)[0]
        for code, at, end in records(content):
            if code in (SCHEMA, CHANNEL):
                self.note(code, content, at, end)
        found = [(channel, log_time) for channel, log_time, *_ in self.messages(content)]
        if not found:
            return
        times = [time for _, time in found]
        channels = frozenset(channel for channel, _ in found)
        chunk = chunk._replace(start=min(times), end=max(times), channels=channels)
        self.start = min(chunk.start, self.start) if self.counts else chunk.start
        self.end = max(chunk.end, self.end)
        self.chunks.append(chunk)
        for channel, _ in found:
            self.counts[channel] = self.counts.get(channel, 0) + 1

    def _at(self, offset: int, length: int) -> bytes:
        if offset + length > self.size:
            raise self._damaged(offset, f'{length} octets are expected, the file ends before')
        parts, left = [], length
        while left:
            try:
                parts.append(os.pread(self._descriptor, left, offset + length - left))
            except OSError as error:
                raise BagError(f'{self.path} cannot be read: {error.strerror}') from error
            if not parts[-1]:
                raise self._damaged(offset, 'the file became shorter while it was read')
            left -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b''.join(parts)

    def _decompress(self, data: bytes, compression: str, size: int, chunk: Chunk) -> bytes:
        if not compression:
            content = data
        else:
            try:
                content = decompressor(compression)(data, size)
            except ImportError:
                raise
            except Exception as error:  # each library has its own
                raise self._damaged(
                    chunk.offset, f'a chunk is no {compression}: {error}'
                ) from error
        if len(content) != size:
            raise self._damaged(
                chunk.offset, f'a chunk has {len(content)} octets, its header says {size}'
            )
        return content

    def _without_end(self) -> BagError:
        return BagError(
            f'{self.path} has no end, as after a kill or a loss of power; '
            f'`lebot bag recover {self.path.parent}` mends it'
        )

    def _damaged(self, offset: int, what: str) -> BagError:
        return BagError(
            f'{self.path} is damaged at octet {offset}: {what}; '
            f'`lebot bag recover {self.path.parent}` keeps what can be read'
        )
