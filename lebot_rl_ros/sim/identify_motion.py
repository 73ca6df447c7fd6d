"""A motion that tells servos apart: chirp, steps and slow ramps, within limits."""

import numpy as np

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray

SHARE = 0.6  # of the limits of velocity and acceleration that the chirp uses
MARGIN = 0.1  # rad kept from the ends of travel
STEPS = (0.015, 0.03, 0.06, 0.15, 0.4, 0.8)  # rad: inside, near and far beyond a dead band
HOLD = 0.4  # s after each step
FREQUENCIES = (0.3, 4.0)  # Hz, of the chirp from its beginning to its end
CHIRP, RAMP = 8.0, 4.0  # s


def chirp(
    seconds: float,
    rate: float,
    *,
    reach: float,
    velocity: float,
    acceleration: float,
    frequencies: tuple[float, float] = FREQUENCIES,
) -> FloatArray:
    """A sine whose frequency grows by equal factors in equal times, (seconds * rate,) rad.

    Its amplitude is ``reach``, or less where velocity or acceleration would pass their limits:
    ``A <= v / (2 pi f)`` and ``A <= a / (2 pi f)²``. It swells and fades over the first and last
    half second. (Farina, 'Simultaneous measurement of impulse response and distortion with a
    swept-sine technique', AES 2000, for the sweep.)

    Args:
        seconds: how long.
        rate: Hz of the targets.
        reach: rad, at most to each side.
        velocity: rad/s, at most.
        acceleration: rad/s², at most.
        frequencies: Hz at the beginning and the end.

    Raises:
        ValueError: an argument is not positive, or the end is above half the rate.
    """
    first, last = frequencies
    for name, value in (
        ('seconds', seconds), ('rate', rate), ('reach', reach), ('velocity', velocity),
        ('acceleration', acceleration), ('first frequency', first),
    ):  # fmt: skip
        if not value > 0:
            raise ValueError(f'{name} is {value}, must be above 0')
    if not first <= last < rate / 2:
        raise ValueError(
            f'frequencies are {first:g} to {last:g} Hz; they must rise and stay below half the '
            f'rate, {rate / 2:g} Hz'
        )
    time = np.arange(round(seconds * rate)) / rate
    growth = np.log(last / first) / seconds
    frequency = first * np.exp(growth * time)
    phase = 2 * np.pi * (frequency - first) / growth if growth else 2 * np.pi * first * time
    omega = 2 * np.pi * frequency
    amplitude = np.minimum(reach, np.minimum(velocity / omega, acceleration / omega**2))
    fade = np.clip(np.minimum(time, seconds - time) / 0.5, 0.0, 1.0)
    return amplitude * fade * np.sin(phase)


def steps(
    sizes: tuple[float, ...], rate: float, *, reach: float, hold: float = HOLD
) -> FloatArray:
    """To and fro by each size (rad) that ``reach`` allows, resting ``hold`` s after each: (n,)."""
    ticks = round(hold * rate)
    turns = [
        side * min(size, 2 * reach) / 2 for size in sizes for side in (1.0, -1.0, 1.0, -1.0, 0.0)
    ]
    return np.repeat(turns, ticks)


def ramps(seconds: float, rate: float, *, reach: float) -> FloatArray:
    """Two slow triangles (n,) of height ``reach`` rad: friction and dead band at every turn."""
    time = np.arange(round(seconds * rate)) / rate
    return reach * (2 / np.pi) * np.arcsin(np.sin(4 * np.pi * time / seconds))


def excitation(robot: Robot) -> FloatArray:
    """Targets (T, J) rad for a robot whose body is held: one joint of each leg at a time.

    The others rest, in a table that lists joints leg by leg; in another order two of a leg may
    move together, which the fit allows for. Velocity, acceleration and travel stay within the
    joint table's limits; the steps are what the driver's limits make of them.

    Raises:
        ValueError: a joint has no room to move.
    """
    per_leg = len(robot.joints) // len(robot.feet)
    low, high = robot.lower + MARGIN, robot.upper - MARGIN
    middle = 0.5 * (low + high)
    if np.any(high <= low):
        raise ValueError(f'robot {robot.name}: a joint travels less than {2 * MARGIN} rad')
    rest = round(robot.control_rate)
    whole = []
    for moving in range(per_leg):
        joints = np.arange(moving, len(robot.joints), per_leg)
        reach = float(np.min(high[joints] - middle[joints]))
        wave = np.concatenate((
            chirp(
                CHIRP,
                robot.control_rate,
                reach=min(reach, 0.6),
                velocity=SHARE * robot.limits.velocity,
                acceleration=SHARE * robot.limits.acceleration,
            ),
            steps(STEPS, robot.control_rate, reach=reach),
            ramps(RAMP, robot.control_rate, reach=min(reach, 0.15)),
            np.zeros(rest),
        ))  # fmt: skip
        part = np.tile(middle, (len(wave), 1))
        part[:, joints] += wave[:, None]
        whole.append(part)
    return np.concatenate(whole)
