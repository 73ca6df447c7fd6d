"""Leg kinematics against MuJoCo's bodies and against finite differences, for both robots."""

import mujoco
import numpy as np
import pytest

from lebot_rl_ros.sim.model import build_model, standing_height


def random_joints(robot, count=20, seed=0):
    rng = np.random.default_rng(seed)
    joints = len(robot.joints)
    return rng.uniform(robot.lower, robot.upper, (count, joints)), rng.normal(
        0, 3, (count, joints)
    )


def mujoco_feet(robot, position, velocity):
    """Position, velocity of the centre and turning of the feet, base at rest in the origin."""
    model = build_model(robot, 0.005)
    data = mujoco.MjData(model)
    data.qpos[:] = 0
    data.qpos[3] = 1
    for name, p, v in zip(robot.joint_names, position, velocity, strict=True):
        data.joint(name).qpos[0], data.joint(name).qvel[0] = p, v
    mujoco.mj_forward(model, data)
    linear, angular = np.empty((3, model.nv)), np.empty((3, model.nv))
    result = []
    for foot in robot.feet:
        mujoco.mj_jacBody(model, data, linear, angular, model.body(foot).id)
        result.append((data.body(foot).xpos.copy(), linear @ data.qvel, angular @ data.qvel))
    return (np.stack(part, axis=-1) for part in zip(*result, strict=True))


def test_feet_are_where_mujoco_puts_them(robot):
    for position, velocity in zip(*random_joints(robot), strict=True):
        feet = robot.legs(position, velocity)
        place, speed, turning = mujoco_feet(robot, position, velocity)
        np.testing.assert_allclose(feet.position, place, atol=1e-12)
        np.testing.assert_allclose(feet.velocity, speed, atol=1e-12)
        np.testing.assert_allclose(feet.rotation_rate, turning, atol=1e-12)


def test_velocity_is_the_slope_of_position(robot):
    position, velocity = random_joints(robot, seed=1)
    step = 1e-6
    ahead, behind = (robot.legs(position + k * step * velocity, velocity) for k in (1, -1))
    slope = (ahead.position - behind.position) / (2 * step)
    np.testing.assert_allclose(robot.legs(position, velocity).velocity, slope, atol=1e-7)


def test_a_straight_leg_by_hand(lebot):
    """All joints zero: the foot hangs 0.08 + 0.085 m below the hip at (0.10, 0.068, -0.01)."""
    hips = np.zeros(8)
    rates = np.tile([2.0, 0.0], 4)  # hips only
    feet = lebot.legs(hips, rates)
    np.testing.assert_allclose(feet.position[:, 0], [0.10, 0.068, -0.175], atol=1e-15)
    np.testing.assert_allclose(feet.position[:, 3], [-0.10, -0.068, -0.175], atol=1e-15)
    # turning about +y at 2 rad/s moves a point 0.165 m below backwards at 0.33 m/s
    np.testing.assert_allclose(feet.velocity, np.tile([[-0.33], [0], [0]], 4), atol=1e-15)
    np.testing.assert_allclose(feet.rotation_rate, np.tile([[0], [2.0], [0]], 4), atol=1e-15)


def test_knee_and_hip_by_hand(lebot):
    """Hip 90 degrees: upper link points backwards; knee -90 degrees: lower link points down."""
    position = np.tile([np.pi / 2, -np.pi / 2], 4)
    feet = lebot.legs(position, np.zeros(8))
    np.testing.assert_allclose(
        feet.position[:, 0], [0.10 - 0.08, 0.068, -0.01 - 0.085], atol=1e-12
    )


@pytest.mark.parametrize('shape', [(), (1,), (5,), (2, 3), (0,)])
def test_any_leading_shape_gives_the_same_numbers(robot, shape):
    joints = len(robot.joints)
    rng = np.random.default_rng(2)
    position, velocity = rng.standard_normal((2, *shape, joints))
    feet = robot.legs(position, velocity)
    assert feet.position.shape == feet.velocity.shape == (*shape, 3, len(robot.feet))
    for index in np.ndindex(*shape):
        one = robot.legs(position[index], velocity[index])
        np.testing.assert_array_equal(feet.position[index], one.position)
        np.testing.assert_array_equal(feet.velocity[index], one.velocity)
        np.testing.assert_array_equal(feet.rotation_rate[index], one.rotation_rate)


def test_arguments_are_left_alone(robot):
    position, velocity = random_joints(robot, 3)
    before = position.copy(), velocity.copy()
    robot.legs(position, velocity)
    np.testing.assert_array_equal(position, before[0])
    np.testing.assert_array_equal(velocity, before[1])


def test_standing_feet_touch_the_floor(robot):
    feet = robot.legs(robot.stand, np.zeros_like(robot.stand))
    soles = standing_height(robot) + feet.position[2] - robot.legs.foot_radius
    np.testing.assert_allclose(soles.min(), 0, atol=1e-12)
    assert np.ptp(soles) < 1e-3  # all of them
