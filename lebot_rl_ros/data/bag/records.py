"""Rows of records out of a bag's files: many messages at once, by the files' own index."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.cdr import RowReader
from lebot_rl_ros.data.bag.mcap_file import McapFile
from lebot_rl_ros.data.bag.mcap_format import HEAD, MESSAGE
from lebot_rl_ros.data.bag.types import BagError

AT_ONCE = 1 << 22  # octets of chunks whose rows are taken together
HEADER = np.dtype([
    ('code', 'u1'), ('length', '<u8'), ('channel', '<u2'), ('sequence', '<u4'),
    ('log_time', '<i8'), ('publish_time', '<i8'),
])  # fmt: skip
"""Of a message record."""

Times = npt.NDArray[np.int64]


class Records(NamedTuple):
    """Rows (R,) of one topic in the order of log time."""

    rows: npt.NDArray[np.void]
    log_times: Times  # (R,) ns
    places: Times  # (R,) order in the bag: of two equal log times, the lower place is first


def read_records(files: Sequence[McapFile], topics: Sequence[str]) -> list[Records]:
    """Rows of topics, whose messages are all PointCloud2, in one pass over the files.

    Raises:
        BagError: a message is none, the fields of a topic change, or a file is damaged.
    """
    readers = [RowReader() for _ in topics]
    parts: list[list[Records]] = [[] for _ in topics]
    place = 0
    for file in files:
        numbers = [
            [n for n, channel in file.channels.items() if channel.topic == topic]
            for topic in topics
        ]
        for content, offsets in _batches(file, numbers):
            for i, (reader, starts) in enumerate(zip(readers, offsets, strict=True)):
                try:
                    parts[i].append(_take(reader, content, starts, place, numbers[i]))
                except ValueError as error:
                    raise BagError(f'{file.path}: {topics[i]}: {error}') from error
            place += len(content)
    return [_in_order(reader, part) for reader, part in zip(readers, parts, strict=True)]


def _batches(
    file: McapFile, numbers: Sequence[Sequence[int]]
) -> Iterator[tuple[bytes, list[Times]]]:
    """Content of chunks, joined, and where the messages of each group of channels begin."""
    parts: list[bytes] = []
    offsets: list[list[Times]] = [[] for _ in numbers]
    wanted, length = {n for group in numbers for n in group}, 0
    for chunk in sorted(file.chunks, key=lambda chunk: chunk.offset):
        if chunk.channels is not None and wanted.isdisjoint(chunk.channels):
            continue
        content, index = file.read(chunk)
        if index is None:
            index = _index(file, content)
        for group, found in zip(numbers, offsets, strict=True):
            found += [index[n] + length for n in group if n in index]
        parts.append(content)
        length += len(content)
        if length >= AT_ONCE:
            yield b''.join(parts), [_joined(found) for found in offsets]
            parts, offsets, length = [], [[] for _ in numbers], 0
    if parts:
        yield b''.join(parts), [_joined(found) for found in offsets]


def _index(file: McapFile, content: bytes) -> dict[int, Times]:
    """Where the messages of each channel begin, found by walking through all of them."""
    found: dict[int, list[int]] = {}
    for channel, _, _, start, _ in file.messages(content):
        found.setdefault(channel, []).append(start - HEAD)
    return {channel: np.array(starts, np.int64) for channel, starts in found.items()}


def _joined(parts: Sequence[Times]) -> Times:
    """All of them, from the first on: a topic may have several channels."""
    starts = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return np.sort(starts) if (np.diff(starts) < 0).any() else starts


def _take(
    reader: RowReader, content: bytes, starts: Times, place: int, numbers: Sequence[int]
) -> Records:
    """Rows of the messages whose records begin at ``starts``."""
    if len(starts) and not 0 <= starts[0] <= starts[-1] <= len(content) - HEAD:
        raise ValueError('its index points outside of a chunk')
    every = np.ndarray(max(0, len(content) - HEAD + 1), HEADER, content, 0, (1,))
    heads = every[starts]
    sizes = heads['length'].astype(np.int64) - (HEAD - 9)
    good = (heads['code'] == MESSAGE) & np.isin(heads['channel'], numbers)
    good &= (sizes >= 0) & (starts + HEAD + sizes <= len(content))
    if not good.all():
        raise ValueError('its index does not point at its messages')
    rows, owners = reader.read(content, starts + HEAD, sizes)
    return Records(rows, heads['log_time'][owners], (place + starts)[owners])


def _in_order(reader: RowReader, parts: Sequence[Records]) -> Records:
    parts = [part for part in parts if len(part.rows)]
    if not parts:
        nothing = np.zeros(0, np.int64)
        return Records(np.zeros(0, reader.dtype or np.dtype([])), nothing, nothing)
    rows, times, places = (np.concatenate(column) for column in zip(*parts, strict=True))
    if (np.diff(times) < 0).any():
        order = np.argsort(times, kind='stable')
        rows, times, places = rows[order], times[order], places[order]
    return Records(rows, times, places)
