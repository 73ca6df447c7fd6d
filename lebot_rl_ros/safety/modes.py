"""What the driver's state machine can do, decides, and is told: its modes, words and times."""

from dataclasses import dataclass, field
from enum import IntEnum

from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.safety.get_up import GetUpConfig


class Mode(IntEnum):
    """What the driver does; the numbers stand in recorded steps."""

    RELAXED = 0  # no torque
    STAND_UP = 1  # slowly into the nominal pose, from a collapse by way of folded legs
    TRACK = 2  # follows joint commands
    HOLD = 3  # keeps the last target
    CROUCH = 4  # slowly down, then RELAXED
    GET_UP = 5  # after a fall, through the poses of a script, then STAND_UP


@dataclass(frozen=True)
class SupervisorConfig:
    """Times in seconds."""

    stale_periods: float = 3.0  # no fresh command for this many control periods: HOLD
    silence: float = 0.5  # no fresh command for this long: CROUCH
    stand_up: float = 1.0  # from the crouch; a collapsed robot takes three of these
    crouch: float = 1.0
    astray: float = 0.3  # rad; a joint so far off the way from crouch to stand: it collapsed
    clock_jump: float = 0.5  # larger steps of the state's stamp are not believed
    get_up: GetUpConfig = field(default_factory=GetUpConfig)


@dataclass(frozen=True, slots=True)
class Decision:
    """What goes to the servos in this cycle."""

    position: FloatArray  # (J,) rad
    torque: bool
    mode: Mode
    reason: str  # why the mode is not TRACK; for people
    limited: bool  # the limits changed the target
