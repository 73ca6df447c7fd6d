"""Faults injected into a running simulation; how they are written stands in fault_text."""

import math

from lebot_rl_ros.sim.conditions import LOAD_POSITION, tilt_floor
from lebot_rl_ros.sim.fault_text import Fault
from lebot_rl_ros.sim.model import FLOOR
from lebot_rl_ros.sim.simulation import Simulation


def inject(fault: Fault, simulation: Simulation, index: int = 0) -> None:
    """Do it now to one robot; a reset undoes it."""
    model = simulation.models[index]
    if fault.joint:
        joint = simulation.robot.joint_names.index(fault.joint)
        dof = model.joint(fault.joint).dofadr[0]
        if fault.kind in ('dead', 'weak'):
            simulation.weaken(index, joint, 0.0 if fault.kind == 'dead' else fault.value)
        elif fault.kind == 'stuck':
            model.dof_frictionloss[dof] = 50.0
        else:
            simulation.horn_offset[index, joint] += fault.value
    elif fault.kind == 'sag':
        simulation.set_supply(index, fault.value)
    elif fault.kind == 'friction':
        model.geom_friction[model.geom(FLOOR).id, 0] = fault.value
    elif fault.kind == 'slope':
        tilt_floor(
            model, simulation.qpos[index], simulation.qvel[index], math.radians(fault.value), 0.0
        )
    else:
        simulation.strap(index, fault.value, LOAD_POSITION)
