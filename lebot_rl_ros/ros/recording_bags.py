"""The bags of one recorder: begun, ended, split, and what is to be said of them."""

import os
import shutil
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from lebot_rl_ros.data.bag.recording import Recording
from lebot_rl_ros.data.bag.recording_options import RecordingOptions, RecordingStatus
from lebot_rl_ros.data.bag.ring import Ring
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter
from lebot_rl_ros.ros.recording_metadata import RunMetadata

MB = 1_000_000
PATIENCE = 3.0  # s for the end of a bag, or of a file
BEHIND = 4000  # messages that may wait for the disk before time waits, where it can
AFTER = 1.0  # s of what follows a fall that are saved with it


class BagParameters(Protocol):
    """What of the node's parameters is needed here; see there."""

    folder: str
    ring: float
    split_seconds: float
    split_size: int
    memory: int
    free: int
    compression: str


class Bags:
    """A recording that may be begun and ended often; each beginning is a bag of its own.

    With a ring nothing is written unless it is saved; whoever starts a recording all the same
    gets a bag beside those that were saved.
    """

    def __init__(self, config: Any, metadata: RunMetadata, log: Any) -> None:
        """Prepare; nothing is written yet.

        Args:
            config: :class:`BagParameters`.
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
        self._ring = Ring(folder, config.ring, octets=config.memory * MB) if config.ring else None
        self._recording = Recording(
            folder / 'whole' if self._ring else folder, self.options, writers=self._open
        )
        # What every message goes through.
        self.take = self._take_twice if self._ring else self._recording.put
        self._folder, self._due, self._why = folder, 0.0, ''
        self._saves: list[Future[Path]] = []
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
        there = next(path for path in (self._folder, *self._folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < self.options.floor_octets:
            raise BagError(f'{free // MB} MB are free on the disk of {there}: nothing is saved')
        held = self._ring.status()
        self._ring.metadata = self._metadata.now()
        self._saves.append(self._ring.save(reason))
        return f'{held.seconds:.1f} s, {held.messages} messages, into {self._folder}'

    def fell(self, reason: str) -> None:
        """Save the ring a little later, with what the fall came to."""
        if not self._due:
            self._due, self._why = time.monotonic() + AFTER, reason.partition(':')[0]

    def refuse(self, reason: str) -> None:
        """Say from now on why nothing is recorded."""
        self._refused = reason

    def close(self) -> None:
        """End what is being written, as the process ends."""
        self._save_if_due(float('inf'))
        if self._ring is not None:
            self._ring.stop()
            self._tell_saves()
        if self._recording.status().state == 'recording':
            try:
                self.stop()
            except BagError as error:
                self._log.error(f'the bag did not end well: {error}')

    def look(self) -> bool:
        """Bring the status up to date; returns whether there is news, which is logged, too."""
        self._save_if_due(time.monotonic())
        self._tell_saves()
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
            'messages': status.written,
            'waiting': status.queued,
            'dropped': sum(status.dropped.values()),
            **{f'dropped{topic}': count for topic, count in status.dropped.items()},
            'free_octets': status.free_octets,
            **(self._of_ring(self._ring) if self._ring else {}),
        }

    def _of_ring(self, ring: Ring) -> dict[str, object]:
        held = ring.status()
        return {
            'ring_s': round(held.seconds, 1),
            'ring_messages': held.messages,
            'ring_octets': held.octets,
            'saved': ' '.join(map(str, held.saved)),
        }

    def add(self, topic: Topic) -> None:
        """Know a topic before its messages."""
        self._recording.add(topic)
        if self._ring:
            self._ring.add(topic)

    def _take_twice(self, message: Message) -> None:
        self._ring.put(message)  # type: ignore[union-attr]
        self._recording.put(message)

    def _save_if_due(self, now: float) -> None:
        if self._due and now >= self._due:
            self._due = 0.0
            try:
                self._log.info(f'{self._why}: saving {self.save(self._why)}')
            except BagError as error:
                self._log.warning(f'{self._why}: not saved: {error}')

    def _tell_saves(self) -> None:
        for done in [future for future in self._saves if future.done()]:
            self._saves.remove(done)
            error = done.exception()
            if error:
                self._log.warning(f'the ring was not saved: {error}')
            else:
                self._log.info(f'saved {done.result()}')

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


def summary(status: RecordingStatus) -> str:
    """Where a bag is and what is in it."""
    files = f'{status.files} files' if status.files > 1 else '1 file'
    return f'{status.folder}: {status.written} messages in {files}, {status.octets / MB:.1f} MB'


def user_folder() -> Path:
    """A new bag of this user: by the time, in ``lebot/bags`` of the user's data."""
    data = os.environ.get('XDG_DATA_HOME')
    home = Path(data) if data else Path.home() / '.local' / 'share'
    now = datetime.now(timezone.utc).astimezone()
    return home / 'lebot' / 'bags' / f'bag-{now:%Y%m%d-%H%M%S}'


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
