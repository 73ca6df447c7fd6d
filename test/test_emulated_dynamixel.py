import math

import numpy as np
import pytest

from emulated_rig import Rig, feel
from lebot_rl_ros.hardware import dynamixel
from lebot_rl_ros.hardware.dynamixel_table import XL330
from lebot_rl_ros.hardware.emulation.bank import servo_bank
from lebot_rl_ros.hardware.emulation.dynamixel_servos import DynamixelBank

STEP = 2 * math.pi / 4096


@pytest.fixture
def bus(tmp_path):
    rig = Rig(tmp_path, 'dynamixel')
    yield rig
    rig.close()


def test_bytes_of_a_ping(bus):
    request = bytes.fromhex('FF FF FD 00 01 03 00 01 19 4E')
    answer = bus.ask(request)
    # Model 1060 = 24 04, firmware 46 = 2E.
    assert answer[:-2] == bytes.fromhex('FF FF FD 00 01 07 00 55 00 24 04 2E')
    assert answer[-2:] == dynamixel.crc16(answer[:-2]).to_bytes(2, 'little')
    everybody = bus.packets(dynamixel.ping(dynamixel.BROADCAST))
    assert [packet.id for packet in everybody] == [1, 2, 3]


def test_tells_what_it_feels_in_its_own_units(bus):
    feel(bus.bank, position=0.5, velocity=-1.0, load=-0.25)
    (packet,) = bus.packets(dynamixel.read(1, 126, 21))
    # -25.0 %; -1 rad/s = -41.7 * 0.229 rev/min; 3 * (0.02 + 0.25 * 1.4) A * 0.04 ohm = 0.04 V.
    expected = (
        (-250).to_bytes(2, 'little', signed=True)
        + (-42).to_bytes(4, 'little', signed=True)
        + (2374).to_bytes(4, 'little')
        + bytes(4)
        + (2048).to_bytes(4, 'little')
        + bytes((74, 0, 25))
    )
    assert packet.params == b'\0' + expected


@pytest.mark.parametrize(
    'name, raw, error',
    [
        ('max_pwm', 900, 4),  # out of the register's range
        ('goal_pwm', -886, 4),
        ('goal_position', 4096, 6),  # beyond the limit that another register sets
        ('goal_speed', 266, 6),
        ('present_position', 0, 7),  # read only
        ('goal_position', 4095, 0),
        ('bus_watchdog', 0, 0),
    ],
)
def test_refuses_by_code(bus, name, raw, error):
    before = bus.bank.memory.copy()
    assert bus.put(name, raw) == error
    assert np.array_equal(before, bus.bank.memory) == (error > 0 or name == 'bus_watchdog')


def test_refuses_what_is_malformed(bus):

    def error(request):
        (packet,) = bus.packets(request)
        return packet.params[0]

    assert error(dynamixel.frame(1, 0x77)) == 2  # no such instruction
    assert error(dynamixel.frame(1, dynamixel.Instruction.READ, b'\0')) == 5
    assert error(dynamixel.write(1, 116, b'\0\1')) == 5  # half of a number
    assert error(dynamixel.read(1, 600, 100)) == 7  # behind the memory
    assert error(dynamixel.write(1, 150, b'\0')) == 7  # no register there
    damaged = bytearray(dynamixel.ping(1))
    damaged[-1] ^= 1
    assert bus.ask(bytes(damaged)) == b''


def test_eeprom_is_closed_while_torque_is_on(bus):
    assert bus.put('torque_enable', 1) == 0
    assert bus.put('max_temperature', 60) == 7
    assert bus.put('torque_enable', 0) == 0
    assert bus.put('max_temperature', 60) == 0
    bus.put('profile_speed', 7)
    bus.ask(dynamixel.reboot(1))
    assert (bus.register('max_temperature'), bus.register('profile_speed')) == (60, 0)


def test_overload_takes_torque_until_a_reboot(bus):
    for row in range(3):
        assert bus.put('torque_enable', 1, row) == 0
    feel(bus.bank, load=0.85, times=99)
    assert bus.bank.torque.all()
    feel(bus.bank, load=0.85)
    feel(bus.bank, load=0.0)
    assert not bus.bank.torque.any()
    assert bus.register('hardware_error_status') == 1 << 5
    (packet,) = bus.packets(dynamixel.ping(1))
    assert packet.params[0] == 0x80
    assert bus.put('torque_enable', 1) == 0x81  # alert, and it failed
    assert bus.ask(dynamixel.reboot(1)) == dynamixel.status(1, 0x80)
    assert bus.register('hardware_error_status') == 0
    assert bus.put('torque_enable', 1) == 0
    assert bus.bank.torque.tolist() == [True, False, False]


def test_response_levels(bus):
    bus.put('response_level', 1)
    assert bus.ask(dynamixel.write(1, 65, b'\1')) == b''
    assert bus.register('led') == 1
    bus.ask(dynamixel.write(1, 68, b'\0'))
    assert bus.ask(dynamixel.read(1, 65, 1)) == b''
    assert len(bus.packets(dynamixel.ping(1))) == 1


def test_bulk_and_fast_reads(bus):
    params = b''.join(
        bytes((id,)) + address.to_bytes(2, 'little') + length.to_bytes(2, 'little')
        for id, address, length in ((2, 0, 2), (1, 146, 1))
    )
    bulk = dynamixel.frame(254, dynamixel.Instruction.BULK_READ, params)
    assert bus.packets(bulk) == [(2, 0x55, b'\0\x24\4'), (1, 0x55, b'\0\x19')]
    fast = bus.ask(dynamixel.frame(254, dynamixel.Instruction.FAST_BULK_READ, params))
    assert fast[:12] == bytes.fromhex('FF FF FD 00 FE 0C 00 55 00 02 24 04')
    assert fast[14:17] == bytes.fromhex('00 01 19')
    for end in (12, 17):  # a CRC behind each part, over all before
        assert fast[end : end + 2] == dynamixel.crc16(fast[:end]).to_bytes(2, 'little')
    write = b'\x02\x41\0\1\0\1\x01\x41\0\1\0\1'  # LED of 2 and 1
    assert bus.ask(dynamixel.frame(254, dynamixel.Instruction.BULK_WRITE, write)) == b''
    assert bus.bank.raw('led').tolist() == [1, 1, 0]


def test_a_dynamixel_is_not_put_on_a_battery_that_it_is_not_made_for():
    with pytest.raises(ValueError, match=r'XL430-W250 is made for 6 to 14 V, .* is 5 V'):
        servo_bank('dynamixel', [1], nominal_voltage=5.0)
    with pytest.raises(ValueError, match=r"'i2c'; choices are feetech, dynamixel"):
        servo_bank('i2c', [1])


def test_more_than_a_turn_in_extended_position_mode(bus):
    assert bus.put('goal_position', -5000) == 6
    bus.put('operating_mode', 4)
    assert bus.put('goal_position', -5000) == 0
    bus.put('torque_enable', 1)
    assert bus.bank.goal(0.02)[0] == pytest.approx(-7048 * STEP)
    feel(bus.bank, position=-7048 * STEP)
    assert bus.register('present_position') == -5000


def test_offsets_and_pwm_limits(bus):
    feel(bus.bank)
    bus.put('offset', 100)
    assert bus.register('present_position') == 2148
    bus.put('goal_position', 2148)
    bus.put('torque_enable', 1)
    assert bus.bank.goal(0.02)[0] == pytest.approx(0.0)
    bus.put('goal_pwm', 177)
    assert bus.bank.strength == pytest.approx([0.2, 1.0, 1.0])
    bus.put('max_pwm', 354, 1)
    bus.ask(dynamixel.reboot(2))
    assert bus.register('goal_pwm', 1) == 354
    assert bus.bank.strength == pytest.approx([0.2, 0.4, 1.0])


def test_an_xl330_tells_its_current_where_the_others_tell_load():
    bank = DynamixelBank([1], nominal_voltage=5.0, table=XL330)
    feel(bank, load=-0.5)
    assert bank.raw('present_current').tolist() == [-755]  # 20 + 1470 / 2 mA
