"""DPO against closed forms: the policy that a planted reward asks for."""

import numpy as np
import pytest
import torch

from lebot_rl_ros.envs.world import make_world
from lebot_rl_ros.learning.episodes import play_groups
from lebot_rl_ros.learning.method import Box, Discrete, Outcome
from lebot_rl_ros.learning.methods.dpo import DPO, DPOConfig, preference_loss, segment_sums
from lebot_rl_ros.learning.preference_files import load_preferences, save_preferences
from lebot_rl_ros.learning.preferences import (
    Preferences,
    Segments,
    label,
    pad,
)

torch.set_num_threads(1)
ONE = Box((1,), np.full(1, -np.inf, np.float32), np.full(1, np.inf, np.float32))
BETA = 0.5


def agent(actions, seed=0, **settings):
    """A policy that is not uniform, and is its own reference."""
    settings = {
        'hidden': (8,),
        'beta': BETA,
        'learning_rate': 'linear:5e-2:1e-4',
        'minibatch': 10_000,
        **settings,
    }
    method = DPO(DPOConfig(**settings), ONE, actions, seed)
    with torch.no_grad():
        bias = method.network.actor[-1].bias
        bias += torch.linspace(-0.4, 0.4, len(bias)) if len(bias) > 1 else 0.3
    method.make_optimisers()
    return method


def arms(actions):
    """Segments of one step each, all of the same observation."""
    actions = np.asarray(actions)
    return pad([(np.ones((1, 1), np.float32), a[None], np.zeros(1)) for a in actions])


def all_pairs(count):
    first, second = np.nonzero(~np.eye(count, dtype=bool))
    return np.stack([first, second], axis=1)


def fit(method, preferences, epochs):
    for epoch in range(epochs):
        method.progress = epoch / epochs
        metrics = method.learn(preferences)
    return metrics


def probabilities(method, network=None):
    with torch.no_grad():
        logits = method.at(np.ones((1, 1), np.float32), network).logits[0]
    return torch.softmax(logits, 0).numpy()


# The loss


@pytest.mark.parametrize(
    ('settings', 'preferred', 'expected'),
    [
        ({}, 1.0, np.log(1 + np.exp(-1.0))),
        ({}, 0.0, np.log(1 + np.exp(1.0))),
        ({}, 0.5, np.log(1 + np.exp(-1.0)) + 0.5),
        ({'label_smoothing': 0.1}, 1.0, np.log(1 + np.exp(-1.0)) + 0.1),
        ({'label_smoothing': 0.1}, 0.0, np.log(1 + np.exp(-1.0)) + 0.9),
        ({'loss': 'ipo'}, 1.0, (2.0 - 1.0) ** 2),
        ({'loss': 'ipo'}, 0.0, (2.0 + 1.0) ** 2),
        ({'loss': 'ipo', 'label_smoothing': 0.25}, 1.0, 0.75 * 1.0 + 0.25 * 9.0),
    ],
)
def test_the_loss_of_a_pair_by_hand(settings, preferred, expected):
    # log(1 + e) = log(1 + 1/e) + 1, and the margin of 2 is 1 after beta.
    margin, labels = torch.tensor([2.0]), torch.tensor([preferred])
    loss = preference_loss(margin, labels, beta=0.5, **settings)
    assert loss.item() == pytest.approx(expected)


def test_a_policy_that_is_its_reference_cannot_tell():
    method = agent(Discrete(3))
    preferences = label(arms([0, 1, 2]), all_pairs(3), score=lambda s: s.actions[:, 0] * 1.0)
    loss, told = method.loss(preferences, np.arange(6))
    assert loss.item() == pytest.approx(np.log(2.0))
    assert told[1].item() == 0.0


def test_log_ratios_are_summed_over_a_segment_or_averaged():
    values, number = torch.tensor([1.0, 10.0, 20.0, 60.0]), torch.tensor([0, 1, 1, 1])
    assert segment_sums(values, number, 2, average=False).tolist() == [1.0, 90.0]
    assert segment_sums(values, number, 2, average=True).tolist() == [1.0, 30.0]


def long_and_short(actions, rng):
    def draw(steps):
        observations = rng.normal(size=(steps, 1)).astype(np.float32)
        if isinstance(actions, Discrete):
            return observations, rng.integers(actions.n, size=steps), np.zeros(steps)
        return observations, rng.normal(size=(steps, 1)).astype(np.float32), np.zeros(steps)

    return pad([draw(steps) for steps in (1, 4, 2, 3)])


@pytest.mark.parametrize('average', [False, True])
@pytest.mark.parametrize('actions', [Discrete(3), ONE], ids=['discrete', 'gaussian'])
def test_the_loss_of_segments_of_any_length_is_the_plain_formula(actions, average):
    rng = np.random.default_rng(3)
    method = agent(actions, average=average)
    with torch.no_grad():
        for p in method.network.actor.parameters():
            p += 0.3 * torch.randn_like(p)
    segments = long_and_short(actions, rng)
    pairs = np.array([[0, 1], [1, 2], [3, 1]])
    preferences = Preferences(segments, pairs, np.array([1.0, 0.0, 0.7], np.float32))

    def ratio(row):
        total, length = 0.0, segments.lengths[row]
        for t in range(length):
            action = torch.tensor(segments.actions[row, t : t + 1])
            observation = segments.observations[row, t : t + 1]
            new = method.at(observation).log_prob(action)
            old = method.at(observation, method.reference_network).log_prob(action)
            total += (new - old).item()
        return total / length if average else total

    expected = 0.0
    for (a, b), p in zip(pairs, preferences.preferred, strict=True):
        chance = 1.0 / (1.0 + np.exp(-BETA * (ratio(a) - ratio(b))))
        expected -= p * np.log(chance) + (1.0 - p) * np.log(1.0 - chance)
    loss, _ = method.loss(preferences, np.arange(3))
    assert loss.item() == pytest.approx(expected / 3.0, abs=1e-5)


@pytest.mark.parametrize('loss', ['sigmoid', 'ipo'])
@pytest.mark.parametrize('actions', [Discrete(3), ONE], ids=['discrete', 'gaussian'])
def test_the_gradient_is_that_of_finite_differences(actions, loss):
    method = agent(actions, loss=loss)
    segments = long_and_short(actions, np.random.default_rng(3))
    pairs = np.array([[0, 1], [1, 2], [3, 1]])
    preferences = Preferences(segments, pairs, np.array([1.0, 0.0, 0.7], np.float32))
    parameters = [p for p in method.network.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in parameters:
            p += 0.2 * torch.randn_like(p)
    torch.manual_seed(0)
    for _ in range(3):
        direction = [torch.randn_like(p) for p in parameters]
        gradients = torch.autograd.grad(method.loss(preferences, np.arange(3))[0], parameters)
        slope = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
        values, step = [], 3e-3
        with torch.no_grad():
            for sign in (1, -2, 1):  # there, to the other side, back
                for p, d in zip(parameters, direction, strict=True):
                    p += sign * step * d
                values.append(method.loss(preferences, np.arange(3))[0].item())
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=0.01, abs=2e-3)


# Closed forms


def test_the_optimum_is_the_reference_times_the_exponential_of_the_planted_reward():
    rewards = np.array([0.0, 0.5, -0.3, 0.8])
    method = agent(Discrete(4))
    segments, pairs = arms([0, 1, 2, 3]), all_pairs(4)
    preferences = label(segments, pairs, score=lambda s: rewards[s.actions[:, 0]])  # exact
    fit(method, preferences, 250)
    before = probabilities(method, method.reference_network)
    assert before.max() > 1.5 * before.min()
    expected = before * np.exp(rewards / BETA)
    assert probabilities(method) == pytest.approx(expected / expected.sum(), abs=2e-3)


def test_answers_that_err_as_bradley_and_terry_say_give_the_reward_back():
    rewards = np.array([0.0, 0.5, -0.3, 0.8])
    method = agent(Discrete(4))
    pairs = np.repeat(all_pairs(4), 800, axis=0)
    preferences = label(
        arms([0, 1, 2, 3]),
        pairs,
        score=lambda s: rewards[s.actions[:, 0]],
        rng=np.random.default_rng(0),
    )
    assert set(preferences.preferred.tolist()) == {0.0, 1.0}
    fit(method, preferences, 150)
    gain = BETA * np.log(probabilities(method) / probabilities(method, method.reference_network))
    # The standard error of a difference of rewards is 1 / sqrt(2400 p (1 - p)) or so: 0.045.
    assert gain - gain[0] == pytest.approx(rewards, abs=0.15)


def test_the_mean_of_a_gaussian_moves_as_a_linear_reward_says():
    # N(m, s^2) exp(c a / beta) is N(m + c s^2 / beta, s^2): the mean moves, the spread stays.
    slope, std = 0.7, 0.5
    method = agent(ONE, initial_std=std)
    actions = np.random.default_rng(1).normal(0.3, std, (12, 1)).astype(np.float32)
    preferences = label(arms(actions), all_pairs(12), score=lambda s: slope * s.actions[:, 0, 0])
    one = np.ones((1, 1), np.float32)
    before = method.act(one).item()
    fit(method, preferences, 250)
    assert method.act(one).item() == pytest.approx(before + slope * std**2 / BETA, abs=0.01)
    assert method.network.log_std.exp().item() == pytest.approx(std, abs=0.01)


@pytest.mark.parametrize(
    ('settings', 'margin'),
    [
        ({'label_smoothing': 0.2}, np.log(0.8 / 0.2) / BETA),
        ({'loss': 'ipo'}, 0.5 / BETA),
        ({'loss': 'ipo', 'label_smoothing': 0.2}, 0.6 * 0.5 / BETA),
    ],
)
def test_sure_answers_have_a_finite_optimum_with_smoothing_or_ipo(settings, margin):
    method = agent(Discrete(2), **settings)
    preferences = Preferences(arms([0, 1]), np.array([[1, 0]]), np.ones(1, np.float32))
    fit(method, preferences, 150)
    ratio = np.log(probabilities(method) / probabilities(method, method.reference_network))
    assert ratio[1] - ratio[0] == pytest.approx(margin, rel=0.01)
    plain = agent(Discrete(2))
    fit(plain, preferences, 150)
    ratio = np.log(probabilities(plain) / probabilities(plain, plain.reference_network))
    assert ratio[1] - ratio[0] > 2.0 * margin


# The method


class Follow:
    """The observation is the last action; ten steps an episode, and nobody gives a reward."""

    name, steps = 'follow', 0

    def __init__(self, count):
        self.count, self.observation_space, self.action_space = count, ONE, ONE
        self.finished = []
        self.restart(0)

    def restart(self, seed):
        self.rng, self.age = np.random.default_rng(seed), 0
        self.observation = self.rng.normal(size=(self.count, 1)).astype(np.float32)

    def sample_tasks(self, count, rng):
        raise ValueError('no tasks')

    def step(self, action):
        self.age, self.steps = self.age + 1, self.steps + self.count
        over = np.full(self.count, self.age % 10 == 0)
        self.observation = action.astype(np.float32)
        zeros, never = np.zeros(self.count, np.float32), np.zeros(self.count, bool)
        return Outcome(self.observation, self.observation, zeros, never, over)


def roughness(segments: Segments):
    """Mean square (S,) of what each action differs from the last."""
    change = (segments.actions - segments.observations)[..., 0]
    return (change**2 * segments.mask).sum(axis=1) / segments.lengths


@pytest.mark.parametrize('seed', range(3))
def test_who_prefers_smooth_segments_gets_smooth_actions(seed):
    settings = {'hidden': (8,), 'group_size': 16, 'window': 1, 'pairs': 128}
    method = DPO(DPOConfig(learning_rate=1e-2, **settings), ONE, ONE, seed)
    method.score = lambda segments: -roughness(segments)
    world = Follow(16)

    def rough():
        world.restart(7)
        change = []
        for _ in range(10):
            before = world.observation
            change.append(method.act(before, explore=True) - before)
            world.step(before + change[-1])
        return np.mean(np.square(change))

    before = rough()
    for _ in range(15):
        method.iterate(world)
    assert rough() < 0.5 * before


def test_a_file_of_answers_is_enough_to_learn_from(tmp_path):
    answers = Preferences(arms([0, 1, 2]), np.array([[2, 0], [2, 1], [1, 0]]), np.ones(3, 'f4'))
    save_preferences(tmp_path / 'answers.safetensors', answers)
    method = agent(Discrete(3))
    metrics = method.learn(load_preferences(tmp_path / 'answers.safetensors'), epochs=60)
    assert metrics['accuracy'] > 0.9
    assert method.act(np.ones((4, 1), np.float32)).tolist() == [2] * 4
    assert probabilities(method, method.reference_network)[2] < 0.5  # the reference has stayed


def test_going_on_from_a_state_gives_the_same_numbers():
    settings = {'hidden': (8,), 'group_size': 4, 'window': 1, 'pairs': 32, 'reference_every': 2}

    def method(seed):
        made = DPO(DPOConfig(**settings, normalise_observations=True), ONE, ONE, seed)
        made.score = lambda segments: -roughness(segments)
        return made

    first, second = method(0), method(1)
    first.iterate(Follow(8))
    state = {name: value.copy() for name, value in first.state().items()}
    second.load_state(state)
    assert first.iterate(Follow(8)) == second.iterate(Follow(8))
    one, other = first.state(), second.state()
    assert all((one[name] == other[name]).all() for name in one)
    one.pop('rounds')
    with pytest.raises(ValueError, match='the state has no rounds'):
        second.load_state(one)


def test_what_does_not_fit_is_refused():
    method = agent(Discrete(3))
    none = Preferences(arms([0, 1]), np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
    with pytest.raises(ValueError, match='dpo: no pairs to learn from'):
        method.learn(none)
    vectors = arms(np.zeros((2, 1), np.float32))
    pair = np.array([[0, 1]])
    with pytest.raises(ValueError, match=r'actions of the segments have shape \(1,\), .* \(\)'):
        method.learn(Preferences(vectors, pair, np.ones(1, np.float32)))
    with pytest.raises(ValueError, match=r'beta is 0\.0; it must be above 0'):
        DPOConfig(beta=0.0)
    with pytest.raises(ValueError, match=r'label_smoothing is 0\.5'):
        DPOConfig(label_smoothing=0.5)


def balanced(method):
    """Mean steps of 32 episodes, exploring; an untrained policy falls after about 20."""
    world = make_world('CartPole-v1', 32, 1234)
    episodes = play_groups(
        world,
        lambda observation: (method.act(observation, explore=True), np.zeros(32, np.float32)),
        np.random.default_rng(0),
        size=32,
    )
    return episodes.lengths.mean()


@pytest.mark.parametrize('seed', range(2))
def test_it_learns_to_balance_from_pairs_alone(seed):
    world = make_world('CartPole-v1', 16, seed)
    method = DPO(DPOConfig(), world.observation_space, world.action_space, seed)
    assert balanced(method) < 30.0
    while world.steps < 20_000:
        method.iterate(world)
    assert balanced(method) > 90.0  # over six seeds: 166 to 424
