"""The end that a torn MCAP file lacks, written to a copy of it or in place."""

import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from mcap.data_stream import RecordBuilder
from mcap.records import Chunk, Message, MessageIndex

from lebot_rl_ros.data.bag.mcap_index import Index
from lebot_rl_ros.data.bag.mending import Findings
from lebot_rl_ros.data.bag.types import BagError


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


def _finish(file: BinaryIO, found: Findings) -> None:
    """What follows the records that were kept."""
    index = found.index
    builder: Any = RecordBuilder()
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
    content: Any = RecordBuilder()
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


def _copy(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    source.seek(start)
    while start < end:
        block = source.read(min(1 << 20, end - start))
        target.write(block)
        start += len(block)
