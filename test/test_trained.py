"""What is trained online, and that every kind of it is a plain adapter in the end."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.learning.online.trained import KINDS, Trained, TrainedConfig, factors
from lebot_rl_ros.policy.adapters import Adapter, AdapterManifest, merge
from lebot_rl_ros.policy.runtime import PolicyRuntime
from online_toy import OBSERVATION, small_base

torch.set_num_threads(1)
PLAIN = [kind for kind in KINDS if kind != 'residual']
SEEN = np.random.default_rng(0).standard_normal((40, OBSERVATION)).astype(np.float32)


def build(kind, seed=0, **more):
    base, manifest = small_base()
    return Trained(base, manifest, TrainedConfig(kind, **more), seed), base, manifest


def shake(trained, seed=1):
    """Change every number that is trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def actions(trained):
    with torch.no_grad():
        return trained.mean(torch.from_numpy(SEEN)).numpy()


def numbers(kind):
    """Widths are 3-8-8-2: what each kind trains, counted by hand."""
    return {
        'lora': 4 * (3 + 8) + 4 * (8 + 8) + 4 * (8 + 2) + 18,
        'bias': 8 + 8 + 2,
        'last_layer': 16 + 2,
        'all': 24 + 8 + 64 + 8 + 16 + 2,
        'residual': 3 * 64 + 64 + 64 * 2 + 2,
    }[kind]


@pytest.mark.parametrize('kind', KINDS)
def test_it_begins_as_the_base_to_the_bit_and_trains_so_many_numbers(kind):
    trained, _, _ = build(kind)
    assert np.array_equal(actions(trained), trained.base_mean(torch.from_numpy(SEEN)).numpy())
    assert trained.count == numbers(kind)
    shake(trained)
    assert np.abs(actions(trained) - trained.base_mean(torch.from_numpy(SEEN)).numpy()).max() > 0
    trained.reset()
    assert np.array_equal(actions(trained), trained.base_mean(torch.from_numpy(SEEN)).numpy())


@pytest.mark.parametrize('kind', PLAIN)
def test_merged_into_the_base_it_acts_as_it_does_while_it_is_trained(kind):
    trained, base, manifest = build(kind)
    shake(trained)
    lora, tensors = trained.export()
    about = AdapterManifest('a', 1, manifest.sha256, manifest.robot, tuple(manifest.joint_names))
    adapter = Adapter(lora, tensors, about)
    adapter.check(manifest)
    runtime = PolicyRuntime(merge(base, [(adapter, 1.0)]), manifest)
    np.testing.assert_allclose(runtime.act_many(SEEN), actions(trained), atol=2e-6)


@pytest.mark.parametrize('kind', PLAIN)
def test_what_was_exported_can_be_gone_on_from(kind):
    trained, _, _ = build(kind)
    shake(trained)
    other, _, _ = build(kind, seed=5)
    other.load(trained.export()[1])
    np.testing.assert_allclose(actions(other), actions(trained), atol=1e-6)
    with pytest.raises(ValueError, match='missing'):
        other.load({})


@pytest.mark.parametrize('kind', PLAIN)
def test_only_what_is_named_changes(kind):
    """Biases alone leave weights alone, the last layer leaves the others alone."""
    trained, _, _ = build(kind)
    shake(trained)
    lora, tensors = trained.export()
    assert set(lora.target_modules) == (
        {'actor.2'} if kind == 'last_layer' else {'actor.0', 'actor.1', 'actor.2'}
    )
    weights = any(np.any(tensors[f'{layer}.lora_B']) for layer in lora.target_modules)
    assert weights == (kind != 'bias')


def test_biases_of_lora_are_a_setting():
    trained, _, _ = build('lora', biases=False)
    assert trained.count == numbers('lora') - 18
    assert not any(name.endswith('bias') for name in trained.export()[1])


def test_a_residual_stays_within_its_bound_and_is_no_adapter():
    trained, _, _ = build('residual', bound=0.1)
    for seed in range(30):
        shake(trained, seed)
    change = np.abs(actions(trained) - trained.base_mean(torch.from_numpy(SEEN)).numpy())
    assert 0.05 < change.max() <= 0.1 + 1e-6
    with pytest.raises(ValueError, match=r'no adapter .* train lora, bias, last_layer, all'):
        trained.export()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.integers(0, 99))
def test_factors_lose_no_bit(out, size, more, seed):
    change = np.random.default_rng(seed).standard_normal((out, size)).astype(np.float32)
    a, b = factors(change, min(out, size) + more)
    assert a.shape == (min(out, size) + more, size)
    assert b.shape == (out, min(out, size) + more)
    assert np.array_equal(b @ a, change)


def test_a_rank_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=r'rank is 1, .* shape \(3, 2\) needs 2'):
        factors(np.ones((3, 2), np.float32), 1)


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'kind': 'none'}, "kind is 'none'; choices are lora, bias, last_layer, all, residual"),
        ({'r': 0}, 'r is 0'),
        ({'bound': 0.0}, 'bound 0.0: both must be positive'),
    ],
)
def test_unfit_configs_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        TrainedConfig(**given)
