"""A servo bus by the name of its protocol."""

from collections.abc import Sequence

from lebot_rl_ros.hardware.bus import ServoBus
from lebot_rl_ros.hardware.dynamixel_bus import DynamixelBus
from lebot_rl_ros.hardware.feetech_bus import FeetechBus
from lebot_rl_ros.hardware.wire import Wire

PROTOCOLS: dict[str, type[FeetechBus] | type[DynamixelBus]] = {
    'feetech': FeetechBus,
    'dynamixel': DynamixelBus,
}


def open_bus(
    protocol: str,
    port: str,
    baud: int,
    ids: Sequence[int],
    *,
    period: float = 0.02,
    slack: float | None = None,
) -> ServoBus:
    """Open a port and put the bus on it.

    Args:
        protocol: feetech or dynamixel.
        port: path of the serial port, best by id.
        baud: of the bus.
        ids: of the servos, in the robot's order.
        period: s of a control tick, which a read may not exceed with its retry.
        slack: s that answers may be late for; None: what the adapter behind the port needs.

    Raises:
        ValueError: no such protocol.
        WireLost: the port is not there, is busy, or may not be opened; it says what to do.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f'bus is {protocol!r}; choices are {", ".join(PROTOCOLS)}')
    return PROTOCOLS[protocol](Wire(port, baud), ids, period=period, slack=slack)
