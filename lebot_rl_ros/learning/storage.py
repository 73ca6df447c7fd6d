"""One rollout of many robots, in arrays made once and written in place."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.learning.returns import BoolArray

Array = npt.NDArray[np.float32]


@dataclass
class Rollout:
    """T steps of N robots; O numbers in an observation, J in an action."""

    steps: int
    robots: int
    observation_size: int
    action_size: int
    observations: Array = field(
        init=False
    )  # (T + 1, N, O): the last is where the next rollout starts
    actions: Array = field(init=False)  # (T, N, J) as sampled, not as clipped or limited
    log_probs: Array = field(init=False)  # (T, N) of the sampled actions
    rewards: Array = field(init=False)  # (T, N)
    terminated: BoolArray = field(init=False)  # (T, N)
    truncated: BoolArray = field(init=False)  # (T, N)
    cuts: list[tuple[int, npt.NDArray[np.intp], Array]] = field(
        init=False
    )  # step, robots, last observations

    def __post_init__(self) -> None:
        """Make the arrays."""
        shape = (self.steps, self.robots)
        self.observations = np.zeros(
            (self.steps + 1, self.robots, self.observation_size), dtype=np.float32
        )
        self.actions = np.zeros((*shape, self.action_size), dtype=np.float32)
        self.log_probs = np.zeros(shape, dtype=np.float32)
        self.rewards = np.zeros(shape, dtype=np.float32)
        self.terminated = np.zeros(shape, dtype=bool)
        self.truncated = np.zeros(shape, dtype=bool)
        self.cuts = []

    def start(self, observation: Array) -> None:
        """Begin again where the robots are now: (N, O)."""
        self.observations[0] = observation
        self.cuts.clear()

    def add(
        self,
        t: int,
        observation: Array,
        final_observation: Array,
        reward: npt.NDArray[np.floating],
        terminated: BoolArray,
        truncated: BoolArray,
    ) -> None:
        """Take what step ``t`` led to, after and before any reset: (N, O) twice, then (N,) each.

        Raises:
            ValueError: an observation or reward is not finite; the message says whose.
        """
        finite = np.isfinite(reward) & np.isfinite(observation.sum(axis=1))
        if not finite.all():
            bad = np.flatnonzero(~finite).tolist()
            raise ValueError(f'step {t}: observation or reward of robots {bad} is not finite')
        self.observations[t + 1] = observation
        self.rewards[t], self.terminated[t], self.truncated[t] = reward, terminated, truncated
        if truncated.any():
            which = np.flatnonzero(truncated)
            self.cuts.append((t, which, final_observation[which].astype(np.float32)))

    def next_values(self, values: Array, cut_values: Array) -> Array:
        """Value of the state that each step led to, before any reset: (T, N).

        Args:
            values: (T + 1, N) of ``observations``.
            cut_values: of the observations in ``cuts``, one after another.
        """
        result = values[1:].copy()
        start = 0
        for t, which, _ in self.cuts:
            result[t, which] = cut_values[start : start + len(which)]
            start += len(which)
        return result
