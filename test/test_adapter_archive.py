"""Adapters that travel: archives that are the same each time, and what is let into a store."""

import gzip
import io
import json
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapter_samples import load_base, random_adapter
from lebot_rl_ros.policy import archive
from lebot_rl_ros.policy.adapters import AdapterError
from lebot_rl_ros.policy.archive import export_adapter, import_adapter, pack, unpack
from lebot_rl_ros.policy.store import AdapterStore

BASE, MANIFEST = load_base()
FILES = {'adapter_config.json': b'{}', 'adapter_model.safetensors': b'12345678'}


@pytest.fixture
def store(tmp_path):
    store = AdapterStore(tmp_path / 'own')
    config, tensors, manifest = random_adapter(MANIFEST, 'turn', 0)
    training = {'seed': 7}
    manifest = replace(
        manifest, verdict='accepted', reason='good', training=training, parent='turn@0'
    )
    store.add('turn', config, tensors, manifest)
    return store


def tar_of(*members, compress=True):
    """An archive of (name, content, changes of its TarInfo)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        for name, content, changes in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in changes.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0) if compress else buffer.getvalue()


def test_there_and_back(store, tmp_path):
    path = export_adapter(store, 'turn@1', tmp_path / 'turn.tar.gz')
    other = AdapterStore(tmp_path / 'other')
    made = import_adapter(other, path, 'corner', MANIFEST)
    first = store.get('turn', 1)
    assert made.manifest == replace(
        first.manifest,
        name='corner',
        verdict='candidate',
        reason='',
        training={
            'seed': 7,
            'imported': {'adapter': 'turn@1', 'verdict': 'accepted', 'reason': 'good'},
        },
    )
    [(read, _)] = other.load('corner')
    for name, value in first.tensors.items():
        np.testing.assert_array_equal(read.tensors[name], value)
    with tarfile.open(path) as tar:
        assert tar.getnames() == [
            'adapter_config.json', 'adapter_model.safetensors', 'manifest.json',
        ]  # fmt: skip


def test_an_archive_is_the_same_each_time(store, tmp_path):
    first = export_adapter(store, 'turn@1', tmp_path / 'a.tar.gz').read_bytes()
    assert first[4:8] == bytes(4)  # gzip's time, which is in seconds
    shutil.copytree(store.root / 'turn' / '0001', tmp_path / 'again' / 'turn' / '0001')
    again = AdapterStore(tmp_path / 'again')
    assert export_adapter(again, 'turn', tmp_path / 'b.tar.gz').read_bytes() == first


def test_a_folder_that_peft_saved_is_bound_to_the_base(store, tmp_path):
    folder = tmp_path / 'peft'
    shutil.copytree(store.folder('turn', 1), folder)
    (folder / 'manifest.json').unlink()
    (folder / 'README.md').write_text('a model card')
    made = import_adapter(store, folder, 'turn', MANIFEST)
    assert made.manifest.label == 'turn@2'
    assert made.manifest.base_sha256 == MANIFEST.sha256
    assert made.manifest.training == {}
    made.check(MANIFEST)
    assert len(list(store.folder('turn', 2).iterdir())) == 3


def test_what_is_not_let_in(store, tmp_path):
    other = replace(MANIFEST, sha256='f' * 64)
    folder = store.folder('turn', 1)
    with pytest.raises(AdapterError, match=f'was made for base {MANIFEST.sha256}, this is ffff'):
        import_adapter(store, folder, 'turn', other)
    with pytest.raises(AdapterError, match='nowhere cannot be read: No such file'):
        import_adapter(store, tmp_path / 'nowhere', 'turn', MANIFEST)
    with pytest.raises(AdapterError, match="adapter name 'Turn'"):
        import_adapter(store, folder, 'Turn', MANIFEST)
    path = tmp_path / 'bad.tar.gz'
    path.write_bytes(pack({**FILES, 'manifest.json': json.dumps({'schema': 1}).encode()}))
    with pytest.raises(AdapterError, match=r'bad\.tar\.gz/manifest\.json: unknown keys none'):
        import_adapter(store, path, 'turn', MANIFEST)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(AdapterError, match=r'empty/adapter_config\.json cannot be read'):
        import_adapter(store, tmp_path / 'empty', 'turn', MANIFEST)
    assert store.versions('turn') == [1]


def test_what_is_damaged_does_not_travel(store, tmp_path):
    path = store.folder('turn', 1) / 'adapter_model.safetensors'
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(AdapterError, match='truncated'):
        export_adapter(store, 'turn@1', tmp_path / 'turn.tar.gz')
    assert not (tmp_path / 'turn.tar.gz').exists()
    with pytest.raises(AdapterError, match='no version 3'):
        export_adapter(store, 'turn@3', tmp_path / 'turn.tar.gz')


def test_a_place_that_cannot_be_written(store, tmp_path):
    with pytest.raises(AdapterError, match='cannot be written: No such file or directory'):
        export_adapter(store, 'turn@1', tmp_path / 'no' / 'turn.tar.gz')


CONFIG = ('adapter_config.json', b'{}', {})


@pytest.mark.parametrize(
    'content, message',
    [
        (tar_of(('../adapter_config.json', b'', {})), r"has a member '../adapter_config\.json'"),
        (tar_of(('/tmp/manifest.json', b'', {})), "has a member '/tmp/manifest.json'"),
        (tar_of(('adapter_model.bin', b'', {})), r"member 'adapter_model\.bin'; expected plain"),
        (tar_of(CONFIG, CONFIG), "has a member 'adapter_config.json'"),
        (
            tar_of(('manifest.json', b'', {'type': tarfile.SYMTYPE, 'linkname': '/etc/passwd'})),
            "has a member 'manifest.json'; expected plain files",
        ),
        (
            tar_of(CONFIG, ('manifest.json', b'', {'type': tarfile.LNKTYPE, 'linkname': 'x'})),
            "has a member 'manifest.json'",
        ),
        (tar_of(('manifest.json', b'', {'type': tarfile.FIFOTYPE})), 'expected plain files'),
        (tar_of(('manifest.json', b'', {'type': tarfile.DIRTYPE})), 'expected plain files'),
        (tar_of(CONFIG), r'lacks adapter_model\.safetensors'),
        (tar_of(CONFIG, compress=False), r'is damaged or not a \.tar\.gz'),
        (tar_of(CONFIG)[:-20], r'is damaged or not a \.tar\.gz'),
        (gzip.compress(b'junk' * 500, mtime=0), r'is damaged or not a \.tar\.gz'),
        (b'', 'lacks|damaged'),
    ],
)
def test_archives_that_are_refused(content, message):
    with pytest.raises(AdapterError, match=message):
        unpack(content, 'x.tar.gz')


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(archive, 'LIMIT', 10_000)
    content = tar_of(('adapter_model.safetensors', bytes(20_000), {}))
    assert len(content) < 200
    with pytest.raises(AdapterError, match='larger than 10000 bytes once unpacked'):
        unpack(content, 'x.tar.gz')


@given(
    st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), min_size=1, max_size=8),
    st.booleans(),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_archives_are_refused_or_read_never_worse(changes, inside):
    content = bytearray(gzip.decompress(pack(FILES)) if inside else pack(FILES))
    for position, value in changes:
        content[position % len(content)] = value
    try:
        files = unpack(gzip.compress(content) if inside else bytes(content), 'x.tar.gz')
    except AdapterError:
        return
    assert set(files) <= {*FILES, 'manifest.json'}
