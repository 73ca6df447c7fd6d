"""Bags as tables for other programs: Parquet, a file a topic, or NPZ, one file of arrays."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.arrays import ArrayFile
from lebot_rl_ros.data.bag.arrow import ParquetFile
from lebot_rl_ros.data.bag.columns import row_columns
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.table_sink import BATCH, TableSink, about
from lebot_rl_ros.data.bag.types import BagError

TELL_EVERY = 1000  # messages between two words of progress
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Exported:
    """A table that was written."""

    path: Path
    topic: str
    rows: int


def export_topics(
    bag: Bag,
    out: Path,
    topics: Sequence[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Exported]:
    """Write topics of a bag.

    Every table has the columns ``log_time`` and ``publish_time`` (UTC in Parquet, ns in NPZ) and
    ``time_s``, seconds since the bag's beginning; the others are those of
    :mod:`lebot_rl_ros.data.bag.columns`.

    Args:
        bag: to read.
        out: a file .parquet for one topic; .npz for any; or a folder for a Parquet file a topic.
        topics: names; those without a message get no table.
        force: replace files that are there.
        progress: told how many messages are done.

    Raises:
        BagError: a file is there, there is nothing to write, or a message cannot be read.
        ModuleNotFoundError: pyarrow is not installed.
    """
    spoken = [name for name in topics if bag.topics[name].count]
    if not spoken:
        raise BagError(f'{bag.path}: no messages of {", ".join(topics) or "any topic"}')
    places = _places(out, spoken, force=force)
    total = sum(bag.topics[name].count for name in spoken)
    with _files(places) as paths:
        arrays = ArrayFile(paths[out]) if out.suffix == '.npz' else None
        sinks: dict[str, TableSink] = {}
        for count, message in enumerate(bag.messages(spoken)):
            if message.topic not in sinks:
                path = None if arrays else paths[places[message.topic]]
                sinks[message.topic] = TableSink(bag, message, path, arrays)
            sinks[message.topic].take(message)
            if progress is not None and count % TELL_EVERY == 0:
                progress(count, total)
        for sink in sinks.values():
            sink.close()
        if arrays is not None:
            arrays.close()
    if progress is not None:
        progress(total, total)
    return [Exported(places[name], name, sinks[name].rows) for name in spoken]


def write_rows(
    out: Path,
    rows: npt.NDArray[np.void],
    *,
    joints: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Write structured rows (N,), as transitions: .parquet with columns, .npz with the fields.

    Raises:
        BagError: the file is there, or its name ends otherwise.
        ModuleNotFoundError: pyarrow is not installed.
    """
    if out.suffix not in ('.parquet', '.npz'):
        raise BagError(f'{out}: rows are written to .parquet or .npz')
    refuse_files([out], force=force)
    with _files({'': out}) as paths:
        if out.suffix == '.npz':
            with paths[out].open('wb') as file:
                arrays: dict[str, Any] = {name: rows[name] for name in rows.dtype.names or ()}
                np.savez(file, allow_pickle=False, **arrays)
            return
        columns = row_columns(rows.dtype, joints)
        table = ParquetFile(paths[out], columns, about(metadata or {}))
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            table.write({column.name: column.get(part) for column in columns})
        table.close()


def refuse_files(paths: Sequence[Path], *, force: bool) -> None:
    """See that no file is overwritten.

    Raises:
        BagError: one is there, and is not to be replaced; or it is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise BagError(f'{path} is a folder')
        if path.exists() and not force:
            raise BagError(f'{path} is there already; --force replaces it')


def _places(out: Path, topics: Sequence[str], *, force: bool) -> dict[str, Path]:
    """The file of each topic."""
    if out.suffix == '.parquet' and len(topics) > 1:
        raise BagError(
            f'{out} takes one topic, these are {len(topics)}: {", ".join(topics)}; give --topics, '
            'or a folder'
        )
    if out.suffix in ('.parquet', '.npz'):
        places = dict.fromkeys(topics, out)
    else:
        if out.exists() and not out.is_dir():
            raise BagError(f'{out} is a file; a folder, .parquet or .npz was expected')
        places = {name: out / f'{name.strip("/").replace("/", "_")}.parquet' for name in topics}
        twice = [name for name in topics if list(places.values()).count(places[name]) > 1]
        if twice:
            raise BagError(f'{" and ".join(twice)} would be one file; export them apart')
    refuse_files(list(places.values()), force=force)
    return places


@contextmanager
def _files(places: Mapping[str, Path]) -> Iterator[dict[Path, Path]]:
    """Where to write each file: beside its place, where it goes when all are whole."""
    finals = list(dict.fromkeys(places.values()))
    for final in finals:
        final.parent.mkdir(parents=True, exist_ok=True)
    beside = {final: final.with_name(f'.{final.name}.{os.getpid()}') for final in finals}
    try:
        yield beside
        for final, path in beside.items():
            path.replace(final)
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)
