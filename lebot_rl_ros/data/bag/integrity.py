"""Whether an MCAP file holds what it says: every chunk against its CRC, the index against its own.

Format: https://mcap.dev/spec, version 0.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from lebot_rl_ros.data.bag.types import Topic

MAGIC = 8  # octets


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
    from mcap.records import Chunk, Footer
    from mcap.stream_reader import CRCValidationError, StreamReader, get_chunk_data_stream
    from zstandard import ZstdError

    unreadable = (McapError, CRCValidationError, ZstdError, struct.error, ValueError, OSError)
    damage: list[Damage] = []
    chunks = unchecked = 0
    footer: Footer | None = None
    with path.open('rb') as stream:
        try:
            for record in StreamReader(stream, emit_chunks=True, validate_crcs=True).records:
                if isinstance(record, Footer):
                    footer = record
                elif isinstance(record, Chunk):
                    chunks += 1
                    unchecked += record.uncompressed_crc == 0
                    try:
                        get_chunk_data_stream(record, validate_crc=True)
                    except unreadable as error:
                        why = 'wrong CRC' if isinstance(error, CRCValidationError) else str(error)
                        times = record.message_start_time, record.message_end_time
                        damage.append(Damage(f'chunk {chunks} is damaged: {why}', *times))
        except CRCValidationError:  # of all records but the index, which damaged chunks explain
            if not damage:
                damage.append(Damage('the records between chunks are damaged: wrong CRC'))
        except unreadable as error:
            reason = str(error) or type(error).__name__
            damage.append(Damage(f'nothing can be read after chunk {chunks}: {reason}'))
        if footer is not None and footer.summary_start and footer.summary_crc:
            stream.seek(footer.summary_start)
            index = stream.read()[: -(MAGIC + 4)]  # all of the footer but the CRC itself
            if zlib.crc32(index) != footer.summary_crc:
                damage.append(Damage('the index is damaged: wrong CRC'))
        octets = stream.seek(0, 2)
    return FileState(path.name, octets, chunks, unchecked, tuple(damage))


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
