"""Rotations against MuJoCo's own and against rotation matrices."""

import mujoco
import numpy as np
import pytest

from lebot_rl_ros.robot import rotations


def quaternions(count=50, seed=0):
    q = np.random.default_rng(seed).standard_normal((count, 4))
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def matrix(q):
    out = np.empty(9)
    mujoco.mju_quat2Mat(out, q)
    return out.reshape(3, 3)


def axis_rotation(axis, angle):
    i, j = (axis + 1) % 3, (axis + 2) % 3
    m = np.eye(3)
    m[i, i] = m[j, j] = np.cos(angle)
    m[i, j], m[j, i] = -np.sin(angle), np.sin(angle)
    return m


def test_gravity_is_down_seen_from_the_body():
    q = quaternions()
    expected = np.stack([matrix(x).T @ [0, 0, -1] for x in q])
    np.testing.assert_allclose(rotations.gravity_in_body(q), expected, atol=1e-12)


def test_level_is_minus_z():
    level = np.array([1.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(rotations.gravity_in_body(level), [0, 0, -1])
    assert rotations.tilt(rotations.gravity_in_body(level)) == 0


def test_multiply_and_rotate_inverse_agree_with_mujoco():
    a, b = quaternions(seed=1), quaternions(seed=2)
    v = np.random.default_rng(3).standard_normal((50, 3))
    product, turned, conjugate = np.empty((50, 4)), np.empty((50, 3)), np.empty(4)
    for k in range(50):
        mujoco.mju_mulQuat(product[k], a[k], b[k])
        mujoco.mju_negQuat(conjugate, a[k])
        mujoco.mju_rotVecQuat(turned[k], v[k], conjugate)
    np.testing.assert_allclose(rotations.multiply(a, b), product, atol=1e-12)
    np.testing.assert_allclose(rotations.rotate_inverse(a, v), turned, atol=1e-12)


def test_roll_pitch_yaw_is_about_fixed_axes():
    angles = np.random.default_rng(4).uniform([-3, -1.5, -3], [3, 1.5, 3], (50, 3))
    q = rotations.from_roll_pitch_yaw(angles)
    for (roll, pitch, yaw), x in zip(angles, q, strict=True):
        expected = axis_rotation(2, yaw) @ axis_rotation(1, pitch) @ axis_rotation(0, roll)
        np.testing.assert_allclose(matrix(x), expected, atol=1e-12)
    np.testing.assert_allclose(
        rotations.roll_pitch(rotations.gravity_in_body(q)), angles[:, :2], atol=1e-9
    )
    np.testing.assert_allclose(rotations.yaw(q), angles[:, 2], atol=1e-9)


@pytest.mark.parametrize(
    ('angles', 'tilt'),
    [((0.3, 0, 2), 0.3), ((0, -0.4, 1), 0.4), ((0.5, 0.5, 0), np.arccos(np.cos(0.5) ** 2))],
)
def test_tilt_ignores_heading(angles, tilt):
    q = rotations.from_roll_pitch_yaw(np.array(angles))
    assert rotations.tilt(rotations.gravity_in_body(q)) == pytest.approx(tilt)


def test_tilt_survives_rounding():
    assert rotations.tilt(np.array([0.0, 0.0, -1.0000001])) == 0
    assert rotations.tilt(np.array([0.0, 0.0, 1.0000001])) == pytest.approx(np.pi)


def test_any_leading_shape():
    q = quaternions(24).reshape(2, 3, 4, 4)
    v = np.ones((2, 3, 4, 3))
    assert rotations.gravity_in_body(q).shape == (2, 3, 4, 3)
    assert rotations.yaw(q).shape == (2, 3, 4)
    assert rotations.multiply(q, q).shape == q.shape
    assert rotations.roll_pitch(rotations.gravity_in_body(q)).shape == (2, 3, 4, 2)
    np.testing.assert_array_equal(
        rotations.rotate_inverse(q, v)[1, 2], rotations.rotate_inverse(q[1, 2], v[1, 2])
    )
