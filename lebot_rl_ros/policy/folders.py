"""Folders of files that are read whole and written whole: all of it or nothing."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class PolicyError(ValueError):
    """A policy that cannot be used; the message has the file, the value and what was expected."""


def read_file(path: Path, what: str = 'policy') -> bytes:
    """Read a file of a folder.

    Raises:
        PolicyError: it cannot be read; the message says why.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(
            f'{path} cannot be read: {error.strerror}; expected a folder with the {what} in it'
        ) from error


def parse_table(
    content: bytes, path: Path, kind: type[PolicyError] = PolicyError
) -> dict[str, Any]:
    """Parse the JSON of a file that holds one table.

    Raises:
        PolicyError: of the given kind; the message has the file and what was found.
    """
    try:
        table = json.loads(content)
    except ValueError as error:
        raise kind(f'{path} is not JSON: {error}') from error
    if not isinstance(table, dict):
        raise kind(f'{path}: expected a table of keys, found {type(table).__name__}')
    return table


def write_folder(folder: Path, files: Mapping[str, bytes], *, replace: bool = True) -> None:
    """Write a folder with these files; readers see the old one or the new one, never a mixture.

    Other files of a folder that is replaced (pictures and the like) stay.

    Raises:
        FileExistsError: the folder is there and is not to be replaced.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for name, content in files.items():
            write_file(temporary / name, content)
        _sync(temporary)
        if replace and folder.exists():  # a folder cannot be renamed over a full one
            for entry in folder.iterdir():
                if entry.is_file() and entry.name not in files:
                    shutil.copy2(entry, temporary / entry.name)
            old = folder.with_name(f'{temporary.name}.old')
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old)
        elif folder.exists():
            raise FileExistsError(f'{folder} is there already')
        else:
            try:
                temporary.rename(folder)
            except OSError as error:  # another has made it just now, and it is not empty
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise FileExistsError(f'{folder} is there already') from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(folder.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write one file and wait for the disk."""
    with path.open('wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Write one file in place of an old one; readers see the old one or the new one."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        write_file(temporary, content)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
