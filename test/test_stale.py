"""Ratios, weights and ages of an older policy's steps, by hand and against autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from lebot_rl_ros.learning.methods.ppo_losses import Batch, gaussian_gradient
from lebot_rl_ros.learning.online.stale import (
    decoupled_gradient,
    effective_sample_size,
    fixed_spread_kl,
    fresh,
    log_prob,
    truncated_weights,
)
from lebot_rl_ros.learning.online.steps import Steps, cuts, usable
from lebot_rl_ros.learning.returns import vtrace
from online_toy import empty_rows, signed

finite = st.floats(-5.0, 5.0, width=32)


def draws(count, joints=3, seed=0):
    rng = np.random.default_rng(seed)
    numbers = [torch.from_numpy(rng.standard_normal((count, joints))) for _ in range(3)]
    return *numbers, torch.from_numpy(rng.uniform(0.1, 0.5, (count, joints)))


def test_log_prob_and_kl_are_those_of_gaussians():
    action, mean, other, std = draws(20)
    ours, theirs = (Independent(Normal(m, std), 1) for m in (mean, other))
    torch.testing.assert_close(log_prob(action, mean, std), ours.log_prob(action))
    torch.testing.assert_close(fixed_spread_kl(mean, other, std), kl_divergence(ours, theirs))


def test_kl_by_hand():
    mean, other = torch.tensor([[0.3, 0.0]]), torch.tensor([[0.0, 0.1]])
    std = torch.tensor([[0.15, 0.1]])
    assert fixed_spread_kl(mean, other, std).item() == pytest.approx((2.0**2 + 1.0**2) / 2)


def test_weights_by_hand():
    log_ratios = np.log([0.5, 3.0, 1.0, 2.0])
    np.testing.assert_allclose(truncated_weights(log_ratios, 2.0), [0.5, 2.0, 1.0, 2.0])
    assert truncated_weights(np.array([800.0]), 2.0) == pytest.approx(2.0)  # exp would overflow


def test_effective_sample_size_by_hand():
    assert effective_sample_size(np.log([1.0, 1.0, 2.0])) == pytest.approx(16.0 / 18.0)
    assert effective_sample_size(np.zeros(7)) == pytest.approx(1.0)
    assert effective_sample_size(np.array([0.0, 0.0, 0.0, 900.0])) == pytest.approx(0.25)
    assert effective_sample_size(np.zeros(0)) == 0.0


@given(st.lists(finite, min_size=1, max_size=30), finite)
def test_effective_sample_size_is_a_share_that_knows_no_scale(log_ratios, shift):
    size = effective_sample_size(np.array(log_ratios))
    assert 1.0 / len(log_ratios) - 1e-9 <= size <= 1.0 + 1e-9
    assert effective_sample_size(np.array(log_ratios) + shift) == pytest.approx(size)


def test_v_trace_by_hand():
    """Two steps, ratios 1/2 and 3, all clipped at 1; discount 1/2, then the episode is cut."""
    targets, advantages = vtrace(
        np.log([0.5, 3.0]), np.array([1.0, 2.0]), np.array([4.0, 6.0]), np.array([6.0, 8.0]),
        np.zeros(2, bool), np.array([False, True]), discount=0.5,
    )  # fmt: skip
    # delta_1 = 2 + 8/2 - 6 = 0, so the target of the second is its value, 6.
    # delta_0 = (1 + 6/2 - 4)/2 = 0; so all stands still.
    np.testing.assert_allclose(targets, [4.0, 6.0])
    np.testing.assert_allclose(advantages, [0.0, 0.0])
    targets, advantages = vtrace(
        np.log([0.5, 3.0]), np.array([1.0, 4.0]), np.array([2.0, 6.0]), np.array([6.0, 8.0]),
        np.zeros(2, bool), np.array([False, True]), discount=0.5,
    )  # fmt: skip
    # delta_1 = 4 + 4 - 6 = 2, target 8. delta_0 = (1 + 3 - 2)/2 = 1, target 2 + 1 + 2/2 * 1/2.
    np.testing.assert_allclose(targets, [3.5, 8.0])
    np.testing.assert_allclose(advantages, [0.5 * (1.0 + 8.0 / 2 - 2.0), 2.0])


def test_too_old_and_too_far_rollouts_are_left_out():
    turns = np.array([1, 2, 2, 3, 3, 4])
    log_ratios = np.array([0.0, 0.15, -0.1, 0.5, -0.1, 0.19])
    kept = fresh(log_ratios, turns, 4, lag=2, largest=0.2)
    # Turn 1 is 3 behind; turn 3 is off by 0.3 in the mean; turn 2 by 0.125 only.
    assert kept.tolist() == [False, True, True, False, False, True]
    assert fresh(log_ratios, turns, 4, lag=3, largest=1.0).all()
    assert not fresh(log_ratios, turns, 4, lag=0, largest=0.1).any()


def test_a_step_without_a_ratio_is_left_out_alone():
    log_ratios = np.array([np.nan, 0.1, np.inf, -0.1])
    kept = fresh(log_ratios, np.ones(4, int), 1, lag=0, largest=0.2)
    assert kept.tolist() == [False, True, False, True]


def textbook(mean, std, action, proximal, weights, advantages, clip):
    """Equation of the decoupled objective, in words of torch."""
    ratio = torch.exp(Independent(Normal(mean, std), 1).log_prob(action) - proximal)
    clipped = torch.clamp(ratio, 1.0 - clip, 1.0 + clip)
    return -(weights * torch.minimum(ratio * advantages, clipped * advantages)).mean()


def objective(count, seed):
    action, mean, other, std = draws(count, seed=seed)
    mean = action + 0.7 * std * mean
    near = mean + 0.2 * std * other
    rng = np.random.default_rng(seed)
    weights = torch.from_numpy(rng.uniform(0.0, 2.0, count))
    advantages = torch.from_numpy(rng.standard_normal(count))
    return mean, std, action, log_prob(action, near, std), weights, advantages, 0.2


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_the_gradient_is_that_of_the_textbook(count, seed):
    mean, *rest = objective(count, seed)
    mean.requires_grad_(True)
    loss = textbook(mean, *rest)
    loss.backward()
    gradient, surrogate = decoupled_gradient(mean.detach(), *rest)
    torch.testing.assert_close(gradient, mean.grad)
    assert surrogate.statistics(0.2)[0].item() == pytest.approx(loss.item())


def test_the_gradient_by_finite_differences():
    mean, *rest = objective(6, seed=3)
    gradient, _ = decoupled_gradient(mean, *rest)
    for i in range(6):
        for j in range(3):
            step = torch.zeros_like(mean)
            step[i, j] = 1e-6
            slope = (textbook(mean + step, *rest) - textbook(mean - step, *rest)) / 2e-6
            assert gradient[i, j].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-7)


def test_it_is_ppo_where_the_policy_that_acted_is_the_proximal_one():
    mean, _, action, _, _, advantages, clip = objective(50, seed=5)
    std = torch.full_like(mean, 0.3)
    old = log_prob(action, mean + 0.05, std)
    ours, _ = decoupled_gradient(
        mean, std, action, old, torch.ones_like(advantages), advantages, clip
    )
    unused = torch.zeros_like(advantages)
    batch = Batch(mean, action, old, unused, advantages, unused)
    theirs = gaussian_gradient(mean, torch.log(std[0]), batch, clip, 0.0)
    torch.testing.assert_close(ours, theirs.outputs)


def some_steps(count, **fields):
    rows = empty_rows(count)
    for name, values in fields.items():
        rows[name] = values
    return Steps.of(rows, np.ones(count, np.int64))


def test_where_trajectories_are_cut():
    steps = some_steps(
        7,
        terminated=[0, 1, 0, 0, 0, 0, 0],
        truncated=[0, 0, 0, 1, 0, 0, 0],
        known=[1, 0, 1, 0, 1, 1, 1],
        follows=[0, 1, 0, 1, 0, 1, 0],
    )
    used = usable(steps, np.array([1, 1, 1, 1, 1, 0, 1], bool))
    # Nobody knows what came of step 3; 5 was left out; the fall of 1 needs no next state.
    assert used.tolist() == [True, True, True, False, True, False, True]
    # 0 goes on into the fall; 1 precedes a hole; 2 precedes 3, 4 precedes 5, which are not used.
    assert cuts(steps, used).tolist() == [False, True, True, True, True, True, True]


def test_steps_of_rejected_versions_are_forgotten_and_leave_a_hole():
    rows = np.concatenate([signed(empty_rows(2), version) for version in (3, 4, 5)])
    rows['follows'], rows['reward'] = [0, 1, 1, 1, 1, 1], np.arange(6)
    steps = Steps.of(rows, np.zeros(6, np.int64)).without(np.array([4, 9]))
    assert steps.reward.tolist() == [0.0, 1.0, 4.0, 5.0]
    assert steps.follows.tolist() == [False, True, False, True]
    assert len(steps.without(np.array([3, 5]))) == 0


def test_steps_survive_a_state():
    steps = some_steps(3, reward=[1.0, 2.0, 3.0])
    again = Steps.from_state(steps.state('steps'), 'steps')
    for name in Steps.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(steps, name))
    state = steps.state('steps')
    del state['steps.reward']
    with pytest.raises(ValueError, match=r'steps\.reward is missing'):
        Steps.from_state(state, 'steps')
    with pytest.raises(ValueError, match='differ in number'):
        Steps.from_state({**state, 'steps.reward': np.zeros(2)}, 'steps')
