"""Dynamixel's servos: what the X series does with its registers.

Source: ROBOTIS e-manual, control tables of XL430-W250 and XL330-M288, protocol 2.0. Alarms are
latched: what stands in the shutdown register takes torque until a reboot. Not modelled: the bus
watchdog, indirect registers, drive modes, and modes other than the three that follow positions.
"""

from collections.abc import Sequence

import numpy as np

from lebot_rl_ros.hardware.dynamixel import ALERT
from lebot_rl_ros.hardware.dynamixel_table import (
    FEEDBACK,
    FEEDBACK_LENGTH,
    HEAT,
    OVERLOAD,
    PWM,
    SPEED,
    VOLTAGE,
    XL430,
)
from lebot_rl_ros.hardware.emulation.memory import BoolArray, ByteArray, Rows
from lebot_rl_ros.hardware.emulation.sensing import counts
from lebot_rl_ros.hardware.emulation.servos import ServoBank
from lebot_rl_ros.hardware.registers import MIDDLE, STEP, Table
from lebot_rl_ros.robot.state import FloatArray

# Codes of the error byte.
FAIL, INSTRUCTION, CRC, RANGE, LENGTH, LIMIT, ACCESS = range(1, 8)
OVERLOAD_SHARE, OVERLOAD_TIME = 0.8, 2.0  # of the stall torque; s. The firmware's are not told
POSITION, EXTENDED_POSITION, CURRENT_POSITION = 3, 4, 5  # operating modes


class DynamixelBank(ServoBank):
    """Servos that refuse: a write against the rules changes nothing and is answered by a code."""

    protocol = 'dynamixel'
    feedback = (FEEDBACK, FEEDBACK_LENGTH)

    def __init__(
        self, ids: Sequence[int], *, nominal_voltage: float = 7.4, table: Table = XL430
    ) -> None:
        """See the base.

        Raises:
            ValueError: the servo is not made for this voltage.
        """
        lowest, highest = (
            table[name].initial * table[name].scale for name in ('min_voltage', 'max_voltage')
        )
        if not lowest < nominal_voltage <= highest:
            raise ValueError(
                f'{table.model_name} is made for {lowest:g} to {highest:g} V, '
                f'the nominal voltage is {nominal_voltage:g} V'
            )
        self._time = 0.0
        super().__init__(table, ids, nominal_voltage=nominal_voltage)

    @property
    def errors(self) -> ByteArray:
        """(J,) the alert bit of those with a hardware error."""
        alarm = self._views['hardware_error_status'] != 0
        return alarm.astype(np.uint8) * np.uint8(ALERT)

    def _wake(self, row: int) -> None:
        self._views['goal_pwm'][row] = self._views['max_pwm'][row]

    def _accept(self, row: int, address: int, data: bytes) -> int:
        end = address + len(data)
        if not data or end > self.table.memory:
            return ACCESS
        entries = self.touched(address, len(data))
        torque = self._views['torque_enable'][row] == 1
        if any(not entry.writable or (entry.eeprom and torque) for entry in entries):
            return ACCESS
        if sum(entry.size for entry in entries) != len(data):
            partly = any(e.address < address or end < e.address + e.size for e in entries)
            return LENGTH if partly else ACCESS  # a gap between registers
        for entry in entries:
            raw = entry.unpack(data[entry.address - address :][: entry.size])
            lowest, highest = entry.range
            if not lowest <= raw <= highest:
                return RANGE
            least, most = self._limits(row, entry.name)
            if not least <= raw <= most:
                return LIMIT
            if entry.name == 'torque_enable' and raw and self._shut_down()[row]:
                return FAIL
        self.memory[row, address:end] = np.frombuffer(data, np.uint8)
        for entry in entries:
            if entry.eeprom:
                self._burn(entry, row)
        return 0

    def _limits(self, row: int, name: str) -> tuple[float, float]:
        """Limits that other registers set to this one."""
        views = self._views
        if name == 'goal_position' and views['operating_mode'][row] == POSITION:
            return int(views['min_position'][row]), int(views['max_position'][row])
        if name in ('goal_pwm', 'goal_speed'):
            most = int(views['max_pwm' if name == 'goal_pwm' else 'max_speed'][row])
            return -most, most
        return -np.inf, np.inf

    def takes_goals(self, address: int, length: int) -> bool:
        """See the base: exactly the goal position, all in position mode."""
        goal = self.table['goal_position']
        return (address, length) == (goal.address, goal.size) and bool(
            (self._views['operating_mode'] == POSITION).all()
        )

    def write_goals(self, rows: Rows, address: int, block: ByteArray) -> None:
        """See the base."""
        block = np.ascontiguousarray(block)
        goals = block.view('<i4')[:, 0]
        lowest, highest = self._views['min_position'][rows], self._views['max_position'][rows]
        if ((goals >= lowest) & (goals <= highest)).all():
            self._views['goal_position'][rows] = goals
            self._aimed[rows] = True
            return
        for row, data in zip(np.arange(len(self))[rows].tolist(), block, strict=True):
            self.write(row, address, data.tobytes())

    @property
    def strength(self) -> FloatArray:
        """(J,) share of the stall torque, 0 to 1."""
        views = self._views
        share = np.clip(np.minimum(views['goal_pwm'], views['max_pwm']) * PWM, 0.0, 1.0)
        supply = min(self.strain.supply / self.strain.nominal_voltage, 1.0)
        return share * supply * self.powered

    def _read_configuration(self) -> None:
        views = self._views
        mode = views['operating_mode']
        self._offset = self._peek('offset')
        self._steerable = (mode >= POSITION) & (mode <= CURRENT_POSITION)
        self._lowest = np.where(mode == POSITION, self._peek('min_position'), -(2**31))
        self._highest = np.where(mode == POSITION, self._peek('max_position'), 2**31 - 1)
        self._overload_limit = np.full(len(self), OVERLOAD_SHARE)
        self._least_volts, self._most_volts = (
            views['min_voltage'] * 0.1,
            views['max_voltage'] * 0.1,
        )
        self._hottest = views['max_temperature'].astype(float)

    def _target(self) -> FloatArray:
        goal = self._views['goal_position'].astype(np.int64)
        goal = np.minimum(np.maximum(goal, self._lowest), self._highest)
        return np.where(self._steerable, (goal - self._offset - MIDDLE) * STEP, self._set_point)

    def _speed(self) -> FloatArray:
        return self._views['profile_speed'] * SPEED

    def _shut_down(self) -> BoolArray:
        """(J,) whether an alarm keeps torque off until a reboot."""
        return (self._views['hardware_error_status'] & self._views['shutdown']) != 0

    def _judge(self) -> None:
        strain, error = self.strain, self._views['hardware_error_status']
        volts = strain.voltage
        bad = (volts < self._least_volts) | (volts > self._most_volts)
        hot = np.rint(strain.temperature) > self._hottest
        over = (strain.overloaded >= OVERLOAD_TIME - 1e-9) | strain.forced
        if not (error.any() or bad.any() or hot.any() or over.any()):
            return
        error[:] |= ((bad << VOLTAGE) | (hot << HEAT) | (over << OVERLOAD)).astype(np.uint8)
        down = self._shut_down()
        self._views['torque_enable'][down] = 0
        self._aimed[down] = False

    def sense(
        self, dt: float, position: FloatArray, velocity: FloatArray, load: FloatArray
    ) -> None:
        """See the base."""
        self._time += dt
        super().sense(dt, position, velocity, load)

    def _show(self) -> None:
        strain = self.strain
        speed = np.rint(self.velocity / SPEED)
        load = np.minimum(np.maximum(self.load, -1.0), 1.0)
        self.store('realtime_tick', round(self._time * 1000) % 32768)
        self.store('moving', np.abs(speed) > self._views['moving_threshold'])
        self.store('present_pwm', np.rint(load / PWM))
        if 'present_load' in self.table.by_name:
            self.store('present_load', np.rint(load * 1000))
        else:
            self.store('present_current', np.rint(np.sign(load) * strain.current * 1000))
        self.store('present_speed', speed)
        self.store('present_position', counts(self.position) + self._offset)
        self.store('position_trajectory', counts(self._set_point) + self._offset)
        self.store('present_voltage', round(strain.voltage * 10))
        self.store('present_temperature', np.rint(np.minimum(strain.temperature, 255)))
