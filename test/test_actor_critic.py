"""Actor-critic's gradients against analytic ones, its fixed points, and its traces."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.method import Box, Discrete, Outcome
from lebot_rl_ros.learning.methods.actor_critic import ActorCriticMethod, ActorCriticMethodConfig
from lebot_rl_ros.learning.returns import lambda_returns
from lebot_rl_ros.learning.rollouts import collect
from lebot_rl_ros.learning.traces import Traces
from lebot_rl_ros.policy.runtime import EPSILON
from small_worlds import Regulator, SmallWorld, TableWorld, TimeOutChain, episodes

K, SIGMA, START, HORIZON = -0.4, 0.3, 1.2, 3
ARMS = np.array([1.0, 0.0, 2.5])
PROBS = np.array([0.2, 0.5, 0.3])


def box(size):
    return Box((size,), np.full(size, -np.inf, np.float32), np.full(size, np.inf, np.float32))


def method(observations, actions, seed=0, **config):
    config = {'hidden': (), 'gradient_norm': None, 'steps': 1, **config}
    learner = ActorCriticMethod(
        ActorCriticMethodConfig(**config), observations, actions, seed=seed
    )
    learner.network.normaliser.var.fill_(1.0 - EPSILON)  # then it is the identity exactly
    return learner


def set_linear(layer, weight, bias=0.0):
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight, dtype=torch.float32))
        layer.bias.fill_(bias)


def gradient(learner, rollouts, share):
    """Of the expected return of an episode; episodes weigh ``share`` (N,)."""
    advantages, returns = learner.advantages(rollouts)
    # The loss is a mean over all steps; a sum over those of an episode is wanted.
    weights = share * rollouts.rewards.size
    policy_loss, _, _ = learner.losses(rollouts, advantages * weights, returns)
    policy_loss.backward()
    return {name: -p.grad for name, p in learner.network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize('value', [0.0, 1.25, -3.0])
def test_the_gradient_of_a_bandit_is_exact_whatever_the_critic(value):
    learner = method(box(1), Discrete(3))
    set_linear(learner.network.actor[0], np.zeros((3, 1)))
    with torch.no_grad():
        learner.network.actor[0].bias.copy_(torch.from_numpy(np.log(PROBS)))
    set_linear(learner.network.critic[0], [[0.0]], value)
    over = np.ones((1, 3), bool)
    rollouts = episodes(np.ones((2, 3, 1)), np.arange(3)[None], ARMS[None], over)
    got = gradient(learner, rollouts, PROBS)['actor.0.bias']
    np.testing.assert_allclose(got, PROBS * (ARMS - PROBS @ ARMS), rtol=1e-5, atol=1e-7)


def knowing(x, t):
    """Observation in which the exact value is linear: x, which time it is, and x^2 at it."""
    now = np.arange(HORIZON)[None] == t
    return np.concatenate((x[:, None], np.repeat(now, len(x), axis=0), now * x[:, None] ** 2), 1)


def regulator(trace, spoil=0.0):
    world = Regulator(1, HORIZON)
    learner = method(box(1 + 2 * HORIZON), box(1), discount=1.0, trace=trace)
    actor = np.zeros((1, 1 + 2 * HORIZON))
    actor[0, 0] = K
    set_linear(learner.network.actor[0], actor)
    p, c = world.value_function(K, SIGMA, 1.0)
    critic = -np.concatenate(([0.0], c[:HORIZON], p[:HORIZON] + spoil))
    set_linear(learner.network.critic[0], critic[None])
    with torch.no_grad():
        learner.network.log_std.fill_(np.log(SIGMA))
    return world, learner


@pytest.mark.parametrize('trace', [0.0, 0.5, 1.0])
def test_with_the_exact_critic_the_gradient_of_a_regulator_is_exact(trace):
    world, learner = regulator(trace)
    share, rollouts = world.quadrature(K, SIGMA, START, nodes=5, features=knowing)
    got = gradient(learner, rollouts, share)
    _, dk, ds = world.expected_return(K, SIGMA, 1.0, START)
    assert got['actor.0.weight'][0, 0].item() == pytest.approx(dk, rel=5e-5)
    assert got['log_std'][0].item() == pytest.approx(ds, rel=5e-5)


def test_a_wrong_critic_spoils_one_step_and_not_whole_episodes():
    errors = {}
    for trace in (0.0, 1.0):
        world, learner = regulator(trace, spoil=0.5)
        share, rollouts = world.quadrature(K, SIGMA, START, nodes=5, features=knowing)
        got = gradient(learner, rollouts, share)['actor.0.weight'][0, 0].item()
        errors[trace] = abs(got / world.expected_return(K, SIGMA, 1.0, START)[1] - 1.0)
    assert errors[0.0] > 0.05
    assert errors[1.0] < 1e-4


# A corridor of four states; its features cannot tell all of them apart.
FEATURES = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, -0.5]])
REWARDS = np.array([1.0, -2.0, 3.0, 0.5])


class Corridor(SmallWorld):
    """States 0, 1, 2, 3 in turn, then the end; actions do nothing."""

    name = 'corridor'

    def __init__(self):
        self.at = np.zeros(1, int)
        super().__init__(1, box(2), Discrete(2))

    def begin(self, which):
        self.at[which] = 0

    def observe(self):
        return FEATURES[np.minimum(self.at, 3)].astype(np.float32)

    def move(self, action):
        reward = REWARDS[self.at]
        self.at = self.at + 1
        return reward, self.at == 4


def td_fixed_point(discount):
    """Weights and bias at which sum of feature * TD error over the corridor is zero (LSTD)."""
    phi = np.concatenate((FEATURES, np.ones((4, 1))), axis=1)
    following = np.concatenate((phi[1:], np.zeros((1, 3))))
    return np.linalg.solve(phi.T @ (phi - discount * following), phi.T @ REWARDS)


def test_the_critics_gradient_is_zero_at_the_fixed_point_of_td():
    learner = method(box(2), Discrete(2), discount=0.9, steps=4, trace=0.0)
    weights = td_fixed_point(0.9)
    set_linear(learner.network.critic[0], weights[None, :2], weights[2])
    rollouts = collect(Corridor(), learner.sample, 4)
    _, value_loss, _ = learner.losses(rollouts, *learner.advantages(rollouts))
    value_loss.backward()
    assert value_loss.item() > 0.1  # no exact value: only the semi-gradient vanishes
    for parameter in learner.network.critic.parameters():
        np.testing.assert_allclose(parameter.grad, 0.0, atol=1e-5)


def test_one_step_td_goes_to_its_fixed_point_and_whole_returns_to_another():
    found = {}
    for trace in (0.0, 1.0):
        learner = method(
            box(2),
            Discrete(2),
            discount=0.9,
            steps=4,
            trace=trace,
            updates=10,
            learning_rate=0.0,
            value_learning_rate='exponential:0.5:0.003',
        )
        for turn in range(25):
            learner.progress = turn / 25
            learner.iterate(Corridor())
        layer = learner.network.critic[0]
        found[trace] = np.append(layer.weight.detach()[0], layer.bias.detach())
    np.testing.assert_allclose(found[0.0], td_fixed_point(0.9), atol=0.02)
    phi = np.concatenate((FEATURES, np.ones((4, 1))), axis=1)
    returns = [sum(0.9 ** (j - i) * REWARDS[j] for j in range(i, 4)) for i in range(4)]
    least_squares = np.linalg.lstsq(phi, returns, rcond=None)[0]
    np.testing.assert_allclose(found[1.0], least_squares, atol=0.02)
    assert np.abs(least_squares - td_fixed_point(0.9)).max() > 0.2


def chain(streaming, **config):
    world = TimeOutChain(1)
    config = {'discount': 0.9, 'trace': 0.5, **config}
    return world, method(
        world.observation_space, world.action_space, streaming=streaming, **config
    )


@pytest.mark.parametrize(
    ('streaming', 'rates'),
    [
        (False, {'value_learning_rate': 'exponential:0.5:0.01'}),
        (True, {'value_learning_rate': 0.3, 'value_bound': 1.0}),
    ],
)
def test_a_chain_of_time_outs_is_worth_what_it_would_be_without(streaming, rates):
    world, learner = chain(streaming, updates=30, **rates)
    for turn in range(8):
        learner.progress = turn / 8
        learner.iterate(world)
    np.testing.assert_allclose(learner.predict(np.array([0, 1])), 10.0, rtol=0.02)


def test_traces_do_over_an_episode_what_lambda_returns_would():
    """With weights held (steps are summed, not taken), the two views are the same."""
    discount, trace = 0.9, 0.6
    features = torch.from_numpy(FEATURES.astype(np.float32))
    weights = torch.tensor([0.5, -1.0], requires_grad=True)
    values = (features @ weights).detach().numpy()
    following = np.append(values[1:], 0.0)
    errors = REWARDS + discount * following - values
    traces = Traces([torch.zeros(2)], bound=None)  # moves a stand-in, so that `weights` stay
    for phi, error in zip(features, errors, strict=True):
        traces.decay(discount * trace)
        traces.add([phi])
        assert traces.step(float(error), 1.0) == 1.0
    ends = np.array([False, False, False, True])
    returns = lambda_returns(
        REWARDS, following, ends, np.zeros(4, bool), discount=discount, trace=trace
    )
    np.testing.assert_allclose(traces.parameters[0], (returns - values) @ FEATURES, atol=1e-5)


def test_a_bounded_step_by_hand():
    parameter = torch.zeros(2)
    traces = Traces([parameter], bound=2.0)
    traces.add([torch.tensor([1.0, -3.0])])
    # 0.5 / max(1, 0.5 * 2 * max(|-4|, 1) * 4) = 0.5 / 16
    assert traces.step(-4.0, 0.5) == pytest.approx(0.5 / 16.0)
    np.testing.assert_allclose(parameter, [-4.0 / 32.0, 12.0 / 32.0])
    assert traces.step(0.1, 0.01) == pytest.approx(0.01)  # short enough as it is
    traces.decay(0.5)
    assert traces.traces[0].tolist() == [0.5, -1.5]
    traces.add([None])
    traces.decay(0.0)
    assert traces.traces[0].tolist() == [0.0, 0.0]


def test_traces_end_with_the_episode():
    world, learner = chain(True, updates=3, value_learning_rate=0.0, learning_rate=0.0)
    learner.iterate(world)  # the third step is cut
    assert all((trace == 0).all() for trace in learner.traces[1].traces)


class Cut:
    """State 0; one step later the episode was cut in state 1, and the next begins in state 2."""

    name, count = 'cut', 1
    observation = np.array([0])

    def step(self, action):
        self.action, self.observation = action, np.array([2])
        reward, never = np.full(1, 0.5, np.float32), np.zeros(1, bool)
        return Outcome(self.observation, np.array([1]), reward, never, ~never)


@pytest.mark.parametrize('ahead', [3.0, -3.0])
def test_one_step_of_a_stream_by_hand(ahead):
    learner = method(
        Discrete(3),
        Discrete(2),
        discount=0.9,
        streaming=True,
        updates=1,
        learning_rate=0.1,
        value_learning_rate=0.2,
        entropy_coefficient=0.3,
        policy_bound=None,
        value_bound=None,
    )
    set_linear(learner.network.critic[0], [[1.0, ahead, 50.0]])
    logits = np.log([0.25, 0.75])
    set_linear(learner.network.actor[0], np.stack([logits, np.zeros(2), np.zeros(2)], axis=1))
    world = Cut()
    learner.iterate(world)
    error = 0.5 + 0.9 * ahead - 1.0
    critic, actor = (layer[0].weight.detach().numpy() for layer in learner_layers(learner))
    np.testing.assert_allclose(critic[0], [1.0 + 0.2 * error, ahead, 50.0], rtol=1e-5)
    probs = np.exp(logits)
    by_entropy = -probs * (logits - probs @ logits)
    gain = np.eye(2)[world.action[0]] - probs + 0.3 * np.sign(error) * by_entropy
    np.testing.assert_allclose(actor[:, 0], logits + 0.1 * error * gain, rtol=1e-5)


def learner_layers(learner):
    return learner.network.critic, learner.network.actor


@pytest.mark.parametrize('streaming', [False, True])
def test_the_spread_stays_in_its_range(streaming):
    learner = method(box(1), box(1), streaming=streaming, updates=1, learning_rate=0.0)
    for wild, kept in ((1.0, 0.0), (-9.0, -3.0)):
        with torch.no_grad():
            learner.network.log_std.fill_(wild)
        learner.iterate(Regulator(1, horizon=3))
        assert learner.network.log_std.tolist() == [kept]


def test_gradients_are_shortened_as_one_vector():
    learner = method(box(1), box(1), gradient_norm=0.5)
    long = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    learner._limit(long, 0.1)
    np.testing.assert_allclose(torch.cat(long), [0.3, 0.0, 0.4], rtol=1e-6)
    learner._limit(long, 0.1)  # short enough now
    np.testing.assert_allclose(torch.cat(long), [0.3, 0.0, 0.4], rtol=1e-6)


def test_a_stream_is_of_one_environment():
    learner = method(Discrete(2), Discrete(2), streaming=True)
    with pytest.raises(ValueError, match='streaming learns from 1 environment, here are 2'):
        learner.iterate(TimeOutChain(2))


@pytest.mark.parametrize(
    'config',
    [{'steps': 1, 'updates': 600, 'learning_rate': 0.02, 'value_learning_rate': 0.05},
     {'steps': 4, 'updates': 200, 'learning_rate': 0.05, 'value_learning_rate': 0.05},
     {'streaming': True, 'updates': 800, 'learning_rate': 0.3, 'value_learning_rate': 0.3}],
    ids=['online', 'batched', 'streaming'],
)  # fmt: skip
def test_it_finds_the_better_way(config):
    """In state 0 action 1 leads on to the reward, action 0 ends the episode with a little."""
    transitions = np.zeros((3, 2, 3))
    transitions[0, 0, 2] = transitions[0, 1, 1] = transitions[1, :, 2] = 1.0
    rewards = np.array([[0.3, 0.0], [1.0, 1.0], [0.0, 0.0]])
    ends = np.array([False, False, True])
    world = TableWorld(transitions, rewards, 1, ends=ends)
    learner = method(world.observation_space, world.action_space, discount=0.9, **config)
    learner.iterate(world)
    assert learner.act(np.array([0])).tolist() == [1]
    explored = learner.act(np.zeros(500, int), explore=True)
    assert explored.mean() > 0.8
    assert learner.predict(np.array([1]))[0] == pytest.approx(1.0, abs=0.2)


def test_it_regulates():
    world = Regulator(16, horizon=10)
    learner = method(
        box(1),
        box(1),
        discount=0.95,
        initial_std=0.3,
        steps=5,
        updates=120,
        learning_rate=0.01,
        value_learning_rate=0.02,
        normalise_advantages=True,
    )
    x = np.array([[1.0], [-1.0]], np.float32)
    assert np.abs(learner.act(x)).max() < 0.1
    learner.iterate(world)
    gains = learner.act(x)[:, 0] / x[:, 0]
    # From the gain 0 of the start to one near the best, -0.8.
    returns = [world.expected_return(k, 0.0, 1.0, 1.0)[0] for k in (0.0, *gains, -0.8)]
    assert min(returns[1:3]) > returns[0] + 0.9 * (returns[3] - returns[0])


@pytest.mark.parametrize('streaming', [False, True])
def test_it_goes_on_from_a_state_to_the_same_numbers(streaming):
    config = {'streaming': streaming, 'updates': 4, 'entropy_coefficient': 0.01}
    config['normalise_observations'] = True
    world = Regulator(1, horizon=3)
    first, second = (method(box(1), box(1), seed=seed, **config) for seed in (1, 2))
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


def test_traces_of_another_network_are_refused():
    learner = method(box(1), box(1), streaming=True)
    state = learner.state()
    with pytest.raises(ValueError, match=r'trace\.actor\.0 is missing, expected'):
        learner.load_state({k: v for k, v in state.items() if k != 'trace.actor.0'})
    with pytest.raises(
        ValueError, match=r'trace\.critic\.0 is of shape \(7,\), expected \(1, 1\)'
    ):
        learner.load_state({**state, 'trace.critic.0': np.zeros(7, np.float32)})


@pytest.mark.parametrize(
    ('setting', 'message'),
    [({'steps': 0}, 'steps 0 and updates 32'), ({'trace': 1.5}, r'trace is 1\.5'),
     ({'discount': -0.1}, r'discount is -0\.1')],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        ActorCriticMethodConfig(**setting)


def test_a_rate_that_breaks_the_weights_is_an_error():
    world = Regulator(4, horizon=3)
    learner = method(box(1), box(1), updates=1)
    with torch.no_grad():
        learner.network.critic[0].weight.fill_(torch.nan)
    with pytest.raises(ValueError, match='gradient is not finite; lower the learning rate'):
        learner.iterate(world)
