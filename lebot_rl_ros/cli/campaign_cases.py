"""The faults of the campaign: what is broken, and what the robot has to do about it."""

from dataclasses import dataclass
from typing import Any

from lebot_rl_ros.ros import names

LAST = 3.0  # s that a fault lasts
WARN, ERROR = 1, 2  # levels on /diagnostics
JOINT, NEIGHBOUR = 'fl_knee', 'fl_hip'

# What the robot may do. It may pass through hold where that is not named: it is harmless, and
# whether three periods of silence or the fifth lost answer come first is a matter of one tick.
WALKS_ON = 'track'
RELAXES = 'track relaxed'
CROUCHES = 'track crouch relaxed'
HOLDS = 'track hold crouch relaxed'


@dataclass(frozen=True)
class Case:
    """One fault, and what is expected of the robot while it lasts and after it."""

    fault: str  # as the emulator is told
    about: str  # for people
    does: str  # modes of the driver in order, while the fault lasts
    within: float = 0.0  # s until the robot is safe; 0: it walks on
    level: int = 0  # on /diagnostics, at least; 0: nothing needs to be told
    words: str = ''  # that are told
    teller: str = 'servo_driver'  # node that tells them
    latched: bool = False  # whether it stays down until the operator clears the fault
    silent: str = ''  # topic on which nothing may come while the fault lasts
    grace: float = 0.1  # s in which it may still tell what it knew before
    may: str = 'hold'  # modes that it may pass through
    instead: str = ''  # what it may do as well: by chance, or with the other kind of servos
    settle: float = 1.5  # s that the operator waits with the wires well; a port is back within 1 s
    stays: bool = False  # whether it must stay down though cleared, as the cause is still there

    @property
    def kind(self) -> str:
        """The fault's kind, as in the grammar."""
        return self.fault.partition(':')[0]

    @property
    def needs_camera(self) -> bool:
        """Whether a camera has to be there."""
        return self.teller == 'camera_driver'


def _servo(fault: str, about: str, words: str, within: float = 0.25) -> Case:
    """A servo that does not answer any more, or none that does: torque off, until cleared."""
    return Case(
        fault, about, RELAXES, within, ERROR, words, latched=True, silent=names.JOINT_STATES
    )


def _alarm(fault: str, about: str, words: str, does: str = CROUCHES, **more: Any) -> Case:
    """What servos complain about and still move with: down slowly, until cleared."""
    return Case(fault, about, does, 0.5, ERROR, words, latched=True, **more)


def _imu(fault: str, about: str, words: str) -> Case:
    """Without the IMU a fall would not be seen: stop, down, and up again when it is back."""
    return Case(fault, about, HOLDS, 0.3, ERROR, words, 'imu_driver', silent=names.IMU)


def _camera(fault: str, about: str, words: str) -> Case:
    """Nothing that walks needs the camera; a picture may be on its way when it stops."""
    return Case(
        fault, about, WALKS_ON, 0.0, ERROR, words, 'camera_driver', silent=names.CAMERA_INFO,
        grace=0.3,
    )  # fmt: skip


CASES = (
    Case('drop:0.05', 'one reply in twenty is lost', WALKS_ON),
    # Three ticks without news of one of eight servos come by chance: it holds for a tick or two.
    Case('drop:0.1', 'one reply in ten is lost', WALKS_ON, LAST, WARN, 'without an answer'),
    # Five answers in a row of one of eight servos are lost now and then.
    Case(
        'drop:0.2', 'one reply in five is lost', WALKS_ON, LAST, WARN, 'without an answer',
        instead=RELAXES,
    ),
    _servo(f'drop:{JOINT}:1', 'all replies of one servo are lost', JOINT),
    _servo(f'late:{JOINT}', 'all replies of one servo come 15 ms late', JOINT),
    Case('corrupt:0.1', 'one reply in ten is damaged', WALKS_ON),
    Case('duplicate:0.1', 'one reply in ten comes twice', WALKS_ON),
    Case('echo', 'requests come back, as on a half-duplex adapter', WALKS_ON),
    _servo(f'mute:{JOINT}', 'one servo loses its power', JOINT),
    _servo(f'clash:{NEIGHBOUR}:{JOINT}', 'a servo answers to the id of another', JOINT),
    _servo('baud', 'all servos talk at another rate', 'without an answer'),
    _servo('unplug:bus', 'the cable of the servos is pulled', 'servo bus lost'),
    _imu('unplug:imu', 'the cable of the IMU is pulled', 'no samples'),
    # Where a servo takes its own torque, as Dynamixels do, the others do not crouch without it.
    _alarm(f'overload:{JOINT}', 'one servo is overloaded', JOINT, instead=RELAXES),
    # It cools from 69 to below the driver's limit of 68 degC in 6 s, from 85 degC in a minute.
    _alarm(f'heat:{JOINT}:69', 'one servo is at 69 degC', JOINT, settle=9.0),
    _alarm(
        f'heat:{JOINT}', 'one servo is at 85 degC, and cools slowly', JOINT, instead=RELAXES,
        stays=True,
    ),
    # Whether the voltage or the lost torque is noticed first depends on when torque is asked for.
    _alarm(
        'brownout', 'the supply drops to 4 V: all servos start anew', '', RELAXES,
        may='hold crouch',
    ),
    _imu('silence:imu', 'the IMU sends nothing', 'no samples'),
    Case(
        'corrupt:imu', 'one frame in ten of the IMU is damaged', WALKS_ON, 0.0, WARN, 'damaged',
        'imu_driver',
    ),
    _camera('freeze:camera', 'the stream of pictures stalls', 'frozen'),
    _camera('unplug:camera', 'the cable of the camera is pulled', 'frozen'),
)  # fmt: skip


def select(kinds: list[str]) -> tuple[Case, ...]:
    """The cases of these kinds; all of them if there are none.

    Raises:
        ValueError: no case is of that kind; the message gives the choices.
    """
    known = list(dict.fromkeys(case.kind for case in CASES))
    known += [case.fault for case in CASES if case.fault not in known]
    for kind in kinds:
        if kind not in known:
            raise ValueError(f'no case {kind!r}; choices are {", ".join(known)}')
    return tuple(case for case in CASES if not kinds or case.kind in kinds or case.fault in kinds)
