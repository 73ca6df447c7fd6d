"""Servo parameters from windows of one joint: a fit of predictions, and what it is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.identify_model import (
    DELAY,
    HIGH,
    LOW,
    PARAMETERS,
    JointWindows,
    simulate,
)

# Steps of the difference quotients, and what a parameter is measured in.
RELATIVE_STEP = np.array([1e-3, 1e-3, 0.0, 0.0, 0.0, 1e-3, 1e-3])
STEP = np.array([0.0, 0.0, 5e-4, 1e-4, 2e-4, 0.0, 0.0])
START_STEP = 1e-4  # rad, rad/s
VELOCITY_WEIGHT = 1e-3  # s: where a window begins, 0.3 rad/s off count as 0.3 mrad
DELAYS = np.arange(0.0, 0.0651, 0.005)  # s, tried one by one
TRIED = 2  # of the best of them are followed to the end
FLOOR = 2e-3  # of a value: a joint alone and MuJoCo's whole robot differ by that much
NUDGE = np.where(np.arange(len(PARAMETERS)) == DELAY, 5e-4, 0.0)  # s
OUTLIER = 4.0  # times the median error: a window that something else moved
USUAL = 1.5e-3  # rad, of errors: a count of 4096; windows at rest have less
FEW = 0.1  # of all windows; if more are outliers, it is the model that errs


@dataclass(frozen=True)
class Fit:
    """Parameters of a joint and their covariance."""

    parameters: FloatArray  # (7,)
    covariance: FloatArray  # (7, 7); zero where a parameter was not free
    noise: float  # rad, root mean square of what is left, in the windows that count
    windows: int  # that count
    outliers: int  # windows that were left out

    @property
    def error(self) -> FloatArray:
        """(7,) one standard error each."""
        return np.sqrt(np.diag(self.covariance))


@dataclass
class _Normal:
    """Normal equations of one linearisation, windows' own starts eliminated."""

    cost: float
    matrix: FloatArray  # (F, F)
    gradient: FloatArray  # (F,)
    scores: FloatArray  # (W, F), what each window adds to the gradient
    starts: FloatArray  # (W, 2), step of the starts if the parameters stay
    follow: FloatArray  # (W, 2, F), how the starts follow the parameters


def fit_joint(
    windows: JointWindows,
    guess: FloatArray,
    free: Sequence[int],
    *,
    search: bool = True,
    iterations: int = 30,
) -> Fit:
    """Least squares of positions over short windows (multiple shooting).

    Every window has its own start (position and velocity), so that nothing integrates from one to
    the next; starts are eliminated by the Schur complement. The delay, along which the sum of
    squares has many minima, is first searched on a grid; then Levenberg and Marquardt's method
    (Marquardt, J. SIAM 11, 1963) fits all that is free within :data:`LOW` and :data:`HIGH`.

    Args:
        windows: of one joint.
        guess: (7,) where to begin; what is not free stays there.
        free: indices of :data:`PARAMETERS`.
        search: for the delay; else begin with the guess's.
        iterations: at most, of the last fit.
    """
    if search and DELAY in free:
        rest = [index for index in free if index != DELAY]
        tried = []
        for delay in DELAYS:
            begin = guess.copy()
            begin[DELAY] = delay
            tried.append(_descend(windows, begin, rest, 4))
        tried.sort(key=lambda found: found[2])
        found = [
            # Off the substep's edge, where the slopes of the two sides differ.
            _descend(windows, begin + NUDGE, free, iterations, starts)
            for begin, starts, _ in tried[:TRIED]
        ]
        parameters, starts, _ = min(found, key=lambda each: each[2])
    else:
        parameters, starts, _ = _descend(windows, guess, free, iterations)
    error = np.sqrt(np.mean(_errors(windows, parameters, starts) ** 2, axis=1))
    usual = error <= OUTLIER * max(float(np.median(error)), USUAL)
    if not usual.all() and np.mean(~usual) <= FEW:
        windows = windows.pick(usual)
        parameters, starts, _ = _descend(windows, parameters, free, iterations, starts[usual])
    return _judged(windows, parameters, starts, free, outliers=int((~usual).sum()))


def _errors(windows: JointWindows, parameters: FloatArray, starts: FloatArray) -> FloatArray:
    """(W, n + 1) rad, measured less predicted, the start included."""
    path = simulate(parameters[None], starts[None, :, 0], starts[None, :, 1], windows)[0]
    return windows.position - np.concatenate((starts[:, :1], path), axis=1)


def _linearise(
    windows: JointWindows, parameters: FloatArray, starts: FloatArray, free: Sequence[int]
) -> _Normal:
    """Difference quotients of all windows for all that is free, in one simulation."""
    count = len(free)
    steps = np.maximum(RELATIVE_STEP * parameters, STEP)[list(free)]
    candidates = np.tile(parameters, (count + 3, 1))
    # Away from a bound, where the model does not exist beyond it.
    room = parameters[list(free)] + steps <= HIGH[list(free)]
    steps = np.where(room, steps, -steps)
    candidates[np.arange(count), list(free)] += steps
    begin = np.tile(starts, (count + 3, 1, 1))
    begin[count, :, 0] += START_STEP
    begin[count + 1, :, 1] += START_STEP
    path = simulate(candidates, begin[..., 0], begin[..., 1], windows)
    path = np.concatenate((begin[..., :1], path), axis=2)
    size = np.append(steps, [START_STEP, START_STEP])
    slope = (path[:-1] - path[-1]) / size[:, None, None]  # (F + 2, W, n + 1)
    residual = windows.position - path[-1]
    jacobian = np.moveaxis(slope, 0, -1)
    # Where it begins, the measured velocity is one reading more, of less weight.
    extra = np.zeros((len(windows), 1, count + 2))
    extra[:, 0, -1] = VELOCITY_WEIGHT
    jacobian = np.concatenate((jacobian, extra), axis=1)
    residual = np.concatenate(
        (residual, VELOCITY_WEIGHT * (windows.velocity - starts[:, 1])[:, None]), axis=1
    )
    own, shared = jacobian[..., count:], jacobian[..., :count]
    own_own = np.linalg.inv(np.einsum('wka,wkb->wab', own, own) + 1e-12 * np.eye(2))
    own_shared = np.einsum('wka,wkf->waf', own, shared)
    own_residual = np.einsum('wka,wk->wa', own, residual)
    follow = own_own @ own_shared
    settled = np.einsum('wab,wb->wa', own_own, own_residual)
    scores = np.einsum('wkf,wk->wf', shared, residual) - np.einsum(
        'waf,wa->wf', own_shared, settled
    )
    matrix = np.einsum('wkf,wkg->fg', shared, shared) - np.einsum(
        'waf,wag->fg', own_shared, follow
    )
    return _Normal(float(np.sum(residual**2)), matrix, scores.sum(axis=0), scores, settled, follow)


def _descend(
    windows: JointWindows,
    guess: FloatArray,
    free: Sequence[int],
    iterations: int,
    starts: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray, float]:
    """Levenberg and Marquardt; returns parameters, starts (W, 2) and the sum of squares."""
    chosen = list(free)
    parameters = np.clip(guess, LOW, HIGH)
    if starts is None:
        starts = np.stack((windows.position[:, 0], windows.velocity), axis=1)
    damping, best = 1e-3, np.inf
    for _ in range(iterations):
        normal = _linearise(windows, parameters, starts, free)
        best = _cost(windows, parameters, starts)
        for _ in range(8):
            heavier = normal.matrix + damping * np.diag(np.diag(normal.matrix) + 1e-12)
            step = np.linalg.solve(heavier, normal.gradient)
            tried = parameters.copy()
            tried[chosen] = np.clip(parameters[chosen] + step, LOW[chosen], HIGH[chosen])
            taken = tried[chosen] - parameters[chosen]
            begun = starts + normal.starts - normal.follow @ taken
            cost = _cost(windows, tried, begun)
            if cost < best:
                break
            damping *= 5.0
        else:
            break
        gain, parameters, starts = best - cost, tried, begun
        damping, best = max(damping / 5.0, 1e-9), cost
        if gain < 1e-6 * best:
            break
    return parameters, starts, best


def _cost(windows: JointWindows, parameters: FloatArray, starts: FloatArray) -> float:
    errors = _errors(windows, parameters, starts)
    velocity = VELOCITY_WEIGHT * (windows.velocity - starts[:, 1])
    return float(np.sum(errors**2) + np.sum(velocity**2))


def _judged(
    windows: JointWindows,
    parameters: FloatArray,
    starts: FloatArray,
    free: Sequence[int],
    outliers: int,
) -> Fit:
    """Covariance of the parameters: of white noise, or as the windows disagree, if that is more.

    The second is the sandwich with windows as clusters (Huber, 1967; Liang and Zeger, 1986): it
    holds where errors within a window go together, as they do when the model is not the servo.
    """
    chosen, count = list(free), len(free)
    normal = _linearise(windows, parameters, starts, free)
    errors = _errors(windows, parameters, starts)
    freedom = max(errors.size - 2 * len(windows) - count, 1)
    variance = float(np.sum(errors**2)) / freedom
    # A direction that nothing tells of gets a huge error, not a division by zero.
    scale = np.maximum(np.abs(parameters[chosen]), STEP[chosen])
    scaled = normal.matrix * np.outer(scale, scale)
    inverse = np.linalg.inv(scaled + 1e-12 * np.eye(count))
    inverse *= np.outer(scale, scale)
    white = variance * inverse
    meat = normal.scores.T @ normal.scores * len(windows) / max(len(windows) - 1, 1)
    sandwich = inverse @ meat @ inverse
    ratio = np.sqrt(np.maximum(np.diag(sandwich) / np.maximum(np.diag(white), 1e-300), 1.0))
    covariance = np.zeros((len(PARAMETERS), len(PARAMETERS)))
    covariance[np.ix_(chosen, chosen)] = white * np.outer(ratio, ratio)
    covariance[chosen, chosen] += (FLOOR * parameters[chosen]) ** 2
    return Fit(parameters, covariance, float(np.sqrt(variance)), len(windows), outliers)
