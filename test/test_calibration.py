"""Joint angles from servo angles: the map, the file, and the procedures on emulated servos."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.hardware.buses import open_bus
from lebot_rl_ros.hardware.by_hand import find_sign, positive_direction, read_zeros
from lebot_rl_ros.hardware.calibration import (
    Calibration,
    JointCalibration,
    calibration_path,
    load_calibration,
    save_calibration,
)
from lebot_rl_ros.hardware.joints import JointMap
from lebot_rl_ros.hardware.travel import CalibrationError, Gentle, find_travel
from lebot_rl_ros.robot import load_robot
from servo_rig import servo_rig

ROBOT = load_robot()
KNEE = 1  # fl_knee
STEP = 2 * np.pi / 4096  # rad, what a servo can tell


def test_the_map_is_sign_times_servo_less_zero():
    joints = JointMap(ROBOT, Calibration('lebot', {'fr_hip': JointCalibration(-1, 0.25)}))
    servo = np.full(8, 0.5)
    # fl: 1 * (0.5 - 0), fr_hip: -1 * (0.5 - 0.25), fr_knee: -1 * (0.5 - 0)
    np.testing.assert_allclose(joints.to_joint(servo)[:4], [0.5, 0.5, -0.25, -0.5])
    np.testing.assert_allclose(joints.to_servo(np.array([0.5, 0.5, -0.25, -0.5] * 2))[:4], 0.5)
    np.testing.assert_allclose(joints.to_joint_velocity(servo)[:4], [0.5, 0.5, -0.5, -0.5])
    np.testing.assert_allclose(joints.to_servo_velocity(servo)[:4], [0.5, 0.5, -0.5, -0.5])
    # half of 1.9 N·m
    np.testing.assert_allclose(joints.to_effort(servo)[:4], [0.95, 0.95, -0.95, -0.95])
    np.testing.assert_allclose(joints.to_load(joints.to_effort(servo)), servo)


@given(st.lists(st.floats(-3, 3), min_size=12, max_size=12))
def test_there_and_back_is_where_one_was(position):
    joints = JointMap(load_robot('test/robots/twelve.yaml'))
    position = np.array([position, position[::-1]])  # any leading shape
    np.testing.assert_allclose(joints.to_joint(joints.to_servo(position)), position, atol=1e-12)


def test_travel_that_crosses_the_wrap_is_refused():
    # fl_knee: -2.30 to -0.24 rad; with zero -0.8 the servo would turn to -3.10 rad, -177.6 degrees
    with pytest.raises(
        ValueError, match=r'joint fl_knee: its travel, -177.6 to -59.6 degrees'
    ) as e:
        JointMap(ROBOT, Calibration('lebot', {'fl_knee': JointCalibration(1, -0.8)}))
    assert 'remount the horn, or set the offset' in str(e.value)
    # three degrees are kept: -2.30 - 0.78 is -176.5
    JointMap(ROBOT, Calibration('lebot', {'fl_knee': JointCalibration(1, -0.78)}))
    with pytest.raises(ValueError, match=r'joint fr_knee: its travel, 59.6 to 177.6'):
        JointMap(ROBOT, Calibration('lebot', {'fr_knee': JointCalibration(-1, 0.8)}))


def test_a_calibration_takes_the_place_of_sign_and_zero_alone():
    calibration = Calibration('lebot', {'fl_hip': JointCalibration(-1, 0.1, -0.6, 1.9)})
    robot = calibration.apply(ROBOT)
    assert robot.joints[0] == replace(ROBOT.joints[0], sign=-1, zero=0.1)
    assert robot.joints[1:] == ROBOT.joints[1:]
    with pytest.raises(ValueError, match="of robot 'lebot', not of 'twelve'"):
        calibration.apply(load_robot('test/robots/twelve.yaml'))
    with pytest.raises(ValueError, match="has joint 'tail'; lebot has fl_hip, "):
        Calibration('lebot', {'tail': JointCalibration(1, 0.0)}).apply(ROBOT)


def test_travel_that_ends_before_the_limits_is_told():
    calibration = Calibration('lebot').updated(ROBOT, 'fl_hip', lower=-0.5, upper=1.9)
    assert calibration.joints['fl_hip'] == JointCalibration(1, 0.0, -0.5, 1.9)  # zero of the table
    (line,) = calibration.short_travel(ROBOT)
    assert line.startswith(
        'fl_hip: travel found is -0.50 to 1.90 rad, the joint table allows -0.55'
    )
    wide = calibration.updated(ROBOT, 'fl_hip', lower=-0.6)
    assert wide.short_travel(ROBOT) == []
    assert wide.date.endswith('+00:00')


def test_a_calibration_comes_back_from_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path))
    path = tmp_path / 'lebot' / 'calibration' / 'lebot.yaml'
    assert calibration_path(ROBOT) == path
    assert load_calibration(ROBOT) == Calibration('lebot')
    calibration = Calibration('lebot').updated(ROBOT, 'fl_hip', zero=0.125, lower=-0.6, upper=2.0)
    save_calibration(calibration, path)
    assert load_calibration(ROBOT) == calibration
    assert load_calibration(ROBOT, str(path)) == calibration
    save_calibration(calibration.updated(ROBOT, 'fl_knee', sign=-1), path)
    assert list(load_calibration(ROBOT).joints) == ['fl_hip', 'fl_knee']
    assert [entry.name for entry in path.parent.iterdir()] == ['lebot.yaml']


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'lebot.yaml'
    old = Calibration('lebot').updated(ROBOT, 'fl_hip', zero=0.1)
    save_calibration(old, path)

    def full(_):
        raise OSError('no space left')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(OSError, match='no space'):
        save_calibration(old.updated(ROBOT, 'fl_hip', zero=0.2), path)
    assert load_calibration(ROBOT, path) == old
    assert [entry.name for entry in tmp_path.iterdir()] == ['lebot.yaml']


GOOD = {'sign': 1, 'zero': 0.1, 'lower': None, 'upper': None}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'schema': 2}, 'schema is 2, must be 1'),
        ({'robot': 'dog'}, "of robot 'dog', not of 'lebot'"),
        ({'robot': 3}, 'robot is 3, must be a text'),
        ({'joints': []}, r'joints is \[\], must be a table'),
        ({'joints': {'tail': GOOD}}, "has joint 'tail'; lebot has fl_hip"),
        ({'joints': {'fl_hip': 0.1}}, 'joints.fl_hip: keys must be sign, zero, lower, upper'),
        ({'joints': {'fl_hip': GOOD | {'sign': 0}}}, 'joints.fl_hip.sign is 0, must be 1 or -1'),
        ({'joints': {'fl_hip': GOOD | {'sign': True}}}, 'sign is True'),
        ({'joints': {'fl_hip': GOOD | {'zero': None}}}, 'zero is None, must be an angle in rad'),
        ({'joints': {'fl_hip': GOOD | {'zero': float('nan')}}}, 'zero is nan'),
        ({'joints': {'fl_hip': GOOD | {'upper': 180}}}, 'upper is 180, must be an angle in rad'),
        ({'joints': {'fl_hip': GOOD | {'lower': 1, 'upper': 0}}}, 'lower is 1, must be below'),
        ({'more': 1}, 'keys must be schema, robot, date, joints; found .*more'),
    ],
)
def test_a_wrong_file_is_refused_with_its_key_and_value(tmp_path, change, message):
    path = tmp_path / 'mine.yaml'
    table = {'schema': 1, 'robot': 'lebot', 'date': '', 'joints': {'fl_hip': GOOD}}
    path.write_text(yaml.safe_dump(table))
    assert load_calibration(ROBOT, path).joints['fl_hip'].zero == 0.1
    path.write_text(yaml.safe_dump(table | change))
    with pytest.raises(ValueError, match=f'mine.yaml.*{message}'):
        load_calibration(ROBOT, path)


def test_what_is_not_yaml_or_not_there_is_told(tmp_path):
    path = tmp_path / 'mine.yaml'
    with pytest.raises(FileNotFoundError, match=r'mine.yaml'):
        load_calibration(ROBOT, path)
    for text in (b'{', b'\xff\xfe\x00', b'just words', b''):
        path.write_bytes(text)
        with pytest.raises(ValueError, match=r'mine.yaml'):
            load_calibration(ROBOT, path)


def test_the_positive_direction_is_told_by_what_the_foot_does():
    # The hip turns about y (left): from below it, the foot goes back (rotation from z to x).
    assert positive_direction(ROBOT, 'fl_hip') == 'fl_foot goes back'
    assert positive_direction(ROBOT, 'rr_knee') == 'rr_foot goes back'
    twelve = load_robot('test/robots/twelve.yaml')
    assert positive_direction(twelve, 'lf_abduction') == 'lf_toe goes left'


@pytest.fixture(params=['feetech', 'dynamixel'])
def rig(request, tmp_path):
    with servo_rig(ROBOT, tmp_path, request.param) as rig:
        yield rig


@pytest.fixture
def bus(rig):
    bus = open_bus(rig.protocol, rig.port, 1_000_000, [joint.id for joint in ROBOT.joints])
    yield bus
    bus.close()


def no_wait(_):
    """In lockstep the emulated robot moves when it is read."""


def all_limp(rig, bus):
    """Torque is off as the servos tell it, and nothing weakens them any more."""
    assert (bus.torque() == 0).all()
    name = {'feetech': 'torque_limit', 'dynamixel': 'goal_pwm'}[rig.protocol]
    assert bus.get(bus.ids[KNEE], name) == pytest.approx(1.0)
    return True


@pytest.mark.parametrize('joint', ['fl_knee', 'fr_knee'])
def test_travel_is_found_gently_and_by_one_joint_alone(rig, bus, joint):
    row = ROBOT.joint_names.index(joint)
    start, said = rig.body.position.copy(), []
    low, high = find_travel(bus, ROBOT, joint, say=said.append, pause=no_wait)
    # the body stops 0.2 rad behind the table's limits; the right side's servos turn the other way
    ends = ROBOT.joints[row].sign * np.array([-2.5, -0.04])
    assert (low, high) == pytest.approx(tuple(np.sort(ends)), abs=2 * STEP)
    assert rig.body.together == 1
    assert rig.body.most[row] == pytest.approx(Gentle().torque, abs=0.01)
    np.testing.assert_allclose(rig.body.position, start, atol=0.06)
    assert any('stops at' in line for line in said)
    assert all_limp(rig, bus)


def test_travel_across_the_wrap_is_refused_and_torque_is_off(rig, bus):
    rig.body.lower[KNEE] = -3.5
    with pytest.raises(CalibrationError, match=r'fl_knee: no end of its travel up to -17[78]'):
        find_travel(bus, ROBOT, 'fl_knee', say=no_wait, pause=no_wait)
    assert all_limp(rig, bus)


@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError])
def test_torque_is_off_however_it_ends(rig, bus, error):
    left = 30

    def pause(_):
        nonlocal left
        left -= 1
        if not left:
            assert rig.torque.tolist() == [False, True] + 6 * [False]
            raise error

    with pytest.raises(error):
        find_travel(bus, ROBOT, 'fl_knee', say=no_wait, pause=pause)
    assert all_limp(rig, bus)


def test_a_joint_that_does_not_move_has_no_travel(rig, bus):
    rig.body.lower[:] = rig.body.upper[:] = rig.body.position
    with pytest.raises(CalibrationError, match=r'fl_knee: moved by 0.\d degrees only'):
        find_travel(bus, ROBOT, 'fl_knee', say=no_wait, pause=no_wait)
    assert all_limp(rig, bus)


def test_a_servo_that_falls_silent_ends_it(tmp_path):
    with servo_rig(ROBOT, tmp_path, faults=('mute:fl_knee@0.5',)) as rig:
        bus = open_bus('feetech', rig.port, 1_000_000, [joint.id for joint in ROBOT.joints])
        with pytest.raises(CalibrationError, match='fl_knee: servo 12 does not answer'):
            find_travel(bus, ROBOT, 'fl_knee', say=no_wait, pause=no_wait)
        assert not rig.torque.any()
        with pytest.raises(CalibrationError, match=r'no answer from fl_knee \(id 12\)'):
            read_zeros(bus, ROBOT, ROBOT.joint_names, 'crouch', say=no_wait, pause=no_wait)
        bus.close()


def test_zeros_are_read_in_a_pose(rig, bus):
    bus.set_torque(True)
    rig.body.position = ROBOT.crouch + 0.1  # the horns are off by that
    bus.set_torque(False)
    zeros = read_zeros(bus, ROBOT, ROBOT.joint_names, 'crouch', say=no_wait, pause=no_wait)
    # joint = sign * (servo - zero): a servo of the right side is off the other way
    signs = [joint.sign for joint in ROBOT.joints]
    assert list(zeros.values()) == pytest.approx([0.1 * sign for sign in signs], abs=STEP)
    assert (bus.torque() == 0).all()
    with pytest.raises(ValueError, match="pose is 'sit'; choices are stand, crouch"):
        read_zeros(bus, ROBOT, ['fl_hip'], 'sit', say=no_wait)


def test_zeros_are_not_read_of_a_robot_that_moves(rig, bus):
    rig.body.hand[0] = 0.2  # rad/s, for half a second
    with pytest.raises(CalibrationError, match=r'fl_hip moved by [56]\.\d degrees'):
        read_zeros(bus, ROBOT, ['fl_hip'], 'crouch', say=no_wait, pause=no_wait)


@pytest.mark.parametrize(('joint', 'sign'), [('fl_hip', 1), ('fr_hip', -1)])
def test_a_sign_is_seen_by_turning_the_joint(rig, bus, joint, sign):
    row = ROBOT.joint_names.index(joint)
    said = []
    rig.body.hand[row] = 1.0  # in the joint's positive direction
    assert find_sign(bus, ROBOT, joint, say=said.append, pause=no_wait) == sign
    assert 'foot goes back' in said[0]
    rig.body.hand[row] = 0.0
    with pytest.raises(CalibrationError, match='was not turned by 17 degrees within 1 s'):
        find_sign(bus, ROBOT, joint, say=no_wait, pause=no_wait, seconds=1.0)


def test_a_sign_is_seen_across_the_wrap(rig, bus):
    rig.body.upper[0] = 4.0
    rig.body.position[0] = 3.1
    rig.body.hand[0] = 1.0
    assert find_sign(bus, ROBOT, 'fl_hip', say=no_wait, pause=no_wait) == 1
