"""The learner node's run: the session, its files, and how it goes on after any death."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from lebot_rl_ros.learning.online.checkpoint import Checkpoint
from lebot_rl_ros.learning.online.home import BASE_STAGE
from lebot_rl_ros.learning.online.session import Session, Swap
from lebot_rl_ros.learning.online.tensorboard import Scalars

REMEMBERED = 30.0  # s for which a failure is told


class LearningRun:
    """A session on disk. It begins, or goes on where a process of the same run was killed."""

    def __init__(
        self,
        make: Callable[[], Session],
        identity: Mapping[str, Any],
        checkpoint: Checkpoint,
        scalars: Scalars | None,
        lock: int = -1,
        begin: Callable[[Session], str] | None = None,
    ) -> None:
        """Take the parts, and go on from the checkpoint if it is one of this run.

        Args:
            make: gives a fresh session.
            identity: what a checkpoint must share with this run to be gone on from, as JSON.
            checkpoint: where it lies.
            scalars: where curves go; None for none.
            lock: what keeps others out of the folder, for as long as this process lives.
            begin: what a fresh session needs before its first step, and one that goes on has
                already; gives words for people.
        """
        self._lock = lock
        self.session, self.checkpoint, self._scalars = make(), checkpoint, scalars
        self._identity = dict(identity)
        self.base_sha256 = str(identity['base_sha256'])
        self.rows = 0  # steps with their rewards
        self.last_verdict = ''
        self._failed, self._failed_at = '', 0.0
        self._resumed = False
        self.origin = self._resume(make)
        if begin is not None and not self._resumed:
            self.origin += begin(self.session)

    @property
    def acting(self) -> str:
        """Label of what acts, as far as the session is concerned; '' for the base alone."""
        return self.session.acting

    @property
    def accepted(self) -> str:
        """Label of what was accepted last; '' for the base alone."""
        return self.session.accepted

    @property
    def trouble(self) -> str:
        """What goes wrong while learning goes on."""
        recently = time.monotonic() - self._failed_at < REMEMBERED
        return (
            self._failed * recently
            or (self.checkpoint.trouble and f'no checkpoint: {self.checkpoint.trouble}')
            or (self._scalars.trouble if self._scalars else '')
        )

    def work(self) -> Swap | None:
        """Let the session learn and judge; what a disk or a file refuses is kept as trouble."""
        try:
            return self.session.work()
        except (OSError, ValueError) as error:
            self._failed, self._failed_at = str(error), time.monotonic()
            return None

    def told(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """A verdict as JSON can hold it: numbers that are not finite become null."""
        clean: dict[str, Any] = _clean(event)
        words = f'{clean["verdict"]}: {clean["reason"]}'
        if clean['stage'] == BASE_STAGE:
            self.last_verdict = f'the base: {words}'
        else:
            whose = f'{self._identity["adapter"]}@{clean["version"]}'
            whose = whose if clean['version'] else 'an offer'
            self.last_verdict = f'{whose}, {clean["stage"]}: {words}'
        return clean

    def write_if_due(self) -> None:
        """Begin to write a checkpoint if it is time for one."""
        if self.checkpoint.due:
            self.checkpoint.offer(self.session.state(), self._meta())

    def save(self) -> str:
        """Write a checkpoint now; returns what was done, for people.

        Raises:
            OSError: the disk refuses.
        """
        size = self.checkpoint.save(self.session.state(), self._meta())
        acting = self.acting or 'the base'
        return f'{self.rows} steps, {acting} acting: {size} bytes in {self.checkpoint.path}'

    def write_curves(self, values: Mapping[str, float]) -> None:
        """Add points to the curves."""
        if self._scalars is not None:
            self._scalars.write(self.rows, values)

    def values(self) -> dict[str, object]:
        """For diagnostics."""
        return {
            'acting': self.acting,
            'accepted': self.accepted,
            'last_verdict': self.last_verdict,
            'origin': self.origin,
            'checkpoint': self.checkpoint.path,
            'checkpoints': self.checkpoint.written,
            'checkpoint_bytes': self.checkpoint.size,
        }

    def close(self) -> str:
        """Write the last checkpoint; returns what went wrong, or ''."""
        trouble = ''
        try:
            self.save()
        except OSError as error:
            trouble = f'{self.checkpoint.path}: {error.strerror or error}'
        self.checkpoint.close()
        if self._scalars is not None:
            self._scalars.close()
        return trouble

    def _meta(self) -> dict[str, Any]:
        return {'identity': self._identity, 'session': self.session.meta, 'rows': self.rows}

    def _resume(self, make: Callable[[], Session]) -> str:
        """Go on from the checkpoint; returns what was done, for people."""
        try:
            found = self.checkpoint.load()
            if found is None:
                return 'begins'
            state, meta = found
            theirs = meta['identity']
            differ = [
                f'{key} was {theirs.get(key)!r}, is {value!r}'
                for key, value in self._identity.items()
                if theirs.get(key) != value
            ]
            if differ:
                return f'begins; {self.checkpoint.path} is of another run: {", ".join(differ)}'
            rows = int(meta['rows'])
            self.session.load_state(state, meta['session'])
            self.rows = rows
        except (ValueError, KeyError, TypeError) as error:
            self.session = make()  # nothing half loaded
            return f'begins; {error}; that file is now {self.checkpoint.set_aside().name}'
        self._resumed = True
        return f'goes on after {self.rows} steps, from {self.checkpoint.path}'


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _clean(entry) for key, entry in value.items()}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return float(value) if math.isfinite(value) else None
