"""Schedules: what they are worth along a training, and what is no schedule."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.learning.schedules import Schedule


@pytest.mark.parametrize(
    ('words', 'at'),
    [
        (3e-4, {0.0: 3e-4, 0.7: 3e-4, 1.0: 3e-4}),
        ('3e-4', {0.0: 3e-4, 1.0: 3e-4}),
        (0, {0.5: 0.0}),
        ('constant:2', {0.0: 2.0, 1.0: 2.0}),
        ('linear:3e-4:0', {0.0: 3e-4, 0.25: 2.25e-4, 0.5: 1.5e-4, 1.0: 0.0}),
        ('linear:0:1:0.5', {0.0: 0.0, 0.25: 0.5, 0.5: 1.0, 0.9: 1.0}),
        ('exponential:1:0.01', {0.0: 1.0, 0.5: 0.1, 1.0: 0.01}),
        (' exponential : 8 : 1 : 0.75 ', {0.25: 4.0, 0.5: 2.0, 0.75: 1.0, 1.0: 1.0}),
        ('exponential:-1:-4', {0.5: -2.0}),
    ],
)
def test_value_along_a_training(words, at):
    schedule = Schedule.parse(words)
    assert {x: schedule(x) for x in at} == pytest.approx(at, rel=1e-12)


def test_outside_the_training_it_stays_at_its_ends():
    schedule = Schedule.parse('linear:1:0.2')
    assert (schedule(-0.5), schedule(1.7)) == (1.0, 0.2)


def test_the_ends_are_exact():
    # start + (end - start) * 1 is not end in floating point; a rate of exactly 0 must be 0.
    schedule = Schedule.parse('linear:0.3:0.1')
    assert schedule(0.0) == 0.3
    assert schedule(1.0) == 0.1


def test_a_schedule_stays_itself():
    schedule = Schedule.parse('linear:1:0')
    assert Schedule.parse(schedule) is schedule


@given(
    st.floats(1e-6, 1e3), st.floats(1e-6, 1e3), st.sampled_from(['linear', 'exponential']),
    st.floats(0.0, 1.0), st.floats(0.0, 1.0),
)  # fmt: skip
def test_it_goes_one_way_and_stays_between_its_ends(start, end, kind, x, y):
    schedule = Schedule(start, end, kind)
    low, high = sorted((x, y))
    sign = math.copysign(1.0, end - start)
    slack = 1e-12 * max(start, end)
    assert sign * (schedule(high) - schedule(low)) >= -slack
    assert min(start, end) - slack <= schedule(x) <= max(start, end) + slack


@pytest.mark.parametrize(
    ('words', 'complaint'),
    [
        ('fast', "'fast' is no schedule; write a number, constant:VALUE"),
        ('', 'is no schedule'),
        ('linear', 'is no schedule'),
        ('linear:1', 'is no schedule'),
        ('linear:1:x', 'is no schedule'),
        ('linear:1:0:1:1', 'is no schedule'),
        ('constant:1:2', 'is no schedule'),
        ('cosine:1:0', 'is no schedule'),
        ('1:2', 'is no schedule'),
        ('nan', 'start of a schedule is nan'),
        ('linear:1:inf', 'end of a schedule is inf'),
        ('linear:1:0:0', 'share of a schedule is 0.0'),
        ('linear:1:0:1.5', 'share of a schedule is 1.5'),
        ('exponential:1:0', 'both numbers must be positive or both negative'),
        ('exponential:-1:1', 'both numbers must be positive or both negative'),
    ],
)
def test_what_is_no_schedule(words, complaint):
    with pytest.raises(ValueError, match=complaint):
        Schedule.parse(words)


def test_an_unknown_kind_lists_the_kinds():
    with pytest.raises(ValueError, match="'cosine'; choices are constant, linear, exponential"):
        Schedule(1.0, 0.0, 'cosine')
