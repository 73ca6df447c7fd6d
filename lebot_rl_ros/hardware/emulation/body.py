"""What stands behind the emulated devices: a body that moves. One screen, no logic."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import RobotState
from lebot_rl_ros.robot.state import FloatArray


class Body(Protocol):
    """One robot whose servos can be told what to do; ``J`` joints in the robot's order."""

    period: float  # s that one :meth:`step` takes, robot time

    @property
    def state(self) -> RobotState:
        """What is true now, (J,) and unbatched: joint side, without noise."""

    def step(self, goal: FloatArray, torque: npt.NDArray[np.bool_], strength: FloatArray) -> None:
        """Advance by ``period``.

        Args:
            goal: (J,) rad, joint side, where each servo's own control loop wants to be.
            torque: (J,) whether each servo has torque.
            strength: (J,) share of the stall torque, 0 to 1, that each may use.
        """
