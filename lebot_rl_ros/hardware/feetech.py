"""Feetech's SCS/STS protocol: bytes to packets and back. Pure functions and one parser.

``FF FF id length code params checksum``, length = params + 2; the check sum is the complement of
the sum of all between. Requests and answers look alike: what is the instruction in one is the
status (alarm bits) in the other. Source: Feetech, communication protocol manual of the STS series.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import IntEnum

from lebot_rl_ros.hardware.packets import Answer
from lebot_rl_ros.hardware.packets import Packet as Packet

BROADCAST = 0xFE
HEADER = b'\xff\xff'
OVERHEAD = ANSWER_OVERHEAD = 6  # bytes of a packet beside its params
MAX_PARAMS = 0xFF - 2  # the length is one byte


class Instruction(IntEnum):
    """What a request asks for."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    RECOVERY = 0x06
    REBOOT = 0x08
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


def checksum(body: bytes | bytearray | memoryview) -> int:
    """Check sum of id, length, code and params."""
    return ~sum(body) & 0xFF


def frame(id: int, code: int, params: bytes = b'') -> bytes:
    """Make a whole packet.

    Raises:
        ValueError: the id is not 0 to 254, or there are more than 253 params.
    """
    if not 0 <= id <= BROADCAST:
        raise ValueError(f'servo id {id} is not in 0..{BROADCAST}')
    if len(params) > MAX_PARAMS:
        raise ValueError(f'{len(params)} bytes of params, at most {MAX_PARAMS} fit in a packet')
    body = bytes((id, len(params) + 2, code)) + params
    return HEADER + body + bytes((checksum(body),))


def ping(id: int) -> bytes:
    """Ask a servo whether it is there."""
    return frame(id, Instruction.PING)


def read(id: int, address: int, length: int) -> bytes:
    """Ask one servo for ``length`` bytes from ``address`` on."""
    return frame(id, Instruction.READ, bytes((address, length)))


def write(id: int, address: int, data: bytes) -> bytes:
    """Write ``data`` to one servo, or to all with BROADCAST (which nobody answers)."""
    return frame(id, Instruction.WRITE, bytes((address,)) + data)


def reboot(id: int) -> bytes:
    """Restart a servo."""
    return frame(id, Instruction.REBOOT)


def sync_read(address: int, length: int, ids: Iterable[int]) -> bytes:
    """Ask many servos at once; they answer one after the other in the order of ``ids``."""
    return frame(BROADCAST, Instruction.SYNC_READ, bytes((address, length, *ids)))


def sync_write(address: int, length: int, data: Mapping[int, bytes]) -> bytes:
    """Write ``length`` bytes to each servo in ``data``, by id; nobody answers.

    Raises:
        ValueError: somebody's data is not ``length`` bytes long.
    """
    params = bytearray((address, length))
    for id, values in data.items():
        if len(values) != length:
            raise ValueError(f'servo {id}: {len(values)} bytes of data, sync write has {length}')
        params.append(id)
        params += values
    return frame(BROADCAST, Instruction.SYNC_WRITE, bytes(params))


def status(id: int, error: int, params: bytes = b'') -> bytes:
    """Make an answer; ``error`` is the servo's status byte, its alarm bits."""
    return frame(id, error, params)


def answer(packet: Packet) -> Answer | None:
    """What a servo says with a packet; its status byte are its alarms, not a refusal."""
    return None if packet.id == BROADCAST else Answer(packet.code, packet.params)


class Parser:
    """Cuts a stream of bytes into packets, whatever else lies between them.

    Never raises on any bytes; keeps at most one unfinished packet.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.damaged = 0  # packets whose check sum is wrong or whose end is missing
        self.damaged_by: Counter[int] = Counter()  # the same, by the id that they carry
        self.skipped = 0  # bytes that belong to no good packet

    def reset(self) -> None:
        """Forget an unfinished packet; the counts stay."""
        self._buffer.clear()

    def feed(self, data: bytes | bytearray) -> list[Packet]:
        """Take bytes as they come, return the packets that they complete."""
        self._buffer += data
        return self._parse(final=False)

    def flush(self) -> list[Packet]:
        """Nothing more will come: give up on the unfinished packet, return what hid behind it."""
        packets = self._parse(final=True)
        self.skipped += len(self._buffer)
        self._buffer.clear()
        return packets

    def _parse(self, final: bool) -> list[Packet]:
        buffer, packets = self._buffer, []
        at = 0  # all before is done with
        while True:
            start = buffer.find(HEADER, at)
            if start < 0:  # the last byte may be half a header
                start = len(buffer) - (buffer[-1:] == HEADER[:1] and len(buffer) > at)
            self.skipped += start - at
            at = start
            if len(buffer) - at < 4:
                break
            id, length = buffer[at + 2], buffer[at + 3]
            if id > BROADCAST or length < 2:  # FF FF FF id: a run of FF ends in the header
                at += 1
                self.skipped += 1
                continue
            end = at + 4 + length
            whole = end <= len(buffer)
            if not whole and not final:
                break
            if whole and buffer[end - 1] == checksum(buffer[at + 2 : end - 1]):
                packets.append(Packet(id, buffer[at + 4], bytes(buffer[at + 5 : end - 1])))
                at = end
            else:
                self.damaged += 1
                self.damaged_by[id] += 1
                at += 1
                self.skipped += 1
        del buffer[:at]
        return packets
