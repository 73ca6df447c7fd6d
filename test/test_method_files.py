"""Methods on disk, the state that they are made of, and configs from words."""

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.adapt import adapt
from lebot_rl_ros.learning.method import Box, Discrete
from lebot_rl_ros.learning.method_files import (
    describe,
    load_method,
    load_module_state,
    load_optimiser_state,
    load_rng_state,
    module_state,
    optimiser_state,
    read_method,
    rng_state,
    save_method,
    stored_place,
)
from lebot_rl_ros.learning.presets import PRESETS, preset
from lebot_rl_ros.learning.registry import METHODS, find
from lebot_rl_ros.learning.settings import config_from, describe_fields, parse_settings
from lebot_rl_ros.policy.adapters import LoraConfig

torch.set_num_threads(1)
SEEN = Box((3,), np.array([-1.0, -np.inf, 0.0], np.float32), np.full(3, np.inf, np.float32))
CHOICE = Discrete(2)
OBSERVATIONS = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)


def make(name='reinforce', action=CHOICE, **settings):
    cls, config = find(name)
    return cls(config_from(config, {'hidden': [8, 8], **settings}), SEEN, action, seed=5)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


def learn(net, optimiser, steps):
    rng = np.random.default_rng(1)
    for _ in range(steps):
        x = torch.from_numpy(rng.standard_normal((5, 3)).astype(np.float32))
        optimiser.zero_grad()
        net(x).square().sum().backward()
        optimiser.step()


@pytest.mark.parametrize(
    'build',
    [
        lambda p: torch.optim.Adam(p, lr=0.01),
        lambda p: torch.optim.AdamW([{'params': list(p), 'lr': 0.02}], lr=0.5),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.01),
        lambda p: torch.optim.RMSprop(p, lr=0.01),
    ],
    ids=['adam', 'adamw', 'momentum', 'sgd', 'rmsprop'],
)
def test_a_restored_optimiser_goes_on_to_the_same_bits(build):
    net = network()
    optimiser = build(net.parameters())
    learn(net, optimiser, 3)
    state = {**module_state(net), **optimiser_state(optimiser)}
    assert all(isinstance(array, np.ndarray) for array in state.values())
    other = network()
    again = build(other.parameters())
    again.param_groups[0]['lr'] = 123.0  # the rate that a method had adapted comes back
    load_module_state(other, state)
    load_optimiser_state(again, state)
    learn(net, optimiser, 3)
    learn(other, again, 3)
    for name, array in module_state(net).items():
        np.testing.assert_array_equal(array, module_state(other)[name], err_msg=name)


def test_states_are_copies():
    net = network()
    optimiser = torch.optim.Adam(net.parameters())
    learn(net, optimiser, 1)
    state = {**module_state(net, 'a'), **optimiser_state(optimiser, 'b.0')}
    kept = {name: array.copy() for name, array in state.items()}
    learn(net, optimiser, 2)
    for name, array in kept.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)
    assert not np.array_equal(module_state(net, 'a')['a.0.weight'], kept['a.0.weight'])
    assert {'a.0.weight', 'a.1.running_mean', 'b.0.lr', 'b.0.0.exp_avg', 'b.0.3.step'} <= set(kept)


def test_a_frozen_parameter_has_no_memory():
    net = network()
    net[0].weight.requires_grad_(False)
    optimiser = torch.optim.Adam(p for p in net.parameters() if p.requires_grad)
    learn(net, optimiser, 2)
    state = optimiser_state(optimiser)
    load_optimiser_state(torch.optim.Adam(list(net.parameters())[1:]), state)
    with pytest.raises(ValueError, match=r'optimiser\.2\.step belongs to none of 2 parameters'):
        load_optimiser_state(torch.optim.Adam(list(net.parameters())[2:]), state)


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        (lambda s: s.pop('network.0.bias'), 'network.0.bias is missing'),
        (
            lambda s: s.update({'network.0.bias': np.zeros(5, np.float32)}),
            r'network.0.bias has shape \(5,\), expected \(4,\)',
        ),
        (lambda s: s.update({'network.x': np.zeros(1)}), 'network.x is in the state, but not in'),
    ],
)
def test_a_module_refuses_what_does_not_fit_and_stays(change, complaint):
    net, other = network(), torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    state, before = module_state(net), module_state(other)
    change(state)
    with pytest.raises(ValueError, match=complaint):
        load_module_state(other, state)
    np.testing.assert_array_equal(
        module_state(other)['network.0.weight'], before['network.0.weight']
    )


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        (lambda s: s.pop('optimiser.lr'), 'optimiser.lr is None, expected 1 learning rates'),
        (lambda s: s.update({'optimiser.lr': np.ones(2)}), r'lr is \[1.0, 1.0\], expected 1'),
        (
            lambda s: s.update({'optimiser.0.exp_avg': np.zeros((2, 2))}),
            r'optimiser.0.exp_avg has shape \(2, 2\), expected \(4, 3\)',
        ),
    ],
)
def test_an_optimiser_refuses_what_does_not_fit(change, complaint):
    net = network()
    optimiser = torch.optim.Adam(net.parameters())
    learn(net, optimiser, 1)
    state = optimiser_state(optimiser)
    change(state)
    with pytest.raises(ValueError, match=complaint):
        load_optimiser_state(optimiser, state)


def test_random_draws_go_on():
    rng, other = np.random.default_rng(3), np.random.default_rng(4)
    rng.random(10)
    rng.integers(0, 5, dtype=np.uint32)  # half a word stays in the generator
    state = rng_state(rng)
    load_rng_state(other, state)
    assert rng.integers(0, 1000, 5, dtype=np.uint32).tolist() == (
        other.integers(0, 1000, 5, dtype=np.uint32).tolist()
    )
    assert state.dtype == np.uint8
    with pytest.raises(ValueError, match='random draws cannot be read'):
        load_rng_state(other, state[:-3])
    with pytest.raises(ValueError, match='random draws cannot be read'):
        load_rng_state(np.random.Generator(np.random.MT19937(0)), state)


@pytest.mark.parametrize('name', ['reinforce', 'actor_critic', 'ppo'])
def test_a_method_comes_back_as_it_was(tmp_path, name):
    box = Box((2,), np.full(2, -1.0, np.float32), np.full(2, 1.0, np.float32))
    for action in (CHOICE, box):
        method = make(name, action)
        method.rng.random(3)
        written = save_method(
            tmp_path / 'm', method, describe(method, 'Some-v0', 123, scores={'best_return': 1.5})
        )
        other, manifest = read_method(tmp_path / 'm')
        assert manifest == written
        assert (manifest.method, manifest.env, manifest.steps, manifest.seed) == (
            name, 'Some-v0', 123, 5,
        )  # fmt: skip
        assert (type(other), other.config) == (type(method), method.config)
        np.testing.assert_array_equal(other.act(OBSERVATIONS), method.act(OBSERVATIONS))
        state = other.state()
        for key, array in method.state().items():
            np.testing.assert_array_equal(array, state[key], err_msg=key)
        np.testing.assert_array_equal(other.observation_space.low, SEEN.low)


def test_an_adapted_method_comes_back(tmp_path):
    method = make('ppo')
    lora = LoraConfig(r=2, lora_alpha=4.0, target_modules=('actor.0', 'critic.1'))
    adapt(method, method.state(), lora)
    with torch.no_grad():
        for parameter in method.network.parameters():
            if parameter.requires_grad:
                parameter.fill_(0.5)
    table = {'r': 2, 'lora_alpha': 4.0, 'target_modules': ['actor.0', 'critic.1']}
    save_method(tmp_path, method, describe(method, 'Some-v0', 1, lora=table))
    other = load_method(tmp_path)
    np.testing.assert_array_equal(other.act(OBSERVATIONS), method.act(OBSERVATIONS))
    assert other.state().keys() == method.state().keys()
    assert sum(p.requires_grad for p in other.network.parameters()) == (
        sum(p.requires_grad for p in method.network.parameters())
    )


def test_another_state_may_be_written(tmp_path):
    method = make()
    best = {name: array.copy() for name, array in method.state().items()}
    before = method.act(OBSERVATIONS)
    with torch.no_grad():
        for parameter in method.network.parameters():
            parameter.add_(torch.randn(parameter.shape))
    save_method(tmp_path, method, describe(method, 'Some-v0', 1), best)
    np.testing.assert_array_equal(load_method(tmp_path).act(OBSERVATIONS), before)


def test_a_training_folder_has_the_method_in_it(tmp_path):
    method = make()
    save_method(tmp_path / 'run' / 'model', method, describe(method, 'Some-v0', 1))
    assert stored_place(tmp_path / 'run') == tmp_path / 'run' / 'model'
    np.testing.assert_array_equal(
        load_method(tmp_path / 'run').act(OBSERVATIONS), method.act(OBSERVATIONS)
    )
    assert stored_place(tmp_path) is None


def _edit(folder, **changes):
    path = folder / 'manifest.json'
    table = json.loads(path.read_text())
    table.update(changes)
    path.write_text(json.dumps({k: v for k, v in table.items() if v is not None}))


@pytest.mark.parametrize(
    ('changes', 'complaint'),
    [
        ({'kind': 'policy'}, 'is not the manifest of a method'),
        ({'schema': 7}, 'schema is 7, expected 1'),
        ({'extra': 1}, r"unknown keys \['extra'\], missing keys none"),
        ({'seed': None}, r"unknown keys none, missing keys \['seed'\]"),
        ({'method': 'alchemy'}, "no method 'alchemy'; choices are q_learning"),
        (
            {'config': {'colour': 'red'}},
            "ReinforceConfig has no field 'colour'; fields are learning_rate",
        ),
        ({'config': {'discount': 'high'}}, "discount of ReinforceConfig is 'high', must be float"),
        ({'config': {'hidden': [4]}}, r'model: network\.actor\.\S+ '),
        ({'action_space': {'kind': 'sphere'}}, "action_space is {'kind': 'sphere'}"),
        ({'sha256': '0' * 64}, 'is damaged or altered'),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path, changes, complaint):
    folder = tmp_path / 'model'
    method = make()
    save_method(folder, method, describe(method, 'Some-v0', 1))
    _edit(folder, **changes)
    with pytest.raises(ValueError, match=complaint):
        load_method(folder)


def test_a_damaged_or_missing_file_is_named(tmp_path):
    method = make()
    with pytest.raises(ValueError, match=r'manifest\.json cannot be read'):
        load_method(tmp_path)
    save_method(tmp_path, method, describe(method, 'Some-v0', 1))
    path = tmp_path / 'model.safetensors'
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'model\.safetensors is damaged or altered: sha256'):
        load_method(tmp_path)


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
    method = make()
    with torch.no_grad():
        method.network.actor[0].bias[1] = float('nan')
    with pytest.raises(ValueError, match=r'reinforce: network\.actor\.0\.bias has 1 values'):
        save_method(tmp_path / 'm', method, describe(method, 'Some-v0', 1))
    assert not (tmp_path / 'm').exists()


def test_writing_replaces_all_or_nothing(tmp_path, monkeypatch):
    method = make()
    save_method(tmp_path / 'm', method, describe(method, 'Some-v0', 1))
    before = {path.name: path.read_bytes() for path in (tmp_path / 'm').iterdir()}
    calls = []

    def full(path, content):
        calls.append(path.name)
        if len(calls) == 2:
            raise OSError('no space left')
        path.write_bytes(content)

    monkeypatch.setattr('lebot_rl_ros.policy.folders.write_file', full)
    with pytest.raises(OSError, match='no space left'):
        save_method(tmp_path / 'm', method, describe(method, 'Some-v0', 2))
    assert {path.name: path.read_bytes() for path in (tmp_path / 'm').iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ['m']


@dataclass(frozen=True)
class Settings:
    """One field of each kind."""

    steps: int = 10
    rate: float = 0.1
    schedule: str | float = 3e-4
    clip: float | None = None
    hidden: tuple[int, ...] = (64, 64)
    span: tuple[float, float] = (0.0, 1.0)
    shared: bool = False
    kind: Literal['a', 'b'] = 'a'
    name: str = 'x'
    layers: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ('word', 'value'),
    [
        ('steps=20', 20),
        ('steps=1e5', 100_000),
        ('rate=3', 3.0),
        ('rate=1e-3', 0.001),
        ('schedule=linear:3e-4:0', 'linear:3e-4:0'),
        ('schedule=0.5', 0.5),
        ('clip=none', None),
        ('clip=0.2', 0.2),
        ('hidden=32', (32,)),
        ('hidden=32,16', (32, 16)),
        ('hidden=[400, 300]', (400, 300)),
        ('span=0.1,2', (0.1, 2.0)),
        ('shared=true', True),
        ('shared=no', False),
        ('kind=b', 'b'),
        ('layers=actor.0, actor.1', ('actor.0', 'actor.1')),
        ('layers=0', ('0',)),
        ('name=none', 'none'),
        ('name=a,b', 'a,b'),
        ('name=7', '7'),
    ],
)
def test_words_become_values(word, value):
    (found,) = parse_settings(Settings, [word]).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ('word', 'complaint'),
    [
        ('steps', "'steps' is not KEY=VALUE; fields are steps: int = 10, rate: float = 0.1"),
        ('stepz=1', "Settings has no field 'stepz'; fields are steps: int = 10"),
        ('steps=1.5', "steps of Settings is '1.5', must be int; fields are"),
        ('steps=true', "steps of Settings is 'true', must be int"),
        ('rate=fast', "rate of Settings is 'fast', must be float"),
        ('rate=nan', "rate of Settings is 'nan', must be float"),
        ('hidden=a,b', "hidden of Settings is 'a,b', must be tuple"),
        ('span=1', "span of Settings is '1', must be tuple"),
        ('shared=maybe', "shared of Settings is 'maybe', must be bool"),
        ('kind=c', "kind of Settings is 'c', must be Literal"),
    ],
)
def test_words_that_do_not_fit(word, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_settings(Settings, [word])


def test_a_config_survives_json():
    config = Settings(hidden=(1, 2, 3), clip=0.5, kind='b', span=(2.0, 3.0))
    assert config_from(Settings, json.loads(json.dumps(config.__dict__))) == config


def test_every_method_has_fields_that_words_can_set():
    for name in METHODS:
        _, config = find(name)
        assert config_from(config, json.loads(json.dumps(config().__dict__))) == config(), name
        assert describe_fields(config)


@pytest.mark.parametrize('name', ['reinforce', 'actor_critic', 'grpo', 'dpo', 'maml', 'rl2'])
def test_a_spread_that_the_first_update_would_take_back_is_refused(name):
    _, config = find(name)
    for std in (0.05, 1.0):
        assert config(initial_std=std).initial_std == std
    for std in (0.04, 1.01, 0.0, -1.0, float('nan')):
        with pytest.raises(ValueError, match=rf'initial_std is {std}, must be from 0.05 to 1'):
            config(initial_std=std)


def test_every_preset_is_of_a_method_and_fits_its_config():
    for (name, env), settings in PRESETS.items():
        config_from(find(name)[1], settings.config)
        assert settings.steps >= 1, env
        assert settings.envs >= 1, env
    assert preset('ppo', 'Unknown-v0').config == {}
