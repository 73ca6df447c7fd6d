"""Rewards: terms over what the robot can know, weighted by one table.

All reduce over the last axis.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lebot_rl_ros.mdp.commands import Gait, foot_phases, moving
from lebot_rl_ros.mdp.step import Step
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray

DEFAULT_GAIT = Gait()


def track_linear_velocity(robot: Robot, step: Step) -> FloatArray:
    """exp(-(error / width)²); the width grows with the command, or slow ones would look alike."""
    forward = step.command[..., 0]
    width = 0.06 + 0.2 * np.abs(forward) + 0.1 * np.abs(step.command[..., 1])
    error = step.velocity[..., 0] - forward
    return np.exp(-np.square(error / width))


def track_yaw_rate(robot: Robot, step: Step) -> FloatArray:
    """exp(-(error / width)²) on the gyro's z."""
    wanted = step.command[..., 1]
    width = 0.2 + 0.2 * np.abs(wanted)
    return np.exp(-np.square((step.state.angular_velocity[..., 2] - wanted) / width))


def speed_error(robot: Robot, step: Step) -> FloatArray:
    """m/s; leads to the command from where the kernel of the tracking term is flat."""
    return _shortfall(step.velocity[..., 0], step.command[..., 0], 1.9)


def yaw_rate_error(robot: Robot, step: Step) -> FloatArray:
    """rad/s, likewise."""
    return _shortfall(step.state.angular_velocity[..., 2], step.command[..., 1], 1.5)


def _shortfall(value: FloatArray, wanted: FloatArray, factor: float) -> FloatArray:
    """Absolute error; too little counts ``factor`` times, or a swaying gait would settle low."""
    error = wanted - value
    return np.abs(error) * (1.0 + (factor - 1.0) * (error * wanted > 0.0))


def gait(robot: Robot, step: Step) -> FloatArray:
    """1 when every foot is as high as the trot clock wants it; standing wants all down."""
    phases = foot_phases(robot, step.phase)
    lift = DEFAULT_GAIT.swing_height * np.maximum(0.0, -np.sin(2 * np.pi * phases))
    wanted = lift * moving(step.command)[..., None]
    return np.exp(-np.square((step.foot_height - wanted) / 0.012)).mean(axis=-1)


def lateral_velocity(robot: Robot, step: Step) -> FloatArray:
    """(m/s)²."""
    return np.square(step.velocity[..., 1])


def tilt(robot: Robot, step: Step) -> FloatArray:
    """sin² of the angle to level."""
    return np.square(step.gravity[..., :2]).sum(axis=-1)


def roll_pitch_rate(robot: Robot, step: Step) -> FloatArray:
    """(rad/s)²."""
    return np.square(step.state.angular_velocity[..., :2]).sum(axis=-1)


def action_rate(robot: Robot, step: Step) -> FloatArray:
    """Squared change of the applied action."""
    return np.square(step.action - step.previous_action).sum(axis=-1)


def torque(robot: Robot, step: Step) -> FloatArray:
    """(N·m)²."""
    return np.square(step.state.joint_effort).sum(axis=-1)


def standing_pose(robot: Robot, step: Step) -> FloatArray:
    """Squared distance (rad²) from the nominal pose, when asked to stand."""
    distance = np.square(step.state.joint_position - robot.stand).sum(axis=-1)
    return distance * (1.0 - moving(step.command))


def alive(robot: Robot, step: Step) -> FloatArray:
    """1 for every period on its feet."""
    return np.ones(step.gravity.shape[:-1])


TERMS: dict[str, Callable[[Robot, Step], FloatArray]] = {
    term.__name__: term
    for term in (
        track_linear_velocity, track_yaw_rate, speed_error, yaw_rate_error, gait,
        lateral_velocity, tilt, roll_pitch_rate,
        action_rate, torque, standing_pose, alive,
    )
}  # fmt: skip

DEFAULT_WEIGHTS = {
    'track_linear_velocity': 1.0,
    'track_yaw_rate': 1.0,
    'speed_error': -4.0,
    'yaw_rate_error': -2.5,
    'gait': 0.7,
    'lateral_velocity': -1.0,
    'tilt': -2.0,
    'roll_pitch_rate': -0.02,
    'action_rate': -0.02,
    'torque': -0.01,
    'standing_pose': -0.5,
    'alive': 1.5,
}


@dataclass(frozen=True)
class RewardConfig:
    """Weight of each term per control period; a fall costs ``fall`` once.

    From the fall until it walks again a robot earns ``down`` a second, and nothing else.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    fall: float = -30.0
    down: float = -1.0  # per s

    def __post_init__(self) -> None:
        """Check names and numbers.

        Raises:
            ValueError: an unknown term, with the known ones, or a weight that is not finite.
        """
        unknown = [name for name in self.weights if name not in TERMS]
        if unknown:
            raise ValueError(f'unknown reward terms {unknown}; known are {", ".join(TERMS)}')
        for name, weight in {**self.weights, 'fall': self.fall, 'down': self.down}.items():
            if not math.isfinite(weight):
                raise ValueError(f'weight of {name} is {weight}, must be finite')


def reward_terms(config: RewardConfig, robot: Robot, step: Step) -> dict[str, FloatArray]:
    """Weighted terms, each (...); their sum is the reward of a period without a fall."""
    return {
        name: weight * TERMS[name](robot, step)
        for name, weight in config.weights.items()
        if weight
    }
