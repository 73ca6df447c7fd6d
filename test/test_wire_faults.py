import numpy as np
import pytest
import serial

from emulated_rig import Rig
from lebot_rl_ros.hardware import feetech
from lebot_rl_ros.hardware.emulation.faults import (
    FaultSchedule,
    WireFault,
    parse_wire_fault,
)

NAMES = ('fl_hip', 'fl_knee', 'fr_hip')
PROTOCOLS = ('feetech', 'dynamixel')


@pytest.fixture
def rig(tmp_path):
    rigs = []

    def make(protocol, *faults, seed=0, **given):
        schedule = FaultSchedule([parse_wire_fault(f, NAMES) for f in faults], NAMES, seed)
        rigs.append(Rig(tmp_path, protocol, faults=schedule, **given))
        rigs[-1].faults = schedule
        return rigs[-1]

    yield make
    for entry in rigs:
        entry.close()


def feel(bank, load=0.0, times=1):
    for _ in range(times):
        bank.sense(0.02, np.zeros(3), np.zeros(3), np.full(3, load))


# In time


def test_faults_begin_and_end_and_say_so(rig):
    bus = rig('feetech', 'echo@1-2', 'baud@1.5')
    faults = bus.faults
    assert faults.quiet
    faults.at(0.999)
    assert (faults.quiet, faults.take_news(), faults.all_active) == (True, [], ())
    faults.at(1.0)
    assert faults.take_news() == ['fault begins: echo@1-2']
    assert faults.active('echo') == WireFault('echo', start=1.0, end=2.0)
    assert faults.active('echo', 'imu') is None
    faults.at(3.0)
    assert faults.take_news() == ['fault ends: echo@1-2', 'fault begins: baud@1.5']
    assert faults.active('echo') is None
    faults.clear()
    assert faults.take_news() == ['fault ends: baud@1.5']
    assert faults.quiet
    faults.at(4.0)
    assert faults.take_news() == []


def test_an_added_fault_counts_from_now(rig):
    bus = rig('feetech')
    bus.faults.at(10.0)
    bus.faults.add(parse_wire_fault('mute:fl_knee@0-2', NAMES), 10.0)
    assert bus.bank.powered.tolist() == [True, False, True]
    bus.faults.at(11.9)
    assert not bus.bank.powered[1]
    bus.faults.at(12.0)
    assert bus.bank.powered.all()


# On the wire


def test_dropped_answers(rig):
    bus = rig('feetech', 'drop:fl_knee:1@1')
    request = feetech.sync_read(56, 15, [1, 2, 3])
    assert [packet.id for packet in bus.packets(request)] == [1, 2, 3]
    bus.faults.at(1.0)
    assert [packet.id for packet in bus.packets(request)] == [1, 3]
    bus.faults.clear()
    assert [packet.id for packet in bus.packets(request)] == [1, 2, 3]


def test_a_share_of_answers_is_dropped_and_the_seed_says_which(rig, tmp_path):
    def missing(seed, folder):
        folder.mkdir()
        faults = FaultSchedule([parse_wire_fault('drop:0.3', NAMES)], NAMES, seed)
        bus = Rig(folder, 'feetech', faults=faults)
        request = feetech.sync_read(56, 15, [1, 2, 3])
        told = [tuple(packet.id for packet in bus.packets(request)) for _ in range(200)]
        bus.close()
        return told

    first, again, other = (
        missing(seed, tmp_path / name) for seed, name in ((1, 'a'), (1, 'b'), (2, 'c'))
    )
    assert first == again != other
    assert sum(map(len, first)) == pytest.approx(0.7 * 600, abs=60)  # 5 standard deviations


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_damaged_answers_never_pass_for_good_ones(rig, protocol):
    bus = rig(protocol, 'corrupt:fl_hip:1')
    request = bus.codec.sync_read(*bus.bank.feedback, [1, 2, 3])
    whole = bus.bank.feedback[1] + bus.codec.ANSWER_OVERHEAD
    seen = set()
    for _ in range(100):
        told = bus.ask(request)
        assert len(told) == 3 * whole
        seen.add(told[:whole])
        parser = bus.codec.Parser()
        ids = [packet.id for packet in [*parser.feed(told), *parser.flush()]]
        assert 1 not in ids
        assert ids[-1:] == [3]
    assert len(seen) > 50


def test_doubled_answers(rig):
    bus = rig('feetech', 'duplicate:fl_knee:1')
    request = feetech.sync_read(56, 15, [1, 2, 3])
    assert [packet.id for packet in bus.packets(request)] == [1, 2, 2, 3]


def test_late_answers(rig):
    bus = rig('feetech', 'late:fl_hip:15')
    start = bus.now
    assert [packet.id for packet in bus.packets(feetech.sync_read(56, 15, [1, 2]))] == [2]
    assert bus.bus.due == pytest.approx(start + 0.015)
    bus.now = start + 0.016  # in the middle of the next exchange
    assert [packet.id for packet in bus.packets(feetech.sync_read(56, 15, [2, 3]))] == [1, 2, 3]


def test_late_answers_keep_their_place_in_time_when_paced(rig):
    bus = rig('feetech', 'late:fl_hip:1', paced=True)
    start, due = bus.now, {}
    bus.send(feetech.sync_read(56, 15, [1, 2]))  # 10 bytes, answers of 21
    while bus.bus.due is not None:
        bus.now = bus.bus.due
        bus.bus.flush()
        due[bus.heard()[2]] = bus.now - start
    assert due == pytest.approx({2: 520e-6, 1: 310e-6 + 1e-3})


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_echoed_requests_come_before_the_answers(rig, protocol):
    bus = rig(protocol, 'echo')
    request = bus.codec.ping(2)
    told = bus.ask(request)
    assert told.startswith(request)
    bus.faults.clear()
    assert told[len(request) :] == bus.ask(request)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_mute_servo_has_no_torque_and_starts_anew_when_power_is_back(rig, protocol):
    bus = rig(protocol, 'mute:fl_knee@1-2')
    for row in range(3):
        bus.put('torque_enable', 1, row)
    bus.faults.at(1.0)
    assert bus.ask(bus.codec.ping(2)) == b''
    assert bus.bank.torque.tolist() == [True, False, True]
    assert bus.bank.strength.tolist() == [1.0, 0.0, 1.0]
    bus.faults.at(2.0)
    assert len(bus.packets(bus.codec.ping(2))) == 1
    assert bus.bank.torque.tolist() == [True, False, True]


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_clash_of_ids_is_garbage_and_one_servo_missing(rig, protocol):
    bus = rig(protocol, 'clash:fl_hip:fr_hip@1')
    bus.bank.sense(0.02, np.array([0.7, 0.0, -0.4]), np.zeros(3), np.zeros(3))
    request = bus.codec.sync_read(*bus.bank.feedback, [1, 2, 3])
    assert [packet.id for packet in bus.packets(request)] == [1, 2, 3]
    bus.faults.at(1.0)
    parser = bus.codec.Parser()
    assert [packet.id for packet in parser.feed(bus.ask(request))] == [2]
    parser.flush()
    assert parser.damaged_by[3] == 1
    switch = bus.bank.table['torque_enable'].address
    bus.ask(bus.codec.write(3, switch, b'\1'))
    assert bus.bank.torque.tolist() == [True, False, True]
    bus.faults.clear()
    assert [packet.id for packet in bus.packets(request)] == [1, 2, 3]


def test_servos_at_another_rate_hear_nothing(rig):
    bus = rig('feetech', 'baud@1-2')
    bus.faults.at(1.0)
    assert bus.ask(feetech.ping(1)) == b''
    assert bus.ask(feetech.write(1, 40, b'\1')) == b''
    bus.faults.at(2.0)
    assert len(bus.packets(feetech.ping(1))) == 1
    assert not bus.bank.torque.any()


def test_a_rate_that_changes_while_an_answer_is_made(rig):
    bus = rig('feetech', 'baud@1', on_full_read=lambda: bus.faults.at(1.0))
    assert bus.ask(feetech.sync_read(56, 15, [1, 2, 3])) == b''


def test_an_unplugged_bus_is_an_error_and_comes_back_behind_the_same_link(rig, tmp_path):
    bus = rig('feetech', 'unplug:bus@1-2', 'late:fl_hip:1000')
    bus.send(feetech.ping(1))
    assert bus.bus.due is not None
    bus.faults.at(1.0)
    bus.bus.flush()
    assert bus.bus.due is None  # what was under way is lost
    with pytest.raises((serial.SerialException, OSError)):
        bus.client.read(1)
    assert not (tmp_path / 'servos').exists()
    bus.bus.receive()
    bus.faults.at(2.0)
    bus.client.close()
    bus.client = serial.Serial(str(tmp_path / 'servos'), 1_000_000, timeout=0)
    assert len(bus.packets(feetech.ping(2))) == 1


def test_a_cable_that_is_pulled_while_an_answer_is_made(rig):
    bus = rig('feetech', 'unplug:bus@1', on_full_read=lambda: bus.faults.at(1.0))
    bus.send(feetech.sync_read(56, 15, [1, 2, 3]))
    assert not bus.line.plugged
    with pytest.raises((serial.SerialException, OSError)):
        bus.client.read(1)


def test_other_devices_cables_are_only_told_of(rig):
    bus = rig('feetech', 'unplug:imu', 'corrupt:imu:0.5', 'silence:imu', 'freeze:camera')
    assert bus.line.plugged
    assert bus.faults.quiet
    assert bus.faults.active('unplug', 'imu')
    assert bus.faults.active('unplug', 'bus') is None
    assert bus.faults.active('corrupt', 'imu').value == 0.5
    assert bus.faults.active('corrupt') is None


# In the servos


def test_a_feetech_that_is_taken_as_overloaded(rig):
    bus = rig('feetech', 'overload:fl_knee@1-2')
    bus.put('torque_enable', 1, 1)
    bus.faults.at(1.0)
    feel(bus.bank)
    assert bus.bank.strength == pytest.approx([1.0, 0.2, 1.0])
    bus.put('torque_enable', 1, 1)
    feel(bus.bank)
    assert bus.bank.strength[1] == pytest.approx(0.2)  # still
    assert bus.packets(feetech.ping(2))[0].code == 1 << 5
    bus.faults.at(2.0)
    feel(bus.bank)
    assert bus.bank.strength[1] == pytest.approx(0.2)  # until torque is switched on anew
    bus.put('torque_enable', 1, 1)
    feel(bus.bank)
    assert bus.bank.strength[1] == 1.0
    assert bus.packets(feetech.ping(2))[0].code == 0


def test_a_dynamixel_that_is_taken_as_overloaded(rig):
    bus = rig('dynamixel', 'overload:fl_knee@1-2')
    bus.put('torque_enable', 1, 1)
    bus.faults.at(1.0)
    feel(bus.bank)
    assert not bus.bank.torque[1]
    bus.faults.at(2.0)
    feel(bus.bank)
    assert bus.bank.errors.tolist() == [0, 0x80, 0]
    assert bus.register('hardware_error_status', 1) == 1 << 5


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_heat_rises_to_what_is_said_and_goes_slowly(rig, protocol):
    bus = rig(protocol, 'heat:fl_hip@1-2')
    bus.faults.at(1.0)
    feel(bus.bank, times=50)
    assert bus.register('present_temperature') == 85
    assert bus.register('present_temperature', 1) == 25
    status = 'status' if protocol == 'feetech' else 'hardware_error_status'
    assert bus.register(status) == 1 << 2
    bus.faults.at(2.0)
    feel(bus.bank)
    assert bus.register('present_temperature') == 85
    feel(bus.bank, times=9000)  # 180 s, one time constant: 25 + 60 / e
    assert bus.register('present_temperature') == 47
    # Feetech's alarm goes with its cause, Dynamixel's stays until a reboot.
    assert bus.register(status) == (0 if protocol == 'feetech' else 1 << 2)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_brownout_resets_all_servos_and_raises_the_alarm(rig, protocol):
    bus = rig(protocol, 'brownout@1-2')
    bus.put('torque_enable', 1)
    bus.faults.at(1.0)
    feel(bus.bank)
    assert not bus.bank.torque.any()
    assert bus.register('present_voltage') == 40
    status = 'status' if protocol == 'feetech' else 'hardware_error_status'
    assert [bus.register(status, row) for row in range(3)] == [1, 1, 1]
    bus.faults.at(2.0)
    feel(bus.bank)
    assert bus.register('present_voltage') == 74
    assert bus.register(status) == (0 if protocol == 'feetech' else 1)
    assert not bus.bank.torque.any()
