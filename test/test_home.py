"""The base beside what was accepted since: when it is asked for again, and when it stays."""

import math

import pytest

from lebot_rl_ros.learning.online.blocks import Block
from lebot_rl_ros.learning.online.home import MORE, PRIOR, Home
from lebot_rl_ros.learning.online.probation import Probation
from lebot_rl_ros.learning.online.probation_config import ProbationConfig
from test_probation import Stream, verdict_of

SHARES = {'drop': 0.2, 'noise': 0.5, 'cap': 1.5}


def stood(falls=0, rewards=(2.0, 3.0) * 15):
    """A base that acted for 12 s."""
    home = Home(memory=1e9, recovery=1e9)
    for index, reward in enumerate(rewards):
        home.stand(0.4, index < falls, Block('fast', reward, 0.4))
    return home


def test_evidence_of_falls_by_hand():
    home = stood(falls=1)
    usual = (1 + PRIOR[0]) / (12.0 + PRIOR[1])
    more = MORE[0] * usual + MORE[1]
    home.walk(1.0, fell=True)
    assert home.falls == pytest.approx(math.log(more / usual) - (more - usual))
    home.walk(1.0, fell=False)
    assert home.falls == pytest.approx(math.log(more / usual) - 2.0 * (more - usual))
    home.walk(600.0, fell=False)
    assert home.falls == 0.0


def test_without_a_base_that_acted_falls_say_nothing_of_it():
    home = Home(memory=1e9, recovery=1e9)
    for _ in range(9):
        home.walk(1.0, fell=True)
    assert home.falls == 0.0


def test_evidence_of_reward_by_hand():
    home = stood()
    home.earn(Block('fast', 2.5, 0.4), **SHARES)
    assert home.less == 0.0
    home.earn(Block('fast', 2.0, 0.4), **SHARES)
    # Blocks of 2 and 3 by turns: level 2.5 less a standard error, margin a fifth of that.
    spread = math.sqrt(0.25 * 30 / 29)
    level = 2.5 - spread / math.sqrt(30)
    margin = max(0.2 * level, 0.5 * spread)
    expected = margin / spread**2 * (level - 2.0 - 0.5 * margin)
    assert home.less == pytest.approx(expected, rel=0.03)
    home.earn(Block('fast', -99.0, 0.4), **SHARES)
    assert home.less == pytest.approx(expected + 1.5, rel=0.03)


def test_a_base_that_acts_again_is_measured_anew():
    home = stood()
    home.walk(1.0, fell=True)
    home.measure_anew()
    assert (home.falls, home.less) == (0.0, 0.0)
    home.earn(Block('fast', -99.0, 0.4), **SHARES)
    assert home.less == 0.0  # nothing is known of the base


def accepted(reward=2.5, falls=(), **config):
    """A probation in which version 1 was accepted beside a base that earns 2.5; its stream."""
    stream = Stream()
    probation = Probation(ProbationConfig(**config))
    probation.take(stream.walk(0, 15.0))
    probation.begin(1)
    assert verdict_of(probation, stream.walk(1, 6.0))[0].verdict == 'accepted'
    probation.take(stream.walk(1, 60.0, reward, falls=falls))
    return probation, stream


def test_who_is_as_good_as_the_base_does_not_miss_it():
    assert accepted()[0].misses_base == ''
    assert accepted(3.0)[0].misses_base == ''
    assert accepted(falls=(30.0,))[0].misses_base == ''


def test_who_earns_less_asks_for_the_base_which_stays_only_if_it_is_better():
    for base, verdict in ((2.5, 'accepted'), (1.6, 'rejected')):  # the world changed, or did not
        probation, stream = accepted(1.5)
        assert probation.misses_base == 'what was accepted earns less than the base did'
        probation.begin(0)
        found, _ = verdict_of(probation, stream.walk(0, 12.0, base))
        assert found.verdict == verdict
        assert found.reason.startswith(f'the base earned {found.measures["reward"]:.2f} a step')
        assert probation.accepted == (0 if verdict == 'accepted' else 1)
        probation.take(stream.walk(probation.accepted, 30.0, 1.5))
        assert probation.misses_base == ''  # what the base does now is known


def test_who_falls_more_asks_for_the_base_which_stays_if_it_is_as_good():
    falls = (10.0, 17.0, 25.0, 32.0, 40.0)
    for base, verdict in ((2.5, 'accepted'), (1.0, 'rejected')):
        probation, stream = accepted(falls=falls)
        assert probation.misses_base == 'what was accepted falls more often than the base did'
        probation.begin(0)
        assert verdict_of(probation, stream.walk(0, 12.0, base))[0].verdict == verdict


def test_versions_that_were_taken_back_are_no_evidence():
    probation, stream = accepted()
    for version in range(2, 12):
        probation.begin(version)
        assert verdict_of(probation, stream.walk(version, 5.0, 0.5))[0].verdict == 'rejected'
        probation.take(stream.walk(1, 5.0))
    assert probation.misses_base == ''
