import os
import select
import subprocess
import sys

import pytest
import serial

from emulated_rig import CODECS, PATIENCE, Rig, open_descriptors
from lebot_rl_ros.hardware import feetech
from lebot_rl_ros.hardware.emulation.line import Line
from lebot_rl_ros.hardware.emulation.outbox import Outbox

PROTOCOLS = ('feetech', 'dynamixel')


@pytest.fixture
def rig(tmp_path):
    rigs = []

    def make(protocol, **given):
        rigs.append(Rig(tmp_path, protocol, **given))
        return rigs[-1]

    yield make
    for entry in rigs:
        entry.close()


# Time on the wire


def test_bytes_take_their_time_on_the_wire(rig):
    bus = rig('feetech', paced=True)
    start = bus.now
    bus.send(feetech.read(1, 56, 2))  # 8 bytes there, 8 back, 10 us each
    assert bus.bus.due == pytest.approx(start + 160e-6)
    bus.now = start + 159e-6
    bus.bus.flush()
    assert bus.heard() == b''
    bus.now = start + 161e-6
    bus.bus.flush()
    assert len(bus.heard()) == 8
    assert bus.bus.due is None


def test_the_wire_is_used_by_one_at_a_time(rig):
    bus = rig('feetech', paced=True)
    start, due = bus.now, []
    write = feetech.sync_write(42, 2, dict.fromkeys((1, 2, 3), bytes(2)))  # 17 bytes, no answer
    bus.send(write)
    bus.send(feetech.ping(1))  # 6 bytes, and 6 back
    bus.send(feetech.ping(2))
    while bus.bus.due is not None:
        due.append(bus.bus.due - start)
        bus.now = bus.bus.due
        bus.bus.flush()
    assert due == pytest.approx([290e-6, 410e-6])


def test_answers_of_a_sync_read_follow_each_other_with_their_return_delays(rig):
    bus = rig('feetech', paced=True)
    bus.bank.keep('return_delay', [0, 50, 0])  # 100 us
    start, due = bus.now, []
    bus.send(feetech.sync_read(56, 15, [1, 9, 2, 3]))  # 12 bytes; each answer 21; 9 is nobody
    while bus.bus.due is not None:
        due.append(bus.bus.due - start)
        bus.now = bus.bus.due
        bus.bus.flush()
        assert len(bus.heard()) == 21
    assert due == pytest.approx([330e-6, 850e-6, 1060e-6])


def test_a_usb_latency_timer_hands_over_what_it_has_when_it_fires_or_a_packet_is_full():
    outbox = Outbox(latency_timer=16e-3)
    outbox.hear(0.0, 16, 1_000_000)
    outbox.put(outbox.slots([0.0] * 8, [bytes(21)] * 8, 1_000_000))
    handed = {}
    while outbox.due is not None:
        now = outbox.due
        out = outbox.take(now)
        if out:
            handed[round(now * 1e6)] = len(out)
    # Full with the 3rd and 6th answer (63 and 126 bytes); the last 44 wait for the timer, which
    # the second packet has started anew at 160 + 6 * 210 us.
    assert handed == {160 + 3 * 210: 62, 160 + 6 * 210: 62, 160 + 6 * 210 + 16000: 44}
    assert outbox.take(1.0) == b''


def test_a_latency_timer_runs_while_nothing_comes():
    outbox = Outbox(latency_timer=1e-3)
    outbox.hear(0.0, 0, None)
    assert outbox.take(0.0102) == b''
    outbox.put([(0.0103, b'abc')])
    assert outbox.take(0.0104) == b''
    assert outbox.due == pytest.approx(0.011)
    assert outbox.take(0.0111) == b'abc'


# The cable


def test_unplugging_is_an_error_for_the_client_and_replugging_a_new_port(tmp_path):
    before = open_descriptors()
    link = tmp_path / 'servos'
    line = Line(link)
    client = serial.Serial(str(link), 1_000_000, timeout=PATIENCE)
    assert line.baud == 1_000_000
    line.write(b'hello')
    assert client.read(5) == b'hello'
    line.unplug()
    assert not link.is_symlink()
    assert (line.fileno(), line.baud, line.read()) == (-1, None, b'')
    line.write(b'lost')
    with pytest.raises((serial.SerialException, OSError)):
        client.read(1)
    client.close()
    line.plug()
    line.plug()
    with serial.Serial(str(link), 57_600, timeout=PATIENCE) as client:
        client.write(b'again')
        assert select.select([line], (), (), PATIENCE)[0]
        assert (line.read(), line.baud) == (b'again', 57_600)
    # A closed port is no hang-up that a poll would report for ever.
    assert not select.select([line], (), (), 0)[0]
    line.close()
    line.close()
    assert (list(tmp_path.iterdir()), open_descriptors()) == ([], before)


def test_a_line_takes_the_place_of_a_stale_link_and_leaves_a_newer_one(tmp_path):
    (tmp_path / 'port').symlink_to('/nowhere')
    first = Line(tmp_path / 'port')
    second = Line(tmp_path / 'port')
    first.close()
    assert (tmp_path / 'port').exists()
    second.close()
    assert not (tmp_path / 'port').is_symlink()
    with pytest.raises(OSError, match='no folder'):
        Line(tmp_path / 'no folder' / 'port')


def test_what_nobody_reads_is_lost_but_blocks_nothing(tmp_path):
    line = Line(tmp_path / 'port')
    for _ in range(100):
        line.write(bytes(10_000))
    client = os.open(tmp_path / 'port', os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    taken = 0
    while select.select([client], [], [], 0.0)[0]:
        taken += len(os.read(client, 65536))
    assert 0 < taken < 100 * 10_000
    line.write(b'later')
    assert select.select([client], [], [], PATIENCE)[0]
    assert os.read(client, 100) == b'later'
    os.close(client)
    line.close()


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_as_a_process_it_serves_until_told_to_end(tmp_path, protocol):
    link = tmp_path / 'servos'
    command = (sys.executable, '-m', 'lebot_rl_ros.hardware.emulation.responder')
    with subprocess.Popen(
        (*command, '--protocol', protocol, '--link', str(link)), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == 'ready\n'
            codec = CODECS[protocol]
            with serial.Serial(str(link), 1_000_000, timeout=PATIENCE) as client:
                client.write(codec.ping(42))
                size = len(client.read(1)) + client.in_waiting
                assert size
        finally:
            process.terminate()
        assert process.wait(PATIENCE) == 0
    assert not link.is_symlink()
