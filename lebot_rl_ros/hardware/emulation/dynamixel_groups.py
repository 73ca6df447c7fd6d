"""What Dynamixel's servos answer to requests of several at once: sync and bulk, plain and fast."""

from abc import abstractmethod

import numpy as np

from lebot_rl_ros.hardware.dynamixel import (
    BROADCAST,
    HEADER,
    MAX_LENGTH,
    PATTERN,
    Instruction,
    crc16,
    crc_columns,
    frame,
    status,
)
from lebot_rl_ros.hardware.emulation.answers import (
    Answer,
    Answers,
    SyncRead,
    SyncWrite,
    selection,
)
from lebot_rl_ros.hardware.emulation.memory import ByteArray

HEAD = 12  # bytes of a sync write before the first id
BODY = 8  # bytes of an answer before its error byte
GROUPS = (
    Instruction.SYNC_READ,
    Instruction.SYNC_WRITE,
    Instruction.FAST_SYNC_READ,
    Instruction.BULK_READ,
    Instruction.BULK_WRITE,
    Instruction.FAST_BULK_READ,
)


class DynamixelGroups(Answers):
    """The part of the answers that several servos give together."""

    @abstractmethod
    def look(self, row: int, address: int, length: int) -> tuple[int, bytes]:
        """Error byte of a read, and the data unless there is a code in it."""

    @abstractmethod
    def tell(self, row: int, id: int, address: int, length: int) -> bytes:
        """Answer to a read."""

    def _quick(self, data: bytes) -> tuple[int, Answer | None]:
        params = self._known.get(data)
        if params is not None:
            return len(data), self._sync_read(params)
        write = self._writes.get(data[:HEAD])
        if write is None or len(data) < write.size:
            return 0, None
        size, step = write.size, write.length + 1
        if crc16(data[: size - 2]) != data[size - 2] | data[size - 1] << 8:
            return 0, None
        if data[HEAD : size - 2 : step] != write.ids:
            return 0, None
        block = np.frombuffer(data, np.uint8, size - HEAD - 2, HEAD).reshape(-1, step)[:, 1:]
        self.bank.write_goals(write.select, write.address, block)
        return size, None

    def group(self, code: int, params: bytes) -> Answer | None:
        """Obey one of GROUPS."""
        if len(params) < 4:
            return None
        if code in (Instruction.BULK_WRITE, Instruction.SYNC_WRITE):
            (self._sync_write if code == Instruction.SYNC_WRITE else self._bulk_write)(params)
            return None
        if code == Instruction.SYNC_READ:
            self._remember(frame(BROADCAST, code, params), params)
            return self._sync_read(params)
        if code in (Instruction.BULK_READ, Instruction.FAST_BULK_READ):
            wanted = {
                params[at]: words(params[at + 1 :]) for at in range(0, len(params) // 5 * 5, 5)
            }
        else:
            address, length = words(params)
            wanted = dict.fromkeys(params[4:], (address, length))
            self._announce(wanted, address, length)
        self.bank.refresh()
        if code == Instruction.BULK_READ:
            return self._each(wanted, lambda row, id: self.tell(row, id, *wanted[id]))
        return self._fast(wanted)

    def _fast(self, wanted: dict[int, tuple[int, int]]) -> Answer | None:
        """One packet to which each servo adds its part; whoever is missing breaks it off."""
        length = 1 + sum(size + 4 for _, size in wanted.values())
        if length > MAX_LENGTH:
            return None
        packet = HEADER + bytes((BROADCAST, length & 0xFF, length >> 8, Instruction.STATUS))
        for id, (address, size) in wanted.items():
            rows = self.listeners.get(id, ())
            if len(rows) != 1:
                break
            error, data = self.look(rows[0], address, size)
            packet += bytes((error, id)) + data.ljust(size, b'\0')
            packet += crc16(packet).to_bytes(2, 'little')
        return Answer([-1], [packet]) if len(packet) > BODY else None

    def _sync_read(self, params: bytes) -> Answer:
        address, length = words(params)
        ids, bank = params[4:], self.bank
        self._announce(ids, address, length)
        bank.refresh()
        plan = self._reads.get(params) or self._plan(params)
        if plan is not None:
            out = plan.out
            body = out[:, BODY:-2]
            body[:, 0] = bank.errors[plan.select]
            body[:, 1:] = bank.memory[plan.select, plan.block]
            if PATTERN not in body.tobytes():  # else some need stuffing
                out[:, -2:] = plan.check(body)
                told, size = out.tobytes(), out.shape[1]
                return Answer(plan.rows, [told[i : i + size] for i in range(0, len(told), size)])
        return self._each(ids, lambda row, of: self.tell(row, of, address, length))

    def _plan(self, params: bytes) -> SyncRead | None:
        address, length = words(params)
        rows = self._one_each(params[4:])
        if rows is None or not length or address + length > self.bank.table.memory:
            return None
        empty = b''.join(status(id, 0, bytes(length)) for id in params[4:])
        out = np.frombuffer(empty, np.uint8).reshape(len(rows), -1).copy()
        columns = crc_columns(out.shape[1] - 2)
        places = np.arange(out.shape[1] - 2)
        heads = np.bitwise_xor.reduce(columns[places[:BODY], out[:, :BODY]], axis=1)
        flat, offsets = columns[BODY:].ravel(), 256 * places[: length + 1]

        def check(body: ByteArray) -> ByteArray:
            sums = np.bitwise_xor.reduce(flat[offsets + body], axis=1) ^ heads
            return sums.astype('<u2').view(np.uint8).reshape(-1, 2)

        block = slice(address, address + length)
        self._reads[params] = plan = SyncRead(selection(rows), rows, block, out, check)
        return plan

    def _sync_write(self, params: bytes) -> None:
        address, length = words(params)
        step = length + 1
        if not length or (len(params) - 4) % step:
            return
        for at in range(4, len(params), step):
            for row in self.listeners.get(params[at], ()):
                self.bank.write(row, address, params[at + 1 : at + step])
        rows = self._one_each(params[4::step])
        request = frame(BROADCAST, Instruction.SYNC_WRITE, params)
        stuffed = len(request) != HEAD + len(params) - 4 + 2
        if rows is not None and not stuffed and self.bank.takes_goals(address, length):
            self._writes[request[:HEAD]] = SyncWrite(
                selection(rows), params[4::step], address, length, len(request)
            )

    def _bulk_write(self, params: bytes) -> None:
        at = 0
        while at + 5 <= len(params):
            address, length = words(params[at + 1 : at + 5])
            data = params[at + 5 : at + 5 + length]
            for row in self.listeners.get(params[at], ()):
                self.bank.write(row, address, data)
            at += 5 + length


def words(params: bytes) -> tuple[int, int]:
    """The first two numbers of 16 bits."""
    return params[0] | params[1] << 8, params[2] | params[3] << 8
