"""The two records that every room of the suite speaks. One screen, no logic."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class RobotState:
    """What the robot can sense in one control period.

    Any leading shape ``...``: none on the robot, ``(robots,)`` in the vectorised simulator,
    ``(time,)`` in a bag. ``J`` is the number of joints, in the order of the robot's joint table.
    """

    stamp: npt.NDArray[np.int64] | int  # ns, time of the read
    joint_position: FloatArray  # (..., J) rad
    joint_velocity: FloatArray  # (..., J) rad/s
    joint_effort: FloatArray  # (..., J) N·m
    orientation: FloatArray  # (..., 4) unit quaternion w x y z, base_link in world (yaw drifts)
    angular_velocity: FloatArray  # (..., 3) rad/s, base_link
    linear_acceleration: FloatArray  # (..., 3) m/s², base_link, specific force: +g on z at rest


@dataclass(frozen=True, slots=True)
class JointCommand:
    """Position targets for one control period."""

    stamp: int  # ns, stamp of the state that this answers
    position: FloatArray  # (..., J) rad
