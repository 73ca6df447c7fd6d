"""Messages of one topic on their way into its table, some thousands at a time."""

from collections.abc import Mapping
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
TIMES = (
    Column('log_time', TIMESTAMP, lambda times: times[0]),
    Column('publish_time', TIMESTAMP, lambda times: times[1]),
    Column('time_s', 'f8', lambda times: times[2], 's'),
)


class TableSink:
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
            self._parquet = ParquetFile(path, (*TIMES, *self.columns), about(metadata))
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


def recorded_joints(bag: Bag) -> tuple[str, ...]:
    """Names of the joints of the robot in a bag, in the order of its arrays; empty if unknown."""
    try:
        table = yaml.safe_load(bag.metadata.get('robot', ''))
        return tuple(str(joint['name']) for joint in table['joints'])
    except (yaml.YAMLError, TypeError, KeyError):
        return ()


def about(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata of a table."""
    return {'lebot_rl_ros': __version__, **metadata}


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
