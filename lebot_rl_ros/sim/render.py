"""Pictures of a simulated robot, without a display."""

import importlib
import os
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from lebot_rl_ros.sim.model import CAMERA, build_model
from lebot_rl_ros.sim.simulation import TIMESTEP, Simulation

HELP = (
    'no OpenGL to draw with ({tried}): install libegl1 and set MUJOCO_GL=egl, or install '
    'libosmesa6 and set MUJOCO_GL=osmesa'
)


class Renderer:
    """Draws one robot of a simulation into arrays. For the thread that made it."""

    def __init__(
        self,
        simulation: Simulation,
        index: int = 0,
        *,
        width: int = 640,
        height: int = 480,
        camera: str = CAMERA,
    ) -> None:
        """Open an OpenGL context; ``camera`` is one of the model's.

        Raises:
            RuntimeError: there is none; the message says what to install.
        """
        self._model, self._index = build_model(simulation.robot, TIMESTEP, visible=True), index
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = width, height
        self._context = _open_context(width, height)
        self._data = mujoco.MjData(self._model)
        self._scene = mujoco.MjvScene(self._model, 1000)
        self._drawer = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawer)
        self._options, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = self._model.camera(camera).id
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)

    def draw(self, simulation: Simulation) -> npt.NDArray[np.uint8]:
        """Picture (height, width, 3) of the robot as it is now."""
        np.copyto(self._data.qpos, simulation.qpos[self._index])
        mujoco.mj_forward(self._model, self._data)
        self._context.make_current()
        mujoco.mjv_updateScene(
            self._model, self._data, self._options, None, self._camera,
            mujoco.mjtCatBit.mjCAT_ALL, self._scene,
        )  # fmt: skip
        mujoco.mjr_render(self._rectangle, self._scene, self._drawer)
        mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._drawer)
        return np.flipud(self._pixels).copy()

    def close(self) -> None:
        """Give the context back."""
        self._context.free()


def _open_context(width: int, height: int) -> Any:
    """MuJoCo's own default asks for a display; here the environment's choice, then what works."""
    wanted = os.environ.get('MUJOCO_GL', '').lower()
    tried = []
    for name in [wanted] if wanted in ('egl', 'osmesa', 'glfw') else ['egl', 'osmesa']:
        try:
            context = importlib.import_module(f'mujoco.{name}').GLContext(width, height)
            context.make_current()
        except Exception as error:  # each library fails in its own way when it is missing
            tried.append(f'{name}: {error}')
        else:
            return context
    raise RuntimeError(HELP.format(tried='; '.join(tried)))
