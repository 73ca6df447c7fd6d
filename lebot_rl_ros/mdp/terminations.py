"""When an episode ends by what happened to the robot. Time-outs are not here: they truncate."""

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import Robot, rotations
from lebot_rl_ros.robot.state import FloatArray


def fallen(robot: Robot, gravity: FloatArray) -> npt.NDArray[np.bool_]:
    """True where the body is tilted beyond the robot's limit: (..., 3) -> (...)."""
    return rotations.tilt(gravity) > robot.fall_tilt
