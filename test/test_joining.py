"""Steps and rewards joined by stamp: in any order, with losses, repetitions and resets."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lebot_rl_ros.data.joining import Joiner, learnable, trajectories
from lebot_rl_ros.data.rows import reward_dtype, step_dtype, transition_dtype
from lebot_rl_ros.data.stream_faults import HostileStream
from lebot_rl_ros.safety.supervisor import Mode

PERIOD = 20_000_000  # ns
WIDTH, J, TERMS, WINDOW = 5, 3, ('alive', 'fall'), 4  # of observation and action
BASE = '5a' * 32
STEP, REWARD = step_dtype(WIDTH, J), reward_dtype(TERMS)
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=60, deadline=None)


def joiner(**given):
    return Joiner(WIDTH, J, TERMS, **{'period': PERIOD, 'window': WINDOW} | given)


def stream(count, seed=0, start=50):
    """Rows of both topics for ``count`` periods from period ``start`` on."""
    rng = np.random.default_rng(seed)
    steps, rewards = np.zeros(count, STEP), np.zeros(count, REWARD)
    stamps = (np.arange(count) + start) * PERIOD
    for rows in (steps, rewards):
        rows['sec'], rows['nanosec'] = np.divmod(stamps, 1_000_000_000)
    steps['next_sec'], steps['next_nanosec'] = np.divmod(stamps + PERIOD, 1_000_000_000)
    for rows in (steps, rewards):
        for name in rows.dtype.names[2:]:
            if rows.dtype[name].base == np.float32:
                rows[name] = rng.normal(size=rows[name].shape)
    steps['mode'], steps['adapter_version'] = Mode.TRACK, rng.integers(0, 9, count)
    steps['adapter_sha256'] = rng.integers(0, 256, (count, 32))
    steps['base_sha256'] = np.frombuffer(bytes.fromhex(BASE), np.uint8)
    return steps, rewards


def stamps(rows, prefix=''):
    return rows[f'{prefix}sec'].astype(np.int64) * 1_000_000_000 + rows[f'{prefix}nanosec']


def expected(steps, rewards):
    """What must come out, one row after the other, from all that arrived."""
    step_of = dict(zip(stamps(steps).tolist(), steps, strict=True))
    reward_of = dict(zip(stamps(rewards).tolist(), rewards, strict=True))
    out, before = [], None
    for stamp in sorted(step_of.keys() & reward_of.keys()):
        row, step, reward = np.zeros((), transition_dtype(WIDTH, J, TERMS)), step_of[stamp], None
        reward = reward_of[stamp]
        for name in set(row.dtype.names) & set(STEP.names):
            row[name] = step[name]
        for name in REWARD.names[2:]:
            row[name] = reward[name]
        following = int(step['next_sec']) * 1_000_000_000 + int(step['next_nanosec'])
        row['stamp'], row['next_stamp'] = stamp, following
        if following in step_of:
            row['known'], row['next_observation'] = 1, step_of[following]['observation']
        elif not row['terminated']:
            row['truncated'] = 1
        row['follows'] = before == stamp
        out.append(row)
        known = row['known'] or row['terminated']
        before = following if known and row['mode'] == Mode.TRACK else None
    return np.array(out, transition_dtype(WIDTH, J, TERMS))


def late_by(rows, seed, periods=WINDOW):
    """Rows as they arrive when each is late by up to, but not quite, the window."""
    delay = np.random.default_rng(seed).integers(0, periods * PERIOD, len(rows))
    return rows[np.argsort(stamps(rows) + delay, kind='stable')]


def one_by_one(join, steps, rewards, seed=0):
    """Both topics interleaved at random, taken after every row."""
    turns = np.random.default_rng(seed).permutation([0] * len(steps) + [1] * len(rewards))
    left, out = [iter(steps), iter(rewards)], []
    for turn in turns:
        (join.steps, join.rewards)[turn](next(left[turn]))
        out.append(join.take())
    return np.concatenate([*out, join.flush()])


def at_once(join, steps, rewards):
    join.steps(steps)
    join.rewards(rewards)
    return np.concatenate((join.take(), join.flush()))


def same(found, wanted):
    assert found.dtype == wanted.dtype
    assert found.tobytes() == wanted.tobytes()


def test_three_steps_by_hand():
    steps, rewards = stream(3)
    join = joiner()
    join.steps(steps[:2])
    join.rewards(rewards[:2])
    assert len(join.take()) == 0  # what comes first might still come
    join.steps(steps[2:])
    join.rewards(rewards[2:])
    out = join.flush()
    assert out['stamp'].tolist() == [1_000_000_000, 1_020_000_000, 1_040_000_000]
    assert out['next_stamp'].tolist() == [1_020_000_000, 1_040_000_000, 1_060_000_000]
    assert (out['known'].tolist(), out['follows'].tolist()) == ([1, 1, 0], [0, 1, 1])
    assert out['truncated'].tolist() == [0, 0, 1]
    np.testing.assert_array_equal(out['next_observation'][:2], steps['observation'][1:])
    assert not out['next_observation'][2].any()
    np.testing.assert_array_equal(out['fall'], rewards['fall'])
    np.testing.assert_array_equal(out['action'], steps['action'])
    assert {k: n for k, n in join.counts.items() if n} == {'joined': 3}


def test_a_row_goes_out_as_soon_as_the_next_step_is_there():
    steps, rewards = stream(30)
    join, lengths = joiner(), []
    for step, reward in zip(steps, rewards, strict=True):
        join.steps(step)
        early = len(join.take())
        join.rewards(reward)
        lengths.append((early, len(join.take())))
    # one window after the first, to be sure that it is; from then on at once
    assert lengths[:6] == [(0, 0)] * 4 + [(0, 4), (1, 0)]
    assert set(lengths[6:]) == {(1, 0)}


@FEW
@given(SEEDS, st.integers(1, 60))
def test_any_order_within_the_window_gives_the_same(seed, count):
    steps, rewards = stream(count, seed)
    rewards['terminated'] = np.random.default_rng(seed).random(count) < 0.1
    shuffled = late_by(steps, seed + 1), late_by(rewards, seed + 2)
    for run in (one_by_one, at_once):
        join = joiner()
        same(run(join, *shuffled), expected(steps, rewards))
        assert {k: n for k, n in join.counts.items() if n} == {'joined': count}


@FEW
@given(SEEDS, st.floats(0.0, 0.5))
def test_a_loss_cuts_there_and_nowhere_else(seed, loss):
    rng = np.random.default_rng(seed)
    steps, rewards = stream(40, seed)
    kept, paid = steps[rng.random(40) >= loss], rewards[rng.random(40) >= loss]
    join = joiner()
    out = one_by_one(join, late_by(kept, seed), late_by(paid, seed + 1), seed)
    same(out, expected(kept, paid))
    same(at_once(joiner(), late_by(kept, seed), late_by(paid, seed + 1)), out)
    by_step = {int(stamp): i for i, stamp in enumerate(stamps(steps))}
    have = set(stamps(kept).tolist())
    for row in out:  # no hole is bridged, and nothing else is cut
        assert row['known'] == (int(row['next_stamp']) in have)
        assert row['truncated'] == (not row['known'])
        if row['known']:
            following = by_step[int(row['next_stamp'])]
            np.testing.assert_array_equal(row['next_observation'], steps[following]['observation'])
    pieces = trajectories(out)
    assert sum(piece.stop - piece.start for piece in pieces) == len(out)
    for piece in pieces:
        assert (np.diff(out['stamp'][piece]) == PERIOD).all()
    for last, first in pairwise(pieces):
        assert out['stamp'][first.start] - out['stamp'][last.stop - 1] > PERIOD
    both = have & set(stamps(paid).tolist())
    assert join.counts['joined'] == len(out) == len(both)
    assert join.counts['lost_rewards'] == len(have) - len(both)
    assert join.counts['lost_steps'] == len(paid) - len(both)
    assert join.counts['gaps'] == int((out['follows'][1:] == 0).sum())
    assert join.counts['late'] == 0


@FEW
@given(SEEDS)
def test_rows_that_come_again_change_nothing(seed):
    rng = np.random.default_rng(seed)
    steps, rewards = stream(30, seed)
    again = [rng.integers(0, 30, 20) for _ in range(2)]
    twice = [
        late_by(np.concatenate((rows, rows[which])), seed)
        for rows, which in zip((steps, rewards), again, strict=True)
    ]
    for run in (one_by_one, at_once):
        join = joiner()
        same(run(join, *twice), expected(steps, rewards))
        assert {k: n for k, n in join.counts.items() if n} == {'joined': 30, 'duplicates': 40}


@pytest.mark.parametrize('run', [one_by_one, at_once])
def test_of_two_rows_that_differ_the_first_counts(run):
    steps, rewards = stream(10)
    other = rewards[4:5].copy()
    other['reward'] += 1.0
    join = joiner()
    mixed = np.concatenate((rewards[:6], other, rewards[6:]))
    same(run(join, steps, mixed), expected(steps, rewards))
    assert join.counts['conflicting'] == 1


@FEW
@given(SEEDS)
def test_chaos_given_one_by_one_and_at_once_ends_the_same(seed):
    """Steps inside each other, overtaken beyond the window, repeated with other content."""
    rng = np.random.default_rng(seed)
    steps, rewards = stream(40, seed)
    pick = [np.sort(rng.integers(0, 40, 50)) + rng.integers(-6, 7, 50) for _ in range(2)]
    steps, rewards = (
        rows[np.clip(which, 0, 39)].copy()
        for rows, which in zip((steps, rewards), pick, strict=True)
    )
    odd = stamps(steps) + rng.choice([1, 1, 1, 1, 2, 3], 50) * PERIOD
    steps['next_sec'], steps['next_nanosec'] = np.divmod(odd, 1_000_000_000)
    rewards['reward'][rng.random(50) < 0.1] = 7.0
    one, other = joiner(), joiner()
    whole = at_once(one, steps, rewards)
    same(one_by_one(other, steps, rewards, seed), whole)
    left_out = ('late', 'duplicates', 'conflicting')  # a row may be more than one of these
    counts = [
        {k: n for k, n in join.counts.items() if k not in left_out}
        | {'left_out': sum(join.counts[k] for k in left_out)}
        for join in (one, other)
    ]
    assert counts[0] == counts[1]
    assert (np.diff(whole['stamp']) > 0).all()
    follows = whole['follows'][1:] != 0
    np.testing.assert_array_equal(follows, whole['next_stamp'][:-1] == whole['stamp'][1:])
    assert (whole['stamp'][1:] >= whole['next_stamp'][:-1]).all()


@pytest.mark.parametrize('run', [one_by_one, at_once])
def test_what_comes_behind_the_window_is_late(run):
    steps, rewards = stream(20)
    order = [*range(3), *range(4, 4 + WINDOW + 4), 3, *range(4 + WINDOW + 4, 20)]
    join = joiner()
    out = run(join, steps[order], rewards)
    same(out, expected(np.delete(steps, 3), rewards))
    assert (join.counts['late'], join.counts['lost_steps'], join.counts['gaps']) == (1, 1, 1)


def test_foreign_rows_are_left_out_and_said_why():
    steps, rewards = stream(6)
    steps['base_sha256'][2, 0] = 0
    steps['next_sec'][4] += 5
    join = joiner(base_sha256=BASE)
    out = at_once(join, steps, rewards)
    assert out['known'].tolist() == [1, 0, 0, 0]
    assert out['stamp'].tolist() == [(50 + i) * PERIOD for i in (0, 1, 3, 5)]
    assert join.counts['foreign'] == 2
    assert join.refusal == 'policy/steps: made by base 005a5a5a5a5a, expected 5a5a5a5a5a5a'
    wide = np.zeros(3, step_dtype(WIDTH + 1, J))
    join.steps(wide)
    assert join.counts['foreign'] == 5
    assert "policy/steps: field observation is ('<f4', (6,)), expected" in join.refusal
    join.rewards(np.zeros(1, reward_dtype(('alive',))))
    assert 'reward/rewards: field fall is missing, expected float32' in join.refusal
    join.rewards(np.zeros(1, reward_dtype((*TERMS, 'down'))))
    assert 'field down is float32, expected no such field' in join.refusal
    join.rewards(np.zeros(1, reward_dtype(TERMS[::-1])))
    assert join.refusal.startswith('reward/rewards: fields are sec, nanosec, reward')
    assert len(join.take()) == 0


NUMBERS = [(0, name) for name in STEP.names[4:] if STEP[name].base == np.float32] + [
    (1, name) for name in REWARD.names if REWARD[name].base == np.float32
]


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('topic, name', NUMBERS)
def test_a_number_that_is_not_finite_leaves_its_row_out(topic, name, bad):
    rows = stream(6)
    rows[topic][name][3, ...] = bad
    join = joiner()
    out = at_once(join, *rows)
    assert out['stamp'].tolist() == [(50 + i) * PERIOD for i in (0, 1, 2, 4, 5)]
    assert out['known'][2] == topic  # of a step that cannot be used nothing is
    assert (join.counts['nonfinite'], join.counts['gaps']) == (1, 1)


def test_a_clock_that_jumps_back_begins_a_new_stream():
    first, second = stream(20, 1, start=200), stream(20, 2, start=3)
    both = [np.concatenate(pair) for pair in zip(first, second, strict=True)]
    wanted = [expected(*first), expected(*second)]
    join = joiner()
    same(at_once(join, *both), np.concatenate(wanted))
    assert {k: n for k, n in join.counts.items() if n} == {'joined': 40, 'restarts': 1}
    join, out = joiner(), []  # in step, as on the robot; a straggler comes behind the reset
    for i, (step, reward) in enumerate(zip(*both, strict=True)):
        join.steps(step)
        if i == 20:
            out.append(join.take())
            join.rewards(first[1][15])  # came before
            join.rewards(stream(1, start=220)[1])  # never came
        join.rewards(reward)
        out.append(join.take())
    same(np.concatenate([*out, join.flush()]), np.concatenate(wanted))
    counts = {k: n for k, n in join.counts.items() if n}
    assert counts == {'joined': 40, 'restarts': 1, 'late': 2}


@pytest.mark.parametrize('jump', [-1_000_000, 1_000_000])
def test_one_mad_stamp_costs_a_few_windows_at_most(jump):
    steps, rewards = stream(100, start=1_000_050)
    mad = stream(1, start=1_000_050 + jump)[0]
    join, out = joiner(), []
    for i, (step, reward) in enumerate(zip(steps, rewards, strict=True)):
        if i == 50:
            join.steps(mad)
        join.steps(step)
        join.rewards(reward)
        out.append(join.take())
    out = np.concatenate([*out, join.flush()])
    assert len(out) >= 100 - 3 * WINDOW
    assert set(out['stamp'].tolist()) <= set(stamps(steps).tolist())
    assert join.counts['restarts'] == 1


@pytest.mark.parametrize('dead', [0, 1])
def test_a_topic_that_died_costs_no_memory_beyond_the_capacity(dead):
    rows = stream(300)
    join = joiner(capacity=50)
    sent = []
    for pair in zip(*rows, strict=True):
        (join.rewards, join.steps)[dead](pair[1 - dead])
        assert len(join.take()) == 0
        sent.append(len(join._steps.stamps) + len(join._rewards.stamps))
    assert max(sent) <= 51 + WINDOW
    assert join.counts[('lost_steps', 'lost_rewards')[dead]] == 250


def test_rewards_that_come_back_find_the_steps_that_still_wait():
    steps, rewards = stream(100)
    join = joiner(capacity=50)
    for step in steps:
        join.steps(step)
        assert len(join.take()) == 0
    join.rewards(rewards)
    out = np.concatenate((join.take(), join.flush()))
    assert out['stamp'].tolist() == [(100 + i) * PERIOD for i in range(50)]
    assert (join.counts['lost_rewards'], join.counts['late']) == (50, 50)


def test_two_policies_that_speak_at_once_never_make_a_trajectory_of_both():
    steps, rewards = stream(20)
    other, paid = stream(20, 1)
    for rows in (other, paid):
        rows['nanosec'] += PERIOD // 2
    other['next_nanosec'] += PERIOD // 2
    both = np.concatenate((steps, other)), np.concatenate((rewards, paid))
    both = [rows[np.argsort(stamps(rows))] for rows in both]
    out = one_by_one(joiner(), *both)
    assert (out['stamp'][1:] >= out['next_stamp'][:-1]).all()
    same(out, expected(steps, rewards))


def test_senders_may_use_their_memory_again():
    steps, rewards = stream(8)
    wanted, join = expected(steps, rewards), joiner()
    step, reward = np.zeros((), STEP), np.zeros(1, REWARD)
    for i in range(8):
        step[...], reward[0] = steps[i], rewards[i]
        join.steps(step)
        join.rewards(reward)
    same(join.flush(), wanted)


def test_records_with_holes_between_their_fields_are_read():
    steps, rewards = stream(5)
    fields = [steps.dtype[name] for name in STEP.names]
    spread = np.dtype({
        'names': STEP.names, 'formats': fields, 'itemsize': STEP.itemsize + 4 * len(fields),
        'offsets': [STEP.fields[name][1] + 4 * i for i, name in enumerate(STEP.names)],
    })  # fmt: skip
    join = Joiner.fitting(spread, REWARD, period=PERIOD)
    same(at_once(join, steps.astype(spread), rewards), expected(steps, rewards))


def test_a_joiner_is_not_made_for_rows_of_something_else():
    with pytest.raises(ValueError, match='policy/steps: field sec is missing, expected int32'):
        Joiner.fitting(np.dtype([('x', np.float32)]), REWARD, period=PERIOD)
    with pytest.raises(ValueError, match='reward/rewards: field reward is missing'):
        Joiner.fitting(STEP, np.dtype(REWARD.descr[:2]), period=PERIOD)


def test_learnable_rows_are_those_that_the_policy_made_and_whose_end_is_known():
    rows = np.zeros(5, transition_dtype(WIDTH, J, TERMS))
    rows['mode'] = [Mode.TRACK, Mode.HOLD, Mode.TRACK, Mode.TRACK, Mode.STAND_UP]
    rows['known'] = [1, 1, 0, 0, 0]
    rows['terminated'] = [0, 0, 1, 0, 1]
    assert learnable(rows).tolist() == [True, False, True, False, False]


@FEW
@given(SEEDS, st.floats(0.0, 0.3))
def test_learnable_rows_that_follow_each_other_do_so_in_time(seed, loss):
    rng = np.random.default_rng(seed)
    steps, rewards = (rows[rng.random(60) >= loss] for rows in stream(60, seed))
    steps['mode'] = np.where(rng.random(len(steps)) < 0.2, Mode.HOLD, Mode.TRACK)
    join = joiner()
    out = one_by_one(join, late_by(steps, seed), rewards, seed)
    same(out, expected(steps, rewards))
    same(at_once(joiner(), late_by(steps, seed), rewards), out)
    left = out[learnable(out)]  # picked anyhow: what follows is there, just before
    in_time = left['next_stamp'][:-1] == left['stamp'][1:]
    np.testing.assert_array_equal(left['follows'][1:] != 0, in_time)
    assert join.counts['gaps'] == (out['next_stamp'][:-1] != out['stamp'][1:]).sum()


def test_trajectories_end_where_an_episode_or_the_recording_does_also_in_masked_rows():
    steps, rewards = stream(8)
    rewards['terminated'][1], rewards['truncated'][4] = 1, 1
    out = at_once(joiner(), steps, rewards)
    assert trajectories(out) == [slice(0, 2), slice(2, 5), slice(5, 8)]
    assert trajectories(out[[0, 2, 3, 6]]) == [slice(0, 1), slice(1, 3), slice(3, 4)]
    assert trajectories(out[:0]) == []


@pytest.mark.parametrize('given', [{'window': 0}, {'period': 0}, {'restart': 4}, {'capacity': 0}])
def test_settings_that_cannot_be_are_refused(given):
    with pytest.raises(ValueError, match=r'must be positive, restart \d+ above the window'):
        joiner(**given)


def test_a_hostile_stream_is_joined_without_a_bridge():
    steps, rewards = stream(400)
    hostile, join, out = HostileStream(loss=0.1, repeat=0.1, seed=4), joiner(window=10), []
    take = {'steps': join.steps, 'rewards': join.rewards}
    for step, reward in zip(steps, rewards, strict=True):
        now = int(step['next_sec']) * 1_000_000_000 + int(step['next_nanosec'])
        hostile.put('steps', now, step)
        hostile.put('rewards', now, reward)
        for topic, row in hostile.take(now):
            take[topic](row)
        out.append(join.take())
    for topic, row in hostile.flush():
        take[topic](row)
    out = np.concatenate([*out, join.flush()])
    of = {int(stamp): step for stamp, step in zip(stamps(steps), steps, strict=True)}
    assert 290 < len(out) < 360  # 0.9² of them
    for row in out[out['known'] != 0]:
        np.testing.assert_array_equal(
            row['next_observation'], of[int(row['next_stamp'])]['observation']
        )
    assert join.counts['late'] == join.counts['conflicting'] == 0
    assert join.counts['duplicates'] > 30
    lost = join.counts['lost_steps'] + join.counts['lost_rewards']
    assert len(out) + lost <= 400
