"""A walk in short windows, and what the simulator makes of them, floor and all."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import Robot, rotations
from lebot_rl_ros.robot.odometry import foot_heights, leg_odometry
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.identify_data import HISTORY, Readings, cut, smooth_positions, window_starts
from lebot_rl_ros.sim.simulation import Simulation

NO_IMU = 'the recording has no imu/data, which a walk is identified with'


@dataclass(frozen=True)
class WalkWindows:
    """W windows of a walk: where each begins, what was commanded, what came of it."""

    height: FloatArray  # (W,) m, of base_link above the floor
    orientation: FloatArray  # (W, 4) w x y z
    linear: FloatArray  # (W, 3) m/s, world
    angular: FloatArray  # (W, 3) rad/s, base_link
    position: FloatArray  # (W, J) rad
    velocity: FloatArray  # (W, J) rad/s
    command: FloatArray  # (W, HISTORY + n, J) rad
    measured: FloatArray  # (W, n, J) rad, at the ends of the n ticks


def walk_starts(robot: Robot, readings: Readings, ticks: int) -> npt.NDArray[np.intp]:
    """First ticks of windows, end to end, in which the robot is on its feet.

    Raises:
        ValueError: no IMU, no window that holds together, or none on its feet.
    """
    starts = window_starts(readings, robot.control_period_ns, ticks)
    if readings.orientation is None:
        raise ValueError(NO_IMU)
    tilt = rotations.tilt(rotations.gravity_in_body(readings.orientation))
    upright = np.maximum(tilt[starts], tilt[starts + ticks]) < 0.5 * robot.fall_tilt
    if not upright.any():
        raise ValueError(
            f'in none of {len(starts)} windows the robot is on its feet: it tilts by '
            f'{tilt.min():.2f} rad at least'
        )
    return starts[upright]


def walk_windows(
    robot: Robot, readings: Readings, starts: npt.NDArray[np.intp], ticks: int
) -> WalkWindows:
    """Windows of readings with an IMU; the body's speed comes from leg odometry.

    Heading does not matter, the lowest foot stands on the floor, and the floor is level.

    Raises:
        ValueError: the readings have no IMU.
    """
    if readings.orientation is None or readings.angular_velocity is None:
        raise ValueError(NO_IMU)
    position, velocity = smooth_positions(readings)[starts], readings.velocity[starts]
    orientation, angular = readings.orientation[starts], readings.angular_velocity[starts]
    gravity = rotations.gravity_in_body(orientation)
    feet = robot.legs(position, velocity)
    linear = leg_odometry(robot, feet, gravity, angular)
    world = rotations.rotate_inverse(orientation * (1.0, -1.0, -1.0, -1.0), linear)
    height = robot.legs.foot_radius - foot_heights(feet, gravity).min(axis=-1)
    return WalkWindows(
        height, orientation, world, angular, position, velocity,
        cut(readings.command, starts, ticks, HISTORY),
        cut(readings.position, starts + 1, ticks),
    )  # fmt: skip


def predict_walk(robot: Robot, windows: WalkWindows) -> FloatArray:
    """What the simulator with this robot's servos makes of all windows: (W, n, J) rad."""
    simulation = Simulation(robot, len(windows.height))
    for tick in range(HISTORY):  # commands on their way to the servos when it begins
        simulation.line.push(windows.command[:, tick])
    joints = [simulation.nominal.joint(name) for name in robot.joint_names]
    qpos, qvel = simulation.qpos, simulation.qvel
    qpos[:, :2], qpos[:, 2], qpos[:, 3:7] = 0.0, windows.height, windows.orientation
    qvel[:, :3], qvel[:, 3:6] = windows.linear, windows.angular
    qpos[:, [joint.qposadr[0] for joint in joints]] = windows.position
    qvel[:, [joint.dofadr[0] for joint in joints]] = windows.velocity
    path = np.empty_like(windows.measured)
    for tick in range(path.shape[1]):
        simulation.step(windows.command[:, HISTORY + tick])
        path[:, tick] = simulation.sense().joint_position
    return path
