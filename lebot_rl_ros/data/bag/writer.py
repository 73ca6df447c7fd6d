"""Writing a bag as `ros2 bag record -s mcap` does: a folder of MCAP files and metadata.yaml.

Each file has the profile `ros2`, schemas in ros2msg form, channels of CDR with their QoS and type
hash, chunks with CRC and index, and rosbag2's own description of the bag as a metadata record at
its beginning and its end. The format: https://mcap.dev/spec.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .definitions import ENCODING, complete, needs_record
from .latched import Latched
from .metadata import (
    BagMetadata,
    FileInformation,
    dump_information,
    dump_qos,
    read_metadata,
    sync_folder,
    write_metadata,
)
from .stream import DRAIN_AT, Reserve, Stream
from .types import BagError, Message, Topic

RUN = 'lebot_rl_ros'  # the metadata record with what is known of the run
COMPRESSIONS = ('zstd', 'lz4', '')


@dataclass
class _Open:
    """The file that is being written."""

    stream: Stream
    mcap: Any  # mcap.writer.Writer
    information: FileInformation
    run: Mapping[str, str] = field(default_factory=dict)  # that it began with
    channels: dict[str, int] = field(default_factory=dict)
    schemas: dict[str, int] = field(default_factory=dict)
    unsynced: bool = False
    finished: bool = False
    syncs: int = 0
    octets: int = 0  # of messages, as they came


class BagWriter:
    """Writes one bag; for one thread. Use it in a `with`, or call `close`.

    A file is split at the first message after ``split_bytes`` of it are written or
    ``split_seconds`` of log time lie in it (0: never), and by `split`. Each file begins with the
    last messages of latched topics, at the log time of the split.

    A full disk (OSError 28) takes nothing that was written: `close` gives back the room that was
    reserved for it, and ends the bag well.

    Raises:
        BagError: The folder exists and is not empty; a type is not known; a topic changes type.
        OSError: The disk is full or broken; `close` still has to be called.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        chunk_bytes: int = 1 << 16,
        compression: str = 'zstd',
        split_bytes: int = 0,
        split_seconds: float = 0.0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if compression not in COMPRESSIONS:
            raise BagError(f'compression {compression!r}: choose one of {COMPRESSIONS}')
        self.folder = Path(folder)
        self._chunk_bytes = chunk_bytes
        self._compression = compression
        self._split_bytes = split_bytes
        self._split_nanoseconds = round(split_seconds * 1e9)
        self._run = dict(metadata or {})
        self._topics: dict[str, Topic] = {}
        self._counts: dict[str, int] = {}
        self._latched = Latched()
        self._files: list[FileInformation] = []
        self._finished_octets = 0
        self._now = 0
        self._closed = False
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise BagError(f'{self.folder} is not empty: a bag needs a folder of its own')
        self._reserve = Reserve(self.folder)
        try:
            self._file = self._begin()
        except OSError:
            self._reserve.release()
            self.folder.rmdir()
            raise

    def add(self, topic: Topic) -> None:
        """Know a topic before its messages; adding it again does nothing.

        What stands in the bag is as it was when the topic was added first.
        """
        old = self._topics.get(topic.name)
        if old is not None:
            if old.type != topic.type:
                raise BagError(f'{topic.name} is a {old.type} in this bag, not a {topic.type}')
            self._latched.add(topic)  # there may be another publisher by now
            return
        topic = complete(topic)
        self._topics[topic.name] = topic
        self._counts[topic.name] = 0
        self._latched.add(topic)
        self._register(self._file, topic)

    def write(self, message: Message) -> None:
        """Write a message of a known topic."""
        if message.topic not in self._topics:
            raise BagError(f'{message.topic} is written before it is added')
        if self._is_full(message.log_time):
            self._split(message.log_time)
        self._latched.take(message)
        self._put(message)
        if self._file.stream.waiting >= DRAIN_AT:
            self._file.stream.drain()

    def describe(self, run: Mapping[str, str]) -> None:
        """Know more of the run: this file says so at its end, and files to come at once.

        May be called from any thread.
        """
        self._run = {**self._run, **run}

    def split(self) -> None:
        """End this file and begin the next; an empty one goes on."""
        if self._file.information.count:
            self._split(self._now)

    def sync(self) -> None:
        """Close the chunk and wait until the disk has it all: a kill now loses nothing."""
        if self._file.unsynced:
            self._file.mcap.flush()
            self._file.unsynced = False
            self._file.syncs += 1
        self._file.stream.sync()
        self._reserve.hold(self._index_octets())

    def close(self) -> None:
        """End the bag: index, footer, metadata.yaml.

        Raises:
            OSError: Not even the end fits on the disk; `recover` mends the bag where there is
                room.
        """
        if self._closed:
            return
        self._closed = True
        self._reserve.release()
        try:
            self._end()
            write_metadata(self.folder, self._metadata())
        except OSError:
            # The last chunk was larger than the reserve. Without it there is room for the end.
            from .recover import recover

            self._file.stream.close()
            recover(self.folder, keep=False)
            metadata = read_metadata(self.folder)
            self._files = metadata.files
            self._counts = {topic.name: count for topic, count in metadata.topics}

    @property
    def octets(self) -> int:
        """Octets of all files so far, without the chunk that is open."""
        stream = self._file.stream
        return self._finished_octets + (0 if stream.closed else stream.tell())

    @property
    def files(self) -> tuple[FileInformation, ...]:
        """The files so far; the last one is being written."""
        return tuple(self._files)

    @property
    def count(self) -> int:
        """Messages in the bag so far."""
        return sum(file.count for file in self._files)

    @property
    def counts(self) -> Mapping[str, int]:
        """Messages by topic, with those of latched topics that a split repeated."""
        return dict(self._counts)

    def __enter__(self) -> 'BagWriter':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _put(self, message: Message) -> None:
        file = self._file
        file.mcap.add_message(
            file.channels[message.topic], message.log_time, message.data, message.publish_time
        )
        file.unsynced = True
        file.octets += len(message.data)
        file.information.take(message.log_time)
        self._counts[message.topic] += 1
        self._now = max(self._now, message.log_time)

    def _is_full(self, log_time: int) -> bool:
        information = self._file.information
        if not information.count:
            return False
        if self._split_nanoseconds and log_time - information.start >= self._split_nanoseconds:
            return True
        return bool(self._split_bytes) and self._file.stream.tell() >= self._split_bytes

    def _split(self, now: int) -> None:
        self._end()
        self._file = self._begin()
        for topic in self._topics.values():
            self._register(self._file, topic)
        for message in self._latched.messages(now):
            self._put(message)

    def _begin(self) -> _Open:
        try:
            from mcap.writer import CompressionType, Writer
        except ImportError as error:
            raise needs_record(error) from error
        kinds = {
            'zstd': CompressionType.ZSTD,
            'lz4': CompressionType.LZ4,
            '': CompressionType.NONE,
        }
        information = FileInformation(f'{self.folder.name}_{len(self._files)}.mcap')
        path = self.folder / information.path
        stream = Stream(path)
        writer = Writer(stream, chunk_size=self._chunk_bytes, compression=kinds[self._compression])
        self._files.append(information)
        try:
            writer.start(profile='ros2', library=RUN)
            self._describe(writer)  # so that a killed file says how to read it
            if self._run:
                writer.add_metadata(RUN, self._run)
            stream.sync()
            self._reserve.hold(1)
            sync_folder(self.folder)
        except OSError:
            self._files.pop()
            stream.close()
            path.unlink()
            raise
        return _Open(stream, writer, information, self._run)

    def _register(self, file: _Open, topic: Topic) -> None:
        if topic.type not in file.schemas:
            file.schemas[topic.type] = file.mcap.register_schema(
                topic.type, ENCODING, topic.definition.encode()
            )
        file.channels[topic.name] = file.mcap.register_channel(
            topic.name,
            'cdr',
            file.schemas[topic.type],
            {'offered_qos_profiles': dump_qos(topic.qos), 'topic_type_hash': topic.hash},
        )

    def _end(self) -> None:
        """The index and footer of this file."""
        file = self._file
        if not file.finished:
            file.finished = True
            self._describe(file.mcap)
            if self._run != file.run:
                file.mcap.add_metadata(RUN, self._run)
            file.mcap.finish()
        if not file.stream.closed:
            file.stream.sync()  # where this fails, `close` tries again with the reserve
            file.stream.close()
            self._finished_octets += file.stream.tell()

    def _describe(self, writer: Any) -> None:
        # rosbag2 does the same; the name and the key are its own.
        text = dump_information(self._metadata())
        writer.add_metadata('rosbag2', {'serialized_metadata': text})

    def _metadata(self) -> BagMetadata:
        topics = [(topic, self._counts[name]) for name, topic in self._topics.items()]
        return BagMetadata(topics, self._files, self._run)

    def _index_octets(self) -> int:
        """What the end of the file and metadata.yaml take, about, and rather more."""
        topics = len(self._topics)
        chunks = self._file.syncs + self._file.octets // self._chunk_bytes + 1
        texts = sum(
            len(topic.definition) + 800 * (3 + len(topic.qos)) for topic in self._topics.values()
        )
        return chunks * (100 + 10 * topics) + texts + 4 * (self._chunk_bytes + DRAIN_AT)
