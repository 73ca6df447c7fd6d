"""What the codecs of all protocols have in common. One screen, no logic."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol


class Packet(NamedTuple):
    """One packet, request or answer, without header, check sum and stuffing."""

    id: int
    code: int  # Instruction; Feetech's answers have their status byte, alarm bits, there
    params: bytes  # of a Dynamixel's answer: the error byte, then data


class Answer(NamedTuple):
    """What one servo said."""

    error: int  # Feetech: status byte, its alarms; Dynamixel: error byte
    data: bytes


class StreamParser(Protocol):
    """Cuts a stream of bytes into packets; never raises."""

    @property
    def damaged_by(self) -> Mapping[int, int]:
        """Damaged packets, by the id that they carry."""

    def feed(self, data: bytes) -> Sequence[Packet]:
        """Take bytes as they come, return the packets that they complete."""

    def flush(self) -> Sequence[Packet]:
        """Nothing more will come: return what hid behind an unfinished packet."""


class Codec(Protocol):
    """The module of a protocol."""

    @property
    def ANSWER_OVERHEAD(self) -> int:  # noqa: N802
        """Bytes of an answer beside its data."""

    @property
    def Parser(self) -> Callable[[], StreamParser]:  # noqa: N802
        """Makes a new parser."""

    def answer(self, packet: Packet) -> Answer | None:
        """What a servo says with a packet; None if it is no answer, or a refusal."""

    def read(self, id: int, address: int, length: int) -> bytes:
        """Request ``length`` bytes of one servo."""

    def write(self, id: int, address: int, data: bytes) -> bytes:
        """Request that one servo takes ``data``."""

    def sync_read(self, address: int, length: int, ids: Iterable[int]) -> bytes:
        """Request ``length`` bytes of many servos."""

    def sync_write(self, address: int, length: int, data: Mapping[int, bytes]) -> bytes:
        """Request that many servos take data; nobody answers."""
