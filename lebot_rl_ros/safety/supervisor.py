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


class Mode(IntEnum):
    """What the driver does; the numbers stand in recorded steps."""

    RELAXED = 0  # no torque
    STAND_UP = 1  # slowly into the nominal pose
    TRACK = 2  # follows joint commands
    HOLD = 3  # keeps the last target
    CROUCH = 4  # slowly down, then RELAXED


@dataclass(frozen=True)
class SupervisorConfig:
    """Times in seconds."""

    stale_periods: float = 3.0  # no fresh command for this many control periods: HOLD
    silence: float = 0.5  # no fresh command for this long: CROUCH
    stand_up: float = 1.0
    crouch: float = 1.0
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
        self._from = robot.crouch
        self._limited = LimitedTarget(robot.crouch.copy(), np.zeros(len(robot.joints)))

    @property
    def mode(self) -> Mode:
        """What the last cycle did."""
        return self._mode

    @property
    def reason(self) -> str:
        """Why the mode is what it is; empty while tracking."""
        return self._reason

    def stop(self, reason: str = 'stop requested') -> str:
        """Crouch, then relax, until :meth:`clear_faults`. Works in every mode."""
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
        self._judge(state, fresh, jumped, measured)
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
            goal, duration = (
                (self.robot.stand, self.config.stand_up)
                if self._mode == Mode.STAND_UP
                else (self.robot.crouch, self.config.crouch)
            )
            share = min((elapsed + period) / duration, 1.0)
            target = self._from + (goal - self._from) * share * share * (3 - 2 * share)
        self._limited = limit_target(self.robot, target, self._limited, period)
        limited = bool(np.abs(target - self._limited.position).max() > 1e-6)
        return Decision(self._limited.position, True, self._mode, self._reason, limited)

    def _accept(self, command: JointCommand, now: int) -> bool:
        if (
            command.position.shape != self.robot.stand.shape
            or not np.isfinite(command.position).all()
        ):
            self.rejected += 1
            return False
        self._wanted, self._heard = command.position, now
        return True

    def _judge(self, state: RobotState, fresh: bool, jumped: bool, measured: FloatArray) -> None:
        """Choose the mode of this cycle."""
        now, mode, config = int(state.stamp), self._mode, self.config
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
            self._from = measured if mode == Mode.RELAXED else self._limited.position
        elif fresh and mode == Mode.HOLD:
            self._enter(Mode.TRACK, '', now)
        elif mode in (Mode.TRACK, Mode.HOLD, Mode.STAND_UP):
            self._judge_silence(now)
        mode = self._mode
        elapsed = (now - self._since) / 1e9
        if mode == Mode.STAND_UP and elapsed >= config.stand_up:
            self._enter(Mode.TRACK, '', now)
        elif mode == Mode.CROUCH and elapsed >= config.crouch:
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
            self._from = self._limited.position
        self._mode, self._reason = mode, reason
