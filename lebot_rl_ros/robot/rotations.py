"""Rotations as unit quaternions ``w x y z`` over any leading shape."""

import numpy as np

from lebot_rl_ros.robot.state import FloatArray


def _parts(a: FloatArray) -> tuple[FloatArray, ...]:
    """Components along the last axis; np.moveaxis does the same, slower than the sums it feeds."""
    return tuple(a[..., i] for i in range(a.shape[-1]))


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cross product over the last axis; np.cross is slow on small arrays."""
    (ax, ay, az), (bx, by, bz) = _parts(a), _parts(b)
    return np.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), axis=-1)


def gravity_in_body(orientation: FloatArray) -> FloatArray:
    """Unit vector of gravity seen from the body: (..., 4) -> (..., 3); level is (0, 0, -1)."""
    # Written out: this runs in every tick, where stack and moveaxis would cost more than the sums.
    w, x, y, z = (orientation[..., i] for i in range(4))
    gravity = np.empty((*orientation.shape[:-1], 3))
    gravity[..., 0] = 2 * (w * y - x * z)
    gravity[..., 1] = -2 * (w * x + y * z)
    gravity[..., 2] = 2 * (x * x + y * y) - 1
    return gravity


def roll_pitch(gravity: FloatArray) -> FloatArray:
    """Roll and pitch (rad, as in REP-103) from gravity in the body: (..., 3) -> (..., 2)."""
    x, y, z = _parts(gravity)
    return np.stack((np.arctan2(-y, -z), np.arctan2(x, np.hypot(y, z))), axis=-1)


def tilt(gravity: FloatArray) -> FloatArray:
    """Angle (rad) between the body's z axis and up: (..., 3) -> (...)."""
    return np.arccos(np.clip(-gravity[..., 2], -1.0, 1.0))


def yaw(orientation: FloatArray) -> FloatArray:
    """Heading (rad) about world z: (..., 4) -> (...)."""
    w, x, y, z = _parts(orientation)
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cross product over the last axis, (..., 3); numpy's own is slow on small arrays."""
    ax, ay, az = (a[..., i] for i in range(3))
    bx, by, bz = (b[..., i] for i in range(3))
    product = np.empty(np.broadcast_shapes(a.shape, b.shape))
    product[..., 0] = ay * bz - az * by
    product[..., 1] = az * bx - ax * bz
    product[..., 2] = ax * by - ay * bx
    return product


def rotate_inverse(orientation: FloatArray, vector: FloatArray) -> FloatArray:
    """World vector seen from the body: (..., 4), (..., 3) -> (..., 3)."""
    w = orientation[..., :1]
    u = -orientation[..., 1:]
    t = 2 * cross(u, vector)
    return vector + w * t + cross(u, t)


def multiply(a: FloatArray, b: FloatArray) -> FloatArray:
    """Hamilton product: (..., 4), (..., 4) -> (..., 4)."""
    aw, ax, ay, az = (a[..., i] for i in range(4))
    bw, bx, by, bz = (b[..., i] for i in range(4))
    product = np.empty(np.broadcast_shapes(a.shape, b.shape))
    product[..., 0] = aw * bw - ax * bx - ay * by - az * bz
    product[..., 1] = aw * bx + ax * bw + ay * bz - az * by
    product[..., 2] = aw * by - ax * bz + ay * bw + az * bx
    product[..., 3] = aw * bz + ax * by - ay * bx + az * bw
    return product


def from_roll_pitch_yaw(angles: FloatArray) -> FloatArray:
    """Quaternion of fixed-axis roll, pitch, yaw (rad, REP-103): (..., 3) -> (..., 4)."""
    cr, cp, cy = np.moveaxis(np.cos(0.5 * np.asarray(angles)), -1, 0)
    sr, sp, sy = np.moveaxis(np.sin(0.5 * np.asarray(angles)), -1, 0)
    return np.stack(
        (
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ),
        axis=-1,
    )
