"""`lebot train offline`: from real bags to a version that passed the gate, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from lebot_rl_ros.cli.main import main
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.robot import share_path
from offline_bags import slipped_bag, walked, write_bag

ORACLES = Path(__file__).parents[1] / 'docs' / 'adapt_runs'
QUICK = ['--set', 'batch=64', 'hidden=16', 'policy_starts=100', '--steps', '400']


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """A minute of a robot whose horn has slipped."""
    return slipped_bag(tmp_path_factory.mktemp('bags') / 'slip', started='2026-01-01T00:00:00Z')


@pytest.fixture
def lebot(tmp_path, monkeypatch, capsys):
    """Run the command with a store of its own; returns the status and what was said."""
    monkeypatch.setenv('COLUMNS', '200')

    def call(*words, store=True):
        more = ['--store', str(tmp_path / 'adapters')] if store else []
        status = main(['train', 'offline', *map(str, words), *more])
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


def test_a_version_is_written_with_its_lineage(lebot, bag, tmp_path):
    status, said = lebot('--bags', bag, '--method', 'td3_bc', '--adapter', 'slip', *QUICK)
    assert status == 0, said
    store = AdapterStore(tmp_path / 'adapters')
    manifest = store.manifest('slip', 1)
    assert manifest.verdict == 'candidate'
    assert manifest.reason.startswith('the gate lets it act on probation')
    assert manifest.parent == ''
    training, data = manifest.training, manifest.data
    assert training['method'] == 'offline td3_bc'
    assert (training['seed'], training['steps'], training['holdout']) == (0, 400, 0.1)
    assert training['settings']['batch'] == 64
    assert training['trained']['kind'] == 'lora'
    assert 'revision' in training
    (one,) = data['bags']
    steps, _ = walked(60.0)
    assert one['name'] == 'slip'
    assert len(one['sha256']) == 64
    assert one['started'] == '2026-01-01T00:00:00Z'
    assert one['rows'] == len(steps)
    assert data['steps'] == one['learnable'] - int(0.1 * one['learnable'])
    assert manifest.scores['gate']['evidence'] >= 1.0
    assert (store.folder('slip', 1) / 'learning_curve.png').stat().st_size > 3000
    store.get('slip', 1).check(load_policy(share_path('policies', 'walk'))[1])

    # From there on: a second version, its parent the first.
    status, said = lebot(
        '--bags', bag, '--method', 'awac', '--adapter', 'slip', '--start', 'slip@1', *QUICK
    )
    if status == 0:
        assert store.manifest('slip', 2).parent == 'slip@1'
    else:
        assert 'the gate refuses it (evidence)' in said


def test_the_same_command_gives_the_same_weights(lebot, bag, tmp_path):
    words = ['--bags', bag, '--method', 'awac', '--seed', '3', '--what', 'bias']
    words += ['--set', 'batch=64', 'hidden=16', 'policy_starts=50', '--steps', '150']
    assert lebot(*words, '--adapter', 'one')[0] == lebot(*words, '--adapter', 'two')[0]
    store = AdapterStore(tmp_path / 'adapters')
    if store.versions('one'):
        assert store.manifest('one', 1).sha256 == store.manifest('two', 1).sha256


def test_a_dry_run_shows_the_data_and_writes_nothing(lebot, bag, tmp_path):
    status, said = lebot('--bags', bag, '--dry-run')
    assert status == 0
    steps, rewards = walked(60.0)
    assert f'{len(steps):,}' in said
    assert 'base' in said
    assert 'trajectories' in said
    assert not (tmp_path / 'adapters').exists()
    # What is skipped is not learned from.
    _, skipped = lebot('--bags', bag, '--dry-run', '--skip', '30')
    learned = [
        int(text.split(' steps in ')[0].split()[-1].replace(',', '')) for text in (said, skipped)
    ]
    assert learned[1] < 0.6 * learned[0]
    assert rewards['terminated'].sum() >= 0


def test_a_clone_changes_little_and_needs_no_evidence(lebot, bag, tmp_path):
    status, said = lebot(
        '--bags', bag, '--method', 'bc', '--adapter', 'same', '--steps', '60', '--what', 'bias'
    )
    assert status == 0, said
    measures = AdapterStore(tmp_path / 'adapters').manifest('same', 1).scores['gate']
    assert measures['change_base'] < 0.05
    assert 'evidence' not in measures


def test_what_the_gate_refuses_is_told_and_not_written(lebot, bag, tmp_path):
    words = ['batch=64', 'hidden=16', 'policy_starts=1', 'actor_rate=0.5', 'deviation=50']
    words += ['hinge=0', 'alpha=1000', 'memory=1', 'gradient_norm=100']
    status, said = lebot(
        '--bags', bag, '--method', 'td3_bc', '--adapter', 'wild', '--steps', '60', '--set', *words
    )
    assert status == 1
    assert 'the gate refuses it' in said
    assert 'nothing was written' in said
    assert not AdapterStore(tmp_path / 'adapters').versions('wild')


def test_a_policy_is_cloned_from_nothing(lebot, bag, tmp_path):
    place = tmp_path / 'clone'
    status, said = lebot(
        '--bags', bag, '--method', 'bc', '--from-scratch', place, '--steps', '150', store=False
    )
    assert status == 0, said
    tensors, manifest = load_policy(place)
    base, about = load_policy(share_path('policies', 'walk'))
    assert manifest.training['method'] == 'offline bc'
    assert manifest.training['bags'][0]['name'] == 'slip'
    assert manifest.sha256 != about.sha256
    assert not np.array_equal(tensors['actor.0.weight'], base['actor.0.weight'])
    assert manifest.scores['action_error'] < 0.25
    assert (place / 'learning_curve.png').exists()


def test_a_data_set_is_learned_from_by_its_training_split(lebot, bag, tmp_path, monkeypatch):
    monkeypatch.setenv('LEBOT_DATASETS', str(tmp_path / 'sets'))
    assert main(['dataset', 'make', 'slips', str(bag)]) == 0
    words = ['--dataset', 'slips@1', '--method', 'bc', '--adapter', 'of-set', '--what', 'bias']
    status, said = lebot(*words, '--steps', '5')
    assert status == 0, said
    (one,) = AdapterStore(tmp_path / 'adapters').manifest('of-set', 1).data['bags']
    assert one['name'] == 'slips@1 train'
    assert [known['name'] for known in one['bags']] == ['slip']
    assert len(one['bags'][0]['sha256']) == 64
    steps, _ = walked(60.0)
    assert 0 < one['learnable'] < len(steps)  # whole trajectories are set aside
    for words, expected in (
        (['--dataset', 'slips@x'], 'NAME@VERSION'),
        (['--dataset', 'no'], 'no'),
    ):
        status, said = lebot(*words)
        assert status == 2
        assert expected in said


def test_settings_are_explained(lebot, bag):
    status, said = lebot('--bags', bag, '--method', 'awac', '--set', 'help')
    assert status == 0
    assert 'temperature: float = 0.3' in said


def test_bags_of_two_bases_are_refused(lebot, bag, tmp_path):
    steps, rewards = walked(60.0)
    other = steps[:100].copy()
    other['base_sha256'] = 7
    write_bag(tmp_path / 'other', other, rewards[:100])
    status, said = lebot('--bags', bag, tmp_path / 'other', '--dry-run')
    assert status == 2
    assert '0707' in said
    mixed = steps[:100].copy()
    mixed['base_sha256'][50:] = 7
    write_bag(tmp_path / 'mixed', mixed, rewards[:100])
    status, said = lebot('--bags', tmp_path / 'mixed', '--dry-run')
    assert status == 2
    assert 'mixes steps of base' in said
    status, said = lebot('--bags', tmp_path / 'other', '--dry-run')
    assert status == 2
    assert 'made with the base 0707' in said


def test_a_bag_of_another_robot_is_refused(lebot, tmp_path):
    from lebot_rl_ros.data.rows import step_dtype

    _, rewards = walked(60.0)
    steps = np.zeros(50, step_dtype(7, 3))
    for name in ('sec', 'nanosec', 'next_sec', 'next_nanosec'):
        steps[name] = walked(60.0)[0][name][:50]
    write_bag(tmp_path / 'foreign', steps, rewards[:50])
    status, said = lebot('--bags', tmp_path / 'foreign', '--dry-run')
    assert status == 2
    assert '3 joints' in said


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        (['--steps', '0'], '--steps is 0, must be 1 or more'),
        (['--from-scratch', 'x'], '--from-scratch clones a policy: give --method bc'),
        (['--method', 'bc', '--from-scratch', 'x', '--adapter', 'a'], 'leave out --adapter'),
        (['--adapter', 'Bad Name'], 'Bad Name'),
        (['--method', 'td3_bc', '--set', 'temperature=1'], 'TD3BCConfig has no field'),
        (['--method', 'awac', '--set', 'temperature=-1'], 'temperature is -1'),
        (['--holdout', '1'], 'holdout is 1'),
        (['--start', 'nobody@1', '--steps', '1'], 'nobody'),
    ],
)
def test_what_does_not_fit_is_refused(lebot, bag, words, expected):
    status, said = lebot('--bags', bag, *words)
    assert status == 2
    assert expected in said


def test_a_start_of_another_kind_is_refused(lebot, bag, tmp_path):
    assert lebot('--bags', bag, '--method', 'bc', '--adapter', 'b', '--what', 'bias',
                 '--steps', '5')[0] == 0  # fmt: skip
    status, said = lebot('--bags', bag, '--adapter', 'b', '--start', 'b@1', '--steps', '5')
    assert status == 2
    assert 'give its --what and --rank' in said


def test_a_manifest_is_json_that_anybody_reads(lebot, bag, tmp_path):
    lebot('--bags', bag, '--method', 'bc', '--adapter', 'plain', '--what', 'bias', '--steps', '5')
    folder = AdapterStore(tmp_path / 'adapters').folder('plain', 1)
    (file,) = folder.glob('*manifest*.json')
    table = json.loads(file.read_text())
    assert table['data']['source'] == 'bags'


def test_the_benchmark_of_bag_first_then_online_runs(tmp_path, capsys):
    out = tmp_path / 'runs' / 'one.json'
    words = ['benchmark', 'offline', '--minutes', '0.3', '--steps', '20', '--out', str(out)]
    words += ['--set', 'batch=16', 'hidden=8', 'policy_starts=5', '--runs', str(ORACLES)]
    words += ['--online-minutes', '0.01', '--online-set', 'replay_updates=10']
    status = main(words)
    found = json.loads(out.read_text())
    assert status == (1 if found['refused'] else 0)
    assert found['steps'] == 0.3 * 60 * 50
    assert [minute for minute, _ in found['online']['curve']] == [0.0, 0.01]
    assert found['offline'] > 0.0
    said = capsys.readouterr().out
    assert f'{found["offline"]:.1f}' in said
    assert 'recovered fraction' in said


def test_the_benchmark_of_bag_first_refuses_numbers_that_cannot_be(capsys):
    assert main(['benchmark', 'offline', '--minutes', '0']) == 2
    assert '--minutes is 0 and' in capsys.readouterr().err
