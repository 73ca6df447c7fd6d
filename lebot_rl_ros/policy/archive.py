"""Adapters that travel: a .tar.gz with the files of one folder, and the way into a store."""

import gzip
import io
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lebot_rl_ros.policy.adapter_files import CONFIG, MANIFEST, MODEL, load_adapter
from lebot_rl_ros.policy.adapters import Adapter, AdapterError, AdapterManifest
from lebot_rl_ros.policy.files import PolicyManifest
from lebot_rl_ros.policy.folders import read_file, replace_file, write_file
from lebot_rl_ros.policy.store import AdapterStore

FILES = (CONFIG, MODEL, MANIFEST)
LIMIT = 64 * 2**20  # bytes of an archive once unpacked; adapters have some ten thousand


def export_adapter(store: AdapterStore, label: str, path: Path) -> Path:
    """Write one adapter as a .tar.gz; the same adapter always gives the same bytes.

    Raises:
        AdapterError: it is unknown or damaged, or the file cannot be written.
    """
    name, version = store.resolve(label)
    store.get(name, version)  # what is damaged does not travel
    folder = store.folder(name, version)
    content = pack({file: read_file(folder / file, 'adapter') for file in FILES})
    try:
        replace_file(path, content)
    except OSError as error:
        raise AdapterError(f'{path} cannot be written: {error.strerror}') from error
    return path


def import_adapter(store: AdapterStore, path: Path, name: str, base: PolicyManifest) -> Adapter:
    """Bring an adapter into a store, as the next version of a name.

    What its manifest knows of its training stays; its verdict does not, as it was another
    store's. A folder without a manifest, as ``peft`` saves it, is bound to the base given.

    Args:
        store: where it goes.
        path: an adapter folder, or what :func:`export_adapter` wrote.
        name: which it gets.
        base: that it must have been made for.

    Raises:
        AdapterError: it is damaged, unsafe, or made for another base.
    """
    files = _read(path)
    binding = None
    if MANIFEST not in files:
        binding = AdapterManifest(name, 1, base.sha256, base.robot, tuple(base.joint_names))
    with tempfile.TemporaryDirectory() as folder:
        for file, content in files.items():
            write_file(Path(folder) / file, content)
        try:
            adapter = load_adapter(folder, binding)
        except AdapterError as error:
            raise AdapterError(str(error).replace(folder, str(path))) from error
    adapter.check(base, path)
    was = adapter.manifest
    training = dict(was.training)
    if binding is None:
        training['imported'] = {
            'adapter': was.label, 'verdict': was.verdict, 'reason': was.reason,
        }  # fmt: skip
    fresh = replace(was, training=training, verdict='candidate', reason='')
    return store.add(name, adapter.config, adapter.tensors, fresh)


def pack(files: Mapping[str, bytes]) -> bytes:
    """A .tar.gz of these files, without times and owners."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename='', mode='wb', fileobj=buffer, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode='w', format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
    return buffer.getvalue()


def unpack(content: bytes, where: str | Path) -> dict[str, bytes]:
    """Files of a .tar.gz; they are read into memory, so no path in it is ever followed.

    Raises:
        AdapterError: it is damaged or too large, or has anything but plain adapter files.
    """
    wanted = f'expected plain files {", ".join(FILES)}'
    files: dict[str, bytes] = {}
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as zipped:
            data = zipped.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise AdapterError(f'{where} is larger than {LIMIT} bytes once unpacked')
        with tarfile.open(fileobj=io.BytesIO(data), mode='r:') as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                if file is None or member.name not in FILES or member.name in files:
                    raise AdapterError(f'{where} has a member {member.name!r}; {wanted}')
                files[member.name] = file.read()
    except AdapterError:
        raise
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise AdapterError(f'{where} is damaged or not a .tar.gz: {error}') from error
    missing = [name for name in (CONFIG, MODEL) if name not in files]
    if missing:
        raise AdapterError(f'{where} lacks {", ".join(missing)}; {wanted}')
    return files


def _read(path: Path) -> dict[str, bytes]:
    try:
        if path.is_dir():
            return {file: (path / file).read_bytes() for file in FILES if (path / file).exists()}
        content = path.read_bytes()
    except OSError as error:
        raise AdapterError(
            f'{path} cannot be read: {error.strerror}; expected an adapter folder or a .tar.gz'
        ) from error
    return unpack(content, path)
