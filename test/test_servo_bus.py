"""Servo buses against servos on a pseudo-terminal that answer well or badly."""

import fcntl
import itertools
import math
import os
import random
import re
import struct
import sys
import termios
import tty
from types import ModuleType

import numpy as np
import pytest

from lebot_rl_ros.hardware import dynamixel, feetech, serial_bus
from lebot_rl_ros.hardware.bus import Alarm
from lebot_rl_ros.hardware.dynamixel_bus import DynamixelBus
from lebot_rl_ros.hardware.dynamixel_table import XL330, XL430
from lebot_rl_ros.hardware.feetech_bus import FeetechBus
from lebot_rl_ros.hardware.feetech_table import STS3215
from lebot_rl_ros.hardware.wire import Wire, WireLost

IDS = tuple(range(1, 9))
STEP = 2 * math.pi / 4096
SLACK = 0.001  # s; what will come is there at once
BAUD = 1_000_000
BUSES = {'feetech': (feetech, FeetechBus, STS3215), 'dynamixel': (dynamixel, DynamixelBus, XL430)}


class Responder:
    """Servos with a memory each. ``mangle`` turns good answers into what goes out.

    It answers while the client writes, see :class:`ServedWire`, so nothing depends on the time
    that threads take: what comes is there before the client looks for it.
    """

    def __init__(self, codec: ModuleType, tables):
        self.codec, self.tables = codec, tables
        self.two_bytes = codec is dynamixel  # addresses and lengths
        self.memory = {id: table.factory() for id, table in tables.items()}
        for id in tables:
            self.set(id, 'id', id)
        self.error = dict.fromkeys(tables, 0)
        self.requests = []
        self.reads = 0  # of a feedback block
        self.mangle = lambda answers: answers
        self.echo = False
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.port = os.ttyname(self.slave)
        self._parser = codec.Parser()

    def set(self, id, name, raw):
        entry = self.tables[id][name]
        self.memory[id][entry.address : entry.address + entry.size] = entry.pack(raw)

    def raw(self, id, name):
        entry = self.tables[id][name]
        return entry.unpack(self.memory[id][entry.address : entry.address + entry.size])

    def serve(self, count):
        """Take ``count`` bytes that the client has written, and answer them."""
        data = b''
        while len(data) < count:
            data += os.read(self.master, 4096)
        out = data if self.echo else b''
        for packet in self._parser.feed(data):
            self.requests.append(packet)
            out += b''.join(self.mangle(self.answers(packet)))
        lies = self.unread()
        while out and (written := os.write(self.master, out)):
            lies, out = lies + written, out[written:]
        while self.unread() < lies:  # the kernel hands it over in its own time
            os.sched_yield()

    def unread(self):
        """Bytes that the client has not taken."""
        return struct.unpack('i', fcntl.ioctl(self.slave, termios.FIONREAD, bytes(4)))[0]

    def unplug(self):
        for descriptor in (self.master, self.slave):
            if descriptor >= 0:
                os.close(descriptor)
        self.master = self.slave = -1

    def numbers(self, params, count):
        """The first numbers of the params, and the rest."""
        if self.two_bytes:
            first = [int.from_bytes(params[2 * i : 2 * i + 2], 'little') for i in range(count)]
            return first, params[2 * count :]
        return list(params[:count]), params[count:]

    def answers(self, packet):
        code, ids = packet.code, [packet.id]
        kinds = self.codec.Instruction
        if code in (kinds.SYNC_READ, kinds.READ):
            (address, length), rest = self.numbers(packet.params, 2)
            ids = list(rest) if code == kinds.SYNC_READ else ids
            if length > 12:
                self.reads += 1
                for id in self.memory:
                    self.set(id, 'present_position', self.position(id, self.reads))
            data = {id: self.memory[id][address : address + length] for id in ids if id in self}
        elif code == kinds.WRITE:
            (address,), values = self.numbers(packet.params, 1)
            data = {id: b'' for id in ids if id in self}
            for id in data:
                self.memory[id][address : address + len(values)] = values
                name = self.tables[id]['id'].address
                if address == name:
                    self.memory[values[0]] = self.memory.pop(id)
                    self.tables[values[0]], self.error[values[0]] = self.tables[id], 0
        elif code == kinds.SYNC_WRITE:
            (address, length), rest = self.numbers(packet.params, 2)
            for start in range(0, len(rest), length + 1):
                id = rest[start]
                if id not in self:
                    continue
                self.memory[id][address : address + length] = rest[start + 1 : start + 1 + length]
            data = {}
        elif code == kinds.PING and self.two_bytes:
            data = {id: self.memory[id][:2] + b'\x2e' for id in ids if id in self}
        else:
            data = {id: b'' for id in ids if id in self}
        return [self.codec.status(id, self.error[id], bytes(data[id])) for id in data]

    def __contains__(self, id):
        return id in self.memory

    @staticmethod
    def position(id, read):
        """Raw position that says whose it is, and of which read."""
        return (id - 1) * 512 + read % 512


class ServedWire(Wire):
    """A wire whose other end answers before a write returns."""

    def __init__(self, responder):
        super().__init__(responder.port, BAUD)
        self.responder = responder

    def _write(self, data):
        super()._write(data)
        self.responder.serve(len(data))


@pytest.fixture(params=list(BUSES))
def protocol(request):
    return request.param


@pytest.fixture
def make(protocol, monkeypatch):
    """Makes a responder and a bus on it."""
    made = []
    monkeypatch.setattr(sys.modules[BUSES[protocol][1].__module__], 'DELAY', 0.0)

    def make_(slack=SLACK, period=math.inf, tables=None, ids=IDS):
        codec, bus_class, table = BUSES[protocol]
        responder = Responder(codec, tables or dict.fromkeys(ids, table))
        made.append(responder.unplug)
        bus = bus_class(ServedWire(responder), ids, period=period, slack=slack)
        made.append(bus.close)
        return responder, bus

    yield make_
    for undo in reversed(made):
        undo()


def raw(feedback):
    return np.rint(feedback.position / STEP + 2048).astype(int)


def all_of(responder, read):
    return [responder.position(id, read) for id in IDS]


def test_a_read_gives_si_units_in_the_order_of_the_ids(make, protocol):
    responder, bus = make()
    before = bus._last
    assert np.isnan(before.position).all()
    for id in IDS:
        responder.set(id, 'present_speed', -10 * id)
        responder.set(id, 'present_load', -100 * id)
        responder.set(id, 'present_voltage', 110 + id)
        responder.set(id, 'present_temperature', 30 + id)
    feedback = bus.read()
    numbers = np.array(IDS)
    speed = STEP if protocol == 'feetech' else 0.229 * 2 * math.pi / 60
    assert raw(feedback).tolist() == all_of(responder, 1)
    np.testing.assert_allclose(feedback.velocity, -10 * numbers * speed)
    np.testing.assert_allclose(feedback.load, -0.1 * numbers)
    np.testing.assert_allclose(feedback.voltage, 11 + 0.1 * numbers)
    np.testing.assert_allclose(feedback.temperature, 30 + numbers)
    assert feedback.alarm.tolist() == feedback.missed.tolist() == [0] * 8
    assert feedback.complete
    kept = feedback.position.copy()
    bus.read()
    assert (feedback.position == kept).all()  # what was handed out stays as it is
    assert bus.errors.total() == 0


def lengths(responder):
    """What the feedback reads so far asked for."""
    reads = [p for p in responder.requests if p.code == 0x82]
    asked = [p.params[1 + responder.two_bytes] for p in reads]
    return [length for length in asked if length > 12]


def test_reads_alternate_the_length_that_they_ask_for(make, protocol):
    responder, bus = make()
    block = 15 if protocol == 'feetech' else 21
    for _ in range(5):
        bus.read()
    assert lengths(responder) == [block, block + 1, block, block + 1, block]


def test_a_length_to_which_an_answer_is_owed_is_not_used_soon(make):
    responder, bus = make()
    bus.read()
    block = lengths(responder)[0]
    responder.mangle = lambda answers: answers[1:]
    for _ in range(8):
        bus.read()
    asked = lengths(responder)
    assert len(asked) == 1 + 2 * 8  # each was asked again
    for start in range(1, 10):
        assert len(set(asked[start : start + 8])) == 8
    responder.mangle = lambda answers: answers
    for _ in range(60):
        bus.read()
    assert sorted(lengths(responder)[-2:]) == [block, block + 1]  # the shortest, when all is calm


def test_a_length_is_free_again_some_time_after_a_later_request_was_answered(make, monkeypatch):
    _, bus = make()
    now, slept = [1000.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(serial_bus.time, 'monotonic', lambda: now[0])
    monkeypatch.setattr(serial_bus.time, 'sleep', sleep)
    bus._used(0, False)
    assert bus._owed[0] == math.inf
    now[0] += 50.0
    bus._heard()
    now[0] += 0.03
    bus._await_owed(1)
    assert slept == []
    bus._await_owed(0)
    assert slept == [pytest.approx(serial_bus.OWED - 0.03)]
    bus._await_owed(0)
    assert len(slept) == 1
    bus.period = 0.02  # a loop that reads twice in each period needs 4 of them to come round
    bus._used(0, False)
    bus._heard()
    now[0] += 0.0401
    bus._await_owed(0)
    assert len(slept) == 1


@pytest.mark.parametrize('asleep', [3, 7, 8, 12])
def test_answers_that_were_held_up_for_many_reads_are_never_taken_for_new_ones(make, asleep):
    """The other side sleeps, then answers all that it was asked, each with the angles of then."""
    responder, bus = make()
    bus.read()
    kept = []
    responder.mangle = lambda answers: kept.extend(answers) or []
    for _ in range(asleep):
        assert (bus.read().missed > 0).all()

    def let_go(answers):
        out = [*kept, *answers]
        kept.clear()
        return out

    responder.mangle = let_go
    believed = 0
    for _ in range(40):
        feedback = bus.read()
        told = np.rint(feedback.position / STEP).astype(int) + 2048
        for id, angle, missed in zip(IDS, told, feedback.missed, strict=True):
            assert missed or angle == responder.position(id, responder.reads)
        believed += feedback.complete
    assert believed >= 30


def test_goals_go_out_in_one_request_with_the_right_bytes(make, protocol):
    responder, bus = make()
    goals = (np.array([0, 1, 255, 256, 2048, 3000, 4094, 4095]) - 2048) * STEP
    bus.write_goals(goals)
    bus.read()  # comes after it
    assert [responder.raw(id, 'goal_position') for id in IDS] == [
        0,
        1,
        255,
        256,
        2048,
        3000,
        4094,
        4095,
    ]
    first = responder.requests[0]
    assert first.code == 0x83
    codec, _, table = BUSES[protocol]
    size = table['goal_position'].size
    data = {id: responder.raw(id, 'goal_position').to_bytes(size, 'little') for id in IDS}
    expected = codec.sync_write(table['goal_position'].address, size, data)
    assert codec.frame(*first) == expected


@pytest.mark.parametrize('wrong', [math.nan, math.inf, -math.inf, math.pi, -3.2, 1e300])
def test_a_goal_that_cannot_be_is_refused_by_name(make, wrong):
    responder, bus = make()
    goals = np.zeros(8)
    goals[4] = wrong
    with pytest.raises(ValueError, match=re.escape(f'goal of servo 5 is {wrong} rad, must')):
        bus.write_goals(goals)
    with pytest.raises(ValueError, match='7,'):
        bus.write_goals(np.zeros(7))
    bus.read()
    assert responder.raw(1, 'goal_position') == 0  # nothing went out


def first_time(change):
    """Mangles one list of feedback answers with ``change``, then none."""
    left = [change]

    def mangle(answers):
        if len(answers) == 8 and len(answers[0]) > 18 and left:
            return left.pop()(answers)
        return answers

    return mangle


@pytest.mark.parametrize(
    ('change', 'damaged', 'foreign'),
    [
        (lambda a: a[:2] + a[3:], 0, 0),
        (lambda a: a[:2] + [a[2][:-1] + bytes((a[2][-1] ^ 1,))] + a[3:], 1, 0),
        (lambda a: a[:2] + [a[2][:12]] + a[3:], 1, 0),
        (lambda a: a[:2] + a[3:4] + a[2:3] + a[4:], 0, 1),  # out of turn
        (lambda a: a[:2] + a[:1] + a[3:], 0, 1),  # the first one again, in its place
    ],
)
def test_a_bad_answer_is_asked_for_again_alone(make, change, damaged, foreign):
    responder, bus = make()
    bus.read()
    responder.mangle = first_time(change)
    feedback = bus.read()
    assert feedback.complete
    expected = all_of(responder, 2)
    expected[2] = responder.position(3, 3)  # the retry is a read of its own
    assert raw(feedback).tolist() == expected
    assert bus.errors.damaged[3] == damaged
    assert bus.errors.missing[3] == 1 - damaged
    assert bus.errors.foreign == foreign
    assert list(responder.requests[-1].params[-1:]) == [3]


def test_a_retry_asks_the_likely_culprit_last(make):
    responder, bus = make()
    bus.read()
    responder.mangle = first_time(lambda answers: answers[:4])  # nobody speaks after the fourth
    assert bus.read().complete
    assert list(responder.requests[-1].params[-4:]) == [6, 7, 8, 5]


def test_who_stays_silent_keeps_its_values_and_is_counted(make):
    responder, bus = make()
    bus.read()
    muted = responder.memory.pop(4)
    for missed in (1, 2, 3):
        feedback = bus.read()
        assert feedback.missed.tolist() == [0, 0, 0, missed, 0, 0, 0, 0]
        assert raw(feedback)[3] == responder.position(4, 1)
    responder.memory[4] = muted
    assert bus.read().complete
    assert bus.errors.missing == {4: 6}  # each read asked twice


def test_nobody_is_asked_again_when_all_are_silent_or_time_is_up(make):
    responder, bus = make()
    bus.read()
    responder.mangle = lambda answers: []
    asked = len(responder.requests)
    assert bus.read().missed.tolist() == [1] * 8
    assert len(responder.requests) == asked + 1
    bus.period = 1e-4
    responder.mangle = lambda answers: answers[1:]
    assert bus.read().missed.tolist() == [2] + [0] * 7
    assert len(responder.requests) == asked + 2


def test_a_disturbed_line_is_drained_until_it_is_quiet(make, monkeypatch):
    responder, bus = make(period=0.0)
    waits = []
    monkeypatch.setattr(bus.wire, 'drain', waits.append)
    bus.read()
    assert waits == []
    responder.mangle = lambda answers: answers[1:]
    bus.read()
    assert len(waits) == 1
    assert waits[0] > 0


@pytest.mark.parametrize('last', [lambda a: a[:-1] + bytes((a[-1] ^ 1,)), lambda a: a])
def test_nothing_is_waited_for_after_the_last_ones_turn(make, last):
    responder, bus = make(slack=1e6)  # it would be a long wait
    bus.read()
    responder.mangle = first_time(lambda a: a[:3] + a[4:-1] + [last(a[-1])])
    assert bus.read().complete


def test_no_two_questions_in_a_row_have_answers_of_one_length(make):
    responder, bus = make()
    for _ in range(3):
        bus.torque()
        bus.get(1, 'status' if 'status' in bus.table.by_name else 'led')
    asked = [p.params[1 + responder.two_bytes] for p in responder.requests]
    assert len(asked) == 6
    assert all(one != other for one, other in itertools.pairwise(asked))


def test_late_answers_of_the_last_read_are_not_taken_for_this_one(make):
    responder, bus = make(period=0.0)
    bus.read()
    kept = []
    responder.mangle = lambda answers: kept.append(answers) or []
    assert not bus.read().complete
    responder.mangle = lambda answers: kept[0] + answers
    feedback = bus.read()
    assert feedback.complete
    assert raw(feedback).tolist() == all_of(responder, 3)
    assert bus.errors.foreign == 8
    responder.mangle = lambda answers: kept.append(answers) or answers + answers  # and twice
    assert raw(bus.read()).tolist() == all_of(responder, 4)
    responder.mangle = lambda answers: kept[-1] + answers
    assert raw(bus.read()).tolist() == all_of(responder, 5)


def test_an_echo_is_taken_off_also_that_of_the_goals(make):
    responder, bus = make()
    responder.echo = True
    for read in range(1, 20):
        feedback = bus.cycle(np.zeros(8))
        assert feedback.complete
        assert raw(feedback).tolist() == all_of(responder, read)
    assert bus.get(3, 'id') == 3
    assert bus.put(3, 'torque_enable', 1)
    assert bus.errors.echoed >= 20
    assert bus.errors.total() == 0


def test_torque_is_switched_and_told(make):
    responder, bus = make()
    assert bus.torque().tolist() == [0] * 8
    bus.set_torque(True)
    bus.set_torque(False, ids=(2, 3))
    responder.memory.pop(8)
    np.testing.assert_array_equal(bus.torque(), [1, 0, 0, 1, 1, 1, 1, np.nan])
    offs = [p for p in responder.requests if p.code == 0x83 and p.params[-1] == 0]
    assert len(offs) == 3
    responder.memory[8] = responder.tables[8].factory()
    off = bus.torque_off()
    os.write(bus.fileno(), off)
    responder.serve(len(off))
    assert bus.torque().tolist() == [0] * 8


def test_registers_by_name(make, protocol):
    responder, bus = make()
    assert bus.put(2, 'max_temperature', 65)
    assert bus.get(2, 'max_temperature') == 65
    assert responder.raw(2, 'max_temperature') == 65
    if protocol == 'feetech':  # unlocked for that, and locked again
        writes = [(p.params[0], p.params[1]) for p in responder.requests if p.code == 3]
        assert writes == [(55, 0), (13, 65), (55, 1)]
    else:
        bus.set_torque(True, ids=(2,))
        with pytest.raises(ValueError, match='servo 2 has torque, which locks its EEPROM'):
            bus.put(2, 'max_temperature', 60)
    assert bus.get(99, 'id') is None
    assert not bus.put(99, 'torque_enable', 1)
    with pytest.raises(ValueError, match='present_position of servo 2 is read-only'):
        bus.put(2, 'present_position', 0)
    with pytest.raises(ValueError, match='no register'):
        bus.get(2, 'nonsense')
    with pytest.raises(ValueError, match='max_temperature'):
        bus.put(2, 'max_temperature', 1000)


def test_a_scan_finds_who_is_there(make, protocol):
    responder, bus = make(ids=(1, 5))
    responder.error[5] = 1 if protocol == 'feetech' else 0x80
    (first, last) = bus.scan(range(8))
    assert (first.id, last.id) == (1, 5)
    assert first.model == BUSES[protocol][2].model
    assert first.model_name == BUSES[protocol][2].model_name
    assert first.baud == BAUD
    responder.set(5, 'model_number', 42)
    assert bus.scan([5], (BAUD, 57_600))[-1].model_name == 'unknown model 42'
    assert bus.wire.baud == BAUD
    assert bus.errors.total() == 0


def test_a_servo_gets_a_new_id(make):
    responder, bus = make(ids=(1, 2))
    assert bus.set_id(2, 7)
    assert [found.id for found in bus.scan(range(9))] == [1, 7]
    assert responder.raw(7, 'id') == 7
    with pytest.raises(ValueError, match='servo 7 cannot get the id 1: another'):
        bus.set_id(7, 1)
    with pytest.raises(ValueError, match='register id'):
        bus.set_id(7, 254)
    assert not bus.set_id(30, 31)


def test_limits_make_servos_slow_and_weak_and_full_again(make, protocol):
    responder, bus = make()
    names = bus.limits
    full = responder.raw(1, names.torque)
    assert bus.set_limits(1.0, 0.3)
    speed = bus.register(1, names.speed).scale
    for id in IDS:
        assert responder.raw(id, names.speed) == round(1.0 / speed)
        assert responder.raw(id, names.torque) == round(0.3 * full)
    responder.set(2, names.most_torque, full // 2)
    assert bus.set_limits(None, None)
    assert [responder.raw(id, names.speed) for id in IDS] == [0] * 8
    assert [responder.raw(id, names.torque) for id in IDS] == [full, full // 2] + [full] * 6
    with pytest.raises(ValueError, match=r'speed 0\.0 is not at least'):
        bus.set_limits(0.0, 0.3)
    responder.memory.pop(3)
    assert not bus.set_limits(1.0, 0.3, ids=(3,))


def test_alarms_have_one_spelling(make, protocol):
    responder, bus = make()
    if protocol == 'feetech':
        responder.error[2] = 0b101001  # in the answer's head: voltage, current, overload
        responder.set(7, 'status', 0b000110)  # in the block: encoder, heat
        feedback = bus.read()
        assert feedback.alarm[1] == Alarm.VOLTAGE | Alarm.CURRENT | Alarm.OVERLOAD
        assert feedback.alarm[6] == Alarm.ENCODER | Alarm.HEAT
        assert np.count_nonzero(feedback.alarm) == 2
        return
    for id, status in ((2, 0b100001), (7, 0b011100)):
        responder.error[id] = 0x80
        responder.set(id, 'hardware_error_status', status)
    assert np.count_nonzero(bus.read().alarm) == 1  # one of them is asked at each read
    feedback = bus.read()
    assert feedback.alarm[1] == Alarm.VOLTAGE | Alarm.OVERLOAD
    assert feedback.alarm[6] == Alarm.HEAT | Alarm.ENCODER | Alarm.SHOCK
    responder.error[7] = 0
    responder.set(2, 'hardware_error_status', 0b100000)
    feedback = bus.read()
    assert feedback.alarm.tolist() == [0, Alarm.OVERLOAD, 0, 0, 0, 0, 0, 0]


def test_an_alarm_is_cleared_without_a_jump(make, protocol):
    responder, bus = make()
    responder.set(3, 'present_position', 1234)
    assert bus.clear_alarm(3)
    if protocol == 'dynamixel':
        assert [(p.id, p.code) for p in responder.requests] == [(3, 8)]
        return
    written = [
        (p.params[0], int.from_bytes(p.params[1:], 'little'))
        for p in responder.requests
        if p.code == 3
    ]
    assert written == [(40, 0), (42, 1234), (40, 1), (40, 0)]


@pytest.mark.parametrize('protocol', ['feetech'])
def test_the_unit_of_speeds_is_asked_for(make, protocol):
    responder, bus = make()
    responder.set(2, 'phase', 8)  # bit 2 is 0: 50 steps/s per count
    for id in IDS:
        responder.set(id, 'present_speed', -3)
    np.testing.assert_allclose(bus.read().velocity[:3], np.array([-3, -150, -3]) * STEP)
    assert bus.put(2, 'goal_speed', 500 * STEP)
    assert responder.raw(2, 'goal_speed') == 10
    asked = len(responder.requests)
    bus.read()
    assert len(responder.requests) == asked + 1  # once is enough


@pytest.mark.parametrize('protocol', ['feetech'])
def test_a_servo_that_told_its_unit_late_has_no_speed_before(make, protocol):
    responder, bus = make()
    responder.mangle = lambda answers: answers[:-1] if len(answers[-1]) < 9 else answers
    assert np.isnan(bus.read().velocity).tolist() == [False] * 7 + [True]
    responder.mangle = lambda answers: answers
    assert np.isfinite(bus.read().velocity).all()


@pytest.mark.parametrize('protocol', ['dynamixel'])
def test_current_is_load_where_it_is_measured(make, protocol):
    tables = dict.fromkeys(IDS, XL430)
    tables[2] = tables[3] = XL330
    responder, bus = make(tables=tables)
    responder.set(1, 'present_load', 500)
    responder.set(2, 'present_current', -735)  # mA, of a stall current of 1470
    np.testing.assert_allclose(bus.read().load[:3], [0.5, -0.5, 0.0])
    assert bus.get(2, 'present_current') == pytest.approx(-0.735)
    with pytest.raises(ValueError, match='XL430-W250 has no register'):
        bus.get(1, 'present_current')


@pytest.mark.parametrize('protocol', ['dynamixel'])
def test_answers_that_were_stuffed_are_read(make, protocol):
    responder, bus = make()
    bus.read()
    for id in (1, 4, 8):  # load -1 and speed -3: FF FF FD FF FF FF
        responder.set(id, 'present_load', -1)
        responder.set(id, 'present_speed', -3)
    feedback = bus.read()
    assert feedback.complete
    np.testing.assert_allclose(feedback.load[[0, 1, 3, 7]], [-0.001, 0, -0.001, -0.001])
    np.testing.assert_allclose(feedback.velocity[7], -3 * 0.229 * 2 * math.pi / 60)
    assert raw(feedback).tolist() == all_of(responder, 2)
    assert bus.errors.total() == 0


@pytest.mark.parametrize('protocol', ['dynamixel'])
def test_a_refusal_is_not_data(make, protocol):
    responder, bus = make()
    bus.read()
    responder.error[3] = 0x07  # access error
    assert bus.read().missed.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert not bus.put(3, 'torque_enable', 1)
    responder.error[3] = 0x87  # with an alarm on top
    assert bus.read().missed[2] == 2


def test_an_unplugged_cable_is_a_lost_wire_in_every_method(make):
    responder, bus = make()
    bus.read()
    responder.unplug()
    for method in (
        bus.read,
        bus.torque,
        lambda: bus.write_goals(np.zeros(8)),
        lambda: bus.set_torque(False),
        lambda: bus.get(1, 'id'),
        lambda: bus.scan([1]),
    ):
        with pytest.raises(WireLost, match=responder.port):
            method()
    bus.close()
    bus.close()
    with pytest.raises(WireLost, match=responder.port):
        bus.read()


def test_ids_must_make_sense(protocol):
    codec, bus_class, _ = BUSES[protocol]
    responder = Responder(codec, {})
    port = Wire(responder.port, BAUD)
    for ids in ((), (1, 1), (1, 254)):
        with pytest.raises(ValueError, match='id'):
            bus_class(port, ids)
    port.close()
    responder.unplug()


def misbehave(rng, held):
    """What a bad line makes of good answers; what it holds back comes with later ones."""

    def change(answer):
        kind = rng.choice(('flip', 'cut', 'lose', 'add'))
        where = rng.randrange(len(answer))
        if kind == 'flip':
            return answer[:where] + bytes((rng.randrange(256),)) + answer[where + 1 :]
        if kind == 'cut':
            return answer[:where]
        if kind == 'add':
            return answer[:where] + rng.randbytes(1) + answer[where:]
        # A sum does not see an FF that is lost before the FF of the next header.
        return answer if answer[where] == 0xFF else answer[:where] + answer[where + 1 :]

    def mangle(answers):
        out = []
        late = [answer for due, answer in held if due <= 1]
        held[:] = [(due - 1, answer) for due, answer in held if due > 1]
        for answer in answers:
            fate = rng.random()
            if fate < 0.05:
                continue
            if fate < 0.10:
                out.append(change(answer))
            elif fate < 0.15:
                held.append((rng.randint(1, 5), answer))
            elif fate < 0.20:
                out += [answer, answer]
            else:
                out.append(answer)
        if rng.random() < 0.3:
            out.append(rng.randbytes(rng.randrange(5)))
        return late + out if rng.random() < 0.5 else out + late

    return mangle


def test_no_wrong_value_is_ever_accepted(make, protocol):
    responder, bus = make()
    bus.read()
    rng = random.Random(protocol)
    responder.mangle = misbehave(rng, [])
    fresh = whole = 0
    for _ in range(1000):
        before = responder.reads
        feedback = bus.read()
        numbers = raw(feedback)
        for row in np.flatnonzero(feedback.missed == 0):
            # Of this read: of its first question, or of the retry.
            right = [
                responder.position(IDS[row], n) for n in range(before + 1, responder.reads + 1)
            ]
            assert len(right) in (1, 2)
            assert numbers[row] in right
            fresh += 1
        whole += feedback.complete
        silent = (feedback.missed > 0) & (feedback.missed < 400)
        for row in np.flatnonzero(silent):
            assert (numbers[row] - responder.position(IDS[row], 0)) in range(512)  # still its own
    assert fresh > 4000  # of 8000: it is not right by refusing everything
    assert whole > 20
    assert bus.errors.foreign > 100
    assert bus.errors.damaged.total() > 100
    assert bus.errors.missing.total() > 100
