"""One script of the get-up, as the joint table has it: key poses and the times between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lebot_rl_ros.robot.state import FloatArray


@dataclass(frozen=True)
class GetUpScript:
    """Poses, one after another, that right a robot which lies in one way."""

    gravity: FloatArray  # (3,) unit vector in base_link, as the robot lies
    seconds: tuple[float, ...]  # to each pose from the one before; the first begins anywhere
    poses: tuple[FloatArray, ...]  # (J,) rad each
    falling: bool = False  # begins in the fall, not when the robot has come to lie

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> 'GetUpScript':
        """Take one as YAML gives it: lists of numbers."""
        return cls(
            gravity=np.array(row['gravity'], dtype=float),
            seconds=tuple(float(seconds) for seconds in row['seconds']),
            poses=tuple(np.array(pose, dtype=float) for pose in row['poses']),
            falling=bool(row.get('falling', False)),
        )

    def check(
        self,
        names: Sequence[str],
        lower: FloatArray,
        upper: FloatArray,
        velocity: float,
        acceleration: float,
    ) -> None:
        """Refuse what the driver's limits would change, but for the move to the first pose.

        Args:
            names: of the joints, J.
            lower: (J,) rad.
            upper: (J,) rad.
            velocity: limit of the targets, rad/s.
            acceleration: limit of the targets, rad/s².

        Raises:
            ValueError: numbers that do not fit, a pose outside the limits, or a move that is too
                fast; the message names the pose.
        """
        if len(self.seconds) != len(self.poses) or not self.poses or not min(self.seconds) > 0:
            raise ValueError(
                f'get_up: {len(self.poses)} poses and {len(self.seconds)} seconds; '
                'give one time above zero for each pose, and at least one pose'
            )
        if self.gravity.shape != (3,) or not abs(np.linalg.norm(self.gravity) - 1.0) < 0.01:
            raise ValueError(f'get_up: gravity is {self.gravity}, must be a unit vector of three')
        for index, (pose, seconds) in enumerate(zip(self.poses, self.seconds, strict=True)):
            if pose.shape != lower.shape:
                raise ValueError(f'get_up: pose {index} has {pose.size} joints of {len(names)}')
            for i in np.flatnonzero(~((lower <= pose) & (pose <= upper))).tolist():
                raise ValueError(
                    f'get_up: {names[i]} is {pose[i]:.4g} in pose {index}, '
                    f'outside [{lower[i]}, {upper[i]}]'
                )
            if not index:
                continue
            # A smoothstep's greatest speed is 1.5 times its mean, its acceleration 6 d / t^2.
            far = float(np.abs(pose - self.poses[index - 1]).max())
            soonest = max(1.5 * far / velocity, (6 * far / acceleration) ** 0.5)
            if seconds < soonest:
                raise ValueError(
                    f'get_up: {seconds} s to pose {index}, the limits need {soonest:.2f} s'
                )
