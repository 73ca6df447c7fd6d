"""The last gate before the wire: position, velocity and acceleration limits, whoever sent it."""

from dataclasses import dataclass

import numpy as np

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray


@dataclass(frozen=True, slots=True)
class LimitedTarget:
    """What may go to the servos, and the speed that the next limit starts from."""

    position: FloatArray  # (..., J) rad
    velocity: FloatArray  # (..., J) rad/s, of the target


def limit_target(
    robot: Robot, target: FloatArray, previous: LimitedTarget, period: float
) -> LimitedTarget:
    """Clamp a target to what the limits allow after ``previous``.

    The position limit is absolute. Velocity is clamped next, then acceleration; where stopping at
    a position limit needs more than the acceleration limit, the position limit wins. A joint whose
    target is not finite keeps its previous one.

    Args:
        robot: whose limits.
        target: (..., J) rad, wanted.
        previous: what was applied one period ago.
        period: seconds since then.
    """
    target = np.where(np.isfinite(target), target, previous.position)
    step = robot.limits.velocity * period
    change = robot.limits.acceleration * period * period
    last = previous.velocity * period
    delta = target - previous.position
    delta = np.clip(delta, last - change, last + change)
    delta = np.clip(delta, -step, step)
    position = np.clip(previous.position + delta, robot.lower, robot.upper)
    return LimitedTarget(position, (position - previous.position) / period)


def limited_by(robot: Robot, wanted: FloatArray, applied: FloatArray) -> str:
    """Say for people how one robot was limited: ``fl_knee by 0.12 rad``; empty if it was not."""
    short = np.abs(wanted - applied)
    return ', '.join(
        f'{robot.joint_names[i]} by {short[i]:.2f} rad' for i in np.flatnonzero(~(short <= 1e-6))
    )
