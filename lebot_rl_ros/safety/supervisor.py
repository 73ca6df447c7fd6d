"""The driver's state machine: who may move the servos, and what happens when nobody speaks.

RELAXED -> STAND_UP -> TRACK <-> HOLD -> CROUCH -> RELAXED; a failure relaxes at once. Pure: no
clock, no ROS; the caller's states carry the time.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from lebot_rl_ros.robot import JointCommand, Robot, RobotState, rotations
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.safety.limits import LimitedTarget, limit_target

STOPPED = 'stop requested'  # by a person


class Mode(IntEnum):
    """What the driver does; the numbers stand in recorded steps."""

    RELAXED = 0  # no torque
    STAND_UP = 1  # slowly into the nominal pose, from a collapse by way of folded legs
    TRACK = 2  # follows joint commands
    HOLD = 3  # keeps the last target
    CROUCH = 4  # slowly down, then RELAXED


@dataclass(frozen=True)
class SupervisorConfig:
    """Times in seconds."""

    stale_periods: float = 3.0  # no fresh command for this many control periods: HOLD
    silence: float = 0.5  # no fresh command for this long: CROUCH
    stand_up: float = 1.0  # from the crouch; a collapsed robot takes three of these
    crouch: float = 1.0
    astray: float = 0.3  # rad; a joint so far off the way from crouch to stand: it collapsed
    clock_jump: float = 0.5  # larger steps of the state's stamp are not believed


@dataclass(frozen=True, slots=True)
class Decision:
    """What goes to the servos in this cycle."""

    position: FloatArray  # (J,) rad
    torque: bool
    mode: Mode
    reason: str  # why the mode is not TRACK; for people
    limited: bool  # the limits changed the target


class Supervisor:
    """Call :meth:`cycle` once per control period, in the write path of a driver or simulator."""

    def __init__(self, robot: Robot, config: SupervisorConfig | None = None) -> None:
        """Start relaxed."""
        self.robot, self.config = robot, config or SupervisorConfig()
        self.fault = ''  # latched until clear_faults
        self._limp = False  # the fault takes torque off at once; others crouch first
        self.rejected = 0  # commands that could not be used
        self._mode, self._reason = Mode.RELAXED, 'waiting for the first joint command'
        self._torque_allowed = True
        self._blind = ''
        self._now: int | None = None
        self._since = 0
        self._heard: int | None = None
        self._wanted = robot.stand
        self._way: tuple[FloatArray, ...] = (robot.crouch,)  # poses, equally far apart in time
        self._limited = LimitedTarget(robot.crouch.copy(), np.zeros(len(robot.joints)))

    @property
    def mode(self) -> Mode:
        """What the last cycle did."""
        return self._mode

    @property
    def reason(self) -> str:
        """Why the mode is what it is; empty while tracking."""
        return self._reason

    def stop(self, reason: str = STOPPED) -> str:
        """Crouch, then relax, until :meth:`clear_faults`. Works in every mode."""
        if reason == STOPPED and self.fault and STOPPED not in self.fault:
            self.fault = f'{STOPPED}; {self.fault}'  # a person's word stands before what was known
        self.fault = self.fault or reason
        return f'stopping: {self.fault}'

    def fail(self, reason: str) -> str:
        """Take torque off at once, until :meth:`clear_faults`: nothing can be moved safely."""
        if not self._limp:
            self.fault, self._limp = reason, True
        return f'torque is off: {self.fault}'

    def clear_faults(self) -> str:
        """Unlatch the fault; the robot stands up when commands come."""
        cleared, self.fault, self._limp = self.fault, '', False
        return f'cleared: {cleared}' if cleared else 'there was no fault'

    def set_torque(self, on: bool) -> str:
        """Allow or forbid torque. Without it the robot is relaxed at once."""
        self._torque_allowed = on
        return (
            'torque is allowed; the robot stands up when commands come' if on else 'torque is off'
        )

    def reset(self, position: FloatArray | None = None) -> None:
        """Forget the past, as after a simulator's reset; latched faults stay."""
        self._now = self._heard = None
        self._enter(Mode.RELAXED, 'waiting for the first joint command', 0)
        if position is not None:
            crouch = self.robot.crouch
            known = np.where(np.isfinite(position), position, crouch)
            known = np.clip(known, self.robot.lower, self.robot.upper)
            self._limited = LimitedTarget(known, np.zeros_like(crouch))

    def cycle(self, state: RobotState, command: JointCommand | None, blind: str = '') -> Decision:
        """Decide what the servos get now.

        Args:
            state: of one robot, read in this cycle.
            command: what arrived since the last cycle, or None.
            blind: why commands cannot be followed now, as they rest on a state that is not known;
                they count as silence.
        """
        self._blind = blind
        now, period = int(state.stamp), 1.0 / self.robot.control_rate
        jumped = self._now is not None and not 0 < now - self._now <= 1e9 * self.config.clock_jump
        if jumped:
            assert self._now is not None
            # The time that the mode has lasted goes on by one period, however the clock jumps.
            self._since += now - self._now - round(1e9 * period)
            self._heard, command = None, None
            if self._mode != Mode.RELAXED and not self.fault:
                self._enter(Mode.HOLD, f'the clock jumped by {(now - self._now) / 1e9:.3f} s', now)
                self._heard = now
        self._now = now
        fresh = command is not None and not blind and self._accept(command, now)
        measured = state.joint_position
        if not np.isfinite(measured).all():
            measured = self._limited.position
        if self._mode == Mode.RELAXED:  # what moves next begins where the joints are
            self._limited = LimitedTarget(
                np.clip(measured, self.robot.lower, self.robot.upper), np.zeros_like(measured)
            )
        self._judge(state, fresh, jumped)
        elapsed = (now - self._since) / 1e9
        if self._mode == Mode.RELAXED:
            self._limited = LimitedTarget(
                np.clip(measured, self.robot.lower, self.robot.upper), np.zeros_like(measured)
            )
            return Decision(self._limited.position, False, self._mode, self._reason, False)
        if self._mode == Mode.TRACK:
            target = self._wanted
        elif self._mode == Mode.HOLD:
            target = self._limited.position
        else:
            target = self._on_the_way(elapsed + period)
        self._limited = limit_target(self.robot, target, self._limited, period)
        limited = bool(np.abs(target - self._limited.position).max() > 1e-6)
        return Decision(self._limited.position, True, self._mode, self._reason, limited)

    def _on_the_way(self, elapsed: float) -> FloatArray:
        """Where the joints shall be ``elapsed`` s after the beginning; at rest at every pose."""
        last = len(self._way) - 2
        share = elapsed * (last + 1) / self._duration()
        leg = min(int(share), last)
        share = min(share - leg, 1.0)
        start, goal = self._way[leg : leg + 2]
        return start + (goal - start) * share * share * (3 - 2 * share)

    def _duration(self) -> float:
        one = self.config.stand_up if self._mode == Mode.STAND_UP else self.config.crouch
        return one * (len(self._way) - 1)

    def _way_up(self, start: FloatArray) -> tuple[FloatArray, ...]:
        """The poses from ``start`` to the stand.

        Who lost torque in mid-stride has its legs under it in any way, and would tip over if it
        just stretched them, or crouched: it tucks them up first, where they carry nothing.
        """
        crouch, stand, fold = self.robot.crouch, self.robot.stand, self.robot.fold
        up = stand - crouch
        share = np.clip((start - crouch) @ up / max(float(up @ up), 1e-9), 0.0, 1.0)
        if np.abs(start - crouch - share * up).max() <= self.config.astray:
            return (start, stand)
        return (start, fold, crouch, stand)

    def _accept(self, command: JointCommand, now: int) -> bool:
        if (
            command.position.shape != self.robot.stand.shape
            or not np.isfinite(command.position).all()
        ):
            self.rejected += 1
            return False
        self._wanted, self._heard = command.position, now
        return True

    def _judge(self, state: RobotState, fresh: bool, jumped: bool) -> None:
        """Choose the mode of this cycle."""
        now, mode = int(state.stamp), self._mode
        angle = float(rotations.tilt(rotations.gravity_in_body(state.orientation)))
        if angle > self.robot.fall_tilt and mode != Mode.RELAXED:
            self.fail(f'fell: tilted by {np.degrees(angle):.0f} degrees')
        if self._limp or not self._torque_allowed:
            why = self.fault or 'torque is switched off'
            self._enter(Mode.RELAXED, why, now)
        elif self.fault:
            if mode not in (Mode.CROUCH, Mode.RELAXED):
                self._enter(Mode.CROUCH, self.fault, now)
        elif jumped:
            return
        elif fresh and mode in (Mode.RELAXED, Mode.CROUCH):
            self._enter(Mode.STAND_UP, 'standing up', now)
        elif fresh and mode == Mode.HOLD:
            self._enter(Mode.TRACK, '', now)
        elif mode in (Mode.TRACK, Mode.HOLD, Mode.STAND_UP):
            self._judge_silence(now)
        mode = self._mode
        elapsed = (now - self._since) / 1e9
        if mode == Mode.STAND_UP and elapsed >= self._duration():
            self._enter(Mode.TRACK, '', now)
        elif mode == Mode.CROUCH and elapsed >= self._duration():
            self._enter(Mode.RELAXED, self._reason, now)

    def _judge_silence(self, now: int) -> None:
        quiet = (now - (self._since if self._heard is None else self._heard)) / 1e9
        why = self._blind or f'no joint command for {quiet:.2f} s'
        if quiet >= self.config.silence:
            self._enter(Mode.CROUCH, why, now)
        elif (
            quiet * self.robot.control_rate > self.config.stale_periods
            and self._mode == Mode.TRACK
        ):
            self._enter(Mode.HOLD, why, now)

    def _enter(self, mode: Mode, reason: str, now: int) -> None:
        if mode == self._mode and reason == self._reason:
            return
        if mode != self._mode:
            self._since = now
            start = self._limited.position
            if mode == Mode.STAND_UP:  # from a crouch that was broken off, legs still carry it
                fell = self._mode == Mode.RELAXED
                self._way = self._way_up(start) if fell else (start, self.robot.stand)
            elif mode == Mode.CROUCH:
                self._way = (start, self.robot.crouch)
        self._mode, self._reason = mode, reason
