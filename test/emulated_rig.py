"""Emulated servos on a real pseudo-terminal, a client's port at its other end, a clock by hand."""

import os
import select

import numpy as np
import serial

from lebot_rl_ros.hardware import dynamixel, feetech
from lebot_rl_ros.hardware.emulation.bank import servo_bank
from lebot_rl_ros.hardware.emulation.line import Line
from lebot_rl_ros.hardware.emulation.responder import EmulatedBus

CODECS = {'feetech': feetech, 'dynamixel': dynamixel}
PATIENCE = 10.0  # s, against hanging only


class Rig:
    """Servos 1, 2, 3 (or others); time stands unless ``now`` is set."""

    def __init__(self, folder, protocol, *, ids=(1, 2, 3), baud=1_000_000, paced=False, **given):
        self.codec, self.now = CODECS[protocol], 100.0
        self.full_reads = 0
        self.line = Line(folder / 'servos')
        self.bank = servo_bank(protocol, list(ids))
        self.bus = EmulatedBus(
            self.line,
            self.bank,
            baud=baud,
            paced=paced,
            on_full_read=given.pop('on_full_read', self._count),
            clock=lambda: self.now,
            **given,
        )
        self.client = serial.Serial(str(folder / 'servos'), baud, timeout=0)

    def _count(self):
        self.full_reads += 1

    def send(self, request):
        """Write as the client, let the bus take it."""
        if isinstance(request, str):
            request = bytes.fromhex(request)
        self.client.write(request)
        assert select.select([self.line], (), (), PATIENCE)[0]
        self.pump()

    def pump(self):
        """Let the bus take all that was sent: a terminal may hand over one write in two parts."""
        while self.line.plugged and select.select([self.line], (), (), 0)[0]:
            self.bus.receive()

    def heard(self):
        """All that the client has got, taken."""
        told = b''
        while select.select([self.client], (), (), 0)[0]:
            told += self.client.read(65536)
        return told

    def ask(self, request):
        """Answer to a request: all bytes of it."""
        self.send(request)
        return self.heard()

    def packets(self, request):
        """Answer to a request, as packets; nothing else may be in it."""
        parser = self.codec.Parser()
        packets = parser.feed(self.ask(request))
        assert (parser.damaged, parser.skipped, parser.flush()) == (0, 0, [])
        return packets

    def register(self, name, row=0):
        """A register's raw number, read over the wire."""
        entry = self.bank.table[name]
        id = int(self.bank.raw('id')[row])
        (packet,) = self.packets(self.codec.read(id, entry.address, entry.size))
        data = packet.params if self.codec is feetech else packet.params[1:]
        return entry.unpack(data)

    def put(self, name, raw, row=0):
        """Write a register over the wire; the answer's error byte."""
        entry = self.bank.table[name]
        id = int(self.bank.raw('id')[row])
        (packet,) = self.packets(self.codec.write(id, entry.address, entry.pack(raw)))
        return packet.code if self.codec is feetech else packet.params[0]

    def close(self):
        """Leave no descriptor behind."""
        self.client.close()
        self.line.close()


def open_descriptors():
    """How many this process has."""
    return len(os.listdir('/proc/self/fd'))


def feel(bank, *, position=0.0, velocity=0.0, load=0.0, dt=0.02, times=1):
    """Let all servos feel the same."""
    for _ in range(times):
        bank.sense(dt, *(np.full(len(bank), x) for x in (position, velocity, load)))
