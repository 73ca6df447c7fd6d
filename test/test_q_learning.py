"""Q-learning against value iteration, and the numbers of single steps."""

from copy import deepcopy

import gymnasium
import numpy as np
import pytest

from lebot_rl_ros.learning.method import Box, Discrete, Outcome
from lebot_rl_ros.learning.methods.q_learning import QLearning, QLearningConfig
from small_worlds import SmallWorld, TableWorld, TimeOutChain, policy_value, value_iteration


def method(world, seed=0, **config):
    spaces = world.observation_space, world.action_space
    return QLearning(QLearningConfig(**config), *spaces, seed=seed)


def run(learner, world, steps):
    while world.steps < steps:
        learner.progress = world.steps / steps
        learner.iterate(world)


def random_mdp(seed):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(5, 0.5), size=(5, 3)), rng.standard_normal((5, 3))


def frozen_lake():
    """Transitions, expected rewards and ends of Gymnasium's slippery 4 x 4 lake, as a table."""
    env = gymnasium.make('FrozenLake-v1', is_slippery=True)
    table = env.unwrapped.P
    transitions, rewards = np.zeros((16, 4, 16)), np.zeros((16, 4))
    ends = np.zeros(16, bool)
    for s, actions in table.items():
        for a, branches in actions.items():
            for probability, following, reward, over in branches:
                transitions[s, a, following] += probability
                rewards[s, a] += probability * reward
                ends[following] |= over
    env.close()
    return transitions, rewards, ends


@pytest.mark.parametrize('seed', [0, 1])
def test_a_random_mdp_against_value_iteration(seed):
    transitions, rewards = random_mdp(seed)
    best = value_iteration(transitions, rewards, 0.8)
    world = TableWorld(transitions, rewards, count=16, seed=seed)
    learner = method(world, seed, discount=0.8, learning_rate=1.0, visit_power=0.7, epsilon=0.5)
    run(learner, world, 80_000)
    assert np.abs(learner.q - best).max() < 0.04 * np.ptp(best)
    value = policy_value(transitions, rewards, 0.8, learner.act(np.arange(5)))
    np.testing.assert_allclose(value, best.max(axis=1), rtol=1e-9)


def test_frozen_lake_against_value_iteration():
    transitions, rewards, ends = frozen_lake()
    best = value_iteration(transitions, rewards, 0.95, ends)
    world = Lake(16, starts=np.flatnonzero(~ends))
    learner = method(world, discount=0.95, learning_rate=1.0, visit_power=0.7, epsilon=1.0)
    run(learner, world, 200_000)
    assert np.abs(learner.q - best)[~ends].max() < 0.06
    value = policy_value(transitions, rewards, 0.95, learner.act(np.arange(16)), ends)
    assert value[0] > 0.98 * best[0].max()
    assert learner.act(np.array([0]))[0] == best[0].argmax()


class Lake(SmallWorld):
    """Gymnasium's table of the slippery lake; episodes begin anywhere on the ice."""

    def __init__(self, count, starts, seed=0):
        env = gymnasium.make('FrozenLake-v1', is_slippery=True).unwrapped
        self.table, self.rng, self.starts = env.P, np.random.default_rng(seed), starts
        self.states = np.zeros(count, int)
        super().__init__(count, Discrete(16), Discrete(4), limit=100)

    def begin(self, which):
        self.states[which] = self.rng.choice(self.starts, len(which))

    def observe(self):
        return self.states.copy()

    def move(self, action):
        draws = self.rng.integers(3, size=self.count)  # three branches, equally likely
        rows = [
            self.table[s][a][i]
            for s, a, i in zip(self.states.tolist(), action.tolist(), draws, strict=True)
        ]
        self.states = np.array([row[1] for row in rows])
        return np.array([row[2] for row in rows]), np.array([row[3] for row in rows])


class Once:
    """Gives one outcome after another, whatever is done."""

    name, steps = 'once', 0

    def __init__(self, observation, outcomes):
        self.observation_space, self.action_space = Discrete(3), Discrete(2)
        self.observation, self.outcomes = np.array(observation), list(outcomes)
        self.count = len(observation)

    def step(self, action):
        self.action = action
        outcome = self.outcomes.pop(0)
        self.observation = outcome.observation
        return outcome


def outcome(following, reward, terminated=False, truncated=False, then=0):
    n = len(following)
    return Outcome(
        np.full(n, then),
        np.array(following),
        np.array(reward, np.float32),
        np.full(n, terminated),
        np.full(n, truncated),
    )


@pytest.mark.parametrize(
    ('kind', 'expected'),
    # q(0, 1) was 10 and is the best; the next state is worth 4: alpha 0.5, gamma 0.9
    [({}, 10 + 0.5 * (1 + 0.9 * 4 - 10)), ({'truncated': True}, 10 + 0.5 * (1 + 0.9 * 4 - 10)),
     ({'terminated': True}, 10 + 0.5 * (1 - 10))],
)  # fmt: skip
def test_one_step_by_hand(kind, expected):
    # A cut episode starts over in state 2, which is worth 100: that must not be looked at.
    world = Once([0], [outcome([1], [1.0], then=2, **kind)])
    learner = method(world, discount=0.9, learning_rate=0.5, epsilon=0.0, steps=1)
    learner.q[:] = [[0.0, 10.0], [4.0, 3.0], [100.0, 100.0]]
    metrics = learner.iterate(world)
    assert learner.q.tolist() == [[0.0, pytest.approx(expected)], [4.0, 3.0], [100.0, 100.0]]
    assert learner.visits.tolist() == [[0, 1], [0, 0], [0, 0]]
    assert metrics['td_error'] == pytest.approx(abs(expected - 10.0) / 0.5)


def test_two_environments_in_one_state_learn_one_after_another():
    world = Once([0, 0], [outcome([1, 1], [8.0, 8.0], terminated=True)])
    learner = method(world, learning_rate=0.5, epsilon=0.0, steps=1)
    learner.q[0, 1] = 1e-9  # the best, and as good as nothing
    learner.iterate(world)
    assert learner.q[0, 1] == pytest.approx(4.0 + 0.5 * 4.0)


def test_the_rate_falls_with_the_visits():
    world = Once([0], [outcome([1], [1.0], terminated=True)] * 4)
    learner = method(world, learning_rate=1.0, visit_power=0.5, epsilon=0.0, steps=1)
    learner.q[0, 1] = 1e-9
    q = 1e-9
    for visit in (1, 2, 3, 4):
        learner.iterate(world)
        q += visit**-0.5 * (1.0 - q)
        assert learner.q[0, 1] == pytest.approx(q)
        world.observation = np.array([0])


def test_a_chain_of_time_outs_is_worth_what_it_would_be_without():
    world = TimeOutChain(4)
    learner = method(world, discount=0.9, learning_rate=0.2, epsilon=1.0)
    run(learner, world, 20_000)
    np.testing.assert_allclose(learner.q, 10.0, rtol=1e-3)


def test_exploration_follows_its_schedule():
    world = TimeOutChain(1)
    learner = method(world, epsilon='linear:1:0:0.5', learning_rate=0.0)
    learner.q[:, 1] = 1.0
    observation = np.zeros(20_000, int)
    for progress, share in ((0.0, 0.5), (0.25, 0.25), (0.5, 0.0), (1.0, 0.0)):
        learner.progress = progress
        other = (learner.act(observation, explore=True) == 0).mean()
        assert other == pytest.approx(share, abs=0.02)
        assert learner.iterate(world)['epsilon'] == pytest.approx(2.0 * share)
    assert (learner.act(observation) == 1).all()


def test_equals_share_when_it_explores():
    learner = method(TimeOutChain(1), epsilon=0.0)
    actions = learner.act(np.zeros(10_000, int), explore=True)
    assert actions.mean() == pytest.approx(0.5, abs=0.03)


def test_it_goes_on_from_a_state_to_the_same_numbers():
    transitions, rewards = random_mdp(3)
    world = TableWorld(transitions, rewards, count=3, seed=5)
    first, second = (method(world, seed=i, visit_power=0.6) for i in (0, 1))
    first.iterate(world)
    saved, twin = first.state(), deepcopy(world)
    second.load_state(saved)
    first.act(np.zeros(5, int), explore=True)  # disturbs nothing
    first.iterate(world)
    second.iterate(twin)
    assert (first.q == second.q).all()
    assert (first.visits == second.visits).all()
    assert (saved['q'] != first.q).any()  # a state is a copy


def test_a_state_that_does_not_fit_is_refused():
    learner = method(TimeOutChain(1))
    for name in learner.state():
        state = {key: value for key, value in learner.state().items() if key != name}
        with pytest.raises(ValueError, match=name):
            learner.load_state(state)
    with pytest.raises(ValueError, match=r'q is \(3, 2\), expected \(2, 2\)'):
        learner.load_state({**learner.state(), 'q': np.zeros((3, 2))})


@pytest.mark.parametrize(
    ('which', 'message'),
    [(0, 'q_learning cannot work with continuous .* observations; .*ppo'),
     (1, 'q_learning cannot work with continuous .* actions; .*td3')],
)  # fmt: skip
def test_spaces_that_are_no_table_are_refused(which, message):
    spaces = [Discrete(2), Discrete(2)]
    spaces[which] = Box((2,), np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match=message):
        QLearning(QLearningConfig(), *spaces)


@pytest.mark.parametrize(
    ('setting', 'message'),
    [({'discount': 1.1}, 'discount is 1.1'), ({'visit_power': -0.1}, 'visit_power is -0.1'),
     ({'steps': 0}, 'steps is 0')],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        QLearningConfig(**setting)
