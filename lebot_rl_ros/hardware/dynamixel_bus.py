"""Dynamixel X servos on a serial bus, protocol 2.0."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.hardware import dynamixel
from lebot_rl_ros.hardware import dynamixel_table as xl
from lebot_rl_ros.hardware.block import Block, Bytes, Columns, Records, Rows
from lebot_rl_ros.hardware.bus import Alarm
from lebot_rl_ros.hardware.register_bus import LimitRegisters
from lebot_rl_ros.hardware.registers import MIDDLE, STEP
from lebot_rl_ros.hardware.serial_bus import SerialBus
from lebot_rl_ros.hardware.wire import Wire
from lebot_rl_ros.robot.state import FloatArray

DELAY = 500e-6  # s before an answer: the register return_delay as it leaves the factory

ALARMS = {
    xl.VOLTAGE: Alarm.VOLTAGE,
    xl.HEAT: Alarm.HEAT,
    xl.ENCODER: Alarm.ENCODER,
    xl.SHOCK: Alarm.SHOCK,
    xl.OVERLOAD: Alarm.OVERLOAD,
}

BLOCK = Block(
    address=xl.FEEDBACK,
    length=xl.FEEDBACK_LENGTH,
    head=8,  # up to the instruction
    fields={
        'load': ('<i2', 0),
        'speed': ('<i4', 2),
        'position': ('<i4', 6),
        'voltage': ('<u2', 18),
        'temperature': ('u1', 20),
    },
)


class DynamixelBus(SerialBus):
    """XL430 and XL330, also side by side: each tells its model at its first answer."""

    codec = dynamixel
    known = xl.TABLES
    block = BLOCK
    limits = LimitRegisters('profile_speed', 'goal_pwm', 'max_pwm')

    def __init__(
        self, wire: Wire, ids: Sequence[int], period: float = 0.02, slack: float | None = None
    ) -> None:
        """Nothing is sent yet; see SerialBus."""
        super().__init__(wire, ids, xl.XL430, period=period, slack=slack, delay=DELAY)
        count = len(self.ids)
        self._load_scale = np.full(count, np.nan)
        self._alarm = np.zeros(count, np.int64)
        self._asked = np.zeros(count, np.int64)  # when each was asked for its alarms last
        entry = self.table['goal_position']
        self._goals = bytearray(
            dynamixel.sync_write(entry.address, entry.size, dict.fromkeys(self.ids, bytes(4)))
        )
        # Behind twelve bytes of head, address and length: id, position, id, position... Goals
        # are below 4096, so two bytes of four are always 0, and nothing needs stuffing.
        self._slots: np.ndarray[tuple[int], np.dtype[np.uint16]] = np.ndarray(
            count, '<u2', self._goals, 13, 5
        )
        # The CRC is linear: what each goal adds to it, (J, 4096).
        columns = dynamixel.crc_columns(len(self._goals) - 2)
        raw = np.arange(4096)
        self._goal_crc = np.array(
            [
                columns[13 + 5 * row, raw & 0xFF] ^ columns[14 + 5 * row, raw >> 8]
                for row in range(count)
            ]
        )
        self._no_goal_crc = dynamixel.crc16(self._goals[:-2])

    def _goal_request(self, position: FloatArray) -> bytearray:
        counts = self._counts(position).astype(np.intp)
        self._slots[:] = counts
        crc = self._no_goal_crc ^ int(np.bitwise_xor.reduce(self._goal_crc[self._rows, counts]))
        self._goals[-2:] = crc.to_bytes(2, 'little')
        return self._goals

    def clear_alarm(self, id: int) -> bool:
        """Reboot, the only way out of a hardware error; torque is off for 0.5 s and then on."""
        return self.exchange.ask(id, dynamixel.reboot(id), 0) is not None

    def _identify(self, id: int) -> int | None:
        answer = self.exchange.ask(id, dynamixel.ping(id), 3, quietly=True)  # model, firmware
        return None if answer is None else int.from_bytes(answer.data[:2], 'little')

    def _protect(self, id: int, locked: bool) -> bool:
        if locked:
            return True
        torque = self.get(id, 'torque_enable')
        if torque:
            raise ValueError(f'servo {id} has torque, which locks its EEPROM; switch it off first')
        return torque is not None

    def _heads(self, length: int) -> Bytes:
        # With the error byte: who has an alarm or refuses is read with more care, not so quickly.
        answers = [dynamixel.status(id, 0, bytes(length)) for id in self.ids]
        return np.array([list(answer[: self.block.head + 1]) for answer in answers], np.uint8)

    def _sums(self, length: int) -> Callable[[Bytes], bool]:
        # What each byte of the data adds to the CRC, and the CRC's own two bytes: together they
        # are what the head adds, which is known.
        heads = self._heads(length)
        head = heads.shape[1]
        data = dynamixel.crc_columns(head + length)[head:]
        own = np.arange(256, dtype=np.uint16)
        columns = np.concatenate((data, (own, own << 8))).ravel()
        offsets = np.arange(length + 2) * 256
        blank = [dynamixel.crc16(bytes([*row, *bytes(length)])) for row in heads]
        right = np.array(blank, np.uint16).tobytes()
        return lambda frames: (
            np.bitwise_xor.reduce(columns[frames[:, head:] + offsets], 1).tobytes() == right
        )

    def _convert(self, records: Records, rows: Rows) -> Columns:
        if len(self.tables) < len(self.ids):
            self._learn(self.collect('model_number', [self.ids[row] for row in self._rows[rows]]))
        return (
            (records['position'] - MIDDLE) * STEP,
            records['speed'] * xl.SPEED,
            records['load'] * self._load_scale[rows],
            records['voltage'] * 0.1,
            records['temperature'].astype(np.float64),
            self._alarms(records['error'], rows),
        )

    def _alarms(self, error: Bytes, rows: Rows) -> npt.NDArray[np.int64]:
        """Alarms of the servos in ``rows``; one of those that have some is asked which."""
        if not (error.any() or self._alarm.any()):
            return np.zeros(len(error), np.int64)
        places = self._rows[rows]
        alert = error >= dynamixel.ALERT
        self._alarm[places[~alert]] = 0
        if alert.any():
            # Who has not told yet comes first; else one after the other.
            row = min(
                places[alert].tolist(), key=lambda row: (self._alarm[row] != 0, self._asked[row])
            )
            self._asked[row] = self._asked.max() + 1
            said = self.get(self.ids[row], 'hardware_error_status')
            if said is not None:
                self._alarm[row] = sum(
                    alarm for bit, alarm in ALARMS.items() if int(said) >> bit & 1
                )
        return self._alarm[places]

    def _learn(self, models: Mapping[int, float]) -> None:
        """Take over the models: the XL330 measures current where the XL430 estimates load."""
        for id, model in models.items():
            self.tables[id] = table = self.known.get(int(model), self.table)
            load = table.by_name.get('present_load')
            current = table.by_name.get('present_current')
            if load is not None:
                scale = load.scale
            elif current is not None:
                scale = current.scale / table.stall_current
            self._load_scale[self._row[id]] = scale
