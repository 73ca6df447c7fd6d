"""The travel of a joint, found by slow and weak moves against its end stops.

For a legged robot on a stand, legs hanging free. One joint has torque at a time, little of it. All
others are limp, so that what is in the way gives way: nothing is caught between two driven links.
However a procedure ends, torque is off after it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from lebot_rl_ros.hardware.bus import Alarm, ServoBus
from lebot_rl_ros.hardware.joints import WRAP_MARGIN
from lebot_rl_ros.robot import Robot

MISSED = 5  # reads in a row without an answer, then it is given up
EDGE = float(np.pi - WRAP_MARGIN)  # rad of the servo, beyond which its angle may jump
REACHED = 0.05  # rad from a goal; weak servos do not come nearer against a leg's weight
SHORTEST = 0.2  # rad; what stops sooner has not moved

Say = Callable[[str], None]


class CalibrationError(ValueError):
    """A procedure could not go on; the message has the joint and what to do."""


@dataclass(frozen=True)
class Gentle:
    """How a joint is moved against its end stops."""

    speed: float = 0.5  # rad/s
    torque: float = 0.3  # share of the stall torque
    lead: float = 0.15  # rad that the goal may be ahead of the joint
    still: float = 0.01  # rad; a joint that moves less within `patience` has stopped
    patience: float = 0.4  # s
    back_off: float = 0.1  # rad, away from a stop, so that no gear stays under load


def find_travel(
    bus: ServoBus,
    robot: Robot,
    joint: str,
    *,
    say: Say,
    gentle: Gentle | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[float, float]:
    """Move one joint to both ends of its travel and back to where it was.

    Args:
        bus: of all servos of the robot.
        robot: whose joint it is.
        joint: name.
        say: told what happens.
        gentle: how it is moved.
        pause: waits for so many s, once per control period.

    Returns:
        Lowest and highest angle of the *servo*, rad.

    Raises:
        CalibrationError: the travel crosses the wrap-around of the servo's angle, or the servo
            does not answer, raises an alarm, or will not be slow and weak.
        WireLost: the port is gone.
    """
    with limp_after(bus, robot, [joint]):
        mover = _Mover(bus, robot, joint, gentle or Gentle(), pause)
        start = mover.begin()
        ends = []
        for direction, word in ((-1, 'lower'), (1, 'upper')):
            say(f'{joint}: looking for the {word} end of the servo')
            end = mover.push(direction)
            say(f'{joint}: stops at {np.degrees(end):.1f} degrees of the servo')
            ends.append(end)
            mover.go(end - direction * mover.gentle.back_off)
        mover.go(start)
    if ends[1] - ends[0] < SHORTEST:
        raise CalibrationError(
            f'{joint}: moved by {np.degrees(ends[1] - ends[0]):.1f} degrees only; is something in '
            'its way, or its servo without strength?'
        )
    return ends[0], ends[1]


@contextmanager
def limp_after(bus: ServoBus, robot: Robot, joints: Sequence[str]) -> Iterator[None]:
    """Torque off after it, for all; then full speed and strength for these. Also after Ctrl-C."""
    try:
        yield
    finally:
        try:
            bus.set_torque(False)
        finally:
            bus.set_limits(None, None, [bus.ids[robot.joint_names.index(j)] for j in joints])


class _Mover:
    """One joint under way; one read and one goal per control period."""

    def __init__(
        self,
        bus: ServoBus,
        robot: Robot,
        joint: str,
        gentle: Gentle,
        pause: Callable[[float], None],
    ) -> None:
        self.gentle = gentle
        self._bus, self._joint, self._pause = bus, joint, pause
        self._row = robot.joint_names.index(joint)
        self._period = 1.0 / robot.control_rate
        self._goal = self._position = 0.0
        self._others = np.zeros(len(robot.joints))

    def begin(self) -> float:
        """Give torque to this joint alone, where it is; returns its angle."""
        bus, id = self._bus, self._bus.ids[self._row]
        bus.set_torque(False)
        if not bus.set_limits(self.gentle.speed, self.gentle.torque, [id]):
            raise CalibrationError(f'{self._joint}: servo {id} did not confirm its limits')
        self._look()
        self._goal = self._position
        self._write()
        bus.set_torque(True, [id])
        return self._position

    def push(self, direction: int) -> float:
        """Go on in one direction until it does not follow; returns where that is."""
        gentle = self.gentle
        recent: deque[float] = deque(maxlen=max(round(gentle.patience / self._period), 2))
        for _ in range(round(4 * np.pi / (gentle.speed * self._period))):
            ahead = self._goal + direction * gentle.speed * self._period
            self._tick(
                direction * min(direction * ahead, direction * self._position + gentle.lead)
            )
            if abs(self._position) > EDGE:
                raise CalibrationError(
                    f'{self._joint}: no end of its travel up to '
                    f'{np.degrees(self._position):.0f} degrees of the servo, whose angle jumps at '
                    '180; remount the horn, or set the offset of the servo, so that the middle '
                    'of the travel is near 0'
                )
            recent.append(self._position)
            stopped = len(recent) == recent.maxlen and np.ptp(recent) < gentle.still
            if stopped and abs(self._goal - self._position) > gentle.lead / 2:
                return self._position
        raise CalibrationError(f'{self._joint}: neither gets anywhere nor stops')

    def go(self, target: float) -> None:
        """Go to an angle; if something is in the way, only as far as that."""
        step, patience = self.gentle.speed * self._period, round(1.0 / self._period)
        while abs(target - self._goal) > 1e-9:
            self._tick(self._goal + float(np.clip(target - self._goal, -step, step)))
        while abs(target - self._position) > REACHED and patience:
            self._tick(target)
            patience -= 1

    def _tick(self, goal: float) -> None:
        self._goal = float(np.clip(goal, -np.pi + 0.01, np.pi - 0.01))
        self._write()
        self._pause(self._period)
        self._look()

    def _write(self) -> None:
        """All goals go out together; the others are where those servos are, without torque."""
        goals = self._others.copy()
        goals[self._row] = self._goal
        self._bus.write_goals(goals)

    def _look(self) -> None:
        for _ in range(MISSED):
            feedback = self._bus.read()
            if not feedback.missed[self._row]:
                break
        else:
            raise CalibrationError(
                f'{self._joint}: servo {self._bus.ids[self._row]} does not answer'
            )
        if feedback.alarm[self._row]:
            alarm = Alarm(int(feedback.alarm[self._row]))
            raise CalibrationError(f'{self._joint}: the servo raised an alarm, {alarm!r}')
        self._position = float(feedback.position[self._row])
        known = np.isfinite(feedback.position)
        self._others = np.where(known, feedback.position, 0.0)
