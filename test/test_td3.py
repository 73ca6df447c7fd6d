"""Targets by hand numbers, counts of updates, and where one critic believes too much."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.method import Box, Outcome
from lebot_rl_ros.learning.methods.ddpg import DDPG, DDPGConfig
from lebot_rl_ros.learning.methods.td3 import TD3, TD3Config, smallest, smooth

torch.set_num_threads(1)  # for small tensors, threads only wait for each other
SMALL = TD3Config(
    steps=10, capacity=1000, learning_starts=20, batch=16, hidden=(16, 16), discount=0.9
)


def box(size, bound=1.0):
    limits = np.full(size, bound, np.float32)
    return Box((size,), -limits, limits)


class Target:
    """A bandit: reward -(a - best)^2 in the world's units, the same state always."""

    name, count = 'target', 4

    def __init__(self, best=1.0, noise=0.0):
        self.observation_space, self.action_space = box(1), box(1, 2.0)
        self.observation = np.zeros((4, 1), np.float32)
        self.best, self.noise, self.rng = best, noise, np.random.default_rng(0)
        self.steps, self.finished = 0, []

    def step(self, action):
        self.steps += 4
        reward = -((action[:, 0] - self.best) ** 2) + self.noise * self.rng.standard_normal(4)
        over = np.ones(4, bool)
        return Outcome(self.observation, self.observation, reward.astype(np.float32), over, ~over)


def test_smoothing_by_hand():
    action = torch.tensor([[0.0], [0.9], [-0.9], [0.5]])
    noise = torch.tensor([[0.2], [0.3], [-2.0], [-0.7]])
    torch.testing.assert_close(
        smooth(action, noise, 0.5), torch.tensor([[0.2], [1.0], [-1.0], [0.0]])
    )


def test_the_smaller_value_counts():
    values = [torch.tensor([1.0, 5.0]), torch.tensor([2.0, -3.0])]
    assert smallest(values).tolist() == [1.0, -3.0]


def constant_critics(method, *values):
    """Make the targets say fixed values, plus the action."""
    for critic, value in zip(method.target.network.critics, values, strict=True):
        with torch.no_grad():
            for weight in critic.parameters():
                weight.zero_()
            critic.layers[-1].weight[0, -1] = 1.0  # the last input is the action
            critic.layers[-1].bias.fill_(value)


def test_the_whole_target_by_hand():
    method = TD3(replace(SMALL, hidden=(), batch=4), box(1), box(1, 2.0))
    constant_critics(method, 3.0, 7.0)
    with torch.no_grad():
        for weight in method.target.network.actor.parameters():
            weight.fill_(0.25)  # mu(s) = tanh(0.25 s + 0.25)
    observation = torch.tensor([[1.0], [-1.0], [3.0], [0.0]])
    normal = np.random.default_rng(5).standard_normal((4, 1), dtype=np.float32)
    method.rng = np.random.default_rng(5)
    action = np.tanh(0.25 * observation.numpy() + 0.25) + np.clip(0.2 * normal, -0.5, 0.5)
    expected = 3.0 + np.clip(action, -1.0, 1.0)[:, 0]
    with torch.no_grad():
        found = method.next_values(observation)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_noise_beyond_the_clip_is_cut():
    method = TD3(replace(SMALL, hidden=(), batch=400, target_noise=9.0), box(1), box(1))
    constant_critics(method, 0.0, 0.0)
    with torch.no_grad():
        for weight in method.target.network.actor.parameters():
            weight.zero_()
        found = method.next_values(torch.zeros(400, 1))
    assert found.abs().max() == 0.5
    assert found.abs().min() < 0.4


def test_the_actor_and_the_targets_move_at_every_third_step_of_the_critics():
    method = TD3(replace(SMALL, policy_delay=3), box(1), box(1, 2.0))
    world = Target()
    method.iterate(world)
    method.iterate(world)  # 20 steps: nothing learned yet
    assert method.updates == 0

    def numbers(module):
        return torch.cat([p.detach().flatten() for p in module.parameters()]).clone()

    network, target = method.network, method.target.network
    parts = (network.critics, network.actor, target.actor, target.critics)
    before, moved = [numbers(part) for part in parts], []
    for _ in range(7):
        method.updates += 1
        method.learn(method.replay.sample(16, method.rng, discount=0.9))
        now = [numbers(part) for part in parts]
        moved.append([not torch.equal(a, b) for a, b in zip(before, now, strict=True)])
        before = now
    critics_only, all_move = [True, False, False, False], [True, True, True, True]
    assert moved == [critics_only, critics_only, all_move] * 2 + [critics_only]


def test_critics_are_two_and_differ():
    method = TD3(SMALL, box(3), box(2))
    first, second = (list(critic.parameters()) for critic in method.network.critics)
    assert not torch.equal(first[0], second[0])
    assert len(DDPG(DDPGConfig(**base(SMALL)), box(3), box(2)).network.critics) == 1


def base(config):
    """The part of a config of TD3 that is DDPG's."""
    return {name: getattr(config, name) for name in DDPGConfig.__dataclass_fields__}


def test_without_its_cures_and_with_equal_critics_it_is_ddpg():
    """No noise, no delay, twins that agree: the same numbers as DDPG's."""
    config = replace(SMALL, policy_delay=1, target_noise=0.0)
    td3 = TD3(config, box(1), box(1, 2.0))
    ddpg = DDPG(DDPGConfig(**base(config)), box(1), box(1, 2.0))
    td3.network.actor.load_state_dict(ddpg.network.actor.state_dict())
    for critic in td3.network.critics:
        critic.load_state_dict(ddpg.network.critics[0].state_dict())
    td3.make_optimisers()
    for method in (ddpg, td3):
        world = Target()
        for _ in range(2):
            method.iterate(world)
    for _ in range(10):  # the draws of the noise are the only ones that differ
        batch = ddpg.replay.sample(16, ddpg.rng, discount=0.9)
        for method in (ddpg, td3):
            method.updates += 1
            method.learn(batch)
    for mine, its in zip(
        td3.network.actor.parameters(), ddpg.network.actor.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, its)
    torch.testing.assert_close(
        list(td3.network.critics[1].parameters()), list(ddpg.network.critics[0].parameters())
    )


def test_twins_believe_less_than_one_critic():
    """Rewards of pure noise: every action is worth 0, but one critic's maximum is above it."""
    believed = {}
    for cls, config in ((TD3, SMALL), (DDPG, DDPGConfig(**base(SMALL)))):
        values = []
        for seed in range(3):
            method = cls(replace(config, steps=300, learning_rate=3e-3), box(1), box(1, 2.0), seed)
            world = Target(noise=1.0)
            world.step = lambda action, w=world: noise_only(w)
            method.iterate(world)
            at = torch.zeros(1, 1)
            with torch.no_grad():
                heads = method.network.values(at, method.network.policy(at))
                values.append(float(smallest(heads)))
        believed[cls.name] = np.mean(values)
    assert believed['td3'] < believed['ddpg']


def noise_only(world):
    world.steps += 4
    reward = 3.0 * world.rng.standard_normal(4)
    over = np.zeros(4, bool)
    return Outcome(world.observation, world.observation, reward.astype(np.float32), over, over)


@pytest.mark.parametrize('layer_norm', [False, True])
def test_it_finds_the_best_action_of_a_bandit(layer_norm):
    config = replace(
        SMALL, steps=200, learning_starts=200, learning_rate='linear:1e-2:1e-3', hidden=(32, 32),
        noise_std=0.3, layer_norm=layer_norm,
    )  # fmt: skip
    method, world = TD3(config, box(1), box(1, 2.0)), Target(best=1.2)
    for i in range(5):
        method.progress = i / 5
        method.iterate(world)
    assert method.act(np.zeros((1, 1)))[0, 0] == pytest.approx(1.2, abs=0.4)  # 0 at the start


def test_a_delay_of_nothing_is_refused():
    with pytest.raises(ValueError, match='policy_delay is 0, must be at least 1'):
        replace(SMALL, policy_delay=0)
