"""Orientation from gyro and accelerometer, for an IMU that gives none itself; the gyro's bias.

R. Mahony, T. Hamel, J.-M. Pflimlin, "Nonlinear Complementary Filters on the Special Orthogonal
Group", IEEE Transactions on Automatic Control 53(5), 2008: the explicit complementary filter
(section V), with gravity as its only reference. Heading is the integral of the gyro and drifts.
"""

import numpy as np

from lebot_rl_ros.robot import rotations
from lebot_rl_ros.robot.state import FloatArray

GAIN = 1.0  # rad/s per rad of tilt error: forgets a wrong tilt with a time constant of 1 s
BIAS_GAIN = 0.05  # rad/s² per rad
GRAVITY = 9.81  # m/s²
# How far the accelerometer may be from gravity before it is not listened to: what it shows then
# is the robot's own motion. It is trusted less and less on the way there.
TOLERANCE = 0.3  # of GRAVITY

# At rest the standard deviations over a window stay below these; a sensor of this class has noise
# of a fifth of it, and a robot that is moved by hand or stands on its legs with servos at work
# has more than the first.
REST_GYRO = 0.01  # rad/s
REST_ACCELERATION = 0.1  # m/s²
MOST_BIAS = 0.09  # rad/s: an even turn of more than 5 deg/s is a turn, whatever its spread


def integrate(orientation: FloatArray, angular_velocity: FloatArray, period: float) -> FloatArray:
    """Turn by a constant rate for a time; exact, and of unit length.

    Args:
        orientation: (..., 4) unit quaternion w x y z, body in world.
        angular_velocity: (..., 3) rad/s, in the body.
        period: s.
    """
    half = 0.5 * period * angular_velocity
    angle = np.sqrt(np.square(half).sum(axis=-1, keepdims=True))
    # np.sinc is sin(pi x)/(pi x), and 1 at 0
    turn = np.concatenate((np.cos(angle), half * np.sinc(angle / np.pi)), axis=-1)
    turned = rotations.multiply(orientation, turn)
    return turned / np.sqrt(np.square(turned).sum(axis=-1, keepdims=True))


def from_gravity(linear_acceleration: FloatArray) -> FloatArray:
    """Orientation with heading 0 of a body at rest: (..., 3) m/s², +g upwards -> (..., 4)."""
    roll_pitch = rotations.roll_pitch(-linear_acceleration)
    heading = np.zeros_like(roll_pitch[..., :1])
    return rotations.from_roll_pitch_yaw(np.concatenate((roll_pitch, heading), axis=-1))


def tilt_error(orientation: FloatArray, linear_acceleration: FloatArray) -> FloatArray:
    """Rotation vector (..., 3), in the body, that would bring the tilt to what gravity says.

    Its length is the sine of the angle, less where the acceleration is not that of gravity.
    """
    length = np.sqrt(np.square(linear_acceleration).sum(axis=-1, keepdims=True))
    trust = np.maximum(1 - np.abs(length / GRAVITY - 1) / TOLERANCE, 0.0)
    measured = linear_acceleration / np.maximum(length, 1e-9)
    return trust * rotations.cross(measured, -rotations.gravity_in_body(orientation))


def complementary(
    orientation: FloatArray,
    bias: FloatArray,
    angular_velocity: FloatArray,
    linear_acceleration: FloatArray,
    period: float,
    gain: float = GAIN,
    bias_gain: float = BIAS_GAIN,
) -> tuple[FloatArray, FloatArray]:
    """One step of the filter; any leading shape.

    Args:
        orientation: (..., 4) unit quaternion w x y z, base_link in world, before.
        bias: (..., 3) rad/s, of the gyro as known before.
        angular_velocity: (..., 3) rad/s, base_link, as measured.
        linear_acceleration: (..., 3) m/s², base_link, specific force: +g on z at rest.
        period: s since the step before.
        gain: how fast a wrong tilt is mended, 1/s.
        bias_gain: how fast the bias is learned, 1/s²; 0 keeps it.

    Returns:
        Orientation and bias after it. Gravity says nothing of the bias about the vertical.
    """
    error = tilt_error(orientation, linear_acceleration)
    bias = bias - bias_gain * period * error
    return integrate(orientation, angular_velocity - bias + gain * error, period), bias


class GyroBias:
    """What the gyro shows at rest. Learned from whole windows at rest, never while moving.

    A turn as even as a turntable's, of less than MOST_BIAS, cannot be told from a bias.
    """

    def __init__(self, samples: int) -> None:
        """Know nothing: the bias is 0 until the first window of so many ``samples`` at rest."""
        self.value: FloatArray = np.zeros(3)  # rad/s
        self.windows = 0  # at rest, that it was learned from
        self.gravity: FloatArray = np.zeros(3)  # (3,) m/s², mean of the last of them
        self._window = np.empty((samples, 6))
        self._filled = 0

    def restart(self) -> None:
        """Begin a new window: samples are missing. What is known stays."""
        self._filled = 0

    def add(self, angular_velocity: FloatArray, linear_acceleration: FloatArray) -> bool:
        """Take one sample as measured, (3,) rad/s and (3,) m/s²; whether the bias is new now."""
        row = self._window[self._filled]
        row[:3], row[3:] = angular_velocity, linear_acceleration
        self._filled += 1
        if self._filled < len(self._window):
            return False
        self._filled = 0
        mean, deviation = self._window.mean(axis=0), self._window.std(axis=0)
        at_rest = (
            deviation[:3].max() < REST_GYRO
            and deviation[3:].max() < REST_ACCELERATION
            and np.abs(mean[:3]).max() < MOST_BIAS
        )
        if at_rest:
            self.value, self.gravity = mean[:3], mean[3:]
            self.windows += 1
        return bool(at_rest)
