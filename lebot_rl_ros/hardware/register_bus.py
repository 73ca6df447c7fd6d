"""Servos by their registers, whatever the protocol: read, write, scan, new ids, torque, limits."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.hardware.bus import Found, ServoBus
from lebot_rl_ros.hardware.exchange import Exchange
from lebot_rl_ros.hardware.packets import Codec
from lebot_rl_ros.hardware.registers import Register, Table
from lebot_rl_ros.hardware.wire import Wire

OFFS = 3  # how often torque off is sent
SPARE = 4  # bytes, up to which more than a register are read


@dataclass(frozen=True)
class LimitRegisters:
    """Names of the registers that make a servo slow and weak."""

    speed: str  # 0 is no limit
    torque: str
    most_torque: str  # what `torque` is at power-on, kept in the EEPROM


class RegisterBus(ServoBus):
    """The part of a bus that is not the control cycle. A subclass knows the protocol."""

    codec: Codec
    known: dict[int, Table]  # by model number
    limits: LimitRegisters

    def __init__(
        self, wire: Wire, ids: Sequence[int], table: Table, slack: float | None, delay: float
    ) -> None:
        """Nothing is sent yet.

        Args:
            wire: open port; :meth:`close` closes it.
            ids: of the servos, in the order of all arrays.
            table: of those servos that have not told their model.
            slack: s that answers may be late for; None: what the adapter behind the port needs.
            delay: s that each servo waits before it answers, at most.

        Raises:
            ValueError: no ids, or one stands twice or does not fit the protocol.
        """
        self.wire, self.ids, self.table = wire, tuple(ids), table
        for id in self.ids:
            table['id'].encode(id)
        if not self.ids or len(set(self.ids)) < len(self.ids):
            raise ValueError(f'servo ids are {self.ids}: there must be some, and none twice')
        self.tables: dict[int, Table] = {}  # of those that told their model, by id
        self.exchange = Exchange(wire, self.codec, slack, delay)
        self.errors = self.exchange.errors
        self._spare = 0

    @abstractmethod
    def _identify(self, id: int) -> int | None:
        """Model number of a servo; None if it does not answer."""

    @abstractmethod
    def _protect(self, id: int, locked: bool) -> bool:
        """Lock or unlock a servo's EEPROM; whether that was confirmed."""

    def register(self, id: int, name: str) -> Register:
        """A register of this servo by its name; ValueError with the choices if there is none."""
        return self.tables.get(id, self.table)[name]

    def get(self, id: int, register: str) -> float | None:
        """Read a register, see :class:`~lebot_rl_ros.hardware.bus.ServoBus`."""
        entry = self.register(id, register)
        length = self._length(entry)
        answer = self.exchange.ask(id, self.codec.read(id, entry.address, length), length)
        return None if answer is None else entry.decode(answer.data[: entry.size])

    def put(self, id: int, register: str, value: float) -> bool:
        """Write a register, see :class:`~lebot_rl_ros.hardware.bus.ServoBus`."""
        entry = self.register(id, register)
        if not entry.writable:
            raise ValueError(f'register {register} of servo {id} is read-only')
        request = self.codec.write(id, entry.address, entry.encode(value))
        if not entry.eeprom:
            return self.exchange.ask(id, request, 0) is not None
        unlocked = self._protect(id, False)
        written = unlocked and self.exchange.ask(id, request, 0) is not None
        return self._protect(id, True) and written

    def collect(self, register: str, ids: Sequence[int]) -> dict[int, float]:
        """The same register of many servos with one sync read; who did not answer is not in it."""
        entry = self.register(ids[0], register)
        length = self._length(entry)
        request = self.codec.sync_read(entry.address, length, ids)
        answers = self.exchange.gather(self.exchange.question(request, ids, length))
        return {id: entry.decode(answer.data[: entry.size]) for id, answer in answers.items()}

    def scan(self, ids: Iterable[int], bauds: Sequence[int] = ()) -> list[Found]:
        """Look for servos, see :class:`~lebot_rl_ros.hardware.bus.ServoBus`."""
        own, ids = self.wire.baud, tuple(ids)
        found = []
        try:
            for baud in bauds or (own,):
                if baud != self.wire.baud:
                    self.wire.set_baud(baud)
                for id in ids:
                    model = self._identify(id)
                    if model is not None:
                        table = self.known.get(model)
                        name = f'unknown model {model}' if table is None else table.model_name
                        found.append(Found(id, baud, model, name))
        finally:
            if self.wire.baud != own:
                self.wire.set_baud(own)
        return found

    def set_id(self, old: int, new: int) -> bool:
        """Rename a servo, see :class:`~lebot_rl_ros.hardware.bus.ServoBus`."""
        entry = self.register(old, 'id')
        data = entry.encode(new)
        if old == new:
            return self._identify(old) is not None
        if self._identify(new) is not None:
            raise ValueError(f'servo {old} cannot get the id {new}: another servo has it')
        if not self._protect(old, False):
            return False
        # Some firmware confirms under the old id, some under the new one; what counts is below.
        self.exchange.ask(old, self.codec.write(old, entry.address, data), 0, quietly=True)
        renamed = self._identify(new) is not None
        return self._protect(new if renamed else old, True) and renamed

    def set_limits(
        self, speed: float | None, torque_share: float | None, ids: Sequence[int] | None = None
    ) -> bool:
        """Make servos slow and weak, see :class:`~lebot_rl_ros.hardware.bus.ServoBus`."""
        confirmed = True
        for id in self.ids if ids is None else ids:
            entry = self.register(id, self.limits.speed)
            if speed is not None and not speed >= entry.scale:  # 0 would be no limit
                raise ValueError(
                    f'servo {id}: speed {speed} is not at least {entry.scale:.3g} rad/s, or None'
                )
            share = torque_share
            if share is None:
                share = self.get(id, self.limits.most_torque)
            confirmed &= share is not None and self.put(id, self.limits.torque, share)
            confirmed &= self.put(id, self.limits.speed, 0.0 if speed is None else speed)
        return confirmed

    def set_torque(self, on: bool, ids: Sequence[int] | None = None) -> None:
        """Switch torque, see :class:`~lebot_rl_ros.hardware.bus.ServoBus`."""
        request = self._torque(on, self.ids if ids is None else ids)
        for _ in range(1 if on else OFFS):
            self.wire.send(request)

    def torque_off(self) -> bytes:
        """The request that switches torque off."""
        return self._torque(False, self.ids)

    def torque(self) -> npt.NDArray[np.float64]:
        """Who has torque, see :class:`~lebot_rl_ros.hardware.bus.ServoBus`."""
        said = self.collect('torque_enable', self.ids)
        return np.array([float(said[id] == 1) if id in said else np.nan for id in self.ids])

    def fileno(self) -> int:
        """Descriptor of the port."""
        return self.wire.fileno()

    def close(self) -> None:
        """Leave the port."""
        self.wire.close()

    def _length(self, entry: Register) -> int:
        """Bytes to ask for: not as many as the last time, so that a late answer is noticed."""
        self._spare = (self._spare + 1) % SPARE
        return min(entry.size + self._spare, self.table.memory - entry.address)

    def _torque(self, on: bool, ids: Sequence[int]) -> bytes:
        address = self.table['torque_enable'].address
        return self.codec.sync_write(address, 1, dict.fromkeys(ids, bytes((on,))))
