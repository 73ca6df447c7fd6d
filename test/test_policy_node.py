"""The policy node as a process, fed by the test: what it refuses, does instead, and says."""

import math

import numpy as np
import pytest
from lifecycle_msgs.srv import ChangeState, GetState
from sensor_msgs.msg import JointState

from lebot_rl_ros.ros.convert import to_ns
from lebot_rl_ros.ros.records import read_record
from policy_feed import PERIOD, ROBOT, Feed
from ros_graph import fresh_domain, node_process, probe

NAN = float('nan')


@pytest.fixture
def feed():
    domain = fresh_domain()
    with (
        node_process(domain, 'policy', policy='trot', lockstep='true'),
        probe(domain) as listening,
    ):
        yield Feed(listening)


BAD_STATES = {
    'a NaN gyro': ({'gyro': NAN}, 'angular_velocity is not finite'),
    'a NaN joint': ({'position': [NAN, *ROBOT.stand[1:]]}, 'joint_position is not finite'),
    'a missing joint': (
        {'names': ROBOT.joint_names[1:], 'position': ROBOT.stand[1:]},
        '7 values for the 8 joints',
    ),
    'a renamed joint': (
        {'names': ('fl_hop', *ROBOT.joint_names[1:])},
        "joints missing: ['fl_hip'], unknown: ['fl_hop']",
    ),
    'twelve joints': (
        {'names': [f'j{i}' for i in range(12)], 'position': [0.0] * 12},
        '12 values for the 8 joints',
    ),
    'a clock jump': ({'step': 5_000_000_000}, 'the clock jumped by 5.000 s'),
    'a clock going back': ({'step': -500_000_000}, 'the clock jumped by -0.500 s'),
}


def test_bad_states_are_held_and_reported(feed):
    for what, (given, message) in BAD_STATES.items():
        feed.drive(0.3, 0.0)
        good = [feed.tick() for _ in range(5)][-1]
        held = feed.tick(**given)
        np.testing.assert_array_equal(held, good, err_msg=what)
        level, said, _ = feed.said(message)
        assert level == 2, what
        assert said.startswith('holding'), what
    for _ in range(3):
        feed.tick()
    feed.said('walking')


def test_joints_in_another_order_are_the_same_joints(feed):
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    feed.drive(0.0, 0.0)
    position = ROBOT.stand + np.linspace(-0.1, 0.1, 8)
    feed.tick(position=position)
    feed.tick(names=[ROBOT.joint_names[i] for i in order], position=position[order])
    feed.tick()
    feed.probe.until(lambda: len(feed.steps) == 3, 'three steps')
    one, two = (feed.row(i)['observation'] for i in (1, 2))
    np.testing.assert_array_equal(one[6:14], two[6:14])


def test_steps_carry_what_was_sampled_and_what_was_applied(feed):
    feed.drive(0.2, 0.1)
    commands = [feed.tick() for _ in range(4)]
    feed.probe.until(lambda: len(feed.steps) == 4, 'four steps')
    for i, message in enumerate(feed.steps[1:]):  # the first belongs to the tick before
        row = read_record(message)[0]
        stamp = to_ns(message.header.stamp)
        assert stamp == row['sec'] * 1_000_000_000 + row['nanosec']
        assert row['next_sec'] * 1_000_000_000 + row['next_nanosec'] == stamp + PERIOD
        np.testing.assert_allclose(row['command'], (0.2, 0.1), atol=1e-6)
        np.testing.assert_allclose(
            ROBOT.stand + 0.6 * row['applied_action'], commands[i], atol=1e-6
        )
        np.testing.assert_array_equal(row['action'], row['mean'])  # deterministic
        density = -8 * (math.log(row['std'][0]) + 0.5 * math.log(2 * math.pi))
        assert row['log_prob'] == pytest.approx(density, rel=1e-5)
        assert row['mode'] == 2


def test_an_old_cmd_vel_means_stand(feed):
    feed.drive(0.3, 0.0)
    for _ in range(35):
        feed.tick()
    feed.probe.until(lambda: len(feed.steps) == 35, '35 steps')
    moving = [bool(feed.row(i)['command'].any()) for i in range(35)]
    assert moving == sorted(moving, reverse=True)
    assert 24 <= sum(moving) <= 27  # half a second at 50 Hz from the last cmd_vel


def test_in_lockstep_a_tick_waits_for_the_cmd_vel_that_the_driver_waits_for():
    """Never for ever: once it falls silent, ticks go on, and stand when its word is too old."""
    domain = fresh_domain()
    given = {'policy': 'trot', 'lockstep': 'true', 'lockstep_cmd_vel': 'true'}
    with node_process(domain, 'policy', **given), probe(domain) as listening:
        feed = Feed(listening)
        feed.send()
        while listening.health.get('/policy', (0, '', {}))[1] != 'no cmd_vel':
            feed.send(step=0)
            listening.within(0.2, lambda: False)
        assert not feed.commands, 'acted before it was told what'
        feed.wish(0.2, 0.0, stamp=feed.now)
        feed.tick(step=0)
        for _ in range(10):  # these lag by up to 0.2 s
            feed.tick()
        feed.send()
        assert not listening.within(0.2, feed.answered), 'acted on a command 0.22 s old'
        feed.wish(0.3, 0.0, stamp=feed.now)
        listening.until(feed.answered, 'the command that was waited for')
        feed.applied()
        for _ in range(30):
            feed.tick()
        listening.until(lambda: len(feed.steps) == 41, 'all steps')
        speeds = [feed.row(i)['command'][0] for i in range(41)]
        np.testing.assert_allclose(speeds, [0.2] * 11 + [0.3] * 25 + [0.0] * 5, atol=1e-6)
        feed.drive(0.1, 0.0)  # a stamp of 0 counts from its arrival


def test_lifecycle_states_are_managed_over_services():
    domain = fresh_domain()
    with (
        node_process(domain, 'policy', policy='trot', autostart='false'),
        probe(domain) as listening,
    ):
        listening.meet('/policy')
        states = [listening.call(GetState, '/policy/get_state').current_state.label]
        for transition in (1, 3, 4):  # configure, activate, deactivate
            request = ChangeState.Request()
            request.transition.id = transition
            assert listening.call(ChangeState, '/policy/change_state', request).success
            states.append(listening.call(GetState, '/policy/get_state').current_state.label)
        assert states == ['unconfigured', 'inactive', 'active', 'inactive']
        heard = listening.listen(JointState, 'joint_commands')
        joints = listening.node.create_publisher(JointState, 'joint_states', 10)
        listening.until(joints.get_subscription_count, 'the policy to listen')
        joints.publish(JointState(name=list(ROBOT.joint_names), position=ROBOT.stand.tolist()))
        listening.until(
            lambda: listening.health.get('/policy', (0, '', {}))[1] == 'inactive', 'inactive'
        )
        assert not heard


def test_a_policy_configured_anew_joins_every_topic_once_and_shut_down_leaves_it():
    domain = fresh_domain()
    with node_process(domain, 'policy', policy='trot'), probe(domain) as listening:
        count = listening.node.count_publishers
        listened = listening.node.count_subscribers

        def transitions(*numbers):
            for number in numbers:
                request = ChangeState.Request()
                request.transition.id = number
                assert listening.call(ChangeState, '/policy/change_state', request).success

        def ends(number):
            return lambda: (count('joint_commands'), listened('joint_states')) == (number, number)

        listening.until(ends(1), 'the topics')
        transitions(4, 2)  # deactivate, clean up
        listening.until(ends(0), 'no topics')
        transitions(1, 3)  # configure, activate
        listening.until(ends(1), 'the topics again')
        assert not listening.within(0.5, lambda: not ends(1)())
        feed = Feed(listening)
        feed.tick()
        mark = len(feed.commands)
        feed.tick()
        assert not listening.within(0.3, lambda: len(feed.commands) > mark + 1)
        transitions(7)  # shut down while active
        listening.until(ends(0), 'silence')


def test_a_policy_of_another_robot_ends_the_node_before_anything_moves():
    domain = fresh_domain()
    with node_process(domain, 'policy', policy='/nowhere/at_all') as process:
        assert process.wait(20) == 2
        assert '/nowhere/at_all' in process.stdout.read()
