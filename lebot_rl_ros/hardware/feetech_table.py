"""Memory of the Feetech STS3215.

Source: Feetech, memory table of the STS and SMS series (magnetic encoder), and the STS3215's data
sheet (12 V: 30 kg cm, stall current 2.7 A). The baud codes 5 to 7 are told otherwise elsewhere;
these are the manufacturer's.
"""

from typing import Any

from lebot_rl_ros.hardware.registers import MIDDLE, STEP, Register, Table

SHARE = 0.001  # of the stall torque
AMPERE = 0.0065
SPEED_UNITS = (50, 1)  # steps/s per count of a speed, by bit 2 of the register phase
SPEED_UNIT_BIT = 2

# Bits of the status register and of every answer's status byte.
VOLTAGE, ENCODER, HEAT, CURRENT, OVERLOAD = 0, 1, 2, 3, 5

DAMPING = 2  # of torque_enable: a brake, no torque of its own
CALIBRATE = 128  # of torque_enable: makes the present position the middle. Never by accident!


def _rom(name: str, address: int, size: int = 1, **more: Any) -> Register:
    return Register(name, address, size, eeprom=True, **more)


def _seen(name: str, address: int, size: int = 1, **more: Any) -> Register:
    return Register(name, address, size, writable=False, **more)


STS3215 = Table(
    'STS3215',
    777,
    (
        _rom('firmware_major', 0, writable=False, initial=3),
        _rom('firmware_minor', 1, writable=False, initial=10),
        _rom('endianness', 2, writable=False),
        _rom('model_number', 3, 2, writable=False, initial=777),
        _rom('id', 5, initial=1, highest=253),
        _rom('baud_rate', 6, highest=7),
        _rom('return_delay', 7, unit='s', scale=2e-6, highest=254),
        _rom('response_level', 8, initial=1, highest=1),  # 0: answers to ping and read alone
        _rom('min_position', 9, 2, unit='rad', scale=STEP, zero=MIDDLE, highest=4095),
        _rom(
            'max_position', 11, 2, unit='rad', scale=STEP, zero=MIDDLE, initial=4095, highest=4095
        ),
        _rom('max_temperature', 13, unit='degC', initial=70, highest=100),
        _rom('max_voltage', 14, unit='V', scale=0.1, initial=140, highest=254),
        _rom('min_voltage', 15, unit='V', scale=0.1, initial=40, highest=254),
        _rom('max_torque', 16, 2, scale=SHARE, initial=1000, highest=1000),
        # Bits: 0 drive phase, 2 speed unit, 3 speed 0 is maximum, 4 multi-turn, 7 feedback phase.
        _rom('phase', 18, initial=12, highest=254),
        _rom('unloading_condition', 19, initial=44, highest=254),  # alarms that cut torque
        _rom('led_alarm_condition', 20, initial=47, highest=254),
        _rom('position_p', 21, initial=32, highest=254),
        _rom('position_d', 22, initial=32, highest=254),
        _rom('position_i', 23, highest=254),
        _rom('min_startup_force', 24, scale=SHARE, initial=16, highest=254),
        _rom('integral_limit', 25, highest=254),
        _rom('dead_zone_forward', 26, unit='rad', scale=STEP, initial=1, highest=32),
        _rom('dead_zone_backward', 27, unit='rad', scale=STEP, initial=1, highest=32),
        _rom('protection_current', 28, 2, unit='A', scale=AMPERE, initial=500, highest=2047),
        _rom('angular_resolution', 30, initial=1, lowest=1, highest=128),
        _rom('offset', 31, 2, unit='rad', scale=STEP, sign_bit=11),
        _rom('operating_mode', 33, highest=3),  # 0 position, 1 speed, 2 PWM, 3 step
        _rom('protective_torque', 34, scale=0.01, initial=20, highest=100),  # after an overload
        _rom('protection_time', 35, unit='s', scale=0.01, initial=200, highest=254),
        _rom('overload_torque', 36, scale=0.01, initial=80, highest=100),
        _rom('speed_p', 37, initial=10, highest=254),
        _rom('overcurrent_time', 38, unit='s', scale=0.01, initial=200, highest=254),
        _rom('speed_i', 39, initial=10, highest=254),
        Register('torque_enable', 40, 1, highest=CALIBRATE),  # 1 on, 2 damping, 128 see above
        Register('acceleration', 41, 1, 'rad/s^2', 100 * STEP, highest=254),  # 0: as it can
        Register('goal_position', 42, 2, 'rad', STEP, MIDDLE, sign_bit=15),
        Register('goal_time', 44, 2, highest=1000),  # as PWM in mode 2
        Register('goal_speed', 46, 2, 'rad/s', STEP, sign_bit=15),  # in steps/s (phase bit 2 set)
        Register('torque_limit', 48, 2, scale=SHARE, initial=1000, highest=1000),
        Register('lock', 55, 1, initial=1, highest=1),  # 0: writes to the EEPROM are kept
        _seen('present_position', 56, 2, unit='rad', scale=STEP, zero=MIDDLE, sign_bit=15),
        _seen('present_speed', 58, 2, unit='rad/s', scale=STEP, sign_bit=15),
        _seen('present_load', 60, 2, scale=SHARE, sign_bit=10),
        _seen('present_voltage', 62, unit='V', scale=0.1, initial=120),
        _seen('present_temperature', 63, unit='degC', initial=25),
        _seen('registered_write', 64),
        _seen('status', 65),
        _seen('moving', 66),
        _seen('present_goal', 67, 2, unit='rad', scale=STEP, zero=MIDDLE, sign_bit=15),
        _seen('present_current', 69, 2, unit='A', scale=AMPERE, sign_bit=15),
        _seen('moving_threshold', 80, initial=1),
        _seen('dts', 81, initial=1),
        _seen('speed_unit', 82, initial=1),
        _seen('hts', 83),
        _seen('max_speed', 84, unit='rad/s', scale=50 * STEP, initial=68),
        _seen('max_acceleration', 85, initial=254),
        _seen('acceleration_factor', 86, initial=1),
    ),
    bauds={
        0: 1_000_000,
        1: 500_000,
        2: 250_000,
        3: 128_000,
        4: 115_200,
        5: 76_800,
        6: 57_600,
        7: 38_400,
    },
    memory=87,
    stall_current=2.7,
)

TABLES = {table.model: table for table in (STS3215,)}

FEEDBACK = STS3215['present_position'].address  # first byte of the block that a read asks for
FEEDBACK_LENGTH = 15  # 56 to 70: position, speed, load, voltage, temperature, status, current
