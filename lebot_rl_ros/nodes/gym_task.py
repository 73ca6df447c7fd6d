"""The task of LeBotROS-v0: observation, reward and end, from control periods that were seen."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.control.walker import load_walk
from lebot_rl_ros.mdp.observations import History
from lebot_rl_ros.mdp.scoring import Score, Scorer
from lebot_rl_ros.mdp.task import make_step
from lebot_rl_ros.nodes.gym_config import RosEnvConfig
from lebot_rl_ros.nodes.gym_reset import TRACK
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros.driver_link import Seen

Array = npt.NDArray[Any]


class LiveTask:
    """One episode after the other; :meth:`begin` starts one."""

    def __init__(self, robot: Robot, policy: str, config: RosEnvConfig) -> None:
        """Take observation, gait clock and action scale from a policy, by name or path.

        Raises:
            FileNotFoundError: no such policy.
            ValueError: it is made for another robot.
        """
        self.robot, self.config = robot, config
        walk = load_walk(robot, policy)
        self.layout, self.gait, self._space = walk.layout, walk.gait, walk.space
        self._history = History(walk.layout)
        self._scorer = Scorer(robot, walk.gait, config.reward)
        self._applied: FloatArray = np.zeros(len(robot.joints))
        self._previous: FloatArray = self._applied
        self._pin: FloatArray | None = None
        self.command: FloatArray = np.zeros(2)  # m/s forward, rad/s about z
        self.age = 0  # periods

    @property
    def terms(self) -> list[str]:
        """Names of the reward's components."""
        return self._scorer.names

    def target(self, action: FloatArray) -> FloatArray:
        """Joint targets (J,) rad for an action (J,)."""
        return self._space.target(self.robot, action)

    def begin(self, seen: Seen, pinned: FloatArray | None) -> None:
        """Forget what was; ``pinned`` is the command (2,) for the whole episode, if given."""
        self._applied = self._previous = self._space.action(self.robot, seen.applied)
        self._scorer = Scorer(self.robot, self.gait, self.config.reward)
        self._history.reset()
        self.age, self._pin = 0, pinned

    def draw(self, rng: np.random.Generator) -> None:
        """Choose the command, at the beginning and whenever it has been held long enough."""
        if self.age % self._periods(self.config.hold) == 0:
            drawn = self.config.draw(rng)
            self.command = drawn if self._pin is None else self._pin

    def observe(self, seen: Seen) -> Array:
        """What the policy would see, (O,) float32; once a period."""
        step = make_step(
            self.robot,
            self.gait,
            seen.state,
            self.command,
            self._applied,
            self._previous,
            feet_too=False,
        )
        observed: Array = self._history(self.layout.observe(self.robot, step))
        return observed

    def score(self, before: Seen, following: Seen) -> tuple[Score, str]:
        """What one period earned under the command that held, and why the episode ends, if so."""
        self.age += 1
        self._previous = self._applied
        self._applied = self._space.action(self.robot, following.applied)
        score = self._scorer(
            before.stamp,
            following.state,
            self.command,
            self._applied,
            followed=following.mode == TRACK,
        )
        if score.terminated:
            return score, 'a fall'
        if following.mode != TRACK:
            return score, f'the driver took over: {following.mode}'
        if score.truncated:
            gap = (following.stamp - before.stamp) / 1e9
            return score, f'a gap of {gap:.3f} s between two states'
        over = self.age >= self._periods(self.config.episode)
        return score, 'time is up' if over else ''

    def _periods(self, seconds: float) -> int:
        return max(round(seconds * self.robot.control_rate), 1)
