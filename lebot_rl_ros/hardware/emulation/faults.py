"""Faults of wires and devices in their time; how they are written stands in fault_text.

A damaged answer has one byte changed, or one bit of it flipped, which is what noise on a line
does. Both protocols' check sums see every change of one byte. Where several bytes change,
Feetech's sum of 8 bits lets one in 256 pass; Dynamixel's CRC of 16 bits one in 65536.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from lebot_rl_ros.hardware.emulation.fault_text import (
    JOINT_OR_ALL,
    WIRE_FAULTS,
    WireFault,
    parse_wire_fault,
)
from lebot_rl_ros.hardware.emulation.line import Line
from lebot_rl_ros.hardware.emulation.servos import ServoBank

__all__ = ['WIRE_FAULTS', 'FaultSchedule', 'Timed', 'WireFault', 'parse_wire_fault']

Timed = list[tuple[float, bytes]]  # s when the last byte of an answer leaves, and the answer
ANY = -1  # row: an answer of several servos, or a fault of all


class FaultSchedule:
    """Which faults are there now. It does to servos and cable what they do, and damages answers.

    What faults do by chance is drawn from one seeded generator, so that runs repeat.
    """

    def __init__(
        self, faults: Iterable[WireFault], joint_names: Sequence[str], seed: int = 0
    ) -> None:
        """Time is 0 until :meth:`at` tells another.

        Args:
            faults: of the run.
            joint_names: of the servos, row by row.
            seed: of chance.
        """
        self._rows = {name: row for row, name in enumerate(joint_names)}
        self._faults = list(faults)
        self._active: list[WireFault] = []
        self._time, self._next = 0.0, -math.inf  # s: now, and when something changes
        self._news: list[str] = []
        self._random = np.random.default_rng(seed)
        self._bank: ServoBank | None = None
        self._line: Line | None = None
        self._unplugged = False
        self._volts: float | None = None  # that the supply has dropped to
        # What the bus asks for each request: whether all is well, and what is not.
        self.quiet, self.deaf, self.echo = True, False, False
        self._noises: list[tuple[str, int, float]] = []  # kind, row, value

    def attach(self, bank: ServoBank, line: Line) -> None:
        """Say which servos and which cable are meant."""
        self._bank, self._line = bank, line
        self._change()

    @property
    def all_active(self) -> tuple[WireFault, ...]:
        """Faults that are there now."""
        return tuple(self._active)

    def active(self, kind: str, where: str = '') -> WireFault | None:
        """The fault of this kind at this place, if it is there now."""
        for fault in self._active:
            if fault.kind == kind and fault.where == where:
                return fault
        return None

    def take_news(self) -> list[str]:
        """What began and ended since the last call, for people."""
        news, self._news = self._news, []
        return news

    def at(self, time: float) -> None:
        """It is now ``time`` s: begin what is due, end what is over."""
        self._time = time
        if time >= self._next:
            self._change()

    def add(self, fault: WireFault, now: float) -> None:
        """One more; its times count from ``now``, s."""
        self._faults.append(replace(fault, start=fault.start + now, end=fault.end + now))
        self._time = now
        self._change()

    def clear(self) -> None:
        """End all faults, and forget those to come."""
        self._faults = []
        self._change()

    def _change(self) -> None:
        before, now = self._active, self._time
        self._active = active = [fault for fault in self._faults if fault.active(now)]
        self._news += [f'fault ends: {fault}' for fault in before if fault not in active]
        self._news += [f'fault begins: {fault}' for fault in active if fault not in before]
        times = [time for fault in self._faults for time in (fault.start, fault.end)]
        self._next = min((time for time in times if time > now), default=math.inf)
        self.deaf = self.active('baud') is not None
        self.echo = self.active('echo') is not None
        self._noises = [
            (fault.kind, self._rows[fault.where] if fault.where else ANY, fault.value or 0.0)
            for fault in active
            if fault.kind in JOINT_OR_ALL and fault.where != 'imu'
        ]
        self.quiet = not (self.deaf or self.echo or self._noises)
        self._do()

    def _row(self, kind: str) -> dict[int, WireFault]:
        return {self._rows[fault.where]: fault for fault in self._active if fault.kind == kind}

    def _do(self) -> None:
        """Let servos and cable be as the active faults want them; what is so already stays."""
        if self._line is not None and (self.active('unplug', 'bus') is None) == self._unplugged:
            self._unplugged = not self._unplugged
            (self._line.unplug if self._unplugged else self._line.plug)()
        bank = self._bank
        if bank is None:
            return
        mute, clash, overload, heat = map(self._row, ('mute', 'clash', 'overload', 'heat'))
        for row in range(len(bank)):
            if bank.powered[row] == (row in mute):
                bank.power(row, row not in mute)
            bank.strain.forced[row] = row in overload
            celsius = heat[row].value if row in heat else None
            bank.strain.hold_temperature(row, math.nan if celsius is None else celsius)
            of = self._rows[clash[row].other] if row in clash else None
            if bank.impersonates(row) != of:
                bank.impersonate(row, of)
        low = self.active('brownout')
        volts = None if low is None else low.value
        if volts != self._volts:
            self._volts = volts
            bank.set_supply(volts)

    def replies(self, rows: Sequence[int], frames: Timed) -> Timed:
        """What becomes of answers under the active faults.

        Args:
            rows: whose they are, ANY for one of several servos.
            frames: when each would leave, and its bytes (empty: a servo that does not answer).
        """
        told: Timed = []
        for row, (time, frame) in zip(rows, frames, strict=True):
            copies = 1 if frame else 0
            for kind, at, value in self._noises:
                if ANY not in (row, at) and row != at:
                    continue
                if kind == 'late':
                    time += value / 1e3
                elif self._random.random() < value and copies:
                    if kind == 'drop':
                        copies = 0
                    elif kind == 'duplicate':
                        copies += 1
                    else:
                        frame = self._damage(frame)
            told += [(time, frame)] * copies
        return told

    def _damage(self, frame: bytes) -> bytes:
        damaged = bytearray(frame)
        place = int(self._random.integers(len(frame)))
        if self._random.random() < 0.5:
            damaged[place] ^= 1 << int(self._random.integers(8))
        else:
            damaged[place] = (damaged[place] + int(self._random.integers(1, 256))) & 0xFF
        return bytes(damaged)
