"""Feetech's servos: what the STS series does with its registers.

Source: Feetech, memory table of the STS series (magnetic encoder). Alarms of voltage and heat
come and go with their cause; after an overload torque stays reduced until it is switched on anew.
"""

from collections.abc import Sequence

import numpy as np

from lebot_rl_ros.hardware.emulation.memory import ByteArray, Rows
from lebot_rl_ros.hardware.emulation.sensing import counts
from lebot_rl_ros.hardware.emulation.servos import ServoBank
from lebot_rl_ros.hardware.feetech_table import (
    AMPERE,
    CALIBRATE,
    FEEDBACK,
    FEEDBACK_LENGTH,
    HEAT,
    OVERLOAD,
    SHARE,
    SPEED_UNIT_BIT,
    SPEED_UNITS,
    STS3215,
    VOLTAGE,
)
from lebot_rl_ros.hardware.registers import MIDDLE, STEP, STEPS, Table
from lebot_rl_ros.robot.state import FloatArray

GOALS = ('acceleration', 'goal_position', 'goal_time', 'goal_speed')


class FeetechBank(ServoBank):
    """Servos that never refuse: what they may not take they ignore, what is too much they clamp.

    While the lock register is 1, a write to the EEPROM acts, but only until power goes.
    """

    protocol = 'feetech'
    feedback = (FEEDBACK, FEEDBACK_LENGTH)

    def __init__(
        self, ids: Sequence[int], *, nominal_voltage: float = 7.4, table: Table = STS3215
    ) -> None:
        """See the base."""
        self.reduced = np.zeros(len(ids), dtype=bool)  # an overload has cut the torque
        self._unloaded = np.zeros(len(ids), dtype=bool)  # another alarm has taken it
        super().__init__(table, ids, nominal_voltage=nominal_voltage)

    @property
    def errors(self) -> ByteArray:
        """(J,) the status register."""
        return self._views['status'].view(np.uint8)

    def _wake(self, row: int) -> None:
        self.reduced[row] = self._unloaded[row] = False
        self._views['torque_limit'][row] = self._views['max_torque'][row]

    def _accept(self, row: int, address: int, data: bytes) -> int:
        memory, end = self.memory[row], address + len(data)
        for entry in self.touched(address, len(data)):
            first, last = entry.address, entry.address + entry.size
            if not entry.writable:
                continue
            if first < address or end < last:  # half a number: the bytes as they come
                first, last = max(first, address), min(last, end)
                taken = data[first - address : last - address]
            else:
                taken = data[first - address : last - address]
                if entry.name == 'torque_enable' and taken[0] == CALIBRATE:
                    self._centre(row)
                    continue
                lowest, highest = entry.range
                taken = entry.pack(min(max(entry.unpack(taken), lowest), highest))
            memory[first:last] = np.frombuffer(taken, np.uint8)
            if entry.eeprom and not self._views['lock'][row]:
                self._burn(entry, row)
        return 0

    def _centre(self, row: int) -> None:
        """Make the present angle the middle of the turn, for good; torque stays as it is."""
        here = counts(self.position[row : row + 1]) % STEPS
        offset = np.minimum(np.maximum(here - MIDDLE, -2047), 2047)
        self.keep('offset', offset, np.array([row]))
        self._stale = True
        self.store('goal_position', self.raw('present_position')[row], row)

    def takes_goals(self, address: int, length: int) -> bool:
        """See the base: whole registers of the goal."""
        entries = self.touched(address, length)
        return all(entry.name in GOALS for entry in entries) and length == sum(
            entry.size for entry in entries
        )

    def write_goals(self, rows: Rows, address: int, block: ByteArray) -> None:
        """See the base."""
        self.memory[rows, address : address + block.shape[1]] = block
        for entry in self.touched(address, block.shape[1]):
            if entry.name == 'goal_position':
                self._aimed[rows] = True
            elif entry.sign_bit is None:
                view = self._views[entry.name]
                np.minimum(view, entry.range[1], out=view)

    def _switched(self, row: int, had_torque: bool) -> None:
        super()._switched(row, had_torque)
        if self._views['torque_enable'][row] == 1:
            self.reduced[row] = False
            self.strain.overloaded[row] = 0.0

    @property
    def strength(self) -> FloatArray:
        """(J,) share of the stall torque, 0 to 1."""
        share = self._views['torque_limit'] * SHARE
        if self.reduced.any():
            share = np.where(self.reduced, share * self._views['protective_torque'] * 0.01, share)
        supply = min(self.strain.supply / self.strain.nominal_voltage, 1.0)
        return share * supply * (self.powered & ~self._unloaded)

    def _read_configuration(self) -> None:
        views = self._views
        fine = views['phase'] >> SPEED_UNIT_BIT & 1
        self._unit = np.where(fine == 1, SPEED_UNITS[1], SPEED_UNITS[0]) * STEP  # rad/s of a count
        self._offset = self._peek('offset')
        self._endless = (views['min_position'] == 0) & (views['max_position'] == 0)
        self._lowest = np.where(self._endless, -32767, self._peek('min_position'))
        self._highest = np.where(self._endless, 32767, self._peek('max_position'))
        self._steerable = views['operating_mode'] == 0
        self._overload_limit = views['overload_torque'] * 0.01
        self._patience = views['protection_time'] * 0.01 - 1e-9  # s, less what sums of dt lose
        self._least_volts, self._most_volts = (
            views['min_voltage'] * 0.1,
            views['max_voltage'] * 0.1,
        )
        self._hottest = views['max_temperature'].astype(float)
        self._unloading = views['unloading_condition'] & ~np.uint8(1 << OVERLOAD)

    def _target(self) -> FloatArray:
        goal = self._views['goal_position'].astype(np.int64)
        if (goal & 0x8000).any():
            goal = np.where(goal & 0x8000, -(goal & 0x7FFF), goal)
        goal = np.minimum(np.maximum(goal, self._lowest), self._highest)
        return np.where(self._steerable, (goal + self._offset - MIDDLE) * STEP, self._set_point)

    def _speed(self) -> FloatArray:
        return (self._views['goal_speed'] & 0x7FFF) * self._unit

    def _judge(self) -> None:
        strain, status = self.strain, self._views['status']
        volts = strain.voltage
        bad = (volts <= self._least_volts) | (volts > self._most_volts)
        hot = np.rint(strain.temperature) > self._hottest
        over = (strain.overloaded >= self._patience) & (strain.overloaded > 0) | strain.forced
        if not (status.any() or bad.any() or hot.any() or over.any()):
            return
        self.reduced |= over
        status[:] = (bad << VOLTAGE) | (hot << HEAT) | (self.reduced << OVERLOAD)
        self._unloaded = (status & self._unloading) != 0

    def _show(self) -> None:
        strain, views = self.strain, self._views
        speed = np.minimum(np.maximum(np.rint(self.velocity / self._unit), -0x7FFF), 0x7FFF)
        load = np.minimum(np.maximum(np.rint(self.load / SHARE), -1000), 1000)
        current = np.rint(strain.current / AMPERE)
        position = counts(self.position) - self._offset
        if self._endless.any():
            self.store('present_position', np.where(self._endless, position, position % STEPS))
        else:
            views['present_position'][:] = position % STEPS
        views['present_speed'][:] = np.where(speed < 0, 0x8000 - speed, speed)
        views['present_load'][:] = np.where(load < 0, 0x0400 - load, load)
        views['present_current'][:] = np.where(load < 0, 0x8000 + current, current)
        views['present_voltage'][:] = min(round(strain.voltage * 10), 255)
        views['present_temperature'][:] = np.rint(np.minimum(strain.temperature, 255))
        views['moving'][:] = np.abs(speed) > views['moving_threshold']
        views['present_goal'][:] = (counts(self._set_point) - self._offset) % STEPS
