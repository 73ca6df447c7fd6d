"""The last gate before the wire: never beyond a limit, whatever is asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.safety.limits import LimitedTarget, limit_target, limited_by

ROBOT = load_robot()
PERIOD = 0.02
ANYTHING = st.floats(allow_nan=True, allow_infinity=True, width=64)
NEAR = st.floats(-3, 3)


def still(position):
    return LimitedTarget(np.array(position), np.zeros_like(position))


@st.composite
def situations(draw):
    """A target of any kind, and a previous target within the limits, for one robot or many."""
    shape = (*draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3)), 8)
    target = draw(hnp.arrays(float, shape, elements=draw(st.sampled_from([ANYTHING, NEAR]))))
    share, speed = (draw(hnp.arrays(float, shape, elements=st.floats(low, 1))) for low in (0, -1))
    position = ROBOT.lower + share * (ROBOT.upper - ROBOT.lower)
    return target, LimitedTarget(position, speed * ROBOT.limits.velocity)


@given(situations())
def test_never_beyond_position_and_velocity(situation):
    target, previous = situation
    limited = limit_target(ROBOT, target, previous, PERIOD)
    assert limited.position.shape == target.shape
    assert np.isfinite(limited.position).all()
    assert (limited.position >= ROBOT.lower).all()
    assert (limited.position <= ROBOT.upper).all()
    moved = np.abs(limited.position - previous.position)
    assert (moved <= ROBOT.limits.velocity * PERIOD + 1e-12).all()
    np.testing.assert_allclose(
        limited.velocity, (limited.position - previous.position) / PERIOD, atol=1e-9
    )


@given(situations())
def test_acceleration_too_unless_the_position_limit_forces_it(situation):
    target, previous = situation
    limited = limit_target(ROBOT, target, previous, PERIOD)
    change = np.abs(limited.velocity - previous.velocity)
    forced = (limited.position == ROBOT.lower) | (limited.position == ROBOT.upper)
    assert ((change <= ROBOT.limits.acceleration * PERIOD + 1e-9) | forced).all()


@given(st.lists(hnp.arrays(float, 8, elements=ANYTHING), min_size=1, max_size=30))
def test_a_whole_run_of_nonsense_stays_within(targets):
    now = still(ROBOT.crouch)
    for target in targets:
        before, now = now, limit_target(ROBOT, target, now, PERIOD)
        assert (now.position >= ROBOT.lower).all()
        assert (now.position <= ROBOT.upper).all()
        assert np.abs(now.position - before.position).max() <= 8.0 * PERIOD + 1e-12


@given(hnp.arrays(float, 8, elements=st.floats(-2.3, 1.85)))
def test_it_arrives_at_what_is_allowed_and_stays(target):
    now = still(ROBOT.stand)
    for _ in range(60):
        now = limit_target(ROBOT, target, now, PERIOD)
    np.testing.assert_allclose(now.position, np.clip(target, ROBOT.lower, ROBOT.upper), atol=1e-9)
    np.testing.assert_allclose(now.velocity, 0, atol=1e-6)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_joint_without_a_finite_target_holds_and_the_others_go_on(value):
    target = ROBOT.stand + 0.01
    target[3] = value
    limited = limit_target(ROBOT, target, still(ROBOT.stand), PERIOD)
    assert limited.position[3] == ROBOT.stand[3]
    np.testing.assert_allclose(np.delete(limited.position, 3), np.delete(target, 3))


def test_a_moving_joint_without_a_finite_target_brakes():
    moving = LimitedTarget(ROBOT.stand, np.full(8, 4.0))
    limited = limit_target(ROBOT, np.full(8, np.nan), moving, 0.005)
    np.testing.assert_allclose(limited.velocity, 4.0 - 400.0 * 0.005)


def test_by_hand(lebot):
    """From rest: 400 rad/s² over 10 ms is 0.04 rad; at 8 rad/s it is 0.08 rad and no more."""
    target = lebot.stand + 0.5
    first = limit_target(lebot, target, still(lebot.stand), 0.01)
    np.testing.assert_allclose(first.position - lebot.stand, 0.04)
    np.testing.assert_allclose(first.velocity, 4.0)
    second = limit_target(lebot, target, first, 0.01)
    np.testing.assert_allclose(second.position - first.position, 0.08)
    third = limit_target(lebot, target, second, 0.01)
    np.testing.assert_allclose(third.velocity, 8.0)


def test_a_small_step_passes_untouched(robot):
    target = robot.stand + 0.01
    limited = limit_target(robot, target, still(robot.stand), 1 / robot.control_rate)
    np.testing.assert_allclose(limited.position, target)


def test_twelve_joints_and_their_own_limits(twelve):
    limited = limit_target(twelve, np.full(12, 9.0), still(twelve.upper - 0.001), 0.01)
    np.testing.assert_array_equal(limited.position, twelve.upper)
    limited = limit_target(twelve, twelve.stand + 9, still(twelve.stand), 0.01)
    np.testing.assert_allclose(limited.position - twelve.stand, 300 * 0.01**2)


def test_arguments_are_left_alone(robot):
    target, previous = np.full(robot.stand.shape, np.nan), still(robot.stand)
    limit_target(robot, target, previous, 0.02)
    assert np.isnan(target).all()
    np.testing.assert_array_equal(previous.position, robot.stand)


def test_a_limited_target_is_told_by_joint_and_amount(lebot):
    wanted = lebot.stand.copy()
    assert limited_by(lebot, wanted, lebot.stand) == ''
    wanted[1] += 0.12
    wanted[4] -= 0.05
    assert limited_by(lebot, wanted, lebot.stand) == 'fl_knee by 0.12 rad, rl_hip by 0.05 rad'
    wanted[1] = np.nan
    assert limited_by(lebot, wanted, lebot.stand).startswith('fl_knee by nan rad')
