"""A file that a full disk cannot tear: what did not fit stays in memory, in order."""

import fcntl
import os
from pathlib import Path
from typing import IO

RESERVE = '.reserve'
DRAIN_AT = 1 << 16  # octets in memory at which it is time to write


class Stream:
    """Where an MCAP writer writes to: memory at first, the disk when `drain` is called.

    `write` never touches the disk, so the writer's own bookkeeping is never cut short by an
    error. `drain` may raise OSError; what the disk did not take is then still here, and a later
    `drain`, with room made, goes on at that very octet.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open('xb', buffering=0)
        lock(self._file)
        self._waiting = bytearray()
        self._written = 0

    def write(self, data: bytes) -> int:
        """Take octets; nothing goes to the disk yet."""
        self._waiting += data
        return len(data)

    def tell(self) -> int:
        """The length of the file once all is written."""
        return self._written + len(self._waiting)

    def flush(self) -> None:
        """For the MCAP writer, which flushes in the middle of its work; see `drain`."""

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed

    @property
    def waiting(self) -> int:
        """Octets that are in memory only."""
        return len(self._waiting)

    def drain(self) -> None:
        """Write what waits to the disk (to the system, that is: `sync` waits for the disk).

        Raises:
            OSError: The disk is full or broken.
        """
        while self._waiting:
            count = self._file.write(self._waiting) or 0
            del self._waiting[:count]
            self._written += count

    def sync(self) -> None:
        """Drain, and wait until the disk has it."""
        self.drain()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, with what was drained."""
        self._file.close()


def lock(file: IO[bytes]) -> bool:
    """Mark a file as being worked on, until it is closed; False where someone else has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


class Reserve:
    """Room on the disk for the end of a bag: taken early, given back when nothing else fits.

    A file `.reserve` beside the bag's own; it grows with the index that is to follow.
    """

    STEP = 1 << 18

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESERVE
        self._size = 0

    def hold(self, octets: int) -> None:
        """Hold at least so many octets.

        Raises:
            OSError: The disk has no room for them.
        """
        if octets <= self._size:
            return
        size = -(-octets // self.STEP) * self.STEP
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
        self._size = size

    def release(self) -> None:
        """Give the room back."""
        self._path.unlink(missing_ok=True)
        self._size = 0
