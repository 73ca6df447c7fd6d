"""Servos identified: the model is the simulator's, planted servos are found, what is not told."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from identify_samples import held, limited, planted, walk
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.robot.servos import (
    RANGES,
    ServoFile,
    check_servo,
    read_servos,
    with_servos,
    write_servos,
)
from lebot_rl_ros.sim.delay_line import DelayLine
from lebot_rl_ros.sim.identify import FITTED, held_paths, identify_held
from lebot_rl_ros.sim.identify_data import HISTORY, Readings, smooth_positions, window_starts
from lebot_rl_ros.sim.identify_model import servo_of, vector
from lebot_rl_ros.sim.identify_motion import chirp, excitation, ramps, steps
from lebot_rl_ros.sim.identify_walk import predict_walk, walk_starts, walk_windows
from lebot_rl_ros.sim.identify_walk_fit import identify_walk
from lebot_rl_ros.sim.randomisation import NOMINAL, Randomisation
from lebot_rl_ros.sim.simulation import Simulation

DEGREE = np.pi / 180
SETS = (  # as the joint table, weaker, stronger; delays of 0, 15, 40 ms, dead bands of 0.5, 0, 1°
    {'dead_band': 0.5 * DEGREE},
    {'kp': 9.0, 'stall_torque': 1.3, 'no_load_speed': 4.0, 'friction': 0.08, 'dead_band': 0.0,
     'delay': 0.015},
    {'kp': 20.0, 'stall_torque': 2.4, 'no_load_speed': 6.5, 'friction': 0.02,
     'dead_band': 1.0 * DEGREE, 'delay': 0.04},
    {'kp': 12.0, 'stall_torque': 1.6, 'no_load_speed': 4.6, 'friction': 0.06,
     'dead_band': 0.8 * DEGREE, 'delay': 0.0275},
)  # fmt: skip
WEAK = {'kp': 10.0, 'stall_torque': 1.5, 'no_load_speed': 4.2, 'friction': 0.06,
        'dead_band': 0.012, 'delay': 0.02}  # fmt: skip
TOLERANCE = {  # absolute, relative: what the page promises of a held robot
    'kp': (0.0, 0.02),
    'damping': (0.0, 0.01),
    'stall_torque': (0.0, 0.01),
    'friction': (0.006, 0.0),
    'dead_band': (0.001, 0.0),
    'delay': (0.0005, 0.0),
}


def test_the_delay_line_by_hand():
    """Delays of 0, 1 and 5.5 of 4 substeps; targets 1, 2, 3 after a pose of 0."""
    line = DelayLine(1, 3, 4, 3, 5.5)
    line.set(0, np.array([0.0, 1.0, 5.5]), np.zeros(3))
    for target in (1.0, 2.0):
        line.push(np.full((1, 3), target))
    np.testing.assert_array_equal(
        line.arrived()[0].T, [[2, 2, 2, 2], [1, 2, 2, 2], [0, 0.5, 1, 1]][:2] + [[0, 0.5, 1, 1]]
    )
    line.push(np.full((1, 3), 3.0))
    np.testing.assert_array_equal(line.arrived()[0, :, 2], [1, 1.5, 2, 2])
    np.testing.assert_array_equal(line.arrived()[0, :, 1], [2, 3, 3, 3])


@pytest.mark.parametrize('servo', SETS)
def test_a_joint_alone_moves_as_in_the_whole_simulation(lebot, servo):
    """Half a second ahead over the whole motion, without noise: the rest is MuJoCo's solver."""
    robot = planted(lebot, servo)
    taken = held(robot, limited(robot, excitation(robot)), noise=0.0)
    starts = window_starts(taken, robot.control_period_ns, 25)
    paths = held_paths(robot, taken, starts, 25)
    error = paths - taken.position[starts[:, None] + np.arange(1, 26)]
    assert np.sqrt(np.mean(error**2)) < 2e-4
    assert np.abs(error).max() < 4e-3


def test_numbers_of_a_servo_and_back(lebot):
    servo = replace(lebot.servo, delay=0.013)
    again = servo_of(vector(servo), lebot.servo)
    assert again.damping == pytest.approx(1.9 / 5.2)
    assert vars(again) == pytest.approx(vars(servo))


def test_planted_servos_are_found_joint_by_joint(lebot):
    """Four kinds of servos on one robot, read by 4096 counts with 0.7 mrad of noise."""
    robot = planted(lebot, *SETS, *SETS)
    four = lebot.joint_names[:4]
    taken = held(robot, limited(robot, excitation(robot)), seed=3)
    found = identify_held(lebot, taken, joints=four)
    off = []
    for joint, truth in zip(found.joints[:4], robot.servos, strict=False):
        assert set(joint.held) == {'armature'}, joint
        for name in FITTED:
            error = getattr(joint.servo, name) - getattr(truth, name)
            absolute, relative = TOLERANCE[name]
            allowed = absolute + relative * getattr(truth, name)
            assert abs(error) < allowed, (joint.name, name, joint.servo, truth)
            off.append(error / max(joint.error[name], 1e-9))
        speed = (joint.servo.no_load_speed - truth.no_load_speed) / joint.error['no_load_speed']
        off.append(speed)
    off = np.abs(off)
    assert off.max() < 4.5  # standard errors; of 28 numbers
    assert np.mean(off < 2) > 0.85
    assert 0.3 < np.sqrt(np.mean(off**2)) < 1.6  # neither vain nor shy
    assert np.all(found.after.ahead[:4] < 2.5e-3)  # what noise in the starts leaves
    moved = [1, 2, 3]
    assert np.all(found.before.ahead[moved] > 4 * found.after.ahead[moved])
    assert np.all(found.before.one_step[moved] > 1.1 * found.after.one_step[moved])


def test_a_slow_motion_tells_what_it_cannot_tell(lebot):
    """Ramps alone never saturate a servo: its torque stays, and the reason names what it wants."""
    robot = planted(lebot, WEAK)
    targets = robot.stand + ramps(20.0, 50.0, reach=0.15)[:, None] * np.ones(8)
    found = identify_held(lebot, held(robot, targets), joints=['fl_hip', 'fl_knee'])
    for joint in found.joints[:2]:
        assert joint.servo.stall_torque == pytest.approx(lebot.servo.stall_torque)
        assert 'stall_torque' not in joint.error
        why = joint.held['stall_torque']
        assert why.startswith('not identifiable from this motion')
        assert 'steps so large' in why


def test_a_robot_that_stands_tells_nothing(lebot):
    taken = held(lebot, np.tile(lebot.stand, (300, 1)))
    found = identify_held(lebot, taken, joints=['rr_hip'])
    for joint in found.joints[-2:-1]:
        assert not joint.error or set(joint.error) <= {'friction', 'dead_band'}
        assert {'kp', 'delay', 'stall_torque', 'damping'} <= set(joint.held)
        assert joint.servo.kp == pytest.approx(lebot.servo.kp)


def test_windows_in_which_somebody_pushed_a_leg_are_left_out(lebot):
    robot = planted(lebot, WEAK)
    taken = held(robot, limited(robot, excitation(robot)))
    position = taken.position.copy()
    position[400:412, 0] += 0.3 * np.sin(np.linspace(0, np.pi, 12))
    pushed = replace(taken, position=position)
    joint = identify_held(lebot, pushed, joints=['fl_hip']).joints[0]
    assert joint.outliers >= 1
    assert joint.servo.kp == pytest.approx(10.0, rel=0.02)
    assert joint.servo.delay == pytest.approx(0.02, abs=1e-3)


def test_a_walk_tells_one_set_for_all(lebot):
    """No truth of the body is used: IMU, leg odometry and encoders begin each prediction."""
    robot = planted(lebot, WEAK)
    found = identify_walk(lebot, walk(robot, 9.0))
    joint = found.joints[0]
    assert found.body == 'free'
    assert joint.servo.kp == pytest.approx(10.0, rel=0.06)
    assert joint.servo.stall_torque == pytest.approx(1.5, rel=0.05)
    assert joint.servo.delay == pytest.approx(0.02, abs=0.0015)
    assert joint.servo.damping == pytest.approx(1.5 / 4.2, rel=0.08)
    assert all(each.servo == joint.servo for each in found.joints)
    assert np.all(found.after.ahead < 0.2 * found.before.ahead)
    for name in ('kp', 'stall_torque', 'delay', 'damping'):
        truth = 1.5 / 4.2 if name == 'damping' else WEAK[name]
        assert abs(getattr(joint.servo, name) - truth) < 3.5 * joint.error[name], name


def test_windows_of_a_walk_begin_where_the_robot_was(lebot):
    taken = walk(lebot, 3.0, noise=0.0)
    starts = window_starts(taken, lebot.control_period_ns, 5)[2:]
    windows = walk_windows(lebot, taken, starts, 5)
    error = predict_walk(lebot, windows) - windows.measured
    assert np.median(np.abs(error)) < 1e-3
    with pytest.raises(ValueError, match='no imu/data'):
        walk_windows(lebot, replace(taken, orientation=None), starts, 5)


def test_windows_keep_clear_of_gaps_and_of_servos_without_torque():
    count = 100
    stamp = np.arange(count) * 20_000_000
    stamp[50:] += 20_000_000  # a tick is missing before 50
    torque = np.ones(count, dtype=bool)
    torque[80] = False
    zeros = np.zeros((count, 1))
    taken = Readings(stamp, zeros, zeros, zeros, torque)
    starts = window_starts(taken, 20_000_000, 5, stride=1)
    expected = [
        s for s in range(HISTORY, count - 5)
        if not (s - HISTORY < 50 <= s + 5) and not (s - HISTORY < 80 <= s + 5)
    ]  # fmt: skip
    assert starts.tolist() == expected
    with pytest.raises(ValueError, match=r'no 66 ticks of 20 ms hold together in 100 readings'):
        window_starts(taken, 20_000_000, 60)


def test_readings_of_other_shapes_are_refused():
    zeros = np.zeros((4, 2))
    with pytest.raises(ValueError, match=r'velocity has the shape \(4, 1\), must have \(4, 2\)'):
        Readings(np.zeros(4, int), zeros, zeros, zeros[:, :1], np.ones(4, bool))


def test_smoothing_keeps_a_parabola():
    time = np.arange(30.0)[:, None]
    curve = 0.5 * time**2 - 3 * time + 1
    taken = Readings(np.arange(30), curve, curve, curve, np.ones(30, bool))
    np.testing.assert_allclose(smooth_positions(taken), curve, atol=1e-9)


@given(
    st.floats(1.0, 20.0), st.floats(0.01, 1.0), st.floats(0.2, 10.0), st.floats(2.0, 400.0),
    st.floats(0.1, 1.0), st.floats(1.0, 20.0),
)  # fmt: skip
def test_a_chirp_keeps_its_limits(seconds, reach, velocity, acceleration, first, last):
    rate = 200.0
    wave = chirp(
        seconds, rate, reach=reach, velocity=velocity, acceleration=acceleration,
        frequencies=(first, last),
    )  # fmt: skip
    assert np.abs(wave).max() <= reach + 1e-12
    # The fade over half a second adds reach / 0.5 s at most.
    assert np.abs(np.diff(wave)).max() * rate <= velocity + 2 * reach + 1e-9
    assert wave[0] == 0.0


def test_a_chirp_speeds_up_from_first_to_last():
    wave = chirp(20.0, 200.0, reach=1.0, velocity=1e3, acceleration=1e6, frequencies=(0.5, 5.0))
    crossings = np.flatnonzero(np.diff(np.sign(wave[100:-100]))) + 100
    for first, second in (crossings[:2], crossings[-2:]):
        frequency = 0.5 * 10 ** ((first + second) / 2 / 200 / 20)
        assert second - first == pytest.approx(200 / frequency / 2, abs=2)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'reach': 0.0}, 'reach is 0.0, must be above 0'),
        ({'velocity': -1.0}, 'velocity is -1.0, must be above 0'),
        ({'frequencies': (1.0, 25.0)}, 'below half the rate, 25 Hz'),
        ({'frequencies': (3.0, 1.0)}, 'must rise'),
    ],
)
def test_a_chirp_that_cannot_be_is_refused(given, message):
    whole = {'reach': 0.1, 'velocity': 1.0, 'acceleration': 10.0} | given
    with pytest.raises(ValueError, match=message):
        chirp(2.0, 50.0, **whole)


def test_steps_by_hand():
    np.testing.assert_allclose(
        steps((0.2,), 10.0, reach=1.0, hold=0.2),
        [0.1, 0.1, -0.1, -0.1, 0.1, 0.1, -0.1, -0.1, 0, 0],
    )
    assert steps((3.0,), 10.0, reach=0.5).max() == 0.5


def test_the_motion_moves_every_joint_within_its_travel(robot):
    motion = excitation(robot)
    assert motion.shape[1] == len(robot.joints)
    assert np.all(motion >= robot.lower + 0.05)
    assert np.all(motion <= robot.upper - 0.05)
    assert np.all(np.ptp(motion, axis=0) > 0.25)
    moving = np.abs(np.diff(motion, axis=0)) > 0
    per_leg = len(robot.joints) // len(robot.feet)
    legs = moving.reshape(len(moving), len(robot.feet), per_leg)
    assert legs.sum(axis=2).max() == 1  # one joint of a leg at a time


def written(path, robot, **changes):
    file = ServoFile(
        robot.name,
        {name: replace(robot.servo, **changes) for name in robot.joint_names},
        provenance={'bag': 'here'},
    )
    write_servos(path, file)
    return path


def test_a_servo_file_comes_back(lebot, tmp_path):
    path = written(tmp_path / 'servo.yaml', lebot, kp=10.123456789, delay=0.02)
    file = read_servos(path)
    assert file.robot == 'lebot'
    assert file.provenance == {'bag': 'here'}
    assert file.servos['fl_hip'] == replace(lebot.servo, kp=10.123, delay=0.02)
    robot = with_servos(lebot, path)
    assert robot.joint_servos == (file.servos['fl_hip'],) * 8
    assert with_servos(lebot, '') is lebot
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('name', RANGES)
def test_values_that_no_servo_has_are_refused_with_the_range(lebot, tmp_path, name):
    low, high = RANGES[name]
    for value in (high * 1.01 + 1, low - 1, float('nan'), True, 'much'):
        path = written(tmp_path / 'servo.yaml', lebot)
        content = yaml.safe_load(path.read_text())
        content['servos']['rr_knee'][name] = value
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(ValueError, match=rf'rr_knee: {name} is .*{low:g} to {high:g}'):
            read_servos(path)
    check_servo(replace(lebot.servo, **{name: high}), 'here')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.update(robot='ant'), "of robot 'ant', but this is 'lebot'"),
        (lambda c: c['servos'].pop('fl_hip'), 'has the joints fl_knee'),
        (lambda c: c['servos']['fl_hip'].pop('kp'), 'they must be stall_torque'),
        (lambda c: c['servos']['fl_hip'].update(gain=1.0), 'gain, kp.*they must be'),
        (lambda c: c.update(schema=7), 'schema is 7; this version reads 1'),
        (lambda c: c.pop('servos'), 'no servo file'),
    ],
)
def test_a_file_that_does_not_fit_is_refused(lebot, tmp_path, change, message):
    path = written(tmp_path / 'servo.yaml', lebot)
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        with_servos(lebot, path)
    with pytest.raises(FileNotFoundError, match='lebot identify BAG'):
        with_servos(lebot, tmp_path / 'none.yaml')


def test_the_simulator_has_each_servo_where_it_belongs(lebot):
    robot = planted(lebot, *SETS, *SETS)
    simulation = Simulation(robot)
    model = simulation.models[0]
    kp = [14.0, 9.0, 20.0, 12.0] * 2
    stall = [1.9, 1.3, 2.4, 1.6] * 2
    np.testing.assert_allclose(model.actuator_gainprm[:, 0], kp)
    np.testing.assert_allclose(model.actuator_biasprm[:, 1], np.negative(kp))
    np.testing.assert_allclose(model.actuator_forcerange[:, 1], stall)
    np.testing.assert_allclose(model.dof_frictionloss[6:], [0.04, 0.08, 0.02, 0.06] * 2)
    np.testing.assert_allclose(model.dof_damping[6:], np.divide(stall, [5.2, 4.0, 6.5, 4.6] * 2))


def test_a_target_arrives_when_the_servo_of_the_joint_is_due(lebot):
    """15 ms are three of a period's four substeps; 27.5 ms one period and a half substep more."""
    robot = planted(lebot, *SETS, *SETS)
    simulation = Simulation(robot, held=True)
    simulation.step((robot.stand + 0.1)[None])
    np.testing.assert_allclose(
        simulation.line.arrived()[0, :, :4] - robot.stand[:4],
        [[0.1, 0, 0, 0], [0.1, 0, 0, 0], [0.1, 0, 0, 0], [0.1, 0.1, 0, 0]], atol=1e-12,
    )  # fmt: skip
    simulation.step((robot.stand + 0.1)[None])
    np.testing.assert_allclose(
        simulation.line.arrived()[0, :, 3] - robot.stand[3], [0, 0.05, 0.1, 0.1], atol=1e-12
    )


def test_effort_is_that_of_each_servo(lebot):
    robot = planted(lebot, *SETS, *SETS)
    simulation = Simulation(robot, held=True)
    for _ in range(5):
        simulation.step((robot.stand + 5.0)[None])
    state = simulation.sense()
    damping = np.array([servo.damping for servo in robot.servos])
    stall = np.array([servo.stall_torque for servo in robot.servos])
    late = stall - damping * state.joint_velocity[0]
    np.testing.assert_allclose(state.joint_effort[0], late, atol=1e-9)


def test_what_is_drawn_in_training_lies_around_what_was_identified(lebot):
    """Latency of 0 to 30 ms around 20 ms: 5 to 35 ms. Without a file all is as it was."""
    ranges = Randomisation(latency=(0.0, 0.03), kp=(0.8, 1.2))
    simulation = Simulation(planted(lebot, WEAK), 300, randomisation=ranges, seed=1)
    simulation.step(np.tile(lebot.stand, (300, 1)))
    periods = simulation.line._age[:, 0, 0] * 4.0
    assert periods.min() >= 4
    gains = np.array([model.actuator_gainprm[0, 0] for model in simulation.models])
    assert gains.min() == pytest.approx(8.0, abs=0.1)
    assert gains.max() == pytest.approx(12.0, abs=0.1)
    drawn = [simulation._delays(latency)[0] * 5.0 for latency in (0.0, 0.015, 0.03)]
    assert drawn == pytest.approx([5.0, 20.0, 35.0])
    assert Simulation(lebot, randomisation=ranges)._delays(0.012)[0] == 2.0


def test_a_robot_without_a_file_moves_as_ever(lebot):
    """The class's servo written out for each joint gives the same bits."""
    rng = np.random.default_rng(0)
    plain, written_out = Simulation(lebot, 2), Simulation(planted(lebot, {}), 2)
    for _ in range(20):
        targets = lebot.stand + rng.uniform(-0.4, 0.4, (2, 8))
        plain.step(targets)
        written_out.step(targets)
    np.testing.assert_array_equal(plain.qpos, written_out.qpos)


def test_a_held_body_stays_where_it_is(robot):
    simulation = Simulation(robot, held=True, randomisation=NOMINAL)
    before = simulation.qpos[0, :7].copy()
    rng = np.random.default_rng(0)
    for _ in range(100):
        simulation.step(robot.stand + rng.uniform(-0.3, 0.3, (1, len(robot.joints))))
    np.testing.assert_allclose(simulation.qpos[0, :7], before, atol=1e-4)


def test_a_joint_table_may_name_servos_of_its_own(lebot, tmp_path):
    table = yaml.safe_load((lebot.urdf.parents[1] / 'config/robots/lebot.yaml').read_text())
    row = dict(table['servo'], delay=0.01)
    table['servos'] = [dict(row, kp=10.0 + i) for i in range(8)]
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(table))
    assert [servo.kp for servo in load_robot(path).joint_servos] == [10.0 + i for i in range(8)]
    table['servos'] = table['servos'][:3]
    path.write_text(yaml.safe_dump(table))
    with pytest.raises(ValueError, match='3 servos for 8 joints'):
        load_robot(path)


def test_joints_and_parameters_that_are_not_there_are_refused(lebot):
    taken = held(lebot, np.tile(lebot.stand, (60, 1)))
    with pytest.raises(ValueError, match=r"unknown parameters \['gain'\]; known are kp, damping"):
        identify_held(lebot, taken, parameters=['gain'])
    with pytest.raises(ValueError, match=r"unknown joints \['tail'\]; known are fl_hip"):
        identify_held(lebot, taken, joints=['tail'])
    only = identify_held(lebot, taken, parameters=['kp'], joints=['fl_hip'])
    assert only.joints[3].servo == lebot.servo
    assert only.joints[3].held['kp'] == 'not asked for'
    assert only.joints[0].held['delay'] == 'not asked for'


def test_a_robot_on_its_side_is_no_walk(lebot):
    """Rolled by 1 rad from tick 40 on, of 100; windows of 10 keep clear of it."""
    count = 100
    zeros = np.zeros((count, 8))
    level, rolled = [1.0, 0.0, 0.0, 0.0], [np.cos(0.5), np.sin(0.5), 0.0, 0.0]
    taken = Readings(
        np.arange(count) * 20_000_000, zeros, zeros, zeros, np.ones(count, bool),
        np.array([level] * 40 + [rolled] * 60), np.zeros((count, 3)),
    )  # fmt: skip
    assert walk_starts(lebot, taken, 10).tolist() == [6, 16, 26]
    lying = replace(taken, orientation=np.tile(rolled, (count, 1)))
    with pytest.raises(ValueError, match=r'none of 9 windows .* tilts by 1.00 rad at least'):
        walk_starts(lebot, lying, 10)
    with pytest.raises(ValueError, match='no imu/data'):
        walk_starts(lebot, replace(taken, orientation=None), 10)
