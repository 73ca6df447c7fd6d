"""Returns by hand arithmetic, gradients by autograd, learning by a problem with a known answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lebot_rl_ros.learning.backprop import Backprop
from lebot_rl_ros.learning.ppo import PPO, Batch, PPOConfig, policy_gradients, value_gradients
from lebot_rl_ros.learning.returns import compute_gae, explained_variance
from lebot_rl_ros.learning.storage import Rollout
from lebot_rl_ros.policy.networks import MLP, ActorCritic

torch.set_num_threads(1)  # for small tensors, threads only wait for each other
NO = np.zeros(3, dtype=bool)


def gae(rewards, values, next_values, terminated=NO, truncated=NO):
    return compute_gae(
        np.array(rewards), np.array(values), np.array(next_values),
        np.asarray(terminated, dtype=bool), np.asarray(truncated, dtype=bool),
        discount=0.5, trace=0.5,
    )  # fmt: skip


def test_gae_without_ends():
    # deltas: 1 + .5*20 - 10 = 1; 2 + .5*30 - 20 = -3; 3 + .5*40 - 30 = -7; decay .25
    advantages, returns = gae([1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [20.0, 30.0, 40.0])
    np.testing.assert_allclose(advantages, [1 - 4.75 / 4, -3 - 7 / 4, -7])
    np.testing.assert_allclose(returns, advantages + [10, 20, 30])


def test_gae_is_not_bootstrapped_after_a_fall():
    # the second step falls: its delta is 2 - 20 = -18, and nothing flows back from the third
    advantages, _ = gae([1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [20.0, 99.0, 40.0], [0, 1, 0])
    np.testing.assert_allclose(advantages, [1 - 18 / 4, -18, -7])


def test_gae_is_bootstrapped_from_before_the_reset_after_a_time_out():
    # the second step is cut in a state worth 50: 2 + .5*50 - 20 = 7
    advantages, _ = gae([1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [20.0, 50.0, 40.0], NO, [0, 1, 0])
    np.testing.assert_allclose(advantages, [1 + 7 / 4, 7, -7])


def test_a_constant_reward_with_time_outs_is_worth_r_over_one_minus_gamma():
    value, discount = 0.0, 0.9
    for _ in range(300):  # a state that never changes, cut every third step
        values = np.full(6, value)
        _, returns = compute_gae(
            np.ones(6), values, values, np.zeros(6, dtype=bool), np.arange(6) % 3 == 2,
            discount=discount, trace=0.95,
        )  # fmt: skip
        value = returns.mean()
    assert value == pytest.approx(1 / (1 - discount))


def test_gae_treats_robots_apart():
    rewards = np.array([[1.0, 5.0], [2.0, 6.0]])
    values, following = np.zeros((2, 2)), np.zeros((2, 2))
    ends = np.array([[False, True], [False, False]])
    advantages, _ = gae(rewards, values, following, ends, np.zeros((2, 2), dtype=bool))
    np.testing.assert_allclose(advantages, [[1.5, 5.0], [2.0, 6.0]])


def test_explained_variance():
    assert explained_variance(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])) == 1.0
    assert explained_variance(np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])) == 0.0


def test_rollout_takes_the_value_from_before_the_reset_where_it_was_cut():
    rollout = Rollout(2, 3, 1, 1)
    rollout.start(np.zeros((3, 1), dtype=np.float32))
    before = np.array([[1.0], [2.0], [3.0]])
    rollout.add(0, before + 10, before, np.zeros(3), NO, np.array([True, False, True]))
    rollout.add(1, before, before, np.zeros(3), NO, NO)
    assert rollout.cuts[0][2].tolist() == [[1.0], [3.0]]
    values = np.arange(9, dtype=np.float32).reshape(3, 3)
    following = rollout.next_values(values, np.array([70.0, 80.0], dtype=np.float32))
    assert following.tolist() == [[70.0, 4.0, 80.0], [6.0, 7.0, 8.0]]


def test_rollout_refuses_nan():
    rollout = Rollout(1, 3, 1, 1)
    observation = np.zeros((3, 1))
    with pytest.raises(ValueError, match=r'robots \[1\] is not finite'):
        rollout.add(0, observation, observation, np.array([0.0, np.nan, 0.0]), NO, NO)


@pytest.mark.parametrize('activation', ['elu', 'relu', 'tanh'])
def test_backprop_is_autograd(activation):
    torch.manual_seed(0)
    network = MLP([5, 7, 6, 3], activation, gain=1.0)
    x, gradient = torch.randn(11, 5), torch.randn(11, 3)
    output = network(x)
    output.backward(gradient)
    expected = [parameter.grad.clone() for parameter in network.parameters()]
    for parameter in network.parameters():
        parameter.grad.zero_()
    backprop = Backprop(network, rows=20)
    torch.testing.assert_close(backprop.forward(x), output.detach())
    backprop.backward(gradient)
    for parameter, grad in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad)


def test_backprop_needs_somewhere_to_write_to():
    with pytest.raises(ValueError, match='no grad'):
        Backprop(MLP([2, 2], 'elu', 1.0), rows=1)


def make_batch(size=64, seed=0):
    """Samples of which some ratios lie beyond the clip, on both sides and for both signs."""
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        observations=torch.randn(size, 5, generator=generator),
        actions=torch.randn(size, 2, generator=generator),
        log_probs=torch.randn(size, generator=generator) * 0.5 - 2.5,
        values=torch.randn(size, generator=generator),
        advantages=torch.randn(size, generator=generator),
        returns=torch.randn(size, generator=generator),
    )


def reference_loss(mean, log_std, value, batch, config):
    """The loss as the paper has it."""
    distribution = torch.distributions.Normal(mean, log_std.exp())
    ratio = (distribution.log_prob(batch.actions).sum(1) - batch.log_probs).exp()
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    policy = -torch.minimum(ratio * batch.advantages, clipped * batch.advantages).mean()
    loss = (value[:, 0] - batch.returns).square()
    if config.value_clip is not None:
        change = (value[:, 0] - batch.values).clamp(-config.value_clip, config.value_clip)
        loss = torch.maximum(loss, (batch.values + change - batch.returns).square())
    entropy = distribution.entropy().sum(1).mean()
    total = policy + config.value_coefficient * loss.mean() - config.entropy_coefficient * entropy
    return total, policy, loss.mean()


@pytest.mark.parametrize('value_clip', [None, 0.3])
def test_gradients_are_those_of_autograd(value_clip):
    config = PPOConfig(value_clip=value_clip, entropy_coefficient=0.01)
    batch = make_batch()
    mean = torch.randn(64, 2, requires_grad=True)
    log_std = torch.tensor([-0.3, 0.2], requires_grad=True)
    value = torch.randn(64, 1, requires_grad=True)
    total, policy, value_loss = reference_loss(mean, log_std, value, batch, config)
    total.backward()
    d_mean, d_log_std, numbers = policy_gradients(mean.detach(), log_std.detach(), batch, config)
    d_value, loss = value_gradients(value.detach(), batch, config)
    torch.testing.assert_close(d_mean, mean.grad)
    torch.testing.assert_close(d_log_std, log_std.grad)
    torch.testing.assert_close(d_value, value.grad)
    assert float(numbers[0]) == pytest.approx(policy.item(), abs=1e-6)
    assert float(loss) == pytest.approx(value_loss.item(), abs=1e-5)
    assert 0.1 < float(numbers[2]) < 0.95  # both branches of the clip were taken


def test_an_update_is_adam_on_the_reference_loss():
    config = PPOConfig(epochs=2, minibatch=64, desired_kl=None, gradient_norm=0.5)
    torch.manual_seed(0)
    ours, reference = ActorCritic(5, 2, (8,)), ActorCritic(5, 2, (8,))
    reference.load_state_dict(ours.state_dict())
    batch = make_batch()
    PPO(ours, config).update(batch, np.random.default_rng(0))
    optimiser = torch.optim.Adam(reference.parameters(), lr=config.learning_rate)
    advantages = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)
    batch = replace(batch, advantages=advantages)
    for _ in range(config.epochs):
        optimiser.zero_grad()
        mean, value = reference.actor(batch.observations), reference.critic(batch.observations)
        reference_loss(mean, reference.log_std, value, batch, config)[0].backward()
        nn.utils.clip_grad_norm_(reference.parameters(), config.gradient_norm)
        optimiser.step()
    for mine, other in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


def update(**settings):
    torch.manual_seed(0)
    ppo = PPO(ActorCritic(5, 2, (8,)), PPOConfig(minibatch=16, **settings))
    return ppo, ppo.update(make_batch(), np.random.default_rng(0))


def test_update_stops_at_the_target_kl():
    assert update(epochs=5, target_kl=None)[1]['epochs'] == 5
    assert update(epochs=5, target_kl=1e-9)[1]['epochs'] == 1


def test_rate_follows_the_kl():
    ppo, metrics = update(desired_kl=1e-9)
    assert metrics['learning_rate'] == pytest.approx(1e-3 / 1.5)
    assert ppo.optimiser.param_groups[0]['lr'] == metrics['learning_rate']
    assert update(desired_kl=1e9)[1]['learning_rate'] == pytest.approx(1.5e-3)
    assert update(desired_kl=None)[1]['learning_rate'] == 1e-3


def test_update_refuses_what_is_not_finite():
    torch.manual_seed(0)
    batch = make_batch()
    batch.returns[3] = torch.nan
    with pytest.raises(ValueError, match='not finite'):
        PPO(ActorCritic(5, 2, (8,)), PPOConfig()).update(batch, np.random.default_rng(0))


def test_ppo_learns_a_known_answer():
    """Reward -(action - target)²: the mean action must come to the target."""
    torch.manual_seed(0)
    rng, target = np.random.default_rng(0), torch.tensor([0.5, -0.3])
    network = ActorCritic(5, 2, (8,))
    ppo = PPO(network, PPOConfig(minibatch=128, epochs=4))
    for _ in range(80):
        observations = torch.from_numpy(rng.normal(size=(256, 5)).astype(np.float32))
        noise = torch.from_numpy(rng.normal(size=(256, 2)).astype(np.float32))
        with torch.no_grad():
            mean, value = network(observations)
            std = network.log_std.exp()
            actions = mean + std * noise
            log_probs = torch.distributions.Normal(mean, std).log_prob(actions).sum(1)
        rewards = -(actions - target).square().sum(1)
        ppo.update(Batch(observations, actions, log_probs, value, rewards - value, rewards), rng)
    with torch.no_grad():
        mean, _ = network(torch.randn(500, 5))
    torch.testing.assert_close(mean.mean(0), target, atol=0.05, rtol=0)
