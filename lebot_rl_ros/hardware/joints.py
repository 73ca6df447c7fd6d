"""From the servos' own angles to the joints' and back: joint = sign * (servo - zero)."""

import numpy as np

from lebot_rl_ros.hardware.calibration import Calibration
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray

# A servo's angle jumps from pi to -pi. Gears have play and legs bend, so limits stay this far off.
WRAP_MARGIN = np.radians(3.0)


class JointMap:
    """Both sides of every joint of a robot, all arrays (..., J) in the robot's order."""

    def __init__(self, robot: Robot, calibration: Calibration | None = None) -> None:
        """Take sign and zero from the joint table, or from the calibration where it has them.

        Raises:
            ValueError: the travel of a joint would cross the wrap-around of its servo's angle.
        """
        self.robot = robot if calibration is None else calibration.apply(robot)
        joints = self.robot.joints
        self.sign: FloatArray = np.array([float(joint.sign) for joint in joints])
        self.zero: FloatArray = np.array([joint.zero for joint in joints])
        self._stall_torque = self.sign * robot.servo.stall_torque
        ends = np.sort([self.to_servo(self.robot.lower), self.to_servo(self.robot.upper)], axis=0)
        for joint, low, high in zip(joints, *np.degrees(ends), strict=True):
            refuse_wrap(joint.name, low, high)

    def to_joint(self, position: FloatArray) -> FloatArray:
        """Joint angles, rad, of servo angles, rad."""
        return self.sign * (position - self.zero)

    def to_servo(self, position: FloatArray) -> FloatArray:
        """Servo angles, rad, of joint angles, rad."""
        return self.sign * position + self.zero

    def to_joint_velocity(self, velocity: FloatArray) -> FloatArray:
        """Joint speeds, rad/s, of servo speeds, rad/s."""
        return self.sign * velocity

    def to_servo_velocity(self, velocity: FloatArray) -> FloatArray:
        """Servo speeds, rad/s, of joint speeds, rad/s."""
        return self.sign * velocity

    def to_effort(self, load: FloatArray) -> FloatArray:
        """Joint torques, N·m, of servo loads as shares of the stall torque."""
        return self._stall_torque * load

    def to_load(self, effort: FloatArray) -> FloatArray:
        """Servo loads, shares of the stall torque, of joint torques, N·m."""
        return effort / self._stall_torque


def refuse_wrap(joint: str, low: float, high: float) -> None:
    """Refuse a travel, in degrees of the servo, that comes too near to its wrap-around.

    Raises:
        ValueError: it does; the message has the joint, the travel, and what to do.
    """
    margin = np.degrees(WRAP_MARGIN)
    if low < -180 + margin or high > 180 - margin:
        raise ValueError(
            f'joint {joint}: its travel, {low:.1f} to {high:.1f} degrees of the servo, '
            f'leaves {-180 + margin:.0f} to {180 - margin:.0f}, and a servo angle jumps at 180; '
            f'remount the horn, or set the offset of the servo, '
            'so that the middle of the travel is near 0, then calibrate the zero anew'
        )
