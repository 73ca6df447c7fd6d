"""The end of an MCAP file: its summary and footer, built from what lies before them."""

import struct
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any, BinaryIO

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

MAGIC = b'\x89MCAP0\r\n'
_FOOTER = 29 + len(MAGIC)  # octets of the footer's record and what ends a file


class Index:
    """What the summary of a file says; filled in the order of its records."""

    def __init__(self) -> None:
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self.counts: dict[int, int] = defaultdict(int)  # messages by channel
        self.chunks: list[ChunkIndex] = []
        self.start = 0  # log times, ns
        self.stop = 0
        self.metadatas: dict[str, dict[str, str]] = {}  # the last of each name
        self._metadata: list[MetadataIndex] = []
        self._attachments: list[AttachmentIndex] = []

    @property
    def count(self) -> int:
        """Messages in all."""
        return sum(self.counts.values())

    def schema(self, schema: Schema) -> None:
        """Take a schema into account; the first of an id holds."""
        self.schemas.setdefault(schema.id, schema)

    def channel(self, channel: Channel) -> None:
        """Take a channel into account; the first of an id holds."""
        self.channels.setdefault(channel.id, channel)

    def message(self, channel: int, log_time: int) -> None:
        """Count a message."""
        self.start = min(self.start, log_time) if self.counts else log_time
        self.stop = max(self.stop, log_time)
        self.counts[channel] += 1

    def chunk(self, offset: int, length: int, chunk: Chunk) -> None:
        """Take a chunk that begins at an offset of the file."""
        self.chunks.append(
            ChunkIndex(
                chunk_length=length,
                chunk_start_offset=offset,
                compression=chunk.compression,
                compressed_size=len(chunk.data),
                message_end_time=chunk.message_end_time,
                message_index_length=0,
                message_index_offsets={},
                message_start_time=chunk.message_start_time,
                uncompressed_size=chunk.uncompressed_size,
            )
        )

    def message_index(self, channel: int, offset: int, length: int) -> None:
        """Take a message index of the last chunk."""
        self.chunks[-1].message_index_offsets[channel] = offset
        self.chunks[-1].message_index_length += length

    def metadata(self, offset: int, length: int, metadata: Metadata) -> None:
        """Take a metadata record."""
        self._metadata.append(MetadataIndex(offset, length, metadata.name))
        self.metadatas[metadata.name] = metadata.metadata

    def attachment(self, offset: int, length: int, attachment: Attachment) -> None:
        """Take an attachment."""
        self._attachments.append(
            AttachmentIndex(
                offset=offset,
                length=length,
                log_time=attachment.log_time,
                create_time=attachment.create_time,
                data_size=len(attachment.data),
                name=attachment.name,
                media_type=attachment.media_type,
            )
        )

    def end(self, offset: int) -> bytes:
        """All that follows the data of a file, from that offset on."""
        before: Any = RecordBuilder()
        DataEnd(0).write(before)
        data_end = before.end()
        start = offset + len(data_end)
        builder: Any = RecordBuilder()
        groups: list[tuple[Opcode, list[Any]]] = [
            (Opcode.SCHEMA, list(self.schemas.values())),
            (Opcode.CHANNEL, list(self.channels.values())),
            (Opcode.STATISTICS, [self._statistics()]),
            (Opcode.CHUNK_INDEX, self.chunks),
            (Opcode.ATTACHMENT_INDEX, self._attachments),
            (Opcode.METADATA_INDEX, self._metadata),
        ]
        offsets = []
        for opcode, records in groups:
            begin = builder.count
            for record in records:
                record.write(builder)
            if records:
                offsets.append(SummaryOffset(opcode, start + begin, builder.count - begin))
        offset_start = start + builder.count
        for entry in offsets:
            entry.write(builder)
        summary = builder.end()
        # The CRC covers the footer, too, up to the CRC itself.
        head = struct.pack('<BQQQ', Opcode.FOOTER, 20, start, offset_start)
        footer: Any = RecordBuilder()
        Footer(start, offset_start, zlib.crc32(head, zlib.crc32(summary))).write(footer)
        return data_end + summary + footer.end() + MAGIC

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=len(self._attachments),
            channel_count=len(self.channels),
            channel_message_counts=dict(self.counts),
            chunk_count=len(self.chunks),
            message_count=self.count,
            message_end_time=self.stop,
            message_start_time=self.start,
            metadata_count=len(self._metadata),
            schema_count=len(self.schemas),
        )


def _has_end(file: BinaryIO) -> bool:
    """Whether there is a footer, and its CRC fits the summary (0: there is no CRC)."""
    file.seek(-_FOOTER, 2)
    footer = file.read()
    if not footer.endswith(MAGIC) or footer[0] != Opcode.FOOTER:
        return False
    (start,) = struct.unpack_from('<Q', footer, 9)
    (crc,) = struct.unpack_from('<I', footer, 25)
    if not crc or not start:
        return True
    file.seek(start)
    return zlib.crc32(file.read()[: -len(MAGIC) - 4]) == crc


def read_index(path: Path) -> Index | None:
    """The summary of a file that has an end; None for one without, or with a broken one."""
    with path.open('rb') as file:
        try:
            if not _has_end(file):
                return None
            file.seek(0)
            reader = make_reader(file, validate_crcs=True)
            summary = reader.get_summary()
            if summary is None or summary.statistics is None:
                return None
            index = Index()
            index.schemas = summary.schemas
            index.channels = summary.channels
            index.counts = summary.statistics.channel_message_counts
            index.chunks = summary.chunk_indexes
            index.start = summary.statistics.message_start_time
            index.stop = summary.statistics.message_end_time
            for metadata in reader.iter_metadata():
                index.metadatas[metadata.name] = metadata.metadata
        except Exception:  # whatever the package makes of a file that is not what it should be
            return None
    return index
