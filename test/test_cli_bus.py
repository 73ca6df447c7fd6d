"""`lebot bus` as a command, on emulated servos behind real pseudo-terminals."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lebot_rl_ros.hardware.calibration import Calibration, load_calibration
from lebot_rl_ros.robot import load_robot
from servo_rig import servo_rig

ROBOT = load_robot()
LEBOT = (sys.executable, '-m', 'lebot_rl_ros.cli.main', 'bus')
LIMIT = 60.0  # s against hanging


@pytest.fixture(params=['feetech', 'dynamixel'])
def rig(request, tmp_path):
    with servo_rig(ROBOT, tmp_path / 'ports', request.param) as rig:
        yield rig


@pytest.fixture
def feetech(tmp_path):
    with servo_rig(ROBOT, tmp_path / 'ports') as rig:
        yield rig


def words(rig, *arguments):
    return [*LEBOT, arguments[0], '--bus', rig.protocol, '--port', rig.port, *arguments[1:]]


def lebot(rig, *arguments, answer='', home=None):
    """Run it to its end."""
    environment = dict(os.environ) | ({'XDG_CONFIG_HOME': str(home)} if home else {})
    return subprocess.run(
        words(rig, *arguments), input=answer, text=True, capture_output=True, timeout=LIMIT,
        env=environment,
    )  # fmt: skip


def table(text):
    """Rows of words, by the first one."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}


def rename(rig, joint, id):
    """As if a servo had this id from the start."""
    bank, row = rig.emulated.bank, ROBOT.joint_names.index(joint)
    bank.store('id', id, row)
    bank.version += 1


def test_scan_finds_every_joint(rig):
    done = lebot(rig, 'scan')
    assert (done.returncode, done.stderr) == (0, '')
    model = {'feetech': ['STS3215', '(777)'], 'dynamixel': ['XL430-W250', '(1060)']}[rig.protocol]
    rows = table(done.stdout)
    assert {str(joint.id): ['1000000', *model, joint.name] for joint in ROBOT.joints}.items() <= (
        rows.items()
    )
    assert '8 servos' in done.stdout
    assert 'missing' not in done.stdout


@pytest.mark.parametrize('protocol', ['feetech', 'dynamixel'])
def test_scan_of_a_bus_of_another_process(tmp_path, protocol):
    link = tmp_path / 'port'
    responder = subprocess.Popen(
        [sys.executable, '-m', 'lebot_rl_ros.hardware.emulation.responder',
         '--protocol', protocol, '--link', str(link), '--ids', '11', '12', '21'],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert responder.stdout.readline() == 'ready\n'
        done = subprocess.run(
            [*LEBOT, 'scan', '--bus', protocol, '--port', str(link), '--ids', '0-50'],
            capture_output=True, text=True, timeout=LIMIT,
        )  # fmt: skip
    finally:
        responder.terminate()
        responder.communicate(timeout=LIMIT)
    assert done.returncode == 1
    missing = 'fr_knee (id 22), rl_hip (id 31), rl_knee (id 32), rr_hip (id 41), rr_knee (id 42)'
    assert f'3 servos; missing: {missing}' in done.stdout


def test_scan_says_what_is_missing_and_what_is_new(feetech):
    rename(feetech, 'fl_knee', 1)
    done = lebot(feetech, 'scan')
    assert done.returncode == 1
    assert '8 servos; missing: fl_knee (id 12)' in done.stdout
    assert 'lebot bus set-id 1 NEW' in done.stdout


def test_scan_finds_servos_at_another_rate(feetech):
    bank = feetech.emulated.bank
    bank.store('baud_rate', 4, 7)  # 115200 bit/s
    bank.version += 1
    done = lebot(feetech, 'scan', '--all-bauds', '--ids', '41-43')
    assert done.returncode == 1
    assert table(done.stdout)['42'][:2] == ['115200', 'STS3215']
    assert 'id 42 talks at 115200 baud, not at 1000000' in done.stdout
    assert '2 servos; missing: fl_hip (id 11)' not in done.stdout  # asked for beyond --ids
    assert '; missing: rr_knee (id 42)' in done.stdout


def test_ping(rig):
    done = lebot(rig, 'ping', 'fl_knee')
    assert done.returncode == 0
    assert re.match(r'id 12 \(fl_knee\): (STS3215, model 777|XL430-W250, model 1060)', done.stdout)
    done = lebot(rig, 'ping', '7')
    assert done.returncode == 1
    assert done.stderr == 'id 7 (no joint of the table): no answer at 1000000 baud\n'


def test_read_shows_every_register_with_its_unit(rig):
    done = lebot(rig, 'read', 'rr_hip')
    assert (done.returncode, done.stderr) == (0, '')
    rows = {line.split()[1]: line.split() for line in done.stdout.splitlines()}
    address = {'feetech': '5', 'dynamixel': '7'}[rig.protocol]
    assert rows['id'] == [address, 'id', '41', 'rw', 'kept']
    assert rows['register'][2] == 'rr_hip'
    # the body stands: 0.65 rad, and the right side's servos turn the other way
    assert float(rows['present_position'][2]) == pytest.approx(-0.65, abs=0.002)
    assert rows['present_position'][3:] == ['rad', 'r']
    everything = rig.emulated.bank.table.by_name
    assert set(rows) - {'register'} == set(everything)


def test_read_of_all_has_a_column_for_each_joint(rig):
    done = lebot(rig, 'read')
    rows = {line.split()[1]: line.split() for line in done.stdout.splitlines()}
    assert rows['register'][2:10] == list(ROBOT.joint_names)
    assert rows['id'][2:10] == [str(joint.id) for joint in ROBOT.joints]


def test_set_id_asks_first_and_refuses_a_taken_one(rig):
    done = lebot(rig, 'set-id', '12', '13', answer='n\n')
    assert done.returncode == 1
    assert 'nothing was changed' in done.stdout
    assert 'connect the one alone' in done.stdout.lower()
    assert 12 in rig.emulated.bank.raw('id')
    done = lebot(rig, 'set-id', '12', '11', '--yes')
    assert done.returncode == 2
    assert done.stderr == 'lebot bus: id 11 is taken; give that servo another one first\n'
    done = lebot(rig, 'set-id', '12', '999', '--yes')
    assert re.search('the new id is 999, must be from 0 to 25[23]', done.stderr)
    done = lebot(rig, 'set-id', '12', '13', answer='y\n')
    assert done.returncode == 0, done.stderr
    assert 'servo 12 is 13 now' in done.stdout
    assert rig.emulated.bank.raw('id')[1] == 13


def test_monitor_once(rig, tmp_path):
    done = lebot(rig, 'monitor', '--once', home=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    rows = table(done.stdout)
    # 0.65 and -1.27 rad in degrees, joint side and servo side
    joint, servo = ([float(rows[name][i]) for name in ('fr_hip', 'fl_knee')] for i in (1, 2))
    assert joint == pytest.approx([37.2, -72.8], abs=0.2)
    assert servo == pytest.approx([-37.2, -72.8], abs=0.2)
    assert rows['fl_knee'][0] == '12'
    assert rows['fl_hip'][5] == '7.4'
    assert rows['fl_hip'][7] == '0'


def test_monitor_tells_alarms_and_missing_servos(tmp_path):
    # faults count from the first torque
    with servo_rig(ROBOT, tmp_path, faults=('heat:fl_knee:90@0', 'mute:rr_hip@0')) as rig:
        rig.emulated.bank.store('torque_enable', 1, 0)
        lebot(rig, 'monitor', '--once', home=tmp_path)  # which lets time pass
        done = lebot(rig, 'monitor', '--once', home=tmp_path)
        assert done.returncode == 1
        rows = table(done.stdout)
        assert rows['fl_knee'][6:] == ['90', '0', 'heat']
        assert rows['rr_hip'][1:] == ['-', '-', '-', '-', '-', '-', '1']


def test_monitor_goes_on_until_it_is_interrupted(feetech, tmp_path):
    process = subprocess.Popen(
        words(feetech, 'monitor', '--rate', '50'), stdout=subprocess.PIPE, text=True
    )
    lines = [process.stdout.readline() for _ in range(30)]
    assert sum(line.startswith('joint') for line in lines) == 4  # 9 lines a table
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0


def test_monitor_on_a_terminal_is_a_live_table(feetech):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        words(feetech, 'monitor'), stdout=slave, stderr=slave,
        env=dict(os.environ) | {'TERM': 'xterm', 'COLUMNS': '150', 'LINES': '40'},
    )  # fmt: skip
    os.close(slave)
    shown = b''
    while shown.count(b'rr_knee') < 2 and select.select([master], [], [], LIMIT)[0]:
        shown += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:  # it draws once more, which has to be taken off it
        if select.select([master], [], [], 0.05)[0]:
            try:
                os.read(master, 65536)
            except OSError:
                break
    assert process.wait(LIMIT) == 0
    os.close(master)
    assert b'servo deg' in shown
    assert shown.count(b'rr_knee') >= 2


def test_calibrate_finds_travel_and_keeps_it(feetech, tmp_path):
    done = lebot(
        feetech, 'calibrate', '--joint', 'fl_knee', '--speed', '3', '--yes', home=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert 'Put the robot on a stand' in done.stdout
    path = tmp_path / 'lebot' / 'calibration' / 'lebot.yaml'
    assert f'written to {path}' in done.stdout
    found = load_calibration(ROBOT, path).joints['fl_knee']
    # the body stops 0.2 rad behind the table's limits
    assert (found.lower, found.upper) == pytest.approx((-2.5, -0.04), abs=0.01)
    assert table(done.stdout)['fl_knee'][:1] != []
    assert not feetech.torque.any()
    assert feetech.body.together == 1


def until(condition):
    """Wait for what another process does."""
    end = time.monotonic() + LIMIT
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_torque_is_off_after_a_calibration_that_is_ended(feetech, tmp_path, number):
    file = tmp_path / 'mine.yaml'
    process = subprocess.Popen(
        words(feetech, 'calibrate', '--joint', 'fl_knee', '--speed', '0.1', '--yes')
        + ['--file', str(file)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert until(lambda: feetech.torque[1])
    process.send_signal(number)
    process.communicate(timeout=LIMIT)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert until(lambda: not feetech.torque.any())
    assert not file.exists()


def test_calibrate_says_where_a_joint_stops_too_soon(feetech, tmp_path):
    feetech.body.lower[1] = -2.0
    done = lebot(
        feetech, 'calibrate', '--joint', 'fl_knee', '--speed', '3', '--yes', home=tmp_path
    )
    assert 'look at fl_knee: travel found is -2.00 to -0.04 rad' in done.stdout


def test_zeros_are_read_in_a_pose_and_written(rig, tmp_path):
    rig.body.position = ROBOT.crouch + 0.1
    file = tmp_path / 'mine.yaml'
    done = lebot(rig, 'calibrate', '--zero-here', 'crouch', '--file', str(file), answer='y\n')
    assert done.returncode == 0, done.stderr
    zeros = [load_calibration(ROBOT, file).joints[name].zero for name in ROBOT.joint_names]
    signs = np.array([joint.sign for joint in ROBOT.joints])
    assert zeros == pytest.approx(list(0.1 * signs), abs=0.002)
    # and it is used
    rows = table(lebot(rig, 'monitor', '--once', '--calibration', str(file)).stdout)
    assert float(rows['fr_hip'][1]) == pytest.approx(np.degrees(1.25), abs=0.2)


def test_calibrate_does_nothing_unless_told(rig, tmp_path):
    file = tmp_path / 'mine.yaml'
    done = lebot(rig, 'calibrate', '--file', str(file), answer='\n')
    assert done.returncode == 1
    assert 'nothing was done' in done.stdout
    assert not file.exists()
    assert rig.body.together == 0


def test_zeros_across_the_wrap_are_refused_and_not_written(feetech, tmp_path):
    feetech.body.lower[:], feetech.body.upper[:] = -9, 9
    feetech.body.position = ROBOT.crouch.copy()
    feetech.body.position[1] -= 0.85  # the knee's servo would turn to -3.15 rad
    file = tmp_path / 'mine.yaml'
    done = lebot(feetech, 'calibrate', '--zero-here', 'crouch', '--file', str(file), '--yes')
    assert done.returncode == 2
    assert 'joint fl_knee: its travel' in done.stderr
    assert 'remount the horn' in done.stderr
    assert not file.exists()


def test_a_sign_is_seen_and_written(feetech, tmp_path):
    file = tmp_path / 'mine.yaml'
    feetech.body.hand[2] = -1.0
    done = lebot(feetech, 'calibrate', '--sign', '--joint', 'fr_hip', '--file', str(file), '--yes')
    assert done.returncode == 0, done.stderr
    # turned against its direction, as if it were mounted the other way round
    assert load_calibration(ROBOT, file).joints['fr_hip'].sign == 1
    assert (
        load_calibration(ROBOT, file).joints
        == Calibration('lebot').updated(ROBOT, 'fr_hip', sign=1).joints
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('ping', 'tail'), "'tail' is neither an id nor a joint; joints are fl_hip, "),
        (('calibrate', '--joint', 'tail'), "no joint 'tail'; joints are fl_hip, "),
        (('monitor', '--rate', '0'), '--rate is 0.0, must be above 0 and at most 100'),
        (('calibrate', '--speed', '9', '--yes'), '--speed is 9.0, must be above 0 and at most 5'),
        (('scan', '--ids', '9-5'), "--ids is '9-5', must be FIRST-LAST from 0 to 253"),
        (('scan', '--ids', 'all'), "--ids is 'all', must be FIRST-LAST from 0 to 253"),
        (('read', '--robot', 'dog'), "no robot 'dog'; known are"),
    ],
)
def test_wrong_arguments_are_told_with_their_choices(feetech, arguments, message):
    done = lebot(feetech, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f'lebot bus: {message}')
    assert 'Traceback' not in done.stderr


def test_a_port_that_is_not_there_is_told_with_those_that_are(feetech, tmp_path):
    done = subprocess.run(
        [*LEBOT, 'scan', '--port', str(tmp_path / 'none')], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert 'is not there; ports that are' in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_cable_that_is_pulled_ends_it_with_a_word(feetech):
    process = subprocess.Popen(
        words(feetech, 'monitor'), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(9):
        process.stdout.readline()
    feetech.unplug()
    _, error = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert 'is lost' in error
    assert 'Traceback' not in error
