"""The walking graph over emulated wires: real drivers, real bytes, MuJoCo behind them."""

import json

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Imu, JointState
from std_srvs.srv import SetBool, Trigger

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.convert import to_ns
from ros_graph import environment, fresh_domain, lebot, node_process, probe

pytestmark = pytest.mark.ros
ROBOT = load_robot()
PERIOD = ROBOT.control_period_ns
BUSES = ('feetech', 'dynamixel')


def walk(folder, *words):
    """Report of a walk as fast as it goes."""
    file = folder / f'{len(list(folder.iterdir()))}.json'
    done = lebot(
        'walk', '--quiet', '--real-time-factor', '0', '--out', str(folder / file.stem),
        '--json', str(file), *words, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text())


@pytest.mark.alone
@pytest.mark.parametrize('bus', BUSES)
def test_it_walks_over_wires_as_it_does_without_and_repeats(tmp_path, bus):
    plain = walk(tmp_path, '--duration', '12')
    wired = [walk(tmp_path, '--duration', '12', '--backend', 'wire', '--bus', bus) for _ in '12']
    assert wired[0]['falls'] == 0
    assert wired[0]['missed_ticks'] == 0
    assert wired[0]['ticks'] == 600
    assert wired[0]['distance_m'] == pytest.approx(plain['distance_m'], rel=0.1)
    assert wired[0]['final_pose'] == wired[1]['final_pose']  # to the last bit


def run_stack(tmp_path, domain, **arguments):
    """A runner of a robot behind wires; its time waits for a machine that is busy with tests."""
    given = {'backend': 'wire', 'policy': 'trot', 'vx': 0.1, 'ports': str(tmp_path / 'ports')}
    given |= {'lockstep': True}
    return Runner(walk_stack(given | arguments), tmp_path / 'logs', print, environment(domain))


def torque(listening):
    """Torque of each servo as its own register has it, from the emulator's health."""
    return listening.health.get('/emulator', (0, '', {}))[2].get('torque')


def test_services_of_the_driver_work_over_wires(tmp_path):
    domain = fresh_domain()
    runner = run_stack(tmp_path, domain)
    with probe(domain) as listening, runner:
        applied = listening.listen(JointState, 'joint_commands_applied', 1000)
        joints = listening.listen(JointState, 'joint_states', 1000)
        imus = listening.listen(Imu, 'imu/data', 1000)

        def mode_is(mode):
            listening.until(lambda: applied and applied[-1].header.frame_id == mode, mode)

        mode_is('track')
        assert 'stop requested' in listening.call(Trigger, '/servo_driver/stop').message
        mode_is('crouch')
        mode_is('relaxed')
        listening.until(lambda: torque(listening) == str([0] * 8), 'torque off')
        assert 'stop requested' in listening.call(Trigger, '/servo_driver/clear_faults').message
        mode_is('track')
        listening.until(lambda: torque(listening) == str([1] * 8), 'torque on')
        off = SetBool.Request(data=False)
        assert listening.call(SetBool, '/servo_driver/set_torque', off).success
        mode_is('relaxed')
        assert 'origin' in listening.call(Trigger, '/sim/reset').message
        assert listening.call(
            SetBool, '/servo_driver/set_torque', SetBool.Request(data=True)
        ).success
        mode_is('stand_up')
        mode_is('track')
        assert runner.stop() == []
    log = (tmp_path / 'logs' / 'servo_driver.log').read_text()
    assert 'TRACK -> CROUCH the driver was stopped' in log
    assert 'lost' not in log
    positions = np.array([message.position for message in applied])
    assert ((positions >= ROBOT.lower) & (positions <= ROBOT.upper)).all()
    limp = np.array([message.header.frame_id == 'relaxed' for message in applied])
    steps = np.diff(positions, axis=0)[~limp[1:] & ~limp[:-1]]
    assert np.abs(steps).max() <= ROBOT.limits.velocity / ROBOT.control_rate + 1e-9
    assert np.isfinite([message.position for message in joints]).all()
    assert 9.0 < np.median([message.linear_acceleration.z for message in imus]) < 10.6


@pytest.mark.parametrize('bus', BUSES)
def test_a_killed_driver_leaves_no_torque(tmp_path, bus):
    domain = fresh_domain()
    with probe(domain) as listening, run_stack(tmp_path, domain, bus=bus) as runner:
        listening.until(lambda: torque(listening) == str([1] * 8), 'torque on')
        runner.processes['servo_driver'].popen.kill()
        assert listening.until(lambda: torque(listening) == str([0] * 8), 'torque off')


def test_the_driver_is_a_managed_node(tmp_path):
    domain = fresh_domain()

    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return listening.call(ChangeState, '/servo_driver/change_state', request).success

    with probe(domain) as listening, run_stack(tmp_path, domain):
        applied = listening.listen(JointState, 'joint_commands_applied', 1000)
        listening.until(lambda: applied and applied[-1].header.frame_id == 'track', 'track')
        assert change(Transition.TRANSITION_DEACTIVATE)
        listening.until(lambda: applied[-1].header.frame_id == 'relaxed', 'relaxed')
        listening.until(lambda: torque(listening) == str([0] * 8), 'torque off')
        assert 'crouch' in [message.header.frame_id for message in applied]
        assert change(Transition.TRANSITION_CLEANUP)
        assert change(Transition.TRANSITION_CONFIGURE)
        assert change(Transition.TRANSITION_ACTIVATE)
        listening.until(lambda: applied[-1].header.frame_id == 'track', 'track again')


def test_without_its_port_the_driver_waits_and_says_so(tmp_path):
    domain = fresh_domain()
    port = tmp_path / 'nothing'
    with (
        probe(domain) as listening,
        node_process(domain, 'servo_driver', port=str(port)) as driver,
    ):
        joints = listening.listen(JointState, 'joint_states', 10)
        said = listening.until(
            lambda: 'is not there' in listening.health.get('/servo_driver', (0, '', {}))[1],
            'what is missing',
        )
        assert said
        assert str(port) in listening.health['/servo_driver'][1]
        assert driver.poll() is None
    assert not joints


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'bus': 'canbus', 'port': '/x'}, "bus is 'canbus'; choices are feetech, dynamixel"),
        ({'bus': 'feetech'}, "port is ''"),
        ({'port': '/x', 'calibration': '/nowhere.yaml'}, '/nowhere.yaml'),
    ],
)
def test_what_cannot_work_is_refused_at_once(given, words):
    with node_process(fresh_domain(), 'servo_driver', **given) as driver:
        output, _ = driver.communicate(timeout=30)
    assert driver.returncode == 2
    assert words in output


def test_stamps_of_both_drivers_are_one_in_lockstep(tmp_path):
    domain = fresh_domain()
    runner = run_stack(tmp_path, domain, real_time_factor=0)
    with probe(domain) as listening, runner:  # which may be known to the drivers late
        joints = listening.listen(JointState, 'joint_states', 1000)
        imus = listening.listen(Imu, 'imu/data', 1000)
        stamps = set(), set()

        def common():
            for messages, seen in zip((joints, imus), stamps, strict=True):
                seen.update(to_ns(message.header.stamp) for message in messages)
                messages.clear()
            return len(stamps[0] & stamps[1])

        # The trot walks without an IMU, so nobody waits for one that opens its port late.
        listening.until(lambda: common() >= 95, 'stamps of both')
        assert runner.stop() == []
    assert all(stamp % PERIOD == 0 for stamp in stamps[0] | stamps[1])
