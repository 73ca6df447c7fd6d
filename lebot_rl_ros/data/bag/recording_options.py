"""How a bag is recorded, and how a recording stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lebot_rl_ros.data.bag.writer import BagWriter

OVERHEAD = 200  # octets of a message in memory beside its data, about


@dataclass(frozen=True)
class RecordingOptions:
    """How a bag is recorded."""

    chunk_bytes: int = 1 << 16
    compression: str = 'zstd'  # or 'lz4', or ''
    split_bytes: int = 0  # begin a new file from so many octets on; 0: never
    split_seconds: float = 0.0  # of log time; 0: never
    queue_messages: int = 20_000
    queue_octets: int = 64 << 20
    floor_octets: int = (
        200 << 20
    )  # of free space, below which recording stops; 0: until it is full
    sync_period: float = 1.0  # s between waits for the disk
    batch_period: float = 0.1  # s between looks into the queue


@dataclass(frozen=True)
class RecordingStatus:
    """How a recording stands, for diagnostics."""

    state: str  # idle, recording, stopping, stopped, full (disk), failed
    reason: str = ''  # why it is full or failed
    folder: Path | None = None  # of the bag that is written, or was last
    files: int = 0
    octets: int = 0  # of all files
    written: int = 0  # messages, with those of latched topics that a split repeats
    queued: int = 0  # messages that wait for the writer's thread
    dropped: Mapping[str, int] = field(default_factory=dict)  # by topic, since `start`
    refused: Mapping[str, str] = field(default_factory=dict)  # topic: why it cannot be recorded
    free_octets: int = 0  # on the disk, at the last look


def open_bag(
    folder: Path, options: RecordingOptions, metadata: Mapping[str, str] | None = None
) -> BagWriter:
    """A writer with these options."""
    return BagWriter(
        folder,
        chunk_bytes=options.chunk_bytes,
        compression=options.compression,
        split_bytes=options.split_bytes,
        split_seconds=options.split_seconds,
        metadata=metadata,
    )


def unused(folder: Path) -> Path:
    """The folder, or with _2, _3, ... the first that is not there yet."""
    path, number = folder, 1
    while path.exists():
        number += 1
        path = folder.with_name(f'{folder.name}_{number}')
    return path
