"""Probation on streams of rewards with known drops, falls, faults and losses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lebot_rl_ros.data.rows import transition_dtype
from lebot_rl_ros.learning.online.blocks import Block, command_kind
from lebot_rl_ros.learning.online.level import Level
from lebot_rl_ros.learning.online.probation import Probation
from lebot_rl_ros.learning.online.probation_config import ProbationConfig

DTYPE = transition_dtype(2, 1, [])
STEP = 20_000_000  # ns
FORWARD = (0.3, 0.0)


class Stream:
    """A robot that walks on: steps of any version, one after the other."""

    def __init__(self, seed=0, spread=0.3):
        self.rng, self.spread, self.stamp = np.random.default_rng(seed), spread, 0

    def walk(self, version, seconds, reward=2.5, command=FORWARD, falls=()):
        """Rows of ``seconds``; ``falls`` are seconds from their start."""
        count = round(seconds * 50)
        rows = np.zeros(count, DTYPE)
        rows['stamp'] = self.stamp + STEP * np.arange(count)
        rows['next_stamp'] = rows['stamp'] + STEP
        self.stamp += STEP * count
        rows['command'], rows['mode'] = command, 2
        rows['adapter_version'] = version
        rows['blend'] = rows['known'] = rows['follows'] = 1
        rows['reward'] = reward + self.spread * self.rng.standard_normal(count)
        for fall in falls:
            index = round(fall * 50)
            rows['terminated'][index] = 1
            rows['reward'][index] -= 30.0
        return rows


def begun(seed=0, spread=0.3, reward=2.5, seconds=15.0, falls=(), **config):
    """A probation that knows the base, and has just begun with version 1; and its stream."""
    stream = Stream(seed, spread)
    probation = Probation(ProbationConfig(**config))
    assert not probation.ready
    assert probation.take(stream.walk(0, seconds, reward, falls=falls)) is None
    assert probation.ready
    probation.begin(1)
    return probation, stream


def verdict_of(probation, rows):
    """The verdict, and after how many seconds of these rows; (None, None) without one."""
    for index in range(len(rows)):
        verdict = probation.take(rows[index : index + 1])
        if verdict:
            return verdict, 0.02 * (index + 1)
    return None, None


# The level


def test_kinds_of_commands():
    named = {
        (0.0, 0.0): 'stand', (0.01, -0.01): 'stand', (0.1, 0.0): 'slow', (0.3, 0.1): 'fast',
        (0.3, 0.5): 'fast left', (0.1, -0.5): 'slow right', (0.0, 0.4): 'slow left',
        (-0.3, 0.0): 'backwards fast',
    }  # fmt: skip
    assert {command: command_kind(command) for command in named} == named


def test_a_level_by_hand():
    level = Level(memory=1e9, recovery=1e9)
    for reward in (2.0, 3.0) * 6:
        level.add(Block('fast', reward, 0.4))
    # Neighbours differ, so none of them counts for another: variance 0.25 (12 / 11 unbiased).
    expected, spread = level.expected('fast')
    assert spread == pytest.approx(math.sqrt(0.25 * 12 / 11), rel=0.02)
    assert expected == pytest.approx(2.5 - spread / math.sqrt(12), rel=1e-6)


def test_what_was_hardly_seen_has_the_level_and_spread_of_all():
    level = Level(memory=1e9, recovery=1e9)
    for reward in (2.9, 3.1) * 10:
        level.add(Block('fast', reward, 0.4))
    for reward in (1.9, 2.1):
        level.add(Block('slow', reward, 0.4))
    assert level.expected('fast')[1] < 0.15
    mean, spread = level.expected('slow')
    assert spread > 0.25
    assert mean == pytest.approx((20 * 3.0 + 2 * 2.0) / 22 - spread / math.sqrt(22))


def test_neighbours_that_are_alike_count_for_less():
    apart, alike = Level(1e9, 1e9), Level(1e9, 1e9)
    for index in range(40):
        apart.add(Block('fast', 2.0 + index % 2, 0.4))
        alike.add(Block('fast', 2.0 + (index // 10) % 2, 0.4))
    assert alike.expected('fast')[1] > 2.0 * apart.expected('fast')[1]


def test_falls_by_hand():
    level = Level(memory=1e9, recovery=1e9)
    assert level.fall_rate == pytest.approx(0.05 / 5.0)
    level.pass_time(20.0, 2)
    assert level.fall_rate == pytest.approx(2.05 / 25.0)
    level = Level(memory=10.0, recovery=1e9)
    level.pass_time(0.0, 1)
    level.pass_time(10.0, 0)  # a time constant later
    assert level.falls == pytest.approx(math.exp(-1.0))


def test_the_best_level_falls_slowly_to_the_present_one():
    level = Level(memory=15.0, recovery=60.0)
    for _ in range(200):
        level.add(Block('fast', 3.0, 0.4))
    found = []
    for _ in range(1500):
        level.add(Block('fast', 2.0, 0.4))
        found.append(level.expected('fast')[0])
    # After 120 s the mean is 2.0, and the change itself no longer counts as spread.
    assert 2.0 + math.exp(-120.0 / 60.0) < found[300] < 2.4
    assert found[-1] == pytest.approx(2.0, abs=0.01)


def test_nothing_is_expected_of_what_was_not_seen():
    with pytest.raises(ValueError, match='too little of the accepted version was seen'):
        Level(1.0, 1.0).expected('fast')


# Verdicts


def test_one_that_makes_no_difference_is_accepted_after_its_windows():
    probation, stream = begun()
    verdict, after = verdict_of(probation, stream.walk(1, 20.0))
    assert (verdict.stage, verdict.verdict, verdict.scale) == ('probation', 'accepted', 1.0)
    assert after == pytest.approx(5.0, abs=0.03)
    assert verdict.reason == (
        f'it earned {verdict.measures["reward"]:.2f} a step in 5.0 s of walking, where the '
        f'accepted version would earn 2.49 or more'
    )
    assert verdict.measures['reward'] == pytest.approx(2.5, abs=0.1)
    assert verdict.measures['falls'] == 0
    assert abs(verdict.measures['shortfall']) < 0.1
    assert (probation.accepted, probation.version) == (1, None)
    probation.begin(2)  # and the next is judged by it
    assert verdict_of(probation, stream.walk(2, 20.0))[0].verdict == 'accepted'


def test_one_that_is_better_is_accepted():
    probation, stream = begun()
    verdict, _ = verdict_of(probation, stream.walk(1, 20.0, reward=3.5))
    assert verdict.verdict == 'accepted'
    assert verdict.measures['shortfall'] == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize('reward', [1.5, 0.0, -5.0])
def test_a_large_drop_is_found_within_two_seconds(reward):
    probation, stream = begun()
    verdict, after = verdict_of(probation, stream.walk(1, 20.0, reward=reward))
    assert (verdict.verdict, verdict.scale) == ('rejected', 0.0)
    assert after <= 2.0
    assert 'too much less to be chance' in verdict.reason
    assert (probation.accepted, probation.version) == (0, None)


def test_a_drop_of_a_third_is_found_before_all_windows():
    probation, stream = begun(spread=1.5)
    verdict, after = verdict_of(probation, stream.walk(1, 20.0, reward=1.65))
    assert verdict.verdict == 'rejected'
    assert after < 10.0


def test_a_drop_between_is_decided_after_more_windows():
    # 12 % less is within the margin of 20 %, but not as good: it takes all of the patience.
    probation, stream = begun(seed=9, spread=2.0)
    verdict, after = verdict_of(probation, stream.walk(1, 20.0, reward=2.2))
    assert verdict.verdict == 'accepted'
    assert after == pytest.approx(10.0, abs=0.05)
    assert 'within the margin of 0.49' in verdict.reason


def test_one_stumble_is_no_proof():
    probation, stream = begun()
    rows = stream.walk(1, 20.0)
    rows['reward'][60:80] = -3.0
    assert verdict_of(probation, rows)[0].verdict == 'accepted'


def test_chance_alone_seldom_rejects_and_a_loss_is_seldom_missed():
    lost = missed = 0
    for seed in range(40):
        probation, stream = begun(seed, spread=2.0)
        lost += verdict_of(probation, stream.walk(1, 20.0))[0].verdict == 'rejected'
        probation, stream = begun(seed, spread=2.0)
        verdict, _ = verdict_of(probation, stream.walk(1, 20.0, reward=1.2))
        missed += verdict.verdict == 'accepted'
    assert lost <= 2
    assert missed <= 2


def test_a_fall_that_the_accepted_version_does_not_have_rejects_at_once():
    probation, stream = begun()
    verdict, after = verdict_of(probation, stream.walk(1, 20.0, falls=(1.0,)))
    assert verdict.verdict == 'rejected'
    assert after == pytest.approx(1.02, abs=0.03)
    assert verdict.reason == (
        'it fell once in 1.0 s; the accepted version fell 0 times in 12 s'
    )  # of 15 s, forgotten with 30 s: 30 (1 - exp(-0.5)) = 11.8
    assert verdict.measures['falls'] == 1


def test_a_fall_is_forgiven_where_the_accepted_version_falls_as_often():
    probation, stream = begun(falls=(1.0, 4.0, 7.0, 10.0, 13.0))
    verdict, _ = verdict_of(probation, stream.walk(1, 20.0, falls=(2.0,)))
    assert verdict.verdict == 'accepted'
    assert verdict.measures['falls'] == 1
    probation, stream = begun(falls=(1.0, 4.0, 7.0, 10.0, 13.0))
    falls = (0.5, 0.9, 1.3, 1.7, 2.1)
    verdict, after = verdict_of(probation, stream.walk(1, 20.0, falls=falls))
    assert verdict.verdict == 'rejected'
    assert after < 2.0


def test_without_a_level_falls_alone_are_judged():
    stream = Stream()
    probation = Probation()
    probation.begin(4)
    verdict, after = verdict_of(probation, stream.walk(4, 20.0, reward=-9.0))
    assert verdict.verdict == 'accepted'
    assert after == pytest.approx(5.0, abs=0.03)
    assert 'too little of the accepted version was seen to compare the reward' in verdict.reason
    probation = Probation()
    probation.begin(4)
    verdict, _ = verdict_of(probation, stream.walk(4, 20.0, falls=(2.0,)))
    assert verdict.verdict == 'rejected'


# What counts


def test_only_its_own_steps_on_its_feet_count():
    probation, stream = begun()
    foreign = stream.walk(7, 10.0, reward=-9.0, falls=(1.0,))
    held = stream.walk(1, 10.0, reward=-9.0, falls=(1.0,))
    held['mode'] = 3
    fading = stream.walk(1, 10.0, reward=-9.0, falls=(1.0,))
    fading['blend'] = 0.5
    unknown = stream.walk(1, 10.0, falls=(1.0,))
    unknown['reward'] = np.nan
    for rows in (foreign, held, fading, unknown):
        assert probation.take(rows) is None
    verdict, after = verdict_of(probation, stream.walk(1, 20.0))
    assert verdict.verdict == 'accepted'
    assert after == pytest.approx(5.0, abs=0.03)


def test_standing_is_no_walking_but_a_fall_there_is_one():
    probation, stream = begun()
    assert probation.take(stream.walk(1, 60.0, command=(0.0, 0.0))) is None
    assert verdict_of(probation, stream.walk(1, 20.0))[0].verdict == 'accepted'
    probation, stream = begun()
    rows = stream.walk(1, 5.0, command=(0.0, 0.0), falls=(1.0,))
    assert verdict_of(probation, rows)[0].verdict == 'rejected'


def test_commands_are_compared_with_their_like():
    stream = Stream()
    probation = Probation()
    for _ in range(3):
        probation.take(stream.walk(0, 6.0, reward=3.0))
        probation.take(stream.walk(0, 6.0, reward=1.5, command=(0.3, 0.5)))
    probation.begin(1)
    # Turning earns less, whoever acts.
    rows = stream.walk(1, 20.0, reward=1.5, command=(0.3, 0.5))
    assert verdict_of(probation, rows)[0].verdict == 'accepted'
    probation.begin(2)  # one that walks ahead no better than it turns
    verdict, after = verdict_of(probation, stream.walk(2, 20.0, reward=1.5))
    assert verdict.verdict == 'rejected'
    assert after <= 2.5


def test_half_a_second_after_a_command_counts_for_nothing():
    probation, stream = begun()
    rows = stream.walk(1, 20.0)
    rows['reward'][:24] = -50.0  # the swap
    rows['command'][100:] = (0.4, 0.0)
    rows['reward'][100:124] = -50.0
    assert verdict_of(probation, rows)[0].verdict == 'accepted'


def test_lost_rows_change_nothing():
    probation, stream = begun()
    rows = stream.walk(1, 30.0)
    kept = rows[np.random.default_rng(1).random(len(rows)) > 0.05]
    verdict, _ = verdict_of(probation, kept)
    assert verdict.verdict == 'accepted'
    assert 'accepted version would earn' in verdict.reason
    probation, stream = begun()
    rows = stream.walk(1, 30.0, reward=1.0)
    kept = rows[np.random.default_rng(1).random(len(rows)) > 0.05]
    verdict, after = verdict_of(probation, kept)
    assert verdict.verdict == 'rejected'
    assert after <= 2.0


def test_a_fault_that_comes_meanwhile_costs_one_version():
    probation, stream = begun()
    assert probation.take(stream.walk(1, 1.0)) is None
    verdict, _ = verdict_of(probation, stream.walk(1, 10.0, reward=0.5))
    assert verdict.verdict == 'rejected'  # for nothing, but who could know
    assert not probation.ready
    probation.take(stream.walk(0, 5.0, reward=0.5))
    assert probation.ready
    probation.begin(2)
    assert verdict_of(probation, stream.walk(2, 10.0, reward=0.5))[0].verdict == 'accepted'


def test_slow_drift_is_stopped_before_it_costs_much():
    probation, stream = begun()
    reward, version = 2.5, 0
    while True:
        version, reward = version + 1, 0.95 * reward
        if version > 1:
            probation.begin(version)
        verdict, _ = verdict_of(probation, stream.walk(version, 20.0, reward=reward))
        if verdict.verdict == 'rejected':
            break
        assert version < 20
    last = reward / 0.95  # what was accepted last
    assert last > 0.75 * 2.5


@given(
    seed=st.integers(0, 1000),
    reward=st.sampled_from([2.5, 2.0, 1.0]),
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=20),
)
@settings(max_examples=25)
def test_how_rows_are_cut_into_pieces_changes_nothing(seed, reward, sizes):
    one, stream = begun(seed, spread=1.0)
    rows = stream.walk(1, 12.0, reward=reward)
    wanted, _ = verdict_of(one, rows)
    other, _ = begun(seed, spread=1.0)
    found, start = None, 0
    for size in sizes + [len(rows)]:
        found = found or other.take(rows[start : start + size])
        start += size
    assert found == wanted


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'window': 0.0}, 'window is 0.0, must be positive'),
        ({'patience': -1}, 'patience is -1, must be 0 or more'),
        ({'drop': math.nan}, 'drop is nan, must be positive'),
    ],
)
def test_thresholds_are_checked(changes, words):
    with pytest.raises(ValueError, match=words):
        ProbationConfig(**changes)


def test_what_acts_already_is_not_judged():
    for version in (0, 3):
        with pytest.raises(ValueError, match=f'version {version} acts already'):
            Probation(accepted=version).begin(version)
