"""A window on the simulated robot."""

import mujoco
import mujoco.viewer
import numpy as np

from lebot_rl_ros.sim.simulation import Simulation


class Viewer:
    """MuJoCo's own viewer, showing one robot of a simulation."""

    def __init__(self, simulation: Simulation, index: int = 0) -> None:
        """Open the window; needs a display."""
        self._index = index
        self._data = mujoco.MjData(simulation.models[index])
        self._window = mujoco.viewer.launch_passive(simulation.models[index], self._data)
        self._window.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        self._window.cam.trackbodyid = simulation.models[index].body(simulation.robot.base_link).id
        self._window.cam.distance = 0.9

    def show(self, simulation: Simulation) -> None:
        """Draw the robot as it is now."""
        np.copyto(self._data.qpos, simulation.qpos[self._index])
        mujoco.mj_forward(simulation.models[self._index], self._data)
        self._window.sync()

    def close(self) -> None:
        """Close the window."""
        self._window.close()
