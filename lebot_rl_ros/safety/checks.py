"""Which quantities of a servo are judged, and where warnings and faults begin."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray


class Action(IntEnum):
    """What the driver has to do; a higher number is more urgent."""

    NONE = 0
    CROUCH = 1  # the robot can still stand: down slowly, then no torque
    RELAX = 2  # nothing can be relied on: torque off at once


class Report(Protocol):
    """What the servos said in this tick; ``Feedback`` of a servo bus is one. J joints in order."""

    missed: npt.NDArray[np.int64]  # (J,) reads in a row without an answer; 0: the row is of now
    temperature: FloatArray  # (J,) deg C, NaN before the first answer, as the next two
    voltage: FloatArray  # (J,) V
    load: FloatArray  # (J,) share of the stall torque, -1 to 1
    alarm: npt.NDArray[np.int64]  # (J,) bits of ALARMS


# Bit, words, and what to do when it lasts. An alarm is not a failed read: it warns first.
# A servo without its encoder does not know where it is, so a slow crouch is no longer safe.
ALARMS = (
    (1, 'voltage', Action.CROUCH),
    (2, 'encoder', Action.RELAX),
    (4, 'heat', Action.CROUCH),
    (8, 'current', Action.CROUCH),
    (16, 'overload', Action.CROUCH),
    (32, 'electric shock', Action.CROUCH),
)


@dataclass(frozen=True)
class HealthConfig:
    """Where warnings and faults begin. What is in s is counted in control ticks."""

    missed_warn: int = 1  # reads in a row without an answer
    missed_error: int = 5
    temperature_warn: float = 60.0  # deg C; the servos cut their own torque at 70 (STS) or 72 (XL)
    temperature_error: float = 68.0
    voltage_warn: float = 0.85  # share of the nominal voltage
    voltage_error: float = 0.7
    load_warn: float = 0.9  # share of the stall torque
    load_time: float = 1.0  # s above load_warn in a row
    confirm: float = 0.2  # s in a row of an alarm, a temperature or a voltage, until it is a fault
    settle: float = 0.1  # s after switching, before torque registers have to agree
    hold: float = 2.0  # s without cause until a warning goes, so that it does not flicker

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a warning does not come before its error, or a time is negative.
        """
        for low, high in (
            ('missed_warn', 'missed_error'),
            ('temperature_warn', 'temperature_error'),
            ('voltage_error', 'voltage_warn'),
        ):
            if not 0 < getattr(self, low) <= getattr(self, high):
                raise ValueError(
                    f'{low} is {getattr(self, low)}, must be above 0 and at most '
                    f'{high}, {getattr(self, high)}'
                )
        for name in ('load_time', 'confirm', 'settle', 'hold'):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f'{name} is {getattr(self, name)}, must be 0 s or more')


@dataclass(frozen=True)
class Check:
    """One quantity, of which higher is worse; its limits; and what to do when it fails."""

    warn: float  # at or above it for ``patience`` ticks in a row: a warning
    clear: float  # below it for a while: no longer one
    error: float  # at or above it for ``confirm`` ticks in a row: failed
    action: Action  # of a failure
    words: Callable[[float], str]  # of the worst value since the warning began
    patience: int = 1
    confirm: int = 1


def ticks(robot: Robot, seconds: float) -> int:
    """Control periods of a time in s; at least one."""
    return max(round(seconds * robot.control_rate), 1)


def quantities(report: Report) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Values (K, J) in the order of :func:`make_checks`, and which of them say something new."""
    missed, alarm = np.asarray(report.missed), np.asarray(report.alarm)
    values = np.array([
        missed,
        *((alarm & bit) != 0 for bit, _, _ in ALARMS),
        report.temperature,
        -np.asarray(report.voltage),
        np.abs(report.load),
    ], dtype=float)  # fmt: skip
    known = np.isfinite(values)
    known[1:] &= missed == 0  # a servo that did not answer has nothing new but that
    return values, known


def make_checks(robot: Robot, config: HealthConfig) -> tuple[Check, ...]:
    """Everything that is judged (K), in the order in which it is told."""
    confirm, patience = ticks(robot, config.confirm), ticks(robot, config.load_time)
    nominal = robot.servo.nominal_voltage
    low, lowest = config.voltage_warn * nominal, config.voltage_error * nominal
    warm, hot = config.temperature_warn, config.temperature_error
    return (
        Check(
            config.missed_warn, 0.5, config.missed_error, Action.RELAX,
            lambda worst: f'{worst:.0f} read{"" if worst == 1 else "s"} without an answer',
        ),
        *(
            Check(1, 1, 1, action, lambda _, name=name: f'{name} alarm', confirm=confirm)  # type: ignore[misc]
            for _, name, action in ALARMS
        ),
        Check(
            warm, warm - 2, hot, Action.CROUCH,
            lambda worst: f'{worst:.0f} degC, limit {hot:.0f} degC', confirm=confirm,
        ),
        Check(
            -low, -1.02 * low, -lowest, Action.CROUCH,
            lambda worst: f'{-worst:.1f} V, limit {lowest:.1f} V', confirm=confirm,
        ),
        Check(
            config.load_warn, config.load_warn, np.inf, Action.NONE,
            lambda worst: f'load {worst:.2f} of the stall torque for {config.load_time:g} s',
            patience=patience,
        ),
    )  # fmt: skip
