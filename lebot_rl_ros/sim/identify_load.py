"""What a leg asks of its servos in the air: inertia and load, along a measured motion."""

import mujoco
import numpy as np

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.identify_data import Readings
from lebot_rl_ros.sim.model import build_model
from lebot_rl_ros.sim.simulation import TIMESTEP


def leg_loads(robot: Robot, readings: Readings) -> tuple[FloatArray, FloatArray]:
    """Inertia (T, J) kg·m² of the links about each joint, and load (T, J) N·m on it.

    The body is taken to be at rest. The load of a joint is gravity, Coriolis' and centrifugal
    forces, and what the accelerations of the other joints make of their common inertia; by
    ``M(q) a + bias(q, v) = torque`` along the measured motion. Where readings have an orientation,
    gravity is as the body really hung.
    """
    model = build_model(robot, TIMESTEP)
    data = mujoco.MjData(model)
    at = np.array([model.joint(name).qposadr[0] for name in robot.joint_names])
    dof = np.array([model.joint(name).dofadr[0] for name in robot.joint_names])
    own = model.dof_armature[dof]
    slope = np.gradient(readings.velocity, 1.0 / robot.control_rate, axis=0)
    inertia, load = np.empty_like(readings.position), np.empty_like(readings.position)
    full = np.zeros((model.nv, model.nv))
    data.qpos[2] = 10.0  # far from the floor
    for tick in range(len(inertia)):
        if readings.orientation is not None:
            data.qpos[3:7] = readings.orientation[tick]
        data.qpos[at], data.qvel[dof] = readings.position[tick], readings.velocity[tick]
        mujoco.mj_forward(model, data)
        if hasattr(data, 'qM'):
            mujoco.mj_fullM(model, full, data.qM)
        else:
            mujoco.mj_fullM(model, data, full)
        mass = full[np.ix_(dof, dof)]
        diagonal = np.diag(mass)
        inertia[tick] = diagonal - own
        load[tick] = data.qfrc_bias[dof] + mass @ slope[tick] - diagonal * slope[tick]
    return inertia, load
