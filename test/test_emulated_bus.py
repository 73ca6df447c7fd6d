import math

import numpy as np
import pytest

from emulated_rig import Rig, feel
from lebot_rl_ros.hardware.emulation.bank import servo_bank

STEP = 2 * math.pi / 4096
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


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_set_points_follow_goals_at_their_speed_within_limits(rig, protocol):
    bus = rig(protocol)
    feel(bus.bank, position=0.2)
    assert bus.bank.goal(0.02) == pytest.approx(0.2)  # no torque: where it is
    bus.put('torque_enable', 1)
    assert bus.bank.goal(0.02)[0] == pytest.approx(round(0.2 / STEP) * STEP)  # it holds
    bus.put('goal_position', 2048 + 1000)
    assert bus.bank.goal(0.02)[0] == pytest.approx(1000 * STEP)
    speed = 'goal_speed' if protocol == 'feetech' else 'profile_speed'
    bus.put(speed, 50)
    unit = STEP if protocol == 'feetech' else 0.229 * 2 * math.pi / 60
    bus.put('goal_position', 2048)
    assert bus.bank.goal(0.02)[0] == pytest.approx(1000 * STEP - 0.02 * 50 * unit)
    assert bus.bank.goal(0.02)[1:] == pytest.approx(0.2)
    bus.put(speed, 0)
    bus.bank.keep('max_position', 2100)
    bus.bank.store('goal_position', 4000)
    assert bus.bank.goal(0.02)[0] == pytest.approx((2100 - 2048) * STEP)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_an_old_goal_does_not_come_back_with_torque(rig, protocol):
    bus = rig(protocol)
    bus.put('torque_enable', 1)
    bus.put('goal_position', 3000)
    bus.put('torque_enable', 0)
    feel(bus.bank, position=-0.1)
    bus.put('torque_enable', 1)
    assert bus.bank.goal(0.02)[0] == pytest.approx(-65 * STEP)
    bus.put('torque_enable', 0)
    bus.put('goal_position', 3000)  # sent before torque, it is gone to
    bus.put('torque_enable', 1)
    assert bus.bank.goal(0.02)[0] == pytest.approx(952 * STEP)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_brown_out_switches_torque_off_and_forgets_the_ram(rig, protocol):
    bus = rig(protocol)
    before = bus.bank.raw('id').tolist(), bus.bank.raw('baud_rate').tolist()
    for row in range(3):
        bus.put('torque_enable', 1, row)
        bus.put('goal_position', 3000, row)
    feel(bus.bank, position=0.1)
    bus.bank.set_supply(4.0)
    feel(bus.bank, position=0.1)
    assert not bus.bank.torque.any()
    assert bus.register('goal_position') == 2048 + 65
    assert bus.bank.strength == pytest.approx(4.0 / 7.4)
    assert (bus.bank.raw('id').tolist(), bus.bank.raw('baud_rate').tolist()) == before


def test_work_warms_and_makes_the_voltage_sag(rig):
    bank = rig('feetech', ids=range(1, 9)).bank
    feel(bank, load=0.5, dt=180.0)  # one time constant towards 25 + 120 / 4 = 55 degC
    assert bank.strain.temperature == pytest.approx(55 - 30 / math.e)
    # 8 * (0.02 + 0.5 * 2.7) A * 0.04 ohm = 0.44 V
    assert bank.strain.voltage == pytest.approx(7.4 - 0.4384)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_silence_for_strangers_broadcasts_and_other_rates(rig, protocol):
    bus = rig(protocol)
    assert bus.ask(bus.codec.ping(77)) == b''
    switch = bus.bank.table['torque_enable'].address
    assert bus.ask(bus.codec.write(bus.codec.BROADCAST, switch, b'\1')) == b''
    assert bus.bank.torque.all()
    bus.client.baudrate = 500_000
    assert bus.ask(bus.codec.ping(1)) == b''
    bus.client.baudrate = 1_000_000
    assert len(bus.packets(bus.codec.ping(1))) == 1
    codes = {rate: code for code, rate in bus.bank.table.bauds.items()}
    bus.ask(bus.codec.write(bus.codec.BROADCAST, switch, b'\0'))
    assert bus.put('baud_rate', codes[115_200], 1) == 0
    assert bus.ask(bus.codec.ping(2)) == b''
    bus.client.baudrate = 115_200
    assert [packet.id for packet in bus.packets(bus.codec.ping(2))] == [2]
    assert bus.ask(bus.codec.ping(1)) == b''


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_rate_that_servos_cannot_do_is_refused(protocol):
    with pytest.raises(ValueError, match=r'cannot talk at 1234 bit/s; choose from .*115200'):
        servo_bank(protocol, [1]).set_baud(1234)


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_new_id_is_answered_to(rig, protocol):
    bus = rig(protocol)
    (told,) = bus.packets(bus.codec.write(3, bus.bank.table['id'].address, b'\x09'))
    assert told.id == 3
    assert bus.ask(bus.codec.ping(3)) == b''
    assert len(bus.packets(bus.codec.ping(9))) == 1


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_two_servos_of_one_id_talk_at_once(rig, protocol):
    bus = rig(protocol)
    bus.bank.keep('id', [1, 2, 2])
    bus.bank.sense(0.02, np.array([0.0, 0.3, -0.3]), np.zeros(3), np.zeros(3))
    parser = bus.codec.Parser()
    assert parser.feed(bus.ask(bus.codec.read(2, bus.bank.feedback[0], 15))) == []
    assert parser.damaged == 1


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_requests_come_in_pieces_between_garbage_and_several_at_once(rig, protocol):
    bus = rig(protocol)
    ping = bus.codec.ping
    assert bus.ask(ping(1)[:3]) == b''
    assert [packet.id for packet in bus.packets(ping(1)[3:])] == [1]
    assert [packet.id for packet in bus.packets(b'\x12\x34' + ping(2) + ping(3))] == [2, 3]
    bus.send(bus.codec.write(1, 40, bytes(100))[:8])
    assert bus.ask(ping(2)) == b''  # taken for a part of it
    bus.now += 1.0  # a servo does not wait for the rest for ever
    assert [packet.id for packet in bus.packets(ping(2))] == [2]


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_only_a_read_of_all_servos_and_the_whole_block_moves_the_body(rig, protocol):
    seen = []

    def step():
        seen.append(len(seen))
        feel(bus.bank, position=0.1 * len(seen))

    bus = rig(protocol, on_full_read=step)
    address, length = bus.bank.feedback
    read = bus.codec.sync_read
    bus.ask(read(address, length, [1, 2]))
    bus.ask(read(address, 2, [1, 2, 3]))
    bus.ask(read(0, length, [1, 2, 3]))
    bus.ask(bus.codec.read(1, address, length))
    assert seen == []
    entry = bus.bank.table['present_position']
    for turn in range(1, 4):  # the answer is of after the step; of the request kept ready, too
        packets = bus.packets(read(address, length, [3, 1, 2]))
        assert [packet.id for packet in packets] == [3, 1, 2]
        at = entry.address - address + (protocol == 'dynamixel')
        raw = entry.unpack(packets[0].params[at : at + entry.size])
        assert raw == 2048 + round(0.1 * turn / STEP)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_a_missing_servo_leaves_its_place_and_the_others_answer(rig, protocol):
    bus = rig(protocol)
    request = bus.codec.sync_read(*bus.bank.feedback, [1, 2, 3])
    assert [packet.id for packet in bus.packets(request)] == [1, 2, 3]
    bus.bank.power(1, False)
    assert [packet.id for packet in bus.packets(request)] == [1, 3]
    bus.bank.power(1, True)
    assert [packet.id for packet in bus.packets(request)] == [1, 2, 3]
