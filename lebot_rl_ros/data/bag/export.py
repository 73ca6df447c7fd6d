"""Bags as tables for other programs: Parquet, a file a topic, or NPZ, one file of arrays."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from lebot_rl_ros import __version__
from lebot_rl_ros.data.bag.arrays import ArrayFile
from lebot_rl_ros.data.bag.arrow import TIMESTAMP, ParquetFile
from lebot_rl_ros.data.bag.cdr import POINT_CLOUD, Layout, parse
from lebot_rl_ros.data.bag.columns import SECOND, Column, message_columns, row_columns
from lebot_rl_ros.data.bag.reader import Bag, TopicInfo
from lebot_rl_ros.data.bag.types import BagError, Message

BATCH = 8192  # rows that are written together
BATCH_OCTETS = 1 << 25  # or so many octets of messages
TELL_EVERY = 1000  # messages between two words of progress
TIMES = (
    Column('log_time', TIMESTAMP, lambda times: times[0]),
    Column('publish_time', TIMESTAMP, lambda times: times[1]),
    Column('time_s', 'f8', lambda times: times[2], 's'),
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Exported:
    """A table that was written."""

    path: Path
    topic: str
    rows: int


def export_topics(
    bag: Bag,
    out: Path,
    topics: Sequence[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Exported]:
    """Write topics of a bag.

    Every table has the columns ``log_time`` and ``publish_time`` (UTC in Parquet, ns in NPZ) and
    ``time_s``, seconds since the bag's beginning; the others are those of
    :mod:`lebot_rl_ros.data.bag.columns`.

    Args:
        bag: to read.
        out: a file .parquet for one topic; .npz for any; or a folder for a Parquet file a topic.
        topics: names; those without a message get no table.
        force: replace files that are there.
        progress: told how many messages are done.

    Raises:
        BagError: a file is there, there is nothing to write, or a message cannot be read.
        ModuleNotFoundError: pyarrow is not installed.
    """
    spoken = [name for name in topics if bag.topics[name].count]
    if not spoken:
        raise BagError(f'{bag.path}: no messages of {", ".join(topics) or "any topic"}')
    places = _places(out, spoken, force=force)
    total = sum(bag.topics[name].count for name in spoken)
    with _files(places) as paths:
        arrays = ArrayFile(paths[out]) if out.suffix == '.npz' else None
        sinks: dict[str, _Sink] = {}
        for count, message in enumerate(bag.messages(spoken)):
            if message.topic not in sinks:
                path = None if arrays else paths[places[message.topic]]
                sinks[message.topic] = _Sink(bag, message, path, arrays)
            sinks[message.topic].take(message)
            if progress is not None and count % TELL_EVERY == 0:
                progress(count, total)
        for sink in sinks.values():
            sink.close()
        if arrays is not None:
            arrays.close()
    if progress is not None:
        progress(total, total)
    return [Exported(places[name], name, sinks[name].rows) for name in spoken]


def write_rows(
    out: Path,
    rows: npt.NDArray[np.void],
    *,
    joints: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Write structured rows (N,), as transitions: .parquet with columns, .npz with the fields.

    Raises:
        BagError: the file is there, or its name ends otherwise.
        ModuleNotFoundError: pyarrow is not installed.
    """
    if out.suffix not in ('.parquet', '.npz'):
        raise BagError(f'{out}: rows are written to .parquet or .npz')
    refuse_files([out], force=force)
    with _files({'': out}) as paths:
        if out.suffix == '.npz':
            with paths[out].open('wb') as file:
                arrays: dict[str, Any] = {name: rows[name] for name in rows.dtype.names or ()}
                np.savez(file, allow_pickle=False, **arrays)
            return
        columns = row_columns(rows.dtype, joints)
        table = ParquetFile(paths[out], columns, _about(metadata or {}))
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            table.write({column.name: column.get(part) for column in columns})
        table.close()


def recorded_joints(bag: Bag) -> tuple[str, ...]:
    """Names of the joints of the robot in a bag, in the order of its arrays; empty if unknown."""
    try:
        table = yaml.safe_load(bag.metadata.get('robot', ''))
        return tuple(str(joint['name']) for joint in table['joints'])
    except (yaml.YAMLError, TypeError, KeyError):
        return ()


def refuse_files(paths: Sequence[Path], *, force: bool) -> None:
    """See that no file is overwritten.

    Raises:
        BagError: one is there, and is not to be replaced; or it is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise BagError(f'{path} is a folder')
        if path.exists() and not force:
            raise BagError(f'{path} is there already; --force replaces it')


class _Sink:
    """Rows of one topic on their way into its table."""

    def __init__(
        self, bag: Bag, first: Message, path: Path | None, arrays: ArrayFile | None
    ) -> None:
        self._bag, self._arrays, self.rows = bag, arrays, 0
        self._topic: TopicInfo = bag.topics[first.topic]
        self._layout = _layout(self._topic, first)
        if self._layout is not None:
            self.columns = row_columns(self._layout.dtype, recorded_joints(bag))
        else:
            fields = definitions(self._topic)
            self.columns = message_columns(self._topic, fields, bag.decode(first))
        self._parquet = None
        if path is not None:
            metadata = {'topic': self._topic.name, 'type': self._topic.type}
            self._parquet = ParquetFile(path, (*TIMES, *self.columns), _about(metadata))
        self._waiting: list[Message] = []
        self._octets = 0

    def take(self, message: Message) -> None:
        """One message."""
        self._waiting.append(message)
        self._octets += len(message.data)
        if len(self._waiting) == BATCH or self._octets > BATCH_OCTETS:
            self._flush()

    def close(self) -> None:
        """Write what waits, and end the table."""
        self._flush()
        if self._parquet is not None:
            self._parquet.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        cells, repeats = self._cells(), np.ones(len(self._waiting), np.int64)
        if self._layout is not None:
            repeats = repeats * self._layout.width
        log, publish = (
            np.repeat(np.array([getattr(m, name) for m in self._waiting], np.int64), repeats)
            for name in ('log_time', 'publish_time')
        )
        times = (log, publish, (log - self._bag.start) / SECOND)
        cells = {column.name: column.get(times) for column in TIMES} | cells
        self.rows += len(log)
        if self._parquet is not None:
            self._parquet.write(cells)
        if self._arrays is not None:
            self._arrays.add(self._topic.name, (*TIMES, *self.columns), cells)
        self._waiting, self._octets = [], 0

    def _cells(self) -> dict[str, Any]:
        if self._layout is not None:
            rows = np.concatenate([self._rows(message) for message in self._waiting])
            return {column.name: column.get(rows) for column in self.columns}
        decoded = [self._bag.decode(message) for message in self._waiting]
        return {
            column.name: _packed([column.get(message) for message in decoded], column.spec)
            for column in self.columns
        }

    def _rows(self, message: Message) -> npt.NDArray[np.void]:
        assert self._layout is not None
        try:
            layout = parse(message.data)
        except ValueError as error:
            raise BagError(f'{self._bag.path}: {self._topic.name}: {error}') from error
        if layout.dtype != self._layout.dtype or layout.width != self._layout.width:
            raise BagError(f'{self._bag.path}: {self._topic.name}: fields change within the bag')
        return np.frombuffer(message.data, layout.dtype, layout.width, layout.start)


def definitions(topic: TopicInfo) -> Mapping[str, Any]:
    """Fields of a topic's type, and of those that it is made of, by the bag's own definition."""
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

    known = get_typestore(Stores.ROS2_JAZZY).fielddefs
    if not topic.definition:
        return known
    if 'module ' in topic.definition:
        return {**known, **get_types_from_idl(topic.definition)}
    return {**known, **get_types_from_msg(topic.definition, topic.type)}


def _packed(cells: list[Any], spec: Any) -> Any:
    """Numbers as an array, (N,) or (N, width); all else as it is."""
    if isinstance(spec, tuple) and spec[0] == 'fixed':
        return np.array(cells, np.dtype(spec[1])).reshape(len(cells), spec[2])
    if isinstance(spec, str) and spec not in ('text', 'octets'):
        return np.array(cells, np.dtype(spec))
    return cells


def _layout(topic: TopicInfo, first: Message) -> Layout | None:
    """How the rows of a topic of records lie; None for all else, point clouds of sensors too."""
    if topic.type != POINT_CLOUD:
        return None
    try:
        layout = parse(first.data)
    except ValueError:
        return None
    return layout if {'sec', 'nanosec'} <= set(layout.dtype.names or ()) else None


def _places(out: Path, topics: Sequence[str], *, force: bool) -> dict[str, Path]:
    """The file of each topic."""
    if out.suffix == '.parquet' and len(topics) > 1:
        raise BagError(
            f'{out} takes one topic, these are {len(topics)}: {", ".join(topics)}; give --topics, '
            'or a folder'
        )
    if out.suffix in ('.parquet', '.npz'):
        places = dict.fromkeys(topics, out)
    else:
        if out.exists() and not out.is_dir():
            raise BagError(f'{out} is a file; a folder, .parquet or .npz was expected')
        places = {name: out / f'{name.strip("/").replace("/", "_")}.parquet' for name in topics}
        twice = [name for name in topics if list(places.values()).count(places[name]) > 1]
        if twice:
            raise BagError(f'{" and ".join(twice)} would be one file; export them apart')
    refuse_files(list(places.values()), force=force)
    return places


@contextmanager
def _files(places: Mapping[str, Path]) -> Iterator[dict[Path, Path]]:
    """Where to write each file: beside its place, where it goes when all are whole."""
    finals = list(dict.fromkeys(places.values()))
    for final in finals:
        final.parent.mkdir(parents=True, exist_ok=True)
    beside = {final: final.with_name(f'.{final.name}.{os.getpid()}') for final in finals}
    try:
        yield beside
        for final, path in beside.items():
            path.replace(final)
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)


def _about(metadata: Mapping[str, str]) -> dict[str, str]:
    return {'lebot_rl_ros': __version__, **metadata}
