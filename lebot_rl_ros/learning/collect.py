"""Record what a policy does in a simulated task, as data to learn from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.transitions import Array, Transitions
from lebot_rl_ros.learning.ppo import LOG_2PI
from lebot_rl_ros.learning.train import Task

Act = Callable[[Array], npt.NDArray[np.floating]]  # (N, O) -> mean actions (N, J)


def collect(
    task: Task, act: Act, steps: int, seed: int, std: npt.NDArray[Any] | float = 0.0
) -> Transitions:
    """Let a policy act, and write down every step.

    What a robot still does when the recording ends is truncated there. Where an episode is cut,
    the state to which its last step led is not in the data.

    Args:
        task: robots that reset themselves.
        act: the policy's mean.
        steps: of all robots together; rounded up to as many for each.
        seed: of the task and of the noise.
        std: of the noise, (J,) or one for all, action units. 0 acts without, and then there are
            no log_probs.

    Returns:
        The steps, one robot after another.

    Raises:
        ValueError: steps is less than 1, or std is negative.
    """
    spread = np.broadcast_to(np.asarray(std, dtype=np.float32), (task.action_size,))
    if steps < 1:
        raise ValueError(f'steps is {steps}, must be 1 or more')
    if not (np.isfinite(spread) & (spread >= 0.0)).all() or (spread.any() and not spread.all()):
        raise ValueError(f'std is {std}, must be positive for all joints, or 0 for all')
    periods, robots = -(-steps // task.robots), task.robots
    observations = np.empty((periods, robots, task.observation_size), dtype=np.float32)
    actions = np.empty((periods, robots, task.action_size), dtype=np.float32)
    rewards, log_probs = (np.zeros((periods, robots), dtype=np.float32) for _ in range(2))
    terminated, truncated = (np.zeros((periods, robots), dtype=bool) for _ in range(2))
    rng = np.random.default_rng([seed, 2])
    noisy = bool(spread.any())
    constant = np.log(spread).sum() + 0.5 * LOG_2PI * len(spread) if noisy else 0.0
    task.seed(seed)
    observation = task.reset()
    for t in range(periods):
        observations[t] = observation
        noise = rng.standard_normal(actions.shape[1:], dtype=np.float32)
        actions[t] = act(observations[t]) + spread * noise
        log_probs[t] = -0.5 * np.square(noise).sum(axis=1) - constant
        outcome = task.step(actions[t])
        observation = outcome.observation
        rewards[t], terminated[t], truncated[t] = (
            outcome.reward, outcome.terminated, outcome.truncated,
        )  # fmt: skip
    truncated[-1] |= ~terminated[-1]

    def line(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])

    return Transitions(
        line(observations), line(actions), line(rewards), line(terminated), line(truncated),
        line(log_probs) if noisy else None,
    )  # fmt: skip
