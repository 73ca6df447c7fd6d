"""What Dynamixel's servos answer: mistakes get a code, what is not for them or broken, silence.

Not modelled: factory reset and clear, which are answered as unknown instructions.
"""

from collections.abc import Callable

from lebot_rl_ros.hardware.dynamixel import BROADCAST, Instruction, Parser, status
from lebot_rl_ros.hardware.emulation.answers import Answer, Packet
from lebot_rl_ros.hardware.emulation.dynamixel_groups import GROUPS, DynamixelGroups, words
from lebot_rl_ros.hardware.emulation.dynamixel_servos import ACCESS, INSTRUCTION, LENGTH
from lebot_rl_ros.hardware.emulation.servos import ServoBank

CHANGES_LEVEL = 2  # response level from which writes and the like are confirmed


class DynamixelEar(Parser):
    """The codec's parser, with a question that only a listener asks."""

    @property
    def pending(self) -> bool:
        """Whether bytes wait for more."""
        return bool(self._buffer)


class DynamixelAnswers(DynamixelGroups):
    """All servos of a bank, as listeners to protocol 2.0."""

    def __init__(self, bank: ServoBank, on_full_read: Callable[[], None] | None) -> None:
        """See the base."""
        super().__init__(bank, on_full_read)
        self.ear = DynamixelEar()

    def _handle(self, request: Packet) -> Answer | None:
        id, code, params = request
        if code == Instruction.STATUS:  # an echo of one of us
            return None
        if id == BROADCAST and code in GROUPS:
            return self.group(code, params)
        self.bank.refresh()
        if id != BROADCAST:
            return self._each([id], lambda row, of: self._obey(row, of, code, params))
        if code == Instruction.PING:
            return self._each(sorted(self.listeners), self._ping)
        for row in [row for rows in self.listeners.values() for row in rows]:
            self._do(row, code, params)
        return None

    def _obey(self, row: int, id: int, code: int, params: bytes) -> bytes:
        alert = int(self.bank.errors[row])
        level = int(self.bank.raw('response_level')[row])
        if code == Instruction.PING:
            return self._ping(row, id)
        if code == Instruction.READ:
            if len(params) != 4:
                return status(id, alert | LENGTH) if level else b''
            return self.tell(row, id, *words(params)) if level else b''
        error = self._do(row, code, params)
        if code != Instruction.REBOOT:  # that answers as the one it was
            alert = int(self.bank.errors[row])
        return status(id, alert | error) if level >= CHANGES_LEVEL else b''

    def _do(self, row: int, code: int, params: bytes) -> int:
        """Obey what changes something; returns the error code."""
        bank = self.bank
        if code in (Instruction.WRITE, Instruction.REG_WRITE):
            if len(params) < 3:
                return LENGTH
            address, data = params[0] | params[1] << 8, params[2:]
            if code == Instruction.WRITE:
                return bank.write(row, address, data)
            self._registered[row] = (address, data)
            bank.store('registered_instruction', 1, row)
        elif code == Instruction.ACTION:
            if row in self._registered:
                bank.store('registered_instruction', 0, row)
                return bank.write(row, *self._registered.pop(row))
        elif code == Instruction.REBOOT:
            bank.reset(row)
        else:
            return INSTRUCTION
        return 0

    def _ping(self, row: int, id: int) -> bytes:
        memory = self.bank.memory[row]
        return status(id, int(self.bank.errors[row]), bytes((memory[0], memory[1], memory[6])))

    def look(self, row: int, address: int, length: int) -> tuple[int, bytes]:
        """See the base."""
        alert = int(self.bank.errors[row])
        if not length or address + length > self.bank.table.memory:
            return alert | ACCESS, b''
        return alert, self.bank.memory[row, address : address + length].tobytes()

    def tell(self, row: int, id: int, address: int, length: int) -> bytes:
        """See the base."""
        return status(id, *self.look(row, address, length))
