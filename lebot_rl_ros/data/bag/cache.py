"""Rows that were made from a bag, kept beside it and mapped into memory when asked for."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.files import fingerprint

FORMAT = 1  # of the rows and of what is said about them; a change makes all caches stale
FOLDER = '.transitions'

Rows = npt.NDArray[np.void]


class RowCache:
    """The cache of one bag, read in one way.

    It lies beside the bag's files, or where that cannot be written, in the user's cache folder
    (``$XDG_CACHE_HOME``, else ``~/.cache``). The name has a hash of the files' sizes, times and
    ends, so what is found is never that of another content.
    """

    def __init__(self, files: Sequence[Path], settings: Mapping[str, Any]) -> None:
        """Look at the files.

        Args:
            files: of the bag.
            settings: all that the rows depend on beside the files.

        Raises:
            BagError: a file cannot be read.
        """
        first = files[0].resolve()
        way = _hash(settings)[:8]
        self._prefix = f'{first.stem}-{way}-'
        self._name = self._prefix + _hash([FORMAT, fingerprint(files), settings])[:24]
        user = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
        place = _hash(str(first.parent))[:16]
        self._folders = [first.parent / FOLDER, user / 'lebot' / 'bags' / place]

    def load(self) -> tuple[Rows, dict[str, Any]] | None:
        """Rows, read-only, and what is said about them; None if they have to be made."""
        for folder in self._folders:
            try:
                about = json.loads((folder / f'{self._name}.json').read_bytes())
                rows = _map(folder / f'{self._name}.npy', about)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # none, or damaged: it is made again
            return rows, about
        return None

    def save(self, rows: Rows, about: Mapping[str, Any]) -> Rows | None:
        """Keep rows; what was kept of the same bag before is removed.

        Returns:
            The rows, mapped; None where they cannot be kept.
        """
        for folder in self._folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                array, table = folder / f'{self._name}.npy', folder / f'{self._name}.json'
                octets = _write_array(array, rows)
                said = {**about, 'format': FORMAT, 'rows': len(rows), 'octets': octets}
                _write(table, json.dumps(said, indent=1).encode())
                self._forget(folder)
                return _map(array, said)
            except (OSError, ValueError):  # no room, not ours to write: the next place
                continue
        return None

    def _forget(self, folder: Path) -> None:
        for entry in folder.glob(f'{self._prefix}*'):
            if entry.stem != self._name:
                entry.unlink(missing_ok=True)


def _map(path: Path, about: Mapping[str, Any]) -> Rows:
    """Rows of a file.

    Raises:
        ValueError: it is not what was written.
    """
    if about['format'] != FORMAT or path.stat().st_size != about['octets']:
        raise ValueError(f'{path} is not what was written')
    rows = np.load(path, mmap_mode='r' if about['rows'] else None, allow_pickle=False)
    if len(rows) != about['rows'] or rows.dtype.names is None:
        raise ValueError(f'{path} is not what was written')
    rows.flags.writeable = False
    return np.asarray(rows)


def _write_array(path: Path, rows: Rows) -> int:
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        with temporary.open('wb') as file:
            np.save(file, rows, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
            octets = file.tell()
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return octets


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
