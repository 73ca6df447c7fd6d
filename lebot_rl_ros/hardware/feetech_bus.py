"""Feetech STS servos on a serial bus."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.hardware import feetech
from lebot_rl_ros.hardware import feetech_table as sts
from lebot_rl_ros.hardware.block import Block, Bytes, Columns, Records, Rows
from lebot_rl_ros.hardware.bus import Alarm
from lebot_rl_ros.hardware.register_bus import LimitRegisters
from lebot_rl_ros.hardware.registers import MIDDLE, STEP, Register
from lebot_rl_ros.hardware.serial_bus import SerialBus
from lebot_rl_ros.hardware.wire import Wire
from lebot_rl_ros.robot.state import FloatArray

DELAY = 250e-6  # s before an answer, at most; the STS does not heed its register return_delay
SPEEDS = ('goal_speed', 'present_speed')  # registers whose unit depends on the register phase


def sign_and_magnitude(bit: int) -> npt.NDArray[np.int16]:
    """Number that each 16-bit word means where ``bit`` says minus, to be looked up: (65536,)."""
    words = np.arange(1 << 16)
    magnitude = words & (1 << bit) - 1
    return np.where(words >> bit & 1, -magnitude, magnitude).astype(np.int16)


STEPS = sign_and_magnitude(15)  # of position and speed
LOAD = sign_and_magnitude(10)

ALARMS = np.array(
    [
        sum(
            alarm
            for bit, alarm in (
                (sts.VOLTAGE, Alarm.VOLTAGE),
                (sts.ENCODER, Alarm.ENCODER),
                (sts.HEAT, Alarm.HEAT),
                (sts.CURRENT, Alarm.CURRENT),
                (sts.OVERLOAD, Alarm.OVERLOAD),
            )
            if status >> bit & 1
        )
        for status in range(256)
    ],
    np.int64,
)

BLOCK = Block(
    address=sts.FEEDBACK,
    length=sts.FEEDBACK_LENGTH,
    head=4,
    fields={
        'position': ('<u2', 0),
        'speed': ('<u2', 2),
        'load': ('<u2', 4),
        'voltage': ('u1', 6),
        'temperature': ('u1', 7),
        'status': ('u1', 9),
    },
)


class FeetechBus(SerialBus):
    """STS3215 and its relatives.

    A goal is its position alone, two bytes of the six that could be sent: that is 0.3 ms less on
    a wire of eight servos, and speed and torque limits stay as they were set.
    """

    codec = feetech
    known = sts.TABLES
    block = BLOCK
    limits = LimitRegisters('goal_speed', 'torque_limit', 'max_torque')

    def __init__(
        self, wire: Wire, ids: Sequence[int], period: float = 0.02, slack: float | None = None
    ) -> None:
        """Nothing is sent yet; see SerialBus."""
        self._units: dict[int, int] = {}  # steps/s per count of a speed, by id
        super().__init__(wire, ids, sts.STS3215, period=period, slack=slack, delay=DELAY)
        self._speed_scale = np.full(len(self.ids), np.nan)
        entry = self.table['goal_position']
        self._goals = bytearray(
            feetech.sync_write(entry.address, entry.size, dict.fromkeys(self.ids, b'\0\0'))
        )
        # Behind five bytes of head, address and length: id, position, id, position...
        self._slots: np.ndarray[tuple[int], np.dtype[np.uint16]] = np.ndarray(
            len(self.ids), '<u2', self._goals, 8, 3
        )

    def _goal_request(self, position: FloatArray) -> bytearray:
        self._slots[:] = self._counts(position)
        self._goals[-1] = feetech.checksum(memoryview(self._goals)[2:-1])
        return self._goals

    def register(self, id: int, name: str) -> Register:
        """A register of this servo, its speeds in the servo's own unit."""
        entry = super().register(id, name)
        if name not in SPEEDS:
            return entry
        if id not in self._units and (phase := self.get(id, 'phase')) is not None:
            self._learn({id: phase})
        return replace(entry, scale=entry.scale * self._units.get(id, 1))

    def clear_alarm(self, id: int) -> bool:
        """Torque off, on at the present angle, and off: switching it on ends an overload.

        The other alarms go by themselves with their cause. Source: Feetech, memory table of the
        STS series, overload protection (register 36).
        """
        if not self.put(id, 'torque_enable', 0):
            return False
        present = self.get(id, 'present_position')
        if present is None or not self.put(id, 'goal_position', present):
            return False
        switched = self.put(id, 'torque_enable', 1)
        return self.put(id, 'torque_enable', 0) and switched

    def _identify(self, id: int) -> int | None:
        """A ping would not do: with a voltage alarm, its answer is the ping, byte for byte."""
        entry = self.table['model_number']
        request = feetech.read(id, entry.address, entry.size)
        answer = self.exchange.ask(id, request, entry.size, quietly=True)
        return None if answer is None else entry.unpack(answer.data)

    def _protect(self, id: int, locked: bool) -> bool:
        return self.put(id, 'lock', locked)

    def _heads(self, length: int) -> Bytes:
        answers = [feetech.status(id, 0, bytes(length)) for id in self.ids]
        return np.array([list(answer[: self.block.head]) for answer in answers], np.uint8)

    def _sums(self, length: int) -> Callable[[Bytes], bool]:
        # The sum of all behind the header, check sum included, is 255 modulo 256.
        right = b'\xff' * len(self.ids)
        return lambda frames: np.add.reduce(frames[:, 2:], 1, np.uint8).tobytes() == right

    def _convert(self, records: Records, rows: Rows) -> Columns:
        if len(self._units) < len(self.ids):
            self._learn(self.collect('phase', [self.ids[row] for row in self._rows[rows]]))
        return (
            STEPS.take(records['position']) * STEP - MIDDLE * STEP,
            STEPS.take(records['speed']) * self._speed_scale[rows],
            LOAD.take(records['load']) * sts.SHARE,
            records['voltage'] * 0.1,
            records['temperature'].astype(np.float64),
            ALARMS[records['error'] | records['status']],
        )

    def _learn(self, phases: Mapping[int, float]) -> None:
        """Take over the unit of speeds, which bit 2 of the register phase says."""
        for id, phase in phases.items():
            self._units[id] = unit = sts.SPEED_UNITS[int(phase) >> sts.SPEED_UNIT_BIT & 1]
            if id in self._row:
                self._speed_scale[self._row[id]] = STEP * unit
