"""What might have come next: many simulated robots that go on from recorded steps.

A row of ``data.rows.transition_dtype`` has what the policy saw, and that says much of how the
robot was. Restored are, as sensed: joint angles and speeds, tilt, angular velocity, the command,
the gait clock, the action before, and from these the body's velocity (by the legs' odometry, as in
`odom`) and its height, on the lowest foot. Not in a row, and so not restored: where it was and
which way it faced, which change nothing on a level floor; contact forces; how fast the limited
targets were moving; noise and bias of the sensors; masses, friction, slopes and servos, which are
the model's, with the faults that are given. It goes on under the row's command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.envs.adapting import NOISY, let_fail
from lebot_rl_ros.envs.faulty_task import FaultyTask
from lebot_rl_ros.envs.robot_body import Robots
from lebot_rl_ros.envs.velocity_task import VelocityConfig
from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.mdp.observations import ObservationLayout
from lebot_rl_ros.robot import Robot, rotations
from lebot_rl_ros.robot.odometry import foot_heights, leg_odometry
from lebot_rl_ros.robot.state import FloatArray

NEEDED = ('gyro', 'gravity', 'joint_position', 'joint_velocity', 'last_action')


@dataclass(frozen=True)
class Sensed:
    """How robots were, as far as an observation says it; N of them."""

    angular_velocity: FloatArray  # (N, 3) rad/s, base_link
    gravity: FloatArray  # (N, 3) unit vector in base_link
    joint_position: FloatArray  # (N, J) rad
    joint_velocity: FloatArray  # (N, J) rad/s
    last_action: FloatArray  # (N, J) action units


def sensed(robot: Robot, layout: ObservationLayout, observations: Array) -> Sensed:
    """Read observations (N, O) back; of a history the newest frame.

    Raises:
        ValueError: the layout lacks a term that is needed, or the width is another.
    """
    missing = [name for name in NEEDED if name not in layout.names]
    if missing:
        raise ValueError(
            f'observations have no {", ".join(missing)}, so no state can be restored from them; '
            f'they have {", ".join(layout.names)}'
        )
    if observations.shape[-1] != layout.size:
        raise ValueError(
            f'observations have {observations.shape[-1]} numbers, {layout.size} expected'
        )
    edges = np.cumsum((0, *layout.widths))
    found = {
        name: observations[:, edges[i] : edges[i + 1]].astype(np.float64) / layout.scales[i]
        for i, name in enumerate(layout.names)
    }
    gravity = found['gravity']
    length = np.linalg.norm(gravity, axis=1, keepdims=True)
    if not (length > 0.5).all():
        raise ValueError('observations have a gravity of no length')
    return Sensed(
        found['gyro'],
        gravity / length,
        found['joint_position'] + robot.stand,
        found['joint_velocity'],
        found['last_action'],
    )


class ContinuedTask(FaultyTask):
    """Robots of which each goes on from a row; an episode that ends begins there again."""

    def __init__(
        self,
        robot: Robot,
        rows: Array,
        faults: Sequence[str] = (),
        config: VelocityConfig | None = None,
        *,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        """Take the rows (N,), one a robot; of the rest see :class:`FaultyTask`.

        Raises:
            ValueError: a fault that cannot be read or continued with, or other observations.
        """
        config = config or VelocityConfig(randomisation=NOISY)
        super().__init__(robot, len(rows), faults, config, seed=seed, threads=threads)
        if any(fault.kind == 'slope' for fault in self.faults):
            raise ValueError(
                'fault slope cannot be continued with: a row does not say where up is'
            )
        self.go_on(rows)

    def go_on(self, rows: Array) -> None:
        """Take other rows (N,), for the next reset."""
        self._rows = rows
        self._were = sensed(self.robot, self.layout, rows['observation'])
        self.pinned_command = rows['command'].astype(np.float64)

    def _restart(self, which: npt.NDArray[np.bool_]) -> None:
        super()._restart(which)
        simulation, were, space = self.simulation, self._were, self.config.action_space
        targets = self.robot.stand + space.scale * were.last_action
        one = np.zeros(self.robots, dtype=bool)
        for i in np.flatnonzero(which).tolist():
            one[:] = False
            one[i] = True
            simulation.reset(one, pose=targets[i])  # so its servos were told that before
            let_fail(simulation, self.faults, i)
        self._place(which)
        self._action[which] = were.last_action[which]
        self._limited.position[which] = targets[which]
        now = np.broadcast_to(simulation.sense().stamp, (self.robots,))
        self._start[which] = (self._rows['stamp'] - now)[which]

    def _place(self, which: npt.NDArray[np.bool_]) -> None:
        """Put bodies and joints where they were."""
        simulation, were, robot = self.simulation, self._were, self.robot
        angles = were.joint_position + simulation.horn_offset
        feet = robot.legs(angles, were.joint_velocity)
        height = robot.legs.foot_radius - foot_heights(feet, were.gravity).min(axis=-1)
        velocity = leg_odometry(robot, feet, were.gravity, were.angular_velocity)
        tilt = rotations.roll_pitch(were.gravity)
        orientation = rotations.from_roll_pitch_yaw(
            np.concatenate((tilt, np.zeros((len(tilt), 1))), axis=1)
        )
        back = orientation * (1.0, -1.0, -1.0, -1.0)
        qpos, qvel, model = simulation.qpos, simulation.qvel, simulation.nominal
        qpos[which, :2], qpos[which, 2] = 0.0, height[which]
        qpos[which, 3:7] = orientation[which]
        qvel[which, :3] = rotations.rotate_inverse(back, velocity)[which]
        qvel[which, 3:6] = were.angular_velocity[which]
        for joint, name in enumerate(robot.joint_names):
            qpos[which, model.joint(name).qposadr[0]] = angles[which, joint]
            qvel[which, model.joint(name).dofadr[0]] = were.joint_velocity[which, joint]


class Continuations(Robots):
    """A world's body whose tasks are recorded rows to go on from."""

    def __init__(self, task: ContinuedTask, rows: Array) -> None:
        """Take the robots, and the rows (M,) that starts are drawn from.

        Raises:
            ValueError: there are no rows.
        """
        if not len(rows):
            raise ValueError('there are no recorded steps to go on from')
        super().__init__('continuations', task, stagger=False)
        self._going_on, self._pool = task, rows

    def set_task(self, tasks: Any) -> None:
        """Go on from these rows (N,) at the next reset; None keeps those of before."""
        if tasks is not None:
            self._going_on.go_on(tasks)

    def sample_tasks(self, count: int, rng: np.random.Generator) -> Any:
        """Draw rows (count,), different ones while there are enough."""
        few = count > len(self._pool)
        return self._pool[np.sort(rng.choice(len(self._pool), count, replace=few))]
