"""The person who puts a robot on its feet, in simulation; nothing else of the world changes."""

import mujoco
import numpy as np

from lebot_rl_ros.robot import rotations
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.model import FLOOR
from lebot_rl_ros.sim.simulation import Simulation

ABOVE = 0.002  # m that the feet hang above the floor when it is let go


def put_on_its_feet(simulation: Simulation, index: int, pose: FloatArray) -> None:
    """Set one robot down where it lies, upright, at rest, heading where it headed.

    Unlike a reset this draws nothing: faults, loads and the floor stay as they are.

    Args:
        simulation: of which robots.
        index: which one.
        pose: (J,) rad, as its servos measure it.
    """
    robot, model = simulation.robot, simulation.models[index]
    qpos = simulation.qpos[index]
    floor = model.geom(FLOOR).id
    true = pose + simulation.horn_offset[index]
    feet = robot.legs(true, np.zeros_like(true))
    height = float(robot.legs.foot_radius - feet.position[2].min()) + ABOVE
    axes = np.empty(9)
    mujoco.mju_quat2Mat(axes, model.geom_quat[floor])
    up = axes.reshape(3, 3)[:, 2]
    qpos[:3] += up * (height - up @ (qpos[:3] - model.geom_pos[floor]))
    half = 0.5 * float(rotations.yaw(qpos[3:7]))
    heading = np.array([np.cos(half), 0.0, 0.0, np.sin(half)])
    qpos[3:7] = rotations.multiply(model.geom_quat[floor], heading)
    joints = [simulation.nominal.joint(name).qposadr[0] for name in robot.joint_names]
    qpos[joints] = true
    simulation.qvel[index] = 0.0


class Helper:
    """Puts one robot on its feet a fixed time after its fall, and holds it there until it tracks.

    Held in the standing pose, also where a servo is dead: a person bends that leg, too.
    """

    def __init__(self, simulation: Simulation, index: int, seconds: float | None) -> None:
        """Watch one robot; ``seconds`` of robot time after its fall she comes, None: never."""
        self._simulation, self._index, self._seconds = simulation, index, seconds
        self._since: int | None = None  # ns
        self._holds = False
        self.helped = 0

    def let_go(self) -> None:
        """Forget the fall, as after a reset."""
        self._since, self._holds = None, False

    def watch(self, stamp: int, *, down: bool, stays_down: bool, moves: bool) -> bool:
        """Look at the robot, once a period, before it is stepped.

        Args:
            stamp: ns.
            down: whether it fell, and has not stood since.
            stays_down: whether it cannot get up by itself.
            moves: whether its driver follows the policy, or has given up: she lets it go.

        Returns:
            Whether she comes now; the caller clears the fault.
        """
        if not down or self._since is None:
            self._since = stamp if down else None
        self._holds = self._holds and not moves
        comes = False
        if stays_down and self._seconds is not None and self._since is not None:
            comes = stamp - self._since >= 1e9 * self._seconds
        self.helped += comes
        self._holds |= comes
        if self._holds:
            put_on_its_feet(self._simulation, self._index, self._simulation.robot.stand)
        return comes
