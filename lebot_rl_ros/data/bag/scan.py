"""All messages of a bag as arrays of where they lie, without a Python object for each.

A damaged chunk is stepped over: who checks a bag, or draws it, wants the rest.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.mcap_file import McapFile
from lebot_rl_ros.data.bag.mcap_format import HEAD, MESSAGE
from lebot_rl_ros.data.bag.records import HEADER
from lebot_rl_ros.data.bag.types import BagError, Message

Numbers = npt.NDArray[np.int64]

AT_ONCE = 1 << 22  # octets of chunks that make one batch


@dataclass(frozen=True)
class Piece:
    """Messages of one topic in one buffer, as they lie in the file."""

    topic: str
    data: bytes = field(repr=False)
    starts: Numbers  # (N,) where in data each begins: the four octets that name its encoding
    sizes: Numbers  # (N,) octets
    log: Numbers  # (N,) ns
    publish: Numbers  # (N,) ns


def scan(
    files: Sequence[Path],
    topics: Collection[str] | None = None,
    damaged: Callable[[BagError], None] | None = None,
) -> Iterator[Piece]:
    """Walk through the files of a bag, batch by batch; within a topic in the order of the file.

    Args:
        files: as in `Bag.files`.
        topics: names of those wanted; None: all.
        damaged: is told of every chunk that cannot be read; None: such a one raises.

    Raises:
        BagError: a file cannot be opened, or is damaged and nobody wants to be told.
    """
    for path in files:
        file = McapFile(path)
        try:
            yield from _scan(file, topics, damaged)
        finally:
            file.close()


def _scan(
    file: McapFile,
    topics: Collection[str] | None,
    damaged: Callable[[BagError], None] | None,
) -> Iterator[Piece]:
    wanted = {n for n, c in file.channels.items() if topics is None or c.topic in topics}
    parts: list[bytes] = []
    found: dict[int, list[Numbers]] = {}
    length = 0
    for chunk in sorted(file.chunks, key=lambda chunk: chunk.offset):
        if chunk.channels is not None and wanted.isdisjoint(chunk.channels):
            continue
        try:
            content, index = file.read(chunk)
        except BagError as error:
            if damaged is None:
                raise
            damaged(error)
            continue
        for number, starts in (index or _walked(file, content)).items():
            if number in wanted:
                found.setdefault(number, []).append(starts + length)
        parts.append(content)
        length += len(content)
        if length >= AT_ONCE:
            yield from _pieces(file, b''.join(parts), found)
            parts, found, length = [], {}, 0
    yield from _pieces(file, b''.join(parts), found)


def _walked(file: McapFile, content: bytes) -> dict[int, Numbers]:
    """Where the records of each channel begin, in a chunk without an index."""
    found: dict[int, list[int]] = {}
    for number, _, _, start, _ in file.messages(content):
        found.setdefault(number, []).append(start - HEAD)
    return {number: np.array(starts, np.int64) for number, starts in found.items()}


def _pieces(file: McapFile, data: bytes, found: dict[int, list[Numbers]]) -> Iterator[Piece]:
    if not found:
        return
    every = np.ndarray(max(0, len(data) - HEAD + 1), HEADER, data, 0, (1,))
    for number, parts in found.items():
        starts = np.concatenate(parts)
        inside = (starts >= 0) & (starts < len(every))
        heads = every[starts[inside]]
        if not inside.all() or (heads['code'] != MESSAGE).any():
            raise BagError(f'{file.path} is damaged: its index does not point at messages')
        yield Piece(
            file.channels[number].topic,
            data,
            starts + HEAD,
            heads['length'].astype(np.int64) - (HEAD - 9),
            heads['log_time'].astype(np.int64),
            heads['publish_time'].astype(np.int64),
        )


def messages_of(piece: Piece) -> Iterator[Message]:
    """One by one, for those few that have to be decoded."""
    for start, size, log, publish in zip(
        piece.starts.tolist(), piece.sizes.tolist(), piece.log.tolist(), piece.publish.tolist(),
        strict=True,
    ):  # fmt: skip
        yield Message(piece.topic, log, publish, piece.data[start : start + size])
