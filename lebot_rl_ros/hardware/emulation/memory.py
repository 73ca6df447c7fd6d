"""The memory of all servos on a bus, one row each: what outlives a power cut, who listens."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.hardware.registers import Register, Table

IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
Rows = slice | IntArray | int
ALL = slice(None)


class ServoMemory:
    """Registers of ``J`` servos of one model, by the name they have in its table.

    They are commissioned: ids are set and the return delay is 0; all else is as it leaves the
    factory.
    """

    def __init__(self, table: Table, ids: Sequence[int]) -> None:
        """Power on.

        Args:
            table: of the servo model.
            ids: on the bus, of row 0, 1, ...
        """
        self.table = table
        self.version = 0  # counts changes of the EEPROM, of who listens, and of how they answer
        self._factory = np.tile(np.frombuffer(bytes(table.factory()), np.uint8), (len(ids), 1))
        self._eeprom = np.zeros(table.memory, dtype=bool)
        for entry in table.registers:
            self._eeprom[entry.address : entry.address + entry.size] = entry.eeprom
        self.powered: BoolArray = np.ones(len(ids), dtype=bool)
        self._alias: dict[int, int] = {}  # row: that of the servo whose id it wrongly answers to
        self.memory: ByteArray = self._factory.copy()  # (J, bytes); only ever changed in place
        self._views = {entry.name: self._view(entry) for entry in table.registers}
        self._covered: dict[tuple[int, int], tuple[Register, ...]] = {}
        self.store('id', list(ids))
        self.store('return_delay', 0)
        self._rom = self.memory.copy()

    def __len__(self) -> int:
        """How many servos."""
        return len(self.memory)

    def refresh(self) -> None:
        """Bring registers that tell what is felt up to date; call before reading the memory."""

    def _view(self, entry: Register) -> npt.NDArray[np.integer]:
        """One register of all servos, (J,), where it lies in the memory."""
        kind = f'<{"i" if entry.signed else "u"}{entry.size}'
        strides = (self.memory.strides[0],)
        return np.ndarray((len(self.memory),), kind, self.memory.data, entry.address, strides)

    def raw(self, name: str) -> IntArray:
        """A register of all servos as signed raw numbers, (J,)."""
        self.refresh()
        return self._peek(name)

    def _peek(self, name: str) -> IntArray:
        """The same, as it lies in the memory."""
        bit = self.table[name].sign_bit
        values = self._views[name].astype(np.int64)
        if bit is None:
            return values
        amount = values & ~(1 << bit)
        return np.where(values >> bit & 1, -amount, amount)

    def store(self, name: str, raw: npt.ArrayLike, rows: Rows = ALL) -> None:
        """Set a register from inside, whatever protects it; the raw numbers must fit."""
        entry = self.table[name]
        if entry.sign_bit is not None:
            values = np.asarray(raw)
            raw = np.where(values < 0, -values | 1 << entry.sign_bit, values)
        self._views[name][rows] = raw
        self.version += entry.eeprom

    def keep(self, name: str, raw: npt.ArrayLike, rows: Rows = ALL) -> None:
        """Set a register of the EEPROM from inside, for good."""
        self.store(name, raw, rows)
        self._burn(self.table[name], rows)

    def set_baud(self, baud: int) -> None:
        """Commission all servos for a rate in bit/s.

        Raises:
            ValueError: they cannot do it; the message gives the choices.
        """
        codes = {rate: code for code, rate in self.table.bauds.items()}
        if baud not in codes:
            raise ValueError(
                f'{self.table.model_name} cannot talk at {baud} bit/s; '
                f'choose from {", ".join(map(str, sorted(codes)))}'
            )
        self.keep('baud_rate', codes[baud])

    def bauds(self) -> list[int | None]:
        """Rate in bit/s that each servo listens to; None where its code means nothing."""
        return [self.table.bauds.get(code) for code in self.raw('baud_rate').tolist()]

    def listeners(self, baud: int | None) -> dict[int, list[int]]:
        """Rows that listen to an id, by id, of those that hear this rate (None: all do)."""
        found: dict[int, list[int]] = {}
        rates, ids = self.bauds(), self.raw('id').tolist()
        for row in range(len(ids)):
            if self.powered[row] and (baud is None or rates[row] == baud):
                found.setdefault(ids[self._alias.get(row, row)], []).append(row)
        return found

    def impersonate(self, row: int, of: int | None) -> None:
        """Let a servo answer to the id of servo ``of`` alone; None: to its own again."""
        self._alias.pop(row, None)
        if of is not None:
            self._alias[row] = of
        self.version += 1

    def impersonates(self, row: int) -> int | None:
        """As whom a servo answers wrongly; None: it does not."""
        return self._alias.get(row)

    def _burn(self, entry: Register, rows: Rows) -> None:
        block = slice(entry.address, entry.address + entry.size)
        self._rom[rows, block] = self.memory[rows, block]

    def _restore(self, row: int) -> None:
        """What power-on makes of the memory: EEPROM as kept, RAM as from the factory."""
        self.memory[row] = np.where(self._eeprom, self._rom[row], self._factory[row])

    def touched(self, address: int, length: int) -> tuple[Register, ...]:
        """Registers with at least one byte in a block."""
        key = (address, length)
        if key not in self._covered:
            if len(self._covered) > 1000:  # somebody tries them all
                self._covered.clear()
            end = address + length
            self._covered[key] = tuple(
                entry
                for entry in self.table.registers
                if entry.address < end and address < entry.address + entry.size
            )
        return self._covered[key]
