"""Feature extractors and the actor-critic that learns its own features."""

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.method import Box, Discrete
from lebot_rl_ros.learning.modules import (
    FeatureActorCritic,
    Flatten,
    ImageFeatures,
    OneHot,
    VectorFeatures,
    as_input,
    is_vector,
    last_hidden,
    make_extractor,
)
from lebot_rl_ros.policy.networks import MLP

torch.set_num_threads(1)


def box(*shape, dtype='float32'):
    return Box(shape, np.zeros(shape), np.ones(shape), dtype)


@pytest.mark.parametrize(
    ('space', 'expected'),
    [
        (box(3), Flatten),
        (box(2, 3), Flatten),
        (Discrete(4), OneHot),
        (box(40, 40, 3, dtype='uint8'), ImageFeatures),
        (box(40, 40, 3), Flatten),  # numbers of that shape need not be a picture
    ],
)
def test_the_usual_extractor_of_a_space(space, expected):
    assert type(make_extractor(None, space)) is expected


def test_extractors_by_name_and_of_ones_own():
    assert isinstance(make_extractor('vector', box(3)), VectorFeatures)
    assert make_extractor(lambda space: VectorFeatures(space, (5,)), box(3)).size == 5
    with pytest.raises(ValueError, match="no extractor 'eye'; choices are flatten, one_hot"):
        make_extractor('eye', box(3))


def test_flatten_and_one_hot_by_hand():
    x = torch.arange(12).view(2, 2, 3)
    flat = Flatten(box(2, 3))
    assert flat.size == 6
    assert flat(x).tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]]
    assert OneHot(Discrete(3))(torch.tensor([2, 0])).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_vector_features_are_rectified():
    torch.manual_seed(0)
    found = VectorFeatures(box(4))(torch.randn(50, 4))
    assert found.shape == (50, 64)
    assert found.min() == 0.0
    assert found.max() > 0.0


def test_pictures_of_either_layout_and_of_bytes_or_numbers_are_one():
    torch.manual_seed(0)
    last = ImageFeatures(box(42, 38, 3, dtype='uint8'), features=16)
    first = ImageFeatures(box(3, 42, 38, dtype='uint8'), features=16)
    assert last.channels_last
    assert not first.channels_last
    first.load_state_dict(last.state_dict())
    picture = torch.randint(256, (2, 42, 38, 3), dtype=torch.uint8)
    found = last(picture)
    assert found.shape == (2, 16)
    torch.testing.assert_close(first(picture.movedim(-1, 1)), found)
    torch.testing.assert_close(last(picture.float() / 255.0), found)
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize(
    ('build', 'space', 'message'),
    [
        (Flatten, Discrete(3), 'flatten needs observations of a Box'),
        (OneHot, box(3), 'one_hot needs discrete'),
        (ImageFeatures, box(40, 40), r'pictures \(H, W, C\)'),
        (ImageFeatures, box(35, 40, 3), '36 x 36 or more'),
    ],
)
def test_what_an_extractor_cannot_take_is_refused(build, space, message):
    with pytest.raises(ValueError, match=message):
        build(space)


def test_the_smallest_picture_fits():
    assert ImageFeatures(box(36, 36, 1))(torch.zeros(1, 36, 36, 1)).shape == (1, 512)


def test_inputs_keep_what_a_network_needs():
    assert as_input(np.zeros(2)).dtype == torch.float32
    assert as_input(np.zeros(2, np.uint8)).dtype == torch.uint8
    assert as_input(np.zeros(2, np.int64)).dtype == torch.int64
    assert is_vector(box(3))
    assert not is_vector(box(3, 3))
    assert not is_vector(box(3, dtype='uint8'))
    assert not is_vector(Discrete(3))


def test_the_last_layer_sees_the_last_hidden_one():
    torch.manual_seed(0)
    network, x = MLP([3, 5, 4, 2], 'elu', 1.0), torch.randn(6, 3)
    hidden = last_hidden(network, x)
    assert hidden.shape == (6, 4)
    torch.testing.assert_close(network[-1](hidden), network(x))


def gradients(network, which):
    network.zero_grad()
    network(torch.randn(6, 3))[which].sum().backward()
    return {name for name, p in network.named_parameters() if p.grad is not None}


def test_actor_and_critic_share_what_they_are_told_to_share():
    torch.manual_seed(0)
    apart = FeatureActorCritic(box(3), 2, (8,), 'tanh', 1.0, extractor='vector')
    shared = FeatureActorCritic(box(3), 2, (8,), 'tanh', 1.0, extractor='vector', shared=True)
    assert not gradients(apart, 0) & gradients(apart, 1)
    common = gradients(shared, 0) & gradients(shared, 1)
    assert {name.split('.')[0] for name in common} == {'extractor', 'trunk'}
    assert [tuple(layer.weight.shape) for layer in shared.actor] == [(2, 8)]
    mean, value = shared(torch.randn(6, 3))
    assert mean.shape == (6, 2)
    assert value.shape == (6,)


def test_shared_features_are_computed_once():
    network = FeatureActorCritic(box(3), 2, (8,), 'tanh', 1.0, extractor='vector', shared=True)
    x = torch.randn(4, 3)
    features = network.features(x)
    assert network.critic_features(x, features) is features
    torch.testing.assert_close(network.critic_features(x), features)
