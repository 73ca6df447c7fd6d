"""Servos from a walk: one set of parameters for all, fitted in the whole simulation.

What the floor asks of the legs cannot be measured, so no joint can be looked at alone. MuJoCo
predicts from recorded states instead.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lebot_rl_ros.robot import Robot, ServoModel
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.identify import (
    ASKED,
    FITTED,
    WINDOW,
    Identified,
    JointResult,
    Progress,
    check_names,
    judged,
    speed_error,
    vaguest,
    why_held,
)
from lebot_rl_ros.sim.identify_data import Readings
from lebot_rl_ros.sim.identify_model import DELAY, HIGH, LOW, PARAMETERS, servo_of, vector
from lebot_rl_ros.sim.identify_walk import WalkWindows, predict_walk, walk_starts, walk_windows

FIT_TICKS = 12  # of a window of the fit
MOST = 100  # windows of the fit; more of them are thinned evenly
DELAYS = np.arange(0.0, 0.061, 0.01)  # s, where the search begins
STEPS = np.array([0.03, 0.03, 0.0, 0.0, 0.0, 0.03, 0.0])  # relative: the floor makes it rough
ABSOLUTE = np.array([0.0, 0.0, 5e-3, 1e-3, 2e-3, 0.0, 0.0])
TYPICAL = 3e-3  # rad: an error, where costs are compared
# What the body's start, known from legs and IMU only, adds to every error, whatever the data say.
RELATIVE_FLOOR = np.array([0.02, 0.02, 0.0, 0.0, 0.0, 0.02, 0.02])
FLOOR = np.array([0.0, 0.0, 0.012, 1e-3, 5e-4, 0.0, 0.0])
HUBER = 2.0  # robust standard deviations beyond which an error counts less


def identify_walk(
    robot: Robot,
    readings: Readings,
    *,
    parameters: Sequence[str] = FITTED,
    progress: Progress | None = None,
) -> Identified:
    """Fit one set of parameters, for all servos alike, to a walk.

    The delay is searched first, then all follow by damped Gauss-Newton steps with Huber's
    weights (Huber, Annals of Mathematical Statistics 35, 1964): a foot that lands a substep early
    or late leaves errors that no servo explains. Half of the windows are kept to judge by.

    Args:
        robot: with the servos to begin from.
        readings: with an IMU.
        parameters: what to fit.
        progress: told what is being done.

    Raises:
        ValueError: no IMU, an unknown parameter, or too short a recording.
    """
    check_names('parameters', parameters, PARAMETERS)
    long = round(WINDOW * robot.control_rate)
    starts = walk_starts(robot, readings, long)
    shifts = np.arange(0, long - FIT_TICKS + 1, FIT_TICKS)
    seen = (starts[::2, None] + shifts).ravel()
    seen = seen[:: max(len(seen) // MOST, 1)]
    windows = walk_windows(robot, readings, seen, FIT_TICKS)
    found = _ClassFit(robot, windows, parameters, progress)
    found.run()
    servo, error, held = found.result()
    better = replace(robot, servos=(servo,) * len(robot.joints))
    kept = starts[1::2] if len(starts) > 1 else starts
    unseen = walk_windows(robot, readings, kept, long)
    return Identified(
        better, 'free',
        tuple(JointResult(name, servo, error, held, len(seen)) for name in robot.joint_names),
        *(judged(predict_walk(each, unseen) - unseen.measured) for each in (robot, better)),
    )  # fmt: skip


class _ClassFit:
    """The search itself; its state is what is believed so far."""

    def __init__(
        self,
        robot: Robot,
        windows: WalkWindows,
        parameters: Sequence[str],
        progress: Progress | None,
    ) -> None:
        self._robot, self._windows = robot, windows
        self._free = [PARAMETERS.index(name) for name in parameters]
        self._like = robot.joint_servos[0]
        self._now = np.mean([vector(servo) for servo in robot.joint_servos], axis=0)
        self._guess = self._now.copy()
        self._searched = False
        self._say = progress or (lambda words: None)
        self._held = {name: ASKED for name in PARAMETERS if name not in parameters}

    def run(self) -> None:
        """Turn by turn until nothing gets better; drop what is not told, and go on."""
        self._turns()
        while vague := vaguest(self._now, self._error, self._free):
            for index in vague:
                name = PARAMETERS[index]
                self._held[name] = why_held(name, float(self._error[index]))
                self._free.remove(index)
                self._now[index] = self._guess[index]
            self._turns()

    def result(self) -> tuple[ServoModel, dict[str, float], dict[str, str]]:
        """Servo, standard errors, and what was held."""
        errors = {PARAMETERS[index]: float(self._error[index]) for index in self._free}
        errors |= speed_error(self._now, self._covariance, self._free)
        return servo_of(self._now, self._like), errors, self._held

    def _turns(self) -> None:
        if DELAY in self._free and not self._searched:
            self._search_delay()
            self._searched = True
        self._descend(self._free, 12)
        self._say(', '.join(f'{PARAMETERS[i]} {self._now[i]:.4g}' for i in self._free))
        self._judge()

    def _search_delay(self) -> None:
        """Begin with the delay at which the rest, given two steps, fits best."""
        rest = [index for index in self._free if index != DELAY]
        begun, tried = self._now.copy(), []
        for delay in DELAYS:
            self._now = begun.copy()
            self._now[DELAY] = delay
            self._descend(rest, 2)
            cost = self._cost(self._residual(self._now), TYPICAL)
            self._say(f'delay {delay * 1e3:.0f} ms: cost {cost:.0f}')
            tried.append((cost, self._now))
        self._now = min(tried, key=lambda found: found[0])[1]

    def _residual(self, parameters: FloatArray) -> FloatArray:
        servo = servo_of(parameters, self._like)
        robot = replace(self._robot, servos=(servo,) * len(self._robot.joints))
        return self._windows.measured - predict_walk(robot, self._windows)

    def _cost(self, residual: FloatArray, scale: float) -> float:
        size = np.abs(residual) / scale
        return float(np.sum(np.where(size < HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER))))

    def _slopes(self, chosen: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """Residual, and slopes (..., F) by central differences."""
        columns = []
        for index in chosen:
            step = max(STEPS[index] * self._now[index], ABSOLUTE[index])
            ends, at = [], []
            for sign in (1.0, -1.0):
                tried = self._now.copy()
                tried[index] = np.clip(tried[index] + sign * step, LOW[index], HIGH[index])
                ends.append(self._residual(tried))
                at.append(tried[index])
            columns.append((ends[1] - ends[0]) / (at[0] - at[1]))
        return self._residual(self._now), np.stack(columns, axis=-1)

    def _descend(self, free: Sequence[int], iterations: int) -> None:
        chosen = list(free)
        if not chosen:
            return
        damping = 1e-2
        for _ in range(iterations):
            residual, slope = self._slopes(chosen)
            scale = _spread(residual)
            weight = np.minimum(1.0, HUBER * scale / np.maximum(np.abs(residual), 1e-9))
            matrix = np.einsum('wtjf,wtj,wtjg->fg', slope, weight, slope)
            gradient = np.einsum('wtjf,wtj,wtj->f', slope, weight, residual)
            cost = self._cost(residual, scale)
            for _ in range(4):
                heavier = matrix + damping * np.diag(np.diag(matrix) + 1e-9)
                tried = self._now.copy()
                tried[chosen] += np.linalg.solve(heavier, gradient)
                tried = np.clip(tried, LOW, HIGH)
                if self._cost(self._residual(tried), scale) < cost:
                    break
                damping *= 6.0
            else:
                return
            moved = np.abs(tried - self._now)[chosen] / np.maximum(self._now[chosen], 1e-3)
            self._now, damping = tried, max(damping / 6.0, 1e-6)
            if moved.max() < 2e-3:
                return

    def _judge(self) -> None:
        """Covariance with windows as clusters."""
        self._covariance = np.zeros((len(PARAMETERS), len(PARAMETERS)))
        chosen = list(self._free)
        if chosen:
            residual, slope = self._slopes(chosen)
            scale = _spread(residual)
            weight = np.minimum(1.0, HUBER * scale / np.maximum(np.abs(residual), 1e-9))
            size = np.maximum(np.abs(self._now[chosen]), 1e-3)
            matrix = np.einsum('wtjf,wtj,wtjg->fg', slope, weight, slope) * np.outer(size, size)
            inverse = np.linalg.inv(matrix + 1e-12 * np.eye(len(chosen)))
            scores = np.einsum('wtjf,wtj,wtj->wf', slope, weight, residual) * size
            sandwich = inverse @ (scores.T @ scores) @ inverse * np.outer(size, size)
            self._covariance[np.ix_(chosen, chosen)] = sandwich
            floor = np.maximum(RELATIVE_FLOOR * self._now, FLOOR)[chosen]
            self._covariance[chosen, chosen] += floor**2
        self._error = np.sqrt(np.diag(self._covariance))


def _spread(residual: FloatArray) -> float:
    """Robust standard deviation, from the median of the sizes; at least a count."""
    return max(1.4826 * float(np.median(np.abs(residual))), 5e-4)
