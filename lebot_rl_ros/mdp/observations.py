"""The observation by names: what a policy sees, in an order that its manifest writes down."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.mdp.commands import moving
from lebot_rl_ros.mdp.step import Step
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray

Term = Callable[[Robot, Step], FloatArray]


def gyro(robot: Robot, step: Step) -> FloatArray:
    """Angular velocity, rad/s."""
    return step.state.angular_velocity


def gravity(robot: Robot, step: Step) -> FloatArray:
    """Unit vector of gravity in base_link."""
    return step.gravity


def joint_position(robot: Robot, step: Step) -> FloatArray:
    """Angle from the standing pose, rad."""
    return step.state.joint_position - robot.stand


def joint_velocity(robot: Robot, step: Step) -> FloatArray:
    """rad/s."""
    return step.state.joint_velocity


def last_action(robot: Robot, step: Step) -> FloatArray:
    """What the servos were last told, in action units."""
    return step.action


def command(robot: Robot, step: Step) -> FloatArray:
    """Forward speed, m/s, and yaw rate, rad/s."""
    return step.command


def phase(robot: Robot, step: Step) -> FloatArray:
    """Sine and cosine of the gait clock; zeros when standing."""
    angle = 2 * np.pi * np.asarray(step.phase)
    walks = moving(step.command)
    both = np.empty((*angle.shape, 2))
    both[..., 0] = np.sin(angle) * walks
    both[..., 1] = np.cos(angle) * walks
    return both


TERMS: dict[str, tuple[Term, int]] = {  # width 0 stands for the number of joints
    'gyro': (gyro, 3),
    'gravity': (gravity, 3),
    'joint_position': (joint_position, 0),
    'joint_velocity': (joint_velocity, 0),
    'last_action': (last_action, 0),
    'command': (command, 2),
    'phase': (phase, 2),
}
SCALES = {'gyro': 0.3, 'joint_velocity': 0.1, 'command': 2.0}
LIMIT = 10.0  # observations are clipped to this after scaling


@dataclass(frozen=True)
class ObservationLayout:
    """Names, widths, scales and history of an observation.

    Equal layouts mean the same numbers in the same places.
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    scales: tuple[float, ...]
    history: int = 1  # newest first

    @classmethod
    def of(
        cls, robot: Robot, names: tuple[str, ...] = tuple(TERMS), history: int = 1
    ) -> 'ObservationLayout':
        """Layout of these terms for a robot.

        Raises:
            ValueError: an unknown term; the message lists the known ones.
        """
        unknown = [name for name in names if name not in TERMS]
        if unknown:
            raise ValueError(f'unknown observation terms {unknown}; known are {", ".join(TERMS)}')
        if history < 1:
            raise ValueError(f'observation history is {history}, must be 1 or more')
        widths = tuple(TERMS[name][1] or len(robot.joints) for name in names)
        return cls(names, widths, tuple(SCALES.get(name, 1.0) for name in names), history)

    @property
    def frame(self) -> int:
        """Numbers in one period's observation."""
        return sum(self.widths)

    @property
    def size(self) -> int:
        """Numbers that the policy sees."""
        return self.frame * self.history

    @cached_property
    def _scale(self) -> FloatArray:
        """(frame,)."""
        return np.repeat(self.scales, self.widths)

    def observe(self, robot: Robot, step: Step) -> FloatArray:
        """One period's observation: (..., frame) float32."""
        frame = np.concatenate([TERMS[name][0](robot, step) for name in self.names], axis=-1)
        np.multiply(frame, self._scale, out=frame)
        np.minimum(frame, LIMIT, out=frame)
        np.maximum(frame, -LIMIT, out=frame)
        return frame.astype(np.float32)


class History:
    """The last periods' observations as one, newest first."""

    def __init__(self, layout: ObservationLayout, *shape: int) -> None:
        """Start empty; the first frame after a reset fills all places."""
        self._frames = np.zeros((*shape, layout.history, layout.frame), dtype=np.float32)
        self._fresh = np.ones(shape, dtype=bool)

    def reset(self, which: npt.NDArray[np.bool_] | None = None) -> None:
        """Forget, everywhere or where ``which`` is true."""
        self._fresh[... if which is None else which] = True

    def __call__(self, frame: FloatArray) -> FloatArray:
        """Add a frame (..., frame); return (..., history * frame)."""
        if self._frames.shape[-2] == 1:
            return frame
        self._frames[..., 1:, :] = self._frames[..., :-1, :]
        self._frames[..., 0, :] = frame
        self._frames[self._fresh] = np.broadcast_to(
            frame[self._fresh][..., None, :], self._frames[self._fresh].shape
        )
        self._fresh[...] = False
        return self._frames.reshape(*self._frames.shape[:-2], -1).copy()
