"""`lebot excite`: a motion on a real graph, through the driver; the simulated body is held."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from identify_samples import planted
from lebot_rl_ros.cli.excite import with_ways
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.robot.servos import ServoFile, write_servos
from lebot_rl_ros.ros import motion_player
from lebot_rl_ros.ros.motion_player import MotionPlayer
from lebot_rl_ros.sim.identify_motion import excitation, ramps
from ros_graph import environment, fresh_domain, node_process, probe

FAST = {'held': 'true', 'lockstep': 'true', 'real_time_factor': 0.0}


@pytest.fixture
def domain(monkeypatch):
    """Where this process takes part, too."""
    number = fresh_domain()
    for key in ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE'):
        monkeypatch.setenv(key, environment(number)[key])
    return number


def test_a_motion_reaches_the_servos_and_the_body_hangs_still(domain, lebot, tmp_path):
    weak = planted(lebot, {'kp': 10.0, 'delay': 0.02}).servos
    servos = tmp_path / 'servo.yaml'
    write_servos(servos, ServoFile('lebot', dict(zip(lebot.joint_names, weak, strict=True))))
    motion = np.tile(lebot.stand, (200, 1))
    motion[:, 1] += ramps(4.0, 50.0, reach=0.3)
    seconds = []
    with (
        node_process(domain, 'sim', servos=servos, **FAST),
        probe(domain) as ears,
        MotionPlayer(lebot) as player,
    ):
        states = ears.listen(JointState, 'joint_states', 2000)
        applied = ears.listen(JointState, 'joint_commands_applied', 2000)
        truth = ears.listen(Odometry, 'ground_truth/odom', 2000)
        ears.until(lambda: states, 'a state')
        player.play(motion, seconds.append)
        ears.until(lambda: truth and len(applied) > 150, 'what was applied')
    assert seconds == [3.0, 2.0, 1.0, 0.0]
    knee = np.array([message.position[1] for message in states]) - lebot.stand[1]
    assert knee.max() == pytest.approx(0.3, abs=0.04)
    told = np.array([m.position[1] for m in applied if m.header.frame_id == 'track'])
    assert np.ptp(told) == pytest.approx(0.6, abs=0.02)
    heights = [message.pose.pose.position.z for message in truth]
    assert np.ptp(heights) < 1e-3
    assert heights[0] > 0.4


def test_a_driver_that_stops_following_ends_the_motion(domain, lebot):
    motion = np.tile(lebot.stand, (400, 1))
    with node_process(domain, 'sim', **FAST), probe(domain) as ears, MotionPlayer(lebot) as player:

        def stop(left):
            if left < 6.5:
                ears.call(Trigger, 'servo_driver/stop')

        with pytest.raises(ValueError, match=r'stopped following at .* it is in mode crouch'):
            player.play(motion, stop)


def test_without_a_driver_it_says_so(domain, lebot, monkeypatch):
    monkeypatch.setattr(motion_player, 'PATIENCE', 0.3)
    missing = pytest.raises(ValueError, match=r'no driver followed .* namespace /nobody')
    with MotionPlayer(lebot, 'nobody') as player, missing:
        player.play(np.tile(lebot.stand, (5, 1)))


def test_nothing_moves_before_somebody_says_that_it_is_held(monkeypatch, capsys):
    monkeypatch.setattr('builtins.input', lambda question: 'n')
    assert main(['excite']) == 1
    said = capsys.readouterr().out
    assert '54 s of motion' in said
    assert 'nothing was moved' in said


def test_the_ways_in_and_out_are_slow(robot):
    whole = with_ways(robot, excitation(robot))
    np.testing.assert_array_equal(whole[0], robot.stand)
    np.testing.assert_allclose(whole[-1], robot.stand, atol=1e-12)
    ways = np.concatenate((whole[: round(2 * robot.control_rate)], whole[-50:]))
    assert np.abs(np.diff(ways[:50], axis=0)).max() * robot.control_rate < 1.0
