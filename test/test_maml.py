"""MAML: second-order terms against finite differences and by hand, and that a start adapts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lebot_rl_ros.envs.world import make_world
from lebot_rl_ros.learning.functional import gradient_step, per_task, ratio_surrogate, spread
from lebot_rl_ros.learning.method import Box, Discrete
from lebot_rl_ros.learning.methods.maml import MAML, MAMLConfig
from lebot_rl_ros.learning.rollouts import Rollouts
from lebot_rl_ros.learning.task_batches import TaskBatch, linear_baseline, task_batch
from lebot_rl_ros.policy.networks import MLP

torch.set_num_threads(1)
SMALL = MAMLConfig(hidden=(4,), activation='tanh', inner_rate=0.3, clip=5.0)


def box(size):
    return Box((size,), np.full(size, -1.0, np.float32), np.ones(size, np.float32))


def double(config, seed=0):
    method = MAML(config, box(3), box(2), seed)
    method.network.double()
    method.make_optimisers()
    return method


def fixed_batch(method, seed, tasks=2, steps=6):
    """Data of nobody in particular: the formulas must hold for any."""
    rng = np.random.default_rng(seed)
    actions = torch.from_numpy(rng.normal(size=(tasks, steps, 2)))
    observations = torch.from_numpy(rng.normal(size=(tasks, steps, 3)))
    start = spread(method.start(), tasks)
    log_probs = method.policy(start, observations).log_prob(actions).detach()
    off = torch.from_numpy(rng.normal(size=(tasks, steps)) * 0.1)
    advantages = torch.from_numpy(rng.normal(size=(tasks, steps)))
    return TaskBatch(observations, actions, log_probs + off, advantages, np.zeros((tasks, 1)))


def outer_gradient(method, batches, after):
    method.optimiser.zero_grad()
    method.outer_loss(batches, after)[0].backward()
    tensors = {**method.start(), **{f'rate {n}': r for n, r in method.rates.items()}}
    return {name: tensor.grad.clone() for name, tensor in tensors.items()}, tensors


@pytest.mark.parametrize('updates', [1, 2])
def test_second_order_gradient_is_that_of_finite_differences(updates):
    method = double(SMALL)
    batches = [fixed_batch(method, seed) for seed in range(updates)]
    after = fixed_batch(method, 9)
    gradients, tensors = outer_gradient(method, batches, after)
    step = 1e-5
    for name, tensor in tensors.items():
        flat, numeric = tensor.detach().view(-1), torch.empty_like(tensor).view(-1)
        for i in range(len(flat)):
            losses = []
            for sign in (1.0, -1.0):
                flat[i] += sign * step
                losses.append(float(method.outer_loss(batches, after)[0].detach()))
                flat[i] -= sign * step
            numeric[i] = (losses[0] - losses[1]) / (2.0 * step)
        assert torch.allclose(gradients[name].view(-1), numeric, atol=1e-8, rtol=1e-5), name
        assert gradients[name].abs().max() > 1e-4, name


def test_first_order_is_the_gradient_at_the_adapted_weights_and_differs():
    method = double(replace(SMALL, second_order=False))
    batch, after = fixed_batch(method, 0), fixed_batch(method, 9)
    first, _ = outer_gradient(method, [batch], after)
    adapted = {
        name: p.detach().requires_grad_()
        for name, p in method.adapted(spread(method.start(), 2), batch).items()
    }
    ratio = torch.exp(
        method.policy(adapted, after.observations).log_prob(after.actions) - after.log_probs
    )
    loss = -(ratio * after.advantages / (after.advantages.std() + 1e-8)).mean()
    there = torch.autograd.grad(loss, list(adapted.values()))
    for name, gradient in zip(adapted, there, strict=True):
        assert torch.allclose(first[name], gradient.sum(0), atol=1e-12)
    full, _ = outer_gradient(double(SMALL), [batch], after)
    assert max(float((first[n] - full[n]).abs().max()) for n in adapted) > 1e-2


def test_surrogate_is_reinforce_and_its_second_derivative_knows_the_sampling():
    """A softmax bandit, enumerated: what is expected of both derivatives is known exactly."""
    logits = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, -2.0, 0.7], dtype=torch.float64)

    def true_loss(x):
        return -(torch.softmax(x, 0) * rewards).sum()

    def expected(form):
        """Mean over actions of the Hessian of a surrogate at the sampling policy."""
        probs = torch.softmax(logits, 0).detach()

        def loss(x, action):
            log_prob = torch.log_softmax(x, 0)[action]
            if form == 'ratio':
                old = torch.log(probs)[action]
                return ratio_surrogate(log_prob[None, None], old[None, None], rewards[action])[0]
            return -log_prob * rewards[action]

        pairs = [
            (
                torch.autograd.functional.jacobian(lambda x, a=a: loss(x, a), logits),
                torch.autograd.functional.hessian(lambda x, a=a: loss(x, a), logits),
            )
            for a in range(3)
        ]
        return [sum(p * pair[i] for p, pair in zip(probs, pairs, strict=True)) for i in (0, 1)]

    gradient = torch.autograd.functional.jacobian(true_loss, logits)
    hessian = torch.autograd.functional.hessian(true_loss, logits)
    ratio, score = expected('ratio'), expected('log_prob')
    assert torch.allclose(ratio[0], gradient)
    assert torch.allclose(score[0], gradient)
    assert torch.allclose(ratio[1], hessian)
    assert not torch.allclose(score[1], hessian, atol=0.05)  # the common mistake


def test_tasks_do_not_touch_each_other():
    torch.manual_seed(0)
    network = MLP((3, 5, 2), 'tanh', 1.0).double()
    call, x = per_task(network), torch.randn(2, 7, 3, dtype=torch.float64)
    start = spread(dict(network.named_parameters()), 2)
    assert torch.allclose(call(start, x), network(x))
    rates = dict.fromkeys(start, 0.1)
    together = gradient_step(call(start, x).square().sum((1, 2)), start, rates, second_order=False)
    for i in range(2):
        loss = network(x[i]).square().sum()
        alone = torch.autograd.grad(loss, list(network.parameters()))
        for (name, p), gradient in zip(network.named_parameters(), alone, strict=True):
            assert torch.allclose(together[name][i], p - 0.1 * gradient)


def test_adaptation_leaves_the_start_as_it_was():
    world = make_world('Navigation-v0', 40, seed=0)
    method = MAML(MAMLConfig(hidden=(8,)), world.observation_space, world.action_space, seed=1)
    before = method.state()
    tasks = world.sample_tasks(2, np.random.default_rng(0))
    adapted, returns = method.adapt(world, tasks, 2)
    again, same = method.adapt(world, tasks, 2)
    after = method.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert returns.shape == (3, 2, 20)
    assert np.array_equal(returns, same)
    for name, start in method.start().items():
        assert torch.equal(adapted[name], again[name])
        assert not torch.equal(adapted[name][0], start)
        assert not torch.equal(adapted[name][0], adapted[name][1])


def rollouts(rewards, done, observations=None, actions=None):
    rewards, done = np.array(rewards, np.float32), np.array(done)
    steps, count = rewards.shape
    path = np.zeros((steps + 1, count, 1), np.float32)
    if observations is not None:
        path[:-1, :, 0] = observations
    actions = np.zeros((steps, count, 1), np.float32) if actions is None else actions
    nothing = np.empty(0, dtype=int)
    return Rollouts(
        path, actions, np.zeros((steps, count), np.float32), rewards, np.zeros_like(done), done,
        nothing, nothing, path[0][:0], np.ones((steps, count), dtype=bool),
    )  # fmt: skip


def test_a_batch_has_each_task_in_a_row_and_returns_of_first_episodes():
    # Two tasks of two environments, three steps; the second environment starts over after two.
    seen = np.arange(12, dtype=np.float32).reshape(3, 4)
    done = np.zeros((3, 4), dtype=bool)
    done[1, 1] = True
    rewards = [[1, 1, 0, 0], [2, 2, 0, 0], [4, 4, 0, 8]]
    batch = task_batch(rollouts(rewards, done, seen), 2, discount=1.0, trace=1.0, scale=False)
    assert batch.observations[..., 0].tolist() == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]
    assert batch.returns.tolist() == [[7, 3], [0, 8]]
    assert batch.advantages.mean(1) == pytest.approx(np.zeros(2), abs=1e-6)


def test_baseline_takes_away_what_is_linear_in_its_features():
    rng = np.random.default_rng(0)
    x, age = rng.normal(size=(2, 50, 2)), rng.uniform(size=(2, 50))
    returns = 3 * x[..., 0] - x[..., 1] ** 2 + 2 * age**3 - 1
    returns[1] *= -2  # each task has its own
    assert linear_baseline(x, age, returns) == pytest.approx(returns, abs=1e-2)
    # Without a ridge to speak of, what is left is at right angles to the features.
    noise = rng.normal(size=(2, 50))
    left = noise - linear_baseline(x, age, noise, ridge=1e-12)
    assert np.abs((left[..., None] * x**2).sum(1)).max() < 1e-6


def test_one_update_finds_a_hidden_goal_and_a_plain_policy_does_not():
    """A tenth of the comparison's training, on unseen goals."""
    world = make_world('Navigation-v0', 200, seed=0)
    goals = world.sample_tasks(10, np.random.default_rng(99))
    world.set_task(np.repeat(goals, 20, axis=0))
    best = sum(
        world.step(world.body.env.unwrapped.oracle().astype(np.float32)).reward.mean()
        for _ in range(20)
    )
    spaces = world.observation_space, world.action_space
    untrained = MAML(MAMLConfig(), *spaces, seed=0).adapt(world, goals, 0)[1].mean()
    closed = []
    for updates, iterations in ((1, 15), (0, 30)):
        method = MAML(MAMLConfig(inner_updates=updates, hidden=(16, 16)), *spaces, seed=0)
        for _ in range(iterations):
            method.iterate(world)
        returns = method.adapt(world, goals)[1].mean(axis=(1, 2))
        closed.append((returns[-1] - untrained) / (best - untrained))
    assert closed[0] > 0.7
    assert closed[1] < 0.4


def test_going_on_from_a_state_gives_the_same_numbers():
    def trained(iterations, state=None):
        world = make_world('Navigation-v0', 40, seed=0)
        method = MAML(MAMLConfig(hidden=(8,)), world.observation_space, world.action_space)
        if state is not None:
            method.load_state(state)
        metrics = [method.iterate(world) for _ in range(iterations)]
        return method.state(), metrics

    middle, _ = trained(2)
    one, _ = trained(3, middle)
    two, metrics = trained(3, middle)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one['network.actor.0.weight'], middle['network.actor.0.weight'])
    assert not np.array_equal(one['rates.0.weight'], middle['rates.0.weight'])
    assert np.isfinite([list(row.values()) for row in metrics]).all()


def test_errors_name_what_does_not_fit():
    with pytest.raises(ValueError, match='maml cannot work with 3 discrete actions; rl2'):
        MAML(MAMLConfig(), box(2), Discrete(3))
    with pytest.raises(ValueError, match='maml cannot work with 3 discrete observations'):
        MAML(MAMLConfig(), Discrete(3), box(2))
    with pytest.raises(ValueError, match='horizon is 0, must be 1 or more'):
        MAMLConfig(horizon=0)
    world = make_world('Navigation-v0', 30, seed=0)
    method = MAML(MAMLConfig(), world.observation_space, world.action_space)
    with pytest.raises(ValueError, match='30 environments of Navigation-v0 are no multiple of'):
        method.iterate(world)
