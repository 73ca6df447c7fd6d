"""Returns and advantages against hand arithmetic, brute force and a chain that never ends."""

import numpy as np
import pytest

from lebot_rl_ros.learning.returns import (
    compute_gae,
    discounted_returns,
    explained_variance,
    lambda_returns,
    n_step_returns,
    normalise,
    vtrace,
)

GAMMA, LAMBDA = 0.9, 0.7
SEEDS = range(6)


def sample(seed, steps=12, count=3):
    """A rollout (T, N) with ends of both kinds, and a critic that is wrong everywhere."""
    rng = np.random.default_rng(seed)
    terminated = rng.random((steps, count)) < 0.15
    truncated = (rng.random((steps, count)) < 0.15) & ~terminated
    rewards, values, next_values, log_ratios = rng.standard_normal((4, steps, count))
    # Where nothing ended, the next value is that of the next step; elsewhere of a lost state.
    goes_on = ~(terminated | truncated)[:-1]
    next_values[:-1] = np.where(goes_on, values[1:], next_values[:-1])
    return rewards, values, next_values, terminated, truncated, log_ratios


def n_step(t, n, rewards, next_values, terminated, truncated):
    """One environment: n rewards, or fewer, then what the critic says of what comes."""
    total = 0.0
    for i in range(n):
        total += GAMMA**i * rewards[t + i]
        if terminated[t + i]:
            return total
        if truncated[t + i] or t + i == len(rewards) - 1 or i == n - 1:
            return total + GAMMA ** (i + 1) * next_values[t + i]
    raise AssertionError


def remaining(t, terminated, truncated):
    """How many steps there are from t to the end of the episode or of the rollout."""
    done = np.flatnonzero((terminated | truncated)[t:])
    return int(done[0]) + 1 if len(done) else len(terminated) - t


def each(function, *arrays):
    """Apply to every environment and step, and stack to (T, N)."""
    steps, count = arrays[0].shape
    rows = [[function(t, *(a[:, i] for a in arrays)) for i in range(count)] for t in range(steps)]
    return np.array(rows)


def test_discounted_returns_by_hand():
    rewards = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    terminated = np.array([[False], [True], [False], [False], [False]])
    truncated = np.array([[False], [False], [False], [True], [False]])
    next_values = np.array([[9.0], [9.0], [9.0], [10.0], [20.0]])
    returns = discounted_returns(rewards, terminated, truncated, next_values, discount=0.5)
    # 1 + .5 2 | 2 | 3 + .5 9 | 4 + .5 10 | 5 + .5 20
    assert returns[:, 0].tolist() == [2.0, 2.0, 7.5, 9.0, 15.0]
    seen = discounted_returns(rewards, terminated, truncated, discount=0.5)
    assert seen[:, 0].tolist() == [2.0, 2.0, 5.0, 4.0, 5.0]


@pytest.mark.parametrize('seed', SEEDS)
def test_discounted_returns_are_those_of_all_steps(seed):
    rewards, _, next_values, terminated, truncated, _ = sample(seed)
    expected = each(lambda t, *a: n_step(t, 99, *a), rewards, next_values, terminated, truncated)
    got = discounted_returns(rewards, terminated, truncated, next_values, discount=GAMMA)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize('steps', [1, 2, 3, 5, 40])
def test_n_step_returns_against_brute_force(seed, steps):
    rewards, _, next_values, terminated, truncated, _ = sample(seed)
    expected = each(
        lambda t, *a: n_step(t, steps, *a), rewards, next_values, terminated, truncated
    )
    got = n_step_returns(rewards, next_values, terminated, truncated, discount=GAMMA, steps=steps)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_returns_of_no_steps_are_an_error():
    rewards, _, next_values, terminated, truncated, _ = sample(0)
    with pytest.raises(ValueError, match='returns of 0 steps'):
        n_step_returns(rewards, next_values, terminated, truncated, discount=GAMMA, steps=0)


def mixture(t, rewards, next_values, terminated, truncated):
    last = remaining(t, terminated, truncated)
    parts = [n_step(t, n, rewards, next_values, terminated, truncated) for n in range(1, last + 1)]
    weights = [(1 - LAMBDA) * LAMBDA ** (n - 1) for n in range(1, last)] + [LAMBDA ** (last - 1)]
    return float(np.dot(weights, parts))


@pytest.mark.parametrize('seed', SEEDS)
def test_lambda_returns_mix_all_n_step_returns(seed):
    rewards, values, next_values, terminated, truncated, _ = sample(seed)
    expected = each(mixture, rewards, next_values, terminated, truncated)
    ends = (terminated, truncated)
    got = lambda_returns(rewards, next_values, *ends, discount=GAMMA, trace=LAMBDA)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    advantages, returns = compute_gae(
        rewards, values, next_values, *ends, discount=GAMMA, trace=LAMBDA
    )
    np.testing.assert_allclose(returns, expected, rtol=1e-12)
    np.testing.assert_allclose(advantages, expected - values, rtol=1e-9, atol=1e-12)


def vtrace_target(t, log_ratios, rewards, values, next_values, terminated, truncated):
    """V(x_t) + sum of gamma^i (product of c) rho delta, as in the paper's equation (1)."""
    total, carried = values[t], 1.0
    for i in range(remaining(t, terminated, truncated)):
        s = t + i
        ratio = np.exp(log_ratios[s])
        ahead = 0.0 if terminated[s] else next_values[s]
        delta = min(1.5, ratio) * (rewards[s] + GAMMA * ahead - values[s])
        total += GAMMA**i * carried * delta
        carried *= LAMBDA * min(1.1, ratio)
    return total


@pytest.mark.parametrize('seed', SEEDS)
def test_vtrace_against_the_papers_sum(seed):
    rewards, values, next_values, terminated, truncated, log_ratios = sample(seed)
    arrays = (log_ratios, rewards, values, next_values, terminated, truncated)
    expected = each(vtrace_target, *arrays)
    targets, advantages = vtrace(*arrays, discount=GAMMA, trace=LAMBDA, rho_clip=1.5, c_clip=1.1)
    np.testing.assert_allclose(targets, expected, rtol=1e-10)
    after = np.where(terminated, 0.0, next_values)
    goes_on = ~(terminated | truncated)[:-1]
    after[:-1] = np.where(goes_on, expected[1:], after[:-1])
    rho = np.minimum(np.exp(log_ratios), 1.5)
    np.testing.assert_allclose(
        advantages, rho * (rewards + GAMMA * after - values), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize('seed', SEEDS)
def test_vtrace_of_ones_own_actions_is_the_lambda_return(seed):
    rewards, values, next_values, terminated, truncated, _ = sample(seed)
    ends = (terminated, truncated)
    targets, _ = vtrace(
        np.zeros_like(rewards), rewards, values, next_values, *ends, discount=GAMMA, trace=LAMBDA
    )
    expected = lambda_returns(rewards, next_values, *ends, discount=GAMMA, trace=LAMBDA)
    np.testing.assert_allclose(targets, expected, rtol=1e-10)


ESTIMATORS = {
    'all steps': lambda r, v, n, *ends: discounted_returns(r, *ends, n, discount=GAMMA),
    'n steps': lambda r, v, n, *ends: n_step_returns(r, n, *ends, discount=GAMMA, steps=2),
    'lambda': lambda r, v, n, *ends: lambda_returns(r, n, *ends, discount=GAMMA, trace=LAMBDA),
    'gae': lambda r, v, n, *ends: compute_gae(r, v, n, *ends, discount=GAMMA, trace=LAMBDA)[1],
    'vtrace': lambda r, v, n, *ends: vtrace(
        np.zeros_like(r), r, v, n, *ends, discount=GAMMA, trace=LAMBDA
    )[0],
}


@pytest.mark.parametrize('name', ESTIMATORS)
@pytest.mark.parametrize('cut', ['truncated', 'terminated'])
def test_a_chain_that_is_cut_is_worth_what_it_would_be_without_the_cut(name, cut):
    """Two states in turn, reward 1, a time-out every third step: r / (1 - gamma) in both.

    If the time-out is mistaken for an end, a step is worth 2.71 at most.
    """
    steps = 30
    age = np.arange(steps) % 3
    state, following = age % 2, (age + 1) % 2  # an episode begins in state 0
    ends = age == 2
    none = np.zeros(steps, bool)
    both = (none, ends) if cut == 'truncated' else (ends, none)
    table = np.zeros(2)
    for _ in range(300):
        targets = ESTIMATORS[name](np.ones(steps), table[state], table[following], *both)
        table = np.array([targets[state == s].mean() for s in (0, 1)])
    if cut == 'truncated':
        np.testing.assert_allclose(table, 1.0 / (1.0 - GAMMA), rtol=1e-6)
    else:
        assert table.max() < 2.8


def test_explained_variance_and_normalise():
    actual = np.array([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(actual, actual) == 1.0
    assert explained_variance(np.full(4, 2.5), actual) == 0.0
    assert explained_variance(actual, np.ones(4)) == 0.0
    np.testing.assert_allclose(normalise(actual), (actual - 2.5) / np.sqrt(1.25), rtol=1e-7)
    assert normalise(np.array([3.0])).tolist() == [0.0]
