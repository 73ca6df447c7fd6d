"""A window on the simulated robot."""

import mujoco
import mujoco.viewer

from lebot_rl_ros.sim.model import build_model
from lebot_rl_ros.sim.render import follow
from lebot_rl_ros.sim.simulation import TIMESTEP, Simulation


class Viewer:
    """MuJoCo's own viewer, showing one robot of a simulation."""

    def __init__(self, simulation: Simulation, index: int = 0) -> None:
        """Open the window; needs a display."""
        self._index = index
        self._model = build_model(simulation.robot, TIMESTEP, visible=True)
        self._data = mujoco.MjData(self._model)
        self._window = mujoco.viewer.launch_passive(self._model, self._data)
        self._window.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        self._window.cam.trackbodyid = self._model.body(simulation.robot.base_link).id
        self._window.cam.distance = 0.9

    def show(self, simulation: Simulation) -> None:
        """Draw the robot as it is now."""
        follow(self._model, self._data, simulation, self._index)
        self._window.sync()

    def close(self) -> None:
        """Close the window."""
        self._window.close()
