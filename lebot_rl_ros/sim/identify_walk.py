"""Servos from a walk: the whole robot is simulated over short windows, floor and all.

What the floor asks of the legs cannot be measured, so no joint can be looked at alone. MuJoCo
predicts from recorded states instead, and one set of parameters is fitted for all servos.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import Robot, ServoModel, rotations
from lebot_rl_ros.robot.odometry import foot_heights, leg_odometry
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.identify import (
    FITTED,
    TELLING,
    WANTED,
    Identified,
    JointResult,
    Prediction,
    Progress,
)
from lebot_rl_ros.sim.identify_data import HISTORY, Readings, cut, smooth_positions, window_starts
from lebot_rl_ros.sim.identify_model import (
    DAMPING,
    DELAY,
    HIGH,
    LOW,
    PARAMETERS,
    STALL,
    servo_of,
    vector,
)
from lebot_rl_ros.sim.simulation import Simulation

FIT_TICKS = 12  # of a window of the fit
MOST = 100  # windows of the fit; more of them are thinned evenly
DELAYS = np.arange(0.0, 0.061, 0.01)  # s, where the search begins
STEPS = np.array([0.03, 0.03, 0.0, 0.0, 0.0, 0.03, 0.0])  # relative: the floor makes it rough
ABSOLUTE = np.array([0.0, 0.0, 5e-3, 1e-3, 2e-3, 0.0, 0.0])
TYPICAL = 3e-3  # rad: an error, where costs are compared
HUBER = 2.0  # robust standard deviations beyond which an error counts less


@dataclass(frozen=True)
class WalkWindows:
    """W windows of a walk: where each begins, what was commanded, what came of it."""

    height: FloatArray  # (W,) m, of base_link above the floor
    orientation: FloatArray  # (W, 4) w x y z
    linear: FloatArray  # (W, 3) m/s, world
    angular: FloatArray  # (W, 3) rad/s, base_link
    position: FloatArray  # (W, J) rad
    velocity: FloatArray  # (W, J) rad/s
    command: FloatArray  # (W, HISTORY + n, J) rad
    measured: FloatArray  # (W, n, J) rad, at the ends of the n ticks


def walk_windows(
    robot: Robot, readings: Readings, starts: npt.NDArray[np.intp], ticks: int
) -> WalkWindows:
    """Windows of readings with an IMU; the body's speed comes from leg odometry.

    Heading does not matter, the lowest foot stands on the floor, and the floor is level.

    Raises:
        ValueError: the readings have no IMU.
    """
    if readings.orientation is None or readings.angular_velocity is None:
        raise ValueError('the recording has no imu/data, which a walk is identified with')
    position, velocity = smooth_positions(readings)[starts], readings.velocity[starts]
    orientation, angular = readings.orientation[starts], readings.angular_velocity[starts]
    gravity = rotations.gravity_in_body(orientation)
    feet = robot.legs(position, velocity)
    linear = leg_odometry(robot, feet, gravity, angular)
    world = rotations.rotate_inverse(orientation * (1.0, -1.0, -1.0, -1.0), linear)
    height = robot.legs.foot_radius - foot_heights(feet, gravity).min(axis=-1)
    return WalkWindows(
        height, orientation, world, angular, position, velocity,
        cut(readings.command, starts, ticks, HISTORY),
        cut(readings.position, starts + 1, ticks),
    )  # fmt: skip


def predict_walk(robot: Robot, windows: WalkWindows) -> FloatArray:
    """What the simulator with this robot's servos makes of all windows: (W, n, J) rad."""
    simulation = Simulation(robot, len(windows.height))
    for tick in range(HISTORY):  # commands on their way to the servos when it begins
        simulation.line.push(windows.command[:, tick])
    joints = [simulation.nominal.joint(name) for name in robot.joint_names]
    qpos, qvel = simulation.qpos, simulation.qvel
    qpos[:, :2], qpos[:, 2], qpos[:, 3:7] = 0.0, windows.height, windows.orientation
    qvel[:, :3], qvel[:, 3:6] = windows.linear, windows.angular
    qpos[:, [joint.qposadr[0] for joint in joints]] = windows.position
    qvel[:, [joint.dofadr[0] for joint in joints]] = windows.velocity
    path = np.empty_like(windows.measured)
    for tick in range(path.shape[1]):
        simulation.step(windows.command[:, HISTORY + tick])
        path[:, tick] = simulation.sense().joint_position
    return path


def identify_walk(
    robot: Robot,
    readings: Readings,
    *,
    parameters: Sequence[str] = FITTED,
    progress: Progress | None = None,
) -> Identified:
    """Fit one set of parameters, for all servos alike, to a walk.

    By turns the delay is searched on the simulator's substeps, and the rest follows by damped
    Gauss-Newton steps with Huber's weights: a foot that lands a substep early or late leaves
    errors that no servo explains. Half of the windows are kept to judge by.

    Args:
        robot: with the servos to begin from.
        readings: with an IMU.
        parameters: what to fit.
        progress: told what is being done.

    Raises:
        ValueError: no IMU, an unknown parameter, or too short a recording.
    """
    unknown = [name for name in parameters if name not in PARAMETERS]
    if unknown:
        raise ValueError(f'unknown parameters {unknown}; known are {", ".join(PARAMETERS)}')
    long = round(0.5 * robot.control_rate)
    starts = window_starts(readings, robot.control_period_ns, long)
    shifts = np.arange(0, long - FIT_TICKS + 1, FIT_TICKS)
    seen = (starts[::2, None] + shifts).ravel()
    seen = seen[:: max(len(seen) // MOST, 1)]
    windows = walk_windows(robot, readings, seen, FIT_TICKS)
    found = _ClassFit(robot, windows, parameters, progress)
    found.run()
    servo, error, held = found.result()
    better = replace(robot, servos=(servo,) * len(robot.joints))
    unseen = starts[1::2] if len(starts) > 1 else starts
    judged = walk_windows(robot, readings, unseen, long)
    return Identified(
        better, 'free',
        tuple(JointResult(name, servo, error, held, len(seen)) for name in robot.joint_names),
        _errors(robot, judged), _errors(better, judged),
    )  # fmt: skip


def _errors(robot: Robot, windows: WalkWindows) -> Prediction:
    error = predict_walk(robot, windows) - windows.measured
    return Prediction(
        np.sqrt(np.mean(error[:, 0] ** 2, axis=0)), np.sqrt(np.mean(error**2, axis=(0, 1)))
    )


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
        self._say = progress or (lambda words: None)
        self._held = {
            name: 'not asked for' for name in PARAMETERS if name not in parameters
        }

    def run(self) -> None:
        """Turn by turn until nothing gets better; drop what is not told, and go on."""
        self._turns()
        while True:
            vague = self._vaguest()
            if vague is None:
                return
            word = PARAMETERS[vague]
            self._held[word] = (
                f'not identifiable from this motion (standard error {self._error[vague]:.3g}); '
                f'wants {WANTED[word]}'
            )
            self._free.remove(vague)
            self._now[vague] = self._guess[vague]
            self._turns()

    def result(self) -> tuple[ServoModel, dict[str, float], dict[str, str]]:
        """Servo, standard errors, and what was held."""
        errors = {PARAMETERS[index]: float(self._error[index]) for index in self._free}
        if DAMPING in self._free:
            d, t = self._now[DAMPING], self._now[STALL]
            slope = np.array([-t / d**2, 1.0 / d])
            pair = self._covariance[np.ix_((DAMPING, STALL), (DAMPING, STALL))]
            errors['no_load_speed'] = float(np.sqrt(slope @ pair @ slope))
        return servo_of(self._now, self._like), errors, self._held

    def _turns(self) -> None:
        if DELAY in self._free and self._now[DELAY] == self._guess[DELAY]:
            self._search_delay()
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
        self._error = np.sqrt(np.diag(self._covariance))

    def _vaguest(self) -> int | None:
        def vagueness(index: int) -> float:
            relative, absolute = TELLING[PARAMETERS[index]]
            return float(
                self._error[index] / max(relative * abs(self._now[index]), absolute, 1e-12)
            )

        if not self._free:
            return None
        worst = max(self._free, key=vagueness)
        return worst if vagueness(worst) > 1.0 else None


def _spread(residual: FloatArray) -> float:
    """Robust standard deviation, from the median of the sizes; at least a count."""
    return max(1.4826 * float(np.median(np.abs(residual))), 5e-4)
