"""The store of adapters: names, verdicts, and several processes at once, some of them killed."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adapter_samples import load_base, random_adapter
from lebot_rl_ros.policy.adapters import Adapter, AdapterError, merge
from lebot_rl_ros.policy.mixing import mix
from lebot_rl_ros.policy.places import Places
from lebot_rl_ros.policy.pruning import lock
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.policy.store import AdapterStore, parse_mix
from lebot_rl_ros.policy.terms import Term, format_mix

BASE, MANIFEST = load_base()
names = st.from_regex(r'[a-z][a-z0-9_-]{0,8}', fullmatch=True)
weights = st.floats(-1.0, 2.0) | st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5])
terms = st.builds(Term, names, st.none() | st.integers(1, 10**9 - 1), weights)


def sample(seed=0, **options):
    """A small adapter: one layer, 272 numbers."""
    return random_adapter(MANIFEST, 'any', seed, target_modules=('actor.2',), **options)


def fill(store, name, verdicts):
    """Add a version for each letter: c(andidate), a(ccepted), r(ejected)."""
    words = {'c': 'candidate', 'a': 'accepted', 'r': 'rejected'}
    for letter in verdicts:
        config, tensors, manifest = sample()
        verdict = words[letter]
        manifest = replace(manifest, verdict=verdict, reason='falls' if letter == 'r' else '')
        store.add(name, config, tensors, manifest)


@pytest.fixture
def store(tmp_path):
    return AdapterStore(tmp_path / 'own', tmp_path / 'shipped')


@pytest.fixture
def shipped(store):
    """The same store, but that it writes where the shipped ones lie."""
    return AdapterStore(store.shipped)


# The text


@pytest.mark.parametrize(
    'text, expected',
    [
        ('', ()),
        ('  ', ()),
        ('turn', (Term('turn'),)),
        ('turn@2', (Term('turn', 2),)),
        ('turn@0002', (Term('turn', 2),)),
        ('turn:.5', (Term('turn', None, 0.5),)),
        ('turn@2:0.7+ice:-0.3', (Term('turn', 2, 0.7), Term('ice', None, -0.3))),
        ('turn + ice', (Term('turn'), Term('ice'))),
        ('./runs/a+b:c@d', (Term('', path='./runs/a+b:c@d'),)),
    ],
)
def test_what_a_text_means(text, expected):
    assert parse_mix(text) == expected


@pytest.mark.parametrize(
    'text, message',
    [
        ('turn+', "'' in adapter 'turn\\+': empty term; expected '' for the base"),
        ('turn++ice', 'empty term'),
        ('Turn', "adapter name 'Turn': expected a small letter"),
        ('2', "adapter name '2'"),
        ('@2', "adapter name ''"),
        ('turn@', "version is '', expected a whole number from 1"),
        ('turn@0', "version is '0'"),
        ('turn@-1', "version is '-1'"),
        ('turn@newest', "version is 'newest'"),
        ('turn@' + '9' * 5000, 'version is '),
        ('turn:', "weight is '', expected a number from -1 to 2"),
        ('turn:2.01', "weight is '2.01'"),
        ('turn:-1.5', "weight is '-1.5'"),
        ('turn:nan', "weight is 'nan'"),
        ('turn:inf', "weight is 'inf'"),
        ('turn:1_0', "weight is '1_0'"),
        ('turn:0.5:0.5', 'malformed'),
        ('turn@1@2', 'malformed'),
        ('turn:0.5@2', "weight is '0.5@2'|malformed"),
        ('turn\n', 'characters that cannot be printed'),
        ('./a\0b', 'characters that cannot be printed'),
    ],
)
def test_what_is_wrong_with_a_text(text, message):
    with pytest.raises(AdapterError, match=message):
        parse_mix(text)


@given(st.lists(terms, max_size=4))
def test_a_text_says_what_its_terms_say(terms):
    assert parse_mix(format_mix(terms)) == tuple(terms)


@given(st.text() | st.text('turn@:+-0.5/ e', max_size=12))
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_junk_is_refused_with_our_error_only(store, text):
    try:
        parse_mix(text)
        store.load(text)
    except AdapterError:
        pass


# One process


def test_what_was_added_is_read(store):
    config, tensors, manifest = sample(seed=3)
    added = store.add('turn', config, tensors, replace(manifest, parent='turn@1'))
    assert added.manifest.label == 'turn@1'
    [(read, weight)] = store.load('turn:0.5')
    assert weight == 0.5
    assert read.manifest == added.manifest
    assert read.manifest.parent == 'turn@1'
    assert read.manifest.created.endswith('+00:00')
    for name, value in tensors.items():
        np.testing.assert_array_equal(read.tensors[name], value)
    assert store.load('') == []
    assert store.folder('turn', 1) == store.root / 'turn' / '0001'


@pytest.mark.parametrize(
    'verdicts, version', [('c', 1), ('cc', 2), ('cac', 2), ('aac', 2), ('car', 2), ('ccr', 2)]
)
def test_a_name_stands_for_its_newest_accepted_version(store, verdicts, version):
    fill(store, 'turn', verdicts)
    assert store.load('turn')[0][0].manifest.version == version


def test_errors_name_what_there_is(store):
    fill(store, 'turn', 'cr')
    fill(store, 'ice', 'rr')
    for text, message in (
        ('trun', f'there is no adapter trun; there are ice, turn in {store.root} and'),
        ('turn@3', 'adapter turn has no version 3; it has 1, 2'),
        ('turn@2', 'adapter turn@2 was rejected: falls'),
        (str(store.folder('turn', 2)), r'adapter .*0002 was rejected: falls'),
        ('ice', r'every version of adapter ice was rejected \(1, 2\); ice@2: falls'),
        ('turn+turn@1', 'names turn@1 twice'),
        ('/nowhere/turn', 'manifest.json cannot be read: No such file'),
    ):
        with pytest.raises(AdapterError, match=message):
            store.load(text)


def test_an_empty_store_says_so(tmp_path):
    store = AdapterStore(tmp_path / 'none')
    assert store.names() == []
    assert store.versions('turn') == []
    assert store.prune(1) == []
    with pytest.raises(AdapterError, match=r'there is no adapter turn; there are none in .*none$'):
        store.load('turn')


def test_what_is_no_version_is_not_seen(store):
    fill(store, 'turn', 'c')
    for name in ('.0002.abc', '2', '00003', '0000', '0004.old', 'notes'):
        (store.root / 'turn' / name).mkdir()
    (store.root / 'turn' / '0009').write_text('a file')
    (store.root / 'Ice' / '0001').mkdir(parents=True)
    (store.root / 'empty').mkdir()
    assert store.names() == ['turn']
    assert store.versions('turn') == [1]
    config, tensors, manifest = sample()
    assert store.add('turn', config, tensors, manifest).manifest.version == 2


def test_a_folder_that_was_copied_in_by_hand_is_refused(store):
    fill(store, 'turn', 'c')
    store.folder('turn', 1).rename(store.root / 'turn' / '0002')
    with pytest.raises(AdapterError, match='is the one of turn@1, expected turn@2'):
        store.load('turn@2')


def test_numbers_go_on_over_both_places(store, shipped):
    fill(shipped, 'turn', 'aa')
    fill(store, 'turn', 'c')
    fill(store, 'ice', 'c')
    assert store.versions('turn') == [1, 2, 3]
    assert store.names() == ['ice', 'turn']
    assert store.folder('turn', 2).parent.parent == store.shipped
    assert [store.is_shipped('turn', version) for version in (1, 2, 3)] == [True, True, False]
    assert store.load('turn')[0][0].manifest.version == 2


def test_a_verdict_changes_nothing_else(store):
    fill(store, 'turn', 'c')
    before = store.manifest('turn', 1)
    store.judge('turn', 1, 'accepted', '0.02 m/s better')
    assert store.manifest('turn', 1) == replace(
        before, verdict='accepted', reason='0.02 m/s better'
    )
    store.get('turn', 1)
    assert len(list(store.folder('turn', 1).iterdir())) == 3  # nothing temporary is left


def test_who_may_be_judged(store, shipped):
    fill(shipped, 'turn', 'a')
    with pytest.raises(AdapterError, match='turn@1 ships with the package and stays accepted'):
        store.judge('turn', 1, 'rejected', '')
    with pytest.raises(AdapterError, match="verdict is 'good'; choices are candidate, accepted"):
        store.judge('turn', 1, 'good', '')
    with pytest.raises(AdapterError, match='has no version 2; it has 1'):
        store.judge('turn', 2, 'accepted', '')


def test_lineage_ends_where_a_parent_is_gone_or_a_mixture(store):
    config, tensors, manifest = sample()
    for parent in ('ice@7', '', 'turn@1', 'turn@1', 'turn@3', 'turn@2:0.5+turn@3:0.5'):
        store.add('turn', config, tensors, replace(manifest, parent=parent))
    assert store.lineage('turn@5') == ['turn@5', 'turn@3', 'turn@1', 'ice@7']
    assert store.lineage('turn@2') == ['turn@2']
    assert store.lineage('turn') == ['turn@6', 'turn@2:0.5+turn@3:0.5']
    for parent in ('turn', 'turn@8'):
        store.add('turn', config, tensors, replace(manifest, parent=parent))
    assert store.lineage('turn@7') == ['turn@7', 'turn']
    assert store.lineage('turn@8') == ['turn@8']
    with pytest.raises(AdapterError, match='has no version 9'):
        store.lineage('turn@9')
    for text in ('turn+ice', 'turn:0.5', './turn', ''):
        with pytest.raises(AdapterError, match='expected one NAME or NAME@VERSION'):
            store.lineage(text)


def test_a_place_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    config, tensors, manifest = sample()
    with pytest.raises(AdapterError, match='file/turn cannot be read: Not a directory'):
        AdapterStore(tmp_path / 'file').add('turn', config, tensors, manifest)


# Pruning


def test_prune_says_why(store, shipped):
    fill(shipped, 'turn', 'c')
    fill(store, 'turn', 'caccr')
    dry = store.prune(1, dry_run=True)
    assert store.versions('turn') == [1, 2, 3, 4, 5, 6]
    with store.hold(store.get('turn', 2)):
        done = store.prune(1)
    assert [(entry.label, entry.removed, entry.reason) for entry in done] == [
        ('turn@6', False, 'one of the newest'),
        ('turn@5', True, 'old'),
        ('turn@4', True, 'old'),
        ('turn@3', False, 'accepted'),
        ('turn@2', False, 'in use'),
    ]
    assert [entry.removed for entry in dry] == [False, True, True, False, True]
    assert store.versions('turn') == [1, 2, 3, 6]
    assert sorted(entry.name for entry in (store.root / 'turn').iterdir()) == [
        '0002', '0003', '0006',
    ]  # fmt: skip
    with pytest.raises(AdapterError, match='keep is 0, must be 1 or more'):
        store.prune(0)
    with pytest.raises(AdapterError, match='there is no adapter ice'):
        store.prune(1, names=['ice'])


def test_what_a_name_stands_for_stays(store):
    fill(store, 'turn', 'ccrr')
    assert [entry.label for entry in store.prune(1) if not entry.removed] == ['turn@4', 'turn@2']


def test_what_cannot_be_read_stays(store):
    fill(store, 'turn', 'cac')
    (store.folder('turn', 1) / 'manifest.json').write_text('{')
    assert not any(entry.removed for entry in store.prune(1))


def test_who_holds_what_is_gone_holds_nothing(store):
    fill(store, 'turn', 'ccc')
    first = store.get('turn', 1)
    store.prune(1)
    with store.hold(first):
        assert store.versions('turn') == [3]
    stranger = replace(first, manifest=replace(first.manifest, version=3, sha256='0' * 64))
    with store.hold(stranger):  # another adapter of the same label
        fill(store, 'turn', 'cc')
        assert [entry.label for entry in store.prune(1) if entry.removed] == ['turn@4', 'turn@3']


# Moments between two steps, that another process uses


def test_another_writes_the_number_after_it_was_seen_free(store, monkeypatch):
    fill(store, 'turn', 'c')
    monkeypatch.setattr(Places, 'versions', lambda self, name: [])
    monkeypatch.setattr(Path, 'exists', lambda self: False)
    config, tensors, manifest = sample(seed=1)
    before = (store.folder('turn', 1) / 'adapter_model.safetensors').read_bytes()
    assert store.add('turn', config, tensors, manifest).manifest.version == 2
    assert (store.folder('turn', 1) / 'adapter_model.safetensors').read_bytes() == before


def test_another_prunes_a_version_after_it_was_listed(store, monkeypatch):
    fill(store, 'turn', 'ac')
    monkeypatch.setattr(Places, 'known_versions', lambda self, name: [1, 2, 3])
    assert store.choose('turn') == 1


def test_another_removes_a_version_before_the_lock_is_there(store, monkeypatch):
    fill(store, 'turn', 'c')
    adapter = store.get('turn', 1)
    folder = store.folder('turn', 1)
    flock = fcntl.flock

    def late(handle, operation):
        folder.rename(folder.with_name('.gone'))
        fill(store, 'turn', 'c')  # another adapter under the same number
        flock(handle, operation)

    monkeypatch.setattr(fcntl, 'flock', late)
    with pytest.raises(FileNotFoundError, match='removed meanwhile'):
        lock(folder)
    shutil.rmtree(folder.with_name('.gone'))
    with store.hold(adapter) as handle:
        assert handle.name == os.devnull
    shutil.rmtree(folder.with_name('.gone'))
    with pytest.raises(AdapterError, match='cannot be judged: removed meanwhile'):
        store.judge('turn', 1, 'accepted', '')


class Pruning(RuleBasedStateMachine):
    """What was accepted, is held or is shipped never goes, whatever is done in which order."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = AdapterStore(Path(self.folder.name) / 'own', Path(self.folder.name) / 'ship')
        fill(AdapterStore(self.store.shipped), 'turn', 'cr')
        self.given = 2  # highest number so far
        self.held = {}

    @rule(verdict=st.sampled_from('car'))
    def add(self, verdict):
        fill(self.store, 'turn', verdict)
        self.given += 1
        assert self.store.versions('turn')[-1] == self.given

    def own(self):
        return [v for v in self.store.versions('turn') if v > 2]

    @precondition(lambda self: self.own())
    @rule(data=st.data(), verdict=st.sampled_from(['candidate', 'accepted', 'rejected']))
    def judge(self, data, verdict):
        self.store.judge('turn', data.draw(st.sampled_from(self.own())), verdict, 'tried')

    @rule(data=st.data())
    def hold(self, data):
        version = data.draw(st.sampled_from(self.store.versions('turn')))
        self.held.setdefault(version, self.store.hold(self.store.get('turn', version)))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def let_go(self, data):
        self.held.pop(data.draw(st.sampled_from(sorted(self.held)))).close()

    @rule(keep=st.integers(1, 3), dry_run=st.booleans())
    def prune(self, keep, dry_run):
        before = self.store.versions('turn')
        choice = self.store.choose('turn')
        safe = {v for v in before if self.store.manifest('turn', v).verdict == 'accepted'}
        safe |= {1, 2} | set(self.held)
        done = self.store.prune(keep, dry_run=dry_run)
        after = set(self.store.versions('turn'))
        removed = {int(entry.label.partition('@')[2]) for entry in done if entry.removed}
        assert after == set(before) - (set() if dry_run else removed)
        assert not removed & safe
        assert len(set(before) - removed - safe) <= keep + 1  # and what the name stands for
        assert self.store.choose('turn') == choice

    @invariant()
    def everything_is_whole(self):
        for version in self.store.versions('turn'):
            self.store.get('turn', version)

    def teardown(self):
        for handle in self.held.values():
            handle.close()
        self.folder.cleanup()


TestPruning = Pruning.TestCase
TestPruning.settings = settings(max_examples=25, stateful_step_count=20)


# Several processes

START = """
import sys
from pathlib import Path
from dataclasses import replace
from adapter_samples import load_base, random_adapter
from lebot_rl_ros.policy import folders
from lebot_rl_ros.policy.store import AdapterStore
store = AdapterStore(Path(sys.argv[1]))
sample = random_adapter(load_base()[1], 'any', 0, target_modules=('actor.2',))
def say(word):
    print(word, flush=True)
    sys.stdin.readline()
"""


def start(store, code):
    """A process that has said its first word and waits for a line."""
    process = subprocess.Popen(
        [sys.executable, '-c', START + code, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert process.stdout.readline()
    return process


def go_on(process):
    process.stdin.write('\n')
    process.stdin.flush()


def test_two_processes_add_at_once(store):
    code = "say('ready')\nfor _ in range(20): print(store.add('turn', *sample).manifest.version)"
    processes = [start(store, code) for _ in range(2)]
    for process in processes:
        go_on(process)
    given = [[int(word) for word in process.communicate()[0].split()] for process in processes]
    assert sorted(given[0] + given[1]) == list(range(1, 41))
    assert all(mine == sorted(mine) for mine in given)
    for version in range(1, 41):
        assert store.get('turn', version).manifest.version == version
    assert len(list((store.root / 'turn').iterdir())) == 40


@pytest.mark.parametrize('files', [1, 2, 3])
def test_a_writer_killed_half_way_leaves_nothing_that_is_seen(store, files):
    fill(store, 'turn', 'c')
    process = start(
        store,
        'write, done = folders.write_file, []\n'
        'def half(path, content):\n'
        '    write(path, content)\n'
        '    done.append(path)\n'
        f"    if len(done) == {files}: say('half')\n"
        'folders.write_file = half\n'
        "store.add('turn', *sample)\n",
    )
    process.kill()
    process.communicate()
    [left] = (store.root / 'turn').glob('.*')
    assert len(list(left.iterdir())) == files
    assert store.versions('turn') == [1]
    fill(store, 'turn', 'c')
    assert store.versions('turn') == [1, 2]
    assert not any(entry.removed for entry in store.prune(5))  # another may be writing it now
    os.utime(left, (0, 0))
    assert [entry.label for entry in store.prune(5) if entry.removed] == [f'turn/{left.name}']
    assert not left.exists()


def test_a_judge_killed_half_way_leaves_the_old_verdict(store):
    fill(store, 'turn', 'c')
    process = start(
        store,
        'write = folders.write_file\n'
        'def half(path, content):\n'
        '    write(path, content[:100])\n'
        "    say('half')\n"
        'folders.write_file = half\n'
        "store.judge('turn', 1, 'accepted', 'good')\n",
    )
    process.kill()
    process.communicate()
    assert store.load('turn')[0][0].manifest.verdict == 'candidate'


@pytest.mark.parametrize('end', ['killed', 'closed'])
def test_what_a_living_process_holds_stays(store, end):
    fill(store, 'turn', 'ccc')
    process = start(
        store,
        "handle = store.hold(store.load('turn@1')[0][0])\n"
        "say('held')\nhandle.close()\nsay('let go')\n",
    )
    kept = [entry.reason for entry in store.prune(1) if not entry.removed]
    assert kept == ['one of the newest', 'in use']
    if end == 'killed':
        process.kill()
        process.wait()
    else:
        go_on(process)
        assert process.stdout.readline() == 'let go\n'
    assert [entry.label for entry in store.prune(1) if entry.removed] == ['turn@1']
    process.communicate()


def test_reading_and_adding_while_another_prunes(store):
    fill(store, 'turn', 'c')
    process = start(
        store,
        "say('ready')\n"
        'removed = 0\n'
        'while not store.root.with_name("stop").exists():\n'
        '    removed += sum(entry.removed for entry in store.prune(2))\n'
        'print(removed)\n',
    )
    go_on(process)
    config, tensors, manifest = sample()
    for version in range(2, 60):
        assert store.add('turn', config, tensors, manifest).manifest.version == version
        assert store.load('turn')[0][0].manifest.version == version
    store.root.with_name('stop').touch()
    removed = int(process.communicate()[0])
    store.prune(2)
    assert removed > 0
    assert store.versions('turn') == [57, 58, 59][-2:]


# Mixtures


@pytest.mark.parametrize('bias', ['none', 'lora_only'])
def test_a_mixture_is_one_adapter_with_the_same_outputs(store, bias):
    for name, seed, options in (
        ('turn', 1, {'r': 2, 'lora_alpha': 3.0}),
        ('ice', 2, {'r': 4, 'use_rslora': True, 'bias': bias}),
        ('tip', 3, {'r': 1, 'target_modules': ('actor.1', 'critic.0')}),
    ):
        store.add(name, *random_adapter(MANIFEST, name, seed, **options))
    parts = store.load('turn:0.7+ice@1:-0.4+tip:1.5')
    one = store.add('mixed', *mix('mixed', BASE, parts))
    one.check(MANIFEST)
    assert one.config.r == 7
    assert one.config.scaling == 1.0
    assert one.config.bias == bias
    assert store.lineage('mixed@1') == ['mixed@1', 'turn@1:0.7+ice@1:-0.4+tip@1:1.5']
    rng = np.random.default_rng(0)
    inputs = rng.normal(BASE['normaliser.mean'], np.sqrt(BASE['normaliser.var']), (256, 34))
    expected = PolicyRuntime(merge(BASE, parts), MANIFEST)
    actual = PolicyRuntime(merge(BASE, [(one, 1.0)]), MANIFEST)
    np.testing.assert_allclose(actual.act_many(inputs), expected.act_many(inputs), atol=1e-6)
    assert (
        np.abs(expected.act_many(inputs) - PolicyRuntime(BASE, MANIFEST).act_many(inputs)).max()
        > 0.1
    )


def test_a_mixture_by_hand():
    config, tensors, manifest = sample(r=1, lora_alpha=4.0)
    tensors = {
        'actor.2.lora_A': np.full((1, 128), 0.5, np.float32),
        'actor.2.lora_B': np.arange(8, dtype=np.float32)[:, None],
    }
    adapter = Adapter(config, tensors, manifest)
    _, mixed, _ = mix('x', BASE, [(adapter, 0.5), (adapter, -0.25)])
    np.testing.assert_array_equal(mixed['actor.2.lora_A'], np.full((2, 128), 0.5))
    np.testing.assert_array_equal(mixed['actor.2.lora_B'][3], [0.5 * 4 * 3, -0.25 * 4 * 3])


def test_what_cannot_be_mixed(store):
    config, tensors, manifest = sample()
    store.add('turn', config, tensors, manifest)
    store.add('far', config, tensors, replace(manifest, base_sha256='f' * 64))
    with pytest.raises(AdapterError, match='there is nothing to mix'):
        mix('x', BASE, [])
    with pytest.raises(AdapterError, match=f'far@1 for {"f" * 64}; only adapters of one base'):
        mix('x', BASE, store.load('turn+far'))
