"""What a robot may have to bear: a load strapped on its body, a floor that is not level."""

import mujoco
import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import rotations
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.model import FLOOR

LOAD_POSITION = (0.10, 0.05, 0.05)  # m, base_link; where the fault `payload` straps its load
CONJUGATE = (1.0, -1.0, -1.0, -1.0)


def strap(model: mujoco.MjModel, body: int, mass: float, position: npt.ArrayLike) -> None:
    """Add a small heavy thing (kg) to a body at ``position`` (3,) m in the body's frame.

    Mass and centre of mass add up; both inertias move to the common centre by the parallel-axis
    rule. The caller runs ``mj_setConst`` afterwards.
    """
    own, centre = model.body_mass[body], model.body_ipos[body].copy()
    place = np.asarray(position, dtype=float)
    total = own + mass
    common = (own * centre + mass * place) / total
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, model.body_iquat[body])
    axes = rotation.reshape(3, 3)
    inertia = (axes * model.body_inertia[body]) @ axes.T
    inertia += _about(own, centre - common) + _about(mass, place - common)
    moments, vectors = np.linalg.eigh(inertia)
    if np.linalg.det(vectors) < 0.0:
        vectors[:, 0] *= -1.0  # a rotation, not a mirror
    model.body_mass[body], model.body_ipos[body] = total, common
    model.body_inertia[body] = moments
    mujoco.mju_mat2Quat(model.body_iquat[body], vectors.flatten())
    model.body_sameframe[body] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE


def tilt_floor(
    model: mujoco.MjModel, qpos: FloatArray, qvel: FloatArray, slope: float, direction: float
) -> None:
    """Let the floor rise by ``slope`` (rad) towards ``direction`` (rad from world x to y).

    It turns about its point below the robot, and the robot turns with it, so that it stands or
    moves on the new floor as on the old one; gravity stays where it is.

    Args:
        model: whose floor.
        qpos: (nq,) generalised positions of the robot, changed in place.
        qvel: (nv,) generalised velocities, likewise.
        slope: angle to level.
        direction: of the steepest way up.
    """
    floor = model.geom(FLOOR).id
    old, position = model.geom_quat[floor].copy(), qpos[:3].copy()
    half = 0.5 * slope  # about the horizontal axis that is square to the way up
    new = np.array([
        np.cos(half), np.sin(half) * np.sin(direction), -np.sin(half) * np.cos(direction), 0.0
    ])  # fmt: skip
    up = _rotate(old, np.array([0.0, 0.0, 1.0]))
    arm = up * (up @ (position - model.geom_pos[floor]))  # from the floor to the robot
    turn = rotations.multiply(new, old * CONJUGATE)
    model.geom_pos[floor], model.geom_quat[floor] = position - arm, new
    model.geom_sameframe[floor] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE
    qpos[:3] = position - arm + _rotate(turn, arm)
    qpos[3:7] = rotations.multiply(turn, qpos[3:7])
    qvel[:3] = _rotate(turn, qvel[:3])


def _rotate(orientation: FloatArray, vector: FloatArray) -> FloatArray:
    """Vector in the body seen from the world."""
    return rotations.rotate_inverse(orientation * CONJUGATE, vector)


def _about(mass: float, offset: FloatArray) -> FloatArray:
    """Inertia (3, 3) of a point mass about a point ``offset`` (3,) away."""
    return np.asarray(mass * (offset @ offset * np.eye(3) - np.outer(offset, offset)))
