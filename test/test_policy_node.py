"""The policy node as a process, fed by the test: what it refuses, does instead, and says."""

import math

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.srv import ChangeState, GetState
from sensor_msgs.msg import Imu, JointState, PointCloud2

from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.convert import set_stamp, to_ns
from lebot_rl_ros.ros.records import read_record
from ros_graph import fresh_domain, node_process, probe

ROBOT = load_robot()
PERIOD = ROBOT.control_period_ns
NAN = float('nan')


class Feed:
    """Plays the driver to a policy node: sends states, answers commands with what was applied."""

    def __init__(self, listening):
        self.probe, self.now = listening, 1_000_000_000
        self._joints = listening.node.create_publisher(JointState, 'joint_states', 10)
        self._imu = listening.node.create_publisher(Imu, 'imu/data', 10)
        self._applied = listening.node.create_publisher(JointState, 'joint_commands_applied', 10)
        self._cmd_vel = listening.node.create_publisher(TwistStamped, 'cmd_vel', 10)
        self.commands = listening.listen(JointState, 'joint_commands')
        self.steps = listening.listen(PointCloud2, 'policy/steps')
        for publisher in (self._joints, self._imu, self._applied, self._cmd_vel):
            listening.until(
                publisher.get_subscription_count, f'the policy to listen to {publisher.topic}'
            )
        listening.until(
            lambda: listening.node.count_publishers('joint_commands'), 'joint_commands'
        )

    def tick(self, names=ROBOT.joint_names, position=None, gyro=0.0, step=PERIOD):
        """One state; returns the command for it, after sending what was applied."""
        self.now += step
        joints, imu = JointState(name=list(names)), Imu()
        joints.position = list(ROBOT.stand if position is None else position)
        joints.velocity = [0.0] * len(joints.position)
        imu.orientation.w, imu.angular_velocity.x, imu.linear_acceleration.z = 1.0, gyro, 9.81
        set_stamp(imu.header.stamp, self.now)
        set_stamp(joints.header.stamp, self.now)
        for _ in range(20):  # best effort: what is lost is sent again, as the simulator does
            self._imu.publish(imu)
            self._joints.publish(joints)
            if self.probe.within(1.0, self._answered):
                break
        assert self._answered(), f'no command; health: {self.probe.health}'
        applied = JointState(name=list(ROBOT.joint_names), position=self.commands[-1].position)
        applied.header.stamp, applied.header.frame_id = joints.header.stamp, 'track'
        self._applied.publish(applied)
        return np.array(self.commands[-1].position)

    def _answered(self):
        return self.commands and to_ns(self.commands[-1].header.stamp) == self.now

    def drive(self, vx, wz):
        """Command a speed and tick until the policy walks by it; forgets the steps until then."""
        self.steps.clear()
        message = TwistStamped()
        message.twist.linear.x, message.twist.angular.z = vx, wz
        for _ in range(100):
            self._cmd_vel.publish(message)
            self.tick()
            if self.steps and np.allclose(self.row(-1)['command'], (vx, wz)):
                break
        else:
            raise AssertionError(f'cmd_vel {vx} {wz} never reached a step')
        self.probe.until(
            lambda: to_ns(self.steps[-1].header.stamp) == self.now - PERIOD, 'the last step'
        )
        self.steps.clear()

    def row(self, index):
        """A step."""
        return read_record(self.steps[index])[0]

    def said(self, text):
        """Wait until the node's health says so."""
        return self.probe.until(
            lambda: (
                text in self.probe.health.get('/policy', (0, '', {}))[1]
                and self.probe.health['/policy']
            ),
            text,
        )


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


def test_lifecycle_states_are_managed_over_services():
    domain = fresh_domain()
    with (
        node_process(domain, 'policy', policy='trot', autostart='false'),
        probe(domain) as listening,
    ):
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
