"""What every term of the task may look at. One record, no logic."""

from dataclasses import dataclass

from lebot_rl_ros.robot import RobotState
from lebot_rl_ros.robot.state import FloatArray


@dataclass(frozen=True, slots=True)
class Step:
    """One control period as the robot knows it; leading shape ``...`` as in RobotState, F feet."""

    state: RobotState
    gravity: FloatArray  # (..., 3) unit vector, base_link
    velocity: FloatArray  # (..., 3) m/s, base_link, leg odometry
    foot_height: FloatArray  # (..., F) m, above the lowest foot
    command: FloatArray  # (..., 2) m/s forward, rad/s about z
    phase: FloatArray  # (...) fraction of the gait cycle, [0, 1)
    action: FloatArray  # (..., J) last applied, policy units
    previous_action: FloatArray  # (..., J) applied one period before
