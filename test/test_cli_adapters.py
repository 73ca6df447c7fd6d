"""`lebot adapters`, as its user sees it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from adapter_samples import load_base, random_adapter
from lebot_rl_ros.cli.adapter_tables import score_line
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.policy.adapters import merge
from lebot_rl_ros.policy.compare import compare_actions, compare_layers, golden_observations
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.policy.store import AdapterStore

BASE, MANIFEST = load_base()
ACTOR = ('actor.0', 'actor.1', 'actor.2')
SCORES = {'improvement': 0.349, 'improvement_interval_95': [0.31, 0.39], 'base': {'error': 0.08}}


@pytest.fixture
def store(tmp_path):
    """Two versions of turn, the second rejected; ice with biases; far, of another base."""
    store = AdapterStore(tmp_path / 'own')

    def add(name, seed, options, **values):
        config, tensors, manifest = random_adapter(MANIFEST, name, seed, **options)
        manifest = replace(manifest, created='2026-02-03T04:05:06+00:00', **values)
        store.add(name, config, tensors, manifest)

    add('turn', 1, {'target_modules': ACTOR}, verdict='accepted', scores=SCORES)
    add('turn', 2, {'target_modules': ACTOR}, verdict='rejected', reason='falls', parent='turn@1')
    add('ice', 3, {'r': 4, 'bias': 'lora_only'}, scores={'error': 0.12345, 'falls': 2})
    add('far', 4, {}, base_sha256='ab' * 32)
    return store


@pytest.fixture(autouse=True)
def nothing_is_shipped(monkeypatch):
    """So that the numbers do not depend on what the package ships, nor words on the terminal."""
    monkeypatch.setenv('COLUMNS', '250')

    def missing(*parts):
        raise FileNotFoundError(parts)

    monkeypatch.setattr('lebot_rl_ros.control.adapters.share_path', missing)


@pytest.fixture
def lebot(store, capsys):
    """What a call prints; its status is checked."""

    def call(*words, status=0):
        assert main(['adapters', *words, '--store', str(store.root)]) == status
        out, err = capsys.readouterr()
        return err if status else out

    return call


def row_of(text, first):
    """Cells of the line that starts with a word."""
    [line] = [line for line in text.splitlines() if line.split()[:1] == [first]]
    return line.split()


def test_list(lebot):
    out = lebot('list')
    # 1108 = 2 * (34 + 128 + 128 + 128 + 128 + 8) numbers of 34*128+128 + 128*128+128 + 128*8+8
    assert row_of(out, 'turn@1') == [
        'turn@1', 'accepted', '2', '1108', '5.0', '5.0%', 'error', '-34.9%', '(-39.0%', 'to',
        '-31.0%)', MANIFEST.sha256[:12], '2026-02-03',
    ]  # fmt: skip
    assert row_of(out, 'turn@2')[-3:] == ['turn@1', MANIFEST.sha256[:12], '2026-02-03']
    assert row_of(out, 'ice@1')[-6:-2] == ['error', '0.1235,', 'falls', '2']
    assert row_of(out, 'far@1!')[-2] == 'abababababab'
    assert '! made for another base than' in out
    assert 'far' not in lebot('list', 'turn')


def test_list_as_data(lebot):
    rows = json.loads(lebot('list', 'turn', '--json'))
    assert [row['adapter'] for row in rows] == ['turn@1', 'turn@2']
    assert rows[0]['share_of_actor'] == pytest.approx(1108 / 22024)
    assert rows[0]['scores'] == SCORES
    assert rows[0]['fits']
    assert not rows[0]['shipped']


def test_list_shows_what_is_damaged_and_goes_on(lebot, store):
    (store.folder('ice', 1) / 'adapter_model.safetensors').write_bytes(b'')
    out = lebot('list')
    assert row_of(out, 'ice@1') == ['ice@1', 'damaged']
    assert 'is truncated or not a safetensors file' in ' '.join(out.split())
    assert row_of(out, 'turn@1')


def test_an_empty_store_says_how_to_get_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('LEBOT_ADAPTERS', str(tmp_path / 'none'))
    assert main(['adapters', 'list']) == 0
    assert 'none; `lebot train adapter` makes one' in capsys.readouterr().out


def test_show(lebot, store):
    out = lebot('show', 'turn@2')
    assert 'rejected  falls' in out
    assert 'turn@2 < turn@1' in out
    assert MANIFEST.sha256 in out
    norm = float(np.linalg.norm(store.get('turn', 2).delta('actor.1')))
    whole = float(np.linalg.norm(BASE['actor.1.weight']))
    assert row_of(out, 'actor.1')[1:4] == [f'{norm:.4f}', f'{whole:.4f}', f'{norm / whole:.2%}']
    data = json.loads(lebot('show', 'turn', '--json'))
    assert data['adapter'] == 'turn@1'
    assert data['manifest']['scores'] == SCORES
    assert data['layers'][1]['norm'] > 0
    assert 'another base' in lebot('show', 'far')


def test_diff_against_the_base(lebot, store):
    data = json.loads(lebot('diff', '', 'turn', '--json'))
    assert (data['first'], data['second'], data['values']) == ('', 'turn@1', {})
    assert data['layers'][0]['cosine'] is None
    inputs = golden_observations(BASE)
    change = np.abs(
        PolicyRuntime(merge(BASE, store.load('turn')), MANIFEST).act_many(inputs)
        - PolicyRuntime(BASE, MANIFEST).act_many(inputs)
    )
    assert data['actions']['largest'] == pytest.approx(change.max())
    assert data['actions']['mean_rad'] == pytest.approx(0.6 * change.mean())
    assert change.max() > 0.1


def test_diff_of_two(lebot):
    out = lebot('diff', 'turn@1', 'turn@2')
    assert row_of(out, 'verdict') == ['verdict', 'accepted', 'rejected']
    assert row_of(out, 'parent') == ['parent', '-', 'turn@1']
    assert row_of(out, 'actor.0')[4] in out
    assert row_of(out, 'largest')[3] in MANIFEST.joint_names
    same = json.loads(lebot('diff', 'turn@1', 'turn@1', '--json'))
    assert same['values'] == {}
    assert same['actions']['largest'] == 0.0
    assert same['layers'][0]['cosine'] == pytest.approx(1.0)
    assert 'this is' in lebot('diff', 'far', 'turn', status=2)


def test_layers_by_hand(store):
    [(turn, _)] = store.load('turn@1')
    rows = {row.layer: row for row in compare_layers(BASE, [(turn, 0.5)], [(turn, -2.0)])}
    norm = float(np.linalg.norm(turn.delta('actor.2')))
    assert rows['actor.2'].first == pytest.approx(0.5 * norm)
    assert rows['actor.2'].second == pytest.approx(2.0 * norm)
    assert rows['actor.2'].cosine == pytest.approx(-1.0)
    assert rows['actor.2'].bias == 0.0
    [(ice, _)] = store.load('ice')
    row = {row.layer: row for row in compare_layers(BASE, [(ice, 0.5)])}['actor.0']
    expected = 0.5 * np.linalg.norm(ice.tensors['actor.0.bias'] - BASE['actor.0.bias'])
    assert row.bias == pytest.approx(expected)


def test_mix(lebot, store):
    out = lebot('mix', 'turn:0.5+ice:-0.5', '--name', 'both')
    assert out.startswith('both@1 is turn@1:0.5+ice@1:-0.5: r 6, ')
    change = compare_actions(
        BASE, MANIFEST, store.load('both'), store.load('turn:0.5+ice:-0.5')
    )  # fmt: skip
    assert change.largest < 1e-5
    assert 'turn@2 was rejected: falls' in lebot('mix', 'turn@2+ice', '--name', 'x', status=2)
    assert 'nothing to mix' in lebot('mix', '', '--name', 'x', status=2)


def test_export_and_import(lebot, store, tmp_path):
    file = tmp_path / 'turn.tar.gz'
    assert lebot('export', 'turn', str(file)).startswith(f'{file} has turn@1, ')
    out = lebot('import', str(file), '--name', 'turn')
    assert out.startswith(f'turn@3 is {file}: r 2, 1108 numbers, candidate, in {store.root}')
    assert 'was made for base abab' in lebot(
        'import', str(store.folder('far', 1)), '--name', 'far', status=2
    )


def test_prune(lebot, store):
    lebot('mix', 'turn:0.5', '--name', 'turn')
    lebot('mix', 'turn:0.6', '--name', 'turn')
    out = lebot('prune', '--keep', '1', '--dry-run')
    assert '2 would go' in out
    assert store.versions('turn') == [1, 2, 3, 4]
    out = lebot('prune', 'turn', '--keep', '1')
    assert out.startswith('2 removed, ')
    assert row_of(out, 'turn@1')[2:] == ['stays', 'accepted']
    assert row_of(out, 'turn@2')[2:] == ['removed', 'old']
    assert row_of(out, 'turn@4')[2:] == ['stays', 'one', 'of', 'the', 'newest']
    assert 'ice' not in out
    assert store.versions('turn') == [1, 4]
    assert 'keep is 0, must be 1 or more' in lebot('prune', '--keep', '0', status=2)


def test_words_that_are_wrong(lebot, store, capsys):
    assert 'turn has no version 9; it has 1, 2' in lebot('show', 'turn@9', status=2)
    assert 'there is no adapter nope; there are far, ice, turn' in lebot('list', 'nope', status=2)
    assert 'weight is ' in lebot('diff', 'turn:9', '', status=2)
    with pytest.raises(SystemExit) as stop:
        main(['adapters', 'remove'])
    assert stop.value.code == 2
    assert "invalid choice: 'remove'" in capsys.readouterr().err


def test_the_policy_may_be_another(lebot, tmp_path):
    assert 'cannot be read' in lebot('list', '--policy', str(tmp_path / 'none'), status=2)


def test_a_line_of_scores_has_what_matters_most():
    assert score_line(SCORES) == 'error -34.9% (-39.0% to -31.0%)'
    losses = {'before': {'validation_loss': 26.59}, 'after': {'validation_loss': 0.076}}
    assert score_line({'epoch': 4, **losses}) == 'loss 26.59 -> 0.076'
    assert score_line({'before': 1.0, 'x': 2}) == 'before 1, x 2'
    assert score_line({}) == ''
