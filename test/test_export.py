"""Policies as ONNX: other runtimes compute what ours computes, and the manifests go along."""

import builtins
import json
from dataclasses import replace

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest

from adapter_samples import load_base, random_adapter
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.policy.adapter_files import save_adapter
from lebot_rl_ros.policy.adapters import Adapter, AdapterManifest, merge
from lebot_rl_ros.policy.files import PolicyManifest, save_policy
from lebot_rl_ros.policy.onnx_export import to_onnx
from lebot_rl_ros.policy.runtime import PolicyRuntime
from test_policy_files import MANIFEST, make_network


def observations(tensors, count, seed=0):
    """What the normaliser says is likely, and beyond."""
    mean, var = tensors['normaliser.mean'], tensors['normaliser.var']
    noise = np.random.default_rng(seed).normal(size=(count, len(mean)))
    return (mean + 2.0 * np.sqrt(var) * noise).astype(np.float32)


def assert_equal_outputs(content, tensors, manifest):
    """Of onnxruntime, of ONNX's own reference and of ours, for a batch of one and of more."""
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    reference = onnx.reference.ReferenceEvaluator(onnx.load_from_string(content))
    ours = PolicyRuntime(tensors, manifest)
    for count in (1, 7):
        x = observations(tensors, count, seed=count)
        (action,) = session.run(['action'], {'observation': x})
        assert action.shape == (count, len(manifest.joint_names))
        assert action.dtype == np.float32
        np.testing.assert_allclose(action, ours.act_many(x), rtol=0, atol=1e-5)
        np.testing.assert_allclose(action[0], ours.act(x[0]), rtol=0, atol=1e-5)
        (other,) = reference.run(None, {'observation': x})
        np.testing.assert_allclose(action, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize('activation', ['elu', 'relu', 'tanh'])
@pytest.mark.parametrize('hidden', [(16, 8), (), (3,)])
def test_every_network_computes_the_same_elsewhere(activation, hidden):
    manifest = replace(MANIFEST, network={'hidden': list(hidden), 'activation': activation})
    rng = np.random.default_rng(0)
    tensors = {
        name: (0.4 * rng.normal(size=shape)).astype(np.float32)
        for name, shape in manifest.shapes().items()
    }
    tensors['normaliser.var'] = np.array([1e-4, 0.01, 1.0, 25.0, 900.0], np.float32)
    assert_equal_outputs(to_onnx(tensors, manifest, {}), tensors, manifest)


@pytest.mark.parametrize('weights', [(), (1.0,), (0.5, -0.7)])
def test_the_shipped_base_with_and_without_adapters(weights):
    tensors, manifest = load_base()
    parts = [
        (Adapter(*random_adapter(manifest, f'a{i}', i, bias='lora_only')), weight)
        for i, weight in enumerate(weights)
    ]
    merged = merge(tensors, parts)
    content = to_onnx(merged, manifest, {})
    assert_equal_outputs(content, merged, manifest)
    if parts:
        x = observations(tensors, 50)
        change = PolicyRuntime(merged, manifest).act_many(x)
        change -= PolicyRuntime(tensors, manifest).act_many(x)
        assert np.abs(change).max() > 1e-3


def test_model_is_what_it_says():
    network = make_network()
    model = onnx.load_from_string(to_onnx(network.tensors(), MANIFEST, {'note': 'x'}))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [('', 17)]
    assert model.ir_version == 8
    assert [node.op_type for node in model.graph.node] == ['Gemm', 'Elu', 'Gemm', 'Elu', 'Gemm']
    ends = []
    for entry in (*model.graph.input, *model.graph.output):
        dims = entry.type.tensor_type.shape.dim
        ends.append((entry.name, dims[0].dim_param, dims[1].dim_value))
    assert ends == [('observation', 'batch', 5), ('action', 'batch', 2)]
    assert {entry.key for entry in model.metadata_props} == {'policy', 'note'}


def read_manifest(metadata):
    table = json.loads(metadata['policy'])
    for name in ('joint_names', 'default_pose'):
        table[name] = tuple(table[name])
    return PolicyManifest(**table)


def test_manifest_reads_back_equal():
    tensors, manifest = load_base()
    session = onnxruntime.InferenceSession(to_onnx(tensors, manifest, {}))
    assert read_manifest(session.get_modelmeta().custom_metadata_map) == manifest


def test_the_key_of_the_manifest_is_not_free():
    with pytest.raises(ValueError, match='metadata has the key policy'):
        to_onnx(make_network().tensors(), MANIFEST, {'policy': ''})


@pytest.fixture
def policy(tmp_path):
    """Folder and manifest of a small policy."""
    manifest = save_policy(tmp_path / 'small', make_network().tensors(), MANIFEST)
    return tmp_path / 'small', manifest


@pytest.fixture
def adapter(tmp_path, policy):
    folder = tmp_path / 'turn'
    return folder, save_adapter(folder, *random_adapter(policy[1], 'turn', 0, size=0.3))


def test_command_line_writes_the_base(policy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['export', 'onnx', '--policy', str(policy[0])]) == 0
    path = tmp_path / 'small.onnx'
    assert_equal_outputs(path.read_bytes(), make_network().tensors(), policy[1])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f'file      small.onnx, {path.stat().st_size:,} bytes, ONNX opset 17',
        'input     observation (batch, 5) float32, not normalised',
        'output    action (batch, 2) float32, policy units',
        'metadata  policy, adapters',
    ]
    session = onnxruntime.InferenceSession(path.read_bytes())
    assert session.get_modelmeta().custom_metadata_map['adapters'] == '[]'


def test_command_line_merges_an_adapter(policy, adapter, tmp_path, monkeypatch):
    monkeypatch.setenv('LEBOT_ADAPTERS', str(tmp_path / 'store'))
    out = tmp_path / 'new' / 'turning.onnx'
    words = ['--policy', str(policy[0]), '--adapter', str(adapter[0]), '--out', str(out)]
    assert main(['export', 'onnx', *words]) == 0
    tensors = merge(make_network().tensors(), [(adapter[1], 1.0)])
    assert_equal_outputs(out.read_bytes(), tensors, policy[1])
    metadata = onnxruntime.InferenceSession(out).get_modelmeta().custom_metadata_map
    assert read_manifest(metadata) == replace(policy[1], observation=policy[1].observation)
    (part,) = json.loads(metadata['adapters'])
    part['manifest']['joint_names'] = tuple(part['manifest']['joint_names'])
    assert (part['weight'], AdapterManifest(**part['manifest'])) == (1.0, adapter[1].manifest)


def test_command_line_merges_a_mixture_of_the_store(policy, tmp_path, monkeypatch):
    from lebot_rl_ros.policy.store import AdapterStore

    store, parts = AdapterStore(tmp_path / 'store'), []
    for name, weight in (('turn', 0.5), ('ice', -0.7)):
        made = random_adapter(policy[1], name, len(name), size=0.3)
        parts.append((store.add(name, *made), weight))
    monkeypatch.setenv('LEBOT_ADAPTERS', str(tmp_path / 'store'))
    monkeypatch.chdir(tmp_path)
    words = ['--policy', str(policy[0]), '--adapter', 'turn@1:0.5+ice:-0.7']
    assert main(['export', 'onnx', *words]) == 0
    content = (tmp_path / 'small+turn+ice.onnx').read_bytes()
    assert_equal_outputs(content, merge(make_network().tensors(), parts), policy[1])


def test_command_line_refuses_an_adapter_of_another_base(adapter, tmp_path, capsys):
    out = tmp_path / 'x.onnx'
    assert main(['export', 'onnx', '--adapter', str(adapter[0]), '--out', str(out)]) == 2
    assert 'turn@1 was made for robot dog, this is lebot' in capsys.readouterr().err
    assert not out.exists()


def test_command_line_names_the_extra(policy, monkeypatch, capsys):
    real = builtins.__import__

    def without_onnx(name, *args):
        if name == 'onnx':
            raise ModuleNotFoundError("No module named 'onnx'", name='onnx')
        return real(name, *args)

    monkeypatch.setattr(builtins, '__import__', without_onnx)
    assert main(['export', 'onnx', '--policy', str(policy[0])]) == 3
    assert "needs onnx: pip install 'lebot_rl_ros[export]'" in capsys.readouterr().err
