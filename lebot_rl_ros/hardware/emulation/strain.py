"""What work does to servos: they warm up, the battery's voltage sags, load lasts too long.

Plain first-order models with round numbers of the right order: enough to move a driver's limits
and alarms, not to predict a real servo.
"""

import math

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot.state import FloatArray

BoolArray = npt.NDArray[np.bool_]

AMBIENT = 25.0  # degC
RISE = 120.0  # K above ambient that a servo stalled for good would reach
WARMING = 180.0  # s, time constant
IDLE_CURRENT = 0.02  # A
RESISTANCE = 0.04  # ohm of battery and cables


class Strain:
    """Temperature, current, voltage and overload of ``J`` servos on one battery."""

    def __init__(self, joints: int, nominal_voltage: float, stall_current: float) -> None:
        """Cool, and at rest. V and A."""
        self.nominal_voltage = nominal_voltage
        self.stall_current = stall_current
        self.supply = nominal_voltage  # V without load
        self.voltage = nominal_voltage  # V at the servos
        self.temperature: FloatArray = np.full(joints, AMBIENT)
        self.current: FloatArray = np.full(joints, IDLE_CURRENT)  # A, amount
        self.overloaded: FloatArray = np.zeros(joints)  # s that load has been over its limit
        self.held: FloatArray = np.full(joints, np.nan)  # degC that a fault keeps a servo at
        self._holding = False
        self.forced = np.zeros(joints, dtype=bool)  # taken as overloaded, by a fault

    def feel(self, dt: float, load: FloatArray, overload: FloatArray, powered: BoolArray) -> None:
        """Take ``dt`` seconds of work.

        Args:
            dt: s.
            load: (J,) share of the stall torque.
            overload: (J,) share above which a servo counts as overloaded.
            powered: (J,) whether a servo has power.
        """
        amount = np.abs(load)
        # Copper loss goes with the square of the current.
        self.temperature += (AMBIENT + RISE * amount * amount - self.temperature) * (
            1 - math.exp(-dt / WARMING)
        )
        if self._holding:
            self.temperature = np.where(np.isnan(self.held), self.temperature, self.held)
        self.current = (IDLE_CURRENT + amount * self.stall_current) * powered
        self.voltage = max(self.supply - RESISTANCE * float(self.current.sum()), 0.0)
        self.overloaded = (self.overloaded + dt) * ((amount > overload) | self.forced)

    def hold_temperature(self, row: int, celsius: float) -> None:
        """Keep a servo at a temperature; NaN lets it cool."""
        self.held[row] = celsius
        self._holding = not np.isnan(self.held).all()
        if not math.isnan(celsius):
            self.temperature[row] = celsius
