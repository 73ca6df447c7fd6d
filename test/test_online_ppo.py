"""Online PPO on problems with known answers: ends, holes, old steps, limits, checkpoints."""

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.online.ppo import OnlinePPO, OnlinePPOConfig
from lebot_rl_ros.learning.online.steps import Steps, usable
from online_toy import (
    OFFSET,
    act,
    chain_rows,
    chain_values,
    empty_rows,
    learner,
    mean_actions,
    mistake,
    slipped_rows,
    small_base,
    the_same,
)


def ppo(seed=0, kind='lora', **config):
    return learner(OnlinePPO, OnlinePPOConfig(**config), seed, kind=kind)


def numbers(found):
    return [parameter.detach().clone() for parameter in found.trained.parameters()]


def moved(found, before):
    return max(
        (a.detach() - b).abs().max().item()
        for a, b in zip(found.trained.parameters(), before, strict=True)
    )


def holed_rows(count, seed):
    """Random steps with falls, time-outs, lost rows and lost next states."""
    rng = np.random.default_rng(seed)
    rows = empty_rows(count)
    rows['observation'] = rng.standard_normal(rows['observation'].shape)
    rows['next_observation'] = rng.standard_normal(rows['observation'].shape)
    rows['reward'] = rng.standard_normal(count)
    for name, share in (('terminated', 0.1), ('truncated', 0.1), ('known', 0.85)):
        rows[name] = rng.random(count) < share
    rows['follows'] = rng.random(count) < 0.85
    return rows


@pytest.mark.parametrize('seed', range(5))
def test_advantages_are_sums_of_errors_up_to_the_next_hole(seed):
    found = ppo(discount=0.9, trace=0.7)
    steps = Steps.of(holed_rows(60, seed), np.ones(60, np.int64))
    kept = np.random.default_rng(seed).random(60) < 0.9
    used = usable(steps, kept)
    values, advantages, returns = found.judge(steps, used)
    ahead = found.values(steps)[1]
    assert 20 < used.sum() < 60
    for t in np.flatnonzero(used):
        expected, k = 0.0, t
        while True:
            future = 0.0 if steps.terminated[k] else 0.9 * ahead[k]
            expected += (0.9 * 0.7) ** (k - t) * (steps.reward[k] + future - values[k])
            over = steps.terminated[k] or steps.truncated[k] or k == 59
            if over or not steps.follows[k + 1] or not used[k + 1]:
                break
            k += 1
        assert advantages[t] == pytest.approx(expected, abs=1e-6)
        assert returns[t] == pytest.approx(expected + values[t], abs=1e-6)


def test_a_chain_of_time_outs_is_worth_what_it_would_be_without():
    config = {'discount': 0.9, 'batch': 60, 'largest_log_ratio': 1e9, 'warmup': 10**6}
    found = {}
    for ends in ('truncated', 'terminated'):
        learning = ppo(**config, epochs=8, minibatch=60, value_learning_rate=0.05)
        rng = np.random.default_rng(0)
        for turn in range(30):
            if turn == 20:
                learning.value_optimiser.param_groups[0]['lr'] = 0.005
            learning.ingest(chain_rows(60, rng, ends))
            learning.update()
        found[ends] = chain_values(learning)
    np.testing.assert_allclose(found['truncated'], 10.0, rtol=0.02)
    # Three steps to the end, or two and one of them, as the states take turns: far from 10.
    assert (found['terminated'] < 3.0).all()


def plain_ppo(found, rows, config):
    """Epochs of PPO on one batch as in the paper, with autograd: log-prob then and now."""
    steps = Steps.of(rows, np.ones(len(rows), np.int64))
    _, advantages, _ = found.judge(steps, np.ones(len(rows), bool))
    gain = torch.from_numpy((advantages - advantages.mean()) / advantages.std()).float()
    action, std, then = (
        torch.from_numpy(np.array(rows[n])) for n in ('action', 'std', 'log_prob')
    )
    for _ in range(config['epochs']):
        mean = found.trained.mean(torch.from_numpy(np.array(rows['observation'])))
        now = torch.distributions.Normal(mean, std).log_prob(action).sum(1)
        ratio = torch.exp(now - then)
        loss = -torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
        found.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(found.trained.parameters(), 1.0)
        found.optimiser.step()


@pytest.mark.parametrize('kind', ['lora', 'bias', 'all'])
def test_with_fresh_steps_it_is_plain_ppo(kind):
    config = {'batch': 200, 'minibatch': 200, 'epochs': 5, 'target_kl': 1e9}
    decoupled, plain = ppo(kind=kind, **config), ppo(kind=kind, **config)
    rows = slipped_rows(plain.trained, np.random.default_rng(1), 300)
    rows = rows[rows['known'] == 1][:200]
    before = numbers(decoupled)
    decoupled.ingest(rows)
    metrics = decoupled.update()
    plain_ppo(plain, rows, config)
    for a, b in zip(decoupled.trained.parameters(), plain.trained.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6)
    assert moved(decoupled, before) > 1e-3
    assert metrics['ess'] == pytest.approx(1.0)
    assert metrics['mean_log_ratio'] < 1e-4
    assert metrics['clip_fraction'] >= 0.0


def test_the_target_kl_stops_the_policy_and_not_the_critic():
    rows = slipped_rows(ppo().trained, np.random.default_rng(2), 400)
    config = {'batch': 400, 'minibatch': 400}
    found = {}
    for name, more in (('stopped', {'epochs': 6, 'target_kl': 1e-7}), ('once', {'epochs': 1})):
        found[name] = ppo(**config, **more)
        found[name].ingest(rows)
        metrics = found[name].update()
        assert metrics['policy_steps'] == 1.0
        assert metrics['approx_kl'] > 1e-7
    the_same(
        *({k: v for k, v in f.state().items() if k.startswith('trained')} for f in found.values())
    )
    values = [f.critic(torch.zeros(1, 3)).item() for f in found.values()]
    assert abs(values[0] - values[1]) > 1e-4
    free = ppo(**config, epochs=6, target_kl=1e9)
    free.ingest(rows)
    assert free.update()['policy_steps'] == 6.0


def test_the_distance_to_the_base_is_capped():
    rng = np.random.default_rng(3)
    found = ppo(batch=200, base_kl=0.01, target_kl=1.0, learning_rate=0.02, epochs=10)
    for _ in range(4):
        rows = slipped_rows(found.trained, rng, 200)
        x = torch.from_numpy(np.array(rows['observation'][rows['known'] == 1]))
        with torch.no_grad():
            apart = (found.trained.mean(x) - found.trained.base_mean(x)) / 0.2
        was = float(apart.square().sum(1).mean()) / 2  # on new observations, before the update
        found.ingest(rows)
        metrics = found.update()
        assert metrics['kl_to_base'] <= max(0.01, was) + 1e-6
    assert metrics['kl_to_base'] > 0.0
    pulled, free = (
        ppo(batch=200, target_kl=1.0, learning_rate=0.02, epochs=10, kl_coefficient=c)
        for c in (10.0, 0.0)
    )
    for learning in (pulled, free):
        rng = np.random.default_rng(3)
        for _ in range(4):
            learning.ingest(slipped_rows(learning.trained, rng, 200))
            metrics = learning.update()
        learning.kl = metrics['kl_to_base']
    assert pulled.kl < 0.2 * free.kl


def test_at_first_the_critic_alone_learns():
    rng = np.random.default_rng(4)
    found = ppo(batch=100, warmup=150)
    before, values = numbers(found), found.critic(torch.zeros(1, 3)).item()
    for _ in range(2):
        found.ingest(slipped_rows(found.trained, rng, 100))
        assert found.update()['policy_steps'] == 0.0
    assert moved(found, before) == 0.0
    assert found.critic(torch.zeros(1, 3)).item() != values
    found.ingest(slipped_rows(found.trained, rng, 100))
    assert found.update()['policy_steps'] > 0.0
    assert moved(found, before) > 0.0


def test_old_and_far_steps_are_counted_and_left_out():
    rng = np.random.default_rng(5)
    found = ppo(batch=400, lag=1, largest_log_ratio=0.2)
    parts = [slipped_rows(found.trained, rng, 100, version) for version in (1, 2, 3, 3)]
    parts[3]['log_prob'] -= 0.9  # mean of all of version 3: 0.45
    found.ingest(np.concatenate(parts[:2]))
    assert found.update() == {}
    for part in parts[2:]:
        found.ingest(part)
    metrics = found.update()
    # Version 1 is two behind, 3 too far: 2 alone is left.
    assert metrics['left_out'] == 300.0
    assert metrics['lag_versions'] == pytest.approx((2 + 1 + 0 + 0) / 4)
    assert metrics['mean_log_ratio'] == pytest.approx(0.225, abs=0.001)
    assert metrics['batch_reward'] == pytest.approx(
        np.mean([part['reward'].mean() for part in parts]), rel=1e-5
    )
    before = numbers(found)
    far = slipped_rows(found.trained, rng, 400, 4)
    far['std'][:] = 0.0  # nothing was drawn, so nothing can be said of the action
    found.ingest(far)
    assert found.update()['left_out'] == 400.0
    assert moved(found, before) == 0.0


@pytest.mark.parametrize(('least', 'learns'), [(0.25, True), (0.3, False)])
def test_of_a_few_fresh_steps_nothing_is_learned(least, learns):
    found = ppo(batch=200, lag=0, least=least)
    rng = np.random.default_rng(5)
    before, values = numbers(found), found.critic(torch.zeros(1, 3)).item()
    found.ingest(slipped_rows(found.trained, rng, 145, 1))
    found.ingest(slipped_rows(found.trained, rng, 55, 2))  # 54 can be used: one goes before a hole
    metrics = found.update()
    assert metrics['left_out'] == 145.0
    assert (moved(found, before) > 0.0) == learns
    assert (found.critic(torch.zeros(1, 3)).item() != values) == learns


def test_the_same_weights_under_another_number_are_no_older():
    found = ppo(batch=300, lag=0)
    for version in (1, 2, 3):
        rows = slipped_rows(found.trained, np.random.default_rng(version), 100, 7)
        rows['adapter_version'] = version
        found.ingest(rows[:40])
        found.ingest(rows[40:])
    assert found.update()['left_out'] == 0.0


def test_older_steps_weigh_by_how_likely_the_proximal_policy_would_have_acted_so():
    """The first step's gradient is that of the decoupled objective, weights truncated."""
    config = {'batch': 200, 'minibatch': 200, 'epochs': 1, 'weight_clip': 1.2}
    found = ppo(kind='bias', largest_log_ratio=9.0, gradient_norm=1e9, **config)
    rows = slipped_rows(found.trained, np.random.default_rng(6), 300)
    rows = rows[rows['known'] == 1][:200]
    acting = rows['mean'] + np.float32(0.05)  # an older policy, whose actions these were
    act(rows, acting, np.random.default_rng(7))
    steps = Steps.of(rows, np.ones(200, np.int64))
    _, advantages, _ = found.judge(steps, np.ones(200, bool))
    gain = torch.from_numpy((advantages - advantages.mean()) / advantages.std()).float()
    mean = found.trained.mean(torch.from_numpy(np.array(rows['observation'])))
    now = torch.distributions.Normal(mean, torch.from_numpy(np.array(rows['std'])))
    now = now.log_prob(torch.from_numpy(np.array(rows['action']))).sum(1)
    weights = torch.exp(now.detach() - torch.from_numpy(np.array(rows['log_prob']))).clamp(max=1.2)
    loss = -(weights * torch.exp(now - now.detach()) * gain).mean()
    wanted = torch.autograd.grad(loss, found.trained.parameters())
    found.ingest(rows)
    metrics = found.update()
    for parameter, gradient in zip(found.trained.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)
    assert metrics['ess'] < 0.95
    assert weights.max() == pytest.approx(1.2)
    assert metrics['policy_loss'] == pytest.approx(loss.item(), abs=1e-5)


def test_reverting_goes_back_and_forgets():
    rng = np.random.default_rng(8)
    found = ppo(batch=200)
    found.ingest(slipped_rows(found.trained, rng, 200, 0))
    found.update()
    accepted = found.trained.export()[1]
    found.ingest(slipped_rows(found.trained, rng, 200, 1))
    found.update()
    for version in (1, 2):
        found.ingest(slipped_rows(found.trained, rng, 50, version))
    assert any('exp_avg' in name for name in found.state())
    found.revert(accepted, {2})
    assert found.waiting == 50
    again = found.trained.export()[1]
    for name in accepted:
        np.testing.assert_array_equal(again[name], accepted[name])
    assert not any('exp_avg' in name for name in found.state())
    found.revert(None, {1, 2})
    assert found.waiting == 0
    assert mistake(found.trained) == pytest.approx(float(OFFSET @ OFFSET), rel=1e-4)
    found.ingest(slipped_rows(found.trained, rng, 200, 0))  # and it goes on to learn
    assert found.update()['policy_steps'] > 0.0
    assert mistake(found.trained) != pytest.approx(float(OFFSET @ OFFSET), rel=1e-4)


@pytest.mark.parametrize('kind', ['lora', 'all', 'residual'])
def test_it_goes_on_from_a_state_to_the_same_bits(kind):
    rng = np.random.default_rng(9)
    config = {'batch': 200, 'minibatch': 64}
    first, second = ppo(kind=kind, **config), ppo(seed=5, kind=kind, **config)
    stream = [slipped_rows(first.trained, rng, 130, version) for version in (0, 1, 2, 3, 4)]
    for rows in stream[:2]:
        first.ingest(rows)
        first.update()
    state = first.state()
    assert first.waiting == 60
    second.load_state({name: array.copy() for name, array in state.items()})
    the_same(second.state(), state)
    for rows in stream[2:]:
        told = []
        for found in (first, second):
            found.ingest(rows)
            told.append(found.update())
        assert told[0] == told[1]
    the_same(first.state(), second.state())
    assert any((first.state()[name] != state[name]).any() for name in state if 'trained' in name)


def test_a_state_that_does_not_fit_is_refused():
    found = ppo()
    state = found.state()
    name = next(name for name in state if name.startswith('trained.'))
    for wrong, message in (
        ({k: v for k, v in state.items() if k != name}, 'is missing, expected'),
        ({**state, name: np.zeros(3)}, r'is of shape \(3,\), expected'),
        ({k: v for k, v in state.items() if k != 'turn'}, 'turn is missing'),
        ({k: v for k, v in state.items() if 'critic' not in k}, r'critic\.\S+ is missing'),
        ({k: v for k, v in state.items() if k != 'rng'}, 'the state has no rng'),
    ):
        with pytest.raises(ValueError, match=message):
            found.load_state(wrong)


@pytest.mark.parametrize(
    ('setting', 'message'),
    [({'batch': 0}, 'batch is 0, must be 1 or more'), ({'trace': 1.1}, r'trace is 1\.1'),
     ({'target_kl': 0.0}, r'target_kl is 0\.0, must be positive'), ({'lag': -1}, 'lag is -1'),
     ({'least': 1.5}, r'least is 1\.5, must be in'),
     ({'gradient_norm': 0.0}, 'gradient_norm'), ({'learning_rate': np.inf}, 'learning_rate')],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        OnlinePPOConfig(**setting)


def test_a_base_without_a_critic_is_refused():
    base, _ = small_base()
    actor_alone = {name: value for name, value in base.items() if 'critic' not in name}
    with pytest.raises(ValueError, match='the base has no critic to start from'):
        OnlinePPO(ppo().trained, actor_alone, OnlinePPOConfig())


def test_the_critic_begins_as_the_bases_own():
    base, _ = small_base()
    found = ppo()
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    hidden = x
    for i in range(3):
        hidden = hidden @ base[f'critic.{i}.weight'].T + base[f'critic.{i}.bias']
        hidden = np.where(hidden > 0.0, hidden, np.expm1(hidden)) if i < 2 else hidden
    with torch.no_grad():
        np.testing.assert_allclose(found.critic(torch.from_numpy(x)), hidden[:, 0], atol=1e-5)


def test_an_update_that_ran_away_is_an_error():
    found = ppo(batch=100)
    rows = slipped_rows(found.trained, np.random.default_rng(0), 100)
    rows['reward'][5] = np.nan
    found.ingest(rows)
    with pytest.raises(ValueError, match='not finite'):
        found.update()


@pytest.mark.parametrize('seed', range(2))  # five were tried: all recover 0.99
def test_it_recovers_from_a_slip(seed):
    found = ppo(seed, batch=500, discount=0.5)
    rng = np.random.default_rng(seed)
    before = mistake(found.trained)
    assert before == pytest.approx(float(OFFSET @ OFFSET), rel=1e-4)
    for version in range(15):
        found.ingest(slipped_rows(found.trained, rng, 500, version))
        found.update()
    assert mistake(found.trained) < 0.05 * before


def test_means_are_those_of_the_rows():
    """The toy's rows are of the policy that acts: else the tests above would prove little."""
    found = ppo()
    rows = slipped_rows(found.trained, np.random.default_rng(0), 50)
    np.testing.assert_array_equal(rows['mean'], mean_actions(found.trained, rows['observation']))
