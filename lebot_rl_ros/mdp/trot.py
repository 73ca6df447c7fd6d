"""An open-loop trot by the gait clock: a policy that learned nothing, to try the wiring with."""

import numpy as np

from lebot_rl_ros.mdp.commands import ActionSpace, Gait, foot_phases, moving
from lebot_rl_ros.mdp.observations import SCALES, ObservationLayout
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray


class TrotPolicy:
    """Moves feet along half ellipses; reads command and phase from its observation."""

    sha256 = '0' * 64

    def __init__(
        self, robot: Robot, layout: ObservationLayout, gait: Gait, space: ActionSpace
    ) -> None:
        """Linearise the legs at the nominal pose."""
        self._robot, self._gait, self._space = robot, gait, space
        starts = dict(zip(layout.names, np.cumsum((0, *layout.widths)), strict=False))
        self._command, self._phase = starts['command'], starts['phase']
        self.log_std = np.full(len(robot.joints), -3.0, dtype=np.float32)
        zeros = np.zeros_like(robot.stand)
        feet = robot.legs(robot.stand, zeros).position
        step = 1e-5
        jacobian = np.stack(
            [
                (robot.legs(robot.stand + step * row, zeros).position - feet) / step
                for row in np.eye(len(zeros))
            ],
            axis=-1,
        )  # (3, F, J)
        self._side = np.sign(feet[1])
        self._half_track = float(np.abs(feet[1]).mean())
        size = feet.shape[1]
        self._inverse = np.linalg.pinv(jacobian[[0, 2]].reshape(2 * size, -1))  # (J, 2 F)

    def act(self, observation: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Action (J,) for one observation."""
        command = observation[self._command : self._command + 2] / SCALES['command']
        sine, cosine = observation[self._phase : self._phase + 2]
        phases = foot_phases(self._robot, np.arctan2(sine, cosine) / (2 * np.pi))
        speed = command[0] - self._side * self._half_track * command[1]
        stride = speed / (2 * self._gait.frequency)
        sweep = np.where(phases < 0.5, 0.5 - 2 * phases, 2 * phases - 1.5)
        lift = (
            self._gait.swing_height
            * np.maximum(0.0, -np.sin(2 * np.pi * phases))
            * moving(command)
        )
        action = self._inverse @ np.concatenate((stride * sweep, lift)) / self._space.scale
        if out is None:
            return action.astype(np.float32)
        out[:] = action
        return out

    def value(self, observation: FloatArray) -> float:
        """It expects nothing."""
        return 0.0
