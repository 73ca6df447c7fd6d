"""REINFORCE's gradient against analytic ones, exactly: expectations are sums, not samples."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.method import Box, Discrete, Outcome
from lebot_rl_ros.learning.methods.reinforce import Reinforce, ReinforceConfig, episode_times
from lebot_rl_ros.learning.returns import discounted_returns
from lebot_rl_ros.learning.rollouts import collect_episodes
from lebot_rl_ros.policy.runtime import EPSILON
from small_worlds import Regulator, TimeOutChain, episodes

K, SIGMA, START, GAMMA = -0.4, 0.3, 1.2, 0.9


def box(size, low=-np.inf, high=np.inf):
    return Box((size,), np.full(size, low, np.float32), np.full(size, high, np.float32))


def method(observations, actions, seed=0, **config):
    config = {'hidden': (), 'normalise': False, 'baseline': 'none', **config}
    learner = Reinforce(ReinforceConfig(**config), observations, actions, seed=seed)
    learner.network.normaliser.var.fill_(1.0 - EPSILON)  # then it is the identity exactly
    return learner


def gradient(learner, rollouts, share):
    """Of the expected return, by log_std and the actor's weights; episodes weigh ``share``."""
    returns, baseline = learner.returns(rollouts)
    # The loss is a mean over episodes, so weights of the sum need their number.
    loss, _ = learner.loss(rollouts, (returns - baseline) * share * len(share))
    names = ['log_std', 'actor.0.weight', 'actor.0.bias']
    parameters = [dict(learner.network.named_parameters())[name] for name in names]
    loss.backward()
    return [None if p.grad is None else -p.grad.numpy() for p in parameters]


# A bandit with three arms.
ARMS = np.array([1.0, 0.0, 2.5])
PROBS = np.array([0.2, 0.5, 0.3])


def bandit(**config):
    learner = method(box(1), Discrete(3), **config)
    with torch.no_grad():
        learner.network.actor[0].weight.zero_()
        learner.network.actor[0].bias.copy_(torch.from_numpy(np.log(PROBS)))
    path = np.ones((2, 3, 1))
    over = np.ones((1, 3), bool)
    return learner, episodes(path, np.arange(3)[None], ARMS[None], over)


def baselines(learner, kind, value):
    """Let the baseline be ``value``, however it is kept."""
    if kind == 'mean':
        learner.mean = np.array([value])
    if kind == 'value':
        with torch.no_grad():
            learner.network.critic[0].weight.zero_()
            learner.network.critic[0].bias.fill_(value)


@pytest.mark.parametrize('baseline', ['none', 'mean', 'value'])
@pytest.mark.parametrize('value', [0.0, 0.95, -7.0])
def test_the_gradient_of_a_bandit_is_exact_whatever_the_baseline(baseline, value):
    learner, rollouts = bandit(baseline=baseline)
    baselines(learner, baseline, value)
    _, _, by_logits = gradient(learner, rollouts, PROBS)
    np.testing.assert_allclose(by_logits, PROBS * (ARMS - PROBS @ ARMS), rtol=1e-5, atol=1e-7)


def test_the_entropy_bonus_has_the_gradient_of_the_entropy():
    learner, rollouts = bandit(entropy_coefficient=0.7)
    loss, entropy = learner.loss(rollouts, np.zeros((1, 3)))
    (got,) = torch.autograd.grad(loss, [learner.network.actor[0].bias])
    expected = -np.sum(PROBS * np.log(PROBS))
    assert float(entropy) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(
        -got.numpy(), -0.7 * PROBS * (np.log(PROBS) + expected), rtol=1e-4, atol=1e-6
    )


def regulator(**config):
    world = Regulator(1, horizon=3)
    learner = method(box(1), box(1), discount=GAMMA, discount_states=True, **config)
    with torch.no_grad():
        learner.network.actor[0].weight.fill_(K)
        learner.network.actor[0].bias.zero_()
        learner.network.log_std.fill_(np.log(SIGMA))
    return world, learner


@pytest.mark.parametrize('baseline', ['none', 'mean'])
def test_the_gradient_of_a_regulator_is_exact(baseline):
    world, learner = regulator(baseline=baseline)
    learner.mean = np.array([-2.0, 1.0, -5.0])
    share, rollouts = world.quadrature(K, SIGMA, START, nodes=4)
    value, dk, ds = world.expected_return(K, SIGMA, GAMMA, START)
    returns, _ = learner.returns(rollouts)
    assert float(share @ returns[0]) == pytest.approx(value, rel=1e-5)
    by_log_std, by_weight, _ = gradient(learner, rollouts, share)
    assert by_weight[0, 0] == pytest.approx(dk, rel=2e-5)
    assert by_log_std[0] == pytest.approx(ds, rel=2e-5)


def test_without_discounted_states_the_gradient_is_another():
    world, learner = regulator()
    share, rollouts = world.quadrature(K, SIGMA, START, nodes=4)
    plain = method(box(1), box(1), discount=GAMMA)
    plain.network.load_state_dict(learner.network.state_dict())
    _, dk, _ = world.expected_return(K, SIGMA, GAMMA, START)
    assert abs(gradient(plain, rollouts, share)[1][0, 0] - dk) > 0.005 * abs(dk)


def test_baselines_lower_the_variance_and_a_good_critic_lowers_it_most():
    share, rollouts = Regulator(1, horizon=3).quadrature(K, SIGMA, START, nodes=6)
    variances = {}
    for kind in ('none', 'mean', 'value'):
        world, learner = regulator(baseline=kind)
        returns, baseline = learner.returns(rollouts)
        if kind == 'mean':
            learner.mean = returns @ share
            baseline = learner.returns(rollouts)[1]
        x = rollouts.observations[..., 0]
        if kind == 'value':
            p, c = world.value_function(K, SIGMA, GAMMA)
            baseline = -(p[:3, None] * x**2 + c[:3, None])
        score = (rollouts.actions[..., 0] - K * x) / SIGMA**2 * x
        times = GAMMA ** np.arange(3)[:, None]
        each = (times * score * (returns - baseline)).sum(axis=0)
        mean = share @ each
        assert mean == pytest.approx(world.expected_return(K, SIGMA, GAMMA, START)[1], rel=1e-4)
        variances[kind] = share @ (each - mean) ** 2
    assert variances['value'] < 0.8 * variances['mean'] < 0.64 * variances['none']


def test_times_of_an_episode_start_over_where_it_ends():
    done = np.array([[0, 1], [0, 0], [1, 0], [0, 1], [0, 0]], bool)
    assert episode_times(done).T.tolist() == [[0, 1, 2, 0, 1], [0, 0, 1, 2, 0]]


def test_the_mean_baseline_follows_the_returns_of_each_time():
    learner = method(box(1), Discrete(3), baseline='mean', baseline_rate=0.25)
    times = np.array([[0, 0], [1, 1], [2, 0]])
    chosen = np.array([[1, 1], [1, 1], [1, 0]], bool)
    learner._follow(np.array([[4.0, 6.0], [1.0, 3.0], [7.0, 99.0]]), times, chosen)
    assert learner.mean.tolist() == [5.0, 2.0, 7.0]
    learner._follow(np.array([[9.0]]), np.array([[0]]), np.array([[True]]))
    assert learner.mean.tolist() == [6.0, 2.0, 7.0]


def test_what_was_cut_goes_on_with_a_critic_and_ends_without_one():
    world = TimeOutChain(1)
    spaces = world.observation_space, world.action_space
    seen = {}
    for baseline in ('none', 'value'):
        learner = method(*spaces, baseline=baseline, discount=GAMMA)
        with torch.no_grad():
            learner.network.critic[0].weight.copy_(torch.tensor([[10.0, 20.0]]))
        rollouts = collect_episodes(deepcopy(world), learner.sample, 1)
        seen[baseline] = learner.returns(rollouts)[0][:, 0]
    # Cut after three rewards of 1, in state 1.
    np.testing.assert_allclose(seen['none'], [2.71, 1.9, 1.0], rtol=1e-6)
    np.testing.assert_allclose(seen['value'], [2.71 + 0.729 * 20, 1.9 + 16.2, 19.0], rtol=1e-6)


def test_a_critic_learns_what_a_chain_of_time_outs_is_worth():
    world = TimeOutChain(2)
    learner = method(
        world.observation_space,
        world.action_space,
        baseline='value',
        discount=GAMMA,
        value_learning_rate='exponential:1:0.01',
        value_steps=10,
        gradient_norm=None,
    )
    for update in range(60):
        learner.progress = update / 60
        learner.iterate(world)
    np.testing.assert_allclose(learner.predict(np.array([0, 1])), 10.0, rtol=0.02)


def test_steps_behind_the_last_episode_are_not_learnt_from():
    learner, rollouts = bandit()
    mask = rollouts.mask.copy()
    mask[0, 2] = False
    object.__setattr__(rollouts, 'mask', mask)
    loss, _ = learner.loss(rollouts, ARMS[None])
    (got,) = torch.autograd.grad(loss, [learner.network.actor[0].bias])
    # Two episodes: -(1 grad log p0 + 0 grad log p1) / 2.
    np.testing.assert_allclose(-got.numpy(), (np.eye(3)[0] - PROBS) / 2.0, rtol=1e-5)


def test_normalised_advantages_do_not_know_the_unit_of_the_reward():
    learner, rollouts = bandit(normalise=True)
    losses = [learner.loss(rollouts, (scale * ARMS + 3.0)[None])[0] for scale in (1.0, 50.0)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)


def test_it_finds_the_best_arm_and_the_best_gain():
    learner, _ = bandit(baseline='mean', learning_rate=0.1)
    world = Bandit()
    for _ in range(60):
        learner.iterate(world)
    assert learner.act(np.ones((1, 1), np.float32)).tolist() == [2]


class Bandit:
    """The bandit above as a world of eight."""

    name, count, steps = 'bandit', 8, 0
    observation = np.ones((8, 1), np.float32)

    def step(self, action):
        ones = np.ones(8, bool)
        reward = ARMS[action].astype(np.float32)
        return Outcome(self.observation, self.observation, reward, ones, ~ones)


def test_it_regulates():
    """The gain of the infinite regulator is near -0.87; the start is 0."""
    world = Regulator(16, horizon=10)
    learner = method(
        box(1), box(1), baseline='mean', normalise=True, learning_rate=0.05, initial_std=0.3
    )
    before = world.expected_return(0.0, 0.0, 1.0, 1.0)[0]
    best = max(world.expected_return(k, 0.0, 1.0, 1.0)[0] for k in np.linspace(-2.0, 0.0, 201))
    for _ in range(150):
        learner.iterate(world)
    gain = learner.network.actor[0].weight.item()
    after = world.expected_return(gain, 0.0, 1.0, 1.0)[0]
    assert after - before > 0.95 * (best - before)


def test_it_goes_on_from_a_state_to_the_same_numbers():
    world = Regulator(2, horizon=4)
    first = method(box(1), box(1), baseline='mean', entropy_coefficient=0.01, seed=1)
    second = method(box(1), box(1), baseline='mean', entropy_coefficient=0.01, seed=2)
    first.iterate(world)
    saved, twin = first.state(), deepcopy(world)
    second.load_state(saved)
    first.act(np.zeros((3, 1), np.float32), explore=True)
    first.iterate(world)
    second.iterate(twin)
    after, other = first.state(), second.state()
    assert any((after[name] != saved[name]).any() for name in saved if 'actor' in name)
    for name in after:
        if name != 'explore_rng':
            np.testing.assert_array_equal(after[name], other[name])


def test_a_state_that_does_not_fit_is_refused():
    learner = method(box(1), box(1))
    for name in ('rng', 'explore_rng', 'baseline', 'network.log_std'):
        state = {key: value for key, value in learner.state().items() if key != name}
        with pytest.raises(ValueError, match=name):
            learner.load_state(state)


def test_frozen_weights_are_not_trained():
    learner, _ = bandit(learning_rate=0.1)
    learner.network.actor[0].weight.requires_grad_(False)
    learner.make_optimisers()
    before = learner.state()
    learner.iterate(Bandit())
    after = learner.state()
    assert (after['network.actor.0.weight'] == before['network.actor.0.weight']).all()
    assert (after['network.actor.0.bias'] != before['network.actor.0.bias']).any()


def test_returns_agree_with_the_formula():
    world, learner = regulator()
    _, rollouts = world.quadrature(K, SIGMA, START, nodes=2)
    expected = discounted_returns(
        rollouts.rewards, rollouts.terminated, rollouts.truncated, discount=GAMMA
    )
    np.testing.assert_array_equal(learner.returns(rollouts)[0], expected)


@pytest.mark.parametrize(
    ('spaces', 'message'),
    [((Box((40, 40, 3), np.zeros((40, 40, 3)), np.full((40, 40, 3), 255), 'uint8'), Discrete(2)),
      'reinforce cannot work with .*pictures as observations; ppo'),
     ((Discrete(2), Box((2, 2), np.zeros((2, 2)), np.ones((2, 2)))),
      'reinforce cannot work with .* actions')],
)  # fmt: skip
def test_spaces_that_do_not_fit_are_refused(spaces, message):
    with pytest.raises(ValueError, match=message):
        Reinforce(ReinforceConfig(), *spaces)


@pytest.mark.parametrize(
    ('setting', 'message'),
    [({'discount': 1.5}, r'discount is 1\.5'), ({'episodes': 0}, 'episodes is 0'),
     ({'baseline': 'median'}, "baseline is 'median'; choices are none, mean, value")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        ReinforceConfig(**setting)
