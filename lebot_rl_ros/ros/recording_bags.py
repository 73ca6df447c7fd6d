"""The bags of one recorder: begun, ended, split, and what is to be said of them."""

import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotYetError
from pathlib import Path
from typing import Any

from lebot_rl_ros.data.bag.recording import Recording
from lebot_rl_ros.data.bag.recording_options import RecordingOptions, RecordingStatus
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter
from lebot_rl_ros.ros.recording_folder import summary, user_folder
from lebot_rl_ros.ros.recording_metadata import RunMetadata
from lebot_rl_ros.ros.recording_ring import RecordingRing

MB = 1_000_000
PATIENCE = 5.0  # s for the end of a bag, or of a file
BEHIND = 4000  # messages that may wait for the disk before time waits, where it can


class Bags:
    """A recording that may be begun and ended often; each beginning is a bag of its own.

    With a ring nothing is written unless it is saved; whoever starts a recording all the same
    gets a bag beside those that were saved.
    """

    def __init__(self, config: Any, metadata: RunMetadata, log: Any) -> None:
        """Prepare; nothing is written yet.

        Args:
            config: ``nodes.recorder.RecorderParameters``.
            metadata: of the run.
            log: logger of the node.

        Raises:
            ValueError: the compression is none, or the extra `record` is not installed.
        """
        if config.compression not in ('zstd', 'lz4', 'none'):
            raise ValueError(f'compression is {config.compression!r}; choices are zstd, lz4, none')
        _require()
        self._metadata, self._log = metadata, log
        self.options = RecordingOptions(
            compression=config.compression.replace('none', ''),
            split_bytes=config.split_size * MB,
            split_seconds=config.split_seconds,
            queue_messages=200_000,
            queue_octets=config.memory * MB,
            floor_octets=config.free * MB,
        )
        self._writer: BagWriter | None = None
        folder = Path(config.folder) if config.folder else user_folder()
        self._ring: RecordingRing | None = None
        if config.ring:
            self._ring = RecordingRing(
                folder,
                config.ring,
                memory=config.memory * MB,
                free=config.free * MB,
                metadata=metadata,
                log=log,
            )
        self._recording = Recording(
            folder / 'whole' if self._ring else folder, self.options, writers=self._open
        )
        # What every message goes through.
        self.take = self._twice(self._ring) if self._ring else self._recording.put
        self._measured = (time.monotonic(), 0)  # s, octets
        self._status = RecordingStatus('idle')
        self._told = self._refused = ''

    def start(self) -> str:
        """Begin a bag; says where.

        Raises:
            BagError: one is being written.
            OSError: there is no room for it, or no such place.
        """
        folder = self._recording.start()
        self._refused = ''
        self._log.info(f'recording into {folder}')
        return str(folder)

    def stop(self) -> str:
        """End the bag; says where it is and what is in it.

        Raises:
            BagError: none is being written, or it did not end well.
        """
        if self._recording.status().state != 'recording':
            raise BagError('nothing is being recorded')
        self.describe()
        self._status = status = self._recording.stop(PATIENCE)
        if status.state != 'stopped':
            raise BagError(f'{status.folder}: {status.reason or "the disk is slow"}')
        self._log.info(summary(status))
        return summary(status)

    def split(self) -> str:
        """End the file and begin the next; says of which bag.

        Raises:
            BagError: nothing is being recorded.
            OSError: the disk is full.
        """
        try:
            self._recording.split().result(PATIENCE)
        except NotYetError:
            raise BagError('the disk is slow: the file will be split later') from None
        assert self._writer is not None
        return f'{self._writer.folder}: file {len(self._writer.files)}'

    def save(self, reason: str = 'asked') -> str:
        """Write what the ring holds; says how much that is, and where it goes.

        Raises:
            BagError: there is no ring, it holds nothing, or the disk is nearly full.
        """
        if self._ring is None:
            raise BagError('ring is 0: everything is written, and nothing is left to be saved')
        return self._ring.save(reason)

    def fell(self, reason: str) -> None:
        """The robot has fallen: with a ring that is worth a bag."""
        if self._ring is not None:
            self._ring.fell(reason)

    def refuse(self, reason: str) -> None:
        """Say from now on why nothing is recorded."""
        self._refused = reason

    def close(self) -> None:
        """End what is being written, as the process ends."""
        if self._ring is not None:
            self._ring.close()
        if self._recording.status().state == 'recording':
            try:
                self.stop()
            except BagError as error:
                self._log.error(f'the bag did not end well: {error}')

    def look(self) -> bool:
        """Bring the status up to date; returns whether there is news, which is logged, too."""
        if self._ring is not None:
            self._ring.look()
        self._status = self._recording.status()
        news = self.trouble != self._told
        if news and self.trouble:
            self._log.warning(self.trouble)
        self._told = self.trouble
        return news

    def describe(self) -> None:
        """Give the bag what became known of the run; it is written where a file ends."""
        if self._writer is not None:
            self._writer.describe(self._metadata.known())

    @property
    def behind(self) -> bool:
        """Whether so much waits for the disk that time should wait, where it can."""
        return self._recording.status().queued > BEHIND

    @property
    def trouble(self) -> str:
        """Why what should be recorded is not; '' if all is well."""
        status = self._status
        if self._refused:
            return self._refused
        if status.state in ('full', 'failed'):
            return f'no longer recording into {status.folder}: {status.reason}'
        if status.dropped:
            count = sum(status.dropped.values())
            return f'the disk is too slow: {count} messages were dropped'
        return '; '.join(f'{topic}: {why}' for topic, why in status.refused.items())

    @property
    def state(self) -> str:
        """What is being done, in a word."""
        return 'holding a ring' if self._ring and not self._writes else self._status.state

    @property
    def _writes(self) -> bool:
        return self._status.state == 'recording'

    def values(self) -> dict[str, object]:
        """For diagnostics."""
        status = self._status
        return {
            'state': status.state,
            'reason': status.reason,
            'folder': status.folder or '',
            'files': status.files,
            'octets': status.octets,
            'octets_per_s': self._rate(status.octets),
            'messages': status.written,
            'waiting': status.queued,
            'dropped': sum(status.dropped.values()),
            **{f'dropped{topic}': count for topic, count in status.dropped.items()},
            'free_octets': status.free_octets,
            **(self._ring.values() if self._ring else {}),
        }

    def add(self, topic: Topic) -> None:
        """Know a topic before its messages."""
        self._recording.add(topic)
        if self._ring:
            self._ring.ring.add(topic)

    def _twice(self, held: RecordingRing) -> Callable[[Message], object]:
        hold, put = held.ring.put, self._recording.put

        def take(message: Message) -> None:
            hold(message)
            put(message)

        return take

    def _rate(self, octets: int) -> float:
        """Octets a second since the last call."""
        now, (since, before) = time.monotonic(), self._measured
        self._measured = now, octets
        return round(max(octets - before, 0) / max(now - since, 1e-9), 1)

    def _open(self, folder: Path) -> BagWriter:
        options = self.options
        self._writer = BagWriter(
            folder,
            chunk_bytes=options.chunk_bytes,
            compression=options.compression,
            split_bytes=options.split_bytes,
            split_seconds=options.split_seconds,
            metadata=self._metadata.now(),
        )
        return self._writer


def _require() -> None:
    """Say at once what is not installed."""
    from lebot_rl_ros.data.bag.definitions import needs_record

    try:
        import mcap
        import rosbags
        import zstandard
    except ImportError as error:
        raise ValueError(str(needs_record(error))) from error
    del mcap, rosbags, zstandard
