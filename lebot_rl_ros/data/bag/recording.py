"""Recording without ever holding up who brings the messages: a bounded queue, a writer's thread.

Messages come from an executor's thread, which must not wait for a disk. What does not fit into
the queue is dropped and counted by topic. Once a second the open chunk is closed and the disk
waited for, so that a kill -9 or a power cut costs no more than the last second or so.
"""

import errno
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from lebot_rl_ros.data.bag.inbox import Inbox, Item
from lebot_rl_ros.data.bag.latched import Latched
from lebot_rl_ros.data.bag.recording_options import (
    RecordingOptions,
    RecordingStatus,
    open_bag,
    unused,
)
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter

__all__ = ['Recording', 'RecordingOptions', 'RecordingStatus', 'unused']

Writers = Callable[[Path], BagWriter]
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Recording:
    """Writes what it is given to a bag, from a thread of its own.

    All methods may be called from any thread. `add` and `put` never wait; `start` and `stop`
    do. After `stop`, `start` begins another bag, beside the first. Latched messages are
    remembered all the time, and begin each bag.
    """

    def __init__(
        self,
        folder: str | Path,
        options: RecordingOptions | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        clock: Callable[[], int] = time.time_ns,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        writers: Writers | None = None,
    ) -> None:
        """Make one; nothing is on disk until `start`.

        Args:
            folder: Of the bag; where there is one, `_2`, `_3`, ... is added.
            options: How it is recorded.
            metadata: What is known of the run; see docs/bag_format.md.
            clock: That of log times, ns; for latched messages from before the bag.
            free: Octets free on the disk of a folder.
            writers: Opens a bag in a new folder.
        """
        self.options = options or RecordingOptions()
        self.metadata = dict(metadata or {})
        self._folder = Path(folder)
        self._clock = clock
        self._free = free
        self._writers = writers or (lambda path: open_bag(path, self.options, self.metadata))
        self._control = threading.Lock()  # of start and stop, which wait
        self._lock = threading.Lock()  # of all below; never held for longer than a copy
        self._wake = threading.Event()
        self._inbox = self._empty()
        self._topics: dict[str, Topic] = {}
        self._latched = Latched()
        self._status = RecordingStatus('idle')
        self._thread: threading.Thread | None = None

    def start(self, folder: str | Path | None = None) -> Path:
        """Begin a bag, with all topics so far; its folder is returned.

        Raises:
            BagError: It is recording already.
            OSError: There is no room, or no such place.
        """
        with self._control:
            if self._thread is not None and self._thread.is_alive():
                raise BagError(f'{self._status.folder} is being recorded already')
            path = unused(Path(folder) if folder is not None else self._folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            reason = self._too_full(path.parent)
            if reason:
                raise OSError(errno.ENOSPC, reason)
            writer = self._writers(path)
            with self._lock:
                self._inbox = self._empty()
                for topic in self._topics.values():
                    self._inbox.append(topic)
                for message in self._latched.messages(self._clock()):
                    self._inbox.append(message)
                free = self._status.free_octets
                self._status = RecordingStatus('recording', folder=path, free_octets=free)
            self._wake.clear()
            self._thread = threading.Thread(
                target=self._run, args=(writer,), name='bag writer', daemon=True
            )
            self._thread.start()
            return path

    def add(self, topic: Topic) -> None:
        """Know a topic before its messages; knowing it again updates its QoS.

        One whose type is not known is refused: `status` says why, its messages count as dropped.
        """
        with self._lock:
            self._topics[topic.name] = topic
            self._latched.add(topic)
            if self._status.state == 'recording':
                self._inbox.append(topic)

    def put(self, message: Message) -> bool:
        """Record a message, soon; False: it will not be. Never waits: it takes microseconds."""
        with self._lock:
            self._latched.take(message)
            if self._status.state != 'recording':
                if self._status.state in ('full', 'failed'):
                    self._inbox.dropped[message.topic] += 1
                return False
            taken = self._inbox.put(message)
            filling = self._inbox.filling
        if filling and not self._wake.is_set():
            self._wake.set()
        return taken

    def split(self) -> 'Future[None]':
        """End the file and begin the next, after all that was put until now."""
        done: Future[None] = Future()
        with self._lock:
            if self._status.state == 'recording':
                self._inbox.append(done)
            else:
                done.set_exception(BagError('nothing is being recorded'))
        self._wake.set()
        return done

    def stop(self, timeout: float | None = None) -> RecordingStatus:
        """Write what waits, close the bag, and say how it went.

        Args:
            timeout: s to wait at most; the thread then goes on by itself.
        """
        with self._control:
            with self._lock:
                if self._status.state == 'recording':
                    self._status = replace(self._status, state='stopping')
            self._wake.set()
            if self._thread is not None:
                self._thread.join(timeout)
        return self.status()

    def status(self) -> RecordingStatus:
        """How it stands."""
        with self._lock:
            return replace(
                self._status,
                queued=len(self._inbox),
                dropped=dict(self._inbox.dropped),
                refused=dict(self._inbox.refused),
            )

    def _empty(self) -> Inbox:
        return Inbox(self.options.queue_messages, self.options.queue_octets)

    def _run(self, writer: BagWriter) -> None:
        state, reason = 'stopped', ''
        left: deque[Item] = deque()
        try:
            reason = self._record(writer, left)
            state = 'full' if reason else 'stopped'
        except Exception as error:  # whatever ends it is said in the status, and the bag closed
            full = isinstance(error, OSError) and error.errno in _FULL
            state, reason = 'full' if full else 'failed', str(error) or repr(error)
        with self._lock:
            # From now on nothing is taken; after `stop` nothing waits.
            self._status = replace(self._status, state=state, reason=reason)
            self._inbox.give_up(left, reason)
        try:
            writer.close()
        except Exception as error:
            state = state if state == 'full' else 'failed'
            reason = f'{reason}; {error}; `lebot bag recover {writer.folder}` mends the bag'
        with self._lock:
            self._report(writer, state, reason)

    def _record(self, writer: BagWriter, items: deque[Item]) -> str:
        """Until it is stopped (''), or the disk is nearly full: why. An error leaves items."""
        synced = time.monotonic()
        while True:
            with self._lock:
                items.extend(self._inbox.take())
                stopping = self._status.state != 'recording'
                self._report(writer, self._status.state, '')
            while items:
                self._write(writer, items)
            if stopping:
                return ''
            if time.monotonic() - synced >= self.options.sync_period:
                writer.sync()
                synced = time.monotonic()
                reason = self._too_full(writer.folder)
                if reason:
                    return reason
            self._wake.wait(self.options.batch_period)
            self._wake.clear()

    def _write(self, writer: BagWriter, items: deque[Item]) -> None:
        item = items.popleft()
        before = writer.count
        try:
            if isinstance(item, Message):
                writer.write(item)
            elif isinstance(item, Topic):
                writer.add(item)
            else:
                writer.split()
                item.set_result(None)
        except BagError as error:
            with self._lock:
                self._inbox.refuse(item, error)
        except Exception:
            if not isinstance(item, Message) or writer.count == before:
                items.appendleft(item)  # it is not in the bag
            raise

    def _report(self, writer: BagWriter, state: str, reason: str) -> None:
        """Bring the numbers of the status up to date; the lock is held."""
        self._status = replace(
            self._status,
            state=state,
            reason=reason,
            files=len(writer.files),
            octets=writer.octets,
            written=writer.count,
        )

    def _too_full(self, folder: Path) -> str:
        free = self._free(folder)
        with self._lock:
            self._status = replace(self._status, free_octets=free)
        if free >= self.options.floor_octets:
            return ''
        return (
            f'{free >> 20} MiB are free on the disk of {folder}, less than the '
            f'{self.options.floor_octets >> 20} MiB that are left to others'
        )
