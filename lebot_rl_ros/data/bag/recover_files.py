"""Names of files while a bag is mended, such that a kill at any moment loses none."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lebot_rl_ros.data.bag.metadata import NAME
from lebot_rl_ros.data.bag.stream import RESERVE, lock
from lebot_rl_ros.data.bag.types import BagError

DAMAGED = '.damaged'
WORKING = '.recovering'
_MARGIN = 1 << 20  # octets for the new index and metadata.yaml


def files_of(path: Path) -> list[Path]:
    """The files of a bag in their order, after what an earlier call left half done."""
    if path.is_file() or (path.suffix == '.mcap' and not path.is_dir()):
        _resume(path)
        if not path.is_file():
            raise BagError(f'{path}: there is no such bag')
        return [path]
    if not path.is_dir():
        raise BagError(f'{path}: there is no such bag')
    for damaged in path.glob(f'*.mcap{DAMAGED}'):
        _resume(damaged.with_name(damaged.name.removesuffix(DAMAGED)))
    files = sorted(path.glob('*.mcap'), key=_place)
    if not files:
        raise BagError(f'{path} holds no .mcap file')
    return files


def _place(path: Path) -> tuple[int, str]:
    """rosbag2 counts the files of a bag: _2 is before _10."""
    number = re.search(r'_(\d+)$', path.stem)
    return (int(number[1]) if number else -1, path.name)


def _resume(path: Path) -> None:
    """Where a kill hit between the two names of a swap, the old file gets its name back."""
    damaged = path.with_name(path.name + DAMAGED)
    working = path.with_name(path.name + WORKING)
    if not path.exists() and damaged.exists() and working.exists():
        os.rename(damaged, path)


def link_aside(path: Path) -> None:
    """Give the old file its second name; from now on the first may be replaced."""
    aside = _aside(path)
    if aside.exists():  # of an earlier call that was killed right after this
        return
    try:
        os.link(path, aside)
    except OSError:  # a file system without hard links, as on many sticks
        os.rename(path, aside)


def set_aside(path: Path) -> None:
    """Rename a file that is of no use any more."""
    os.rename(path, _aside(path))


def _aside(path: Path) -> Path:
    """A name that is free, or is this very file already."""
    number = 0
    while True:
        aside = path.with_name(path.name + DAMAGED + (f'.{number}' if number else ''))
        if not aside.exists() or (path.exists() and aside.samefile(path)):
            return aside
        number += 1


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others from a file meanwhile; one that is being written is an error."""
    with path.open('rb') as file:
        if not lock(file):
            raise BagError(f'{path} is being written; stop the recording first')
        yield


def check_room(folder: Path, path: Path) -> None:
    """Raise BagError where a copy of a file does not fit."""
    need = path.stat().st_size + _MARGIN
    free = shutil.disk_usage(folder).free
    if free < need:
        raise BagError(
            f'{folder} has {free >> 20} MiB free, {path.name} needs {need >> 20}: give a place on '
            'another disk, or mend it in place, without a copy of the old file'
        )


def clear(path: Path) -> None:
    """What a writer, or an earlier call, left behind."""
    for leftover in (path / RESERVE, path / f'.{NAME}.writing', *path.glob(f'*{WORKING}')):
        leftover.unlink(missing_ok=True)
