import math

import pytest

from emulated_rig import Rig, feel
from lebot_rl_ros.hardware import feetech

STEP = 2 * math.pi / 4096


@pytest.fixture
def bus(tmp_path):
    rig = Rig(tmp_path, 'feetech')
    yield rig
    rig.close()


def test_bytes_of_ping_read_and_write(bus):
    assert bus.ask('FF FF 01 02 01 FB') == bytes.fromhex('FF FF 01 02 00 FC')
    # Position 2048 = 00 08: sum 01+04+00+00+08 = 0D, complement F2.
    assert bus.ask('FF FF 01 04 02 38 02 BE') == bytes.fromhex('FF FF 01 04 00 00 08 F2')
    # The manual's goal 2048, time 0, speed 1000.
    assert bus.ask('FF FF 01 09 03 2A 00 08 00 00 E8 03 D5') == bytes.fromhex('FF FF 01 02 00 FC')
    assert bus.bank.raw('goal_speed').tolist() == [1000, 0, 0]


def test_tells_what_it_feels_in_its_own_units(bus):
    feel(bus.bank, position=0.5, velocity=-1.0, load=-0.25)
    # 0.5 rad = 325.9 steps; -1 rad/s = -651.9 steps/s, bit 15; 25.0 % = 250, bit 10.
    # Each draws 0.02 + 0.25 * 2.7 = 0.695 A (107 * 6.5 mA), so 7.4 - 0.04 * 2.085 = 7.32 V.
    (packet,) = bus.packets(feetech.read(1, 56, 15))
    expected = (
        (2048 + 326).to_bytes(2, 'little')
        + (0x8000 | 652).to_bytes(2, 'little')
        + (0x0400 | 250).to_bytes(2, 'little')
        + bytes((73, 25, 0, 0, 1))  # V, degC, no registered write, no alarm, moving
        + (2048 + 0).to_bytes(2, 'little')  # the set point, of which nobody has asked yet
        + (0x8000 | 107).to_bytes(2, 'little')
    )
    assert packet == (1, 0, expected)


def test_speeds_are_coarser_without_the_phase_bit(bus):
    bus.put('lock', 0)
    bus.put('phase', 8)
    feel(bus.bank, velocity=1.0)
    assert bus.register('present_speed') == 13  # 651.9 / 50
    bus.put('goal_speed', 2)
    bus.put('torque_enable', 1)
    bus.put('goal_position', 3000)
    assert bus.bank.goal(0.5)[0] == pytest.approx(0.5 * 100 * STEP)


def test_never_refuses_it_ignores_and_clamps(bus):
    assert bus.put('torque_limit', 5000) == 0
    assert bus.register('torque_limit') == 1000
    assert bus.put('model_number', 42) == 0
    assert bus.register('model_number') == 777
    (packet,) = bus.packets(feetech.read(1, 80, 20))
    assert packet.params[7:] == bytes(13)  # behind its memory
    assert bus.ask(feetech.frame(1, 0x77)) == b''  # no such instruction
    assert bus.ask(feetech.frame(1, feetech.Instruction.READ, b'\x38')) == b''


def test_lock_decides_what_outlives_a_reboot(bus):
    bus.put('max_temperature', 60)
    assert bus.register('max_temperature') == 60  # it acts
    bus.ask(feetech.reboot(1))
    assert bus.register('max_temperature') == 70  # but was not kept
    bus.put('lock', 0)
    bus.put('max_temperature', 60)
    bus.put('goal_speed', 100)
    bus.ask(feetech.reboot(1))
    assert bus.register('max_temperature') == 60
    assert bus.register('goal_speed') == 0
    assert bus.register('lock') == 1


def test_value_128_makes_here_the_middle(bus):
    feel(bus.bank, position=-0.3)  # 195.6 steps below
    assert bus.register('present_position') == 2048 - 196
    bus.put('torque_enable', 128)
    assert bus.register('offset') == -196
    assert bus.register('present_position') == 2048
    bus.put('torque_enable', 1)
    bus.put('goal_position', 2048 + 100)
    assert bus.bank.goal(0.02)[0] == pytest.approx((100 - 196) * STEP)
    bus.ask(feetech.reboot(1))
    assert bus.register('offset') == -196


def test_registered_writes_wait_for_the_action(bus):
    data = bytes((42, 0, 9))  # goal 2304
    (confirmed,) = bus.packets(feetech.frame(2, feetech.Instruction.REG_WRITE, data))
    assert confirmed == (2, 0, b'')
    assert bus.register('goal_position', 1) == 2048
    assert bus.register('registered_write', 1) == 1
    assert bus.ask(feetech.frame(254, feetech.Instruction.ACTION)) == b''
    assert bus.register('goal_position', 1) == 2304
    assert bus.register('registered_write', 1) == 0


def test_response_level_0_answers_reads_alone(bus):
    bus.put('response_level', 0)  # still confirmed
    assert bus.ask(feetech.write(1, 40, b'\1')) == b''
    assert bus.bank.torque.tolist() == [True, False, False]
    assert len(bus.packets(feetech.ping(1))) == 1
    assert bus.register('torque_enable') == 1


def test_overload_reduces_torque_until_it_is_switched_on_anew(bus):
    bus.put('torque_enable', 1)
    feel(bus.bank, load=0.85, times=99)  # 1.98 s
    assert bus.bank.strength.tolist() == [1.0, 1.0, 1.0]
    feel(bus.bank, load=0.85)  # 2.00 s
    assert bus.bank.strength == pytest.approx(0.2)
    feel(bus.bank, load=0.0)
    (packet,) = bus.packets(feetech.ping(1))
    assert packet.code == 1 << 5
    assert bus.bank.torque[0]
    bus.put('torque_enable', 1)
    feel(bus.bank, load=0.0)
    assert bus.register('status') == 0
    assert bus.bank.strength == pytest.approx([1.0, 0.2, 0.2])


def test_alarms_of_heat_and_voltage_go_with_their_cause(bus):
    bus.put('torque_enable', 1)
    bus.bank.strain.hold_temperature(0, 71.0)
    feel(bus.bank)
    assert bus.register('present_temperature') == 71
    assert (bus.register('status'), bus.bank.strength[0]) == (1 << 2, 0.0)  # 19: heat unloads
    bus.bank.strain.hold_temperature(0, math.nan)
    feel(bus.bank, times=5000)
    assert bus.register('present_temperature') < 71
    assert (bus.register('status'), bus.bank.strength[0]) == (0, 1.0)
    bus.bank.set_supply(4.0)
    assert bus.register('status') == 1
    assert bus.register('present_voltage') == 40
    bus.bank.set_supply(None)
    assert bus.register('status') == 0


def test_goals_below_0_end_at_the_limit_unless_there_is_none(bus):
    bus.put('torque_enable', 1)
    bus.put('goal_position', -100)
    assert bus.bank.goal(0.02)[0] == pytest.approx(-2048 * STEP)
    bus.bank.keep('max_position', 0)  # both limits 0: many turns
    assert bus.bank.goal(0.02)[0] == pytest.approx(-2148 * STEP)
    feel(bus.bank, position=-2148 * STEP)
    assert bus.register('present_position') == -100
    assert bus.register('present_position', 1) == -100


def test_positions_wrap_where_the_turn_ends(bus):
    feel(bus.bank, position=2100 * STEP)
    assert bus.register('present_position') == 4148 - 4096


def test_other_modes_hold(bus):
    bus.put('torque_enable', 1)
    bus.put('operating_mode', 1)
    bus.put('goal_position', 3000)
    assert bus.bank.goal(0.02)[0] == 0.0
