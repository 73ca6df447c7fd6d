"""What a fine-tuning learns from recorded steps, as pure functions."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lebot_rl_ros.data.transitions import Transitions
from lebot_rl_ros.learning.returns import BoolArray, FloatArray, compute_gae

LARGEST_WEIGHT = 20.0  # as in the paper of advantage-weighted regression


def supervised_gradients(
    mean: Tensor, actions: Tensor, weights: Tensor, log_std: Tensor
) -> tuple[Tensor, Tensor]:
    """Differentiate mean(weight sum(((action - mean) / std)²) / 2).

    That is the negative log-likelihood of the actions under a spread that stays as it is, without
    the constants.

    Args:
        mean: (B, J) of the policy now.
        actions: (B, J) recorded.
        weights: (B,) how much each step counts.
        log_std: (J,) of the policy.

    Returns:
        Gradient (B, J) of ``mean``, and the loss.
    """
    inverse_std = torch.exp(-log_std)
    z = (mean - actions).mul_(inverse_std)
    loss = weights.dot(z.square().sum(1)).mul_(0.5 / len(mean))
    return z.mul_(inverse_std).mul_(weights[:, None] / len(mean)), loss


def advantage_weights(
    advantages: FloatArray, temperature: float, scale: float
) -> npt.NDArray[np.float32]:
    """Weights of advantage-weighted regression (Peng et al., arXiv 1910.00177), mean 1.

    Args:
        advantages: (N,).
        temperature: how far apart steps are weighted, in standard deviations of the advantages;
            small trusts the best steps alone, 0 stands for equal weights.
        scale: standard deviation of the advantages.

    Returns:
        min(exp(advantage / (temperature scale)), 20), (N,), over their mean.
    """
    if temperature == 0.0 or scale == 0.0:
        return np.ones(len(advantages), dtype=np.float32)
    highest = np.log(LARGEST_WEIGHT)
    weights = np.exp(np.minimum(advantages / (temperature * scale), highest))
    return np.asarray(weights / weights.mean(), dtype=np.float32)


def recorded_gae(
    data: Transitions, values: FloatArray, *, discount: float, trace: float
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Advantages and returns of trajectories, by :func:`compute_gae`.

    The state to which a truncated step led was not recorded. So that step earns nothing here, and
    its own state is the one from which the step before it is bootstrapped.

    Args:
        data: N steps.
        values: (N,) the critic's, of the observations.
        discount: gamma.
        trace: lambda.

    Returns:
        Advantages (N,), 0 where they are not known; returns (N,); which steps (N,) have them.
    """
    following = np.append(values[1:], values[-1:])
    cut = np.append(data.truncated[1:], False)
    advantages, returns = compute_gae(
        data.rewards, values, following, data.terminated, cut | data.truncated,
        discount=discount, trace=trace,
    )  # fmt: skip
    return advantages * ~data.truncated, returns, ~data.truncated


def policy_kl(mean: Tensor, start: Tensor, log_std: Tensor) -> float:
    """KL divergence between two policies of one spread, in nats, mean over states.

    Args:
        mean: (N, J) of one.
        start: (N, J) of the other.
        log_std: (J,) of both.
    """
    return float(((mean - start) * torch.exp(-log_std)).square().sum(1).mean()) / 2.0
