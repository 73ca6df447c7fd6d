"""Adapters on frozen networks, trained by any method."""

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.adapt import adapt, adapter_state
from lebot_rl_ros.learning.method import Box, Discrete
from lebot_rl_ros.learning.methods.ppo import PPOMethod, PPOMethodConfig
from lebot_rl_ros.learning.methods.ppo_paths import GeneralPath
from lebot_rl_ros.learning.registry import find
from lebot_rl_ros.policy.adapters import AdapterError, LoraConfig
from small_worlds import SmallWorld

torch.set_num_threads(1)
LAYERS = ('actor.0', 'actor.1', 'actor.2')
ON_POLICY = {'hidden': (8, 8)}
OFF_POLICY = {'hidden': (8, 8), 'learning_starts': 16, 'capacity': 500, 'batch': 16, 'steps': 64}
SETTINGS = {
    'ppo': {**ON_POLICY, 'horizon': 16, 'minibatch': 16, 'normalise_observations': True},
    'reinforce': ON_POLICY,
    'actor_critic': ON_POLICY,
    'ddpg': OFF_POLICY,
    'td3': OFF_POLICY,
}


class Target(SmallWorld):
    """Episodes of two steps; reward -|action - wanted(observation)|²."""

    def __init__(self, count, seed=0, turn=1.0, choices=0):
        self.rng, self.turn = np.random.default_rng(seed), turn
        self.x = np.zeros((count, 3), np.float32)
        wide = Box((3,), np.full(3, -np.inf), np.full(3, np.inf))
        actions = Discrete(choices) if choices else Box((2,), np.full(2, -2.0), np.full(2, 2.0))
        super().__init__(count, wide, actions, limit=2)

    def begin(self, which):
        self.x[which] = self.rng.uniform(-1.0, 1.0, (len(which), 3))

    def observe(self):
        return self.x.copy()

    def move(self, action):
        error = action - self.turn * self.x[:, :2]
        return -np.square(error).sum(axis=1), np.zeros(self.count, bool)


def build(name, world, seed=0, **more):
    cls, config = find(name)
    settings = config(**{**SETTINGS[name], **more})
    return cls(settings, world.observation_space, world.action_space, seed=seed)


def frozen(method):
    parameters = dict(method.network.named_parameters())
    trained = ('log_std', 'critic')
    if any(n.startswith('critic') and '.lora_' in n for n in parameters):
        trained = ('log_std',)
    return {
        n: p.detach().clone()
        for n, p in parameters.items()
        if '.lora_' not in n and not n.startswith(trained)
    }


def critic(method):
    parameters = method.network.named_parameters()
    return [p.detach().clone() for n, p in parameters if n.startswith('critic')]


@pytest.mark.parametrize('name', SETTINGS)
def test_only_the_adapter_changes(name):
    world = Target(8)
    base = build(name, world, seed=1)
    base.iterate(world)
    method = build(name, world, seed=2)
    adapt(method, base.state(), LoraConfig(r=2, target_modules=LAYERS))
    points = np.random.default_rng(3).normal(size=(50, 3)).astype(np.float32)
    # To the bit: B is zero. PPO's fast way sums in another order than torch's own.
    tolerance = 1e-6 if name == 'ppo' else 0.0
    np.testing.assert_allclose(method.act(points), base.act(points), rtol=0, atol=tolerance)
    held, before, expected = frozen(method), adapter_state(method), critic(method)
    assert {key.split('.')[0] for key in held} == {'actor'}
    for _ in range(3):
        method.iterate(world)
    for key, value in frozen(method).items():
        assert torch.equal(value, held[key]), key
        own = base.network.get_parameter(key).detach()
        assert torch.equal(value, own), key
    assert not any(map(torch.equal, critic(method), expected))  # it is trained whole
    after = adapter_state(method)
    assert set(after) == {f'{layer}.lora_{m}' for layer in LAYERS for m in 'AB'}
    assert all(np.any(after[key] != before[key]) for key in after)
    assert not np.array_equal(method.act(points), base.act(points))


def test_a_fresh_adapter_equals_the_base_to_the_bit_by_the_same_path():
    world = Target(8)
    base = build('ppo', world, seed=1)
    base.iterate(world)
    state = base.state()
    base.path = GeneralPath(base.network, base.discrete, 16)
    method = build('ppo', world, seed=2)
    adapt(method, state, LoraConfig(r=3))
    assert isinstance(method.path, GeneralPath)
    points = np.random.default_rng(3).normal(size=(50, 3)).astype(np.float32)
    assert np.array_equal(method.act(points), base.act(points))
    x = torch.from_numpy(points)
    for ours, theirs in zip(method.network(x), base.network(x), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('name', ['ppo', 'reinforce', 'actor_critic'])
def test_a_normaliser_belongs_to_the_base(name):
    world = Target(8)
    base, method = (build(name, world, seed, normalise_observations=True) for seed in (1, 2))
    base.iterate(world)
    adapt(method, base.state(), LoraConfig(r=1))
    method.iterate(world)
    assert base.network.normaliser.mean.abs().max() > 0.0
    for key, value in method.network.normaliser.state_dict().items():
        assert torch.equal(value, base.network.normaliser.state_dict()[key]), key


def test_a_base_brings_its_normaliser_along():
    world = Target(8)
    base, method = build('ppo', world, 1), build('ppo', world, 2, normalise_observations=False)
    base.iterate(world)
    points = np.random.default_rng(3).normal(size=(50, 3)).astype(np.float32)
    adapt(method, base.state(), LoraConfig(r=1))
    np.testing.assert_allclose(method.act(points), base.act(points), atol=1e-6)
    method.iterate(world)
    mean = method.network.normaliser.mean
    assert torch.equal(mean, base.network.normaliser.mean)
    assert mean.abs().max() > 0.0


@pytest.mark.parametrize('seed', range(3))
def test_an_adapter_learns_what_the_base_does_not_know(seed):
    """The base follows observations; the world then wants the opposite at half the size."""
    settings = {'horizon': 32, 'minibatch': 128, 'epochs': 8, 'initial_std': 0.5}
    world = Target(16, seed)
    base = build('ppo', world, seed, learning_rate=1e-2, **settings)
    for _ in range(12):
        base.iterate(world)
    points = np.random.default_rng(3).uniform(-1.0, 1.0, (200, 3)).astype(np.float32)

    def error(method, turn):
        return float(np.sqrt(np.square(method.act(points) - turn * points[:, :2]).mean()))

    assert error(base, 1.0) < 0.3
    method = build('ppo', world, seed + 10, learning_rate=1e-2, **settings)
    state = base.state()
    state['network.log_std'] = np.full(2, np.log(0.5), np.float32)  # it stays, so it must explore
    adapt(method, state, LoraConfig(r=4, lora_alpha=8.0))
    world = Target(16, seed, turn=-0.5)
    for _ in range(10):
        method.iterate(world)
    assert error(base, -0.5) > 0.7
    assert error(method, -0.5) < 0.25


def test_an_adapter_merged_by_hand_acts_as_the_method_does():
    world = Target(8)
    base, method = build('ppo', world, seed=1), build('ppo', world, seed=2)
    config = LoraConfig(r=2, lora_alpha=6.0, bias='lora_only')
    adapt(method, base.state(), config)
    for _ in range(3):
        method.iterate(world)
    tensors = adapter_state(method)
    assert 'actor.0.bias' in tensors
    plain = build('ppo', world, seed=3)
    weights = base.network.tensors()
    for name in {key.rsplit('.', 1)[0] for key in tensors}:
        delta = tensors[f'{name}.lora_B'] @ tensors[f'{name}.lora_A']
        weights[f'{name}.weight'] = weights[f'{name}.weight'] + 3.0 * delta
        weights[f'{name}.bias'] = tensors[f'{name}.bias']
    plain.network.load_tensors(weights)
    points = np.random.default_rng(3).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_allclose(method.act(points), plain.act(points), atol=1e-5)


@pytest.mark.parametrize('settings', [{'state_dependent': True}, {'shared': True}])
def test_whatever_the_network_is(settings):
    world = Target(8)
    base, method = (build('ppo', world, seed, **settings) for seed in (1, 2))
    adapt(method, base.state(), LoraConfig(r=1, target_modules=('actor.0', 'critic.0')))
    held = frozen(method)
    method.iterate(world)
    for key, value in frozen(method).items():
        assert torch.equal(value, held[key]), key


def test_choices_are_adapted_too():
    class Choice(Target):
        def move(self, action):
            return (action == (self.x[:, 0] > 0.0)).astype(float), np.zeros(self.count, bool)

    world = Choice(8, choices=2)
    base, method = build('ppo', world, 1), build('ppo', world, 2)
    adapt(method, base.state(), LoraConfig(r=1, target_modules=LAYERS))
    held = frozen(method)
    method.iterate(world)
    for key, value in frozen(method).items():
        assert torch.equal(value, held[key]), key
    assert np.any(adapter_state(method)['actor.2.lora_B'] != 0.0)


def test_weights_alone_are_a_base_and_a_state_goes_on():
    world = Target(8)
    base, method, resumed = (build('ppo', world, seed) for seed in (1, 2, 3))
    config = LoraConfig(r=2)
    adapt(method, base.network.tensors(), config)
    method.iterate(world)
    adapt(resumed, base.state(), config)
    resumed.load_state(method.state())
    points = np.zeros((3, 3), np.float32)
    assert np.array_equal(method.act(points), resumed.act(points))
    for name, value in adapter_state(method).items():
        assert np.array_equal(value, adapter_state(resumed)[name])


def test_what_cannot_be_adapted_is_refused():
    world = Target(4)
    base, method = build('ppo', world, 1), build('ppo', world, 2)
    with pytest.raises(AdapterError, match=r'no layer actor\.9; choices are actor\.0'):
        adapt(method, base.state(), LoraConfig(target_modules=('actor.9',)))
    with pytest.raises(ValueError, match='has shape'):
        adapt(build('ppo', world, 2, hidden=(4, 4)), base.state(), LoraConfig())
    adapt(method, base.state(), LoraConfig())
    with pytest.raises(ValueError, match='has an adapter already'):
        adapt(method, base.state(), LoraConfig())
    with pytest.raises(AdapterError, match='unknown adapter'):
        adapter_state(base)
    cls, config = find('q_learning')
    table = cls(config(), Discrete(3), Discrete(2))
    with pytest.raises(ValueError, match='q_learning learns no network'):
        adapt(table, {}, LoraConfig())


def test_ppo_method_is_what_the_registry_finds():
    assert find('ppo') == (PPOMethod, PPOMethodConfig)
