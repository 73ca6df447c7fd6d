"""A bank of emulated servos by the name of its protocol."""

from collections.abc import Sequence

from lebot_rl_ros.hardware.emulation.dynamixel_servos import DynamixelBank
from lebot_rl_ros.hardware.emulation.feetech_servos import FeetechBank
from lebot_rl_ros.hardware.emulation.servos import ServoBank

BANKS: dict[str, type[FeetechBank] | type[DynamixelBank]] = {
    'feetech': FeetechBank,
    'dynamixel': DynamixelBank,
}


def servo_bank(protocol: str, ids: Sequence[int], *, nominal_voltage: float = 7.4) -> ServoBank:
    """Servos of the first model of a protocol: Feetech STS3215, Dynamixel XL430-W250.

    Args:
        protocol: feetech or dynamixel.
        ids: on the bus, in the order of the robot's joints.
        nominal_voltage: V of the full battery.

    Raises:
        ValueError: no such protocol, or the servos are not made for this voltage.
    """
    if protocol not in BANKS:
        raise ValueError(f'servo bus is {protocol!r}; choices are {", ".join(BANKS)}')
    return BANKS[protocol](ids, nominal_voltage=nominal_voltage)
