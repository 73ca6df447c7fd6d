"""A and B by hand: gradients, what changes and what does not, and a task learned with them."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.learning.base import share
from lebot_rl_ros.learning.checkpoint import load_checkpoint, save_checkpoint
from lebot_rl_ros.learning.ppo import PPO, Batch, PPOConfig, policy_gradients, value_gradients
from lebot_rl_ros.learning.train import TrainConfig, Trainer
from lebot_rl_ros.learning.weights import FullWeights, LoraWeights, adapted_layers
from lebot_rl_ros.policy.adapters import Adapter, AdapterError, AdapterManifest, LoraConfig, merge
from lebot_rl_ros.policy.networks import ActorCritic

torch.set_num_threads(1)
ALL = ('actor.0', 'actor.1', 'critic.0', 'critic.1')
ACTOR = ('actor.0', 'actor.1')
MANIFEST = AdapterManifest('x', 1, '', 'lebot', ())


def make_network(seed=0):
    torch.manual_seed(seed)
    return ActorCritic(5, 3, (8,), initial_std=0.4)


def make_batch(size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        observations=torch.randn(size, 5, generator=generator),
        actions=torch.randn(size, 3, generator=generator),
        log_probs=torch.randn(size, generator=generator) * 0.5 - 3.5,
        values=torch.randn(size, generator=generator),
        advantages=torch.randn(size, generator=generator),
        returns=torch.randn(size, generator=generator),
    )


def randomised(weights, seed=1):
    """Weights in which B is not zero, as after some training."""
    generator = torch.Generator().manual_seed(seed)
    weights.flat.data.add_(0.3 * torch.randn(weights.flat.shape, generator=generator))
    weights.scatter()
    return weights


def names_of(weights):
    """Where each part of the flat vector begins and ends."""
    start, slices = 0, {}
    for name, view in weights._views.items():
        slices[name] = slice(start, start + view.numel())
        start += view.numel()
    assert start == weights.flat.numel()
    return slices


CONFIGS = [
    LoraConfig(2, 3.0, ALL),
    LoraConfig(3, 1.0, ACTOR, use_rslora=True),
    LoraConfig(1, 2.0, ('actor.1', 'critic.0'), bias='lora_only'),
    LoraConfig(2, 2.0, ('0',), bias='lora_only'),
]


@pytest.mark.parametrize('config', CONFIGS)
def test_gradients_are_those_of_autograd_through_the_product(config):
    network = make_network()
    base = {name: value.detach().clone() for name, value in network.named_parameters()}
    weights = randomised(LoraWeights(network, config))
    leaf = {n: v.clone().requires_grad_() for n, v in weights._views.items()}
    batch, settings = make_batch(), PPOConfig(entropy_coefficient=0.01)

    def weight(layer):
        if f'{layer}.lora_A' in leaf:
            product = leaf[f'{layer}.lora_B'] @ leaf[f'{layer}.lora_A']
            return base[f'{layer}.weight'] + config.scaling * product
        return leaf.get(f'{layer}.weight', base[f'{layer}.weight'])

    def forward(net):
        x = batch.observations
        for i in range(2):
            bias = f'{net}.{i}.bias'
            x = x @ weight(f'{net}.{i}').t() + leaf.get(bias, base[bias])
            x = torch.nn.functional.elu(x) if i == 0 else x
        return x

    distribution = torch.distributions.Normal(forward('actor'), leaf['log_std'].exp())
    ratio = (distribution.log_prob(batch.actions).sum(1) - batch.log_probs).exp()
    clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
    loss = -torch.minimum(ratio * batch.advantages, clipped * batch.advantages).mean()
    loss = loss + 0.5 * (forward('critic')[:, 0] - batch.returns).square().mean()
    (loss - 0.01 * distribution.entropy().sum(1).mean()).backward()

    ppo = PPO(network, settings, weights)
    mean = ppo.actor.forward(batch.observations)
    d_mean, d_log_std, _ = policy_gradients(mean, network.log_std.detach(), batch, settings)
    ppo.actor.backward(d_mean)
    network.log_std.grad.copy_(d_log_std)
    d_value, _ = value_gradients(ppo.critic.forward(batch.observations), batch, settings)
    ppo.critic.backward(d_value)
    weights.gather()
    for name, part in names_of(weights).items():
        torch.testing.assert_close(
            weights.flat.grad[part].view_as(leaf[name]), leaf[name].grad, msg=name
        )


def test_one_entry_of_a_and_of_b_by_finite_differences():
    """In float64 numpy, so with nothing of the code under test but the layout of names."""
    network = make_network()
    weights = randomised(LoraWeights(network, LoraConfig(2, 3.0, ('actor.0',))))
    arrays = {name: value.astype(np.float64) for name, value in network.tensors().items()}
    views = {n: v.double().numpy() for n, v in weights._views.items()}
    base = arrays['actor.0.weight'] - 1.5 * views['actor.0.lora_B'] @ views['actor.0.lora_A']
    x, g = make_batch().observations.double().numpy(), make_batch().actions.double().numpy()

    def loss(a, b):
        hidden = x @ (base + 1.5 * b @ a).T + arrays['actor.0.bias']
        hidden = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))
        return np.sum(g * (hidden @ arrays['actor.1.weight'].T + arrays['actor.1.bias']))

    ppo = PPO(network, PPOConfig(), weights)
    ppo.actor.forward(torch.from_numpy(x).float())
    ppo.actor.backward(torch.from_numpy(g).float())
    weights.gather()
    slices = names_of(weights)
    for name, index in (('actor.0.lora_A', (1, 3)), ('actor.0.lora_B', (6, 0))):
        step = np.zeros_like(views[name])
        step[index] = 1e-6
        other = {**views, name: views[name] + step}, {**views, name: views[name] - step}
        up, down = (loss(v['actor.0.lora_A'], v['actor.0.lora_B']) for v in other)
        ours = weights.flat.grad[slices[name]].view(views[name].shape)[index]
        assert float(ours) == pytest.approx((up - down) / 2e-6, rel=1e-4)


@pytest.mark.parametrize('config', CONFIGS)
def test_fresh_weights_are_the_base_bit_for_bit(config):
    expected, network = make_network().tensors(), make_network()
    weights = LoraWeights(network, config)
    for _ in range(2):
        for name, value in network.tensors().items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
        weights.scatter()
    assert all(not v.any() for n, v in weights.tensors().items() if n.endswith('lora_B'))
    assert all(v.any() for n, v in weights.tensors().items() if n.endswith('lora_A'))


def test_a_is_drawn_within_kaimings_bound():
    # a = sqrt(5): gain sqrt(2 / 6), std gain / sqrt(in), bound sqrt(3) std = 1 / sqrt(in)
    a = LoraWeights(make_network(), LoraConfig(64, 1.0, ('actor.0',))).tensors()['actor.0.lora_A']
    assert np.abs(a).max() <= 5**-0.5
    assert np.abs(a).max() > 0.95 * 5**-0.5


def trained(config, epochs=3, **settings):
    network = make_network()
    weights = LoraWeights(network, config) if config else FullWeights(network)
    ppo = PPO(network, PPOConfig(epochs=epochs, minibatch=16, **settings), weights)
    ppo.update(make_batch(), np.random.default_rng(0))
    return network, weights


def changed(network):
    base = make_network().tensors()
    return {n for n, v in network.tensors().items() if not np.array_equal(v, base[n])}


CRITIC = {f'critic.{i}.{kind}' for i in (0, 1) for kind in ('weight', 'bias')}


def test_only_adapted_layers_change_and_what_the_training_needs():
    network, _ = trained(LoraConfig(2, 2.0, ('actor.0', 'critic.1')))
    assert changed(network) == {'actor.0.weight', 'critic.1.weight', 'log_std'}
    network, _ = trained(LoraConfig(2, 2.0, ('actor.0', 'critic.1'), bias='lora_only'))
    assert changed(network) == {
        'actor.0.weight', 'actor.0.bias', 'critic.1.weight', 'critic.1.bias', 'log_std',
    }  # fmt: skip
    network, _ = trained(LoraConfig(2, 2.0, ('actor.1',)))
    assert changed(network) == {'actor.1.weight', 'log_std'} | CRITIC
    network = make_network()
    weights = LoraWeights(network, LoraConfig(2, 2.0, ACTOR), train_log_std=False)
    PPO(network, PPOConfig(minibatch=16), weights).update(make_batch(), np.random.default_rng(0))
    assert changed(network) == {'actor.0.weight', 'actor.1.weight'} | CRITIC


@pytest.mark.parametrize('config', CONFIGS)
def test_the_adapter_merged_into_the_base_is_the_network(config):
    network, weights = trained(config)
    adapter = Adapter(config, weights.tensors(), MANIFEST)
    base = make_network().tensors()
    merged, actual = merge(base, [(adapter, 1.0)]), network.tensors()
    for layer in adapted_layers(network, config):
        assert not np.array_equal(actual[f'{layer}.weight'], base[f'{layer}.weight'])
        for name in (f'{layer}.weight', f'{layer}.bias'):
            np.testing.assert_allclose(merged[name], actual[name], atol=1e-6, rtol=0)
    # What the adapter does not hold must not have moved, or the robot would not have it.
    for name, value in actual.items():
        if name.startswith('actor.') and name.rpartition('.')[0] not in adapter.layers:
            np.testing.assert_array_equal(value, base[name])


@given(
    r=st.integers(1, 6), alpha=st.floats(0.1, 16.0), rslora=st.booleans(),
    bias=st.sampled_from(['none', 'lora_only']),
    targets=st.sets(st.sampled_from(ALL), min_size=1), seed=st.integers(0, 9),
)  # fmt: skip
def test_load_gives_back_what_tensors_took(r, alpha, rslora, bias, targets, seed):
    config = LoraConfig(r, alpha, tuple(sorted(targets)), rslora, bias)
    first, second = make_network(), make_network()
    weights = randomised(LoraWeights(first, config), seed)
    again = LoraWeights(second, config)
    again.load(weights.tensors())
    for name in (f'{layer}.{kind}' for layer in targets for kind in ('weight', 'bias')):
        np.testing.assert_array_equal(first.tensors()[name], second.tensors()[name])
    assert set(weights.tensors()) == {
        f'{layer}.{kind}' for layer in targets
        for kind in ('lora_A', 'lora_B', *(('bias',) if bias == 'lora_only' else ()))
    }  # fmt: skip


def test_gradients_are_clipped_as_one_vector_of_what_is_trained():
    """With SGD in Adam's place, a step is as long as the clipped gradient times the rate."""
    network = make_network()
    weights = LoraWeights(network, LoraConfig(2, 2.0, ALL))
    ppo = PPO(network, PPOConfig(epochs=1, minibatch=32, gradient_norm=0.01), weights)
    ppo.optimiser = torch.optim.SGD([weights.flat], lr=1.0)
    before = weights.flat.data.clone()
    ppo.update(make_batch(), np.random.default_rng(0))
    assert float((weights.flat.data - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_decay_shrinks_a_and_b_and_nothing_else():
    config = LoraConfig(2, 2.0, ACTOR, bias='lora_only')
    _, plain = trained(config, epochs=1, desired_kl=None)
    _, decayed = trained(config, epochs=1, desired_kl=None, weight_decay=20.0)
    first, second = plain.tensors(), decayed.tensors()
    # two steps at rate 1e-3: A is (1 - 0.02)² of what it was, and what Adam did to it
    ratio = np.abs(second['actor.0.lora_A']).sum() / np.abs(first['actor.0.lora_A']).sum()
    assert ratio == pytest.approx(0.98**2, abs=0.005)
    np.testing.assert_allclose(first['actor.0.bias'], second['actor.0.bias'], atol=1e-3)
    full = [trained(None, epochs=1, weight_decay=decay)[0].tensors() for decay in (0.0, 20.0)]
    for name, value in full[0].items():
        np.testing.assert_array_equal(value, full[1][name])


@pytest.mark.parametrize('config', [None, LoraConfig(2, 2.0, ALL), LoraConfig(2, 2.0, ACTOR)])
def test_critic_only_leaves_the_policy_as_it_is(config):
    network = make_network()
    weights = LoraWeights(network, config) if config else FullWeights(network)
    ppo = PPO(network, PPOConfig(minibatch=16, weight_decay=1.0), weights)
    before = weights.flat.data[: weights.policy_size].clone()
    metrics = ppo.update(make_batch(), np.random.default_rng(0), critic_only=True)
    moved = changed(network)
    assert moved
    assert all(name.startswith('critic.') for name in moved)
    assert torch.equal(weights.flat.data[: weights.policy_size], before)
    assert metrics['learning_rate'] == ppo.config.learning_rate


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'target_modules': ('actor.2',)}, r'target_modules has actor.2, .*; it has actor.0, '),
        ({'lora_dropout': 0.1}, 'lora_dropout is 0.1'),
    ],
)
def test_what_cannot_be_adapted_is_refused(change, message):
    with pytest.raises(AdapterError, match=message):
        LoraWeights(make_network(), replace(LoraConfig(2, 2.0, ALL), **change))


def test_an_adapter_of_another_rank_is_no_start():
    weights = LoraWeights(make_network(), LoraConfig(2, 2.0, ACTOR))
    other = LoraWeights(make_network(), LoraConfig(3, 2.0, ACTOR))
    with pytest.raises(AdapterError, match=r'\(3, 5\).*this one needs .*\(2, 5\)'):
        weights.load(other.tensors())


@dataclass
class Result:
    observation: np.ndarray
    final_observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    terms: dict


class Reach:
    """Observations are noise; the reward is for actions near a target that depends on them."""

    robots, action_size, observation_size = 32, 3, 5

    def __init__(self):
        self.seed(0)

    def seed(self, seed):
        self.rng = np.random.default_rng(seed)

    def reset(self):
        self.seen = self.rng.normal(size=(self.robots, 5)).astype(np.float32)
        return self.seen

    def stagger(self):
        pass

    def step(self, action):
        target = 0.5 * np.sign(self.seen[:, :1]) * np.array([1.0, -1.0, 0.5])
        reward = -np.square(action - target).sum(axis=1)
        ends = np.zeros(self.robots, dtype=bool)
        observation = self.reset()
        terms = {'reach': reward}
        return Result(observation, observation, reward, ends, ~ends, terms)


FAST = PPOConfig(minibatch=128, desired_kl=None, learning_rate=5e-3)
TRAIN = TrainConfig(steps=32 * 8 * 4, horizon=8, segment=2, ppo=FAST, seed=3)
LORA = LoraConfig(2, 4.0, ALL)
RUNS = {
    'nothing': (TRAIN, False),
    'full': (replace(TRAIN, start_std=0.3), True),
    'lora': (replace(TRAIN, lora=LORA, critic_warmup=2), True),
    'actor': (replace(TRAIN, lora=replace(LORA, target_modules=ACTOR, bias='lora_only')), True),
}


def make_trainer(config, with_base=True):
    base = make_network().tensors() | {'normaliser.var': np.full(5, 0.9, dtype=np.float32)}
    return Trainer([Reach()], config, base if with_base else None)


def finish(trainer, at_segment=None):
    for _ in trainer.run(at_segment):
        pass
    return trainer.network.tensors()


@pytest.mark.parametrize('run', RUNS)
def test_resumed_training_is_the_uninterrupted_one(run, tmp_path):
    config, with_base = RUNS[run]
    whole = make_trainer(config, with_base)
    expected = finish(whole)
    half = make_trainer(replace(config, steps=config.steps // 2), with_base)
    finish(half, lambda: save_checkpoint(half, tmp_path))
    resumed = make_trainer(config, with_base)
    load_checkpoint(resumed, tmp_path)
    assert (half.iteration, whole.iteration) == (2, 4)
    for name, value in finish(resumed).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    if config.lora:
        for name, value in resumed.adapter_tensors().items():
            np.testing.assert_array_equal(value, whole.adapter_tensors()[name], err_msg=name)


def test_checkpoint_of_another_base_or_rank_is_refused(tmp_path):
    config = RUNS['lora'][0]
    save_checkpoint(make_trainer(config), tmp_path)
    other = Trainer([Reach()], config, make_network(seed=1).tensors())
    with pytest.raises(ValueError, match='another training: base was'):
        load_checkpoint(other, tmp_path)
    with pytest.raises(ValueError, match=r"another training: lora was \{'r': 2"):
        load_checkpoint(make_trainer(replace(config, lora=replace(LORA, r=3))), tmp_path)


@pytest.mark.parametrize('run', ['full', 'lora'])
def test_the_base_gives_sizes_and_normaliser(run):
    trainer = make_trainer(RUNS[run][0])
    assert trainer.config.hidden == (8,)
    before = trainer.network.tensors()
    after = finish(trainer)
    for name in ('normaliser.mean', 'normaliser.var', 'normaliser.count'):
        np.testing.assert_array_equal(before[name], after[name])
    from_nothing = finish(make_trainer(TRAIN, with_base=False))
    assert from_nothing['normaliser.count'] == 1024


def test_start_std_takes_the_place_of_the_bases():
    start = make_trainer(RUNS['full'][0]).network.log_std.detach().exp()
    np.testing.assert_allclose(start, 0.3, rtol=1e-6)
    np.testing.assert_allclose(make_trainer(TRAIN).network.log_std.detach().exp(), 0.4, rtol=1e-6)


def test_the_warm_up_is_for_the_critic():
    trainer = make_trainer(RUNS['lora'][0])
    iterations, before = iter(trainer.run()), trainer.network.tensors()
    for warm in (True, True, False):
        next(iterations)
        now = trainer.network.tensors()
        assert np.array_equal(now['actor.1.weight'], before['actor.1.weight']) == warm
        assert not np.array_equal(now['critic.1.weight'], before['critic.1.weight'])
    # The optimiser began anew after it: 8 steps of 2 minibatches, not 24.
    assert float(trainer.ppo.optimiser.state[trainer.ppo.flat]['step']) == 8


def test_training_goes_on_from_an_adapter():
    first = make_trainer(RUNS['lora'][0])
    finish(first)
    again = Trainer([Reach()], RUNS['lora'][0], first.base, first.adapter_tensors())
    for name in ('actor.0.weight', 'critic.1.weight'):
        np.testing.assert_array_equal(again.network.tensors()[name], first.network.tensors()[name])


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (replace(TRAIN, lora=LORA), 'lora is LoraConfig.*needs a base'),
        (replace(TRAIN, start_std=0.3), 'start_std is 0.3, which needs a base'),
    ],
)
def test_what_needs_a_base_is_refused_without(config, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(config, with_base=False)


def test_a_base_of_another_task_is_refused():
    base = ActorCritic(6, 3, (8,)).tensors()
    with pytest.raises(ValueError, match='6 observations and 3 actions, the task has 5 and 3'):
        Trainer([Reach()], TRAIN, base)
    with pytest.raises(ValueError, match='has no adapter'):
        make_trainer(TRAIN).adapter_tensors()


def test_share_counts_by_hand():
    trainer = make_trainer(RUNS['lora'][0])
    # actor: 5x8+8 + 8x3+3 = 75, A and B of it 2(5+8) + 2(8+3) = 48
    # critic: 48 + 8+1 = 57, A and B of it 26 + 2(8+1) = 44
    assert trainer.share.numbers == 92
    assert trainer.share.of_actor == pytest.approx(48 / 75)
    assert trainer.share.of_all == pytest.approx(92 / 132)
    assert share({}, make_network().tensors()).of_all == 0.0


@pytest.mark.parametrize('run', ['full', 'lora', 'actor'])
def test_learns_a_known_answer(run):
    config = replace(RUNS[run][0], steps=32 * 8 * 60, segment=60)
    trainer = make_trainer(config)
    finish(trainer)
    first, last = trainer.history[0]['reward'], trainer.history[-1]['reward']
    noise = 3 * trainer.history[-1]['std'] ** 2  # what exploration alone costs
    assert first < -0.75  # (0.5² + 0.5² + 0.25²) and the noise
    assert last > -noise - 0.28  # half of what there is to gain, and more
