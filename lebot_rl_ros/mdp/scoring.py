"""What a step earned, and how episodes add up: the core of the reward node."""

from dataclasses import dataclass

import numpy as np

from lebot_rl_ros.mdp.commands import Gait
from lebot_rl_ros.mdp.rewards import RewardConfig, reward_terms
from lebot_rl_ros.mdp.task import make_step
from lebot_rl_ros.mdp.terminations import fallen
from lebot_rl_ros.robot import Robot, RobotState
from lebot_rl_ros.robot.state import FloatArray

MAX_GAP = 1.5  # control periods between a state and the next, beyond which a trajectory is cut


@dataclass(frozen=True)
class Score:
    """Reward of one step; ``terms`` include the fall."""

    terms: dict[str, float]
    terminated: bool
    truncated: bool

    @property
    def reward(self) -> float:
        """Sum of the terms."""
        return float(sum(self.terms.values()))


class Scorer:
    """Scores the state that a step led to, with what the servos were told in it."""

    def __init__(self, robot: Robot, gait: Gait, config: RewardConfig) -> None:
        """Remember the weights."""
        self.robot, self.gait, self.config = robot, gait, config
        self._previous: FloatArray | None = None

    @property
    def names(self) -> list[str]:
        """Terms, in the order of the published record."""
        return [*(name for name, weight in self.config.weights.items() if weight), 'fall']

    def __call__(
        self,
        stamp: int,
        following: RobotState,
        command: FloatArray,
        applied: FloatArray,
        *,
        followed: bool,
    ) -> Score:
        """Score one step.

        Args:
            stamp: ns, of the state that the step began with.
            following: the state that it led to.
            command: (2,) that the policy was given.
            applied: (J,) action that the servos got.
            followed: the driver applied the policy's action, and not its own safety's.
        """
        previous = applied if self._previous is None else self._previous
        step = make_step(self.robot, self.gait, following, command, applied, previous)
        weighted = reward_terms(self.config, self.robot, step)
        terms = {name: float(term) for name, term in weighted.items()}
        # A robot that lies there while its driver has taken over does not fall again.
        down = followed and bool(fallen(self.robot, step.gravity))
        terms['fall'] = self.config.fall * down
        gap = int(following.stamp) - stamp > MAX_GAP * self.robot.control_period_ns
        cut = (gap or not followed) and not down
        self._previous = None if down or cut else applied
        return Score(terms, terminated=down, truncated=cut)


class Episodes:
    """Return, length and falls of the walk so far."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.falls = self.count = self.steps = 0
        self.total = 0.0  # return of the running episode
        self.last_return, self.last_steps = float('nan'), 0
        self._recent = np.zeros(0)

    def add(self, score: Score) -> None:
        """One step."""
        self._recent = np.append(self._recent[-49:], score.reward)
        self.total += score.reward
        self.steps += 1
        if score.terminated or score.truncated:
            self.falls += score.terminated
            if self.steps > 1:
                self.count += 1
                self.last_return, self.last_steps = self.total, self.steps
            self.total, self.steps = 0.0, 0

    @property
    def mean_reward(self) -> float:
        """Per step, over the last second at 50 Hz."""
        return float(self._recent.mean()) if len(self._recent) else float('nan')
