"""A bag's folder that is there whole, or not at all."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lebot_rl_ros.data.bag.metadata import NAME, sync_folder
from lebot_rl_ros.data.bag.types import BagError


@contextmanager
def building(out: Path, *, force: bool = False, sources: Sequence[Path] = ()) -> Iterator[Path]:
    """Give a folder to write a bag into; at the end of the block it becomes ``out``.

    What goes wrong in the block leaves nothing behind, and a bag that was there stays.

    Args:
        out: the folder to be. Its name is that of the folder given, as files of a bag are named
            after it.
        force: replace a bag that is there.
        sources: bags that are read, which it must not be.

    Raises:
        BagError: it is there and not to be replaced, is no bag, or is one of the sources.
    """
    out = out.absolute()
    refuse(out, force=force, sources=sources)
    out.parent.mkdir(parents=True, exist_ok=True)
    workshop = out.with_name(f'.{out.name}.{os.getpid()}')
    shutil.rmtree(workshop, ignore_errors=True)
    folder = workshop / out.name
    folder.mkdir(parents=True)
    try:
        yield folder
        if out.exists():
            out.rename(workshop / 'old')
        folder.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def refuse(out: Path, *, force: bool, sources: Sequence[Path] = ()) -> None:
    """Say no before any work is done; as :func:`building`."""
    whole = out.resolve()
    for source in sources:
        folder = source.resolve()
        if whole in (folder, folder.parent) or folder in whole.parents:
            raise BagError(f'{out} is, or lies in, the bag {source} that is read')
    if not out.exists():
        return
    if not out.is_dir():
        raise BagError(f'{out} is a file; a bag is a folder')
    entries = list(out.iterdir())
    if entries and not (out / NAME).is_file() and not list(out.glob('*.mcap')):
        raise BagError(f'{out} is there and is no bag; nothing in it will be touched')
    if entries and not force:
        raise BagError(f'{out} is there already; --force replaces it')
