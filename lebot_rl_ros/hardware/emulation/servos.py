"""What servos do, by their registers; what differs from protocol to protocol is in subclasses."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from lebot_rl_ros.hardware.emulation.memory import (
    BoolArray,
    ByteArray,
    Rows,
)
from lebot_rl_ros.hardware.emulation.sensing import SensingServos
from lebot_rl_ros.hardware.registers import Table
from lebot_rl_ros.robot.state import FloatArray


class ServoBank(SensingServos):
    """All ``J`` servos of one bus; row ``i`` of every array is the servo of ``ids[i]``.

    They follow positions; in other operating modes they hold where they are.
    """

    protocol: str
    feedback: tuple[int, int]  # address and length of the block that a driver reads in a cycle

    def __init__(self, table: Table, ids: Sequence[int], *, nominal_voltage: float = 7.4) -> None:
        """Power on: no torque, at angle 0.

        Args:
            table: of the servo model.
            ids: on the bus.
            nominal_voltage: V of the full battery.
        """
        super().__init__(table, ids, nominal_voltage)
        joints = len(ids)
        self._set_point: FloatArray = np.zeros(joints)
        self._aimed = np.zeros(joints, dtype=bool)  # a goal came since torque went off
        goal = table['goal_position']
        self._goal_block = range(goal.address, goal.address + goal.size)
        self._switch = table['torque_enable'].address
        for row in range(joints):
            self.reset(row)

    @property
    @abstractmethod
    def errors(self) -> ByteArray:
        """(J,) what the error byte of each answer says, beside a code for this instruction."""

    # Power

    def power(self, row: int, on: bool) -> None:
        """Cut a servo's power, or give it back, upon which it starts anew."""
        self.powered[row] = on
        self.version += 1
        if on:
            self.reset(row)

    def reset(self, row: int) -> None:
        """Start anew, as after a reboot or a brown-out: torque off, RAM as at power-on."""
        self._restore(row)
        self._aimed[row] = False
        self._set_point[row] = self.position[row]
        self.strain.overloaded[row] = 0.0
        self.version += 1
        self._wake(row)
        self._stale = True
        self.store('goal_position', self.raw('present_position')[row], row)

    def set_supply(self, volts: float | None) -> None:
        """Let the supply drop to this, upon which every servo starts anew; None: it is back."""
        self.strain.supply = self.strain.nominal_voltage if volts is None else volts
        self.strain.voltage = self.strain.supply
        if volts is not None:
            for row in range(len(self)):
                self.reset(row)
        self._configure()
        self._judge()
        self._stale = True

    @abstractmethod
    def _wake(self, row: int) -> None:
        """At power-on: RAM that comes from the EEPROM, and inner state."""

    # Writing

    def write(self, row: int, address: int, data: bytes) -> int:
        """Do what a write instruction asks of one servo; returns its error code, 0 if none."""
        had_torque = bool(self._views['torque_enable'][row] == 1)
        error = self._accept(row, address, data)
        if error:
            return error
        self.version += any(
            entry.eeprom or entry.name == 'response_level'
            for entry in self.touched(address, len(data))
        )
        end = address + len(data)
        if address < self._goal_block.stop and self._goal_block.start < end:
            self._aimed[row] = True
        if address <= self._switch < end:
            self._switched(row, had_torque)
        return 0

    @abstractmethod
    def _accept(self, row: int, address: int, data: bytes) -> int:
        """Put ``data`` into the memory as far as it is allowed; returns the error code."""

    @abstractmethod
    def takes_goals(self, address: int, length: int) -> bool:
        """Whether a sync write of this block may go through :meth:`write_goals`."""

    @abstractmethod
    def write_goals(self, rows: Rows, address: int, block: ByteArray) -> None:
        """Do a sync write of goals (rows, length) at once, as :meth:`write` would one by one."""

    def _switched(self, row: int, had_torque: bool) -> None:
        """The torque register was written."""
        torque = bool(self._views['torque_enable'][row] == 1)
        if torque and not had_torque and not self._aimed[row]:
            # Without a new goal it holds; one that was sent before torque is gone to at once.
            self.store('goal_position', self.raw('present_position')[row], row)
        elif had_torque and not torque:
            self._aimed[row] = False

    # What the body needs

    @property
    def torque(self) -> BoolArray:
        """(J,) who has torque."""
        return (self._views['torque_enable'] == 1) & self.powered

    @property
    @abstractmethod
    def strength(self) -> FloatArray:
        """(J,) share of the stall torque that each may use, 0 to 1."""

    def goal(self, dt: float) -> FloatArray:
        """Where each servo's own loop wants to be after ``dt`` s: (J,) rad, a new array.

        Goal or profile speed limit how it goes there; acceleration is not modelled.
        """
        self._configure()
        aim, last, speed = self._target(), self._set_point, self._speed()
        if speed.any():
            step = np.where(speed > 0, speed * dt, np.inf)
            aim = np.minimum(np.maximum(aim, last - step), last + step)
        self._set_point = np.where(self.torque, aim, self.position)
        return self._set_point.copy()

    @abstractmethod
    def _target(self) -> FloatArray:
        """(J,) rad of the shaft that is asked for, within limits; the set point where none is."""

    @abstractmethod
    def _speed(self) -> FloatArray:
        """(J,) rad/s that the set point may move at; 0: any."""
