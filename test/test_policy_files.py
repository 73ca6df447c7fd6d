"""Policies on disk and their numpy runtime: every damage is refused with its own words."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from lebot_rl_ros.policy.files import PolicyError, PolicyManifest, load_policy, save_policy
from lebot_rl_ros.policy.networks import LOG_STD, ActorCritic
from lebot_rl_ros.policy.runtime import PolicyRuntime

MANIFEST = PolicyManifest(
    robot='dog',
    joint_names=('hip', 'knee'),
    default_pose=(0.5, -1.0),
    action_scale=0.6,
    control_rate=50.0,
    gait={'frequency': 2.0, 'swing_height': 0.025},
    observation={
        'names': ['gyro', 'command'],
        'widths': [3, 2],
        'scales': [0.3, 2.0],
        'history': 1,
    },
    network={'hidden': [16, 8], 'activation': 'elu'},
)


def make_network(activation='elu', seed=0):
    torch.manual_seed(seed)
    network = ActorCritic(5, 2, (16, 8), activation)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    network.normaliser.update(3.0 * torch.randn(500, 5) + torch.arange(5.0))
    return network


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'walk'
    save_policy(path, make_network().tensors(), MANIFEST)
    return path


def test_what_was_written_is_read(folder):
    tensors, manifest = load_policy(folder)
    for name, value in make_network().tensors().items():
        np.testing.assert_array_equal(tensors[name], value)
    assert replace(manifest, sha256='') == replace(MANIFEST, observation=manifest.observation)
    assert len(manifest.sha256) == 64


def test_writing_again_replaces_the_policy_and_keeps_pictures(folder):
    (folder / 'learning_curve.png').write_bytes(b'png')
    save_policy(folder, make_network(seed=1).tensors(), replace(MANIFEST, scores={'falls': 0}))
    assert load_policy(folder)[1].scores == {'falls': 0}
    assert (folder / 'learning_curve.png').read_bytes() == b'png'
    assert [entry.name for entry in folder.parent.iterdir()] == [
        'walk'
    ]  # nothing temporary is left


def test_nothing_is_written_when_a_tensor_is_bad(tmp_path):
    tensors = make_network().tensors()
    tensors['actor.1.bias'][3] = np.nan
    with pytest.raises(PolicyError, match=r'actor\.1\.bias has 1 values that are not finite'):
        save_policy(tmp_path / 'walk', tensors, MANIFEST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['manifest.json', 'model.safetensors'])
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(PolicyError, match=f'{name} cannot be read: No such file'):
        load_policy(folder)


def test_altered_weights_show_both_hashes(folder):
    path = folder / 'model.safetensors'
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    expected = json.loads((folder / 'manifest.json').read_text())['sha256']
    with pytest.raises(PolicyError, match=rf'sha256 is [0-9a-f]{{64}}, .* expects {expected}'):
        load_policy(folder)


def test_truncated_weights(folder):
    path = folder / 'model.safetensors'
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PolicyError, match='is damaged or altered'):
        load_policy(folder)


def edit(folder, **changes):
    path = folder / 'manifest.json'
    table = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({key: value for key, value in table.items() if value is not ...}, default=str)
    )


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'schema': 2}, 'schema is 2, expected 1'),
        ({'robots': 1}, r"unknown keys \['robots'\]"),
        ({'gait': {'frequency': 2.0}}, r"gait has \['frequency'\], expected the keys"),
        ({'network': {'hidden': [16], 'activation': 'gelu'}}, "'gelu', expected one of elu"),
        (
            {'network': {'hidden': [16, 9], 'activation': 'elu'}},
            r'actor\.1\.weight has shape \(8, 16\), expected \(9, 16\)',
        ),
        ({'network': {'hidden': [16, 8, 8], 'activation': 'elu'}}, r'actor\.2\.weight has shape'),
        ({'default_pose': [0.5]}, 'default_pose has 1 numbers, expected 2'),
    ],
)  # fmt: skip
def test_manifest_that_does_not_fit(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(PolicyError, match=message):
        load_policy(folder)


def test_missing_key(folder):
    path = folder / 'manifest.json'
    table = json.loads(path.read_text())
    del table['control_rate']
    path.write_text(json.dumps(table))
    with pytest.raises(PolicyError, match=r"missing keys \['control_rate'\]"):
        load_policy(folder)


def test_manifest_that_is_not_json(folder):
    (folder / 'manifest.json').write_text('{"schema": 1,')
    with pytest.raises(PolicyError, match=r'manifest\.json is not JSON'):
        load_policy(folder)


def rewrite(folder, tensors):
    """Weights with a hash that fits, so that what is in them is looked at."""
    import hashlib

    save_file(tensors, folder / 'model.safetensors')
    edit(folder, sha256=hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest())


def test_tensors_inside_are_checked(folder):
    good = make_network().tensors()
    rewrite(folder, {name: value for name, value in good.items() if name != 'log_std'})
    with pytest.raises(
        PolicyError, match=r'tensor log_std is missing; expected one of shape \(2,\)'
    ):
        load_policy(folder)
    rewrite(folder, {**good, 'log_std': np.zeros(2)})
    with pytest.raises(PolicyError, match='log_std is float64, expected float32'):
        load_policy(folder)
    rewrite(folder, {**good, 'log_std': np.array([0, np.inf], dtype=np.float32)})
    with pytest.raises(PolicyError, match='log_std has 1 values that are not finite'):
        load_policy(folder)
    rewrite(folder, {**good, 'lora_A': np.zeros(2, dtype=np.float32)})
    with pytest.raises(PolicyError, match=r"unknown tensors \['lora_A'\]"):
        load_policy(folder)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'robot': 'cat'}, 'was made for robot dog, this robot has cat'),
        ({'joint_names': ['hip', 'toe']}, r"names \['hip', 'knee'\], .* has \['hip', 'toe'\]"),
        ({'joint_names': ['knee', 'hip']}, r"this robot has \['knee', 'hip'\]"),
        ({'default_pose': [0.5, -1.01]}, r'pose \[0.5, -1.0\], .* has \[0.5, -1.01\]'),
        ({'control_rate': 100.0}, 'control rate 50.0, this robot has 100.0'),
        ({'action_scale': 0.5}, 'action scale 0.6, this robot has 0.5'),
        ({'gait': {'frequency': 3.0, 'swing_height': 0.025}}, 'gait.frequency 2.0, .* has 3.0'),
        ({'observation': {**MANIFEST.observation, 'names': ['gyro']}}, 'observation.names'),
    ],
)  # fmt: skip
def test_another_robot_is_refused_with_both_sides(given, message):
    with pytest.raises(PolicyError, match=message):
        MANIFEST.check(**given)


def test_its_own_robot_is_accepted():
    MANIFEST.check(
        robot='dog',
        joint_names=['hip', 'knee'],
        default_pose=np.array([0.5, -1.0 + 1e-9]),
        control_rate=50,
        observation={
            'names': ('gyro', 'command'),
            'widths': (3, 2),
            'scales': (0.3, 2),
            'history': 1,
        },
        action_scale=0.6,
        gait={'frequency': 2.0, 'swing_height': 0.025},
    )


@pytest.mark.parametrize('activation', ['elu', 'relu', 'tanh'])
def test_runtime_computes_what_torch_computes(activation):
    network = make_network(activation)
    manifest = replace(MANIFEST, network={'hidden': [16, 8], 'activation': activation})
    runtime = PolicyRuntime(network.tensors(), manifest)
    observations = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32) * 4
    with torch.no_grad():
        means, values = (x.numpy() for x in network(torch.from_numpy(observations)))
    np.testing.assert_allclose(runtime.act_many(observations), means, atol=1e-5)
    out = np.empty(2, dtype=np.float32)
    for observation, mean, value in zip(observations, means, values, strict=True):
        np.testing.assert_allclose(runtime.act(observation), mean, atol=1e-5)
        assert runtime.act(observation, out) is out
        np.testing.assert_allclose(out, mean, atol=1e-5)
        assert runtime.value(observation) == pytest.approx(value, abs=1e-4)


def test_runtime_does_not_share_memory_with_its_caller():
    tensors = make_network().tensors()
    runtime = PolicyRuntime(tensors, MANIFEST)
    first = runtime.act(np.ones(5))
    kept = first.copy()
    tensors['actor.2.bias'] += 1.0
    runtime.act(np.zeros(5))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(runtime.act(np.ones(5)), kept)


def test_normaliser_has_the_mean_and_variance_of_all_batches():
    data = torch.randn(300, 5, generator=torch.Generator().manual_seed(0)) * 2 + 1
    network = ActorCritic(5, 2)
    for batch in (data[:10], data[10:200], data[200:]):
        network.normaliser.update(batch)
    torch.testing.assert_close(network.normaliser.mean, data.mean(0))
    torch.testing.assert_close(network.normaliser.var, data.var(0, correction=0))
    assert float(network.normaliser.count) == 300


def test_normaliser_refuses_nan():
    with pytest.raises(ValueError, match='not finite'):
        ActorCritic(5, 2).normaliser.update(torch.full((3, 5), float('nan')))


def test_spread_is_kept_in_range():
    network = ActorCritic(5, 2)
    network.log_std.data = torch.tensor([-9.0, 9.0])
    network.clamp_log_std()
    assert network.log_std.tolist() == list(LOG_STD)
