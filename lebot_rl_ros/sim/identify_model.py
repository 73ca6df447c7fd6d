"""The simulator's servo on one joint, in numpy: many windows and many candidates at once.

The same lines of sums as :mod:`lebot_rl_ros.sim.simulation` has MuJoCo do for a joint whose body
is held: so what is fitted here is what the simulator will do. ``test_identify.py`` holds the two
together.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import ServoModel
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.identify_data import HISTORY
from lebot_rl_ros.sim.simulation import TIMESTEP

PARAMETERS = ('kp', 'damping', 'friction', 'dead_band', 'delay', 'stall_torque', 'armature')
KP, DAMPING, FRICTION, DEAD_BAND, DELAY, STALL, ARMATURE = range(7)
LOW = np.array([0.1, 1e-4, 0.0, 0.0, 0.0, 0.01, 1e-6])
HIGH = np.array([1000.0, 100.0, 10.0, 0.3, 0.1, 200.0, 10.0])
# MuJoCo's friction loss is a soft constraint: defaults of solref and solimp.
IMPEDANCE = 0.9
DECAY = 2.0 / (0.95 * 0.02)  # 1/s


@dataclass(frozen=True)
class JointWindows:
    """W windows of one joint, n ticks each after the first reading."""

    command: FloatArray  # (W, HISTORY + n) rad
    position: FloatArray  # (W, n + 1) rad, measured
    velocity: FloatArray  # (W,) rad/s, measured at the start
    inertia: FloatArray  # (W, n) kg·m², of the links as the joint feels them
    load: FloatArray  # (W, n) N·m, that gravity and the other joints ask of this one
    period: float  # s

    def __len__(self) -> int:
        """How many windows."""
        return len(self.command)

    def pick(self, which: npt.NDArray[np.bool_]) -> 'JointWindows':
        """Some of them."""
        return replace(
            self,
            command=self.command[which],
            position=self.position[which],
            velocity=self.velocity[which],
            inertia=self.inertia[which],
            load=self.load[which],
        )


def vector(servo: ServoModel) -> FloatArray:
    """A servo as numbers in the order of :data:`PARAMETERS`."""
    return np.array([getattr(servo, name) for name in PARAMETERS])


def servo_of(parameters: FloatArray, like: ServoModel) -> ServoModel:
    """Numbers as a servo; the rest is as that of another."""
    values = dict(zip(PARAMETERS, map(float, parameters), strict=True))
    speed = values['stall_torque'] / values.pop('damping')
    return ServoModel(no_load_speed=speed, nominal_voltage=like.nominal_voltage, **values)


def simulate(
    parameters: FloatArray, position: FloatArray, velocity: FloatArray, windows: JointWindows
) -> FloatArray:
    """Predict all windows for all candidates.

    The delay may lie between two substeps: the command is then mixed of both, so that a fit can
    follow it; at whole substeps this is what the simulator does.

    Args:
        parameters: (V, 7), one candidate a row, see :data:`PARAMETERS`.
        position: (V, W) rad, or (1, W): where each window begins.
        velocity: (V, W) rad/s, likewise.
        windows: what was commanded.

    Returns:
        (V, W, n) rad at the ends of the n ticks.
    """
    kp, damping, friction, band, delay, stall, armature = parameters.T[:, :, None]
    substeps, h = round(windows.period / TIMESTEP), TIMESTEP
    commands = np.ascontiguousarray(windows.command.T)
    lag = np.minimum(delay[:, 0] / h, (HISTORY - 1) * substeps)
    whole = np.floor(lag).astype(np.intp)
    part = (lag - whole)[:, None]
    shape = np.broadcast_shapes(kp.shape, position.shape, (1, len(windows)))
    q, v = np.broadcast_to(position, shape).copy(), np.broadcast_to(velocity, shape).copy()
    ticks = windows.inertia.shape[1]
    path = np.empty((*shape, ticks))
    for tick in range(ticks):
        inertia, load = armature + windows.inertia[:, tick], windows.load[:, tick]
        # A friction that stops the joint: force on acceleration, softened as MuJoCo's is.
        grip, slow = IMPEDANCE * inertia, 1.0 / (inertia + h * damping)
        begun = q.copy()
        for substep in range(substeps):
            at = (HISTORY + tick) * substeps + substep - whole
            told = (1 - part) * commands[at // substeps] + part * commands[(at - 1) // substeps]
            error = told - begun
            error -= np.clip(error, -band, band)
            torque = np.clip(kp * (error + begun - q), -stall, stall) - damping * v - load
            torque += np.clip(-grip * (DECAY * v + torque / inertia), -friction, friction)
            v += h * torque * slow
            q += h * v
        path[..., tick] = q
    return path
