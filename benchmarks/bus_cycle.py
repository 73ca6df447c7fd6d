"""One full cycle of a servo bus, all goals out and all feedback in, beside the vendors' SDKs.

Eight emulated servos answer in a process of their own, at once (`unpaced`: what the software
costs) and as slowly as a wire of 1 Mbaud without return delay (`paced`: what is lost beyond it).
The clients take turns in each round. Each writes the same goals with one sync write (STS3215: two
bytes at 42, XL430: four at 116), reads the same block with one sync read (15 bytes from 56, 21
from 126) and ends with the same five numbers of each servo. Ours asks every second read for one
byte more and gives SI units. The ceiling is the time that the bytes of that client take on the
wire. CPU is the client's, of one core.

What is missing to the ceiling is mostly the two processes waking each other up, so measure on an
idle machine; a real servo is never asleep.

    python benchmarks/bus_cycle.py [--rounds 5] [--seconds 1]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dynamixel_sdk
import numpy as np
import scservo_sdk

from lebot_rl_ros.hardware import dynamixel, feetech
from lebot_rl_ros.hardware.buses import PROTOCOLS
from lebot_rl_ros.hardware.wire import Wire

IDS = tuple(range(1, 9))
BAUD = 1_000_000
UNPACED_AIM = 10_000  # cycles/s
PACED_AIM = 0.95  # of the ceiling
GOALS = np.linspace(-0.5, 0.5, len(IDS))
RAW_GOALS = [round(goal / (2 * np.pi) * 4096) + 2048 for goal in GOALS.tolist()]
Cycle = Callable[[], bool]  # whether all answered


@dataclass
class Client:
    """Who talks: opens the port, gives its cycle and how to leave."""

    name: str
    open: Callable[[str], tuple[Cycle, Callable[[], None]]]
    ceiling: float  # cycles/s that the wire allows
    latency: list[float] = field(default_factory=list)  # s
    rates: list[float] = field(default_factory=list)  # cycles/s, by round
    cpu: list[float] = field(default_factory=list)
    incomplete: int = 0


def ours(protocol: str) -> Callable[[str], tuple[Cycle, Callable[[], None]]]:
    """This package's bus."""

    def open_(port: str) -> tuple[Cycle, Callable[[], None]]:
        bus = PROTOCOLS[protocol](Wire(port, BAUD), IDS, slack=0.05)
        return lambda: bus.cycle(GOALS).complete, bus.close

    return open_


def sdk_cycle(writer: Any, reader: Any, size: int, fields: list[tuple[int, int]]) -> Cycle:
    """A cycle of either SDK, which look alike."""
    for id in IDS:
        reader.addParam(id)
        writer.addParam(id, bytearray(size))

    def cycle() -> bool:
        for id, goal in zip(IDS, RAW_GOALS, strict=True):
            writer.changeParam(id, bytearray(goal.to_bytes(size, 'little')))
        if writer.txPacket() != 0 or reader.txRxPacket() != 0:
            return False
        for id in IDS:
            for address, length in fields:
                reader.getData(id, address, length)
        return True

    return cycle


def feetech_sdk(port: str) -> tuple[Cycle, Callable[[], None]]:
    """Feetech's own."""
    handler = scservo_sdk.PortHandler(port)
    handler.setBaudRate(BAUD)
    packets = scservo_sdk.sms_sts(handler)
    cycle = sdk_cycle(
        scservo_sdk.GroupSyncWrite(packets, 42, 2),
        scservo_sdk.GroupSyncRead(packets, 56, 15),
        2,
        [(56, 2), (58, 2), (60, 2), (62, 1), (63, 1)],
    )
    return cycle, handler.closePort


def robotis_sdk(port: str) -> tuple[Cycle, Callable[[], None]]:
    """ROBOTIS' own."""
    handler = dynamixel_sdk.PortHandler(port)
    handler.setBaudRate(BAUD)
    packets = dynamixel_sdk.PacketHandler(2.0)
    cycle = sdk_cycle(
        dynamixel_sdk.GroupSyncWrite(handler, packets, 116, 4),
        dynamixel_sdk.GroupSyncRead(handler, packets, 126, 21),
        4,
        [(126, 2), (128, 4), (132, 4), (144, 2), (146, 1)],
    )
    return cycle, handler.closePort


def clients(protocol: str) -> list[Client]:
    """Ours and the vendor's, with the ceiling of the bytes that each sends and gets."""
    codec, goal, block = {
        'feetech': (feetech, (42, 2), (56, 15)),
        'dynamixel': (dynamixel, (116, 4), (126, 21)),
    }[protocol]
    write = len(codec.sync_write(*goal, dict.fromkeys(IDS, bytes(goal[1]))))
    read = len(codec.sync_read(*block, IDS))
    answers = len(IDS) * len(codec.status(1, 0, bytes(block[1])))
    byte = 10 / BAUD
    sdk = feetech_sdk if protocol == 'feetech' else robotis_sdk
    name = "Feetech's SDK" if protocol == 'feetech' else "ROBOTIS' SDK"
    return [
        Client('ours', ours(protocol), 1 / ((write + read + answers + len(IDS) / 2) * byte)),
        Client(name, sdk, 1 / ((write + read + answers) * byte)),
    ]


def emulator(protocol: str, paced: bool, link: Path) -> subprocess.Popen[str]:
    """The servos, in a process of their own."""
    command = [sys.executable, '-m', 'lebot_rl_ros.hardware.emulation.responder']
    command += ['--protocol', protocol, '--link', str(link), '--ids', *map(str, IDS)]
    process = subprocess.Popen(
        command + ([] if paced else ['--unpaced']), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()  # it is ready
    bus = PROTOCOLS[protocol](Wire(str(link), BAUD), IDS, slack=0.5)
    for id in IDS:
        bus.put(id, 'return_delay', 0.0)
    bus.close()
    return process


def turn(client: Client, port: str, seconds: float) -> None:
    """One client's turn in a round."""
    cycle, close = client.open(port)
    for _ in range(20):
        cycle()
    clock = time.perf_counter
    latency, cpu, start = [], time.process_time(), clock()
    now = start
    while now - start < seconds:
        client.incomplete += not cycle()
        before, now = now, clock()
        latency.append(now - before)
    client.rates.append(len(latency) / (now - start))
    client.cpu.append((time.process_time() - cpu) / (now - start))
    client.latency += latency
    close()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=1.0, help='of each client in a round')
    arguments = parser.parse_args()
    reached = []
    print(
        f'{"bus":<11}{"wire":<9}{"client":<15}{"cycles/s":>9}{"p50 ms":>8}{"p99 ms":>8}'
        f'{"ceiling":>9}{"reached":>9}{"CPU":>6}{"partial":>9}'
    )
    for protocol in PROTOCOLS:
        for paced in (False, True):
            contestants = clients(protocol)
            with tempfile.TemporaryDirectory() as folder:
                link = Path(folder) / 'servos'
                process = emulator(protocol, paced, link)
                try:
                    for number in range(arguments.rounds):
                        for client in contestants[:: 1 - 2 * (number % 2)]:
                            turn(client, str(link), arguments.seconds)
                finally:
                    process.terminate()
                    process.wait()
            for client in contestants:
                rate = float(np.median(client.rates))
                p50, p99 = (1e3 * q for q in np.percentile(client.latency, (50, 99)))
                share = (
                    f'{client.ceiling:>9.0f}{rate / client.ceiling:>9.1%}' if paced else ' ' * 18
                )
                print(
                    f'{protocol:<11}{"paced" if paced else "unpaced":<9}{client.name:<15}'
                    f'{rate:>9.0f}{p50:>8.3f}{p99:>8.3f}{share}'
                    f'{float(np.median(client.cpu)):>6.0%}{client.incomplete:>9}'
                )
            rate = float(np.median(contestants[0].rates))
            aim = PACED_AIM * contestants[0].ceiling if paced else UNPACED_AIM
            reached.append(f'{protocol} {"paced" if paced else "unpaced"} {rate / aim:.0%}')
    print(
        f'ours, of the aim ({UNPACED_AIM} cycles/s, or {PACED_AIM:.0%} of the ceiling): '
        + ', '.join(reached)
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
