"""How a robot that fell comes to stand by itself: which script, how often, and when it is left.

The scripts stand in the robot's joint table. Pure: who moves the servos is the supervisor.
"""

from dataclasses import dataclass

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.get_up_script import GetUpScript
from lebot_rl_ros.robot.state import FloatArray


@dataclass(frozen=True)
class GetUpConfig:
    """When, and how often."""

    enabled: bool = False  # otherwise a fall is latched at once
    tries: int = 3  # from a fall on, until it has stood
    rest: float = 0.5  # s that it has lain still and relaxed before a try: the fall has ended
    still: float = 0.5  # rad/s; a body that turns faster still falls, or is carried
    reach: float = 0.7  # cosine of the angle by which it may lie otherwise than a script says

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a number is below zero.
        """
        if self.tries < 0 or not self.rest >= 0:
            raise ValueError(
                f'get_up: {self.tries} tries after {self.rest} s of rest; both must be 0 or more'
            )


class GetUp:
    """Counts the tries of one robot, and gives the way of each."""

    def __init__(self, robot: Robot, config: GetUpConfig) -> None:
        """Begin with a robot that has not fallen.

        Raises:
            ValueError: it is enabled, and the joint table has no script.
        """
        if config.enabled and not robot.get_up:
            raise ValueError(
                f'get_up is true, but the joint table of {robot.name} has no get_up script'
            )
        self.config = config
        self._scripts = robot.get_up
        self.tries = 0  # since the fall
        self.down = False  # it fell, and has not stood since

    @property
    def left(self) -> bool:
        """Whether a try is left."""
        return self.config.enabled and self.tries < self.config.tries

    def fell(self) -> None:
        """Take note of a fall."""
        self.down = True

    def begins(self) -> None:
        """Take note of a try: by a script, or just by standing up where it lies upright."""
        self.tries += self.down

    def stands(self) -> None:
        """It stands, or somebody cleared the fault: what was before does not count."""
        self.tries, self.down = 0, False

    def script(self, gravity: FloatArray, *, falling: bool) -> GetUpScript | None:
        """The script made for how the robot lies, if there is one and a try is left.

        Args:
            gravity: (3,) unit vector in base_link; the script with the nearest one is taken.
            falling: whether it still falls: some scripts are for the fall itself.
        """
        scripts = [script for script in self._scripts if script.falling == falling]
        if not scripts or not self.left:
            return None
        nearest = max(scripts, key=lambda script: float(script.gravity @ gravity))
        return nearest if nearest.gravity @ gravity >= self.config.reach else None

    def words(self, fall: str) -> str:
        """Say for people why it stays down after a fall."""
        if not self.config.enabled:
            return fall
        if not self.left:
            return f'{fall}; stays down after {self.tries} tries to get up'
        return f'{fall}; from there it cannot get up by itself'
