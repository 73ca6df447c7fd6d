"""The vectorised simulation: repeatable, independent robots, honest sensors."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from lebot_rl_ros.robot import RobotState, rotations
from lebot_rl_ros.sim.randomisation import NOMINAL, TRAINING, Randomisation
from lebot_rl_ros.sim.simulation import Simulation

ARRAYS = [name for name in RobotState.__slots__ if name != 'stamp']


def targets(robot, steps, robots, seed=0):
    return robot.stand + 0.3 * np.random.default_rng(seed).uniform(
        -1, 1, (steps, robots, len(robot.joints))
    )


def history(simulation, commands):
    """Everything sensed and true while the commands run, as one array a robot."""
    rows = []
    for command in commands:
        simulation.step(command)
        state, truth = simulation.sense(), simulation.truth()
        parts = [getattr(state, name) for name in ARRAYS] + [truth.position, truth.linear_velocity]
        rows.append(np.concatenate(parts, axis=1))
    return np.stack(rows, axis=1)


def test_one_seed_one_result(robot):
    commands = targets(robot, 15, 3)
    runs = [
        history(Simulation(robot, 3, seed=7, randomisation=TRAINING), commands) for _ in range(2)
    ]
    np.testing.assert_array_equal(*runs)


def test_another_seed_another_result(lebot):
    commands = targets(lebot, 5, 2)
    a, b = (
        history(Simulation(lebot, 2, seed=s, randomisation=TRAINING), commands) for s in (1, 2)
    )
    assert not np.allclose(a, b)


@pytest.mark.parametrize('threads', [1, 2, 3])
def test_threads_do_not_matter(lebot, threads):
    commands = targets(lebot, 15, 5)
    alone, shared = (
        history(Simulation(lebot, 5, seed=3, randomisation=TRAINING, threads=n), commands)
        for n in (0, threads)
    )
    np.testing.assert_array_equal(alone, shared)


def test_many_robots_are_that_many_single_ones(robot):
    commands = targets(robot, 25, 4)
    together = history(Simulation(robot, 4), commands)
    for i in range(4):
        alone = history(Simulation(robot, 1), commands[:, i : i + 1])
        np.testing.assert_array_equal(together[i], alone[0])


def test_the_physics_is_mujocos(lebot):
    """Plain mj_step with the same targets, beyond the dead band, gives the same pose."""
    simulation = Simulation(lebot)
    data = mujoco.MjData(simulation.nominal)
    data.qpos[:] = simulation.qpos[0]
    for command in targets(lebot, 10, 1):
        error = command[0] - data.qpos[7:]
        data.ctrl[:] = data.qpos[7:] + error - np.clip(error, -0.009, 0.009)
        simulation.step(command)
        for _ in range(4):
            mujoco.mj_step(simulation.nominal, data)
    np.testing.assert_allclose(simulation.qpos[0], data.qpos, atol=1e-10)


def test_reset_touches_only_the_chosen(lebot):
    simulation = Simulation(lebot, 4, seed=1, randomisation=TRAINING)
    for command in targets(lebot, 10, 4):
        simulation.step(command)
    before = simulation.qpos.copy(), simulation.qvel.copy(), simulation.horn_offset.copy()
    friction = [model.geom_friction.copy() for model in simulation.models]
    mask = np.array([False, True, False, True])
    simulation.reset(mask)
    for old, new in zip(
        before, (simulation.qpos, simulation.qvel, simulation.horn_offset), strict=True
    ):
        np.testing.assert_array_equal(old[~mask], new[~mask])
        assert not np.allclose(old[mask], new[mask])
    for i in range(4):
        same = np.array_equal(friction[i], simulation.models[i].geom_friction)
        assert same == (not mask[i])


def test_a_reset_robot_stands_at_the_origin(robot):
    simulation = Simulation(robot, 2)
    for command in targets(robot, 30, 2):
        simulation.step(command)
    simulation.reset()
    fresh = Simulation(robot, 2)
    np.testing.assert_array_equal(simulation.qpos, fresh.qpos)
    np.testing.assert_array_equal(simulation.qvel, 0)
    np.testing.assert_array_equal(simulation.truth().position[:, :2], 0)


def test_stamps_count_periods_over_resets(robot):
    simulation = Simulation(robot, 2)
    period = robot.control_period_ns
    np.testing.assert_array_equal(simulation.sense().stamp, [0, 0])
    for command in targets(robot, 3, 2):
        simulation.step(command)
    simulation.reset(np.array([True, False]))
    np.testing.assert_array_equal(simulation.sense().stamp, [3 * period, 3 * period])


def test_a_period_that_is_no_multiple_of_the_substep_is_refused(lebot):
    with pytest.raises(ValueError, match=r'0\.012 s is not a multiple of the substep, 0\.005 s'):
        Simulation(lebot, period=0.012)


def test_another_period(lebot):
    simulation = Simulation(lebot, period=0.1)
    assert simulation.substeps == 20
    simulation.step(lebot.stand[None])
    assert simulation.sense().stamp[0] == 100_000_000


def test_standing_still_it_feels_gravity_and_keeps_its_pose(robot):
    simulation = Simulation(robot)
    for _ in range(100):
        simulation.step(robot.stand[None])
    state, truth = simulation.sense(), simulation.truth()
    np.testing.assert_allclose(state.linear_acceleration[0], [0, 0, 9.81], atol=0.05)
    np.testing.assert_allclose(state.angular_velocity, 0, atol=0.01)
    np.testing.assert_allclose(truth.linear_velocity, 0, atol=0.01)
    assert np.abs(state.joint_position - robot.stand).max() < 0.06
    assert truth.position[0, 2] == pytest.approx(simulation._height(robot.stand), abs=0.01)
    # four standing legs carry the weight: the torque of each side's servos is the same
    assert np.abs(state.joint_effort).max() < robot.servo.stall_torque / 2


def test_in_free_fall_it_feels_nothing(lebot):
    simulation = Simulation(lebot)
    simulation.qpos[:, 2] = 2.0
    simulation.step(lebot.stand[None])
    simulation.step(lebot.stand[None])
    np.testing.assert_allclose(simulation.sense().linear_acceleration, 0, atol=0.05)


def test_acceleration_turns_with_the_body(lebot):
    """Rolled by +90 degrees, the body's y axis points up, and the weight is felt along it."""
    simulation = Simulation(lebot)
    simulation.qpos[0, 3:7] = rotations.from_roll_pitch_yaw(np.array([np.pi / 2, 0, 0]))
    np.testing.assert_allclose(simulation.sense().linear_acceleration[0], [0, 9.81, 0], atol=1e-9)


def test_horn_offset_is_seen_by_the_sensors_only(lebot):
    """The true angle is the servo's plus the offset, and targets are the servo's."""
    simulation = Simulation(lebot, randomisation=Randomisation(horn_offset=0.05))
    offset = simulation.horn_offset[0]
    assert 0 < np.abs(offset).max() <= 0.05
    np.testing.assert_allclose(simulation.sense().joint_position[0], lebot.stand, atol=1e-12)
    np.testing.assert_allclose(simulation.qpos[0, 7:], lebot.stand + offset, atol=1e-12)
    for _ in range(60):
        simulation.step(lebot.stand[None])
    np.testing.assert_allclose(simulation.sense().joint_position[0], lebot.stand, atol=0.07)


def test_imu_mount_turns_what_the_imu_sees(lebot):
    simulation = Simulation(lebot, randomisation=Randomisation(imu_mount=0.05))
    mount = rotations.roll_pitch(rotations.gravity_in_body(simulation.sense().orientation))[0]
    assert 0 < np.abs(mount).max() <= 0.05
    simulation.qvel[0, 3:6] = [0.3, -0.2, 1.0]
    turned = rotations.rotate_inverse(simulation._mount[0], simulation.qvel[0, 3:6])
    np.testing.assert_allclose(simulation.sense().angular_velocity[0], turned, atol=1e-12)
    np.testing.assert_allclose(simulation.truth().angular_velocity[0], [0.3, -0.2, 1.0])


@pytest.mark.parametrize(
    ('noise', 'field', 'scale'),
    [
        ('position_noise', 'joint_position', 1.0),
        ('velocity_noise', 'joint_velocity', 1.0),
        ('gyro_noise', 'angular_velocity', 1.0),
        ('acceleration_noise', 'linear_acceleration', 1.0),
        ('tilt_noise', 'orientation', 0.5),  # a small turn by a is a/2 in the quaternion
    ],
)
def test_each_noise_is_where_and_as_large_as_said(lebot, noise, field, scale):
    noisy = Simulation(lebot, 500, seed=1, randomisation=replace(NOMINAL, **{noise: 0.02}))
    clean = Simulation(lebot, 500, seed=1)
    for name in ARRAYS:
        difference = getattr(noisy.sense(), name) - getattr(clean.sense(), name)
        if name == field:
            if name == 'orientation':
                difference = difference[:, 1:]
            assert difference.std() == pytest.approx(0.02 * scale, rel=0.1)
        elif not (noise == 'tilt_noise' and name == 'linear_acceleration'):
            np.testing.assert_array_equal(difference, 0)


def test_lost_commands_never_arrive(lebot):
    deaf = Simulation(lebot, randomisation=Randomisation(lost_commands=1.0))
    still = Simulation(lebot)
    for command in targets(lebot, 10, 1):
        deaf.step(command)
        still.step(lebot.stand[None])
    np.testing.assert_array_equal(deaf.qpos, still.qpos)


def test_pushes_come_as_often_and_as_hard_as_said(lebot):
    ranges = Randomisation(push_interval=0.2, push_velocity=0.3)
    simulation = Simulation(lebot, 2000, seed=0, randomisation=ranges)
    simulation._push()
    pushed = simulation.qvel[:, :2][np.any(simulation.qvel[:, :2] != 0, axis=1)]
    assert len(pushed) / 2000 == pytest.approx(0.02 / 0.2, rel=0.2)
    assert np.abs(pushed).max() <= 0.3
    assert np.abs(pushed).max() > 0.25
    np.testing.assert_array_equal(simulation.qvel[:, 2:], 0)


def test_draws_stay_in_their_ranges_and_fill_them(lebot):
    simulation = Simulation(lebot, 200, seed=0, randomisation=TRAINING)
    nominal, base = simulation.nominal, simulation.nominal.body('base_link').id
    floor = nominal.geom('floor').id
    drawn = {
        'friction': [m.geom_friction[floor, 0] for m in simulation.models],
        'mass': [m.body_mass[-1] / nominal.body_mass[-1] for m in simulation.models],
        'strength': [m.actuator_forcerange[3, 1] / 1.9 for m in simulation.models],
        'kp': [m.actuator_gainprm[5, 0] / 14.0 for m in simulation.models],
        'payload': [
            m.body_mass[base] / nominal.body_mass[base] / (m.body_mass[-1] / nominal.body_mass[-1])
            for m in simulation.models
        ],
        'dead_band': simulation._dead_band.ravel() / 0.009,
    }
    for name, values in drawn.items():
        low, high = getattr(TRAINING, name)
        assert low <= min(values), name
        assert max(values) <= high + 1e-12, name
        assert np.ptp(values) > 0.9 * (high - low), name
    for model in simulation.models:
        np.testing.assert_array_equal(model.actuator_gainprm[:, 0], -model.actuator_biasprm[:, 1])
        np.testing.assert_array_equal(
            model.actuator_forcerange[:, 0], -model.actuator_forcerange[:, 1]
        )
        shift = model.body_ipos[base] - nominal.body_ipos[base]
        assert np.abs(shift[:2]).max() <= 0.01
        assert shift[2] == 0
    assert np.abs(simulation.horn_offset).max() <= 0.05


def test_servos_of_one_robot_differ(lebot):
    simulation = Simulation(lebot, randomisation=TRAINING)
    assert len(set(simulation.models[0].actuator_forcerange[:, 1])) == 8


def test_a_nominal_reset_undoes_everything(lebot):
    simulation = Simulation(lebot, 1, randomisation=TRAINING)
    simulation.randomisation = NOMINAL
    simulation.reset()
    for name in (
        'body_mass', 'body_inertia', 'body_ipos', 'geom_friction', 'dof_frictionloss',
        'actuator_gainprm', 'actuator_biasprm', 'actuator_forcerange', 'body_subtreemass',
        'dof_invweight0',
    ):  # fmt: skip
        ours, nominal = getattr(simulation.models[0], name), getattr(simulation.nominal, name)
        np.testing.assert_allclose(ours, nominal, rtol=1e-12, err_msg=name)
    np.testing.assert_array_equal(simulation.horn_offset, 0)


def test_switching_torque_off_lets_it_sink_and_on_again_stands_it_up(lebot):
    simulation = Simulation(lebot, 2)
    simulation.set_torque(0, on=False)
    for _ in range(100):
        simulation.step(np.tile(lebot.stand, (2, 1)))
    heights = simulation.truth().position[:, 2]
    assert heights[0] < heights[1] - 0.03
    drive = simulation.sense().joint_effort[0] + lebot.servo.damping * simulation.qvel[0, 6:]
    np.testing.assert_array_equal(drive, 0)
    simulation.set_torque(0, on=True)
    for _ in range(100):
        simulation.step(np.tile(lebot.stand, (2, 1)))
    heights = simulation.truth().position[:, 2]
    assert heights[0] == pytest.approx(heights[1], abs=0.01)


def test_crouching_it_lies_lower(lebot):
    simulation = Simulation(lebot)
    standing = simulation.truth().position[0, 2]
    simulation.reset(pose=lebot.crouch)
    np.testing.assert_array_equal(simulation.sense().joint_position[0], lebot.crouch)
    assert simulation.truth().position[0, 2] < standing - 0.03
    simulation.step(lebot.crouch[None])
    assert np.isfinite(simulation.qpos).all()


def test_twelve_joints_walk_through_the_same_task(twelve):
    from lebot_rl_ros.envs.velocity_task import VelocityTask

    task = VelocityTask(twelve, 3, seed=1)
    assert task.reset().shape == (3, task.layout.size)
    rng = np.random.default_rng(0)
    for _ in range(50):
        outcome = task.step(rng.uniform(-1, 1, (3, 12)))
    assert np.isfinite(outcome.observation).all()
    assert outcome.reward.shape == (3,)


def test_velocities_of_robot_and_truth_share_a_frame(lebot):
    """Turned by 90 degrees about z, moving along world y is moving forwards."""
    simulation = Simulation(lebot)
    simulation.qpos[0, 3:7] = rotations.from_roll_pitch_yaw(np.array([0, 0, np.pi / 2]))
    simulation.qvel[0, :3] = [0.0, 0.5, 0.0]
    np.testing.assert_allclose(simulation.truth().linear_velocity[0], [0.5, 0, 0], atol=1e-12)
