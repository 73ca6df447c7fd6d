"""What Feetech's servos answer. What is not for them, or makes no sense, meets with silence."""

from collections.abc import Callable

import numpy as np

from lebot_rl_ros.hardware.emulation.answers import (
    Answer,
    Answers,
    Packet,
    SyncRead,
    SyncWrite,
    selection,
)
from lebot_rl_ros.hardware.emulation.memory import ByteArray
from lebot_rl_ros.hardware.emulation.servos import ServoBank
from lebot_rl_ros.hardware.feetech import (
    BROADCAST,
    HEADER,
    OVERHEAD,
    Instruction,
    Parser,
    frame,
    status,
)


class FeetechEar(Parser):
    """The codec's parser, with a question that only a listener asks."""

    @property
    def pending(self) -> bool:
        """Whether bytes wait for more."""
        return bool(self._buffer)


class FeetechAnswers(Answers):
    """All servos of a bank, as listeners to Feetech's protocol."""

    def __init__(self, bank: ServoBank, on_full_read: Callable[[], None] | None) -> None:
        """See the base."""
        super().__init__(bank, on_full_read)
        self.ear = FeetechEar()

    def _quick(self, data: bytes) -> tuple[int, Answer | None]:
        params = self._known.get(data)
        if params is not None:
            return len(data), self._sync_read(params)
        write = self._writes.get(data[:7])
        if write is None or len(data) < write.size:
            return 0, None
        size, length = write.size, write.length
        if ~sum(data[2 : size - 1]) & 0xFF != data[size - 1]:
            return 0, None
        if data[7 : size - 1 : length + 1] != write.ids:
            return 0, None
        block = np.frombuffer(data, np.uint8, size - 8, 7).reshape(-1, length + 1)[:, 1:]
        self.bank.write_goals(write.select, write.address, block)
        return size, None

    def _handle(self, request: Packet) -> Answer | None:
        id, code, params = request
        everybody = id == BROADCAST
        if code == Instruction.SYNC_READ:
            if not everybody or len(params) < 2:
                return None
            self._remember(frame(id, code, params), params)
            return self._sync_read(params)
        if code == Instruction.SYNC_WRITE:
            if everybody and len(params) >= 2:
                self._sync_write(params)
            return None
        ids = sorted(self.listeners) if everybody else [id]
        if code == Instruction.PING:
            return self._each(ids, self._confirm)
        if code == Instruction.READ:
            if everybody or len(params) != 2:
                return None
            self.bank.refresh()
            return self._each(ids, lambda row, of: self._tell(row, of, params[0], params[1]))
        if code not in (
            Instruction.WRITE,
            Instruction.REG_WRITE,
            Instruction.ACTION,
            Instruction.REBOOT,
        ):
            return None
        # Confirmed as it was when the request came: after a new id or level others would answer.
        told = self._each(ids, self._confirm_write)
        for row in [row for of in ids for row in self.listeners.get(of, ())]:
            self._do(row, code, params)
        return None if everybody else told

    def _do(self, row: int, code: int, params: bytes) -> None:
        bank = self.bank
        if code == Instruction.WRITE and len(params) > 1:
            bank.write(row, params[0], params[1:])
        elif code == Instruction.REG_WRITE and len(params) > 1:
            self._registered[row] = (params[0], params[1:])
            bank.store('registered_write', 1, row)
        elif code == Instruction.ACTION and row in self._registered:
            bank.write(row, *self._registered.pop(row))
            bank.store('registered_write', 0, row)
        elif code == Instruction.REBOOT:
            bank.reset(row)

    def _confirm(self, row: int, id: int) -> bytes:
        return status(id, int(self.bank.errors[row]))

    def _confirm_write(self, row: int, id: int) -> bytes:
        return self._confirm(row, id) if self.bank.raw('response_level')[row] else b''

    def _tell(self, row: int, id: int, address: int, length: int) -> bytes:
        data = self.bank.memory[row, address : address + length].tobytes()
        return status(id, int(self.bank.errors[row]), data.ljust(min(length, 253), b'\0'))

    def _sync_read(self, params: bytes) -> Answer:
        address, length, ids = params[0], params[1], params[2:]
        self._announce(ids, address, length)
        bank = self.bank
        bank.refresh()
        plan = self._reads.get(params) or self._plan(params)
        if plan is None:
            return self._each(ids, lambda row, of: self._tell(row, of, address, length))
        out = plan.out
        out[:, 4] = bank.errors[plan.select]
        out[:, 5:-1] = bank.memory[plan.select, plan.block]
        out[:, -1:] = plan.check(out[:, 2:-1])
        told, size = out.tobytes(), out.shape[1]
        return Answer(plan.rows, [told[i : i + size] for i in range(0, len(told), size)])

    def _plan(self, params: bytes) -> SyncRead | None:
        address, length, ids = params[0], params[1], params[2:]
        rows = self._one_each(ids)
        if rows is None or address + length > self.bank.table.memory:
            return None
        out = np.zeros((len(rows), length + OVERHEAD), np.uint8)
        out[:, 0:2] = tuple(HEADER)
        out[:, 2] = tuple(ids)
        out[:, 3] = length + 2
        block = slice(address, address + length)
        plan = SyncRead(selection(rows), rows, block, out, _checksums)
        self._reads[params] = plan
        return plan

    def _sync_write(self, params: bytes) -> None:
        address, length = params[0], params[1]
        step = length + 1
        if not length or (len(params) - 2) % step:
            return
        for at in range(2, len(params), step):
            for row in self.listeners.get(params[at], ()):
                self.bank.write(row, address, params[at + 1 : at + step])
        rows = self._one_each(params[2::step])
        if rows is not None and self.bank.takes_goals(address, length):
            head = frame(BROADCAST, Instruction.SYNC_WRITE, params)
            self._writes[head[:7]] = SyncWrite(
                selection(rows), params[2::step], address, length, len(head)
            )


def _checksums(bodies: ByteArray) -> ByteArray:
    """Check sums of packets (servos, bytes) from their id on: (servos, 1)."""
    return ~np.add.reduce(bodies, axis=1, dtype=np.uint8, keepdims=True)
