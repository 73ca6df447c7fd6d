"""One MCAP file of a bag while it is written: chunks, channels, index, footer.

The profile is `ros2`, schemas are in ros2msg form, channels of CDR with their QoS and type hash.
The format: https://mcap.dev/spec.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lebot_rl_ros.data.bag.definitions import ENCODING, needs_record
from lebot_rl_ros.data.bag.metadata import FileInformation, dump_qos
from lebot_rl_ros.data.bag.stream import DRAIN_AT, Stream
from lebot_rl_ros.data.bag.types import BagError, Message, Topic

LIBRARY = 'lebot_rl_ros'
COMPRESSIONS = ('zstd', 'lz4', '')


class OutputFile:
    """Writes one file; nothing is on the disk for sure before `sync`.

    An OSError of `put`, `sync` or `end` leaves all in order, in memory: with room made on the
    disk, the same call goes on where it stopped.
    """

    def __init__(self, path: Path, *, chunk_bytes: int, compression: str) -> None:
        self.information = FileInformation(path.name)
        self._chunk_bytes = chunk_bytes
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._definitions = 0  # octets of them
        self._chunk_open = False
        self.ended = False  # whether the end of the file is written, to memory at least
        self._syncs = 0
        self._raw = 0  # octets of messages as they came
        writer, kind = _mcap(compression)
        self._stream = Stream(path)
        # The writer asks for a file, but only writes, tells and flushes.
        stream: Any = self._stream
        self._mcap = writer(stream, chunk_size=chunk_bytes, compression=kind)
        self._mcap.start(profile='ros2', library=LIBRARY)

    def describe(self, name: str, values: Mapping[str, str]) -> None:
        """Write a metadata record."""
        self._mcap.add_metadata(name, dict(values))

    def add(self, topic: Topic) -> None:
        """Write what a topic is; its definition and hash are known."""
        if topic.type not in self._schemas:
            definition = topic.definition.encode()
            schema = self._mcap.register_schema(topic.type, ENCODING, definition)
            self._schemas[topic.type] = schema
            self._definitions += len(definition)
        qos = dump_qos(topic.qos)
        self._channels[topic.name] = self._mcap.register_channel(
            topic.name,
            'cdr',
            self._schemas[topic.type],
            {'offered_qos_profiles': qos, 'topic_type_hash': topic.hash},
        )
        self._definitions += len(qos) + 200

    def put(self, message: Message) -> None:
        """Write a message of a topic that was added."""
        self._mcap.add_message(
            self._channels[message.topic], message.log_time, message.data, message.publish_time
        )
        self._chunk_open = True
        self._raw += len(message.data)
        self.information.take(message.log_time)

    def drain(self) -> None:
        """Write finished chunks, once there are enough of them."""
        if self._stream.waiting >= DRAIN_AT:
            self._stream.drain()

    def sync(self) -> None:
        """Close the chunk and wait until the disk has it all."""
        if self._chunk_open:
            self._mcap.flush()
            self._chunk_open = False
            self._syncs += 1
        self._stream.sync()

    def end(self, name: str, values: Mapping[str, str]) -> None:
        """Write a last metadata record, index and footer, and close the file."""
        if not self.ended:
            self.ended = True
            self.describe(name, values)
            self._mcap.finish()
        if not self._stream.closed:
            self._stream.sync()
            self.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._stream.close()

    @property
    def octets(self) -> int:
        """The length of the file, without the chunk that is open."""
        return self._stream.tell()

    @property
    def index_octets(self) -> int:
        """What the open chunk and the end of the file will take, about, and rather more."""
        chunks = self._syncs + self._raw // self._chunk_bytes + 1
        index = chunks * (100 + 10 * len(self._channels)) + 2 * self._definitions
        return index + 4 * (self._chunk_bytes + DRAIN_AT)


def _mcap(compression: str) -> tuple[Any, Any]:
    """The class of the writer, and its name for a compression."""
    try:
        from mcap.writer import CompressionType, Writer
    except ImportError as error:
        raise needs_record(error) from error
    kinds = dict(
        zip(
            COMPRESSIONS,
            (CompressionType.ZSTD, CompressionType.LZ4, CompressionType.NONE),
            strict=True,
        )
    )
    if compression not in kinds:
        raise BagError(f'compression {compression!r}: choose one of {COMPRESSIONS}')
    return Writer, kinds[compression]
