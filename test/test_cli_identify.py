"""`lebot identify` on bags: what it writes, what the graph takes of it, what it refuses."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import yaml

from identify_samples import held, limited, planted, write_bag
from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.cli.identify_bag import read_readings
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.robot.servos import ServoFile, with_servos, write_servos
from lebot_rl_ros.sim.identify_motion import excitation

WEAK = {'kp': 10.0, 'stall_torque': 1.5, 'no_load_speed': 4.2, 'dead_band': 0.012, 'delay': 0.02}


@pytest.fixture(scope='module')
def taken():
    """The knees' half of the motion, of a weak robot whose body is held."""
    robot = planted(load_robot(), WEAK)
    targets = limited(robot, excitation(robot))
    return held(robot, targets[len(targets) // 2 :])


@pytest.fixture(scope='module')
def bag(taken, tmp_path_factory):
    return write_bag(tmp_path_factory.mktemp('bags') / 'air', load_robot(), taken)


@pytest.fixture(scope='module')
def written(bag, tmp_path_factory):
    """Servo file, picture and exit status of one run."""
    folder = tmp_path_factory.mktemp('out')
    out, picture = folder / 'servo.yaml', folder / 'servo.png'
    words = ['identify', str(bag), '--out', str(out), '--picture', str(picture), '--quiet']
    status = main([*words, '--joints', 'fl_knee', 'fl_hip'])
    return out, picture, status


def test_readings_come_out_of_a_bag_as_they_were(bag, taken, lebot):
    """Joints in the table's order, stamps joined, the truth of the simulator left alone."""
    with Bag(bag) as opened:
        found = read_readings(opened, lebot)
    for name in ('stamp', 'command', 'position', 'velocity', 'torque', 'orientation'):
        np.testing.assert_array_equal(getattr(found, name), getattr(taken, name), err_msg=name)
    with Bag(bag) as opened:
        part = read_readings(opened, lebot, start=1.0, end=2.0)
    assert len(part.stamp) == 51
    assert part.stamp[0] == 1_000_000_000


def test_the_file_has_servos_errors_reasons_and_where_they_come_from(written, bag, lebot):
    out, _, status = written
    assert status == 0
    content = yaml.safe_load(out.read_text())
    knee = content['servos']['fl_knee']
    assert knee['kp'] == pytest.approx(10.0, rel=0.02)
    assert knee['delay'] == pytest.approx(0.02, abs=5e-4)
    assert content['uncertainty']['fl_knee']['kp'] < 0.3
    assert content['servos']['rr_knee']['kp'] == 14.0  # nobody asked for it
    assert content['held']['rr_knee']['kp'] == 'not asked for'
    # A hip that stands tells nothing.
    assert content['held']['fl_hip']['kp'].startswith('not identifiable from this motion')
    assert content['servos']['fl_hip']['kp'] == 14.0
    provenance = content['provenance']
    assert (
        provenance['bag_sha256']
        == hashlib.sha256(
            b''.join(file.read_bytes() for file in sorted(bag.glob('*.mcap')))
        ).hexdigest()
    )
    assert provenance['body'] == 'held'
    errors = provenance['error_mrad_rms']
    assert errors['half_second_after']['fl_knee'] < 0.2 * errors['half_second_before']['fl_knee']
    assert provenance['date'].endswith('+00:00')
    assert 'stall_torque N·m' in out.read_text()


def test_the_picture_is_a_picture(written):
    assert written[1].read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'
    assert written[1].stat().st_size > 20_000


def test_the_simulator_takes_the_file(written, lebot):
    robot = with_servos(lebot, written[0])
    assert robot.joint_servos[1].kp == pytest.approx(10.0, rel=0.02)
    assert robot.joint_servos[7] == lebot.servo


@pytest.mark.parametrize(('backend', 'node'), [('mujoco', 'sim'), ('wire', 'emulator')])
def test_the_graph_hands_the_file_to_the_simulator(backend, node):
    stack = walk_stack({'backend': backend, 'servos': 'mine.yaml'})
    told = {spec.name: spec.parameters.get('servos') for spec in stack.nodes}
    assert told[node] == 'mine.yaml'
    assert {name for name, value in told.items() if value} == {node}


def test_real_servos_are_as_they_are():
    with pytest.raises(ValueError, match=r'servos is .*it is for mujoco and wire'):
        walk_stack({'backend': 'hardware', 'servos': 'mine.yaml'})


def test_a_walk_with_a_file_of_another_robot_is_refused(tmp_path, lebot, capsys):
    path = tmp_path / 'servo.yaml'
    write_servos(path, ServoFile('ant', dict.fromkeys(lebot.joint_names, lebot.servo)))
    assert main(['walk', '--servos', str(path), '--out', str(tmp_path / 'out')]) == 2
    assert "is of robot 'ant', but this is 'lebot'" in capsys.readouterr().err
    assert main(['walk', '--servos', str(tmp_path / 'none'), '--out', str(tmp_path)]) == 2
    assert 'no servo file' in capsys.readouterr().err


def test_what_a_servo_cannot_be_is_refused_before_anything_is_written(tmp_path, lebot):
    with pytest.raises(ValueError, match=r'rr_hip: kp is -1.0, must be a number of 0.1 to 1000'):
        ServoFile('lebot', {'rr_hip': replace(lebot.servo, kp=-1.0)})


@pytest.fixture(scope='module')
def short(taken):
    """A second and a half."""
    return replace(
        taken, **{name: getattr(taken, name)[:75] for name in (
            'stamp', 'command', 'position', 'velocity', 'torque', 'orientation', 'angular_velocity'
        )},
    )  # fmt: skip


def test_servos_without_torque_do_not_count(short, lebot, tmp_path):
    with Bag(write_bag(tmp_path / 'bag', lebot, short, relaxed=30)) as opened:
        found = read_readings(opened, lebot)
    assert found.torque.tolist() == [False] * 30 + [True] * 45


def test_a_bag_of_another_robot_is_refused(short, lebot, tmp_path, capsys):
    names = [f'leg_{i}' for i in range(8)]
    folder = write_bag(tmp_path / 'bag', lebot, short, names=names)
    assert main(['identify', str(folder)]) == 2
    assert 'has the joints leg_7' in capsys.readouterr().err


def test_two_robots_in_a_bag_need_a_namespace(short, lebot, tmp_path):
    one = write_bag(tmp_path / 'bag', lebot, short, namespace='/left')
    with Bag(one) as opened:
        found = read_readings(opened, lebot, namespace='left')
        np.testing.assert_array_equal(found.position, short.position)
        np.testing.assert_array_equal(read_readings(opened, lebot).position, short.position)
        with pytest.raises(BagError, match='right'):
            read_readings(opened, lebot, namespace='right')


def test_a_bag_that_is_too_short_says_how_much_there_is(short, lebot, tmp_path, capsys):
    few = replace(short, torque=short.torque)
    folder = write_bag(tmp_path / 'bag', lebot, few, relaxed=60)
    assert main(['identify', str(folder), '--body', 'held']) == 2
    assert 'hold together in 75 readings' in capsys.readouterr().err


def test_joints_cannot_be_told_apart_in_a_walk(short, lebot, tmp_path, capsys):
    folder = write_bag(tmp_path / 'bag', lebot, short)
    assert main(['identify', str(folder), '--body', 'free', '--joints', 'fl_hip']) == 2
    assert 'only where the body is held' in capsys.readouterr().err


def test_a_file_is_checked_against_another_bag_without_a_fit(
    written, bag, tmp_path, capsys, lebot
):
    out, picture = tmp_path / 'not.yaml', tmp_path / 'check.png'
    words = ['identify', str(bag), '--check', str(written[0]), '--out', str(out)]
    assert main([*words, '--picture', str(picture)]) == 0
    said = capsys.readouterr().out
    knee, other = (
        next(line for line in said.splitlines() if line.startswith(name) and '->' in line)
        for name in ('fl_knee', 'rr_knee')
    )
    assert float(knee.rpartition('(')[2].rstrip('x)')) > 5.0
    assert other.endswith('(1.0x)')  # it has the joint table's servo
    assert picture.is_file()
    assert not out.exists()


def test_training_refuses_a_file_that_is_not_there(tmp_path, capsys):
    words = ['train', 'base', '--out', str(tmp_path / 'policy'), '--work', str(tmp_path / 'work')]
    assert main([*words, '--servos', str(tmp_path / 'none.yaml')]) == 2
    assert 'no servo file' in capsys.readouterr().err
    assert not (tmp_path / 'policy').exists()
