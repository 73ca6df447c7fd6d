"""Whether an MCAP file holds what it says: every chunk against its CRC, the index against its own.

Format: https://mcap.dev/spec, version 0.
"""

import struct
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lebot_rl_ros.data.bag.types import Topic

if TYPE_CHECKING:
    from mcap.records import Chunk

MAGIC = 8  # octets
RECORD = struct.Struct('<BQ')  # what it is, octets that follow


@dataclass(frozen=True)
class Damage:
    """A part of a file that cannot be trusted."""

    what: str
    start: int = 0  # ns log time that it may cover; 0 and 0: not known
    end: int = 0


@dataclass(frozen=True)
class FileState:
    """One file, read to its end."""

    name: str
    octets: int
    chunks: int
    unchecked: int  # chunks that carry no CRC
    damage: tuple[Damage, ...]


def inspect(path: Path) -> FileState:
    """Read all chunks of a file and compare their CRCs; no message is decoded.

    What cannot be read is damage in the answer, and no error.

    Raises:
        ImportError: the packages mcap and zstandard are not installed: the extra 'record'.
    """
    from mcap.exceptions import McapError
    from mcap.stream_reader import CRCValidationError
    from zstandard import ZstdError

    state = _State()
    with path.open('rb') as stream:
        try:
            _walk(stream, state)
        except (McapError, CRCValidationError, ZstdError, struct.error, ValueError) as error:
            reason = str(error) or type(error).__name__
            state.add(f'nothing can be read after chunk {state.chunks}: {reason}')
        octets = stream.seek(0, 2)
    return FileState(path.name, octets, state.chunks, state.unchecked, tuple(state.damage))


@dataclass
class _State:
    """What is known so far."""

    chunks: int = 0
    unchecked: int = 0
    damage: list[Damage] = field(default_factory=list)

    def add(self, what: str, start: int = 0, end: int = 0) -> None:
        self.damage.append(Damage(what, start, end))


def _walk(stream: BinaryIO, state: _State) -> None:
    """From record to record; only chunks are looked into."""
    from mcap.data_stream import ReadDataStream
    from mcap.opcode import Opcode
    from mcap.records import Chunk, DataEnd, Footer
    from mcap.stream_reader import read_magic

    start = stream.read(MAGIC)
    read_magic(ReadDataStream(BytesIO(start)))
    crc, kind = zlib.crc32(start), -1
    while kind != Opcode.FOOTER:
        head = stream.read(RECORD.size)
        kind, length = RECORD.unpack(head)
        content = stream.read(length)
        if len(content) < length:
            raise ValueError(f'a record of {length} octets is cut off')
        if kind == Opcode.CHUNK:
            state.chunks += 1
            _look_into(Chunk.read(ReadDataStream(BytesIO(content))), state)
        elif kind == Opcode.DATA_END:
            promised = DataEnd.read(ReadDataStream(BytesIO(content))).data_section_crc
            if promised not in (0, crc) and not state.damage:  # damaged chunks would explain it
                state.add('the records between chunks are damaged: wrong CRC')
        crc = zlib.crc32(content, zlib.crc32(head, crc))
    footer = Footer.read(ReadDataStream(BytesIO(content)))
    read_magic(ReadDataStream(BytesIO(stream.read(MAGIC))))
    if footer.summary_start and footer.summary_crc:
        stream.seek(footer.summary_start)
        index = stream.read()[: -(MAGIC + 4)]  # all of the footer but the CRC itself
        if zlib.crc32(index) != footer.summary_crc:
            state.add('the index is damaged: wrong CRC')


def _look_into(chunk: 'Chunk', state: _State) -> None:
    from mcap.exceptions import McapError
    from mcap.stream_reader import CRCValidationError, get_chunk_data_stream
    from zstandard import ZstdError

    state.unchecked += chunk.uncompressed_crc == 0
    try:
        get_chunk_data_stream(chunk, validate_crc=True)
    except (McapError, CRCValidationError, ZstdError, ValueError, RuntimeError) as error:
        why = 'wrong CRC' if isinstance(error, CRCValidationError) else str(error)
        times = chunk.message_start_time, chunk.message_end_time
        state.add(f'chunk {state.chunks} is damaged: {why}', *times)


def definition_hash(topic: Topic) -> str:
    """The type hash (REP-2016) that follows from the definition in the bag alone.

    Raises:
        ValueError: the definition cannot be read.
        ImportError: the package rosbags is not installed: the extra 'record'.
    """
    from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

    store = get_typestore(Stores.EMPTY)
    try:
        store.register(get_types_from_msg(topic.definition, topic.type))
        return str(store.hash_rihs01(topic.type))
    except (TypesysError, KeyError) as error:
        raise ValueError(f'{topic.type}: {error}') from error
