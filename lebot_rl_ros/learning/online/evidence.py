"""Do recorded steps speak for a change of the policy? A score against the learner's own mistakes.

A learner that climbs down (an advantage with the wrong sign, rewards in other units, a mixed-up
normaliser) makes steps as small as those of one that climbs up. So the gate works the advantages
out again by itself, from the rewards in the rows and the base's critic, and asks whether the
change points to actions that earned more than expected. Rows are ``data.rows.transition_dtype``.
"""

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.learning.returns import FloatArray, compute_gae
from lebot_rl_ros.policy.files import Tensors
from lebot_rl_ros.policy.runtime import Network, fold

Rows = npt.NDArray[np.void]
TRACK = 2  # safety.Mode: the driver followed the policy
BLOCK = 25  # steps whose scores are one sample: neighbours are not independent
LARGEST = 5.0  # standard deviations of an advantage that count, or one fall would drown the rest


def usable(rows: Rows) -> Rows:
    """Steps whose action was sampled with a spread and followed, and whose numbers are finite."""
    good = (rows['mode'] == TRACK) & (rows['std'] > 0.0).all(axis=1) & np.isfinite(rows['reward'])
    for name in ('observation', 'action', 'mean', 'std'):
        good &= np.isfinite(rows[name]).all(axis=1)
    return rows[good]


def advantages(
    rows: Rows, base: Tensors, activation: str, *, discount: float, trace: float
) -> FloatArray:
    """Generalised advantages (N,) of rows (N,), with the critic of a base.

    A row that does not lead to the next row in the array ends its trajectory as truncated; where
    it is not known where it led, the value of where it began stands for that.
    """
    critic = Network(fold(base, 'critic'), activation)
    values = critic.many(rows['observation'])[:, 0]
    known = (rows['known'] > 0) & np.isfinite(rows['next_observation']).all(axis=1)
    following = values.copy()
    if known.any():
        following[known] = critic.many(rows['next_observation'][known])[:, 0]
    terminated = rows['terminated'] > 0
    joined = np.append((rows['stamp'][1:] == rows['next_stamp'][:-1]), False)
    cut = ~terminated & ((rows['truncated'] > 0) | ~joined)
    found, _ = compute_gae(
        rows['reward'].astype(np.float64), values, following, terminated, cut,
        discount=discount, trace=trace,
    )  # fmt: skip
    return found


def standard_score(rows: Rows, advantages: FloatArray, difference: FloatArray) -> float:
    """How many standard errors the expected gain of a change is above nothing.

    The gain of moving the mean of a Gaussian policy by ``difference`` is, to first order, the mean
    of A (a - mean) . difference / std²: the policy gradient along it (Williams, 1992). Means
    over blocks of :data:`BLOCK` steps are taken as independent.

    Args:
        rows: (N,) usable ones.
        advantages: (N,); they are centred and cut at :data:`LARGEST` standard deviations here.
        difference: (N, J) of the mean actions, action units.

    Returns:
        The score; 0 where nothing changes or all steps earned alike.
    """
    spread = float(advantages.std())
    centred = np.clip((advantages - advantages.mean()) / (spread or 1.0), -LARGEST, LARGEST)
    direction = (rows['action'] - rows['mean']) / np.square(rows['std'].astype(np.float64))
    gain = centred * (direction * difference).sum(axis=1)
    count = len(gain) // BLOCK
    blocks = gain[: count * BLOCK].reshape(count, BLOCK).mean(axis=1)
    error = float(blocks.std(ddof=1)) / np.sqrt(count) if count > 1 else 0.0
    return float(blocks.mean()) / error if error else 0.0
