"""Servos from a recording: fitted joint by joint, judged on windows that the fit did not see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import Robot, ServoModel
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.sim.identify_data import HISTORY, Readings, cut, window_starts
from lebot_rl_ros.sim.identify_fit import fit_joint
from lebot_rl_ros.sim.identify_load import leg_loads
from lebot_rl_ros.sim.identify_model import (
    DAMPING,
    PARAMETERS,
    STALL,
    JointWindows,
    servo_of,
    simulate,
    vector,
)

WINDOW = 0.5  # s, of the fit, and of the longer prediction that is judged
JUDGED = 4  # one of so many windows is kept from the fit, to judge by
FITTED = ('kp', 'damping', 'friction', 'dead_band', 'delay', 'stall_torque')
# A parameter counts as told if its standard error is below the first number times itself, or
# below the second.
TELLING: Mapping[str, tuple[float, float]] = {
    'kp': (0.1, 0.0),
    'damping': (0.15, 0.0),
    'friction': (0.15, 0.015),
    'dead_band': (0.15, 0.003),
    'delay': (0.0, 0.003),
    'stall_torque': (0.1, 0.0),
    'armature': (0.15, 0.0),
}
NOTHING = 100.0
WANTED: Mapping[str, str] = {
    'kp': 'steps of 0.1 rad and more',
    'damping': 'fast motion: a chirp to 4 Hz, or steps of 0.3 rad',
    'friction': 'slow ramps that turn, and motions that stop',
    'dead_band': 'small steps of 1 to 4 degrees, and slow ramps that turn',
    'delay': 'quick changes of the target: steps, or a chirp to 4 Hz',
    'stall_torque': 'steps so large that the servo gives all it has, 0.4 rad and more',
    'armature': 'a known load: positions alone tell only torques per inertia',
}
ASKED = 'not asked for'
LEFT = dict.fromkeys(PARAMETERS, ASKED)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class JointResult:
    """One joint's servo, how sure it is, and what the motion could not tell."""

    name: str
    servo: ServoModel
    error: Mapping[str, float]  # standard error of what was fitted, no_load_speed included
    held: Mapping[str, str] = field(default_factory=dict)  # parameter -> why it was not fitted
    windows: int = 0
    outliers: int = 0


@dataclass(frozen=True)
class Prediction:
    """Root mean square errors (J,) rad on windows that the fit did not see."""

    one_step: FloatArray  # one control period ahead
    ahead: FloatArray  # over ``WINDOW`` s


@dataclass(frozen=True)
class Identified:
    """All joints, and how much better they predict."""

    robot: Robot  # with the servos
    body: str  # 'held' or 'free'
    joints: tuple[JointResult, ...]
    before: Prediction
    after: Prediction


def identify_held(
    robot: Robot,
    readings: Readings,
    *,
    parameters: Sequence[str] = FITTED,
    joints: Sequence[str] = (),
    progress: Progress | None = None,
) -> Identified:
    """Fit each joint of a robot whose body was held in the air.

    Args:
        robot: with the servos to begin from; what the motion does not tell stays as they are.
        readings: what was commanded and measured.
        parameters: what to fit, of ``PARAMETERS``. The scale of all torques cannot be told from
            positions but by gravity on the legs, so ``armature`` is held unless named.
        joints: names of those to fit; none: all. The others stay as they are.
        progress: told what is being done.

    Raises:
        ValueError: a parameter or joint is unknown, or the recording is too short or too torn.
    """
    check_names('parameters', parameters, PARAMETERS)
    check_names('joints', joints, robot.joint_names)
    of = _cutter(robot, readings)
    ticks = round(WINDOW * robot.control_rate)
    starts = window_starts(readings, robot.control_period_ns, ticks)
    seen = np.arange(len(starts)) % JUDGED != JUDGED - 1
    results = []
    for joint, name in enumerate(robot.joint_names):
        if joints and name not in joints:
            results.append(JointResult(name, robot.joint_servos[joint], {}, LEFT))
            continue
        if progress:
            progress(f'{name}: {int(seen.sum())} windows of {WINDOW} s')
        results.append(
            _identify_joint(name, robot.joint_servos[joint], of(joint, starts[seen], ticks),
                            parameters)
        )  # fmt: skip
    better = replace(robot, servos=tuple(result.servo for result in results))
    unseen = starts[~seen] if not seen.all() else starts
    return Identified(
        better, 'held', tuple(results),
        _predict(robot, readings, of, unseen), _predict(better, readings, of, unseen),
    )  # fmt: skip


def _cutter(robot: Robot, readings: Readings) -> Callable[..., JointWindows]:
    inertia, load = leg_loads(robot, readings)

    def of(joint: int, starts: npt.NDArray[np.intp], ticks: int) -> JointWindows:
        return JointWindows(
            command=cut(readings.command[:, joint], starts, ticks, HISTORY),
            position=cut(readings.position[:, joint], starts, ticks + 1),
            velocity=readings.velocity[starts, joint],
            inertia=cut(inertia[:, joint], starts, ticks),
            load=cut(load[:, joint], starts, ticks),
            period=1.0 / robot.control_rate,
        )

    return of


def _identify_joint(
    name: str, servo: ServoModel, windows: JointWindows, parameters: Sequence[str]
) -> JointResult:
    """Fit, hold what the motion does not tell, and fit the rest again."""
    free = [PARAMETERS.index(parameter) for parameter in parameters]
    held: dict[str, str] = {
        parameter: ASKED for parameter in PARAMETERS if parameter not in parameters
    }
    fit = fit_joint(windows, vector(servo), free)
    while vague := vaguest(fit.parameters, fit.error, free):
        guess = fit.parameters.copy()
        for index in vague:
            held[PARAMETERS[index]] = why_held(PARAMETERS[index], float(fit.error[index]))
            free.remove(index)
            guess[index] = vector(servo)[index]
        fit = fit_joint(windows, guess, free, search=False)
    error = {PARAMETERS[index]: float(fit.error[index]) for index in free}
    error |= speed_error(fit.parameters, fit.covariance, free)
    return JointResult(
        name, servo_of(fit.parameters, servo), error, held, fit.windows, fit.outliers
    )


def check_names(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names that there are not.

    Raises:
        ValueError: the message names them, and those that there are.
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f'unknown {what} {unknown}; known are {", ".join(known)}')


def vaguest(parameters: FloatArray, error: FloatArray, free: Sequence[int]) -> list[int]:
    """Which free parameters to hold: the vaguest, and all of which nothing at all is told.

    One at a time, as what is held may make others tell; but those whose error is beyond
    :data:`NOTHING` times what :data:`TELLING` allows, at once.
    """

    def vagueness(index: int) -> float:
        relative, absolute = TELLING[PARAMETERS[index]]
        allowed = max(relative * abs(parameters[index]), absolute, 1e-12)
        return float(error[index] / allowed)

    worst = max(free, key=vagueness, default=None)
    if worst is None or vagueness(worst) <= 1.0:
        return []
    return [index for index in free if index == worst or vagueness(index) > NOTHING]


def why_held(name: str, error: float) -> str:
    """What to say of a parameter that the motion does not tell."""
    return f'not identifiable from this motion (standard error {error:.3g}); wants {WANTED[name]}'


def speed_error(
    parameters: FloatArray, covariance: FloatArray, free: Sequence[int]
) -> dict[str, float]:
    """Standard error of the no-load speed, stall torque / damping, by propagation."""
    if DAMPING not in free:
        return {}
    d, t = parameters[[DAMPING, STALL]]
    slope = np.array([-t / d**2, 1.0 / d])
    pair = covariance[np.ix_((DAMPING, STALL), (DAMPING, STALL))]
    return {'no_load_speed': float(np.sqrt(slope @ pair @ slope))}


def held_paths(
    robot: Robot, readings: Readings, starts: npt.NDArray[np.intp], ticks: int
) -> FloatArray:
    """Predict windows of a robot whose body is held, from measured starts: (W, ticks, J) rad."""
    return _paths(robot, _cutter(robot, readings), starts, ticks)


def _paths(
    robot: Robot, of: Callable[..., JointWindows], starts: npt.NDArray[np.intp], ticks: int
) -> FloatArray:
    paths = []
    for joint, servo in enumerate(robot.joint_servos):
        windows = of(joint, starts, ticks)
        begin = windows.position[None, :, 0], windows.velocity[None]
        paths.append(simulate(vector(servo)[None], *begin, windows)[0])
    return np.stack(paths, axis=-1)


def _predict(
    robot: Robot,
    readings: Readings,
    of: Callable[..., JointWindows],
    unseen: npt.NDArray[np.intp],
) -> Prediction:
    """Errors from measured starts: nothing of the windows is fitted."""
    ticks = round(WINDOW * robot.control_rate)
    measured = cut(readings.position, unseen + 1, ticks)
    return judged(_paths(robot, of, unseen, ticks) - measured)


def judged(error: FloatArray) -> Prediction:
    """Sum up errors (W, n, J) rad of windows."""
    return Prediction(
        np.sqrt(np.mean(error[:, 0] ** 2, axis=0)), np.sqrt(np.mean(error**2, axis=(0, 1)))
    )
