"""What is calibrated by hand: zeros in a pose that is held, signs by turning a joint."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from lebot_rl_ros.hardware.bus import ServoBus
from lebot_rl_ros.hardware.travel import MISSED, CalibrationError, Say
from lebot_rl_ros.robot import Robot

POSES = ('stand', 'crouch')
STILL = 2.0  # degrees that a joint may move while its zero is read
TURN = 0.3  # rad that a joint has to be turned


def read_zeros(
    bus: ServoBus,
    robot: Robot,
    joints: Sequence[str],
    pose: str,
    *,
    say: Say,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, float]:
    """Read the zeros of joints that somebody holds in a pose of the joint table.

    Returns:
        By joint: rad, the servo's angle where the joint's is 0.

    Raises:
        CalibrationError: the robot moves, or a servo does not answer.
        ValueError: no such pose.
        WireLost: the port is gone.
    """
    if pose not in POSES:
        raise ValueError(f'pose is {pose!r}; choices are {", ".join(POSES)}')
    bus.set_torque(False)
    say(f'torque is off; hold the robot still in its {pose} pose')
    reads = []
    for _ in range(round(robot.control_rate / 2)):
        reads.append(_read(bus, robot, joints))
        pause(1.0 / robot.control_rate)
    zeros = {}
    for joint, angles in zip(joints, np.array(reads).T, strict=True):
        moved = float(np.degrees(np.ptp(angles)))
        if moved > STILL:
            raise CalibrationError(
                f'{joint} moved by {moved:.1f} degrees while it was read; hold it still'
            )
        row = robot.joints[robot.joint_names.index(joint)]
        zeros[joint] = float(np.median(angles)) - row.sign * getattr(row, pose)
    return zeros


def find_sign(
    bus: ServoBus,
    robot: Robot,
    joint: str,
    *,
    say: Say,
    seconds: float = 30.0,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Let somebody turn a joint in its positive direction by hand, and see which way it goes.

    Raises:
        CalibrationError: it was not turned in time, or its servo does not answer.
        WireLost: the port is gone.
    """
    bus.set_torque(False)
    say(f'{joint}: torque is off; turn it by hand so that {positive_direction(robot, joint)}')
    (start,) = _read(bus, robot, [joint])
    for _ in range(round(seconds * robot.control_rate)):
        (angle,) = _read(bus, robot, [joint])
        turned = (angle - start + np.pi) % (2 * np.pi) - np.pi
        if abs(turned) > TURN:
            return 1 if turned > 0 else -1
        pause(1.0 / robot.control_rate)
    raise CalibrationError(
        f'{joint} was not turned by {np.degrees(TURN):.0f} degrees within {seconds:.0f} s'
    )


def positive_direction(robot: Robot, joint: str) -> str:
    """Which way a foot goes when a joint's angle grows, from standing: ``fl_foot goes back``."""
    rate = np.zeros(len(robot.joints))
    rate[robot.joint_names.index(joint)] = 1.0
    velocity = robot.legs(robot.stand, rate).velocity  # (3, F), x forward, y left, z up
    axis, foot = np.unravel_index(int(np.argmax(np.abs(velocity))), velocity.shape)
    words = (('back', 'forward'), ('right', 'left'), ('down', 'up'))[axis]
    return f'{robot.feet[foot]} goes {words[int(velocity[axis, foot] > 0)]}'


def _read(bus: ServoBus, robot: Robot, joints: Sequence[str]) -> list[float]:
    """Angles of servos, all of one read, with a few tries."""
    rows = [robot.joint_names.index(joint) for joint in joints]
    for _ in range(MISSED):
        feedback = bus.read()
        if not feedback.missed[rows].any():
            return [float(angle) for angle in feedback.position[rows]]
    silent = [f'{robot.joint_names[i]} (id {bus.ids[i]})' for i in rows if feedback.missed[i]]
    raise CalibrationError(f'no answer from {", ".join(silent)}; see `lebot bus scan`')
