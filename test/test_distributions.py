"""Distributions against torch's own, autograd and counted draws."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, Normal, kl_divergence

from lebot_rl_ros.learning import distributions as d


def sources():
    return [np.random.default_rng(3), torch.Generator().manual_seed(3)]


def normal(mean, log_std):
    return Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(7, 4, dtype=torch.float64) * 2.0, torch.randn(7, 4, dtype=torch.float64)


@pytest.fixture
def gaussians():
    torch.manual_seed(1)
    mean, other = torch.randn(2, 7, 3, dtype=torch.float64)
    log_std, other_log_std = torch.randn(2, 3, dtype=torch.float64) * 0.5
    return mean, log_std, other, other_log_std


def test_categorical_against_torch(logits):
    mine, other = (d.Categorical(x) for x in logits)
    theirs, their_other = (TorchCategorical(logits=x) for x in logits)
    actions = torch.tensor([0, 1, 2, 3, 3, 1, 0])
    torch.testing.assert_close(mine.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(mine.entropy(), theirs.entropy())
    torch.testing.assert_close(mine.kl(other), kl_divergence(theirs, their_other))
    assert mine.mode().tolist() == logits[0].argmax(1).tolist()


def test_categorical_by_hand():
    policy = d.Categorical(torch.log(torch.tensor([[1.0, 1.0, 2.0]])))
    assert float(policy.log_prob(torch.tensor([2]))) == pytest.approx(np.log(0.5))
    assert float(policy.entropy()) == pytest.approx(1.5 * np.log(2.0))


def test_a_choice_that_is_impossible_has_no_entropy_and_is_not_drawn():
    policy = d.Categorical(torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]] * 5000))
    assert float(policy.entropy()[0]) == pytest.approx(np.log(2.0))
    for source in sources():
        assert set(policy.sample(source).tolist()) == {1, 3}


@pytest.mark.parametrize('source', sources(), ids=['numpy', 'torch'])
def test_categorical_draws_have_their_probabilities(source):
    probs = torch.tensor([0.05, 0.2, 0.75])
    count = 40_000
    draws = d.Categorical(probs.log().expand(count, 3)).sample(source)
    assert draws.dtype == torch.int64
    shares = torch.bincount(draws, minlength=3) / count
    # Five standard errors of a share.
    assert ((shares - probs).abs() < 5.0 * (probs * (1 - probs) / count).sqrt()).all()


def test_gaussian_against_torch(gaussians):
    mean, log_std, other, other_log_std = gaussians
    mine, rival = d.Gaussian(mean, log_std), d.Gaussian(other, other_log_std)
    theirs, their_rival = normal(mean, log_std), normal(other, other_log_std)
    actions = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(mine.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(mine.entropy(), theirs.entropy())
    torch.testing.assert_close(mine.kl(rival), kl_divergence(theirs, their_rival))
    assert mine.mode() is mean


def test_gaussian_log_std_may_have_any_shape_that_fits(gaussians):
    mean, log_std, *_ = gaussians
    actions = mean + 0.1
    each = d.Gaussian(mean, log_std.expand(7, 3).clone())
    torch.testing.assert_close(each.log_prob(actions), d.Gaussian(mean, log_std).log_prob(actions))
    same = d.Gaussian(mean, torch.tensor(0.2, dtype=torch.float64))
    full = d.Gaussian(mean, torch.full((3,), 0.2, dtype=torch.float64))
    torch.testing.assert_close(same.log_prob(actions), full.log_prob(actions))
    torch.testing.assert_close(same.entropy(), full.entropy())


@pytest.mark.parametrize('source', sources(), ids=['numpy', 'torch'])
def test_gaussian_draws_have_mean_and_spread(source):
    mean, log_std = torch.tensor([1.0, -2.0]), torch.log(torch.tensor([0.5, 2.0]))
    draws = d.Gaussian(mean.expand(40_000, 2), log_std).sample(source)
    errors = (draws.mean(0) - mean) / (log_std.exp() / 200.0)
    assert (errors.abs() < 5.0).all()
    torch.testing.assert_close(draws.std(0), log_std.exp(), rtol=0.02, atol=0.0)
    assert float(torch.corrcoef(draws.t())[0, 1].abs()) < 0.03


def test_gradients_by_hand_are_those_of_autograd(logits, gaussians):
    x = logits[0].requires_grad_()
    actions = torch.tensor([0, 1, 2, 3, 3, 1, 0])
    (expected,) = torch.autograd.grad(d.categorical_log_prob(x, actions).sum(), x)
    torch.testing.assert_close(d.categorical_log_prob_gradient(x.detach(), actions), expected)
    (expected,) = torch.autograd.grad(d.categorical_entropy(x).sum(), x)
    torch.testing.assert_close(d.categorical_entropy_gradient(x.detach()), expected)

    mean, log_std = (value.requires_grad_() for value in gaussians[:2])
    moves = gaussians[2]
    log_prob = d.gaussian_log_prob(mean, log_std, moves).sum()
    d_mean, d_log_std = torch.autograd.grad(log_prob, (mean, log_std))
    mine = d.gaussian_log_prob_gradient(mean.detach(), log_std.detach(), moves)
    torch.testing.assert_close(mine[0], d_mean)
    torch.testing.assert_close(mine[1].sum(0), d_log_std)


@pytest.fixture
def state_dependent():
    torch.manual_seed(2)
    mean = torch.randn(6, 2, dtype=torch.float64)
    latent = torch.randn(6, 5, dtype=torch.float64)
    return mean, latent, torch.randn(5, 2, dtype=torch.float64) * 0.3 - 1.0


def test_state_dependent_noise_is_a_gaussian_of_the_features(state_dependent):
    mean, latent, log_std = state_dependent
    policy = d.StateDependentNoise(mean, latent, log_std)
    variance = torch.zeros(6, 2, dtype=torch.float64)
    for i in range(5):
        for j in range(2):
            variance[:, j] += latent[:, i] ** 2 * log_std[i, j].exp() ** 2
    theirs = Independent(Normal(mean, (variance + d.VARIANCE_FLOOR).sqrt()), 1)
    actions = torch.randn(6, 2, dtype=torch.float64)
    torch.testing.assert_close(policy.log_prob(actions), theirs.log_prob(actions))
    torch.testing.assert_close(policy.entropy(), theirs.entropy())
    other = d.StateDependentNoise(mean + 0.1, latent, log_std + 0.2)
    torch.testing.assert_close(
        policy.kl(other),
        d.Gaussian(mean, 0.5 * (variance + d.VARIANCE_FLOOR).log()).kl(other.gaussian()),
    )


def test_state_dependent_gradients_by_hand_are_those_of_autograd(state_dependent):
    mean, latent, log_std = state_dependent
    actions, weight = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    mine = d.state_log_prob_gradient(mean, latent, log_std, actions, weight)
    mean, log_std = mean.requires_grad_(), log_std.requires_grad_()
    loss = (weight * d.StateDependentNoise(mean, latent, log_std).log_prob(actions)).sum()
    for got, expected in zip(mine, torch.autograd.grad(loss, (mean, log_std)), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('source', sources(), ids=['numpy', 'torch'])
def test_state_dependent_draws_have_the_spread_of_their_density(source):
    latent = torch.tensor([0.5, -1.0, 2.0]).expand(40_000, 3)
    log_std = torch.tensor([[-1.0, 0.0], [-0.5, -2.0], [-1.5, 0.3]])
    mean = torch.tensor([1.0, -1.0]).expand(40_000, 2)
    policy = d.StateDependentNoise(mean, latent, log_std)
    draws = policy.sample(source)
    expected = d.state_variance(latent[:1], log_std)[0].sqrt()
    torch.testing.assert_close(draws.std(0), expected, rtol=0.02, atol=0.0)
    assert ((draws.mean(0) - mean[0]).abs() < 5.0 * expected / 200.0).all()


def test_held_noise_gives_one_action_a_state_until_it_is_drawn_anew():
    rng = np.random.default_rng(0)
    noise = d.NoiseMatrix(count=4, features=3, actions=2, every=3)
    latent = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    policy = d.StateDependentNoise(torch.zeros(4, 2), latent, torch.zeros(3, 2))
    actions = []
    for _ in range(7):
        noise.advance(rng)
        actions.append(policy.sample(noise))
    same = [torch.equal(a, b) for a, b in pairwise(actions)]
    assert same == [True, True, False, True, True, False]
    # Each environment has its own matrix, and the action is linear in the features.
    assert not torch.equal(noise.unit[0], noise.unit[1])
    double = d.StateDependentNoise(torch.zeros(4, 2), 2.0 * latent, torch.zeros(3, 2))
    torch.testing.assert_close(double.sample(noise), 2.0 * actions[-1])


def test_noise_must_be_held_for_a_step_at_least():
    with pytest.raises(ValueError, match='held for 0 steps'):
        d.NoiseMatrix(1, 1, 1, every=0)


def test_draws_carry_no_gradient():
    mean = torch.zeros(2, 3, requires_grad=True)
    rng = np.random.default_rng(0)
    assert not d.Gaussian(mean, torch.zeros(3)).sample(rng).requires_grad
    assert not d.Categorical(mean).sample(rng).requires_grad
    assert not d.StateDependentNoise(mean, mean, torch.zeros(3, 3)).sample(rng).requires_grad
