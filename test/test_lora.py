"""LoRA layers in torch: numbers by hand, bits of the base, gradients, mixing, what is refused."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lebot_rl_ros.policy.adapters import AdapterError, LoraConfig
from lebot_rl_ros.policy.lora import (
    adapter_names,
    adapter_tensors,
    add_adapter,
    load_adapter_tensors,
    merge,
    remove_adapters,
    set_weights,
    trainable_report,
    unmerge,
)
from lebot_rl_ros.policy.networks import ActorCritic

ALL = LoraConfig().target_modules


class Eye(nn.Module):
    """A little of everything that vision will bring."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4, bias=False)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.q, self.k, self.v = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, 2)

    def forward(self, image):
        x = self.depthwise(torch.relu(self.conv(image))).flatten(2).transpose(1, 2)
        x = x + self.attn(x, x, x, need_weights=False)[0]
        x = nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.head(nn.functional.scaled_dot_product_attention(q, k, v).mean(1))


EYE = ('conv', 'depthwise', 'attn', 'q', 'k', 'v', 'qkv', 'head')


def make(kind, seed=0):
    torch.manual_seed(seed)
    network = Eye() if kind == 'eye' else ActorCritic(5, 2, (16, 8))
    inputs = torch.randn(6, 3, 8, 8) if kind == 'eye' else torch.randn(50, 5)
    return network.eval(), inputs


def targets(kind):
    return EYE if kind == 'eye' else ALL


def stir(network, name, seed=1, scale=0.3):
    """Random numbers in every tensor of an adapter."""
    rng = np.random.default_rng(seed)
    tensors = {
        key: (value + scale * rng.normal(size=value.shape)).astype(np.float32)
        for key, value in adapter_tensors(network, name).items()
    }
    load_adapter_tensors(network, name, tensors)
    return tensors


def outputs(network, x):
    with torch.no_grad():
        y = network(x)
    return torch.cat(
        [part.reshape(len(x), -1) for part in (y if isinstance(y, tuple) else (y,))], 1
    )


def bits(tensor):
    return tensor.detach().numpy().tobytes()


def plain_state(network):
    return {
        name: bits(value) for name, value in network.state_dict().items() if 'lora_' not in name
    }


@pytest.fixture
def two_by_two():
    """W = [[1, 2], [3, 4]], b = [1, -1], A = [1, -1], B = [2, 3]', alpha 4: B A = [2 -2; 3 -3]."""
    network = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        network[0].bias.copy_(torch.tensor([1.0, -1.0]))
    add_adapter(network, 'a', LoraConfig(r=1, lora_alpha=4.0, target_modules=('0',)))
    ab = {'0.lora_A': np.array([[1.0, -1.0]]), '0.lora_B': np.array([[2.0], [3.0]])}
    load_adapter_tensors(network, 'a', ab)
    return network


def test_numbers_by_hand(two_by_two):
    # x = (1, 0.5): base (1 + 1 + 1, 3 + 2 - 1) = (3, 4); A x = 0.5, 4 B A x = (4, 6).
    x = torch.tensor([[1.0, 0.5]])
    assert two_by_two(x).tolist() == [[7.0, 10.0]]
    assert two_by_two[0].weight.tolist() == [[9.0, -6.0], [15.0, -8.0]]
    set_weights(two_by_two, {'a': -0.5})
    assert two_by_two(x).tolist() == [[1.0, 1.0]]


def test_gradients_by_hand(two_by_two):
    # loss = y0 with x = (1, 0.5): dA = 4 B0 x = (8, 4), dB = 4 A x for row 0 = (2, 0).
    two_by_two(torch.tensor([[1.0, 0.5]]))[0, 0].backward()
    part = two_by_two[0].lora_a
    assert part.lora_A.grad.tolist() == [[8.0, 4.0]]
    assert part.lora_B.grad.tolist() == [[2.0], [0.0]]


@pytest.mark.parametrize('kind', ['walker', 'eye'])
@pytest.mark.parametrize('bias', ['none', 'lora_only'])
def test_a_fresh_adapter_and_a_removed_one_leave_every_bit(kind, bias):
    network, x = make(kind)
    network.requires_grad_(False)  # torch's attention takes another kernel where all is frozen
    before, state = bits(outputs(network, x)), plain_state(network)
    kinds = [type(module) for module in network.modules()]
    for name in ('one', 'two'):
        add_adapter(network, name, LoraConfig(r=3, target_modules=targets(kind), bias=bias))
    assert adapter_names(network) == ['one', 'two']
    assert bits(outputs(network, x)) == before
    assert plain_state(network) == state
    stir(network, 'one')
    assert bits(outputs(network, x)) != before
    set_weights(network, {'one': 0.0})
    assert bits(outputs(network, x)) == before
    set_weights(network, {'one': 1.0})
    merge(network)
    assert plain_state(network) != state
    unmerge(network)
    assert plain_state(network) == state
    merge(network)
    remove_adapters(network)
    assert {name: bits(value) for name, value in network.state_dict().items()} == state
    assert [type(module) for module in network.modules()] == kinds
    assert bits(outputs(network, x)) == before


@pytest.mark.parametrize('kind', ['walker', 'eye'])
@pytest.mark.parametrize('rslora', [False, True])
def test_adapted_is_what_torch_gives_with_weights_merged_by_hand(kind, rslora):
    network, x = make(kind)
    plain = copy.deepcopy(network)
    config = LoraConfig(4, 6.0, targets(kind), rslora, bias='lora_only')
    add_adapter(network, 'a', config)
    tensors = {key: torch.from_numpy(value) for key, value in stir(network, 'a').items()}
    scale = 6.0 / 2.0 if rslora else 6.0 / 4.0
    state = plain.state_dict()
    for key, a in tensors.items():
        layer, _, what = key.rpartition('.')
        joint = 'in_proj_' if layer == 'attn' else ''
        name = f'{layer}.{joint}weight'
        if what == 'lora_A':
            delta = torch.einsum('or,ri->oi', tensors[f'{layer}.lora_B'].flatten(1), a.flatten(1))
            state[name] = state[name] + scale * delta.reshape(state[name].shape)
        elif what == 'bias':
            state[f'{layer}.{joint}bias'] = a
    plain.load_state_dict(state)
    live = outputs(network, x)
    torch.testing.assert_close(live, outputs(plain, x), rtol=1e-5, atol=1e-5)
    merge(network)
    merge(network)  # again changes nothing
    assert bits(outputs(network, x)) == bits(live)


@pytest.mark.parametrize('kind', ['walker', 'eye'])
def test_gradients_reach_adapters_only(kind):
    network, x = make(kind)
    add_adapter(network, 'a', LoraConfig(target_modules=targets(kind), bias='lora_only'))
    stir(network, 'a')
    network.train()
    y = network(x)
    sum(part.square().sum() for part in (y if isinstance(y, tuple) else (y,))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == ('lora_a' in name)
        assert (parameter.grad is not None and bool(parameter.grad.any())) == ('lora_a' in name)


def test_training_moves_adapters_and_not_one_bit_of_the_base():
    network, x = make('walker')
    add_adapter(network, 'a', LoraConfig(target_modules=('actor.0', 'actor.1', 'actor.2')))
    state, goal = plain_state(network), torch.ones(50, 2)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=0.03)
    losses = []
    for _ in range(100):
        loss = (network(x)[0] - goal).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert plain_state(network) == state


@given(st.floats(-2, 2), st.floats(-2, 2), st.booleans())
def test_mixing_is_linear_in_the_weights(first, second, biased):
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(5, 3)), torch.randn(20, 5)
    bias = 'lora_only' if biased else 'none'
    base = outputs(network, x)
    for seed, name in enumerate(('one', 'two')):
        add_adapter(network, name, LoraConfig(r=seed + 1, target_modules=('0',), bias=bias))
        stir(network, name, seed)
    changes = []
    for weights in ({'one': 1, 'two': 0}, {'one': 0, 'two': 1}, {'one': first, 'two': second}):
        set_weights(network, weights)
        changes.append(outputs(network, x) - base)
    mixed = first * changes[0] + second * changes[1]
    torch.testing.assert_close(changes[2], mixed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('value', [np.inf, np.nan])
def test_an_adapter_that_is_off_does_no_harm_whatever_it_holds(two_by_two, value):
    tensors = adapter_tensors(two_by_two, 'a')
    load_adapter_tensors(two_by_two, 'a', {key: old * value for key, old in tensors.items()})
    set_weights(two_by_two, {'a': 0.0})
    assert two_by_two(torch.tensor([[1.0, 0.5]])).tolist() == [[3.0, 4.0]]
    merge(two_by_two)
    assert two_by_two[0].weight.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@given(st.integers(1, 9), st.floats(0.1, 64), st.booleans())
def test_scale_is_alpha_over_r_or_over_its_root(r, alpha, rslora):
    network = nn.Sequential(nn.Linear(4, 3, bias=False))
    add_adapter(network, 'a', LoraConfig(r, alpha, ('0',), rslora))
    base = network.state_dict()['0.weight'].clone()
    ones = {'0.lora_A': np.ones((r, 4), np.float32), '0.lora_B': np.ones((3, r), np.float32)}
    load_adapter_tensors(network, 'a', ones)
    expected = base + (alpha * r**0.5 if rslora else alpha)  # B A is r everywhere
    torch.testing.assert_close(network[0].weight, expected)


@pytest.mark.parametrize('layer', [nn.Linear(400, 3), nn.Conv2d(400, 3, 1)])
def test_dropout_works_on_the_input_of_the_adapter_and_in_training_only(layer):
    network = nn.Sequential(layer).train()
    x = torch.ones(200, 400, *[1] * (layer.weight.dim() - 2))
    base = outputs(network, x)
    add_adapter(network, 'a', LoraConfig(1, 1.0, ('0',), lora_dropout=0.25))
    assert bits(outputs(network, x)) == bits(base)  # B is zero, whatever is dropped
    shapes = {key: value.shape for key, value in adapter_tensors(network, 'a').items()}
    load_adapter_tensors(
        network, 'a', {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
    )
    network.eval()
    torch.testing.assert_close(outputs(network, x) - base, torch.full((200, 3), 400.0))
    torch.testing.assert_close(layer.weight, network.state_dict()['0.weight'] + 1.0)
    network.train()
    torch.manual_seed(0)
    change = outputs(network, x) - base
    # Each of 400 inputs is 0 or 1 / 0.75: mean 400, standard deviation sqrt(400 / 3) = 11.5.
    assert abs(float(change[:, 0].mean()) - 400.0) < 4.0
    assert 9.0 < float(change[:, 0].std()) < 14.0
    network(x).sum().backward()
    assert bool(network[0].lora_a.lora_A.grad.any())
    merge(network)
    torch.testing.assert_close(outputs(network, x) - base, torch.full((200, 3), 400.0))


def test_a_new_adapter_is_kaiming_uniform_as_in_peft():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(100, 7), nn.Conv2d(4, 5, 5))
    add_adapter(network, 'a', LoraConfig(r=50, target_modules=('0', '1')))
    for layer in network:
        a = layer.lora_a.lora_A.detach()
        assert a.shape == (50, *layer.weight.shape[1:])
        assert float(a.abs().max()) == pytest.approx(0.1, rel=0.01)  # 1 / sqrt(fan in), both 100
        assert float(a.std()) == pytest.approx(0.1 / 3**0.5, rel=0.05)
        assert not layer.lora_a.lora_B.any()


def test_report_counts_by_hand():
    network = ActorCritic(5, 2, (16, 8))
    base = (5 * 16 + 16) + (16 * 8 + 8) + (8 * 2 + 2) + (5 * 16 + 16) + (16 * 8 + 8) + (8 + 1) + 2
    assert trainable_report(network).trainable == base
    add_adapter(network, 'a', LoraConfig(r=2, target_modules=('actor.0', 'actor.2')))
    report = trainable_report(network)
    assert report.trainable == 2 * (5 + 16) + 2 * (8 + 2) == 62
    assert report.total == base + 62 == 555
    assert report.share == pytest.approx(62 / 555)
    assert report.kilobytes == 0.248
    assert str(report) == '62 of 555 numbers are trained (11.17%), 0.2 kB'
    add_adapter(network, 'b', LoraConfig(r=1, target_modules=('actor.0',), bias='lora_only'))
    assert trainable_report(network).trainable == 62 + 21 + 16


def test_target_is_a_name_or_the_end_of_one():
    network, _ = make('walker')
    add_adapter(network, 'a', LoraConfig(r=1, target_modules=('0', 'critic.1')))
    layers = {key.rpartition('.')[0] for key in adapter_tensors(network, 'a')}
    assert layers == {'actor.0', 'critic.0', 'critic.1'}


def test_torch_code_that_reads_weights_sees_the_adapter():
    # In eval mode without gradients torch's encoder never calls its linears.
    torch.manual_seed(0)
    network = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)).eval()
    x = torch.randn(4, 3, 8)
    base = outputs(network, x)
    add_adapter(network, 'a', LoraConfig(target_modules=('linear1', 'linear2', 'self_attn')))
    stir(network, 'a')
    fast, slow = outputs(network, x), network(x).detach().reshape(4, -1)
    assert float((fast - base).abs().max()) > 0.1
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)


def test_a_shared_layer_and_a_copy_keep_working():
    layer = nn.Linear(3, 3)
    network = nn.Sequential(layer, nn.Tanh(), layer)
    add_adapter(network, 'a', LoraConfig(target_modules=('0',)))
    stir(network, 'a')
    x = torch.randn(5, 3)
    torch.testing.assert_close(network(x), layer(torch.tanh(layer(x))))
    other = copy.deepcopy(network)
    before = bits(network(x))
    stir(other, 'a', seed=7)
    assert bits(other(x)) != bits(network(x)) == before


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (
            LoraConfig(target_modules=('actor.3',)),
            r'no layer actor\.3; choices are actor\.0, actor\.1, actor\.2, critic\.0',
        ),
        (LoraConfig(target_modules=('ctor.0',)), r'no layer ctor\.0'),
        (LoraConfig(target_modules=('actor',)), 'layer actor is of class MLP, which cannot be'),
        (LoraConfig(target_modules=('actor.0', 'normaliser')), 'is of class Normaliser'),
    ],
)
def test_unknown_targets_are_refused_and_nothing_changes(config, message):
    network, _ = make('walker')
    with pytest.raises(AdapterError, match=message):
        add_adapter(network, 'a', config)
    assert type(network.actor[0]) is nn.Linear
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_attention_cannot_do_is_refused():
    network, _ = make('eye')
    for target in ('attn', 'out_proj'):
        with pytest.raises(AdapterError, match=r'layer attn.* cannot have lora_dropout 0\.1'):
            add_adapter(network, 'a', LoraConfig(target_modules=(target,), lora_dropout=0.1))
    network.attn = nn.MultiheadAttention(8, 2, kdim=4, vdim=4)
    with pytest.raises(AdapterError, match='layer attn has keys or values of another size than 8'):
        add_adapter(network, 'a', LoraConfig(target_modules=('attn',)))


def test_names_are_refused_with_the_choices():
    network, _ = make('walker')
    with pytest.raises(AdapterError, match='unknown adapter turn; the network has none'):
        set_weights(network, {'turn': 1.0})
    for name in ('train', 'weight'):  # also the name of a method, and of a parameter
        add_adapter(network, name, LoraConfig())
    with pytest.raises(AdapterError, match='name train is taken; the network has train, weight'):
        add_adapter(network, 'train', LoraConfig())
    with pytest.raises(AdapterError, match=r"'a\.b' may have letters"):
        add_adapter(network, 'a.b', LoraConfig())
    calls = (
        lambda: set_weights(network, {'ice': 1.0}),
        lambda: remove_adapters(network, 'train', 'ice'),
        lambda: adapter_tensors(network, 'ice'),
        lambda: load_adapter_tensors(network, 'ice', {}),
    )
    for call in calls:
        with pytest.raises(AdapterError, match='adapter ice; the network has train, weight'):
            call()
    with pytest.raises(AdapterError, match='weight of adapter train is nan, must be finite'):
        set_weights(network, {'train': float('nan')})
    remove_adapters(network, 'train')
    assert adapter_names(network) == ['weight']


def test_a_merged_network_is_fixed(two_by_two):
    merge(two_by_two)
    calls = (
        lambda: set_weights(two_by_two, {'a': 0.5}),
        lambda: load_adapter_tensors(two_by_two, 'a', {}),
        lambda: add_adapter(two_by_two, 'b', LoraConfig(target_modules=('0',))),
    )
    for call in calls:
        with pytest.raises(AdapterError, match=r'layer 0 is merged.* unmerge first'):
            call()


def test_tensors_that_do_not_fit_are_refused_and_none_is_taken(two_by_two):
    good = adapter_tensors(two_by_two, 'a')
    with pytest.raises(AdapterError, match=r"missing tensors \['0\.lora_B'\], .* \['0\.bias'\]"):
        load_adapter_tensors(two_by_two, 'a', {'0.lora_A': good['0.lora_A'], '0.bias': np.ones(2)})
    bad = {'0.lora_A': np.zeros((1, 2)), '0.lora_B': np.zeros((2, 2))}
    with pytest.raises(AdapterError, match=r'0\.lora_B has shape \(2, 2\), expected \(2, 1\)'):
        load_adapter_tensors(two_by_two, 'a', bad)
    np.testing.assert_array_equal(adapter_tensors(two_by_two, 'a')['0.lora_A'], good['0.lora_A'])


def test_plain_weights_of_an_adapted_network_are_refused() -> None:
    network = ActorCritic(5, 2, (4,))
    add_adapter(network, 'turn', LoraConfig(target_modules=('actor.0',)))
    with pytest.raises(ValueError, match=r'carries adapters \(actor\.0\.lora_turn'):
        network.tensors()
    remove_adapters(network)
    assert set(network.tensors()) == set(ActorCritic(5, 2, (4,)).tensors())
