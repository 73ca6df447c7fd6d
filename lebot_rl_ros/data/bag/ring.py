"""The last seconds in memory, saved as a bag when something happened."""

import errno
import re
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from lebot_rl_ros.data.bag.latched import Latched
from lebot_rl_ros.data.bag.recording_options import OVERHEAD, unused
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter

MOST_AT_ONCE = 2  # bags that wait to be written; each holds on to its messages


@dataclass(frozen=True)
class RingStatus:
    """How a ring stands, for diagnostics."""

    seconds: float  # of log time that it holds
    messages: int
    octets: int
    saving: int  # bags that are being written
    saved: tuple[Path, ...]  # the bags, in order
    reason: str  # why the last save failed; '' if it did not


class Ring:
    """Keeps the last seconds of messages; nothing is on disk until `save`.

    `add` and `put` never wait, and may be called from any thread. A saved bag begins with the
    latched messages as they stood at its beginning.
    """

    def __init__(
        self,
        folder: str | Path,
        seconds: float,
        *,
        octets: int = 256 << 20,
        floor_octets: int = 200 << 20,
        metadata: Mapping[str, str] | None = None,
        wall: Callable[[], float] = lambda: datetime.now(timezone.utc).timestamp(),
    ) -> None:
        """Make one.

        Args:
            folder: In which the bags are made, one folder each.
            seconds: How much is kept, by log time.
            octets: The most that is kept in memory, whatever the seconds.
            floor_octets: Of free space, below which nothing is saved.
            metadata: What is known of the run; each bag adds `saved_because`.
            wall: s since the epoch, for names.
        """
        if seconds <= 0:
            raise BagError(f'a ring of {seconds} s holds nothing: give more than 0')
        self.seconds = seconds
        self.metadata = dict(metadata or {})
        self._folder = Path(folder)
        self._most = octets
        self._floor = floor_octets
        self._wall = wall
        self._lock = threading.Lock()
        self._held: deque[Message] = deque()
        self._octets = 0
        self._newest = 0
        self._topics: dict[str, Topic] = {}
        self._before = Latched()  # of what is no longer held
        self._saving = 0
        self._saved: tuple[Path, ...] = ()
        self._reason = ''
        self._threads = ThreadPoolExecutor(1, 'bag of a ring')

    def add(self, topic: Topic) -> None:
        """Know a topic before its messages."""
        with self._lock:
            self._topics[topic.name] = topic
            self._before.add(topic)

    def put(self, message: Message) -> None:
        """Take a message, and let go of what is too old or too much."""
        with self._lock:
            self._held.append(message)
            self._octets += len(message.data) + OVERHEAD
            self._newest = max(self._newest, message.log_time)
            oldest = self._newest - round(self.seconds * 1e9)
            while self._held and (self._held[0].log_time < oldest or self._octets > self._most):
                gone = self._held.popleft()
                self._octets -= len(gone.data) + OVERHEAD
                self._before.take(gone)

    def save(self, reason: str) -> 'Future[Path]':
        """Write what is held now to a bag of its own, while the ring goes on.

        The bag's folder is `REASON_DATE_TIME` (UTC). The future has it once it is closed, or
        BagError where there is nothing to save or too much is being saved already.
        """
        with self._lock:
            if not self._held or self._saving >= MOST_AT_ONCE:
                future: Future[Path] = Future()
                why = 'holds nothing yet' if not self._held else 'is busy with earlier saves'
                future.set_exception(BagError(f'{reason}: the ring {why}'))
                return future
            self._saving += 1
            begin = min(message.log_time for message in self._held)
            messages = [*self._before.messages(begin), *self._held]
            topics = list(self._topics.values())  # messages of others are left out
        return self._threads.submit(self._write, reason, topics, messages)

    def status(self) -> RingStatus:
        """How it stands."""
        with self._lock:
            length = self._newest - self._held[0].log_time if self._held else 0
            return RingStatus(
                length / 1e9, len(self._held), self._octets,
                self._saving, self._saved, self._reason,
            )  # fmt: skip

    def stop(self) -> RingStatus:
        """Wait for what is being saved, and let go of the rest."""
        self._threads.shutdown()
        with self._lock:
            self._held.clear()
            self._octets = 0
        return self.status()

    def _write(self, reason: str, topics: list[Topic], messages: list[Message]) -> Path:
        try:
            path = self._path(reason)
            metadata = {**self.metadata, 'saved_because': reason}
            heard = {message.topic for message in messages} & {topic.name for topic in topics}
            with BagWriter(path, metadata=metadata) as writer:
                for topic in topics:
                    if topic.name in heard and not _add(writer, topic):
                        heard.discard(topic.name)
                for message in messages:
                    if message.topic in heard:
                        writer.write(message)
        except Exception as error:
            with self._lock:
                self._reason = f'{reason}: {error}'
            raise
        finally:
            with self._lock:
                self._saving -= 1
        with self._lock:
            self._saved, self._reason = (*self._saved, path), ''
        return path

    def _path(self, reason: str) -> Path:
        word = re.sub(r'[^A-Za-z0-9]+', '_', reason).strip('_') or 'saved'
        now = datetime.fromtimestamp(self._wall(), timezone.utc)
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if free < self._floor:
            raise OSError(errno.ENOSPC, f'{free >> 20} MiB are free on the disk of {self._folder}')
        return unused(self._folder / f'{word}_{now:%Y%m%d_%H%M%S}')


def _add(writer: BagWriter, topic: Topic) -> bool:
    """Add a topic; one of a type that is not known does not spoil the rest."""
    try:
        writer.add(topic)
    except BagError:
        return False
    return True
