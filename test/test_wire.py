"""A serial port on a pseudo-terminal: deadlines, echoes, a lost cable, and what errors advise."""

import contextlib
import errno
import os
import select
import threading
import time
import tty

import pytest
import serial

from lebot_rl_ros.hardware import ports
from lebot_rl_ros.hardware import wire as wire_module
from lebot_rl_ros.hardware.wire import Wire, WireLost, latency_timer_advice

REQUEST = bytes.fromhex('FF FF FE 04 02 38 0F 00')
LONG = 5.0  # s, for what will come
SHORT = 0.01  # s, for what will not


class AnsweredWire(Wire):
    """A wire whose other end has answered before a write returns."""

    answer = b''

    def _write(self, data):
        super()._write(data)
        heard = b''
        while len(heard) < len(data):
            heard += os.read(self.master, 4096)
        self.say(self.answer)

    def say(self, data):
        """Let bytes lie there."""
        if data:  # even of nothing a write waits for another one that is blocked
            os.write(self.master, data)
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        assert not data or poll.poll(10_000)


@pytest.fixture
def cable():
    """The device's end of a cable, and a Wire on the other."""
    master, slave = os.openpty()
    tty.setraw(slave)
    wire = AnsweredWire(os.ttyname(slave), 1_000_000)
    wire.master = master
    yield master, wire
    wire.close()
    os.close(slave)
    with contextlib.suppress(OSError):  # the test may have pulled the cable
        os.close(master)


def test_an_exchange_waits_for_all_that_is_expected(cable, monkeypatch):
    _, wire = cable
    monkeypatch.setattr(wire_module, 'CHUNK', 2)  # in pieces
    wire.answer = b'abcdefghi'
    assert wire.exchange(REQUEST, 9, LONG) == b'abcdefghi'
    assert wire.echoed == 0


def test_an_exchange_ends_at_its_deadline_with_what_came(cable):
    _, wire = cable
    wire.answer = b'abc'
    assert wire.exchange(REQUEST, 9, SHORT) == b'abc'
    assert wire.exchange(REQUEST, 9, 0.0) == b'abc'  # we are late, the answer is not
    wire.answer = b''
    assert wire.exchange(REQUEST, 9, SHORT) == b''


def test_an_answer_that_is_enough_ends_the_exchange(cable):
    _, wire = cable
    wire.answer = b'abc!'
    assert wire.exchange(REQUEST, 9, 1e6, lambda data: data.endswith(b'!')) == b'abc!'


def test_what_lies_there_is_no_answer(cable):
    _, wire = cable
    wire.say(b'old')
    wire.answer = b'new'
    assert wire.exchange(REQUEST, 3, LONG) == b'new'


@pytest.mark.parametrize('goals', [b'', b'\xff\xff\xfe\x83goals', REQUEST])
@pytest.mark.parametrize('chunk', [1, 5, 8, 12, 4096])
def test_an_echo_is_taken_off_in_whatever_pieces(cable, monkeypatch, goals, chunk):
    _, wire = cable
    monkeypatch.setattr(wire_module, 'CHUNK', chunk)
    if goals:
        wire.answer = goals[:chunk]  # as much as is thrown away before the request
        wire.send(goals)
    wire.answer = goals[chunk:] + REQUEST + b'answer'
    assert wire.exchange(REQUEST, 6, LONG) == b'answer'
    assert wire.echoed == 1


def test_an_echo_of_goals_that_comes_late_is_taken_off_too(cable):
    _, wire = cable
    wire.send(b'goals')
    wire.answer = b'goals' + REQUEST + b'answer'
    assert wire.exchange(REQUEST, 6, LONG) == b'answer'
    assert wire.echoed == 1


def test_garbage_before_an_echo_is_not_part_of_the_answer(cable):
    _, wire = cable
    wire.answer = b'xx' + REQUEST + b'answer'
    assert wire.exchange(REQUEST, 6, LONG) == b'answer'


def test_drain_takes_all_until_it_is_quiet_but_not_for_ever(cable):
    master, wire = cable
    wire.say(b'abc')
    assert wire.drain(SHORT) == 3
    assert wire.drain() == 0
    stop = threading.Event()

    def babble():
        while not stop.is_set():
            os.write(master, b'x' * 64)

    os.set_blocking(master, True)
    thread = threading.Thread(target=babble)
    thread.start()
    try:
        assert wire.drain(LONG) > 64
        assert len(Wire.exchange(wire, REQUEST, 10**9, SHORT)) > 64
    finally:
        stop.set()
        while thread.is_alive():
            wire.drain()
        thread.join()


@pytest.mark.parametrize('baud', [1_000_000, 500_000, 57_600, 76_800, 250_000])
def test_any_rate_can_be_set(cable, baud):
    _, wire = cable
    wire.set_baud(baud)
    assert wire.baud == baud
    assert wire.duration(8) == pytest.approx(80 / baud)


def test_a_pulled_cable_is_lost_in_every_method(cable):
    master, wire = cable
    os.close(master)
    for method in (
        lambda: wire.exchange(REQUEST, 8, SHORT),
        lambda: wire.send(REQUEST),
        lambda: wire.drain(SHORT),
        lambda: wire.receive(time.monotonic() + SHORT),
    ):
        with pytest.raises(WireLost, match=rf'{wire.port} is lost .*is the cable in'):
            method()


def test_a_cable_pulled_while_waiting_is_noticed_at_once(cable):
    master, wire = cable
    pull = threading.Timer(0.05, os.close, (master,))
    pull.start()
    with pytest.raises(WireLost):
        wire.receive(time.monotonic() + 200)
    pull.join()


def test_a_port_is_opened_once(cable):
    _, wire = cable
    with pytest.raises(WireLost, match=rf'{wire.port} is in use; .*brltty.*fuser -v {wire.port}'):
        Wire(wire.port, 1_000_000)
    wire.close()
    Wire(wire.port, 1_000_000).close()


def test_a_link_is_as_good_as_the_port(cable, tmp_path):
    _, wire = cable
    wire.close()
    link = tmp_path / 'servos'
    link.symlink_to(wire.port)
    linked = Wire(str(link), 1_000_000)
    assert os.ttyname(linked.fileno()) == wire.port
    linked.close()


def test_a_port_that_is_not_there_is_answered_with_those_that_are(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, 'known_ports', lambda: ['/dev/ttyACM0', '/dev/ttyUSB3'])
    with pytest.raises(WireLost, match='nowhere is not there; ports that are: /dev/ttyACM0, /dev'):
        Wire(str(tmp_path / 'nowhere'), 1_000_000)
    monkeypatch.setattr(ports, 'known_ports', list)
    with pytest.raises(WireLost, match='ports that are: none'):
        Wire(str(tmp_path / 'nowhere'), 1_000_000)
    plain = tmp_path / 'file'
    plain.touch()
    with pytest.raises(WireLost, match='file cannot be opened'):
        Wire(str(plain), 1_000_000)


def test_no_permission_names_the_group_and_brltty(monkeypatch):
    # The tests may run as root, who is never refused.
    def refuse(*_, **__):
        raise serial.SerialException(errno.EACCES, 'could not open port')

    monkeypatch.setattr(serial, 'Serial', refuse)
    with pytest.raises(WireLost, match=r'/dev/ttyUSB0: no permission; .*dialout.*brltty'):
        Wire('/dev/ttyUSB0', 1_000_000)


def test_a_slow_adapter_is_told_with_the_line_that_mends_it(tmp_path):
    device = tmp_path / 'ttyUSB7'
    link = tmp_path / 'by-id'
    link.symlink_to(device)
    assert latency_timer_advice(str(link), tmp_path) == ''  # not an adapter that has one
    timer = tmp_path / 'bus/usb-serial/devices/ttyUSB7/latency_timer'
    timer.parent.mkdir(parents=True)
    timer.write_text('16\n')
    advice = latency_timer_advice(str(link), tmp_path)
    assert advice.startswith(f'{link}: its USB latency timer is 16 ms')
    assert advice.endswith(f'echo 1 | sudo tee {timer}')
    timer.write_text('1\n')
    assert latency_timer_advice(str(link), tmp_path) == ''
    timer.write_text('?')
    assert latency_timer_advice(str(link), tmp_path) == ''
