"""Learning from steps of an older policy: ratios, weights, and which steps are too old.

All policies here are Gaussians of one spread, that of the exploration that acted, so that only
their means differ.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lebot_rl_ros.learning.distributions import LOG_2PI
from lebot_rl_ros.learning.methods.ppo_losses import Surrogate, surrogate_weight
from lebot_rl_ros.learning.returns import BoolArray, FloatArray

IntArray = npt.NDArray[np.int64]


def log_prob(action: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log-probability (B,) in nats of actions (B, J) around means (B, J), spread (B, J)."""
    z = (action - mean) / std
    constant = 0.5 * LOG_2PI * action.shape[1]
    return -0.5 * z.square().sum(1) - torch.log(std).sum(1) - constant


def fixed_spread_kl(mean: Tensor, other: Tensor, std: Tensor) -> Tensor:
    """KL divergence (B,) in nats between Gaussians of one spread: half a squared distance.

    Args:
        mean: (B, J) of one.
        other: (B, J) of the other; which is which makes no difference.
        std: (B, J) of both.
    """
    return ((mean - other) / std).square().sum(1) / 2.0


def truncated_weights(log_ratios: FloatArray, largest: float) -> FloatArray:
    """min(ratio, largest), (B,): importance weights with a bounded variance (arXiv 1802.01561).

    Args:
        log_ratios: (B,) log-probability under the policy that learns, less under that which acted.
        largest: of a weight.
    """
    return np.exp(np.minimum(log_ratios, np.log(largest)))


def effective_sample_size(log_ratios: FloatArray) -> float:
    """Kish's share of samples that importance weights leave: (sum w)² / (B sum w²), in (0, 1].

    1 when all weigh alike, 1 / B when one outweighs all others; 0 of no samples.
    """
    if not len(log_ratios):
        return 0.0
    weights = np.exp(log_ratios - log_ratios.max())  # their scale cancels
    return float(weights.sum() ** 2 / (len(weights) * np.square(weights).sum()))


def fresh(
    log_ratios: FloatArray, turns: IntArray, now: int, lag: int, largest: float
) -> BoolArray:
    """Which steps (B,) are near enough to the policy that learns.

    Judged by rollout, the steps of one acting policy together: a single step's ratio says more of
    its noise than of its age.

    Args:
        log_ratios: (B,), see :func:`truncated_weights`.
        turns: (B,) which of the policies in the order of their acting took the step.
        now: the turn of the newest one.
        lag: most turns that a policy may be behind.
        largest: mean |log ratio| from which on a rollout is refused.
    """
    kept = np.isfinite(log_ratios) & (now - turns <= lag)
    for turn in np.unique(turns[kept]):
        rollout = kept & (turns == turn)
        if np.abs(log_ratios[rollout]).mean() >= largest:
            kept &= ~rollout
    return kept


def decoupled_gradient(
    mean: Tensor,
    std: Tensor,
    actions: Tensor,
    proximal_log_prob: Tensor,
    weights: Tensor,
    advantages: Tensor,
    clip: float,
) -> tuple[Tensor, Surrogate]:
    """Differentiate mean(-weight min(ratio A, clip(ratio) A)) by the mean actions.

    PPO's old policy has two roles (Hilton et al., arXiv 2110.00641). Here ``ratio`` is to the
    proximal policy, the weights as they were when the update began, which the clip keeps near;
    ``weight`` is how much likelier that policy was to act so than the one which did. With fresh
    data all weights are 1 and this is PPO.

    Args:
        mean: (B, J) of the policy now.
        std: (B, J) of the exploration.
        actions: (B, J) as sampled.
        proximal_log_prob: (B,) of the proximal policy.
        weights: (B,) proximal over behaviour, truncated; 0 or more.
        advantages: (B,).
        clip: largest change of the ratio that still earns anything.

    Returns:
        d loss / d mean (B, J), and what the loss was made of; ``gain`` there is weighed.
    """
    now = log_prob(actions, mean, std)
    # Weights are not negative, so they may go into the minimum with the advantages.
    weight, surrogate = surrogate_weight(now, proximal_log_prob, weights * advantages, clip)
    return weight[:, None] * (actions - mean) / std.square(), surrogate
