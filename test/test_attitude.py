"""The complementary filter on motions whose end is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.hardware import attitude
from lebot_rl_ros.robot import rotations

LEVEL = np.array([1.0, 0.0, 0.0, 0.0])
REST = np.array([0.0, 0.0, 9.81])
NO_BIAS = np.zeros(3)


def specific_force(orientation):
    """What an accelerometer at rest shows."""
    return -9.81 * rotations.gravity_in_body(orientation)


def test_a_quarter_turn_about_each_axis():
    half = np.sqrt(0.5)
    for axis, expected in enumerate(([half, half, 0, 0], [half, 0, half, 0], [half, 0, 0, half])):
        rate = np.zeros(3)
        rate[axis] = np.pi  # rad/s, for half a second
        np.testing.assert_allclose(attitude.integrate(LEVEL, rate, 0.5), expected, atol=1e-15)


def test_a_constant_rotation_is_exact_in_any_number_of_steps():
    rate, start = np.array([0.3, -2.0, 1.1]), rotations.from_roll_pitch_yaw(np.array([0.2, 1, -2]))
    once = attitude.integrate(start, rate, 5.0)
    often = start
    for _ in range(1000):
        often = attitude.integrate(often, rate, 0.005)
    np.testing.assert_allclose(often, once, atol=1e-12)
    # a vector along the axis of rotation does not move in the world
    to_body = np.array([1.0, -1.0, -1.0, -1.0])
    np.testing.assert_allclose(
        rotations.rotate_inverse(once * to_body, rate),
        rotations.rotate_inverse(start * to_body, rate),
        atol=1e-12,
    )
    np.testing.assert_array_equal(attitude.integrate(start, np.zeros(3), 1.0), start)


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5))
def test_gravity_gives_roll_and_pitch(roll, pitch):
    truth = rotations.from_roll_pitch_yaw(np.array([roll, pitch, 0.0]))
    found = attitude.from_gravity(specific_force(truth))
    assert abs(found @ truth) == pytest.approx(1.0, abs=1e-9)  # q and -q turn alike


@pytest.mark.parametrize('tilt', [[0.5, 0.0, 0.0], [0.0, -0.7, 0.0], [0.3, 0.4, 2.0]])
def test_a_wrong_tilt_is_forgotten_at_the_rate_of_the_gain(tilt):
    """The angle's tangent of half falls as exp(-gain t): d(angle)/dt = -gain sin(angle)."""
    truth = rotations.from_roll_pitch_yaw(np.array(tilt))
    found, bias = np.array([np.cos(tilt[2] / 2), 0, 0, np.sin(tilt[2] / 2)]), NO_BIAS
    start = np.arccos(rotations.gravity_in_body(truth) @ rotations.gravity_in_body(found))
    for _ in range(200):
        found, bias = attitude.complementary(
            found, bias, np.zeros(3), specific_force(truth), 0.005, gain=2.0, bias_gain=0.0
        )
    left = np.arccos(rotations.gravity_in_body(truth) @ rotations.gravity_in_body(found))
    assert np.tan(left / 2) == pytest.approx(np.tan(start / 2) * np.exp(-2.0), rel=0.02)
    for _ in range(4000):
        found, bias = attitude.complementary(
            found, bias, np.zeros(3), specific_force(truth), 0.005, gain=2.0, bias_gain=0.0
        )
    np.testing.assert_allclose(
        rotations.gravity_in_body(found), rotations.gravity_in_body(truth), atol=1e-6
    )


def test_the_bias_about_level_axes_is_learned_and_heading_only_drifts():
    truth = np.array([0.02, -0.03, 0.01])
    found, bias = LEVEL, NO_BIAS
    for _ in range(15_000):
        found, bias = attitude.complementary(found, bias, truth, REST, 0.02, bias_gain=0.2)
    np.testing.assert_allclose(bias[:2], truth[:2], atol=1e-6)
    assert bias[2] == pytest.approx(0.0, abs=1e-6)
    assert rotations.tilt(rotations.gravity_in_body(found)) < 1e-6
    turned = np.unwrap([0.0, float(rotations.yaw(found))])[1]
    drift = (0.01 * 300 + np.pi) % (2 * np.pi) - np.pi
    assert turned == pytest.approx(drift, abs=2e-3)


def test_motion_far_from_gravity_does_not_tilt_it():
    pushed = np.array([9.81, 0.0, 9.81])  # 1.41 g
    found, bias = attitude.complementary(LEVEL, NO_BIAS, np.zeros(3), pushed, 0.005)
    np.testing.assert_array_equal(found, LEVEL)
    np.testing.assert_array_equal(bias, NO_BIAS)
    for nothing in (np.zeros(3), np.array([0.0, 0.0, 1e-30])):  # free fall
        found, _ = attitude.complementary(LEVEL, NO_BIAS, np.zeros(3), nothing, 0.005)
        np.testing.assert_array_equal(found, LEVEL)


def test_it_follows_a_swinging_body():
    found, bias = LEVEL, NO_BIAS
    for tick in range(4000):
        t = (tick + 0.5) * 0.005
        rate = np.array([0.6 * np.cos(2 * t), 0.0, 0.0])  # roll = 0.3 sin(2 t)
        truth = rotations.from_roll_pitch_yaw(np.array([0.3 * np.sin(2 * (t + 0.0025)), 0.0, 0.0]))
        found, bias = attitude.complementary(found, bias, rate, specific_force(truth), 0.005)
        assert abs(found @ truth) > 1 - 1e-5, t


def test_a_batch_gives_the_same_numbers():
    rng = np.random.default_rng(0)
    orientation = rotations.from_roll_pitch_yaw(rng.uniform(-1, 1, (3, 2, 3)))
    bias, rate = rng.normal(0, 0.1, (2, 3, 2, 3))
    force = rng.normal(0, 1, (3, 2, 3)) + REST
    whole = attitude.complementary(orientation, bias, rate, force, 0.01)
    for i in np.ndindex(3, 2):
        one = attitude.complementary(orientation[i], bias[i], rate[i], force[i], 0.01)
        for batched, alone in zip(whole, one, strict=True):
            np.testing.assert_allclose(batched[i], alone, atol=1e-14)
