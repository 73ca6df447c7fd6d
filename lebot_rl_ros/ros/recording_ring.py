"""The ring of a recorder: the last seconds in memory, and when they are written."""

import shutil
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from lebot_rl_ros.data.bag.ring import Ring
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.ros.recording_metadata import RunMetadata

MB = 1_000_000
AFTER = 1.0  # s of what follows a fall that are saved with it


class RecordingRing:
    """Saves what the ring holds when somebody asks, and a little after a fall."""

    def __init__(
        self,
        folder: Path,
        seconds: float,
        *,
        memory: int,
        free: int,
        metadata: RunMetadata,
        log: Any,
    ) -> None:
        """Hold so many seconds; the bags are made in ``folder``.

        Args:
            folder: of the bags.
            seconds: that are held.
            memory: octets that they may take.
            free: octets that stay free on the disk.
            metadata: of the run.
            log: logger of the node.
        """
        self.ring = Ring(folder, seconds, octets=memory)
        self._folder, self._free, self._metadata, self._log = folder, free, metadata, log
        self._due, self._why = 0.0, ''
        self._saves: list[Future[Path]] = []

    def save(self, reason: str) -> str:
        """Write what the ring holds; says how much that is, and where it goes.

        Raises:
            BagError: it holds nothing, or the disk is nearly full.
        """
        there = next(path for path in (self._folder, *self._folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < self._free:
            raise BagError(f'{free // MB} MB are free on the disk of {there}: nothing is saved')
        held = self.ring.status()
        if not held.messages:
            raise BagError('the ring holds nothing yet')
        self.ring.metadata = self._metadata.now()
        self._saves.append(self.ring.save(reason))
        return f'{held.seconds:.1f} s, {held.messages} messages, into {self._folder}'

    def fell(self, reason: str) -> None:
        """Save a little later, with what the fall came to."""
        if not self._due:
            self._due, self._why = time.monotonic() + AFTER, reason.partition(':')[0]

    def look(self, now: float | None = None) -> None:
        """Do what is due, and tell what is done; ``now`` is monotonic, s."""
        if self._due and (time.monotonic() if now is None else now) >= self._due:
            self._due = 0.0
            try:
                self._log.info(f'{self._why}: saving {self.save(self._why)}')
            except BagError as error:
                self._log.warning(f'{self._why}: not saved: {error}')
        for done in [future for future in self._saves if future.done()]:
            self._saves.remove(done)
            trouble = done.exception()
            if trouble:
                self._log.warning(f'the ring was not saved: {trouble}')
            else:
                self._log.info(f'saved {done.result()}')

    def close(self) -> None:
        """Save what is due, and wait for it."""
        self.look(float('inf'))
        self.ring.stop()
        self.look()

    def values(self) -> dict[str, object]:
        """For diagnostics."""
        held = self.ring.status()
        return {
            'ring_s': round(held.seconds, 1),
            'ring_messages': held.messages,
            'ring_octets': held.octets,
            'saved': ' '.join(map(str, held.saved)),
        }
