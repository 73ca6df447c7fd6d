"""Fixed points by linear algebra, gradients by finite differences, updates by hand numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lebot_rl_ros.data.transitions import Transitions
from lebot_rl_ros.learning.deterministic import bellman_target, value_loss
from lebot_rl_ros.learning.method import Box, Discrete, Outcome
from lebot_rl_ros.learning.methods.ddpg import DDPG, DDPGConfig
from lebot_rl_ros.learning.methods.td3 import TD3, TD3Config
from lebot_rl_ros.learning.noise import GaussianNoise, OrnsteinUhlenbeckNoise, make_noise
from lebot_rl_ros.learning.registry import find
from lebot_rl_ros.learning.targets import Target, soft_update
from lebot_rl_ros.policy.adapters import LoraConfig
from lebot_rl_ros.policy.lora import add_adapter
from lebot_rl_ros.policy.networks import ActorCritic

torch.set_num_threads(1)  # for small tensors, threads only wait for each other
SMALL = DDPGConfig(
    steps=10, capacity=1000, learning_starts=20, batch=16, hidden=(16, 16), discount=0.9
)


def box(size, bound=1.0):
    limits = np.full(size, bound, np.float32)
    return Box((size,), -limits, limits)


class Chain:
    """States in a row, shown one-hot, walked from left to right whatever the action is.

    The reward is that of the state plus half the action. At the end the episode terminates, or
    begins again (``ring``), with a time-out after ``limit`` steps.
    """

    name = 'chain'

    def __init__(self, rewards, *, count=2, ring=False, limit=10**9, slope=0.5):
        self.rewards, self.count, self.ring, self.limit = np.array(rewards), count, ring, limit
        self.slope, self.size = slope, len(rewards)
        self.observation_space, self.action_space = box(self.size), box(1, 2.0)
        self.steps, self.finished, self.actions = 0, [], []
        self.place, self.age = np.zeros(count, int), np.zeros(count, int)
        self.observation = self.show(self.place)

    def show(self, place):
        return np.eye(self.size, dtype=np.float32)[place % self.size]

    def step(self, action):
        assert action.shape == (self.count, 1)
        self.actions.append(action)
        reward = self.rewards[self.place] + self.slope * action[:, 0]
        self.place, self.age, self.steps = self.place + 1, self.age + 1, self.steps + self.count
        terminated = (self.place == self.size) & (not self.ring)
        self.place %= self.size
        truncated = (self.age >= self.limit) & ~terminated
        final = self.show(self.place)
        self.age[terminated | truncated] = 0
        if truncated.any():  # the next episode begins elsewhere
            self.place[truncated] = 0
        self.observation = self.show(self.place)
        return Outcome(self.observation, final, reward.astype(np.float32), terminated, truncated)


def value_of(method, state, action):
    """What the first critic says of a state of a chain and an action in the world's units."""
    observation = torch.eye(method.observation_space.shape[0])[[state]]
    unit = torch.tensor([[action / 2.0]])
    with torch.no_grad():
        return float(method.network.values(observation, unit)[0])


# --- formulas by hand -----------------------------------------------------------------------


def test_the_bellman_target_by_hand():
    target = bellman_target(
        torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.0, 0.25]), torch.tensor([10.0, 20, 40])
    )
    assert target.tolist() == [6.0, 2.0, 13.0]


def test_the_value_loss_sums_over_critics_and_averages_over_steps():
    values = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0])]
    # (0 + 1) / 2 + (4 + 1) / 2
    assert float(value_loss(values, torch.tensor([1.0, 1.0]))) == 3.0


def test_the_soft_update_by_hand():
    target, source = [torch.tensor([0.0, 10.0]), torch.tensor(4.0)], [
        torch.tensor([10.0, 0.0]), torch.tensor(0.0),
    ]  # fmt: skip
    soft_update(target, source, 0.25)
    assert target[0].tolist() == [2.5, 7.5]
    assert float(target[1]) == 3.0
    soft_update(target, source, 0.25)
    assert target[0].tolist() == [4.375, 5.625]


def test_a_target_follows_the_weights_that_adapters_make():
    network = ActorCritic(3, 2, hidden=(4,))
    target = Target(network)
    add_adapter(network, 'a', LoraConfig(r=1, lora_alpha=2, target_modules=('actor.0',)))
    target.follow(network)
    before = network.actor[0].weight.detach().clone()
    part = dict(network.actor[0].named_modules())['lora_a']
    with torch.no_grad():
        part.lora_B.fill_(1.0)
    target.update(0.5)
    expected = before + 0.5 * 2.0 * torch.ones(4, 1) @ part.lora_A
    torch.testing.assert_close(target.network.actor[0].weight, expected.detach())
    torch.testing.assert_close(target.network.actor[1].weight, network.actor[1].weight)
    assert not any(name for name in target.network.state_dict() if 'lora' in name)


def test_noise_by_hand_and_its_spread():
    rng = np.random.default_rng(0)
    walk = OrnsteinUhlenbeckNoise(1, theta=0.5)
    normal = np.random.default_rng(0).standard_normal((2, 1), dtype=np.float32)
    first = walk(2, 0.0, rng)
    assert (first == 0).all()
    walk.memory[:] = [[8.0], [4.0]]
    assert walk(2, 0.0, rng).tolist() == [[4.0], [2.0]]
    walk.forget(np.array([True, False]))
    assert walk.memory.tolist() == [[0.0], [2.0]]
    np.testing.assert_allclose(
        OrnsteinUhlenbeckNoise(1, theta=0.5)(2, 2.0, np.random.default_rng(0)),
        2.0 * 0.75**0.5 * normal, rtol=1e-6,
    )  # fmt: skip
    for noise in (OrnsteinUhlenbeckNoise(2), GaussianNoise(2)):
        draws = np.stack([noise(500, 0.3, rng) for _ in range(60)])[40:]
        assert draws.std() == pytest.approx(0.3, rel=0.05)
        correlated = np.corrcoef(draws[0].ravel(), draws[1].ravel())[0, 1]
        assert correlated == pytest.approx(0.85 if len(noise.memory) else 0.0, abs=0.15)
    with pytest.raises(ValueError, match=r"no noise 'pink'; choices are gaussian, ornstein"):
        make_noise('pink', 1)


# --- the critic -----------------------------------------------------------------------------


def frozen(config=SMALL, world=None, seed=0, **changes):
    """A DDPG whose actor never learns, after it has seen a world."""
    config = replace(config, critic_warmup=10**9, tau=0.05, **changes)
    method = DDPG(config, world.observation_space, world.action_space, seed)
    for _ in range(40):
        method.iterate(world)
    return method


def descend(method, rates):
    """Many gradient steps of the critic on the same replay, at falling rates."""
    for rate in rates:
        method.critic_optimiser.param_groups[0]['lr'] = rate
        for _ in range(600):
            method.updates += 1
            method.learn(method.replay.sample(64, method.rng, discount=method.config.discount))


@pytest.mark.parametrize('n_steps', [1, 3])
def test_the_critic_of_a_chain_is_what_linear_algebra_says(n_steps):
    world = Chain([1.0, -2.0, 3.0, 0.5], slope=0.0)
    method = frozen(world=world, hidden=(), n_steps=n_steps, critic_rate='3e-2')
    walk = np.eye(4, k=1)  # state to state; the last leads nowhere
    expected = np.linalg.solve(np.eye(4) - 0.9 * walk, world.rewards)
    for rate in (3e-2, 1e-2, 1e-3):
        method.critic_optimiser.param_groups[0]['lr'] = rate
        for _ in range(400):
            batch = method.replay.sample(64, method.rng, discount=0.9, n_steps=n_steps)
            method.updates += 1
            method.learn(batch)
    found = [value_of(method, state, 0.0) for state in range(4)]
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_linear_critic_finds_the_fixed_point_of_its_own_replay():
    """TD's fixed point for linear features x: A w = b, A = E[x (x - gamma x')^T], b = E[x r].

    With a policy whose action differs from state to state, and rewards that the features cannot
    represent, so that only this projected fixed point will do.
    """
    world = Chain([1.0, -2.0, 3.0], ring=True, limit=7)
    world.rewards = np.array([1.0, -2.0, 3.0])
    method = frozen(world=world, hidden=(), learning_starts=300)
    with torch.no_grad():
        method.network.actor[0].weight.copy_(torch.tensor([[2.0, -1.0, 0.3]]))
    method.target.follow(method.network)
    replay, size = method.replay, len(method.replay)
    replay.rewards[:size] += replay.actions[:size, 0] ** 2  # beyond a linear critic
    one = np.ones((size, 1))
    following = np.tanh(replay.next_observations[:size] @ np.array([[2.0], [-1.0], [0.3]]))
    x = np.hstack([replay.observations[:size], replay.actions[:size], one])
    x_next = np.hstack([replay.next_observations[:size], following, one])
    matrix, right = x.T @ (x - 0.9 * x_next), x.T @ replay.rewards[:size]
    weights = np.linalg.lstsq(matrix, right, rcond=None)[0]  # one-hot and bias say the same twice
    descend(method, (3e-2, 1e-2, 3e-3, 3e-4, 1e-4))
    with torch.no_grad():
        seen, acted = (
            torch.from_numpy(part[:size]) for part in (replay.observations, replay.actions)
        )
        found = method.network.values(seen, acted)[0].numpy()
    np.testing.assert_allclose(found, x @ weights, atol=0.1)


@pytest.mark.parametrize(
    'method_class, config', [(DDPG, SMALL), (TD3, TD3Config(**vars(SMALL), policy_delay=1))]
)
def test_a_time_out_is_worth_what_would_have_come(method_class, config):
    """Two states, reward 1 for ever, cut every third step: Q = r / (1 - gamma) = 10."""
    world = Chain([1.0, 1.0], ring=True, limit=3, slope=0.0)
    config = replace(config, learning_rate='linear:1e-2:1e-3', tau=0.05, steps=100)
    method = method_class(config, world.observation_space, world.action_space)
    for i in range(10):
        method.progress = i / 10
        method.iterate(world)
    for state in (0, 1):
        assert value_of(method, state, 0.0) == pytest.approx(10.0, abs=0.3)


def test_a_terminated_step_is_worth_its_reward():
    """The same chain of one state, over after every step: Q = 1, not 10."""
    world = Chain([1.0], slope=0.0)
    config = replace(SMALL, learning_rate='linear:1e-2:1e-3', steps=100)
    method = DDPG(config, world.observation_space, world.action_space)
    for i in range(6):
        method.progress = i / 6
        method.iterate(world)
    assert value_of(method, 0, 0.0) == pytest.approx(1.0, abs=0.05)


def test_what_is_remembered_is_where_a_step_led_and_what_was_done():
    world = Chain([1.0, 2.0, 4.0], ring=True, limit=2)
    config = replace(SMALL, steps=60, uniform_start=False, noise_std=1.0)
    method = DDPG(config, world.observation_space, world.action_space)
    method.iterate(world)
    replay, size = method.replay, len(method.replay)
    state = replay.observations[:size].argmax(1)
    np.testing.assert_array_equal(replay.next_observations[:size].argmax(1), (state + 1) % 3)
    assert (state == 2).sum() == 0  # cut before it: a cut step leads there, and none begins there
    assert (state == 1).sum() == size / 2
    np.testing.assert_array_equal(replay.strides[:size] == 0, state == 1)
    actions = np.concatenate(world.actions)
    np.testing.assert_allclose(replay.actions[:size] * 2.0, actions, rtol=1e-6)
    assert np.abs(replay.actions).max() == 1.0  # noise this strong is cut to the range
    np.testing.assert_allclose(
        replay.rewards[:size], world.rewards[state] + 0.5 * actions[:, 0], rtol=1e-5
    )


def test_episodes_that_somebody_else_began_are_not_joined():
    world = Chain([1.0, 2.0, 4.0], ring=True)
    method = DDPG(replace(SMALL, steps=4), world.observation_space, world.action_space)
    method.iterate(world)
    assert (method.replay.strides[:4] == 2).all()
    method.iterate(world)
    assert (method.replay.strides[:8] == 2).all()
    world.observation = world.observation.copy()  # as after a restart
    method.iterate(world)
    assert (method.replay.strides[:12] == 0).tolist() == [False] * 6 + [True] * 2 + [False] * 4


# --- the actor ------------------------------------------------------------------------------


@pytest.mark.parametrize('squash', ['tanh', 'clip'])
@pytest.mark.parametrize('coefficient', [0.0, 0.7])
def test_the_policy_gradient_against_finite_differences(squash, coefficient):
    config = replace(
        SMALL, activation='tanh', squash=squash, base_coefficient=coefficient, hidden=(5, 4),
        layer_norm=True,
    )  # fmt: skip
    method = DDPG(config, box(3), box(2, 2.0), seed=1)
    for part in (method.network, method.base.network):
        part.double()
    with torch.no_grad():
        for weight in method.network.actor.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.manual_seed(0)))
    observation = torch.randn(7, 3, dtype=torch.float64, generator=torch.manual_seed(1))
    loss = method.policy_loss(observation)
    weights = list(method.network.actor.parameters())
    gradients = torch.autograd.grad(loss, weights)
    step = 1e-6
    for weight, gradient in zip(weights, gradients, strict=True):
        for index in np.ndindex(*weight.shape):
            sides = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    weight[index] += sign * step
                    sides.append(float(method.policy_loss(observation)))
                    weight[index] -= sign * step
            slope = (sides[0] - sides[1]) / (2 * step)
            assert float(gradient[index]) == pytest.approx(slope, abs=1e-8)


def test_the_actor_climbs_and_does_not_change_the_critic():
    world = Chain([0.0, 0.0])
    method = DDPG(replace(SMALL, steps=30), world.observation_space, world.action_space)
    method.iterate(world)  # two gradient steps or so
    critics = [p.detach().clone() for p in method.network.critics.parameters()]
    method.critic_optimiser = None  # only the actor learns from here on
    for _ in range(20):
        method.updates += 1
        method.learn(method.replay.sample(16, method.rng, discount=0.9))
    after = list(method.network.critics.parameters())
    assert all(torch.equal(a, b) for a, b in zip(critics, after, strict=True))


def test_it_learns_that_a_larger_action_pays():
    world = Chain([0.0, 0.0, 0.0])  # half the action, so at best 2 x 0.5 a step
    method = DDPG(replace(SMALL, steps=600), world.observation_space, world.action_space)
    method.iterate(world)
    assert method.act(np.eye(3, dtype=np.float32)).min() > 1.8


def test_a_strong_base_holds_the_policy():
    world = Chain([0.0, 0.0, 0.0])
    far = {}
    for coefficient in (0.0, 100.0):
        config = replace(SMALL, steps=600, base_coefficient=coefficient)
        method = DDPG(config, world.observation_space, world.action_space)
        start = method.act(np.eye(3))
        method.iterate(world)
        far[coefficient] = np.abs(method.act(np.eye(3)) - start).max()
    assert far[0.0] > 1.5
    assert far[100.0] < 0.1


# --- when and how often ---------------------------------------------------------------------


def test_learning_starts_when_it_should_and_as_often_as_it_should():
    world = Chain([0.0, 1.0])
    config = replace(SMALL, steps=60, learning_starts=40, gradient_steps=0.5)
    method = DDPG(config, world.observation_space, world.action_space)
    metrics = method.iterate(world)
    # 60 steps in 30 rounds of 2; rounds 21 to 30 learn: 20 steps x 0.5
    assert world.steps == 60
    assert metrics['updates'] == method.updates == 10
    assert metrics['replay'] == 60
    early, late = np.array(world.actions[:20]), np.array(world.actions[20:])
    assert np.abs(early).max() <= 2.0
    assert early.std() == pytest.approx(2.0 / 3**0.5, rel=0.25)  # uniform from -2 to 2
    assert late.std() < 0.5  # the policy begins near the middle, and its noise is 0.1 of 2


def test_a_critic_warm_up_leaves_the_actor_alone():
    world = Chain([0.0, 1.0])
    config = replace(SMALL, critic_warmup=15, steps=2, uniform_start=False)
    method = DDPG(config, world.observation_space, world.action_space)
    start = [p.detach().clone() for p in method.network.actor.parameters()]

    def unchanged():
        now = method.network.actor.parameters()
        return all(torch.equal(a, b) for a, b in zip(start, now, strict=True))

    while method.updates < 14:
        method.iterate(world)
    assert unchanged()
    method.iterate(world)
    assert method.updates == 16
    assert not unchanged()


def test_schedules_reach_the_optimisers_and_the_noise():
    world = Chain([0.0, 1.0])
    config = replace(
        SMALL, learning_rate='linear:1e-2:0', critic_rate='linear:2e-2:0', noise_std='linear:1:0'
    )
    method = DDPG(config, world.observation_space, world.action_space)
    method.progress = 0.5
    metrics = method.iterate(world)
    assert metrics['noise_std'] == 0.5
    assert metrics['learning_rate'] == 5e-3
    assert method.actor_optimiser.param_groups[0]['lr'] == 5e-3
    assert method.critic_optimiser.param_groups[0]['lr'] == 1e-2


def test_the_normaliser_is_fixed_when_learning_starts():
    world = Chain([0.0, 1.0, 2.0])
    method = DDPG(replace(SMALL, normalise=True), world.observation_space, world.action_space)
    for _ in range(3):
        method.iterate(world)
    seen = method.replay.observations[:22]  # 20 steps, and the round that filled it
    np.testing.assert_allclose(method.network.normaliser.mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(method.network.normaliser.var, seen.var(0), rtol=1e-5)
    assert method.updates > 2


# --- starts, states, refusals ---------------------------------------------------------------


def test_a_state_goes_on_to_the_same_numbers():
    config = TD3Config(**vars(SMALL))
    config = replace(config, noise='ornstein-uhlenbeck', gradient_steps=0.75, base_coefficient=0.1)
    one, other = (TD3(config, box(3), box(1, 2.0), seed) for seed in (0, 5))
    world, twin = Chain([0.0, 1.0, 2.0]), Chain([0.0, 1.0, 2.0])
    for _ in range(5):
        one.iterate(world)
        twin.place, twin.age = world.place.copy(), world.age.copy()
        twin.observation = world.observation
    state = {name: value.copy() for name, value in one.state().items()}
    other.load_state(state)
    other.replay.load_state(one.replay.state())
    other._left = one._left
    for _ in range(3):
        metrics, again = one.iterate(world), other.iterate(twin)
        assert metrics == again
    for name, value in one.state().items():
        np.testing.assert_array_equal(value, other.state()[name], err_msg=name)
    assert any((value != state[name]).any() for name, value in one.state().items())
    del state['credit']
    with pytest.raises(ValueError, match='credit is missing in the state of td3'):
        other.load_state(state)


def test_seeds_repeat_and_looking_on_changes_nothing():
    ends = []
    for seed, watched in ((3, False), (3, True), (4, False)):
        world = Chain([0.0, 1.0])
        method = DDPG(SMALL, world.observation_space, world.action_space, seed)
        for _ in range(5):
            method.iterate(world)
            if watched:
                torch.rand(3)
                seen = [method.act(world.observation, explore=True) for _ in range(2)]
                assert (seen[0] != seen[1]).any()
                assert (method.act(world.observation) == method.act(world.observation)).all()
        ends.append(method.network.actor[0].weight.detach().clone())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_a_policy_of_the_suite_can_be_the_start():
    gaussian = ActorCritic(3, 2, hidden=(8, 8), activation='elu')
    gaussian.normaliser.update(torch.randn(50, 3) * 2 + 1)
    config = replace(
        SMALL, hidden=(8, 8), activation='elu', squash='clip', normalise=True, uniform_start=False
    )
    method = DDPG(config, box(3), box(2, 5.0))
    method.warm_start(gaussian.tensors())
    observation = torch.randn(9, 3)
    expected = gaussian(observation)[0].detach().clamp(-5.0, 5.0)
    np.testing.assert_allclose(method.act(observation.numpy()), expected, atol=1e-6)
    seen = gaussian.normaliser(observation)
    torch.testing.assert_close(method.target.network.policy(seen) * 5.0, expected)
    torch.testing.assert_close(method.base.network.policy(seen) * 5.0, expected)
    mean = method.network.normaliser.mean.clone()
    method.begin()
    assert torch.equal(method.network.normaliser.mean, mean)


def test_actor_and_critic_of_another_run_can_be_the_start():
    one, other = DDPG(SMALL, box(3), box(1), seed=0), DDPG(SMALL, box(3), box(1), seed=1)
    other.warm_start(one.state())
    for mine, its in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(mine, its)
    with pytest.raises(ValueError, match='no actor among'):
        other.warm_start({'critics.0.layers.0.bias': np.zeros(16)})
    with pytest.raises(ValueError, match=r'network.actor.0.bias has shape \(3,\), expected \(16,'):
        other.warm_start({'actor.0.bias': np.zeros(3)})
    with pytest.raises(ValueError, match='set normalise to true'):
        other.warm_start({'actor.0.bias': np.zeros(16), 'normaliser.mean': np.ones(3)})


def test_an_adapter_is_trained_on_a_frozen_actor():
    world = Chain([0.0, 1.0, 0.0])
    method = TD3(TD3Config(**vars(SMALL)), world.observation_space, world.action_space)
    frozen_weights = {n: p.detach().clone() for n, p in method.network.named_parameters()}
    add_adapter(
        method.network, 'a', LoraConfig(r=2, lora_alpha=2, target_modules=('actor.0', 'actor.2'))
    )
    for parameter in method.network.critics.parameters():
        parameter.requires_grad_(True)
    method.make_optimisers()
    for _ in range(30):
        method.iterate(world)
    now = dict(method.network.named_parameters())
    for name, value in frozen_weights.items():
        if name.startswith('actor.'):
            assert torch.equal(now[name], value), name
        else:
            assert not torch.equal(now[name], value), name
    assert now['actor.0.lora_a.lora_B'].abs().max() > 0
    effective, slow = method.network.actor[0].weight, method.target.network.actor[0].weight
    assert not torch.equal(slow, frozen_weights['actor.0.weight'])
    assert (slow - effective).norm() < (frozen_weights['actor.0.weight'] - effective).norm()


def test_a_recording_fills_the_replay():
    """Three trajectories: cut, terminated, cut after one step."""
    observations = np.arange(6, dtype=np.float32)[:, None] * [[1.0, 10.0]]
    data = Transitions(
        observations, np.array([[2.0], [1.0], [-2.0], [0.0], [9.0], [0.0]]), np.arange(6.0),
        np.array([0, 0, 0, 1, 0, 0], bool), np.array([0, 0, 1, 0, 0, 1], bool),
    )  # fmt: skip
    method = DDPG(SMALL, box(2), box(1, 2.0))
    method.extend(data)
    replay, size = method.replay, len(method.replay)
    # the third step was cut, and so was the sixth: it is not known to where they led
    assert replay.observations[:size, 0].tolist() == [0.0, 1.0, 3.0, 4.0]
    assert replay.next_observations[[0, 1, 3], 0].tolist() == [1.0, 2.0, 5.0]
    assert replay.actions[:size, 0].tolist() == [1.0, 0.5, 0.0, 1.0]  # 9 is beyond the range
    assert replay.terminated[:size].tolist() == [False, False, True, False]
    assert (replay.strides[:size] > 0).tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match='actions has 1 numbers a step, the policy needs 2'):
        DDPG(SMALL, box(2), box(2)).extend(data)


def test_wrong_spaces_and_settings_are_refused():
    with pytest.raises(
        ValueError, match=r'ddpg cannot work with 3 discrete actions; for discrete'
    ):
        DDPG(SMALL, box(3), Discrete(3))
    with pytest.raises(ValueError, match='ddpg cannot work with 5 discrete observations'):
        DDPG(SMALL, Discrete(5), box(1))
    picture = Box((8, 8, 3), np.zeros((8, 8, 3)), np.full((8, 8, 3), 255), 'uint8')
    with pytest.raises(ValueError, match=r'td3 cannot work with continuous \(8, 8, 3\) observati'):
        TD3(TD3Config(), picture, box(1))
    with pytest.raises(ValueError, match=r'bounds \[-inf\] to \[inf\] must be finite'):
        DDPG(SMALL, box(3), box(1, np.inf))
    for field, value, words in (
        ('discount', 1.5, r'discount is 1.5, must be in \[0, 1\]'),
        ('batch', 0, 'batch is 0, must be at least 1'),
        ('gradient_steps', 0.0, 'gradient_steps is 0.0, must be positive'),
        ('capacity', 20, 'capacity 20 must be over learning_starts 20'),
    ):
        with pytest.raises(ValueError, match=words):
            replace(SMALL, **{field: value})
    with pytest.raises(ValueError, match="no squash 'sigmoid'; choices are tanh, clip"):
        DDPG(replace(SMALL, squash='sigmoid'), box(3), box(1))
    with pytest.raises(ValueError, match="no weights 'zero'; choices are orthogonal, uniform"):
        DDPG(replace(SMALL, weights='zero'), box(3), box(1))


def test_how_the_weights_begin():
    def layers(weights):
        network = DDPG(replace(SMALL, weights=weights, hidden=(40, 30)), box(9), box(2)).network
        return list(network.actor), list(network.critics[0].layers)

    for part in layers('uniform'):
        for layer in part:
            bound = layer.in_features**-0.5
            for values in (layer.weight, layer.bias):
                assert float(values.detach().abs().max()) <= bound
            assert float(layer.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.2)
    for part, last in zip(layers('orthogonal'), (0.01, 1.0), strict=True):
        for layer, gain in zip(part, (2**0.5, 2**0.5, last), strict=True):
            assert not layer.bias.detach().any()
            stretch = torch.linalg.svdvals(layer.weight.detach())
            torch.testing.assert_close(stretch, torch.full_like(stretch, gain))


def test_numbers_that_run_away_are_told():
    world = Chain([0.0, 1e30])
    method = DDPG(replace(SMALL, steps=60), world.observation_space, world.action_space)
    with pytest.raises(
        ValueError, match=r'ddpg: value_loss is inf after .* lower the learning rate'
    ):
        method.iterate(world)


def test_the_registry_finds_both():
    assert find('ddpg') == (DDPG, DDPGConfig)
    assert find('td3') == (TD3, TD3Config)
