"""Dynamixel's protocol 2.0: bytes to packets and back. Pure functions and one parser.

``FF FF FD 00 id lenL lenH instruction params crcL crcH``, length = params + 3. Where the header's
three bytes come up behind the length, an FD is stuffed, so that a header is always a header. An
answer has the instruction STATUS and an error byte as its first param.
Source: ROBOTIS e-manual, DYNAMIXEL Protocol 2.0.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import IntEnum

from lebot_rl_ros.hardware.crc16 import crc16 as crc16
from lebot_rl_ros.hardware.crc16 import crc_columns as crc_columns
from lebot_rl_ros.hardware.packets import Answer
from lebot_rl_ros.hardware.packets import Packet as Packet

BROADCAST = 0xFE
HEADER = b'\xff\xff\xfd\x00'
PATTERN, STUFFED = b'\xff\xff\xfd', b'\xff\xff\xfd\xfd'
OVERHEAD = 10  # bytes of a request beside its params
ANSWER_OVERHEAD = 11  # bytes of an answer beside its data: one more for the error byte
MAX_LENGTH = 1024  # of instruction, stuffed params and CRC; more is taken for garbage
ALERT = 0x80  # bit of the error byte: the servo has a hardware error, see its register 70


class Instruction(IntEnum):
    """What a packet is."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    FACTORY_RESET = 0x06
    REBOOT = 0x08
    CLEAR = 0x10
    STATUS = 0x55
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A
    BULK_READ = 0x92
    BULK_WRITE = 0x93
    FAST_BULK_READ = 0x9A


def frame(id: int, code: int, params: bytes = b'') -> bytes:
    """Make a whole packet: stuffing and CRC included.

    Raises:
        ValueError: the id is not 0 to 254, or the params are too long for one packet.
    """
    if not 0 <= id <= BROADCAST:
        raise ValueError(f'servo id {id} is not in 0..{BROADCAST}')
    body = (bytes((code,)) + params).replace(PATTERN, STUFFED)
    length = len(body) + 2
    if length > MAX_LENGTH:
        raise ValueError(f'a packet of length {length}, at most {MAX_LENGTH} fit')
    packet = HEADER + bytes((id, length & 0xFF, length >> 8)) + body
    return packet + crc16(packet).to_bytes(2, 'little')


def ping(id: int) -> bytes:
    """Ask a servo whether it is there, and what it is (all with BROADCAST)."""
    return frame(id, Instruction.PING)


def _words(*values: int) -> bytes:
    return b''.join(value.to_bytes(2, 'little') for value in values)


def read(id: int, address: int, length: int) -> bytes:
    """Ask one servo for ``length`` bytes from ``address`` on."""
    return frame(id, Instruction.READ, _words(address, length))


def write(id: int, address: int, data: bytes) -> bytes:
    """Write ``data`` to one servo, or to all with BROADCAST (which nobody answers)."""
    return frame(id, Instruction.WRITE, _words(address) + data)


def reboot(id: int) -> bytes:
    """Restart a servo; the only way out of a hardware error."""
    return frame(id, Instruction.REBOOT)


def sync_read(address: int, length: int, ids: Iterable[int]) -> bytes:
    """Ask many servos at once; they answer one after the other in the order of ``ids``."""
    return frame(BROADCAST, Instruction.SYNC_READ, _words(address, length) + bytes(ids))


def sync_write(address: int, length: int, data: Mapping[int, bytes]) -> bytes:
    """Write ``length`` bytes to each servo in ``data``, by id; nobody answers.

    Raises:
        ValueError: somebody's data is not ``length`` bytes long.
    """
    params = bytearray(_words(address, length))
    for id, values in data.items():
        if len(values) != length:
            raise ValueError(f'servo {id}: {len(values)} bytes of data, sync write has {length}')
        params.append(id)
        params += values
    return frame(BROADCAST, Instruction.SYNC_WRITE, bytes(params))


def status(id: int, error: int, params: bytes = b'') -> bytes:
    """Make an answer with this error byte and data."""
    return frame(id, Instruction.STATUS, bytes((error,)) + params)


def answer(packet: Packet) -> Answer | None:
    """What a servo says with a packet; None if it is a request, or a servo's refusal."""
    if packet.code != Instruction.STATUS or not packet.params or packet.params[0] & ~ALERT:
        return None
    return Answer(packet.params[0], packet.params[1:])


class Parser:
    """Cuts a stream of bytes into packets, whatever else lies between them.

    Never raises on any bytes; keeps at most one unfinished packet.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.damaged = 0  # packets whose CRC is wrong or whose end is missing
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
            if start < 0:  # the last bytes may be the beginning of a header
                start = len(buffer) - _half_header(buffer, at)
            self.skipped += start - at
            at = start
            if len(buffer) - at < 7:
                break
            id, length = buffer[at + 4], buffer[at + 5] | buffer[at + 6] << 8
            if id > BROADCAST or not 3 <= length <= MAX_LENGTH:
                at += 1
                self.skipped += 1
                continue
            end = at + 7 + length
            whole = end <= len(buffer)
            if not whole and not final:
                break
            if (
                whole
                and crc16(buffer[at : end - 2]).to_bytes(2, 'little') == buffer[end - 2 : end]
            ):
                body = bytes(buffer[at + 7 : end - 2]).replace(STUFFED, PATTERN)
                packets.append(Packet(id, body[0], body[1:]))
                at = end
            else:
                self.damaged += 1
                self.damaged_by[id] += 1
                at += 1
                self.skipped += 1
        del buffer[:at]
        return packets


def _half_header(buffer: bytearray, at: int) -> int:
    """How many bytes at the end may begin a header."""
    for length in range(min(3, len(buffer) - at), 0, -1):
        if buffer.endswith(HEADER[:length]):
            return length
    return 0
