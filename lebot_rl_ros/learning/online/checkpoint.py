"""A learning run on disk: one safetensors file, all of it or nothing, written beside the work."""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lebot_rl_ros.learning.method import State
from lebot_rl_ros.policy.folders import replace_file

SCHEMA = 1
FILE = 'checkpoint.safetensors'
LONGEST = 60.0  # s between two tries on a disk that refuses
SHARE = 0.1  # of the time that writing may take: on a slow disk it is done less often


class Checkpoint:
    """Writes ``folder/checkpoint.safetensors`` every few seconds, in a thread of its own.

    The state is copied before :meth:`offer` returns, so that learning may go on; the disk is
    waited for in the thread. A reader, also one after a power cut, finds the file before or the
    file after, never a part. A disk that refuses ends nothing: ``trouble`` has its words, and it
    is tried again, ever more seldom.
    """

    def __init__(
        self, folder: Path, every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make the folder, and clear away what a killed writer left.

        Args:
            folder: one learning run has it to itself.
            every: seconds between two checkpoints.
            clock: gives seconds.

        Raises:
            ValueError: ``every`` is not positive.
            OSError: the folder cannot be made.
        """
        if not every > 0.0:
            raise ValueError(f'checkpoint_every is {every}, must be positive seconds')
        self.path, self.trouble = folder / FILE, ''
        self.written = 0  # files
        self.size = 0  # bytes of the last one
        self._every, self._clock = every, clock
        self._pause = every
        self._due = clock() + every
        self._pool = ThreadPoolExecutor(1, 'checkpoint')
        self._writing: Future[float] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f'.{FILE}.*'):
            left.unlink(missing_ok=True)

    @property
    def due(self) -> bool:
        """Whether it is time for another one, and the last one is on the disk."""
        self._collect()
        return self._writing is None and self._clock() >= self._due

    def offer(self, state: State, meta: Mapping[str, Any]) -> None:
        """Copy this and write it in the thread; call it when :attr:`due`."""
        content = pack(state, meta)
        self._writing = self._pool.submit(self._write, content)

    def save(self, state: State, meta: Mapping[str, Any]) -> int:
        """Write this now and wait for the disk; returns its bytes.

        Raises:
            OSError: the disk refuses; the file of before is still there.
        """
        content = pack(state, meta)
        if self._writing is not None:
            self._writing.exception()  # waits
            self._collect()
        self._writing = self._pool.submit(self._write, content)
        error = self._writing.exception()
        self._collect()
        if error is not None:
            raise error
        return len(content)

    def load(self) -> tuple[State, dict[str, Any]] | None:
        """What was written last; None where nothing was.

        Raises:
            ValueError: the file is damaged, or of another version of this program.
        """
        return unpack(self.path) if self.path.exists() else None

    def set_aside(self) -> Path:
        """Move a file that cannot be used out of the way, for people to look at."""
        aside = self.path.with_suffix('.unusable')
        self.path.replace(aside)
        return aside

    def close(self) -> None:
        """Wait for what is being written."""
        self._pool.shutdown()
        self._collect()

    def _write(self, content: bytes) -> float:
        begun = self._clock()
        replace_file(self.path, content)
        self.size = len(content)
        return self._clock() - begun

    def _collect(self) -> None:
        """See how the last write ended, and when the next one is due."""
        if self._writing is None or not self._writing.done():
            return
        error, now = self._writing.exception(), self._clock()
        if error is None:
            self.written += 1
            self.trouble, self._pause = '', self._every
            self._due = now + max(self._every, self._writing.result() * (1.0 / SHARE - 1.0))
        else:
            known = isinstance(error, OSError) and error.strerror
            self.trouble = f'{self.path}: {known or error}'
            self._due = now + self._pause
            self._pause = min(2.0 * self._pause, LONGEST)
        self._writing = None


def pack(state: State, meta: Mapping[str, Any]) -> bytes:
    """The content of a checkpoint: arrays, and a table that JSON can hold.

    Rows with named fields are kept as bytes, with what they were in the table.
    """
    rows = {name: array.dtype.descr for name, array in state.items() if array.dtype.names}
    arrays = {
        name: np.ascontiguousarray(_plain(array)).reshape(_plain(array).shape)
        for name, array in state.items()
    }
    table = {'schema': SCHEMA, 'meta': dict(meta), 'rows': rows}
    return save(arrays, metadata={'run': json.dumps(table)})


def unpack(path: Path) -> tuple[State, dict[str, Any]]:
    """Read what :func:`pack` made.

    Raises:
        ValueError: it cannot be read, or has another schema; the message names the file.
    """
    try:
        with safe_open(path, framework='np') as file:
            table = json.loads((file.metadata() or {}).get('run', '{}'))
            state: State = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f'{path} is not a checkpoint that can be read: {error}') from error
    if table.get('schema') != SCHEMA:
        raise ValueError(f'{path}: schema is {table.get("schema")!r}, expected {SCHEMA}')
    for name, described in table['rows'].items():
        dtype = np.dtype([tuple(_field(entry)) for entry in described])
        state[name] = state[name].view(dtype)[..., 0]
    return state, table['meta']


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows (...,) with named fields as bytes (..., size); others as they are."""
    if not array.dtype.names:
        return array
    packed = np.ascontiguousarray(array)
    return packed.reshape(*packed.shape, 1).view(np.uint8)


def _field(entry: list[Any]) -> list[Any]:
    """One field of ``dtype.descr`` as JSON gives it back: its shape was a tuple."""
    return [tuple(part) if isinstance(part, list) else part for part in entry]
