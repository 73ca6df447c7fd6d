"""What LeBotROS-v0 asks of the robot, and how long it waits."""

from dataclasses import dataclass, field

import numpy as np

from lebot_rl_ros.mdp.rewards import RewardConfig
from lebot_rl_ros.robot.state import FloatArray


@dataclass(frozen=True)
class RosEnvConfig:
    """Commands and episodes as in LeBotVelocity-v0; patience in s of wall time."""

    forward: tuple[float, float] = (0.0, 0.6)  # m/s
    yaw_rate: tuple[float, float] = (-0.65, 0.65)  # rad/s
    standing: float = 0.1  # share of commands that ask to stand
    straight: float = 0.2  # share that ask for no yaw
    hold: float = 5.0  # s of robot time between new commands
    episode: float = 20.0  # s of robot time
    reward: RewardConfig = field(default_factory=RewardConfig)
    patience: float = 5.0  # for the next state; beyond it the driver counts as silent
    search: float = 10.0  # for a driver when attached
    start: float = 60.0  # for the processes of an own stack
    rise: float = 10.0  # s of robot time for the driver to stand up and track
    settle: float = 0.5  # s of robot time in which a real robot stands before an episode
    operator: float = 120.0  # for a person to put a fallen robot on its feet, or to clear a fault

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a time that is none, or shares of commands beyond 1.
        """
        for name in ('hold', 'episode', 'patience', 'search', 'start', 'rise', 'operator'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name} is {getattr(self, name)} s, must be positive')
        if not 0 <= self.standing <= self.standing + self.straight <= 1:
            raise ValueError(
                f'standing is {self.standing} and straight {self.straight}: shares of all '
                'commands, which together are at most 1'
            )

    def draw(self, rng: np.random.Generator) -> FloatArray:
        """A command (2,): m/s forward and rad/s about z."""
        command = np.array((rng.uniform(*self.forward), rng.uniform(*self.yaw_rate)))
        kind = rng.random()
        if kind < self.standing + self.straight:
            command[1] = 0.0
        if kind < self.standing:
            command[0] = 0.0
        return command
