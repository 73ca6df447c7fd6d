"""Which files a bag is made of, and what identifies their content."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lebot_rl_ros.data.bag.types import BagError

METADATA = 'metadata.yaml'
ENDS = 1 << 16  # octets at both ends of a file that a change of it does not leave alone

_Loader: Any = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


class Files(NamedTuple):
    """What lies in a bag's folder."""

    paths: list[Path]  # in the order of time
    custom: dict[str, str]  # custom_data of metadata.yaml


def find_files(path: Path) -> Files:
    """Files of a bag: of a folder, with metadata.yaml or without, or one .mcap alone.

    Raises:
        BagError: there is no such bag, it is of another storage, or a file of it is missing.
    """
    if path.is_file():
        if path.suffix == '.db3':
            raise _foreign(path, 'sqlite3')
        if path.suffix != '.mcap':
            raise BagError(f'{path} is not a bag; expected a folder of rosbag2, or a .mcap file')
        return Files([path], {})
    if not path.is_dir():
        raise BagError(f'{path}: there is no such bag')
    if (path / METADATA).is_file():
        return _described(path)
    paths = sorted(path.glob('*.mcap'), key=_by_number)
    if not paths:
        if any(path.glob('*.db3')):
            raise _foreign(path, 'sqlite3')
        raise BagError(f'{path} is not a bag: it has neither {METADATA} nor .mcap files')
    return Files(paths, {})


def find_bags(path: str | Path) -> list[Path]:
    """The bags at a path: itself, or all those in the folders below it, sorted.

    Raises:
        BagError: there is none.
    """
    path = Path(path)
    if path.is_file() or _is_bag(path):
        return [path]
    found = [folder for folder in sorted(path.rglob('*')) if folder.is_dir() and _is_bag(folder)]
    if not found:
        raise BagError(f'{path}: there is no bag, and none in the folders below it')
    return found


def _is_bag(folder: Path) -> bool:
    return (folder / METADATA).is_file() or any(folder.glob('*.mcap'))


def usable_cores() -> int:
    """Cores that this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    )


def sha256_of(paths: Iterable[Path]) -> str:
    """Hash of the content of files, one after the other.

    Raises:
        BagError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open('rb', buffering=0) as file:
                while part := file.read(1 << 22):
                    digest.update(part)
        except OSError as error:
            raise BagError(f'{path} cannot be read: {error.strerror}') from error
    return digest.hexdigest()


def fingerprint(paths: Iterable[Path]) -> list[list[Any]]:
    """Name, size, mtime_ns and a hash of both ends of each file: changes when it does.

    An MCAP file ends with counts and offsets of all that is in it, so its ends say much.

    Raises:
        BagError: one cannot be read.
    """
    found = []
    for path in paths:
        try:
            with path.open('rb') as file:
                digest = hashlib.sha256(file.read(ENDS))
                size = file.seek(0, 2)
                file.seek(max(0, size - ENDS))
                digest.update(file.read())
            found.append([path.name, size, path.stat().st_mtime_ns, digest.hexdigest()])
        except OSError as error:
            raise BagError(f'{path} cannot be read: {error.strerror}') from error
    return found


def _described(path: Path) -> Files:
    where = path / METADATA
    try:
        bag = yaml.load(where.read_text(encoding='utf-8'), _Loader)['rosbag2_bagfile_information']
        storage = bag['storage_identifier']
        names = [Path(name).name for name in bag['relative_file_paths']]
        mode = str(bag.get('compression_mode') or '').lower()
        custom = {str(k): str(v) for k, v in (bag.get('custom_data') or {}).items()}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BagError(f'{where} cannot be read: {error}') from error
    except (KeyError, TypeError, AttributeError) as error:
        raise BagError(f'{where} is no metadata of rosbag2: {error!r}') from error
    if storage != 'mcap':
        raise _foreign(path, storage)
    if mode not in ('', 'none'):
        raise BagError(
            f'{path} is compressed by {mode}, which is not read here; `ros2 bag convert` can '
            f'write it with chunks that are compressed inside MCAP instead'
        )
    missing = [name for name in names if not (path / name).is_file()]
    if missing or not names:
        raise BagError(
            f'{path}: {METADATA} names files that are missing: {", ".join(missing) or "all"}'
        )
    return Files([path / name for name in names], custom)


def _by_number(path: Path) -> tuple[int, str]:
    number = re.search(r'_(\d+)$', path.stem)
    return (int(number[1]) if number else -1, path.name)


def _foreign(path: Path, storage: str) -> BagError:
    folder = path if path.is_dir() else path.parent
    return BagError(
        f'{path} has storage {storage}, which is not read here. Convert it where ROS is '
        f'installed: `ros2 bag convert -i {folder} -o convert.yaml`, and in convert.yaml '
        f'`output_bags: [{{uri: {folder.name}_mcap, storage_id: mcap, all_topics: true}}]`'
    )
