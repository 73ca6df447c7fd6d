"""Advantages and returns, as pure functions.

All take arrays (T, ...) of a rollout: T steps of, as a rule, N environments. ``next_values`` is
the critic's value of the state to which a step led, before any reset; it stands for the future
where an episode was truncated and where the rollout ends, and means nothing where it terminated.
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]


def compute_gae(
    rewards: FloatArray,
    values: FloatArray,
    next_values: FloatArray,
    terminated: BoolArray,
    truncated: BoolArray,
    *,
    discount: float,
    trace: float,
) -> tuple[FloatArray, FloatArray]:
    """Generalised advantage estimation (Schulman et al., arXiv 1506.02438).

    A terminated step is worth its reward and nothing more. A truncated one is worth what the
    critic expects from the state in which it was cut, the one *before* the reset; in both cases
    nothing flows back from the next episode.

    Args:
        rewards: (T, ...) of each step.
        values: (T, ...) the critic's, of the state in which the step began.
        next_values: (T, ...) the critic's, of the state to which the step led, before any reset.
        terminated: (T, ...) the step ended its episode for good, as by a fall.
        truncated: (T, ...) the episode was cut after the step, as by a time-out.
        discount: gamma.
        trace: lambda; 0 looks one step ahead, 1 to the end.

    Returns:
        Advantages and returns (targets of the critic), (T, ...) each.
    """
    delta = rewards + discount * next_values * ~terminated - values
    decay = discount * trace * ~(terminated | truncated)
    advantages = np.empty_like(delta)
    following = np.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + decay[t] * following
        advantages[t] = following
    return advantages, advantages + values


def discounted_returns(
    rewards: FloatArray,
    terminated: BoolArray,
    truncated: BoolArray,
    next_values: FloatArray | None = None,
    *,
    discount: float,
) -> FloatArray:
    """Sum of the rewards from each step to the end of its episode, discounted; (T, ...).

    Without ``next_values`` nothing is counted behind a truncation or the end of the rollout: the
    return of what was seen. In that reading a time limit is part of the task.
    """
    ahead = np.zeros_like(rewards) if next_values is None else next_values * ~terminated
    done = terminated | truncated
    returns = np.empty_like(rewards)
    following = ahead[-1]
    for t in reversed(range(len(rewards))):
        following = rewards[t] + discount * np.where(done[t], ahead[t], following)
        returns[t] = following
    return returns


def n_step_returns(
    rewards: FloatArray,
    next_values: FloatArray,
    terminated: BoolArray,
    truncated: BoolArray,
    *,
    discount: float,
    steps: int,
) -> FloatArray:
    """``steps`` rewards, then the critic's value (Sutton and Barto 2018, section 7.1); (T, ...).

    Fewer where the episode or the rollout ends before.

    Raises:
        ValueError: ``steps`` is below 1.
    """
    if steps < 1:
        raise ValueError(f'returns of {steps} steps; it must be 1 or more')
    ahead = next_values * ~terminated
    goes_on = ~(terminated | truncated)[:-1]
    returns = rewards + discount * ahead
    for _ in range(steps - 1):  # each turn looks one step further
        returns[:-1] = rewards[:-1] + discount * np.where(goes_on, returns[1:], ahead[:-1])
    return returns


def lambda_returns(
    rewards: FloatArray,
    next_values: FloatArray,
    terminated: BoolArray,
    truncated: BoolArray,
    *,
    discount: float,
    trace: float,
) -> FloatArray:
    """Mixture of all n-step returns, weights (1 - trace) trace^(n - 1); (T, ...).

    Sutton and Barto 2018, section 12.1. GAE's returns are the same, computed another way.
    """
    ahead = next_values * ~terminated
    mixed = np.where(terminated | truncated, 0.0, trace)  # at an end the value is all there is
    returns = np.empty_like(ahead)
    following = ahead[-1]
    for t in reversed(range(len(rewards))):
        following = rewards[t] + discount * (ahead[t] + mixed[t] * (following - ahead[t]))
        returns[t] = following
    return returns


def vtrace(
    log_ratios: FloatArray,
    rewards: FloatArray,
    values: FloatArray,
    next_values: FloatArray,
    terminated: BoolArray,
    truncated: BoolArray,
    *,
    discount: float,
    trace: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """Correct for actions of another policy (IMPALA, Espeholt et al., arXiv 1802.01561).

    Args:
        log_ratios: (T, ...) log pi(a) of the policy to learn less that of the one that acted.
        rewards: (T, ...) of each step.
        values: (T, ...) the critic's, of the state in which the step began.
        next_values: (T, ...) the critic's, of the state to which it led.
        terminated: (T, ...).
        truncated: (T, ...).
        discount: gamma.
        trace: lambda, times the ratios that carry back.
        rho_clip: largest ratio that weighs a step: which policy's values are found.
        c_clip: largest ratio that carries back: how fast, and with what variance.

    Returns:
        Targets of the critic, and advantages for the policy's gradient (weighed), (T, ...) each.
    """
    ratios = np.exp(log_ratios)
    rho, c = np.minimum(ratios, rho_clip), trace * np.minimum(ratios, c_clip)
    done, ahead = terminated | truncated, next_values * ~terminated
    delta = rho * (rewards + discount * ahead - values)
    targets, next_targets = np.empty_like(delta), np.empty_like(delta)
    excess = np.zeros_like(delta[0])  # of the next target over the next value
    for t in reversed(range(len(delta))):
        excess = np.where(done[t], 0.0, excess)
        next_targets[t] = ahead[t] + excess
        excess = delta[t] + discount * c[t] * excess
        targets[t] = values[t] + excess
    return targets, rho * (rewards + discount * next_targets - values)


def explained_variance(predicted: FloatArray, actual: FloatArray) -> float:
    """Share of the variance of ``actual`` that ``predicted`` explains; 1 is perfect."""
    variance = float(np.var(actual))
    return 1.0 - float(np.var(actual - predicted)) / variance if variance > 0.0 else 0.0


def normalise(values: FloatArray) -> FloatArray:
    """To mean 0 and standard deviation 1; of equal values, or only one, to 0."""
    centred = values - values.mean()
    return centred / (centred.std() + 1e-8)
