"""Reward, odometry and teleop as processes: do they say what the core computes?"""

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState, Joy, PointCloud2

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.mdp.commands import Gait
from lebot_rl_ros.mdp.drive import Driver, joy_command
from lebot_rl_ros.mdp.rewards import RewardConfig
from lebot_rl_ros.mdp.scoring import Scorer
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.convert import JointOrder, robot_state, to_ns
from lebot_rl_ros.ros.records import read_record
from ros_graph import environment, fresh_domain, node_process, probe

ROBOT = load_robot()


def by_stamp(messages):
    """Messages by their stamp in ns."""
    return {to_ns(message.header.stamp): message for message in messages}


def test_rewards_are_the_terms_of_the_state_that_each_step_led_to(tmp_path):
    """Recomputes every published reward from the topics alone, without a gap."""
    domain = fresh_domain()
    # in lockstep, but slow enough for those who only ask for the newest
    given = {'lockstep': True, 'real_time_factor': 2.0, 'duration': 4.0, 'monitored': True}
    stack = walk_stack(given | {'policy': 'trot', 'vx': 0.1})
    for node in stack.nodes:  # the test listens too: it must not be taken for one of the graph
        if 'wait_for_listeners' in node.parameters:
            node.parameters['wait_for_listeners'] += 1
    with probe(domain) as listening:
        steps = listening.listen(PointCloud2, 'policy/steps', 1000)
        rewards = listening.listen(PointCloud2, 'reward/rewards', 1000)
        joints = listening.listen(JointState, 'joint_states', 1000)
        imus = listening.listen(Imu, 'imu/data', 1000)
        odometry = listening.listen(Odometry, 'odom', 1000)
        with Runner(stack, tmp_path / 'logs', print, environment(domain)):
            # discovery may take seconds: once all know the test, the sim hears who it waits for
            for node in ('/sim', '/policy', '/reward', '/odometry'):
                listening.meet(node)
            truths = listening.listen(Odometry, 'ground_truth/odom', 1000)
            listening.until(
                lambda: (
                    listening.health.get('/sim', (0, '', {'finished': ''}))[2]['finished']
                    == 'True'
                ),
                'the end',
            )
            last = 198 * ROBOT.control_period_ns
            for messages in (rewards, steps, joints, imus):
                until = last if messages in (rewards, steps) else last + ROBOT.control_period_ns
                listening.until(
                    lambda messages=messages, until=until: (
                        messages and to_ns(messages[-1].header.stamp) >= until
                    ),
                    'the last messages',
                )
    joint_of, imu_of, reward_of = by_stamp(joints), by_stamp(imus), by_stamp(rewards)
    scorer, order = Scorer(ROBOT, Gait(), RewardConfig()), JointOrder(ROBOT.joint_names)
    compared = tracked = 0
    # the test may have joined a little late; from then on nothing may be missing
    first = max(to_ns(steps[0].header.stamp), to_ns(rewards[0].header.stamp))
    for message in steps:
        row, stamp = read_record(message)[0], to_ns(message.header.stamp)
        if not first <= stamp <= last:
            continue
        following = int(row['next_sec']) * 1_000_000_000 + int(row['next_nanosec'])
        assert following == stamp + ROBOT.control_period_ns
        state = robot_state(joint_of[following], order, imu_of[following])
        followed = row['mode'] == 2
        score = scorer(stamp, state, row['command'], row['applied_action'], followed=followed)
        if stamp == first:
            continue  # what was applied before it is not known here
        said = read_record(reward_of[stamp])[0]
        assert said['reward'] == pytest.approx(score.reward, rel=1e-5, abs=1e-6)
        for name, value in score.terms.items():
            assert said[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
        assert bool(said['truncated']) == (not followed)
        assert not said['terminated']
        compared, tracked = compared + 1, tracked + followed
    assert compared == (last - first) // ROBOT.control_period_ns > 150
    assert tracked == 149  # the first second is the driver's, standing up
    # leg odometry against the truth it cannot see, over the walk
    truth_of, odom_of = by_stamp(truths), by_stamp(odometry)
    walk = [stamp for stamp in odom_of if 2e9 < stamp <= 4e9 and stamp in truth_of]
    assert len(walk) > 50
    speeds = [np.mean([of[s].twist.twist.linear.x for s in walk]) for of in (odom_of, truth_of)]
    assert speeds[0] == pytest.approx(speeds[1], abs=0.06)


def test_a_teleop_that_does_not_know_the_time_yet_does_not_hold_lockstep_up(tmp_path):
    """Its stamps are 0 until it hears the clock, which may take seconds."""
    stack = walk_stack({'teleop': 'none', 'real_time_factor': 0, 'duration': 2})
    stack.nodes[0].parameters['lockstep_topics'] = ['joint_commands', 'cmd_vel']
    domain = fresh_domain()
    with probe(domain) as listening, Runner(stack, tmp_path, print, environment(domain)) as runner:
        drive = listening.node.create_publisher(TwistStamped, 'cmd_vel', 10)
        sim = runner.processes['sim'].popen

        def ended():
            drive.publish(TwistStamped())
            return sim.poll() is not None

        listening.until(ended, 'the end of the run', 60.0)
    assert 'silent' not in (tmp_path / 'sim.log').read_text()


def test_joy_commands_only_while_its_button_is_held():
    domain = fresh_domain()
    with node_process(domain, 'teleop', source='joy', deadman=0.3), probe(domain) as listening:
        commands = listening.listen(TwistStamped, 'cmd_vel')
        joy = listening.node.create_publisher(Joy, 'joy', 10)
        listening.until(joy.get_subscription_count, 'teleop')

        def press(button, until):
            def pressed():
                joy.publish(Joy(axes=[0.5, 1.0], buttons=[0, 0, 0, 0, button]))
                return until()

            listening.until(pressed, f'button {button}')

        press(1, lambda: commands)
        assert commands[-1].twist.linear.x == pytest.approx(0.5)
        assert commands[-1].twist.angular.z == pytest.approx(0.3)
        assert to_ns(commands[-1].header.stamp) > 0
        press(0, lambda: listening.health.get('/teleop', (0, '', {}))[1] == 'silent: stand')


def test_the_driver_lets_go_when_keys_stop_and_when_time_goes_back():
    driver = Driver(0.5, 0.6, deadman=0.5)
    assert driver.command(0.0) is None
    for _ in range(20):
        driver.key(1.0, 'w')
    driver.key(1.0, 'a')
    assert driver.command(1.4) == (0.5, 0.1)  # clamped
    assert driver.command(1.6) is None
    assert driver.command(0.5) is None
    driver.key(2.0, ' ')
    assert driver.command(2.0) == (0.0, 0.0)


def test_joy_without_the_axes_or_button_asked_for_is_no_command():
    assert joy_command([0.0], [1], 1, 0, 0) is None
    assert joy_command([0.1, 0.2], [1], 1, 0, 3) is None
    assert joy_command([0.1, 0.2], [], 1, 0, -1) == (0.2, 0.1)
