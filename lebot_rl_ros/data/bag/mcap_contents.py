"""What an MCAP file has in it, as far as the records of its index say."""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from lebot_rl_ros.data.bag.mcap_format import (
    CHANNEL,
    CHUNK_INDEX,
    INDEX_HEAD,
    METADATA,
    SCHEMA,
    STATISTICS,
    table,
    text,
)


class Channel(NamedTuple):
    """A topic as one file has it."""

    topic: str
    type: str  # '' where the file has no schema for it
    encoding: str  # of messages: cdr
    definition: str
    form: str  # of the definition: ros2msg, ros2idl
    metadata: Mapping[str, str]


class Chunk(NamedTuple):
    """Messages that are read together: a chunk, or a stretch of messages outside of chunks."""

    start: int  # ns log time of its oldest message
    end: int  # ns, of its newest
    offset: int  # in the file
    length: int
    index_length: int  # octets of message indexes behind it
    channels: frozenset[int] | None  # that have messages in it; None: not known
    bare: bool = False  # a stretch, not a chunk


class Contents:
    """Channels by their numbers, counts of messages, chunks, metadata."""

    def __init__(self) -> None:
        """Know of nothing."""
        self.channels: dict[int, Channel] = {}
        self.counts: dict[int, int] = {}  # messages of each channel
        self.chunks: list[Chunk] = []
        self.metadata: dict[str, dict[str, str]] = {}
        self.start = self.end = 0  # ns log time of the first and the last message; 0: none
        self._counted = False  # by the file itself
        self._schemas: dict[int, tuple[str, str, str]] = {}

    def is_whole(self) -> bool:
        """Whether the index says all: parts of it may be left out, as a writer likes."""
        if not self._counted or (not self.chunks and any(self.counts.values())):
            return False
        return all(
            self.counts.keys() | (c.channels or set()) <= self.channels.keys() for c in self.chunks
        )

    def note(self, code: int, data: bytes, at: int, end: int) -> None:
        """Take what a record of the index, or one outside of chunks, says."""
        if code == SCHEMA:
            number = int.from_bytes(data[at : at + 2], 'little')
            name, at = text(data, at + 2)
            form, at = text(data, at)
            self._schemas[number] = (name, text(data, at)[0], form)
        elif code == CHANNEL:
            number, schema = struct.unpack_from('<HH', data, at)
            topic, at = text(data, at + 4)
            encoding, at = text(data, at)
            name, definition, form = self._schemas[schema] if schema else ('', '', '')
            self.channels[number] = Channel(
                topic, name, encoding, definition, form, table(data, at)
            )
        elif code == CHUNK_INDEX:
            start, last, offset, length, size = INDEX_HEAD.unpack_from(data, at)
            at += INDEX_HEAD.size
            channels = frozenset(c for c, _ in struct.iter_unpack('<HQ', data[at : at + size]))
            behind = int.from_bytes(data[at + size : at + size + 8], 'little')
            self.chunks.append(
                Chunk(start, last, offset, length, behind, channels if behind else None)
            )
        elif code == STATISTICS:
            self.start, self.end = struct.unpack_from('<QQ', data, at + 26)
            self._counted = True
            self.counts = dict(struct.iter_unpack('<HQ', data[at + 46 : end]))
        elif code == METADATA:
            name, at = text(data, at)
            self.metadata[name] = table(data, at)
