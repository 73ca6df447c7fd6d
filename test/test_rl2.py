"""RL^2: what it sees, what it remembers and for how long, and that it uses it."""

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.method import Box, Discrete, Outcome
from lebot_rl_ros.learning.methods.rl2 import RL2, RL2Config
from lebot_rl_ros.learning.recurrent import RecurrentActorCritic
from lebot_rl_ros.learning.rollouts import Rollouts
from lebot_rl_ros.learning.trials import Memory, episode_returns, trial_gae, trial_input

torch.set_num_threads(1)
NOTHING = Box((1,), np.zeros(1, np.float32), np.ones(1, np.float32))


class Bandits:
    """N bandits with one good arm each, the task; an episode is one pull, or as told."""

    name = 'bandits'
    observation_space, action_space = NOTHING, Discrete(3)

    def __init__(self, count, length=1):
        self.count, self.length, self.steps, self.finished = count, length, 0, []
        self.observation = np.zeros((count, 1), np.float32)
        self.good, self.age = np.zeros(count, dtype=np.int64), 0

    def sample_tasks(self, count, rng):
        return rng.integers(3, size=count)

    def set_task(self, tasks):
        self.good, self.age = np.asarray(tasks), 0

    def step(self, action):
        self.steps += self.count
        self.age += 1
        reward = (action == self.good).astype(np.float32)
        end = np.full(self.count, self.age % self.length == 0)
        never = np.zeros(self.count, dtype=bool)
        return Outcome(self.observation, self.observation, reward, never, end)


def test_what_it_sees_by_hand():
    seen = trial_input(
        np.array([[1.0, 2.0]]), np.array([[0.0, 1.0, 0.0]]), np.array([-3.0]), np.array([1.0])
    )
    assert seen.tolist() == [[1, 2, 0, 1, 0, -3, 1]]
    assert seen.dtype == np.float32


def spied(method):
    """The hidden states that go into and come out of each step, and what it saw."""
    calls, forward = [], method.network.forward

    def record(inputs, hidden):
        result = forward(inputs, hidden)
        if len(inputs) == 1:
            calls.append((inputs[0].clone(), hidden.clone(), result[2].clone()))
        return result

    method.network.forward = record
    return calls


def test_hidden_state_resets_between_tasks_and_never_else():
    world = Bandits(5, length=4)
    method = RL2(RL2Config(episodes=3, horizon=4, hidden=8), NOTHING, Discrete(3))
    calls = spied(method)
    method.iterate(world)
    method.iterate(world)
    assert len(calls) == 24  # two trials of three episodes of four steps
    for t, (inputs, before, _) in enumerate(calls):
        if t % 12 == 0:  # a new task
            assert not before.any()
            assert not inputs.any()  # nothing of the trial before
        else:
            assert torch.equal(before, calls[t - 1][2])
            assert t % 12 == 1 or before.any()
            began = t % 4 == 0
            assert (inputs[:, -1] == float(began)).all()  # and it is told that an episode ended
            assert (inputs[:, 1:4].sum(1) == 1.0).all()  # one action was taken


def test_it_is_told_what_the_last_action_earned():
    world = Bandits(6, length=2)
    method = RL2(RL2Config(episodes=2, horizon=2, hidden=8), NOTHING, Discrete(3))
    calls = spied(method)
    tasks = np.arange(6) % 3
    _, trials = method.evaluate(world, tasks, explore=True)
    for t in range(1, 4):
        inputs = calls[t][0].numpy()
        assert np.array_equal(inputs[:, 1:4].argmax(1), trials.actions[t - 1])
        assert np.array_equal(inputs[:, 4], trials.rewards[t - 1])


def test_forgetting_concerns_those_who_are_told():
    method = RL2(RL2Config(hidden=8), NOTHING, Discrete(3))
    observation = np.ones((3, 1), np.float32)
    fresh = method.act(observation), method._memory.hidden.clone()
    method.see(
        Outcome(observation, observation, np.ones(3, np.float32), *np.zeros((2, 3), dtype=bool))
    )
    method.act(observation)
    grown = method._memory.hidden.clone()
    method.forget(np.array([False, True, False]))
    memory = method._memory
    assert torch.equal(memory.hidden[[0, 2]], grown[[0, 2]])
    assert not memory.hidden[1].any()
    assert memory.action.sum(1).tolist() == [1, 0, 1]
    method.act(observation)
    assert torch.equal(memory.hidden[1], fresh[1][1])
    assert not torch.equal(memory.hidden[0], fresh[1][0])


@pytest.mark.parametrize('actions', [Discrete(3), NOTHING])
def test_the_whole_trial_at_once_is_what_was_sampled_step_by_step(actions):
    torch.manual_seed(0)
    network = RecurrentActorCritic(4, actions, hidden=6)
    inputs = torch.randn(9, 5, 4)
    policy, values, last = network(inputs, network.start(5))
    chosen = policy.sample(np.random.default_rng(0))
    hidden = network.start(5)
    for t in range(9):
        step, value, hidden = network(inputs[t : t + 1], hidden)
        assert torch.allclose(step.log_prob(chosen[t : t + 1])[0], policy.log_prob(chosen)[t])
        assert torch.allclose(value[0], values[t], atol=1e-6)
    assert torch.allclose(hidden, last, atol=1e-6)


def test_gradients_flow_back_through_all_episodes_of_a_trial():
    torch.manual_seed(0)
    network = RecurrentActorCritic(2, NOTHING, hidden=4).double()
    inputs = torch.randn(12, 1, 2, dtype=torch.float64, requires_grad=True)
    start = network.start(1).double()
    value = network(inputs, start)[1][-1, 0]
    (gradient,) = torch.autograd.grad(value, inputs)
    nudged = inputs.detach().clone()
    nudged[0, 0, 0] += 1e-5
    numeric = (network(nudged, start)[1][-1, 0] - value) / 1e-5
    assert abs(float(gradient[0, 0, 0])) > 1e-9
    assert float(gradient[0, 0, 0]) == pytest.approx(float(numeric.detach()), rel=1e-3)


def test_an_update_begins_at_the_policy_that_sampled():
    """Also once the normaliser has moved: it does so after an update, never before."""
    method = RL2(RL2Config(episodes=3, horizon=4, minibatch=8), NOTHING, Discrete(3))
    kls, step = [], method._step

    def record(*batch):
        result = step(*batch)
        kls.append(result[3])
        return result

    method._step = record
    for _ in range(3):
        kls.clear()
        method.iterate(Bandits(16, length=4))
        assert abs(kls[0]) < 1e-6
        assert abs(kls[-1]) > 1e-6
    assert float(method.network.normaliser.count) == 3 * 16 * 12


def test_advantages_go_on_over_the_end_of_an_episode():
    rewards, values = np.array([[0.0], [0.0], [8.0]]), np.array([[1.0], [2.0], [4.0]])
    advantages, returns = trial_gae(rewards, values, discount=0.5, trace=0.5)
    # deltas 0 + 1 - 1 = 0, 0 + 2 - 2 = 0, 8 - 4 = 4: nothing comes after the trial
    assert advantages[:, 0].tolist() == [0.25, 1.0, 4.0]
    assert returns[:, 0].tolist() == [1.25, 3.0, 8.0]


def test_returns_by_episode():
    rewards = np.array([[1, 1], [2, 2], [4, 4], [8, 8]], np.float32)
    done = np.array([[0, 0], [1, 0], [0, 0], [1, 1]], dtype=bool)
    path = np.zeros((5, 2, 1), np.float32)
    nothing = np.empty(0, dtype=int)
    trials = Rollouts(
        path, path[1:], rewards, rewards, np.zeros_like(done), done,
        nothing, nothing, path[0][:0], np.ones((4, 2), dtype=bool),
    )  # fmt: skip
    returns = episode_returns(trials, 2)
    assert returns[0].tolist() == [3, 15]
    assert returns[1, 0] == 12
    assert np.isnan(returns[1, 1])


def test_it_learns_to_remember_which_arm_was_good():
    """Three arms, four pulls: by luck a third; who remembers has it after two misses at most."""
    world = Bandits(96)
    config = RL2Config(
        episodes=4, horizon=1, hidden=24, minibatch=48, learning_rate=5e-3, discount=0.95
    )
    method = RL2(config, NOTHING, Discrete(3), seed=0)
    for _ in range(60):
        method.iterate(world)
    tasks = np.arange(96) % 3
    returns, _ = method.evaluate(world, tasks)
    assert returns[0].mean() == pytest.approx(1 / 3)  # nobody knows before the first pull
    assert returns[3].mean() > 0.9


def test_going_on_from_a_state_gives_the_same_numbers():
    def trained(iterations, state=None):
        method = RL2(RL2Config(episodes=2, horizon=3, hidden=8), NOTHING, Discrete(3))
        if state is not None:
            method.load_state(state)
        rows = [method.iterate(Bandits(7, length=3)) for _ in range(iterations)]
        return method.state(), rows

    whole, _ = trained(4)
    middle, _ = trained(2)
    end, rows = trained(2, middle)
    assert all(np.array_equal(whole[name], end[name]) for name in whole)
    assert not np.array_equal(end['network.actor.weight'], middle['network.actor.weight'])
    assert np.isfinite([list(row.values()) for row in rows]).all()


def test_acting_does_not_disturb_the_learning():
    one, two = (RL2(RL2Config(episodes=1, horizon=2), NOTHING, Discrete(3)) for _ in range(2))
    for _ in range(3):
        one.act(np.zeros((4, 1), np.float32), explore=True)
    one.iterate(Bandits(4, 2))
    two.iterate(Bandits(4, 2))
    state = two.state()
    assert all(
        np.array_equal(value, state[name])
        for name, value in one.state().items()
        if name != 'explore_rng'
    )


def test_box_actions_are_seen_as_they_were_sampled():
    network = RecurrentActorCritic(1 + 2 + 2, Box((2,), -np.ones(2), np.ones(2)), hidden=4)
    memory = Memory(network, 2, 2)
    memory.acted(np.array([[0.5, -2.0], [1.0, 0.0]]), network.start(2))
    assert memory.input(np.zeros((2, 1)))[:, 1:3].tolist() == [[0.5, -2.0], [1.0, 0.0]]


def test_errors_name_what_does_not_fit():
    with pytest.raises(ValueError, match='rl2 cannot work with 3 discrete observations'):
        RL2(RL2Config(), Discrete(3), Discrete(3))
    with pytest.raises(ValueError, match='minibatch is 0, must be 1 or more'):
        RL2Config(minibatch=0)


def test_who_strays_sees_no_more_than_the_largest_input():
    network = RecurrentActorCritic(3, Box((2,), np.full(2, -1.0), np.ones(2)), hidden=8)
    start = network.start(1)
    far, farther = torch.full((1, 1, 3), 1e3), torch.full((1, 1, 3), 1e6)
    near, less = torch.full((1, 1, 3), 4.9), torch.full((1, 1, 3), 4.8)
    values = [network(x, start)[1].item() for x in (far, farther, near, less)]
    assert values[0] == values[1]
    assert values[2] != values[3]
