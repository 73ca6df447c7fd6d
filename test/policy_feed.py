"""The test as the driver of a policy node: states in, commands out, one tick at a time."""

import numpy as np
from geometry_msgs.msg import TwistStamped
from sensor_msgs.msg import Imu, JointState, PointCloud2

from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.convert import set_stamp, to_ns
from lebot_rl_ros.ros.records import read_record

ROBOT = load_robot()
PERIOD = ROBOT.control_period_ns


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

    def tick(self, **given):
        """One state; returns the command for it, after sending what was applied."""
        self.send(**given)
        for _ in range(20):  # best effort: what is lost is sent again, as the simulator does
            if self.probe.within(1.0, self.answered):
                break
            self._publish()
        assert self.answered(), f'no command; health: {self.probe.health}'
        self.applied()
        return np.array(self.commands[-1].position)

    def send(self, names=ROBOT.joint_names, position=None, gyro=0.0, step=PERIOD):
        """The next state."""
        self.now += step
        self._state = joints, imu = JointState(name=list(names)), Imu()
        joints.position = list(ROBOT.stand if position is None else position)
        joints.velocity = [0.0] * len(joints.position)
        imu.orientation.w, imu.angular_velocity.x, imu.linear_acceleration.z = 1.0, gyro, 9.81
        set_stamp(imu.header.stamp, self.now)
        set_stamp(joints.header.stamp, self.now)
        self._publish()

    def _publish(self):
        joints, imu = self._state
        self._imu.publish(imu)
        self._joints.publish(joints)

    def answered(self):
        """Whether the command for this state has come."""
        return self.commands and to_ns(self.commands[-1].header.stamp) == self.now

    def applied(self):
        """Say that the newest command was applied."""
        applied = JointState(name=list(ROBOT.joint_names), position=self.commands[-1].position)
        set_stamp(applied.header.stamp, self.now)
        applied.header.frame_id = 'track'
        self._applied.publish(applied)

    def wish(self, vx, wz, stamp=0):
        """Publish a cmd_vel; a stamp of 0 counts from its arrival."""
        message = TwistStamped()
        set_stamp(message.header.stamp, stamp)
        message.twist.linear.x, message.twist.angular.z = vx, wz
        self._cmd_vel.publish(message)

    def drive(self, vx, wz):
        """Command a speed and tick until the policy walks by it; forgets the steps until then."""
        self.steps.clear()
        for _ in range(100):
            self.wish(vx, wz)
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
