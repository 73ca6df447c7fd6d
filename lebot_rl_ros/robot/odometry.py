"""Leg odometry: how fast the body moves, from joints and gyro alone."""

import numpy as np

from lebot_rl_ros.robot import rotations
from lebot_rl_ros.robot.description import Robot
from lebot_rl_ros.robot.kinematics import FootMotion
from lebot_rl_ros.robot.state import FloatArray

CONTACT_SCALE = 0.004  # m: a foot this much above the lowest counts e times less
AGREEMENT_SCALE = 0.3  # m/s: a foot that contradicts the others by this much counts e times less


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cross product over axis -2; np.cross is slow on small arrays."""
    ax, ay, az = a[..., 0, :], a[..., 1, :], a[..., 2, :]
    bx, by, bz = b[..., 0, :], b[..., 1, :], b[..., 2, :]
    return np.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), axis=-2)


def foot_heights(feet: FootMotion, gravity: FloatArray) -> FloatArray:
    """Height (m) of each foot along up, relative to the base's origin: (..., F)."""
    return -np.einsum('...kf,...k->...f', feet.position, gravity)


def leg_odometry(
    robot: Robot, feet: FootMotion, gravity: FloatArray, angular_velocity: FloatArray
) -> FloatArray:
    """Linear velocity of base_link, in base_link, m/s: (..., 3).

    A foot on the ground rolls without slip, so the point of it that touches is at rest:
    ``v + w x p + dp + (w + w_link) x r = 0``, with r from the foot's centre to the ground. Feet
    are weighted by how low they are, then again by how well they agree with that first estimate:
    a foot that skims the ground in its swing is low but moves fast, and would bias the speed by a
    fifth. (Lin, Komsuoglu, Koditschek, "A leg configuration measurement system for full-body pose
    estimates in a hexapod robot", IEEE T-RO 2005, with rolling and one step of Welsch's
    M-estimator added.)
    """
    down = robot.legs.foot_radius * gravity[..., :, None]
    omega = angular_velocity[..., :, None]
    velocity = -(
        feet.velocity + _cross(omega, feet.position) + _cross(omega + feet.rotation_rate, down)
    )
    height = foot_heights(feet, gravity)
    weight = np.exp((height.min(axis=-1, keepdims=True) - height) / CONTACT_SCALE)
    weight /= weight.sum(axis=-1, keepdims=True)
    first = np.einsum('...kf,...f->...k', velocity, weight)
    contradiction = np.square(velocity - first[..., None]).sum(axis=-2)
    contradiction -= contradiction.min(axis=-1, keepdims=True)  # one weight is never lost
    weight *= np.exp(contradiction / -(AGREEMENT_SCALE * AGREEMENT_SCALE))
    weight /= weight.sum(axis=-1, keepdims=True)
    return np.einsum('...kf,...f->...k', velocity, weight)


class DeadReckoning:
    """Adds velocities up to a position in the odom frame; heading comes with the orientation."""

    def __init__(self) -> None:
        """Start at the origin."""
        self._position = np.zeros(3)
        self._last: int | None = None

    def advance(self, stamp: int, orientation: FloatArray, velocity: FloatArray) -> FloatArray:
        """Position (3,) m at a stamp (ns); a clock step back or over a second adds nothing."""
        if self._last is not None and 0 < stamp - self._last <= 1_000_000_000:
            world = rotations.rotate_inverse(orientation * (1.0, -1.0, -1.0, -1.0), velocity)
            self._position = self._position + world * (stamp - self._last) / 1e9
        self._last = stamp
        return self._position
