"""Writing a bag as `ros2 bag record -s mcap` does: a folder of MCAP files and metadata.yaml.

As there, each file has rosbag2's own description of the bag as a metadata record at its beginning
and at its end, and messages of topics that were added before.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from lebot_rl_ros.data.bag.definitions import complete
from lebot_rl_ros.data.bag.latched import Latched
from lebot_rl_ros.data.bag.metadata import (
    RUN,
    BagMetadata,
    FileInformation,
    dump_information,
    read_metadata,
    sync_folder,
    write_metadata,
)
from lebot_rl_ros.data.bag.output import OutputFile
from lebot_rl_ros.data.bag.stream import Reserve
from lebot_rl_ros.data.bag.types import BagError, Message, Topic

# rosbag2's own record, and its key.
_DESCRIPTION = 'rosbag2'
_TEXT = 'serialized_metadata'


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
        self.folder = Path(folder)
        self._chunk_bytes = chunk_bytes
        self._compression = compression
        self._split_bytes = split_bytes
        self._split_nanoseconds = round(split_seconds * 1e9)
        self._run: Mapping[str, str] = dict(metadata or {})
        self._told: Mapping[str, str] = {}  # of the run, in this file
        self._topics: dict[str, Topic] = {}
        self._counts: dict[str, int] = {}
        self._count = 0
        self._latched = Latched()
        self._files: list[FileInformation] = []
        self._ended_octets = 0
        self._now = 0
        self._closed = False
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise BagError(f'{self.folder} is not empty: a bag needs a folder of its own')
        self._reserve = Reserve(self.folder)
        try:
            self._file = self._begin()
        except Exception:
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
        self._file.add(topic)

    def write(self, message: Message) -> None:
        """Write a message of a known topic."""
        if message.topic not in self._topics:
            raise BagError(f'{message.topic} is written before it is added')
        if self._is_full(message.log_time):
            self._split(message.log_time)
        self._latched.take(message)
        self._put(message)
        self._file.drain()

    def describe(self, metadata: Mapping[str, str]) -> None:
        """Add what became known of the run, at the next `sync`; from any thread."""
        self._run = {**self._run, **metadata}

    def split(self) -> None:
        """End this file and begin the next; an empty one goes on."""
        if self._file.information.count:
            self._split(self._now)

    def sync(self) -> None:
        """Close the chunk and wait until the disk has it all: a kill now loses nothing."""
        self._tell(self._file)
        self._file.sync()
        # metadata.yaml, and what stands inside the file of it.
        description = (
            2000
            + 2 * sum(map(len, self._run.values()))
            + 1600 * sum(1 + len(topic.qos) for topic in self._topics.values())
        )
        self._reserve.hold(self._file.index_octets + description + 600 * len(self._files))

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
            from lebot_rl_ros.data.bag.recover import recover

            self._file.close()
            recover(self.folder, keep=False)
            metadata = read_metadata(self.folder)
            self._files, self._count = metadata.files, metadata.count
            self._counts = {topic.name: count for topic, count in metadata.topics}

    @property
    def octets(self) -> int:
        """Octets of all files so far, without the chunk that is open."""
        return self._ended_octets + self._file.octets

    @property
    def files(self) -> tuple[FileInformation, ...]:
        """The files so far; the last one is being written."""
        return tuple(self._files)

    @property
    def count(self) -> int:
        """Messages in the bag so far."""
        return self._count

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
        self._file.put(message)
        self._counts[message.topic] += 1
        self._count += 1
        self._now = max(self._now, message.log_time)

    def _is_full(self, log_time: int) -> bool:
        information = self._file.information
        if not information.count:
            return False
        if self._split_nanoseconds and log_time - information.start >= self._split_nanoseconds:
            return True
        return bool(self._split_bytes) and self._file.octets >= self._split_bytes

    def _split(self, now: int) -> None:
        self._end()
        ended = self._file.octets
        self._file = self._begin()
        self._ended_octets += ended
        for topic in self._topics.values():
            self._file.add(topic)
        for message in self._latched.messages(now):
            self._put(message)

    def _begin(self) -> OutputFile:
        path = self.folder / f'{self.folder.name}_{len(self._files)}.mcap'
        file = OutputFile(path, chunk_bytes=self._chunk_bytes, compression=self._compression)
        self._files.append(file.information)
        try:
            # A killed file says how to read it, too.
            file.describe(_DESCRIPTION, self._description())
            self._told = {}
            self._tell(file)
            file.sync()
            self._reserve.hold(1)
            sync_folder(self.folder)
        except OSError:
            self._files.pop()
            file.close()
            path.unlink()
            raise
        return file

    def _end(self) -> None:
        # Where this fails for want of room, `close` tries again with what was reserved.
        if not self._file.ended:
            self._tell(self._file)
        self._file.end(_DESCRIPTION, self._description())

    def _tell(self, file: OutputFile) -> None:
        run = self._run
        if run != self._told:
            file.describe(RUN, run)
            self._told = run

    def _description(self) -> dict[str, str]:
        return {_TEXT: dump_information(self._metadata())}

    def _metadata(self) -> BagMetadata:
        topics = [(topic, self._counts[name]) for name, topic in self._topics.items()]
        return BagMetadata(topics, self._files, self._run)
