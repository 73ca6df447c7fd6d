"""A body whose joints only turn: between end stops, at a servo's speed, or by a hand."""

import numpy as np

from lebot_rl_ros.robot import Robot, RobotState

SPEED = 5.0  # rad/s that a joint follows its goal with
GIVE = 0.05  # share of the stall torque that a free joint needs to turn


class JointBody:
    """Joints as in the table, joint side; see the emulation's Body."""

    period = 0.005

    def __init__(self, robot: Robot) -> None:
        joints = len(robot.joints)
        self.lower, self.upper = robot.lower - 0.2, robot.upper + 0.2  # rad, mechanical
        self.position = np.clip(robot.stand, self.lower, self.upper)
        self.effort = np.zeros(joints)  # N·m
        self.hand = np.zeros(joints)  # rad/s that somebody turns limp joints with
        self.most = np.zeros(joints)  # highest share of torque that each had, and
        self.together = 0  # joints with torque at the same time, at most
        self._stall, self._stamp = robot.servo.stall_torque, 0

    @property
    def state(self) -> RobotState:
        return RobotState(
            stamp=self._stamp,
            joint_position=self.position,
            joint_velocity=np.zeros_like(self.position),
            joint_effort=self.effort,
            orientation=np.array([1.0, 0.0, 0.0, 0.0]),
            angular_velocity=np.zeros(3),
            linear_acceleration=np.array([0.0, 0.0, 9.81]),
        )

    def step(self, goal, torque, strength) -> None:
        self._stamp += round(self.period * 1e9)
        self.most = np.maximum(self.most, strength * torque)
        self.together = max(self.together, int(torque.sum()))
        error = goal - self.position
        drive = np.where(torque & (strength > GIVE), np.clip(error, -1, 1), 0.0)
        step = np.clip(drive, -SPEED * self.period, SPEED * self.period)
        wanted = self.position + np.where(torque, step, self.hand * self.period)
        self.position = np.clip(wanted, self.lower, self.upper)
        pressed = np.where(wanted != self.position, strength, 0.0)
        self.effort = torque * np.sign(error) * self._stall * np.maximum(pressed, GIVE)

    def picture(self):
        return np.zeros((48, 64, 3), dtype=np.uint8)
