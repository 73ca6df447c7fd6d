"""The compiled forward pass: by hand, beside float64, what is not finite, without a compiler."""

import _ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.cli.main import main
from lebot_rl_ros.policy import kernel
from lebot_rl_ros.policy.files import ACTIVATIONS, load_policy
from lebot_rl_ros.policy.kernel import CompiledNetwork
from lebot_rl_ros.policy.runtime import Network, PolicyRuntime
from lebot_rl_ros.robot import share_path

ROOT = Path(__file__).parents[1]
VARIANTS = kernel.variants()
EPSILON = float(np.finfo(np.float32).eps)
FUNCTIONS = {'elu': lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
             'relu': lambda x: np.maximum(x, 0.0), 'tanh': np.tanh}  # fmt: skip
ULP = {'elu': 1.0, 'relu': 0.0, 'tanh': 3.0}

compiled = pytest.mark.skipif(not VARIANTS, reason='the kernel is not built: no C compiler')
shapes = st.lists(st.integers(1, 200), min_size=2, max_size=5)  # 1 to 4 layers
seeds = st.integers(0, 2**32 - 1)


def make_layers(widths, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [
        (scale * rng.standard_normal((a + 1, b)) / np.sqrt(a)).astype(np.float32)
        for a, b in pairwise(widths)
    ]


def compute(network, observation, outputs):
    out = np.full(outputs, 7.0, dtype=np.float32)
    network(observation, out)
    return out


def reference(layers, activation, observation):
    """Outputs in float64, and how far rounding to float32 may lead away from them.

    A sum of n products is off by n eps of the sum of their sizes at most, an activation by its
    units in the last place; none of the three makes an error of its input larger.
    """
    x, error = observation.astype(np.float64), np.zeros(len(observation))
    for i, layer in enumerate(layers):
        weight, bias = layer[:-1].astype(np.float64), layer[-1].astype(np.float64)
        size = np.abs(x) @ np.abs(weight) + np.abs(bias)
        error = error @ np.abs(weight) + len(layer) * EPSILON * size + 1e-36  # subnormal products
        x = x @ weight + bias
        if i < len(layers) - 1:
            x = FUNCTIONS[activation](x)
            error = error + ULP[activation] * EPSILON * np.abs(x)
    return x, error


@compiled
@pytest.mark.parametrize('lanes', VARIANTS)
@given(shapes, st.sampled_from(ACTIVATIONS), st.sampled_from((1e-20, 1e-3, 1.0, 1e3)), seeds)
def test_it_computes_what_float64_computes(lanes, widths, activation, scale, seed):
    layers = make_layers(widths, seed, scale)
    observation = np.random.default_rng(seed).standard_normal(widths[0]).astype(np.float32)
    out = compute(CompiledNetwork(layers, activation, lanes), observation, widths[-1])
    expected, error = reference(layers, activation, observation)
    assert np.all(np.abs(out - expected) <= error)
    in_numpy = compute(Network(layers, activation), observation, widths[-1])
    assert np.all(np.abs(out - in_numpy) <= 2 * error)


@compiled
@pytest.mark.parametrize('lanes', VARIANTS)
@pytest.mark.parametrize(
    ('activation', 'x', 'expected'),
    [  # 3 f(2 x - 1) + 0.5
        ('elu', 0.25, 3 * -0.3934693403 + 0.5),  # e^-0.5 - 1
        ('elu', 2.0, 9.5),
        ('elu', -500.0, -2.5),
        ('relu', 0.25, 0.5),
        ('relu', 2.0, 9.5),
        ('tanh', 0.25, 3 * -0.4621171573 + 0.5),
        ('tanh', 500.0, 3.5),
    ],
)
def test_one_unit_by_hand(lanes, activation, x, expected):
    layers = [np.array([[2.0], [-1.0]]), np.array([[3.0], [0.5]])]
    network = CompiledNetwork(layers, activation, lanes)
    assert compute(network, np.array([x]), 1)[0] == pytest.approx(expected, rel=3e-7)


@compiled
@pytest.mark.parametrize('lanes', VARIANTS)
@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_activations_are_exact_to_a_few_units_in_the_last_place(lanes, activation):
    width = 200
    one = np.vstack([np.eye(width), np.zeros(width)]).astype(np.float32)
    network = CompiledNetwork([one, one], activation, lanes)
    rng = np.random.default_rng(0)
    sizes = (1e-38, 1e-20, 1e-6, 1e-3, 0.1, 0.3466, 1.0, 10.0, 87.5, 1e4, 3e38)
    for size in sizes:
        for x in (size * rng.uniform(-1, 1, (50, width))).astype(np.float32):
            got, exact = compute(network, x, width), FUNCTIONS[activation](x.astype(np.float64))
            units = np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32))
            assert units.max() <= ULP[activation], x[units.argmax()]


@compiled
@pytest.mark.parametrize('lanes', VARIANTS)
@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@given(shapes, st.sampled_from(ACTIVATIONS), seeds)
def test_what_is_not_finite_stays_visible_as_in_numpy(lanes, bad, widths, activation, seed):
    rng = np.random.default_rng(seed)
    layers = make_layers(widths, seed)
    observation = rng.standard_normal(widths[0])
    observation[rng.integers(widths[0])] = bad
    out = compute(CompiledNetwork(layers, activation, lanes), observation, widths[-1])
    with np.errstate(invalid='ignore'):
        expected = compute(Network(layers, activation), observation, widths[-1])
    if np.isnan(bad):
        assert np.isnan(out).all()
    np.testing.assert_array_equal(np.isnan(out), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(out), np.isinf(expected))
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


@compiled
@given(shapes, st.sampled_from(ACTIVATIONS), seeds)
def test_equal_inputs_give_equal_bits(widths, activation, seed):
    layers = make_layers(widths, seed)
    first, second = CompiledNetwork(layers, activation), CompiledNetwork(layers, activation)
    observation = np.random.default_rng(seed).standard_normal(widths[0])
    expected = compute(first, observation, widths[-1]).tobytes()
    compute(first, np.full(widths[0], np.nan), widths[-1])  # leaves nothing behind
    assert compute(first, observation, widths[-1]).tobytes() == expected
    assert compute(second, observation, widths[-1]).tobytes() == expected


@pytest.mark.parametrize('by_kernel', [pytest.param(True, marks=compiled), False])
def test_a_runtime_shares_no_memory_with_its_caller(by_kernel):
    loaded, manifest = load_policy(share_path('policies', 'walk'))
    tensors = {name: value.copy() for name, value in loaded.items()}
    runtime = PolicyRuntime(tensors, manifest, compiled=by_kernel)
    observation = np.linspace(-1, 1, manifest.observation_size).astype(np.float32)
    seen, out = observation.copy(), np.empty(8, dtype=np.float32)
    action, value = runtime.act(observation), runtime.value(observation)
    kept = action.copy()
    assert (action.dtype, action.shape, type(value)) == (np.float32, (8,), float)
    for value_of in tensors.values():
        value_of[...] = 0.0
    assert runtime.act(-observation, out) is out
    assert not np.array_equal(out, kept)
    np.testing.assert_array_equal(action, kept)
    np.testing.assert_array_equal(observation, seen)
    np.testing.assert_array_equal(runtime.act(observation), kept)
    assert runtime.value(observation) == value


@compiled
def test_kernel_and_numpy_agree_on_the_shipped_policy():
    folder = share_path('policies', 'walk')
    fast, slow = (PolicyRuntime.load(folder, compiled=choice) for choice in (True, False))
    observations = np.random.default_rng(0).standard_normal((200, fast.manifest.observation_size))
    for observation, action in zip(observations, fast.act_many(observations), strict=True):
        np.testing.assert_allclose(fast.act(observation), action, atol=2e-5)
        np.testing.assert_allclose(slow.act(observation), action, atol=2e-5)
        assert fast.value(observation) == pytest.approx(slow.value(observation), abs=1e-3)


@compiled
def test_runtimes_of_two_threads_do_not_meet():
    """As when a worker makes and warms the next policy while the last one walks."""
    tensors, manifest = load_policy(share_path('policies', 'walk'))
    halved = {name: value * np.float32(0.5) for name, value in tensors.items()}
    observations = np.random.default_rng(0).standard_normal((500, manifest.observation_size))

    def walk(given):
        return [PolicyRuntime(given, manifest).act(row).tobytes() for row in observations]

    alone = [walk(tensors), walk(halved)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(walk, (tensors, halved))) == alone


@compiled
def test_numpy_can_be_asked_for(monkeypatch, capsys):
    folder = share_path('policies', 'walk')
    monkeypatch.delenv(kernel.VARIABLE, raising=False)
    assert PolicyRuntime.load(folder).compiled
    main(['doctor'])
    assert f'ok, compiled, {VARIANTS[-1]} lanes' in capsys.readouterr().out
    monkeypatch.setenv(kernel.VARIABLE, 'numpy')
    assert not PolicyRuntime.load(folder).compiled
    main(['doctor'])
    assert 'numpy, as LEBOT_KERNEL says' in capsys.readouterr().out
    monkeypatch.setenv(kernel.VARIABLE, 'fast')
    with pytest.raises(ValueError, match="LEBOT_KERNEL is 'fast'; choices are 'numpy'"):
        PolicyRuntime.load(folder)


def test_without_a_library_numpy_serves(monkeypatch, tmp_path):
    """Nothing there; no library at all; of another make: none is taken, none is an error."""
    monkeypatch.delenv(kernel.VARIABLE, raising=False)
    monkeypatch.setattr(kernel, '__file__', str(tmp_path / 'kernel.py'))
    find = kernel.library.__wrapped__
    assert find() is None
    (tmp_path / '_kernel.text.so').write_text('not a library')
    shutil.copy(_ctypes.__file__, tmp_path / '_kernel.other.so')
    assert find() is None
    monkeypatch.setattr(kernel, 'library', find)
    assert kernel.variants() == []
    assert 'not built' in kernel.describe()
    assert not PolicyRuntime.load(share_path('policies', 'walk')).compiled
    with pytest.raises(RuntimeError, match='it was not built'):
        CompiledNetwork(make_layers((3, 2), 0), 'elu')


def build(folder, **environment):
    done = subprocess.run(
        [sys.executable, 'setup.py', 'build_ext', '--build-lib', folder, '--build-temp', folder],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr, list(folder.rglob('_kernel*.so'))


def test_no_compiler_is_no_obstacle(tmp_path):
    said, found = build(tmp_path, CC='/bin/false')
    assert 'building extension "lebot_rl_ros.policy._kernel" failed' in said
    assert found == []


@pytest.mark.skipif(
    not shutil.which((sysconfig.get_config_var('CC') or 'cc').split()[0]), reason='no C compiler'
)
def test_a_compiler_builds_what_is_found(tmp_path, monkeypatch):
    _, (path,) = build(tmp_path, CFLAGS='-Werror -Wextra')
    monkeypatch.setattr(kernel, '__file__', str(path.with_name('kernel.py')))
    assert Path(kernel.library.__wrapped__()._name) == path
