"""Online TD3 on problems with known answers, and what it keeps, holds to and forgets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lebot_rl_ros.learning.online.experience import Experience
from lebot_rl_ros.learning.online.td3 import OnlineTD3
from lebot_rl_ros.learning.online.td3_config import OnlineTD3Config
from online_toy import (
    JOINTS,
    OBSERVATION,
    OFFSET,
    chain_rows,
    empty_rows,
    learner,
    mean_actions,
    mistake,
    signed,
    slipped_rows,
    the_same,
)

torch.set_num_threads(1)
QUICK = {'learning_starts': 1, 'most': 10_000, 'batch': 32, 'hidden': 16, 'capacity': 2000}


def td3(seed=0, kind='lora', **config):
    return learner(OnlineTD3, OnlineTD3Config(**{**QUICK, **config}), seed, kind=kind)


def believed(found, x, action):
    """Q of both critics (2, B) for raw observations and actions."""
    with torch.no_grad():
        corrections = found.critics(found.trained.normalised(x), action)
        return corrections.numpy() * found.config.value_scale + of_base(found, x)


def of_base(found, x):
    """What the base's critic says (B,) of raw observations."""
    return np.array([found.base.value(one) for one in x.numpy()], np.float32)


def test_critics_begin_at_what_the_bases_critic_says():
    found = td3()
    x = torch.randn(32, OBSERVATION, generator=torch.Generator().manual_seed(0))
    expected = of_base(found, x)
    for values in believed(found, x, torch.rand(32, JOINTS)):
        np.testing.assert_allclose(values, expected, atol=1e-5)
    following = found.next_values(torch.from_numpy(found.view(x.numpy())))
    np.testing.assert_allclose(following.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(('ends', 'expected'), [('truncated', 10.0), ('terminated', None)])
def test_a_cut_is_no_end(ends, expected):
    """Reward 1 for ever is worth 1 / (1 - 0.9), however often the recording is cut."""
    found = td3(
        discount=0.9, tau=0.05, critic_rate=3e-3, value_scale=5.0, actor_rate=0.0, anchor=0.0,
        updates_per_step=10.0,
    )  # fmt: skip
    found.ingest(chain_rows(60, np.random.default_rng(0), ends))
    found.ingest(chain_rows(300, np.random.default_rng(0), ends))
    found.update()
    values = believed(found, torch.eye(2, OBSERVATION), torch.zeros(2, JOINTS)).mean(axis=0)
    if expected:
        np.testing.assert_allclose(values, expected, rtol=0.05)
    else:  # of three steps in turn one is the last: far less
        assert values.max() < 6.0


def test_the_fixed_point_of_one_step_is_its_reward():
    """Where all ends after one step Q is the reward, whatever the base's critic believed."""
    found = td3(tau=0.05, critic_rate=3e-3, value_scale=2.0, actor_rate=0.0, updates_per_step=10.0)
    rows = slipped_rows(found.trained, np.random.default_rng(0), 300)
    rows['terminated'], rows['reward'] = 1, rows['action'][:, 0]
    found.ingest(rows[:1])
    found.ingest(rows)
    found.update()
    x, action = (torch.from_numpy(np.array(rows[name])) for name in ('observation', 'action'))
    error = believed(found, x, action).mean(axis=0) - rows['reward']
    assert np.abs(error).mean() < 0.25 * np.abs(rows['reward']).mean()


@pytest.mark.parametrize('kind', ['lora', 'bias', 'last_layer', 'all'])
def test_it_learns_what_the_base_does_wrong(kind):
    found = td3(
        seed=3, kind=kind, discount=0.0, value_scale=1.0, base=0.0, step=0.2, critic_rate=3e-3,
        actor_rate=3e-3, updates_per_step=1.0, target_noise=0.0,
    )  # fmt: skip
    rng, before = np.random.default_rng(3), mistake(found.trained)
    for version in range(8):
        found.ingest(slipped_rows(found.trained, rng, 200, version, std=0.3))
        found.update()
        found.accept(found.trained.export()[1])
    assert before == pytest.approx(float(np.square(OFFSET).sum()))
    assert mistake(found.trained) < 0.35 * before


def test_it_stays_near_what_was_accepted_and_within_the_box():
    """However good another action looks, a step is a step and the box is the box."""
    found = td3(base=0.0, step=0.05, deviation=0.2, actor_rate=3e-3, updates_per_step=4.0)
    rows = slipped_rows(found.trained, np.random.default_rng(0), 400, std=0.3)
    rows['reward'] = 50.0 * rows['action'].sum(axis=1)  # ever further
    found.ingest(rows[:32])
    found.ingest(rows)
    base = mean_actions(found.trained, rows['observation'])
    found.update()
    change = mean_actions(found.trained, rows['observation']) - base
    distance = np.sqrt(np.square(change).sum(axis=1).mean())
    assert 0.02 < distance < 0.2
    for _ in range(20):
        found.accept(found.trained.export()[1])
        found.ingest(rows[:100])
        found.update()
    change = np.abs(mean_actions(found.trained, rows['observation']) - base)
    assert 0.15 < np.percentile(change, 90) < 0.4


def test_what_was_accepted_is_the_anchor_not_what_was_learned_since():
    found = td3(updates_per_step=2.0)
    rows = slipped_rows(found.trained, np.random.default_rng(0), 200)
    found.ingest(rows[:40])
    found.ingest(rows)
    found.update()
    offered = found.trained.export()[1]
    at_offer = mean_actions(found.trained, rows['observation'])
    found.ingest(rows)
    found.update()
    now = mean_actions(found.trained, rows['observation'])
    assert not np.array_equal(now, at_offer)
    found.accept(offered)
    x = found.trained.normalised(torch.from_numpy(np.array(rows['observation'])))
    with torch.no_grad():
        held = found.trained.mean_of(x, found.anchor).numpy()
    np.testing.assert_allclose(held, at_offer, atol=1e-6)
    assert np.array_equal(mean_actions(found.trained, rows['observation']), now)


def test_a_rollback_forgets_moments_and_the_steps_of_what_was_rejected():
    found = td3(updates_per_step=1.0)
    rng = np.random.default_rng(0)
    good = slipped_rows(found.trained, rng, 100, version=1)
    bad = slipped_rows(found.trained, rng, 60, version=2)
    found.ingest(good)
    found.ingest(bad)
    found.update()
    found.revert(None, {2})
    assert found.experience.quarantined == bad['known'].sum() > 50
    assert not found.actor_optimiser.state_dict()['state']
    assert np.array_equal(
        mean_actions(found.trained, good['observation']),
        found.trained.base_mean(torch.from_numpy(np.array(good['observation']))).numpy(),
    )
    drawn = {
        row.tobytes() for row in found.experience.sample(2000, rng)[1].numpy()
    }  # actions tell rows apart
    assert drawn == {row.tobytes() for row in good['action'][good['known'] > 0]}


def test_it_goes_on_from_a_checkpoint_to_the_bit():
    def feed(one, seed):
        one.ingest(slipped_rows(one.trained, np.random.default_rng(seed), 60, version=seed))
        return one.update()

    first, second = td3(seed=1), td3(seed=2)
    feed(first, 0)
    feed(first, 1)
    first.revert(first.trained.export()[1], {0})
    feed(first, 2)
    second.load_state(first.state())
    the_same(first.state(), second.state())
    assert feed(first, 3) == feed(second, 3)
    the_same(first.state(), second.state())
    with pytest.raises(ValueError, match='counts is missing'):
        second.load_state({k: v for k, v in first.state().items() if k != 'counts'})


def test_it_waits_for_enough_steps():
    found = td3(learning_starts=100)
    found.ingest(slipped_rows(found.trained, np.random.default_rng(0), 99))
    assert found.update() == {}
    found.ingest(slipped_rows(found.trained, np.random.default_rng(1), 10))
    assert found.update() == {}
    found.ingest(slipped_rows(found.trained, np.random.default_rng(2), 10))
    assert found.update()['updates'] == 10.0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3)), min_size=1, max_size=8),
    st.sets(st.integers(0, 3)),
    st.integers(1, 40),
)
def test_the_ring_has_the_last_steps_and_draws_none_of_the_barred(parts, barred, capacity):
    ring, written, number = Experience(capacity, OBSERVATION, JOINTS), [], 0
    for count, version in parts:
        rows = signed(empty_rows(count), version)
        rows['reward'] = np.arange(number, number + count)
        number += count
        ring.extend(rows)
        written += [(int(r['reward']), version) for r in rows]
    ring.quarantine(barred)
    kept = written[-capacity:]
    assert len(ring) == len(kept)
    allowed = {reward for reward, version in kept if version not in barred}
    assert ring.quarantined == sum(version in barred for _, version in kept)
    rng = np.random.default_rng(0)
    if not allowed:
        with pytest.raises(ValueError, match='nothing to learn from'):
            ring.sample(4, rng)
        return
    assert set(ring.sample(600, rng)[2].numpy().astype(int).tolist()) <= allowed
    other = Experience(capacity, OBSERVATION, JOINTS)
    other.load_state(ring.state())
    the_same(other.state(), ring.state())


def test_steps_of_which_nothing_is_known_are_left_unless_they_are_falls():
    ring = Experience(10, OBSERVATION, JOINTS)
    rows = empty_rows(3)
    rows['reward'], rows['known'], rows['terminated'] = (0, 1, 2), (0, 0, 1), (0, 1, 0)
    ring.extend(rows)
    assert ring.rewards[:2].tolist() == [1.0, 2.0]
    assert ring.going_on[:2].tolist() == [0.0, 1.0]
    assert len(ring) == 2


@pytest.mark.parametrize(
    ('given', 'words'),
    [({'batch': 0}, 'batch is 0'), ({'discount': 1.5}, r'discount is 1.5, must be in \[0, 1\]')],
)
def test_unfit_configs_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        OnlineTD3Config(**given)
