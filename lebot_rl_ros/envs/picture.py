"""What the environments share: how a simulation is shown."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.sim.simulation import Simulation

if TYPE_CHECKING:
    from lebot_rl_ros.sim.render import Renderer
    from lebot_rl_ros.sim.viewer import Viewer

MODES = ['rgb_array', 'human']


class Picture:
    """A window or an offscreen picture of one robot, opened when it is first asked for."""

    def __init__(self, mode: str | None, size: tuple[int, int] = (640, 480)) -> None:
        """Check the mode.

        Raises:
            ValueError: an unknown render mode; the message lists the known ones.
        """
        if mode is not None and mode not in MODES:
            raise ValueError(f'render_mode is {mode!r}, must be None, {" or ".join(MODES)}')
        self._mode, self._size = mode, size
        self._renderer: Renderer | None = None
        self._viewer: Viewer | None = None

    def show(self, simulation: Simulation) -> None:
        """After every step: refresh the window, if there is to be one."""
        if self._mode != 'human':
            return
        if self._viewer is None:
            from lebot_rl_ros.sim.viewer import Viewer  # late: needs a display

            self._viewer = Viewer(simulation)
        self._viewer.show(simulation)

    def draw(self, simulation: Simulation) -> npt.NDArray[np.uint8] | None:
        """Picture (height, width, 3) in mode rgb_array, else None.

        Raises:
            RuntimeError: no OpenGL; the message says what to install.
        """
        if self._mode != 'rgb_array':
            return None
        if self._renderer is None:
            from lebot_rl_ros.sim.render import Renderer  # late: needs OpenGL

            width, height = self._size
            self._renderer = Renderer(simulation, width=width, height=height)
        return self._renderer.draw(simulation)

    def close(self) -> None:
        """Close what was opened."""
        if self._renderer is not None:
            self._renderer.close()
        if self._viewer is not None:
            self._viewer.close()
        self._renderer = self._viewer = None


def components(terms: dict[str, Any], index: int = 0) -> dict[str, float]:
    """Reward terms of one robot as plain numbers."""
    return {name: float(values[index]) for name, values in terms.items()}
