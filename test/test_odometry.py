"""Leg odometry against MuJoCo: exact where a foot rolls, close where a robot sways on its feet."""

import mujoco
import numpy as np
import pytest

from lebot_rl_ros.robot import rotations
from lebot_rl_ros.robot.odometry import DeadReckoning, foot_heights, leg_odometry
from lebot_rl_ros.sim.model import build_model
from lebot_rl_ros.sim.randomisation import Randomisation
from lebot_rl_ros.sim.simulation import Simulation


@pytest.mark.parametrize('seed', range(5))
def test_exact_where_the_lowest_foot_rolls(robot, seed):
    """MuJoCo's Jacobian says how the base must move for the touching point to be at rest."""
    rng = np.random.default_rng(seed)
    position = robot.stand.copy()
    lowest = int(rng.integers(len(robot.feet)))
    orientation = rotations.from_roll_pitch_yaw(rng.uniform(-0.1, 0.1, 3))
    gravity = rotations.gravity_in_body(orientation)
    # that leg stretched, the others folded
    angles = {'hip': 0.15, 'thigh': 0.15, 'knee': -0.3, 'shin': -0.3, 'abduction': 0.0}
    for i, name in enumerate(robot.joint_names):
        leg, _, kind = name.partition('_')
        own = robot.feet[lowest].startswith(leg)
        position[i] = angles[kind] if own else robot.crouch[i]
    rate, omega = rng.normal(0, 2, len(robot.joints)), rng.normal(0, 1, 3)

    model = build_model(robot, 0.005)
    data = mujoco.MjData(model)
    data.qpos[:3], data.qpos[3:7] = 0, orientation
    data.qvel[3:6] = omega
    for name, p, v in zip(robot.joint_names, position, rate, strict=True):
        data.joint(name).qpos[0], data.joint(name).qvel[0] = p, v
    mujoco.mj_forward(model, data)
    foot = data.body(robot.feet[lowest])
    others_z = [data.body(name).xpos[2] for name in robot.feet if name != robot.feet[lowest]]
    assert foot.xpos[2] < min(others_z) - 0.04
    contact = foot.xpos - [0, 0, robot.legs.foot_radius]
    jacobian = np.empty((3, model.nv))
    mujoco.mj_jac(model, data, jacobian, None, contact, model.body(robot.feet[lowest]).id)
    world_velocity = -(jacobian @ data.qvel)  # the base's own columns are the identity
    expected = rotations.rotate_inverse(orientation, world_velocity)

    feet = robot.legs(position, rate)
    assert foot_heights(feet, gravity).argmin() == lowest
    np.testing.assert_allclose(
        foot_heights(feet, gravity), [data.body(name).xpos[2] for name in robot.feet], atol=1e-12
    )
    found = leg_odometry(robot, feet, gravity, omega)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_swaying_on_planted_feet_is_seen(lebot):
    simulation = Simulation(lebot, randomisation=Randomisation(friction=(2.0, 2.0)))
    errors, speeds = [], []
    for tick in range(200):
        sway = 0.15 * np.sin(2 * np.pi * tick / 50)
        simulation.step((lebot.stand + np.tile([sway, 0.0], 4))[None])
        state, truth = simulation.sense(), simulation.truth()
        gravity = rotations.gravity_in_body(state.orientation)
        feet = lebot.legs(state.joint_position, state.joint_velocity)
        found = leg_odometry(lebot, feet, gravity, state.angular_velocity)
        if tick >= 50:
            errors.append(found[0, 0] - truth.linear_velocity[0, 0])
            speeds.append(truth.linear_velocity[0, 0])
    assert np.std(speeds) > 0.05
    assert np.sqrt(np.mean(np.square(errors))) < 0.1 * np.std(speeds)


def test_a_time_and_batch_array_gives_the_same_numbers(robot):
    rng = np.random.default_rng(0)
    position, rate = rng.standard_normal((2, 4, 3, len(robot.joints)))
    omega = rng.standard_normal((4, 3, 3))
    gravity = rotations.gravity_in_body(
        rotations.from_roll_pitch_yaw(rng.uniform(-0.5, 0.5, (4, 3, 3)))
    )
    whole = leg_odometry(robot, robot.legs(position, rate), gravity, omega)
    assert whole.shape == (4, 3, 3)
    for i in np.ndindex(4, 3):
        one = leg_odometry(robot, robot.legs(position[i], rate[i]), gravity[i], omega[i])
        np.testing.assert_allclose(whole[i], one, atol=1e-12)


def test_dead_reckoning_adds_up_what_the_heading_says():
    """A quarter circle in two straight legs: 1 s north-facing x, then 0.5 s facing +y."""
    path = DeadReckoning()
    east, north = (rotations.from_roll_pitch_yaw(np.array([0, 0, a])) for a in (0.0, np.pi / 2))
    forward = np.array([0.4, 0.0, 0.0])
    second = 1_000_000_000
    np.testing.assert_array_equal(path.advance(5 * second, east, forward), [0, 0, 0])
    np.testing.assert_allclose(path.advance(6 * second, east, forward), [0.4, 0, 0], atol=1e-12)
    np.testing.assert_allclose(
        path.advance(6 * second + second // 2, north, forward), [0.4, 0.2, 0], atol=1e-12
    )


@pytest.mark.parametrize('stamp', [4, 5, 70])
def test_dead_reckoning_does_not_move_over_a_clock_jump(stamp):
    path = DeadReckoning()
    level, forward = np.array([1.0, 0, 0, 0]), np.array([0.4, 0.0, 0.0])
    path.advance(5_000_000_000, level, forward)
    assert (path.advance(stamp * 1_000_000_000, level, forward) == 0).all()
