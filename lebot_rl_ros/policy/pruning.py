"""Removing old versions from a store, and the lock that keeps those in use."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lebot_rl_ros.policy.adapter_files import MODEL

LEFT_OVER = 3600.0  # s; a temporary folder that old belongs to a writer that was killed


@dataclass(frozen=True)
class Removed:
    """What became of one version, or of what a killed writer left, and why."""

    label: str
    removed: bool
    reason: str
    size: int  # bytes


def lock(folder: Path, *, exclusive: bool = False) -> IO[bytes]:
    """Lock the weights of an adapter folder until the handle is closed or the process ends.

    Args:
        folder: of the adapter.
        exclusive: as who removes it, at once or not at all; else as one of many who use it.

    Raises:
        BlockingIOError: it is in use, and ``exclusive`` was asked for.
        OSError: the folder is not there, or was removed meanwhile.
    """
    path = folder / MODEL
    handle = path.open('rb')
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(handle.fileno()), path.stat()):
            raise FileNotFoundError(errno.ENOENT, 'removed meanwhile', path)
    except BaseException:
        handle.close()
        raise
    return handle


def prune_folders(
    folders: Iterable[tuple[str, Path]],
    keep: int,
    why: Callable[[str], str],
    choice: str,
    *,
    dry_run: bool,
) -> list[Removed]:
    """Remove folders of one name, but for the newest, those in use and those with a reason.

    Args:
        folders: labels and folders, newest first.
        keep: how many stay beside those in use or with a reason.
        why: reason for which a label stays, or ''. It is asked while the folder is locked, so
            that a verdict that falls meanwhile is not missed.
        choice: label that the name alone stands for; it stays even where it is old.
        dry_run: only say what would be done.

    Raises:
        OSError: a folder cannot be removed.
    """
    done = []
    for label, folder in folders:
        size, in_use = _size(folder), ''
        handle: AbstractContextManager[object] = nullcontext()
        try:
            handle = lock(folder, exclusive=True)
        except FileNotFoundError:
            continue  # another process has removed it
        except BlockingIOError:
            in_use = 'in use'
        with handle:
            reason = why(label) or in_use
            if not reason and keep:
                keep -= 1
                reason = 'one of the newest'
            elif not reason and label == choice:
                reason = f'what {label.partition("@")[0]} alone stands for'
            if not reason and not dry_run:
                gone = folder.with_name(f'.{folder.name}.{os.getpid()}.old')
                folder.rename(gone)  # out of sight at once; only then file by file
                _remove(gone)
        done.append(Removed(label, not reason, reason or 'old', size))
    return done


def clear(place: Path, *, dry_run: bool) -> list[Removed]:
    """Remove what killed processes left in the folder of one name, once it is an hour old.

    Raises:
        OSError: a folder cannot be removed.
    """
    done = []
    for folder in sorted(place.glob('.*')):
        with suppress(FileNotFoundError):  # a writer is about to give it its name
            if not folder.is_dir() or time.time() - folder.stat().st_mtime < LEFT_OVER:
                continue
            size = _size(folder)
            if not dry_run:
                _remove(folder)
            label = f'{place.name}/{folder.name}'
            done.append(Removed(label, True, 'left by a killed process', size))
    return done


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):  # another process clears it, too
        shutil.rmtree(folder)


def _size(folder: Path) -> int:
    """Bytes in a folder, which another process may be removing."""
    size = 0
    with suppress(FileNotFoundError):
        for entry in folder.iterdir():
            size += entry.stat().st_size
    return size
