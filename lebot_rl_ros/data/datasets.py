"""Data sets: which bags, split how, in which version; so that what was learned can be repeated.

A data set is a folder of versions, ``<root>/<name>/<NNNN>/dataset.yaml``. Bags stay where they
are: a version names them, with the hash of their content, and never changes.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from lebot_rl_ros.data.bag.files import find_files, sha256_of
from lebot_rl_ros.data.bag.transitions import Progress, read_transitions
from lebot_rl_ros.data.splits import gather, split_rows

FILE = 'dataset.yaml'
SCHEMA = 1
NAME = re.compile(r'[a-z][a-z0-9_-]*')


class DataSetError(ValueError):
    """A data set that cannot be made or used; the message says why."""


@dataclass(frozen=True)
class BagEntry:
    """A bag of a data set."""

    path: str  # from the version's folder
    sha256: str
    steps: int  # transitions
    trajectories: int
    splits: Mapping[str, int]  # transitions of each


@dataclass(frozen=True)
class DataSet:
    """One version."""

    folder: Path  # with dataset.yaml
    name: str
    version: int
    parent: int  # version that this one was made from; 0: none
    created: str  # ISO 8601, UTC
    robot: str  # '' where the bags do not say it
    namespace: str  # that the topics lie in, if the bags have several
    base_sha256: str  # of the policy that acted
    widths: tuple[int, int]  # numbers in observation and action
    terms: tuple[str, ...]  # of the reward
    seed: int  # of the split
    splits: Mapping[str, float]  # share of trajectories
    bags: tuple[BagEntry, ...]
    sha256: str  # of all of this but folder, created and the paths

    @property
    def paths(self) -> list[Path]:
        """Where the bags lie."""
        return [Path(os.path.normpath(self.folder / bag.path)) for bag in self.bags]

    @property
    def label(self) -> str:
        """As in ``field@3``."""
        return f'{self.name}@{self.version}'

    def steps(self, split: str) -> int:
        """Transitions of a split."""
        return sum(bag.splits.get(split, 0) for bag in self.bags)

    def load(
        self,
        split: str,
        *,
        cache: bool = True,
        workers: int = 0,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.void]:
        """Transitions (N,) of one split: its trajectories, bag by bag, in the order of time.

        Args:
            split: its name.
            cache: see `data.bag.transitions.read_transitions`, as ``workers`` and ``progress``.
            workers: processes that read bags at once; 0: as many as there are cores.
            progress: called after each bag.

        Raises:
            DataSetError: there is no such split, or a bag is not what it was.
            BagError: a bag cannot be read.
        """
        if split not in self.splits:
            raise DataSetError(
                f'{self.label} has no split {split}; it has {", ".join(self.splits)}'
            )
        found = read_transitions(
            self.paths, cache=cache, workers=workers, progress=progress,
            namespace=self.namespace, base_sha256=self.base_sha256, terms=self.terms,
        )  # fmt: skip
        parts = []
        for entry, recorded in zip(self.bags, found, strict=True):
            self.same(entry, recorded.path, recorded.sha256)
            pieces = split_rows(recorded.rows, entry.sha256, self.seed, self.splits)[split]
            parts.append(gather(recorded.rows, pieces))
        return np.concatenate(parts)

    def check(self) -> None:
        """Read every octet of the bags and compare their hashes.

        Raises:
            DataSetError: a bag is gone, or is not what it was; the message names each one.
        """
        wrong = []
        for entry, path in zip(self.bags, self.paths, strict=True):
            try:
                self.same(entry, path, sha256_of(find_files(path).paths))
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise DataSetError('\n'.join(wrong))

    def same(self, entry: BagEntry, path: Path, sha256: str) -> None:
        """Refuse a bag whose content has another hash than it had.

        Raises:
            DataSetError: with the path of the bag.
        """
        if sha256 != entry.sha256:
            raise DataSetError(
                f'{path} has changed since {self.label} was made: its hash is {sha256[:12]}, it '
                f'was {entry.sha256[:12]}; bring the bag back, or make the next version'
            )


def default_root() -> Path:
    """``$LEBOT_DATASETS``, else ``lebot/datasets`` in ``$XDG_DATA_HOME`` or ~/.local/share."""
    data = os.environ.get('XDG_DATA_HOME') or Path.home() / '.local' / 'share'
    return Path(os.environ.get('LEBOT_DATASETS') or Path(data) / 'lebot' / 'datasets')


def load_dataset(root: Path, name: str, version: int = 0) -> DataSet:
    """A version of a data set; 0: the newest.

    Raises:
        DataSetError: it is not there, or its file is damaged; the message names what is there.
    """
    check_name(name)
    known = versions(root, name)
    if not known:
        raise DataSetError(
            f'there is no data set {name}; there are {", ".join(names(root)) or "none"} in {root}'
        )
    if version and version not in known:
        raise DataSetError(f'{name} has no version {version}; it has {", ".join(map(str, known))}')
    return read_dataset(root / name / f'{version or known[-1]:04d}')


def read_dataset(folder: Path) -> DataSet:
    """A version, from its folder.

    Raises:
        DataSetError: its file cannot be read, or was changed.
    """
    path = folder / FILE
    try:
        table = yaml.safe_load(path.read_text(encoding='utf-8'))
        if table.pop('schema') != SCHEMA:
            raise DataSetError(f'{path} is of another version of the format; expected {SCHEMA}')
        table['bags'] = tuple(BagEntry(**bag) for bag in table['bags'])
        table['widths'], table['terms'] = tuple(table['widths']), tuple(table['terms'])
        made = DataSet(folder=folder, **table)
    except DataSetError:
        raise
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataSetError(f'{path} cannot be read: {error}') from error
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise DataSetError(f'{path} is no data set: {error!r}') from error
    if _hash(made) != made.sha256:
        raise DataSetError(f'{path} was changed after it was written: its hash does not fit')
    return made


def names(root: Path) -> list[str]:
    """Data sets in a folder, sorted."""
    found = root.iterdir() if root.is_dir() else []
    return sorted(e.name for e in found if NAME.fullmatch(e.name) and versions(root, e.name))


def versions(root: Path, name: str) -> list[int]:
    """Versions of a data set, oldest first."""
    place = root / name
    found = [e.name for e in place.iterdir()] if place.is_dir() else []
    return sorted(int(e) for e in found if re.fullmatch('[0-9]{4,9}', e) and int(e))


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a data set.

    Raises:
        DataSetError: with the form that a name has.
    """
    if not NAME.fullmatch(name):
        raise DataSetError(
            f'data set name {name!r}: expected a small letter, then small letters, digits, _ or -'
        )


def _table(made: DataSet) -> dict[str, Any]:
    table: dict[str, Any] = {'schema': SCHEMA}
    for entry in fields(made):
        value = getattr(made, entry.name)
        table[entry.name] = list(value) if isinstance(value, tuple) else value
    del table['folder']
    return table | {'splits': dict(made.splits), 'bags': [asdict(bag) for bag in made.bags]}


def _hash(made: DataSet) -> str:
    table = _table(made)
    for key in ('sha256', 'created'):
        del table[key]
    table['bags'] = [{k: v for k, v in bag.items() if k != 'path'} for bag in table['bags']]
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def write_dataset(made: DataSet) -> DataSet:
    """Write the version's folder: all of it or nothing, and never over another one.

    Returns:
        The version, with its hash.

    Raises:
        DataSetError: it cannot be written, or is there already.
    """
    made = replace(made, sha256=_hash(made))
    text = yaml.safe_dump(_table(made), sort_keys=False, allow_unicode=True)
    made.folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f'.{made.folder.name}.', dir=made.folder.parent))
    try:
        place.chmod(0o755)
        with (place / FILE).open('w', encoding='utf-8') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        place.rename(made.folder)
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise DataSetError(f'{made.folder} cannot be written: {error.strerror}') from error
    return made
