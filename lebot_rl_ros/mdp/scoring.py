"""What a step earned, and how episodes add up: the core of the reward node."""

from dataclasses import dataclass

import numpy as np

from lebot_rl_ros.mdp.commands import Gait
from lebot_rl_ros.mdp.rewards import TERMS, RewardConfig, reward_terms
from lebot_rl_ros.mdp.task import make_step
from lebot_rl_ros.mdp.terminations import fallen
from lebot_rl_ros.robot import Robot, RobotState
from lebot_rl_ros.robot.state import FloatArray

MAX_GAP = 1.5  # control periods between a state and the next, beyond which a trajectory is cut


@dataclass(frozen=True)
class Score:
    """Reward of one step; ``terms`` include the fall, and the time until it walks again."""

    terms: dict[str, float]
    terminated: bool
    truncated: bool
    down: bool = False  # since a fall the driver has not followed the policy

    @property
    def reward(self) -> float:
        """Sum of the terms."""
        return float(sum(self.terms.values()))


class Scorer:
    """Scores the state that a step led to, with what the servos were told in it."""

    def __init__(self, robot: Robot, gait: Gait, config: RewardConfig) -> None:
        """Remember the weights; ``config`` may be replaced between two steps."""
        self.robot, self.gait, self.config = robot, gait, config
        self._previous: FloatArray | None = None
        self._down = False

    @property
    def names(self) -> list[str]:
        """Terms, in the order of the published record; the same whatever the weights are."""
        return [*TERMS, 'fall', 'down']

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
        terms = dict.fromkeys(self.names, 0.0)
        if self._down and not followed:
            # Who lies there, or is put on its feet, earns no alive: its time is charged.
            terms['down'] = self.config.down / self.robot.control_rate
            return Score(terms, terminated=False, truncated=True, down=True)
        previous = applied if self._previous is None else self._previous
        step = make_step(self.robot, self.gait, following, command, applied, previous)
        weighted = reward_terms(self.config, self.robot, step)
        terms.update((name, float(term)) for name, term in weighted.items())
        # A robot that lies there while its driver has taken over does not fall again.
        fell = followed and bool(fallen(self.robot, step.gravity))
        terms['fall'] = self.config.fall * fell
        gap = int(following.stamp) - stamp > MAX_GAP * self.robot.control_period_ns
        cut = (gap or not followed) and not fell
        self._previous = None if fell or cut else applied
        self._down = fell
        return Score(terms, terminated=fell, truncated=cut)


class Episodes:
    """Return, length and falls of the walk so far.

    A fall ends an episode; the time until the robot walks again still counts in its return.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.falls = self.count = self.steps = 0
        self.total = 0.0  # return of the running episode
        self.last_return, self.last_steps = float('nan'), 0
        self._recent = np.zeros(0)
        self._over = False  # by a fall, but for what it costs to get up

    def add(self, score: Score) -> None:
        """One step."""
        self._recent = np.append(self._recent[-49:], score.reward)
        if self._over and not score.down:
            self._begin()
        self.total += score.reward
        self.steps += 1
        if self._over:
            self.last_return, self.last_steps = self.total, self.steps
        elif score.terminated or score.truncated:
            self.falls += score.terminated
            if self.steps > 1:
                self.count += 1
                self.last_return, self.last_steps = self.total, self.steps
            self._over = score.terminated
            if not self._over:
                self._begin()

    def _begin(self) -> None:
        self.total, self.steps, self._over = 0.0, 0, False

    def values(self) -> dict[str, object]:
        """All of it by name, as the reward node tells it."""
        return {
            'mean_reward': self.mean_reward,
            'return': self.total,
            'steps': self.steps,
            'episodes': self.count,
            'last_return': self.last_return,
            'falls': self.falls,
        }

    @property
    def mean_reward(self) -> float:
        """Per step, over the last second at 50 Hz."""
        return float(self._recent.mean()) if len(self._recent) else float('nan')
