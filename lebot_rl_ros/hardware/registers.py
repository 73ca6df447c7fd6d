"""What a servo's memory consists of: registers, and tables of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

STEPS = 4096  # of a turn, on all servos of the tables
STEP = 2 * math.pi / STEPS  # rad
MIDDLE = 2048  # raw position that is 0 rad


@dataclass(frozen=True, slots=True)
class Register:
    """A little-endian number in a servo's memory; value = (raw - zero) * scale."""

    name: str
    address: int
    size: int  # bytes
    unit: str = ''  # of the value; empty for plain numbers, codes and bits
    scale: float = 1.0  # unit per count
    zero: int = 0  # raw where the value is 0
    signed: bool = False  # two's complement
    sign_bit: int | None = None  # sign and magnitude: number of the bit that says minus
    writable: bool = True
    eeprom: bool = False  # survives power-off; protected (Feetech: lock, Dynamixel: torque)
    initial: int = 0  # raw, as it leaves the factory or after power-on
    lowest: int | None = None  # raw; None: whatever fits
    highest: int | None = None

    @property
    def range(self) -> tuple[int, int]:
        """Lowest and highest raw number that the servo takes."""
        bits = 8 * self.size
        if self.sign_bit is not None:
            lowest, highest = -(2**self.sign_bit) + 1, 2**self.sign_bit - 1
        elif self.signed:
            lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        else:
            lowest, highest = 0, 2**bits - 1
        return (
            lowest if self.lowest is None else self.lowest,
            highest if self.highest is None else self.highest,
        )

    def pack(self, raw: int) -> bytes:
        """Bytes of a raw number, which must fit (see :meth:`encode`)."""
        if self.sign_bit is not None and raw < 0:
            raw = -raw | 1 << self.sign_bit
        return raw.to_bytes(self.size, 'little', signed=self.signed)

    def unpack(self, data: bytes | bytearray | memoryview) -> int:
        """Raw number in exactly ``size`` bytes."""
        raw = int.from_bytes(data, 'little', signed=self.signed)
        if self.sign_bit is not None and raw >> self.sign_bit & 1:
            raw = -(raw & ~(1 << self.sign_bit))
        return raw

    def decode(self, data: bytes | bytearray | memoryview) -> float:
        """Value in ``unit``."""
        return (self.unpack(data) - self.zero) * self.scale

    def encode(self, value: float) -> bytes:
        """Bytes of a value in ``unit``, rounded to a count.

        Raises:
            ValueError: it is not finite, or the servo does not take it.
        """
        lowest, highest = self.range
        if math.isfinite(value):
            raw = round(value / self.scale) + self.zero
            if lowest <= raw <= highest:
                return self.pack(raw)
        ends = sorted((end - self.zero) * self.scale for end in (lowest, highest))
        unit = f' {self.unit}' if self.unit else ''
        raise ValueError(
            f'register {self.name}: {value} is not in {ends[0]:.6g}..{ends[1]:.6g}{unit}'
        )


@dataclass(frozen=True)
class Table:
    """All registers of one servo model."""

    model_name: str
    model: int  # number that the servo gives itself
    registers: tuple[Register, ...]
    bauds: Mapping[int, int]  # bit/s by the code in its register baud_rate
    memory: int  # bytes; addresses behind it are refused
    stall_current: float  # A, at the nominal voltage
    by_name: Mapping[str, Register] = field(init=False)

    def __post_init__(self) -> None:
        """Index the registers."""
        object.__setattr__(self, 'by_name', {entry.name: entry for entry in self.registers})

    def __getitem__(self, name: str) -> Register:
        """A register by name.

        Raises:
            ValueError: there is none; the message gives the choices.
        """
        try:
            return self.by_name[name]
        except KeyError:
            raise ValueError(
                f'{self.model_name} has no register {name!r}; choose from '
                f'{", ".join(sorted(self.by_name))}'
            ) from None

    def factory(self) -> bytearray:
        """The memory of a new servo after power-on."""
        memory = bytearray(self.memory)
        for entry in self.registers:
            memory[entry.address : entry.address + entry.size] = entry.pack(entry.initial)
        return memory
