"""Pictures of a simulated robot, without a display."""

import importlib
import os
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from lebot_rl_ros.sim.model import CAMERA, FLOOR, build_model
from lebot_rl_ros.sim.simulation import TIMESTEP, Simulation

HELP = (
    'no OpenGL to draw with ({tried}): install libegl1 and set MUJOCO_GL=egl, or install '
    'libosmesa6 and set MUJOCO_GL=osmesa'
)
LOAD_DENSITY = 4000.0  # kg/m³, of the cubes that loads are drawn as
LOAD_COLOUR = np.array([0.75, 0.15, 0.15, 1.0], dtype=np.float32)


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
        follow(self._model, self._data, simulation, self._index)
        self._context.make_current()
        mujoco.mjv_updateScene(
            self._model, self._data, self._options, None, self._camera,
            mujoco.mjtCatBit.mjCAT_ALL, self._scene,
        )  # fmt: skip
        self._add_loads(simulation)
        mujoco.mjr_render(self._rectangle, self._scene, self._drawer)
        mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._drawer)
        return np.flipud(self._pixels).copy()

    def close(self) -> None:
        """Give the context back."""
        self._context.free()

    def _add_loads(self, simulation: Simulation) -> None:
        """Draw what is strapped on the body as cubes."""
        base = self._data.body(simulation.robot.base_link)
        for mass, position in simulation.loads[self._index]:
            if self._scene.ngeom == self._scene.maxgeom:
                return
            place = base.xpos + base.xmat.reshape(3, 3) @ np.array(position)
            mujoco.mjv_initGeom(
                self._scene.geoms[self._scene.ngeom], mujoco.mjtGeom.mjGEOM_BOX,
                np.full(3, 0.5 * (mass / LOAD_DENSITY) ** (1 / 3)), place, base.xmat, LOAD_COLOUR,
            )  # fmt: skip
            self._scene.ngeom += 1


def follow(model: mujoco.MjModel, data: mujoco.MjData, simulation: Simulation, index: int) -> None:
    """Put a model that is only seen where one robot of a simulation is, and its floor as well."""
    seen, real = model.geom(FLOOR).id, simulation.models[index]
    floor = real.geom(FLOOR).id
    for name in ('geom_pos', 'geom_quat', 'geom_sameframe'):
        getattr(model, name)[seen] = getattr(real, name)[floor]
    np.copyto(data.qpos, simulation.qpos[index])
    mujoco.mj_forward(model, data)


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
