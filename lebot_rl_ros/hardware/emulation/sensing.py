"""What servos feel, and how their registers tell it."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from lebot_rl_ros.hardware.emulation.memory import IntArray, ServoMemory
from lebot_rl_ros.hardware.emulation.strain import Strain
from lebot_rl_ros.hardware.registers import MIDDLE, STEP, Table
from lebot_rl_ros.robot.state import FloatArray


def counts(angle: FloatArray) -> IntArray:
    """Raw position of an angle in rad."""
    return np.rint(angle / STEP).astype(np.int64) + MIDDLE


class SensingServos(ServoMemory):
    """Servos that feel where they are and how they work; row ``i`` is the servo of ``ids[i]``.

    Angles are the shaft's, servo side, 0 at the middle of the turn; offsets that a servo keeps
    are inside.
    """

    def __init__(self, table: Table, ids: Sequence[int], nominal_voltage: float) -> None:
        """At rest at angle 0.

        Args:
            table: of the servo model.
            ids: on the bus.
            nominal_voltage: V of the full battery.
        """
        super().__init__(table, ids)
        joints = len(ids)
        self.strain = Strain(joints, nominal_voltage, table.stall_current)
        self.position: FloatArray = np.zeros(joints)  # rad, of the shaft
        self.velocity: FloatArray = np.zeros(joints)  # rad/s
        self.load: FloatArray = np.zeros(joints)  # share of the stall torque
        self._configured = -1  # version of what subclasses keep of the EEPROM in arrays
        self._stale = False  # registers do not tell yet what was felt

    def _configure(self) -> None:
        """Keep what the EEPROM says in arrays, if it has changed."""
        if self._configured != self.version:
            self._configured = self.version
            self._stale = True  # an offset may be another
            self._read_configuration()

    @abstractmethod
    def _read_configuration(self) -> None:
        """Registers of the EEPROM as arrays in SI units."""

    def sense(
        self, dt: float, position: FloatArray, velocity: FloatArray, load: FloatArray
    ) -> None:
        """Feel what ``dt`` s of work have brought; the registers tell it from then on.

        Args:
            dt: s since the last call.
            position: (J,) rad of the shaft.
            velocity: (J,) rad/s.
            load: (J,) share of the stall torque, -1 to 1, in the direction of position.
        """
        self._configure()
        self.position = np.array(position, dtype=float)
        self.velocity = np.array(velocity, dtype=float)
        self.load = np.array(load, dtype=float)
        self.strain.feel(dt, self.load, self._overload_limit, self.powered)
        self._judge()
        self._stale = True

    def refresh(self) -> None:
        """See the base."""
        self._configure()
        if self._stale:
            self._stale = False
            self._show()

    _overload_limit: FloatArray  # (J,) share of the stall torque above which overload counts

    @abstractmethod
    def _judge(self) -> None:
        """Look at temperature, voltage and overload; raise alarms and do what follows."""

    @abstractmethod
    def _show(self) -> None:
        """Write what is felt into the registers that tell it."""
