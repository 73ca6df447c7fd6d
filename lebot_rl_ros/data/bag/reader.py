"""Bags, read: topics, messages in the order of time, and the rows of records, fast. No ROS."""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import merge as merge_sorted
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.cdr import POINT_CLOUD
from lebot_rl_ros.data.bag.decoding import Decoder
from lebot_rl_ros.data.bag.files import find_files, sha256_of
from lebot_rl_ros.data.bag.mcap_contents import Channel, Chunk
from lebot_rl_ros.data.bag.mcap_file import McapFile
from lebot_rl_ros.data.bag.metadata import RUN, load_qos
from lebot_rl_ros.data.bag.records import Records as Records
from lebot_rl_ros.data.bag.records import read_records
from lebot_rl_ros.data.bag.types import BagError, Message, Topic

TRUTH = '/ground_truth/'  # of a simulation


@dataclass(frozen=True)
class TopicInfo(Topic):
    """A topic, and how many messages of it there are."""

    count: int = 0


class Bag:
    """A bag of rosbag2 with MCAP storage: a folder, or one .mcap file.

    Attributes:
        path: as it was given.
        files: the .mcap files, in the order of time.
        topics: by name, sorted.
        start: ns log time of the first message; 0 where there is none.
        end: ns log time of the last message.
        metadata: of the run that was recorded; nothing in it needs to be there.
    """

    def __init__(self, path: str | Path) -> None:
        """Open it: what lies in it is known then, no message has been read.

        Raises:
            BagError: there is no such bag, it is no bag, of another storage, or cut off.
        """
        self.path = Path(path)
        self.files, custom = find_files(self.path)
        self._open = [McapFile(file) for file in self.files]
        self.metadata: Mapping[str, str] = _run(custom, self._open)
        self.topics: Mapping[str, TopicInfo] = _topics(self.path, self._open)
        spoken = [file for file in self._open if any(file.counts.values())]
        self.start = min((file.start for file in spoken), default=0)
        self.end = max((file.end for file in spoken), default=0)
        channels = [channel for file in self._open for channel in file.channels.values()]
        self._decoder = Decoder({c.type: (c.definition, c.form) for c in channels})

    def __enter__(self) -> 'Bag':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; they are closed when nobody has the bag any more, too."""
        for file in self._open:
            file.close()

    @cached_property
    def sha256(self) -> str:
        """Hash of the content of the files, one after the other; reads all of them."""
        return sha256_of(self.files)

    def messages(
        self,
        topics: Collection[str] | None = None,
        start: int | None = None,
        end: int | None = None,
    ) -> Iterator[Message]:
        """Messages in the order of log time, as they were recorded.

        Args:
            topics: names of those wanted; None: all.
            start: ns log time of the first one wanted.
            end: ns log time from which on none is wanted.

        Raises:
            BagError: there is no such topic, or a file is damaged.
        """
        wanted = set(self.topics if topics is None else map(self._known, topics))
        low = self.start if start is None else start
        high = self.end + 1 if end is None else end
        return self._messages(wanted, low, high)

    def decode(self, message: Message) -> Any:
        """A message as an object with the fields of its type, by the definitions in the bag.

        Raises:
            BagError: the definition or the message cannot be read.
        """
        name = self.topics[self._known(message.topic)].type
        try:
            return self._decoder.decode(message.data, name)
        except BagError as error:
            raise BagError(
                f'{self.path}: a message of {message.topic} at {message.log_time} ns: {error}'
            ) from error

    def rows(self, topic: str) -> npt.NDArray[np.void]:
        """Rows (R,) of a topic of records, all of its messages, in the order of log time.

        Raises:
            BagError: there is no such topic, it has no records, or their fields change.
        """
        return self.records([topic])[0].rows

    def records(self, topics: Sequence[str]) -> list[Records]:
        """Rows of several topics of records, read in one pass; see :meth:`rows`.

        Raises:
            BagError: there is no such topic, it has no records, or their fields change.
        """
        for topic in topics:
            found = self.topics[self._known(topic)].type
            if found != POINT_CLOUD:
                raise BagError(
                    f'{self.path}: {topic} is of type {found}, its messages are no records; '
                    f'expected {POINT_CLOUD}'
                )
        return read_records(self._open, topics)

    def _known(self, topic: str) -> str:
        if topic not in self.topics:
            raise BagError(
                f'{self.path} has no topic {topic}; it has {", ".join(self.topics) or "none"}'
            )
        return topic

    def _messages(self, wanted: set[str], low: int, high: int) -> Iterator[Message]:
        """Read chunks when their time comes; what may still be overtaken waits."""
        waiting: list[tuple[tuple[int, int, int, int], Message]] = []
        for chunk, number in self._chunks(wanted, low, high):
            ready = bisect_left(waiting, (chunk.start,), key=itemgetter(0))
            yield from map(itemgetter(1), waiting[:ready])
            file = self._open[number]
            content = file.read(chunk)[0]
            found = []
            for channel, log_time, publish_time, at, to in file.messages(content):
                topic = _channel(file, channel).topic
                if low <= log_time < high and topic in wanted:
                    message = Message(topic, log_time, publish_time, content[at:to])
                    found.append(((log_time, number, chunk.offset, at), message))
            found.sort(key=itemgetter(0))
            rest = waiting[ready:]
            waiting = list(merge_sorted(rest, found, key=itemgetter(0))) if rest else found
        yield from map(itemgetter(1), waiting)

    def _chunks(self, wanted: set[str], low: int, high: int) -> list[tuple[Chunk, int]]:
        found = []
        for number, file in enumerate(self._open):
            ours = {n for n, channel in file.channels.items() if channel.topic in wanted}
            found += [
                (chunk, number)
                for chunk in file.chunks
                if chunk.start < high
                and chunk.end >= low
                and (chunk.channels is None or not ours.isdisjoint(chunk.channels))
            ]
        return sorted(found, key=lambda entry: (entry[0].start, entry[1], entry[0].offset))


def find_topic(bag: Bag, name: str, namespace: str = '') -> str:
    """The topic of a bag whose name ends with a relative one, as in ``policy/steps``.

    Args:
        bag: to look in.
        name: relative.
        namespace: that the topic lies in, where several have one; '/' is the root.

    Raises:
        BagError: there is none, or several; the message names them, or the topics there.
    """
    name = name.strip('/')
    if namespace:
        inside = namespace.strip('/')
        return bag._known(f'/{inside}/{name}' if inside else f'/{name}')
    found = [topic for topic in bag.topics if f'/{topic}'.endswith(f'/{name}')]
    # What a simulation knows lies below its own name, and is no robot's.
    found = [topic for topic in found if TRUTH not in topic.removesuffix(name)]
    if not found:
        raise BagError(f'{bag.path} has no topic {name}; it has {", ".join(bag.topics) or "none"}')
    if len(found) > 1:
        raise BagError(f'{bag.path} has {" and ".join(found)}; give the namespace of one')
    return found[0]


def _run(custom: Mapping[str, str], files: Sequence[McapFile]) -> dict[str, str]:
    inside = next((f.metadata[RUN] for f in files if RUN in f.metadata), {})
    return {**custom, **inside}


def _topics(path: Path, files: Sequence[McapFile]) -> dict[str, TopicInfo]:
    found: dict[str, tuple[Channel, int]] = {}
    for file in files:
        for number, channel in file.channels.items():
            known, count = found.get(channel.topic, (channel, 0))
            if known.type != channel.type:
                raise BagError(
                    f'{path}: {channel.topic} is recorded with two types, {known.type} and '
                    f'{channel.type}'
                )
            found[channel.topic] = (known, count + file.counts.get(number, 0))
    topics = {}
    for name, (channel, count) in sorted(found.items()):
        profiles = channel.metadata.get('offered_qos_profiles', '')
        digest = channel.metadata.get('topic_type_hash', '')
        try:
            qos = load_qos(profiles)
        except Exception:  # of another program's make: the messages are what counts
            qos = ()
        topics[name] = TopicInfo(name, channel.type, qos, digest, channel.definition, count)
    return topics


def _channel(file: McapFile, number: int) -> Channel:
    try:
        return file.channels[number]
    except KeyError:
        raise BagError(f'{file.path} is damaged: a message is of no known topic') from None
