"""GRPO's groups, clips and weights by hand arithmetic; its gradient against formulas."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.envs.world import make_world
from lebot_rl_ros.learning.adapt import adapt
from lebot_rl_ros.learning.episodes import Episodes, join, play_groups
from lebot_rl_ros.learning.groups import (
    group_advantages,
    informative,
    overlong_penalty,
    step_weights,
)
from lebot_rl_ros.learning.method import Box, Discrete, Outcome
from lebot_rl_ros.learning.methods.grpo import GRPO, GRPOConfig, clipped_gain, k3
from lebot_rl_ros.policy.adapters import LoraConfig

torch.set_num_threads(1)
THREE = Discrete(3)
ONE = Box((1,), np.full(1, -np.inf, np.float32), np.full(1, np.inf, np.float32))


class Toy:
    """Episodes of drawn lengths; the reward of a step is that of its action."""

    name = 'toy'

    def __init__(self, count, reward, actions, lengths=(1,), tasks=False, ends=True):
        self.count, self.reward, self.lengths = count, reward, lengths
        self.observation_space, self.action_space = ONE, actions
        self.tasks, self.task, self.ends = tasks, np.zeros(count), ends
        self.steps, self.finished, self.seeds = 0, [], []
        self.restart(0)

    def restart(self, seed):
        self.rng = np.random.default_rng(seed)
        self.seeds.append(seed)
        self.left = self.rng.choice(self.lengths, self.count)
        self.observation = np.ones((self.count, 1), np.float32)

    def sample_tasks(self, count, rng):
        if not self.tasks:
            raise ValueError('toy has no tasks')
        return rng.normal(size=count)

    def set_task(self, tasks):
        self.restart(0)
        self.task = np.asarray(tasks)
        self.observation = self.task[:, None].astype(np.float32)

    def step(self, action):
        self.steps += self.count
        self.left -= 1
        over = self.left == 0
        self.left[over] = self.rng.choice(self.lengths, over.sum())
        reward = np.asarray(self.reward(action), np.float32)
        nothing = np.zeros(self.count, bool)
        ended = (over, nothing) if self.ends else (nothing, over)
        return Outcome(self.observation, self.observation, reward, *ended)


def agent(config=None, actions=THREE, seed=0):
    return GRPO(config or GRPOConfig(hidden=(8,)), ONE, actions, seed)


def played(returns, groups, lengths=None, cut=None, actions=None, log_probs=None):
    """Episodes whose first step earns everything."""
    lengths = np.ones(len(returns), int) if lengths is None else np.asarray(lengths)
    number = np.repeat(np.arange(len(lengths)), lengths)
    rewards = np.zeros(len(number), np.float32)
    rewards[np.cumsum(lengths) - lengths] = returns
    steps = len(number)
    return Episodes(
        np.ones((steps, 1), np.float32),
        np.zeros(steps, np.int64) if actions is None else np.asarray(actions),
        np.zeros(steps, np.float32) if log_probs is None else np.asarray(log_probs, np.float32),
        rewards,
        number,
        np.asarray(groups),
        np.zeros(len(lengths), bool) if cut is None else np.asarray(cut),
        steps,
    )


def gradient(method, loss):
    parameters = list(method.network.actor.parameters())
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


# Advantages


def test_advantages_by_hand():
    returns, groups = np.array([1.0, 2.0, 3.0, 10.0, 30.0]), np.array([0, 0, 0, 1, 1])
    third = np.sqrt(1.5)  # 1 / sqrt(2/3)
    assert group_advantages(returns, groups) == pytest.approx([-third, 0, third, -1, 1])
    plain = group_advantages(returns, groups, scale=False)
    assert plain == pytest.approx([-1, 0, 1, -10, 10])


@given(
    st.lists(st.integers(-1000, 1000), min_size=12, max_size=12),
    st.sampled_from([1e-3, 0.5, 7.0, 1e6]),
    st.sampled_from([0.0, -3.0, 40.0]),
)
def test_advantages_sum_to_zero_in_each_group_whatever_the_scale(returns, scale, shift):
    returns, groups = np.array(returns, float), np.array([2, 0, 1] * 4)
    advantages = group_advantages(returns, groups)
    assert np.bincount(groups, advantages) == pytest.approx(0.0, abs=1e-12)
    assert group_advantages(scale * (returns + shift), groups) == pytest.approx(advantages)
    differ = [len(set(returns[groups == g])) > 1 for g in range(3)]
    assert np.bincount(groups, advantages**2) / 4 == pytest.approx(np.array(differ, float))


def test_groups_that_do_not_differ_teach_nothing():
    returns = np.array([0.1 + 0.2, 0.3, 5.0, 5.0 + 1e-4, 7.0, 0.0, 0.0])
    groups = np.array([0, 0, 1, 1, 2, 3, 3])  # rounding; a real difference; alone; zeros
    assert informative(returns, groups).tolist() == [False] * 2 + [True] * 2 + [False] * 3
    assert group_advantages(returns, groups).tolist() == pytest.approx([0, 0, -1, 1, 0, 0, 0])
    assert len(group_advantages(np.zeros(0), np.zeros(0, int))) == 0


# Clip, weights, lengths


@pytest.mark.parametrize(
    ('ratio', 'advantage', 'gain', 'slope'),
    [
        (1.27, 1.0, 1.27, 1.0),  # better: may rise up to 1.28
        (1.29, 1.0, 1.28, 0.0),
        (0.10, 1.0, 0.10, 1.0),  # and is always pulled back up
        (0.81, -1.0, -0.81, -1.0),  # worse: may fall down to 0.8
        (0.79, -1.0, -0.80, 0.0),
        (2.00, -1.0, -2.00, -1.0),  # and is always pulled back down
    ],
)
def test_the_edges_of_the_clip(ratio, advantage, gain, slope):
    r = torch.tensor(ratio, requires_grad=True)
    result = clipped_gain(r, torch.tensor(advantage), 0.2, 0.28)
    result.backward()
    assert result.item() == pytest.approx(gain)
    assert float(r.grad) == pytest.approx(slope)


def test_weights_of_steps_by_hand():
    assert step_weights(np.array([1, 3]), 'step') == pytest.approx([1 / 4, 1 / 4])
    assert step_weights(np.array([1, 3]), 'episode') == pytest.approx([1 / 2, 1 / 6])


@pytest.mark.parametrize(('per', 'expected'), [('step', 0.5), ('episode', 0.0)])
def test_long_episodes_weigh_more_per_step_and_the_same_per_episode(per, expected):
    # Advantages -1 for the one step of the first, +1 for each of three of the second; ratio 1:
    # per step (-1 + 3) / 4, per episode (-1 + 1) / 2.
    method = agent(GRPOConfig(hidden=(8,), per=per))
    action, log_prob = method.sample(np.ones((4, 1), np.float32))
    episodes = played([0.0, 2.0], [0, 0], lengths=[1, 3], actions=action, log_probs=log_prob)
    assert method.loss(method.batch(episodes))[0].item() == pytest.approx(-expected, abs=1e-6)


def test_masked_episodes_count_in_the_mean_but_are_not_learned_from():
    method = agent(GRPOConfig(hidden=(8,), overlong='mask'))
    batch = method.batch(played([1.0, 3.0], [0, 0], lengths=[1, 2], cut=[True, False]))
    assert batch.advantages.tolist() == [-1.0, 1.0, 1.0]
    assert batch.weights.tolist() == pytest.approx([0.0, 1 / 3, 1 / 3])


def test_the_soft_penalty_of_length():
    penalty = overlong_penalty(np.array([1, 80, 90, 100, 150]), 100, 20)
    assert penalty == pytest.approx([0, 0, -0.5, -1, -1])
    config = GRPOConfig(hidden=(8,), longest=4, overlong_margin=2, overlong_penalty=10.0)
    episodes = played([5.0, 5.0, 5.0], [0, 0, 0], lengths=[2, 3, 4])
    assert agent(config).earned(episodes) == pytest.approx([5.0, 0.0, -5.0])
    with pytest.raises(ValueError, match='margin of the length is 0, must be from 1 to 100'):
        overlong_penalty(np.ones(1), 100, 0)


# Gradients


def test_k3_estimates_the_kl_and_its_gradient_is_that_of_the_other_way_round():
    logits = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64, requires_grad=True)
    q = torch.log_softmax(torch.tensor([-0.2, 0.4, 0.5], dtype=torch.float64), 0)
    log_p = torch.log_softmax(logits, 0)
    p = log_p.detach().exp()
    estimates = k3(log_p, q)
    assert bool((estimates >= 0.0).all())
    exact = (p * (log_p - q)).sum().item()
    assert (p * estimates).sum().item() == pytest.approx(exact)
    (found,) = torch.autograd.grad((p * estimates).sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad((q.exp() * (q - log_p)).sum(), logits)
    assert found.numpy() == pytest.approx(expected.numpy())


def test_the_gradient_of_a_bandit_is_the_analytic_one():
    # A mean over a group that has the action itself in it takes 1 / G of the gradient away.
    size, rewards = 3, np.array([1.0, -2.0, 4.0])
    method = agent(GRPOConfig(hidden=(8,), scale=False))
    with torch.no_grad():
        method.network.actor[-1].bias += torch.tensor([0.4, -0.3, 0.1])
    distribution = method.at(np.ones((1, 1), np.float32))
    p = torch.softmax(distribution.logits[0], 0)
    expected = gradient(method, (p * torch.from_numpy(rewards).float()).sum())
    chance = p.detach().numpy().astype(float)
    found = torch.zeros_like(expected)
    for choice in itertools.product(range(3), repeat=size):
        log_probs = np.log(chance[list(choice)])
        episodes = played(rewards[list(choice)], [0] * size, actions=choice, log_probs=log_probs)
        loss = method.loss(method.batch(episodes))[0]
        found -= float(np.prod(chance[list(choice)])) * gradient(method, loss)
    assert found.numpy() == pytest.approx(expected.numpy() * (size - 1) / size, abs=1e-5)


@pytest.mark.parametrize('actions', [Discrete(3), ONE], ids=['discrete', 'gaussian'])
def test_the_gradient_is_that_of_the_plain_formula(actions):
    config = GRPOConfig(
        hidden=(8,), per='episode', clip_low=0.1, clip_high=0.15, kl_coefficient=0.5,
        entropy_coefficient=0.2,
    )  # fmt: skip
    method = agent(config, actions)
    lengths, returns, groups = [2, 1, 3, 2], [1.0, 4.0, -2.0, 0.0], [0, 0, 1, 1]
    observations = method.rng.normal(size=(8, 1)).astype(np.float32)
    action, old = method.sample(observations)
    old = old + np.linspace(-0.3, 0.3, 8, dtype=np.float32)  # ratios on both sides of the clips
    with torch.no_grad():
        for p in method.reference_network.parameters():
            p += 0.3 * torch.randn_like(p)
    episodes = played(returns, groups, lengths, actions=action, log_probs=old)
    episodes = Episodes(observations, *list(vars(episodes).values())[1:])
    loss = method.loss(method.batch(episodes))[0]

    advantages, expected, step = [-1.0, 1.0, -1.0, 1.0], 0.0, 0
    for length, a in zip(lengths, advantages, strict=True):
        for _ in range(length):
            here = observations[step : step + 1]
            now, taken = method.at(here), torch.tensor(action[step : step + 1])
            new = now.log_prob(taken)
            other = method.at(here, method.reference_network)
            away = other.log_prob(taken).detach() - new
            r = (new - float(old[step])).exp()
            low, high = (r * a, r.clamp(0.9, 1.15) * a)
            gain = low if low < high else high
            kl = away.exp() - away - 1.0
            expected -= (gain - 0.5 * kl + 0.2 * now.entropy()) / (length * len(lengths))
            step += 1
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    found, wanted = gradient(method, loss), gradient(method, expected)
    assert found.numpy() == pytest.approx(wanted.numpy(), abs=1e-6)
    assert float(wanted.norm()) > 0.1


def test_each_minibatch_stands_for_all_steps(monkeypatch):
    method = agent(GRPOConfig(hidden=(8,), minibatch=4, epochs=1))
    action, log_prob = method.sample(method.rng.normal(size=(8, 1)).astype(np.float32))
    episodes = played([1.0, 4.0], [0, 0], [3, 5], actions=action, log_probs=log_prob)
    batch, found = method.batch(episodes), []
    monkeypatch.setattr(method, 'descend', lambda loss: found.append(gradient(method, loss)))
    method.update(batch)
    whole = gradient(method, method.loss(batch)[0])
    assert len(found) == 2
    assert (sum(found) / 2).numpy() == pytest.approx(whole.numpy(), abs=1e-6)
    assert float(whole.norm()) > 0.01


# Playing groups


def test_episodes_that_begin_in_the_window_are_all_played_to_their_end():
    world = Toy(4, lambda a: np.ones(4), Discrete(2), lengths=(2, 7))

    def act(observation):
        return np.zeros(4, np.int64), np.zeros(4, np.float32)

    episodes = play_groups(world, act, np.random.default_rng(0), size=2, window=5000, longest=100)
    # Taking what ends in a window would have too many of the short; means differ by sampling only.
    assert set(episodes.lengths.tolist()) == {2, 7}
    assert np.mean(episodes.lengths) == pytest.approx(4.5, abs=0.1)
    assert episodes.returns == pytest.approx(episodes.lengths)
    assert not episodes.cut.any()
    assert set(episodes.groups.tolist()) == {0, 1}
    assert len(episodes.number) / episodes.taken > 0.99
    one = play_groups(world, act, np.random.default_rng(0), size=2, window=1, longest=100)
    assert one.groups.tolist() == [0, 0, 1, 1]


def test_what_does_not_end_is_cut():
    world = Toy(2, lambda a: np.ones(2), Discrete(2), lengths=(1000,))
    method = agent(actions=Discrete(2))
    episodes = play_groups(world, method.sample, method.rng, size=2, window=1, longest=10)
    assert episodes.lengths.tolist() == [10, 10]
    assert episodes.cut.all()
    world = Toy(2, lambda a: np.ones(2), Discrete(2), lengths=(3,), ends=False)
    episodes = play_groups(world, method.sample, method.rng, size=2, window=1, longest=10)
    assert episodes.lengths.tolist() == [3, 3]
    assert episodes.cut.all()


def test_a_group_from_one_seed_begins_in_the_very_same_state():
    world = make_world('CartPole-v1', 3)
    method = GRPO(GRPOConfig(), world.observation_space, world.action_space)
    episodes = play_groups(world, method.sample, method.rng, size=4, starts='seed')
    firsts = episodes.observations[np.cumsum(episodes.lengths) - episodes.lengths]
    assert len(firsts) == 12
    for group in range(3):
        mine = firsts[episodes.groups == group]
        assert len(mine) == 4
        assert (mine == mine[0]).all()
    assert len(np.unique(firsts, axis=0)) == 3
    assert len(set(episodes.returns.tolist())) > 3  # but the actions differ


def test_a_group_shares_its_task():
    world = Toy(6, lambda a: np.ones(6), Discrete(2), tasks=True)
    method = agent(actions=Discrete(2))
    episodes = play_groups(world, method.sample, method.rng, size=3)
    tasks = episodes.observations[:, 0]
    assert (tasks == tasks[[0, 0, 0, 3, 3, 3]]).all()
    assert tasks[0] != tasks[3]
    assert episodes.groups.tolist() == [0, 0, 0, 1, 1, 1]


def test_select_and_join_keep_steps_and_groups_together():
    first = played([1.0, 2.0, 3.0], [0, 1, 1], lengths=[2, 1, 3])
    part = first.select(np.array([False, True, True]))
    assert part.number.tolist() == [0, 1, 1, 1]
    assert part.returns.tolist() == [2.0, 3.0]
    assert part.groups.tolist() == [1, 1]
    both = join([first, part], apart=True)
    assert both.groups.tolist() == [0, 1, 1, 3, 3]
    assert both.returns.tolist() == [1.0, 2.0, 3.0, 2.0, 3.0]
    assert both.lengths.tolist() == [2, 1, 3, 1, 3]
    assert join([first, part]).groups.tolist() == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ('size', 'starts', 'message'),
    [
        (3, 'any', 'groups of 3 do not fit 4 environments of toy'),
        (1, 'auto', 'groups of 1 do not fit 4 environments of toy'),
        (1, 'seed', 'groups of 1 from one seed in toy'),
        (2, 'task', 'toy has no tasks'),
    ],
)
def test_groups_that_the_world_cannot_form_are_refused(size, starts, message):
    world = Toy(4, lambda a: np.ones(4), Discrete(3))
    method = agent(GRPOConfig(hidden=(8,), group_size=size, starts=starts))
    with pytest.raises(ValueError, match=message):
        method.iterate(world)


# The method


def test_dynamic_sampling_plays_on_until_groups_differ():
    config = GRPOConfig(hidden=(8,), group_size=2, window=1, dynamic_sampling=True, rounds=3)
    method = agent(config, Discrete(2))
    before = method.state()
    dull = Toy(4, lambda a: np.ones(4), Discrete(2))
    metrics = method.iterate(dull)
    assert dull.steps == 3 * 4  # all rounds, in vain
    assert metrics['informative_groups'] == 0.0
    after = method.state()
    assert all((after[k] == v).all() for k, v in before.items() if k.startswith('network.'))
    world = Toy(16, lambda a: a, Discrete(2))
    episodes, share = method.gather(world)
    assert world.steps == episodes.taken > 16  # more than a round: half of the pairs are equal
    assert 0.0 < share < 1.0
    assert informative(episodes.returns, episodes.groups).all()
    assert set(np.bincount(episodes.groups).tolist()) <= {0, 2}  # groups of rounds stay apart


def test_the_policy_becomes_the_reference_when_it_is_time():
    method = agent(GRPOConfig(hidden=(8,), group_size=4, window=1, reference_every=2))
    world = Toy(8, lambda a: a, Discrete(3))

    def same():
        pairs = zip(
            method.network.parameters(), method.reference_network.parameters(), strict=True
        )
        return all(bool((a == b).all()) for a, b in pairs)

    seen = []
    for _ in range(4):
        method.iterate(world)
        seen.append(same())
    assert seen == [False, True, False, True]


def test_a_penalty_of_the_kl_holds_the_policy_back():
    def distance(coefficient):
        config = GRPOConfig(
            hidden=(8,), group_size=8, window=1, kl_coefficient=coefficient, learning_rate=1e-2
        )
        method, world = agent(config), Toy(32, lambda a: a, Discrete(3))
        for _ in range(30):
            method.iterate(world)
        one = np.ones((1, 1), np.float32)
        other = method.at(one, method.reference_network)
        return method.at(one).kl(other).item()

    assert distance(0.0) > 0.5  # towards one arm of three: log 3
    assert distance(1.0) < 0.5 * distance(0.0)


@pytest.mark.parametrize('seed', range(3))
def test_a_gaussian_finds_the_best_action(seed):
    config = GRPOConfig(hidden=(8,), group_size=8, window=1, learning_rate=1e-2)
    method = agent(config, ONE, seed)
    world = Toy(32, lambda a: -((a[:, 0] - 0.5) ** 2), ONE)
    for _ in range(60):
        method.iterate(world)
    assert float(method.act(np.ones((1, 1), np.float32))[0, 0]) == pytest.approx(0.5, abs=0.1)


def test_going_on_from_a_state_gives_the_same_numbers():
    config = GRPOConfig(
        hidden=(8,), group_size=4, window=3, kl_coefficient=0.1, normalise_observations=True
    )

    def world():
        return Toy(8, lambda a: a, Discrete(3), lengths=(1, 2))

    first = agent(config)
    first.iterate(world())
    state = {name: value.copy() for name, value in first.state().items()}
    second = agent(config, seed=9)
    second.load_state(state)
    assert first.iterate(world()) == second.iterate(world())
    one, other = first.state(), second.state()
    assert set(one) == set(other)
    assert all((one[name] == other[name]).all() for name in one)
    one.pop('updates')
    with pytest.raises(ValueError, match='the state has no updates'):
        second.load_state(one)


def test_exploring_does_not_disturb_the_learning():
    def numbers(look):
        method, world = agent(), Toy(8, lambda a: a, Discrete(3))
        if look:
            method.act(np.ones((5, 1), np.float32), explore=True)
        return method.iterate(world)

    assert numbers(False) == numbers(True)


def test_pictures_are_refused():
    low = np.zeros((36, 36, 3), np.uint8)
    with pytest.raises(ValueError, match=r'grpo cannot work .* pictures as observations'):
        GRPO(GRPOConfig(), Box(low.shape, low, low + 255, 'uint8'), Discrete(2))


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
def test_it_learns_to_balance(seed):
    world = make_world('CartPole-v1', 16, seed)
    config = GRPOConfig(learning_rate='linear:2e-3:0')
    method = GRPO(config, world.observation_space, world.action_space, seed)
    assert balanced(method) < 30.0
    while world.steps < 20_000:
        method.progress = world.steps / 20_000
        method.iterate(world)
    assert balanced(method) > 90.0  # over six seeds: 142 to 325


def test_an_adapter_learns_on_a_frozen_policy_that_is_the_reference():
    config = GRPOConfig(
        hidden=(8,), group_size=8, window=1, learning_rate=1e-2, normalise_observations=True
    )
    base, method = agent(config, seed=5), agent(config)
    lora = LoraConfig(r=2, lora_alpha=2, target_modules=('actor.0', 'actor.1'))
    adapt(method, base.state(), lora)
    one = np.ones((1, 1), np.float32)
    start = method.at(one).logits
    assert (start == base.at(one).logits).all()
    assert (start == method.at(one, method.reference_network).logits).all()
    world = Toy(32, lambda a: a, THREE)
    for _ in range(40):
        method.iterate(world)
    assert method.act(one).tolist() == [2]
    assert (method.at(one, method.reference_network).logits == start).all()
    for name, value in base.state().items():
        if name.startswith('network.'):
            assert (method.state()[name] == value).all()
