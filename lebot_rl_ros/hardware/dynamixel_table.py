"""Memory of the Dynamixel XL430-W250 and XL330-M288.

Source: ROBOTIS e-manual, control tables of XL430-W250-T and XL330-M288-T. Both have the same
addresses, but the XL330 measures current where the XL430 estimates load.
"""

import math
from typing import Any

from lebot_rl_ros.hardware.registers import MIDDLE, STEP, Register, Table

SPEED = 0.229 * 2 * math.pi / 60  # rad/s, of 0.229 rev/min
ACCELERATION = 214.577 * 2 * math.pi / 3600  # rad/s^2, of 214.577 rev/min^2
PWM = 1 / 885  # share of full voltage

# Bits of hardware_error_status.
VOLTAGE, HEAT, ENCODER, SHOCK, OVERLOAD = 0, 2, 3, 4, 5

BAUDS = {
    0: 9_600,
    1: 57_600,
    2: 115_200,
    3: 1_000_000,
    4: 2_000_000,
    5: 3_000_000,
    6: 4_000_000,
}


def _rom(name: str, address: int, size: int = 1, **more: Any) -> Register:
    return Register(name, address, size, eeprom=True, **more)


def _seen(name: str, address: int, size: int = 1, **more: Any) -> Register:
    return Register(name, address, size, writable=False, **more)


def _common(
    model: int,
    *,
    max_temperature: int,
    voltage: tuple[int, int, int],  # lowest that may be set, initial minimum, initial maximum
    velocity_limit: tuple[int, int],  # initial, highest
    shutdown: int,
    gains: tuple[int, int, int, int],  # velocity I, velocity P, position D, position P
) -> tuple[Register, ...]:
    lowest, minimum, maximum = voltage
    gain: dict[str, Any] = {'highest': 16383}
    return (
        _rom('model_number', 0, 2, writable=False, initial=model),
        _rom('model_information', 2, 4, writable=False),
        _rom('firmware', 6, writable=False, initial=46),
        _rom('id', 7, initial=1, highest=252),
        _rom('baud_rate', 8, initial=1, highest=6),
        _rom('return_delay', 9, unit='s', scale=2e-6, initial=250, highest=254),
        _rom('drive_mode', 10, highest=13),
        _rom('operating_mode', 11, initial=3, highest=16),  # 1 velocity, 3 position, 16 PWM
        _rom('secondary_id', 12, initial=255),  # above 252: none
        _rom('protocol', 13, initial=2, lowest=1, highest=22),
        _rom('offset', 20, 4, unit='rad', scale=STEP, signed=True),
        _rom('moving_threshold', 24, 4, unit='rad/s', scale=SPEED, initial=10, highest=1023),
        _rom('max_temperature', 31, unit='degC', initial=max_temperature, highest=100),
        _rom(
            'max_voltage',
            32,
            2,
            unit='V',
            scale=0.1,
            initial=maximum,
            lowest=lowest,
            highest=maximum,
        ),
        _rom(
            'min_voltage',
            34,
            2,
            unit='V',
            scale=0.1,
            initial=minimum,
            lowest=lowest,
            highest=maximum,
        ),
        _rom('max_pwm', 36, 2, scale=PWM, initial=885, highest=885),
        _rom(
            'max_speed',
            44,
            4,
            unit='rad/s',
            scale=SPEED,
            initial=velocity_limit[0],
            highest=velocity_limit[1],
        ),
        _rom(
            'max_position', 48, 4, unit='rad', scale=STEP, zero=MIDDLE, initial=4095, highest=4095
        ),
        _rom('min_position', 52, 4, unit='rad', scale=STEP, zero=MIDDLE, highest=4095),
        _rom('startup_configuration', 60, highest=3),
        _rom('shutdown', 63, initial=shutdown),  # alarms that cut torque
        Register('torque_enable', 64, 1, highest=1),
        Register('led', 65, 1, highest=1),
        Register('response_level', 68, 1, initial=2, highest=2),  # 0 ping, 1 and read, 2 all
        _seen('registered_instruction', 69),
        _seen('hardware_error_status', 70),
        Register('velocity_i', 76, 2, initial=gains[0], **gain),
        Register('velocity_p', 78, 2, initial=gains[1], **gain),
        Register('position_d', 80, 2, initial=gains[2], **gain),
        Register('position_i', 82, 2, **gain),
        Register('position_p', 84, 2, initial=gains[3], **gain),
        Register('feedforward_2nd', 88, 2, **gain),
        Register('feedforward_1st', 90, 2, **gain),
        # 0 off; reads as -1 once it bit, and goals are refused until it is 0 again.
        Register('bus_watchdog', 98, 1, 's', 0.02, signed=True, lowest=0, highest=127),
        Register(
            'goal_pwm', 100, 2, scale=PWM, signed=True, initial=885, lowest=-885, highest=885
        ),
        Register('goal_speed', 104, 4, 'rad/s', SPEED, signed=True),
        Register(
            'profile_acceleration', 108, 4, 'rad/s^2', ACCELERATION, highest=32767
        ),  # 0: none
        Register('profile_speed', 112, 4, 'rad/s', SPEED, highest=32767),  # 0: no limit
        Register('goal_position', 116, 4, 'rad', STEP, MIDDLE, signed=True),
        _seen('realtime_tick', 120, 2, unit='s', scale=0.001),
        _seen('moving', 122),
        _seen('moving_status', 123),
        _seen('present_pwm', 124, 2, scale=PWM, signed=True),
        _seen('present_speed', 128, 4, unit='rad/s', scale=SPEED, signed=True),
        _seen('present_position', 132, 4, unit='rad', scale=STEP, zero=MIDDLE, signed=True),
        _seen('speed_trajectory', 136, 4, unit='rad/s', scale=SPEED, signed=True),
        _seen('position_trajectory', 140, 4, unit='rad', scale=STEP, zero=MIDDLE, signed=True),
        _seen('present_voltage', 144, 2, unit='V', scale=0.1),
        _seen('present_temperature', 146, unit='degC', initial=25),
        _seen('backup_ready', 147),
    )


def _indirect(first: int, count: int, addresses: int, data: int, highest: int) -> list[Register]:
    """Registers that stand for others: which one, and its byte."""
    return [
        entry
        for i in range(count)
        for entry in (
            Register(
                f'indirect_address_{first + i}',
                addresses + 2 * i,
                2,
                initial=data + i,
                lowest=64,
                highest=highest,
            ),
            Register(f'indirect_data_{first + i}', data + i, 1),
        )
    ]


XL430 = Table(
    'XL430-W250',
    1060,
    (
        *_common(
            1060,
            max_temperature=72,
            voltage=(60, 60, 140),
            velocity_limit=(265, 1023),
            shutdown=52,
            gains=(1000, 100, 4000, 640),
        ),
        _seen('present_load', 126, 2, scale=0.001, signed=True),
        *_indirect(1, 28, 168, 224, 661),
        *_indirect(29, 28, 578, 634, 661),
    ),
    bauds={**BAUDS, 7: 4_500_000},
    memory=662,
    stall_current=1.4,  # at 12 V
)

XL330 = Table(
    'XL330-M288',
    1200,
    (
        *_common(
            1200,
            max_temperature=70,
            voltage=(31, 35, 70),
            velocity_limit=(445, 2047),
            shutdown=53,
            gains=(1600, 180, 0, 400),
        ),
        _rom('max_current', 38, 2, unit='A', scale=0.001, initial=1750, highest=1750),
        _rom('pwm_slope', 62, initial=140, lowest=1),
        Register(
            'goal_current',
            102,
            2,
            'A',
            0.001,
            signed=True,
            initial=1750,
            lowest=-1750,
            highest=1750,
        ),
        _seen('present_current', 126, 2, unit='A', scale=0.001, signed=True),
        *_indirect(1, 20, 168, 208, 227),
    ),
    bauds=BAUDS,
    memory=228,
    stall_current=1.47,  # at 5 V
)

TABLES = {table.model: table for table in (XL430, XL330)}

FEEDBACK = 126  # first byte of the block that a read asks for
FEEDBACK_LENGTH = 21  # 126 to 146: load or current, speed, position, two trajectories, V, degC
