"""PPO of any environment: gradients against autograd, known answers, and what it refuses."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lebot_rl_ros.learning.method import Box, Discrete
from lebot_rl_ros.learning.methods import ppo_paths
from lebot_rl_ros.learning.methods.ppo import PPOMethod, PPOMethodConfig
from lebot_rl_ros.learning.methods.ppo_losses import (
    Batch,
    Losses,
    clip_norm,
    normalised,
    surrogate_weight,
    value_gradient,
)
from lebot_rl_ros.learning.methods.ppo_paths import FastPath, GeneralPath
from lebot_rl_ros.learning.methods.ppo_update import update
from lebot_rl_ros.learning.modules import Extractor
from lebot_rl_ros.learning.reward_scale import RewardScale
from small_worlds import Regulator, SmallWorld, TableWorld, TimeOutChain, value_iteration

torch.set_num_threads(1)
ENDLESS = np.float32(np.inf)


def box(*shape, dtype='float32'):
    if dtype == 'uint8':
        return Box(shape, np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), dtype)
    return Box(shape, np.full(shape, -ENDLESS), np.full(shape, ENDLESS), dtype)


KINDS = {
    'choices': (Discrete(3), {}),
    'gaussian': (box(2), {}),
    'state-dependent': (box(2), {'state_dependent': True}),
}


def make(kind='gaussian', seed=0, size=5, **settings):
    actions, more = KINDS[kind]
    config = PPOMethodConfig(**{'hidden': (8, 7), 'minibatch': 64, **more, **settings})
    return PPOMethod(config, box(size), actions, seed=seed)


def make_batch(kind, size=64, seed=0, features=5):
    """Samples of which some ratios lie beyond the clip, on both sides and for both signs."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    choices = torch.randint(3, (size,), generator=generator)
    return Batch(
        observations=draw(size, features),
        actions=choices if kind == 'choices' else draw(size, 2),
        log_probs=draw(size) * 0.4 - {'choices': 1.1}.get(kind, 3.2),
        values=draw(size),
        advantages=draw(size),
        returns=draw(size),
    )


def textbook_distribution(method, kind, x):
    """The policy by torch's own distributions, with a graph."""
    network = method.network
    latent = x
    for layer in list(network.actor)[:-1]:
        latent = torch.tanh(layer(latent))
    outputs = network.actor[-1](latent)
    if kind == 'choices':
        return torch.distributions.Categorical(logits=outputs)
    std = network.log_std.exp()
    if kind == 'state-dependent':
        std = (latent.detach().square() @ std.square() + 1e-6).sqrt()
    return torch.distributions.Independent(torch.distributions.Normal(outputs, std), 1)


def textbook_loss(method, kind, batch, losses):
    """PPO's loss as the paper has it."""
    distribution = textbook_distribution(method, kind, batch.observations)
    ratio = (distribution.log_prob(batch.actions) - batch.log_probs).exp()
    clipped = ratio.clamp(1 - losses.clip, 1 + losses.clip)
    policy = -torch.minimum(ratio * batch.advantages, clipped * batch.advantages).mean()
    value = method.network.critic(batch.observations)[:, 0]
    loss = (value - batch.returns).square()
    if losses.value_clip is not None:
        near = batch.values + (value - batch.values).clamp(-losses.value_clip, losses.value_clip)
        loss = torch.maximum(loss, (near - batch.returns).square())
    entropy = distribution.entropy().mean()
    total = policy + losses.value_coefficient * loss.mean() - losses.entropy_coefficient * entropy
    told = torch.stack((policy, entropy, loss.mean()))
    share = ((ratio - 1).abs() > losses.clip).float().mean()
    return total, told.detach(), float(share)


def gradients(network):
    found = network.named_parameters()
    return {name: p.grad.clone() for name, p in found if p.requires_grad}


def flat(values):
    return torch.cat([value.flatten() for value in values.values()])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('value_clip', [None, 0.5])
def test_both_paths_have_the_gradients_of_the_textbook(kind, value_clip):
    losses = Losses(0.2, 0.05, 0.7, value_clip)
    batch = make_batch(kind)
    found = []
    for path in (FastPath, GeneralPath):
        method = make(kind)
        assert isinstance(method.path, FastPath)
        torch.manual_seed(1)
        for parameter in method.network.parameters():
            nn.init.normal_(parameter, std=0.4)
        method.path = path(method.network, method.discrete, 64)
        told = method.path.differentiate(batch, losses, tell=True)
        found.append((gradients(method.network), told))
    method.network.zero_grad()
    total, expected, share = textbook_loss(method, kind, batch, losses)
    total.backward()
    for ours, told in found:
        reference = gradients(method.network)
        assert set(ours) == set(reference)
        for name, gradient in reference.items():
            torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
        torch.testing.assert_close(told[[0, 3, 4]], expected, atol=1e-5, rtol=1e-5)
        assert float(told[2]) == pytest.approx(share)
        assert 0.1 < share < 0.95  # both branches of the clip were taken
    torch.testing.assert_close(flat(found[0][0]), flat(found[1][0]), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_one_epoch_of_one_minibatch_is_a_step_of_a2c(kind):
    method = make(kind, seed=3, epochs=1, entropy_coefficient=0.02, gradient_norm=1e9)
    batch = make_batch(kind)
    reference = copy.deepcopy(method)
    with torch.no_grad():
        distribution = textbook_distribution(method, kind, batch.observations)
        batch = replace(batch, log_probs=distribution.log_prob(batch.actions))
    distribution = textbook_distribution(reference, kind, batch.observations)
    advantages = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
    value = reference.network.critic(batch.observations)[:, 0]
    (
        -(distribution.log_prob(batch.actions) * advantages).mean()
        + 0.5 * (value - batch.returns).square().mean()
        - 0.02 * distribution.entropy().mean()
    ).backward()
    metrics = update(
        method.path, batch, method.config, np.random.default_rng(0), rate=1e-3, clip=0.2
    )
    expected = gradients(reference.network)
    for name, gradient in gradients(method.network).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4, msg=name)
    assert metrics['approx_kl'] == pytest.approx(0.0, abs=1e-6)
    assert metrics['clip_fraction'] == 0.0
    norm = flat(expected).norm()
    assert metrics['gradient_norm'] == pytest.approx(float(norm), rel=1e-4)


def test_an_update_is_adam_on_the_textbook_loss_in_every_minibatch():
    method = make('choices', epochs=3, minibatch=20, gradient_norm=0.3, value_clip=0.4)
    reference, rng = copy.deepcopy(method.network), np.random.default_rng(5)
    batch, losses = make_batch('choices'), Losses(0.1, 0.0, 0.5, 0.4)
    update(method.path, batch, method.config, np.random.default_rng(5), rate=3e-3, clip=0.1)
    twin = make('choices')
    twin.network = reference
    optimiser = torch.optim.Adam(reference.parameters(), lr=3e-3, eps=1e-5)
    for _ in range(3):
        for index in torch.split(torch.from_numpy(rng.permutation(64)), 20):
            part = batch[index]
            part = replace(part, advantages=normalised(part.advantages))
            optimiser.zero_grad()
            textbook_loss(twin, 'choices', part, losses)[0].backward()
            nn.utils.clip_grad_norm_(reference.parameters(), 0.3)
            optimiser.step()
    for ours, other in zip(method.network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ('ratio', 'advantage', 'expected'),
    [
        (1.3, 2.0, 0.0),  # better already, and as far as it may go
        (1.1, 2.0, -1.1 * 2.0),
        (0.7, 2.0, -0.7 * 2.0),  # a good action became rarer: the way back is open
        (1.3, -2.0, 1.3 * 2.0),
        (0.9, -2.0, 0.9 * 2.0),
        (0.7, -2.0, 0.0),
    ],
)
def test_where_the_clipped_objective_is_flat(ratio, advantage, expected):
    log_prob = torch.tensor([np.log(ratio), 0.0], dtype=torch.float32)
    weight, surrogate = surrogate_weight(
        log_prob, torch.zeros(2), torch.tensor([advantage, 0.0]), 0.2
    )
    assert weight.tolist() == pytest.approx([expected / 2.0, 0.0])
    value = min(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
    policy_loss, kl, fraction = surrogate.statistics(0.2).tolist()
    assert policy_loss == pytest.approx(-value / 2.0)
    assert kl == pytest.approx((ratio - 1.0 - np.log(ratio)) / 2.0, abs=1e-6)
    assert fraction == (0.5 if abs(ratio - 1.0) > 0.2 else 0.0)


@pytest.mark.parametrize(
    ('value', 'loss', 'slope'),
    [
        (1.1, 0.81, -1.8),  # within the clip of 0.2 about 1: as without it
        (1.5, 0.64, 0.0),  # held at 1.2, whose error 0.8 is larger: flat
        (0.5, 2.25, -3.0),  # it went away from the return: that is not held back
        (3.5, 2.25, 3.0),  # beyond the return; its own error 1.5 is larger than 0.8
    ],
)
def test_the_clipped_value_loss_by_hand(value, loss, slope):
    batch = replace(
        make_batch('gaussian', 1), values=torch.tensor([1.0]), returns=torch.tensor([2.0])
    )
    gradient, found = value_gradient(torch.tensor([[value]]), batch, 0.5, 0.2)
    assert float(found) == pytest.approx(loss, abs=1e-6)
    assert gradient.item() == pytest.approx(slope * 0.5, abs=1e-6)


def test_a_long_gradient_is_shortened_and_a_short_one_is_not():
    gradient = torch.tensor([3.0, 4.0])
    assert float(clip_norm(gradient, 10.0)) == 5.0
    assert gradient.tolist() == [3.0, 4.0]
    assert float(clip_norm(gradient, 1.0)) == 5.0
    assert gradient.tolist() == pytest.approx([0.6, 0.8])


def learn_once(method, batch, **settings):
    config = replace(method.config, **settings)
    return update(method.path, batch, config, np.random.default_rng(0), rate=1e-2, clip=0.2)


def test_the_update_ends_at_the_target_kl_before_the_step():
    batch, method = make_batch('gaussian'), make()
    before = flat(dict(method.network.named_parameters())).clone()
    metrics = learn_once(method, batch, epochs=5, target_kl=1e-9)  # the batch is off-policy
    assert metrics['epochs'] == 1
    assert metrics['gradient_norm'] == 0.0
    assert torch.equal(flat(dict(method.network.named_parameters())), before)
    assert learn_once(make(), batch, epochs=5, target_kl=1e9)['epochs'] == 5
    assert learn_once(make(), batch, epochs=5)['epochs'] == 5


def test_advantages_are_normalised_as_the_config_says():
    batch = make_batch('gaussian')
    batch = replace(batch, advantages=batch.advantages * 100.0 + 7.0)
    found = {}
    for how in ('minibatch', 'rollout', 'no'):
        method = make(minibatch=32, gradient_norm=1e9)
        learn_once(method, batch, normalise_advantages=how, epochs=1, value_coefficient=0.0)
        found[how] = flat(gradients(method.network))
    assert found['no'].norm() > 30.0 * found['rollout'].norm()
    assert not torch.allclose(found['minibatch'], found['rollout'], rtol=1e-3)


def test_actor_and_critic_beside_each_other_give_the_same_bits(monkeypatch):
    results = []
    for worth in (0, 10**12):
        monkeypatch.setattr(ppo_paths, 'WORTH_A_THREAD', worth)
        method = make(minibatch=16)
        learn_once(method, make_batch('gaussian'), epochs=3)
        results.append(flat(dict(method.network.named_parameters())))
    assert torch.equal(*results)


def test_an_update_that_is_not_finite_is_refused():
    batch = make_batch('gaussian')
    batch.returns[3] = torch.nan
    with pytest.raises(ValueError, match=r'not finite.*value_loss.*learning rate'):
        learn_once(make(), batch)


class Tracking(SmallWorld):
    """Reward -|action - 2 observation|² in one step: the best action is known."""

    def __init__(self, count, seed=0):
        self.rng = np.random.default_rng(seed)
        self.x = np.zeros((count, 2), np.float32)
        super().__init__(count, box(2), box(2), limit=1)

    def begin(self, which):
        self.x[which] = self.rng.uniform(-1.0, 1.0, (len(which), 2))

    def observe(self):
        return self.x.copy()

    def move(self, action):
        error = action - 2.0 * self.x
        return -np.square(error).sum(axis=1), np.ones(self.count, bool)


class Sides(SmallWorld):
    """Pictures with one bright half; which of two it is is the right choice."""

    def __init__(self, count, seed=0):
        self.rng, self.side = np.random.default_rng(seed), np.zeros(count, int)
        super().__init__(count, box(36, 36, 1, dtype='uint8'), Discrete(2), limit=1)

    def begin(self, which):
        self.side[which] = self.rng.integers(0, 2, len(which))

    def observe(self):
        picture = np.zeros((self.count, 36, 36, 1), np.uint8)
        for i, side in enumerate(self.side):
            picture[i, :, 18 * side : 18 * side + 18] = 200
        return picture

    def move(self, action):
        return (action == self.side).astype(float), np.ones(self.count, bool)


def train(world, iterations, seed=0, **settings):
    config = PPOMethodConfig(**settings)
    method = PPOMethod(config, world.observation_space, world.action_space, seed=seed)
    for i in range(iterations):
        method.progress = i / iterations
        metrics = method.iterate(world)
    return method, metrics


@pytest.mark.parametrize('seed', range(5))
def test_choices_come_to_the_best_policy_of_a_random_mdp(seed):
    rng = np.random.default_rng(100 + seed)
    transitions, rewards = rng.dirichlet(np.ones(4) * 0.5, (4, 3)), rng.normal(size=(4, 3))
    world = TableWorld(transitions, rewards, 8, seed=seed, limit=50)
    method, _ = train(
        world, 15, seed, horizon=64, minibatch=128, epochs=6, discount=0.9, hidden=(16,),
        learning_rate='linear:2e-2:2e-3',
    )  # fmt: skip
    best = value_iteration(transitions, rewards, 0.9)
    chosen = method.act(np.arange(4))
    lost = best.max(axis=1) - best[np.arange(4), chosen]
    assert lost.max() < 0.1


@pytest.mark.parametrize('settings', [{}, {'state_dependent': True}, {'shared': True}])
@pytest.mark.parametrize('seed', range(5))
def test_vectors_come_to_the_known_answer(seed, settings):
    method, metrics = train(
        Tracking(32, seed), 12, seed, horizon=16, minibatch=128, epochs=8, hidden=(32,),
        learning_rate='linear:1e-2:1e-3', initial_std=0.5, **settings,
    )  # fmt: skip
    points = np.random.default_rng(9).uniform(-1.0, 1.0, (200, 2)).astype(np.float32)
    error = np.sqrt(np.square(method.act(points) - 2.0 * points).mean())
    assert error < 0.25
    assert metrics['explained_variance'] <= 1.0


def test_pictures_are_understood():
    method, _ = train(
        Sides(16), 5, horizon=8, minibatch=64, epochs=4, learning_rate=5e-4, hidden=(),
        shared=True,
    )  # fmt: skip
    world = Sides(16, seed=7)
    assert (method.act(world.observation) == world.side).all()


@pytest.mark.parametrize('seed', range(2))
def test_a_time_out_bootstraps_from_before_the_reset(seed):
    """Reward 1 for ever is worth 1 / (1 - 0.9); taken for an end it would be worth 2.7 at most."""
    method, metrics = train(
        TimeOutChain(4), 20, seed, horizon=12, minibatch=48, epochs=10, discount=0.9,
        learning_rate=2e-2, hidden=(8,), value_coefficient=1.0, gradient_norm=10.0,
    )  # fmt: skip
    values = method.path.values(method.features(torch.arange(2)))
    np.testing.assert_allclose(values.detach(), [10.0, 10.0], atol=0.3)
    assert metrics['value_loss'] < 0.1


def test_normalisers_cope_with_foreign_units():
    class Foreign(Tracking):
        """The same in thousandths, from far away, and with rewards in thousands."""

        def observe(self):
            return self.x * 1000.0 + 5000.0

        def move(self, action):
            reward, over = super().move(action)
            return 1000.0 * reward, over

    world = Foreign(32)
    method, _ = train(
        world, 15, horizon=16, minibatch=128, epochs=8, hidden=(32,), initial_std=0.5,
        learning_rate='linear:1e-2:1e-3', normalise_observations=True, normalise_rewards=True,
    )  # fmt: skip
    points = np.random.default_rng(9).uniform(-1.0, 1.0, (200, 2)).astype(np.float32)
    error = np.sqrt(np.square(method.act(points * 1000.0 + 5000.0) - 2.0 * points).mean())
    assert error < 0.3
    assert abs(method.network.normaliser.mean.numpy() - 5000.0).max() < 200.0


def test_reward_scale_by_hand():
    scale = RewardScale(0.5)
    rewards = np.array([[2.0], [4.0], [6.0]], np.float32)
    done = np.array([[False], [True], [False]])
    # Discounted returns so far: 2, 5, then 6 of a new episode; variance 26/9.
    expected = rewards / np.sqrt(26.0 / 9.0 + 1e-4)
    np.testing.assert_allclose(scale.scale(rewards, done), expected, rtol=1e-5)
    # It goes on where the rollout ended: 6 / 2 + 1 = 4 joins 2, 5, 6.
    factor = np.sqrt(np.var([2.0, 5.0, 6.0, 4.0]) + 1e-4)
    found = scale.scale(np.array([[1.0]], np.float32), np.array([[False]]))
    assert found.item() == pytest.approx(1.0 / factor, rel=1e-5)
    assert scale.scale(np.array([[1e6]], np.float32), np.array([[False]])).item() <= 10.0


def test_rates_and_clips_follow_the_progress():
    world = Tracking(4)
    config = PPOMethodConfig(
        horizon=4, epochs=1, learning_rate='linear:1e-2:0', clip='linear:0.2:0.1'
    )
    method = PPOMethod(config, world.observation_space, world.action_space)
    method.progress = 0.5
    metrics = method.iterate(world)
    assert metrics['learning_rate'] == pytest.approx(5e-3)
    assert metrics['clip'] == pytest.approx(0.15)
    assert method.path.optimiser.param_groups[0]['lr'] == pytest.approx(5e-3)


@pytest.mark.parametrize('kind', ['gaussian', 'state-dependent', 'general'])
def test_a_seed_repeats_and_a_state_goes_on(kind):
    settings = {'horizon': 8, 'minibatch': 16, 'normalise_rewards': True}
    settings['normalise_observations'] = True
    settings['state_dependent'] = kind == 'state-dependent'
    settings['shared'] = kind == 'general'

    def run(iterations, disturb=False):
        world = Tracking(4, seed=1)
        method = PPOMethod(
            PPOMethodConfig(**settings), world.observation_space, world.action_space, seed=2
        )
        for _ in range(iterations):
            method.iterate(world)
            if disturb:
                method.act(world.observation, explore=True)
        return method, world

    once, world = run(2)
    again, _ = run(2, disturb=True)
    for name, value in once.state().items():
        if name != 'explore_rng':
            np.testing.assert_array_equal(value, again.state()[name], err_msg=name)
    resumed = PPOMethod(once.config, world.observation_space, world.action_space, seed=77)
    resumed.load_state(once.state())
    resumed.reward_scale = copy.deepcopy(once.reward_scale)  # the episodes under way
    twin = copy.deepcopy(world)
    once.iterate(world)
    resumed.iterate(twin)
    for name, value in once.state().items():
        np.testing.assert_array_equal(value, resumed.state()[name], err_msg=name)
    layer = 'network.trunk.0.weight' if kind == 'general' else 'network.actor.0.weight'
    other = PPOMethod(once.config, world.observation_space, world.action_space, seed=3)
    assert not np.array_equal(other.state()[layer], once.state()[layer])


def test_a_policy_acts_as_its_network_says_to_the_bit():
    method = make()
    x = torch.randn(9, 5)
    assert torch.equal(method.network.normaliser(x), x)  # it was asked for none
    expected = method.network(x)[0].detach().numpy()
    np.testing.assert_allclose(method.act(x.numpy()), expected, atol=1e-6)
    first = method.act(x.numpy())
    method.act(-x.numpy())
    np.testing.assert_allclose(first, expected, atol=1e-6)  # no view of a buffer


def test_more_environments_than_a_minibatch_has_samples():
    world = Tracking(40)
    method, _ = train(world, 2, horizon=4, minibatch=8)
    assert method.act(world.observation).shape == (40, 2)
    many = torch.randn(100, 2)
    expected = method.network.critic(many)[:, 0]
    torch.testing.assert_close(method.path.values(many), expected.detach(), atol=1e-6, rtol=1e-5)


def test_features_of_ones_own():
    class Squares(Extractor):
        def __init__(self, space):
            super().__init__()
            self.size = 2 * space.shape[0]

        def forward(self, x):
            return torch.cat((x, x.square()), dim=1)

    class Learned(Squares):
        def __init__(self, space):
            super().__init__(space)
            self.gain = nn.Parameter(torch.ones(self.size))

        def forward(self, x):
            return super().forward(x) * self.gain

    world, config = Tracking(4), PPOMethodConfig(horizon=4, hidden=(8,))
    spaces = world.observation_space, world.action_space
    method = PPOMethod(config, *spaces, extractor=Squares)
    assert isinstance(method.path, FastPath)
    assert method.network.actor[0].weight.shape == (8, 4)
    method.iterate(world)
    learned = PPOMethod(config, *spaces, extractor=Learned)
    assert isinstance(learned.path, GeneralPath)
    learned.iterate(world)
    assert not torch.equal(learned.network.extractor.gain, torch.ones(4))
    assert learned.network.critic_extractor is not learned.network.extractor


def test_what_it_cannot_work_with_is_refused():
    config = PPOMethodConfig()
    with pytest.raises(ValueError, match=r'ppo cannot work with continuous \(2, 3\) actions'):
        PPOMethod(config, box(3), box(2, 3))
    with pytest.raises(ValueError, match='3 discrete actions; state_dependent is for vectors'):
        PPOMethod(replace(config, state_dependent=True), box(3), Discrete(3))
    with pytest.raises(ValueError, match='normalise_observations is for vectors'):
        PPOMethod(replace(config, normalise_observations=True), Discrete(4), Discrete(3))
    with pytest.raises(ValueError, match="no extractor 'cnn'; choices are flatten, one_hot"):
        PPOMethod(replace(config, extractor='cnn'), box(3), Discrete(3))
    method = PPOMethod(config, box(3), Discrete(3))
    without = {name: value for name, value in method.state().items() if name != 'rng'}
    with pytest.raises(ValueError, match='the state has no rng'):
        method.load_state(without)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'epochs': 0}, 'epochs is 0, must be 1 or more'),
        ({'discount': 1.5}, r'discount is 1.5, must be in \[0, 1\]'),
        ({'target_kl': 0.0}, 'target_kl is 0.0, must be positive'),
        ({'normalise_advantages': 'yes'}, "'yes'; choices are minibatch, rollout, no"),
    ],
)
def test_a_config_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PPOMethodConfig(**settings)


def test_a_regulator_is_learned_beside_its_optimum():
    """Return of the mean action against that of the best linear gain, by its own formula."""
    world = Regulator(32, 8, seed=0, noise=0.0)
    gains = np.linspace(-2.0, 0.0, 401)
    best = max(world.expected_return(k, 0.0, 1.0, 1.0)[0] for k in gains)
    method, _ = train(
        world, 20, horizon=32, minibatch=256, epochs=8, discount=1.0, hidden=(16,),
        learning_rate='linear:1e-2:1e-3', initial_std=0.5,
    )  # fmt: skip
    judge = Regulator(16, 8, seed=1)
    while len(judge.finished) < 16:
        judge.step(method.act(judge.observation))
    found = np.mean([total for total, _ in judge.finished])
    assert found > best * 1.15  # both are negative: within 15 % of the best


def test_scaled_rewards_begin_anew_where_episodes_do():
    """Else a training that goes on from a file would scale its first rewards otherwise."""
    world = Tracking(4, seed=1)
    spaces = (world.observation_space, world.action_space)
    config = PPOMethodConfig(horizon=7, minibatch=14, normalise_rewards=True)
    method, fresh = PPOMethod(config, *spaces, seed=2), PPOMethod(config, *spaces, seed=3)
    method.iterate(world)
    fresh.load_state(method.state())
    method.start_over()
    rewards, done = np.ones((3, 4), np.float32), np.zeros((3, 4), bool)
    np.testing.assert_array_equal(
        method.reward_scale.scale(rewards, done), fresh.reward_scale.scale(rewards, done)
    )
