"""The actor-critics of a walking robot, batched and streaming, on problems with known answers."""

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.online.actor_critic import OnlineActorCritic, OnlineActorCriticConfig
from lebot_rl_ros.learning.online.on_policy import RunningSize
from lebot_rl_ros.learning.online.steps import Steps, usable
from lebot_rl_ros.learning.online.streaming import (
    StreamingActorCritic,
    StreamingActorCriticConfig,
)
from lebot_rl_ros.learning.online.trained import Trained, TrainedConfig
from lebot_rl_ros.learning.returns import lambda_returns
from online_toy import (
    JOINTS,
    OBSERVATION,
    OFFSET,
    act,
    chain_rows,
    chain_values,
    empty_rows,
    learner,
    mistake,
    slipped_rows,
    small_base,
    the_same,
)

BATCHED = OnlineActorCritic, OnlineActorCriticConfig
STREAMING = StreamingActorCritic, StreamingActorCriticConfig
BOTH = pytest.mark.parametrize('form', [BATCHED, STREAMING], ids=['batched', 'streaming'])


def make(form, seed=0, kind='lora', **config):
    return learner(form[0], form[1](**config), seed, kind=kind)


def linear(**config):
    """A streaming learner whose actor and critic are linear, all weights trained, no bounds."""
    base, manifest = small_base(hidden=())
    base = {**base, 'critic.0.weight': base['critic.0.weight'] * np.float32(0.3)}
    config = StreamingActorCriticConfig(
        **{'policy_bound': 1e-9, 'value_bound': 1e-9, 'largest_log_ratio': 1e9, **config}
    )
    trained = Trained(base, manifest, TrainedConfig(kind='all'), 0)
    return StreamingActorCritic(trained, base, config)


def features(observation):
    return np.append(observation.astype(float), 1.0)


def wandering_rows(count, seed, mean=0.0):
    """Random observations and rewards; actions were drawn round ``mean``."""
    rng = np.random.default_rng(seed)
    rows = empty_rows(count)
    observation = rng.standard_normal((count + 1, OBSERVATION))
    rows['observation'], rows['next_observation'] = observation[:-1], observation[1:]
    act(rows, np.full((count, JOINTS), mean, np.float32), rng)
    rows['reward'] = rng.standard_normal(count)
    return rows


def layer(module):
    """Weight and bias of a linear network, side by side, float64."""
    return np.column_stack(
        [module.weight.detach().double().numpy(), module.bias.detach().double().numpy()]
    )


def by_hand(found, rows):
    """The stream's recursion for linear networks: e = rho (decay e + gradient), w += rate d e."""
    config, size = found.config, RunningSize()
    actor, critic = layer(found.trained.actor[0]), layer(found.critic.layers[0])
    trace_a, trace_c, goes_on = np.zeros_like(actor), np.zeros_like(critic), False
    for row in rows:
        x, following = features(row['observation']), features(row['next_observation'])
        if not (goes_on and row['follows']):
            trace_a[:], trace_c[:] = 0.0, 0.0
        goes_on = not (row['terminated'] or row['truncated'])
        if not (row['known'] or row['terminated']):
            continue
        ahead = 0.0 if row['terminated'] else (critic @ following)[0]
        error = row['reward'] + config.discount * ahead - (critic @ x)[0]
        z = (row['action'] - actor @ x) / row['std']
        log_prob = -0.5 * (z**2).sum() - np.log(row['std'] * np.sqrt(2.0 * np.pi)).sum()
        rho = min(np.exp(log_prob - row['log_prob']), config.weight_clip)
        decay = config.discount * config.trace
        trace_a = rho * (decay * trace_a + np.outer(z / row['std'], x))
        trace_c = rho * (decay * trace_c + x[None])
        actor = actor + config.learning_rate * error / (3.0 * size(np.array([error]))) * trace_a
        critic = critic + config.value_learning_rate * error * trace_c
    return actor, critic


def test_a_linear_stream_moves_as_the_recursion_by_hand():
    found = linear(batch=40, learning_rate=1e-3, value_learning_rate=0.01, trace=0.7, discount=0.9)
    rows = wandering_rows(40, seed=1, mean=0.1)
    rows['terminated'][9] = rows['truncated'][20] = rows['truncated'][30] = 1
    rows['known'][[9, 30]] = 0
    rows['follows'][[10, 21, 27, 31]] = 0
    before = layer(found.trained.actor[0])
    actor, critic = by_hand(found, rows)
    found.ingest(rows)
    metrics = found.update()
    np.testing.assert_allclose(layer(found.trained.actor[0]), actor, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(layer(found.critic.layers[0]), critic, rtol=1e-3, atol=1e-5)
    assert np.abs(actor - before).max() > 0.003
    assert metrics['step_length'] == pytest.approx(1.0)


def test_small_steps_over_a_trajectory_sum_to_that_of_lambda_returns():
    """Forward and backward view agree (Sutton and Barto 2018, section 12.2)."""
    found = linear(batch=30, learning_rate=0.0, value_learning_rate=1e-4, discount=0.9, trace=0.6)
    rows = wandering_rows(30, seed=2)
    x = torch.from_numpy(np.array(rows['observation']))
    act(rows, found.trained.mean(x).detach().numpy(), np.random.default_rng(3))
    rows['truncated'][-1] = 1
    steps = Steps.of(rows, np.ones(30, np.int64))
    values, ahead = found.values(steps)
    returns = lambda_returns(
        steps.reward.astype(float), ahead, steps.terminated, steps.truncated,
        discount=0.9, trace=0.6,
    )  # fmt: skip
    phi = np.array([features(o) for o in rows['observation']])
    before = layer(found.critic.layers[0])
    found.ingest(rows)
    found.update()
    step = (layer(found.critic.layers[0]) - before)[0] / 1e-4
    np.testing.assert_allclose(step, (returns - values) @ phi, rtol=0.02, atol=0.02)


@BOTH
def test_a_chain_of_time_outs_is_worth_what_it_would_be_without(form):
    """Cut steps are bootstrapped; called falls, they would be worth three steps at most."""
    rates = {'value_learning_rate': 0.1} if form is BATCHED else {'value_bound': 2.0}
    found = {}
    for ends in ('truncated', 'terminated'):
        learning = make(
            form, discount=0.9, batch=30, warmup=10**6, largest_log_ratio=1e9, weight_clip=1e9,
            **rates,
        )  # fmt: skip
        rng = np.random.default_rng(0)
        for _ in range(100 if form is BATCHED else 10):
            rows = chain_rows(30, rng, ends)
            x = torch.from_numpy(np.array(rows['observation']))
            act(rows, learning.trained.mean(x).detach().numpy(), rng)
            learning.ingest(rows)
            learning.update()
        found[ends] = chain_values(learning)
    np.testing.assert_allclose(found['truncated'], 10.0, rtol=0.03)
    assert (found['terminated'] < 3.5).all()


@pytest.mark.parametrize('seed', range(4))
def test_v_trace_over_holes_by_brute_force(seed):
    found = make(BATCHED, discount=0.9, trace=0.8, weight_clip=1.1)
    rng = np.random.default_rng(seed)
    rows = wandering_rows(50, seed)
    for name, share in (('terminated', 0.1), ('truncated', 0.1), ('known', 0.85)):
        rows[name] = rng.random(50) < share
    rows['follows'] = rng.random(50) < 0.85
    steps = Steps.of(rows, np.ones(50, np.int64))
    used = usable(steps, rng.random(50) < 0.9)
    log_ratios = 0.4 * rng.standard_normal(50)
    ratios = np.minimum(np.exp(log_ratios), 1.1)
    log_ratios[~used] = np.nan
    values, targets, advantages = found.judge(steps, used, log_ratios)
    ahead = np.where(steps.terminated, 0.0, found.values(steps)[1])
    errors = steps.reward + 0.9 * ahead - values

    def target(t):
        return values[t] + ratios[t] * errors[t] + (
            0.9 * 0.8 * ratios[t] * (target(t + 1) - values[t + 1]) if goes_on(t) else 0.0
        )  # fmt: skip

    def goes_on(t):
        over = steps.terminated[t] or steps.truncated[t] or t == 49
        return not over and steps.follows[t + 1] and used[t + 1]

    for t in np.flatnonzero(used):
        assert targets[t] == pytest.approx(target(t), abs=1e-5)
        beyond = target(t + 1) - values[t + 1] if goes_on(t) else 0.0
        wanted = ratios[t] * (errors[t] + 0.9 * beyond)
        # The value of the next observation is that of the next row only where it is the same one.
        assert advantages[t] == pytest.approx(wanted, abs=1e-5)


def test_the_gradient_of_a_batch_is_that_of_the_weighed_log_probs():
    found = make(BATCHED, kind='bias', batch=60, gradient_norm=1e9, largest_log_ratio=9.0)
    rows = slipped_rows(found.trained, np.random.default_rng(1), 60)
    act(rows, rows['mean'] + np.float32(0.05), np.random.default_rng(2))
    mean = found.trained.mean(torch.from_numpy(np.array(rows['observation'])))
    now = torch.distributions.Normal(mean, torch.from_numpy(np.array(rows['std'])))
    now = now.log_prob(torch.from_numpy(np.array(rows['action']))).sum(1)
    steps = Steps.of(rows, np.ones(60, np.int64))
    used = usable(steps, np.ones(60, bool))
    assert 50 < used.sum() < 60
    log_ratios = now.detach().numpy() - rows['log_prob']
    _, _, advantages = found.judge(steps, used, log_ratios)
    gain = torch.from_numpy(advantages / np.sqrt(np.mean(advantages[used] ** 2))).float()
    loss = -(now * gain)[torch.from_numpy(used)].mean()
    wanted = torch.autograd.grad(loss, found.trained.parameters())
    found.ingest(rows)
    metrics = found.update()
    assert metrics['policy_loss'] == pytest.approx(loss.item(), rel=5e-3)
    for parameter, gradient in zip(found.trained.parameters(), wanted, strict=True):
        # The running size weighs the sixty a little unlike.
        torch.testing.assert_close(parameter.grad, gradient, rtol=0.05, atol=1e-4)


def test_the_size_of_errors_by_hand():
    size = RunningSize()
    assert size(np.zeros(3)) == 1.0
    size = RunningSize()
    assert size(np.array([3.0])) == pytest.approx(3.0)
    wanted = np.sqrt((0.999 * 9.0 + 16.0) / 1.999)
    assert size(np.array([4.0])) == pytest.approx(wanted)
    again = RunningSize()
    again.load_state(size.state())
    assert again(np.array([1.0])) == size(np.array([1.0]))
    with pytest.raises(ValueError, match='expected two numbers'):
        again.load_state(None)


def traces(found):
    return [trace.clone() for trace in (*found._policy.traces, *found._value.traces)]


@pytest.mark.parametrize('how', ['truncated', 'terminated', 'hole', 'lost', 'left out'])
def test_traces_begin_anew_where_a_step_does_not_follow(how):
    """After a cut the traces are those of a learner that never saw what was before it."""
    config = {'batch': 5, 'learning_rate': 0.0, 'value_learning_rate': 0.0, 'lag': 0}
    rows = slipped_rows(make(STREAMING).trained, np.random.default_rng(1), 10)
    rows['truncated'], rows['known'], rows['follows'] = 0, 1, 1
    if how == 'hole':
        rows['follows'][5] = 0
    elif how == 'lost':
        rows['truncated'][4], rows['known'][4] = 1, 0
    elif how == 'left out':
        rows['log_prob'][:5] = np.nan
    else:
        rows[how][4] = 1
    found, fresh, whole = (make(STREAMING, **config) for _ in range(3))
    found.ingest(rows)
    found.update()
    fresh.ingest(rows[5:])
    fresh.update()
    for a, b in zip(traces(found), traces(fresh), strict=True):
        torch.testing.assert_close(a, b)
    uncut = rows.copy()
    uncut['terminated'], uncut['truncated'], uncut['known'], uncut['follows'] = 0, 0, 1, 1
    uncut['log_prob'] = slipped_rows(whole.trained, np.random.default_rng(1), 10)['log_prob']
    whole.ingest(uncut)
    whole.update()
    assert any((a != b).any() for a, b in zip(traces(whole), traces(fresh), strict=True))


@BOTH
def test_each_step_counts_once_however_the_rows_come(form):
    found = [make(form, batch=20) for _ in range(2)]
    rows = slipped_rows(found[0].trained, np.random.default_rng(1), 70)
    found[0].ingest(rows)
    found[0].update()
    for row in np.split(rows, 70):
        found[1].ingest(row)
        found[1].update()
    the_same(found[0].state(), found[1].state())
    assert found[0].waiting == 10
    assert found[0].update() == {}


def test_the_length_of_bounded_steps():
    """An error beyond three running sizes moves nothing further than one of three."""
    found = make(
        STREAMING, batch=1, policy_bound=4.0, value_bound=5.0, largest_log_ratio=1e9
    )  # fmt: skip
    rows = slipped_rows(found.trained, np.random.default_rng(1), 40)
    rows = rows[rows['known'] == 1][:30]
    rows['reward'][20] = -50.0
    shares = []
    for row in np.split(rows, 30):
        old = [p.detach().clone() for p in found.trained.parameters()]
        was = [p.detach().clone() for p in found.critic.parameters()]
        found.ingest(row)
        error = np.sqrt(found.update()['value_loss'])
        square, weight = found.state()['size']
        unit = 3.0 * np.sqrt(square / weight)
        shares.append(error / unit)
        for parameters, before, length in (
            (found.trained.parameters(), old, min(shares[-1], 1.0) / 4.0),
            (found.critic.parameters(), was, min(error, unit) / 5.0),
        ):
            pairs = zip(parameters, before, strict=True)
            moved = sum((p.detach() - b).abs().sum().item() for p, b in pairs)
            assert moved == pytest.approx(length, rel=0.02, abs=1e-4)
    assert max(shares) > 1.0


@BOTH
def test_old_and_far_steps_are_counted_and_left_out(form):
    found = make(form, batch=100, lag=0, largest_log_ratio=0.3)
    rng = np.random.default_rng(2)
    old, far = (slipped_rows(found.trained, rng, 50, version) for version in (1, 2))
    far['log_prob'] += 0.5
    before = found.state()
    found.ingest(np.concatenate((old, far)))
    metrics = found.update()
    assert metrics['left_out'] == 100.0
    assert metrics['ess'] == 0.0
    assert metrics['lag_versions'] == 0.5
    assert metrics['mean_log_ratio'] == pytest.approx(0.25, abs=0.001)
    after = found.state()
    for name in before:
        if name.startswith(('trained', 'critic')):
            np.testing.assert_array_equal(before[name], after[name])


@BOTH
def test_at_first_the_critic_alone_learns(form):
    found = make(form, batch=50, warmup=100)
    rng = np.random.default_rng(3)
    before = found.state()
    for turn in range(3):
        found.ingest(slipped_rows(found.trained, rng, 50))
        found.update()
        after = found.state()
        same = all((before[n] == after[n]).all() for n in before if n.startswith('trained'))
        assert same == (turn < 2)
        assert any((before[n] != after[n]).any() for n in before if n.startswith('critic'))


@BOTH
def test_the_base_pulls_back(form):
    kl = {}
    for pull in (0.0, 5.0):
        found = make(form, batch=50, kl_coefficient=pull)
        if form is BATCHED:
            found.optimiser.param_groups[0]['lr'] = 0.01
        rng = np.random.default_rng(4)
        for version in range(5):
            found.ingest(slipped_rows(found.trained, rng, 50, version))
            metrics = found.update()
        kl[pull] = metrics['kl_to_base']
    assert kl[5.0] < 0.5 * kl[0.0]


@BOTH
def test_reverting_goes_back_and_forgets(form):
    rng = np.random.default_rng(5)
    found = make(form, batch=50)
    found.ingest(slipped_rows(found.trained, rng, 100, 0))
    found.update()
    accepted = found.trained.export()[1]
    found.ingest(slipped_rows(found.trained, rng, 100, 1))
    found.update()
    for version in (1, 2):
        found.ingest(slipped_rows(found.trained, rng, 20, version))
    found.accept(accepted)
    found.revert(accepted, {1})
    assert found.waiting == 20
    again = found.trained.export()[1]
    for name in accepted:
        np.testing.assert_array_equal(again[name], accepted[name])
    state = found.state()
    assert not any('exp_avg' in name for name in state)
    assert all((state[name] == 0).all() for name in state if name.startswith('trace.'))
    assert state['size'].tolist() == [0.0, 0.0]
    found.revert(None, {2})
    assert found.waiting == 0
    assert mistake(found.trained) == pytest.approx(float(OFFSET @ OFFSET), rel=1e-4)
    found.ingest(slipped_rows(found.trained, rng, 100, 0))
    found.update()
    assert mistake(found.trained) != pytest.approx(float(OFFSET @ OFFSET), rel=1e-6)


@BOTH
@pytest.mark.parametrize('kind', ['lora', 'all'])
def test_it_goes_on_from_a_state_to_the_same_bits(form, kind):
    rng = np.random.default_rng(6)
    first, second = (make(form, seed, kind, batch=40) for seed in (0, 5))
    stream = [slipped_rows(first.trained, rng, 70, version) for version in range(5)]
    for rows in stream[:2]:
        first.ingest(rows)
        first.update()
    state = first.state()
    assert first.waiting == 20
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


def test_a_state_of_another_form_is_refused():
    batched, streaming = make(BATCHED), make(STREAMING)
    with pytest.raises(ValueError, match='goes_on is missing'):
        streaming.load_state(batched.state())
    with pytest.raises(ValueError, match=r'optimiser\.lr is None'):
        batched.load_state(streaming.state())
    state = {k: v for k, v in streaming.state().items() if k != 'trace.value.0'}
    with pytest.raises(ValueError, match=r'trace\.value\.0 is missing'):
        streaming.load_state(state)


@pytest.mark.parametrize(
    ('config', 'setting', 'message'),
    [(OnlineActorCriticConfig, {'weight_clip': 0.0}, 'weight_clip is 0.0, must be positive'),
     (OnlineActorCriticConfig, {'discount': 2.0}, r'discount is 2.0, must be in \[0, 1\]'),
     (StreamingActorCriticConfig, {'policy_bound': -1.0}, 'policy_bound is -1.0')],
)  # fmt: skip
def test_settings_out_of_range_are_refused(config, setting, message):
    with pytest.raises(ValueError, match=message):
        config(**setting)


@BOTH
def test_a_reward_that_is_no_number_is_an_error(form):
    found = make(form, batch=20)
    rows = slipped_rows(found.trained, np.random.default_rng(0), 20)
    rows['reward'][5] = np.nan
    found.ingest(rows)
    with pytest.raises(ValueError, match='lower the learning rate'):
        found.update()


@pytest.mark.parametrize(
    ('form', 'config', 'rounds'),
    [(BATCHED, {'learning_rate': 3e-3}, 15), (STREAMING, {}, 5)],
    ids=['batched', 'streaming'],
)
def test_it_recovers_from_a_slip(form, config, rounds):
    """Of one seed all recover 0.95 and more."""
    found = make(form, discount=0.5, **config)
    rng = np.random.default_rng(0)
    for version in range(rounds):
        found.ingest(slipped_rows(found.trained, rng, 250, version))
        found.update()
    assert mistake(found.trained) < 0.1 * float(OFFSET @ OFFSET)
