"""The driver's state machine: who may move the servos, and what happens when nobody speaks.

RELAXED -> STAND_UP -> TRACK <-> HOLD -> CROUCH -> RELAXED; a failure relaxes at once. A fall, too;
where the robot may get up by itself: RELAXED -> GET_UP -> STAND_UP. Pure: no clock, no ROS; the
caller's states carry the time.
"""

import numpy as np

from lebot_rl_ros.robot import JointCommand, Robot, RobotState, rotations
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.safety.get_up import GetUp
from lebot_rl_ros.safety.limits import LimitedTarget, limit_target
from lebot_rl_ros.safety.modes import Decision, Mode, SupervisorConfig
from lebot_rl_ros.safety.way import Way, way_up

STOPPED = 'stop requested'  # by a person
FELL = 'fell'  # how the reason of a fall begins
__all__ = ['Decision', 'Mode', 'Supervisor', 'SupervisorConfig']


class Supervisor:
    """Call :meth:`cycle` once per control period, in the write path of a driver or simulator."""

    def __init__(self, robot: Robot, config: SupervisorConfig | None = None) -> None:
        """Start relaxed.

        Raises:
            ValueError: the robot shall get up by itself, and has no script for it.
        """
        self.robot, self.config = robot, config or SupervisorConfig()
        self.get_up = GetUp(robot, self.config.get_up)
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
        self._way = Way((robot.crouch, robot.crouch), (1.0,))
        self._limited = LimitedTarget(robot.crouch.copy(), np.zeros(len(robot.joints)))

    @property
    def mode(self) -> Mode:
        """What the last cycle did."""
        return self._mode

    @property
    def reason(self) -> str:
        """Why the mode is what it is; empty while tracking."""
        return self._reason

    @property
    def stays_down(self) -> bool:
        """Whether a fall, and nothing else, is latched."""
        return self._limp and self.fault.startswith(FELL)

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
        self.get_up.stands()
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
        self.get_up.stands()
        if position is not None:
            known = np.where(np.isfinite(position), position, self.robot.crouch)
            known = np.clip(known, self.robot.lower, self.robot.upper)
            self._limited = LimitedTarget(known, np.zeros_like(known))

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
                # Who lies cannot hold anything: the next try begins anew.
                safe = Mode.RELAXED if self._mode == Mode.GET_UP else Mode.HOLD
                self._enter(safe, f'the clock jumped by {(now - self._now) / 1e9:.3f} s', now)
                self._heard = now
        self._now = now
        fresh = command is not None and not blind and self._accept(command, now)
        measured = state.joint_position
        if not np.isfinite(measured).all():
            measured = self._limited.position
        within = np.clip(measured, self.robot.lower, self.robot.upper)
        here = LimitedTarget(within, np.zeros_like(within))
        if self._mode == Mode.RELAXED:  # what moves next begins where the joints are
            self._limited = here
        self._judge(state, fresh, jumped)
        if self._mode == Mode.RELAXED:
            self._limited = here
            return Decision(within, False, self._mode, self._reason, False)
        elapsed = (now - self._since) / 1e9
        if self._mode == Mode.TRACK:
            target = self._wanted
        elif self._mode == Mode.HOLD:
            target = self._limited.position
        else:
            target = self._way.at(elapsed + period)
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

    def _judge(self, state: RobotState, fresh: bool, jumped: bool) -> None:
        """Choose the mode of this cycle."""
        now, mode = int(state.stamp), self._mode
        gravity = rotations.gravity_in_body(state.orientation)
        angle = float(rotations.tilt(gravity))
        lies, elapsed = angle > self.robot.fall_tilt, (now - self._since) / 1e9
        trying = mode == Mode.GET_UP and not self.fault and elapsed < self._way.duration
        if lies and mode != Mode.RELAXED and not trying:
            self._fell(gravity, angle, now)
            mode = self._mode
        turning = float(np.abs(state.angular_velocity).max()) > self.config.get_up.still
        if mode == Mode.RELAXED and self.get_up.down and turning:
            self._since = now  # it has not come to rest
        if self._limp or not self._torque_allowed:
            why = self.fault or 'torque is switched off'
            self._enter(Mode.RELAXED, why, now)
        elif self.fault:
            if mode not in (Mode.CROUCH, Mode.RELAXED):
                self._enter(Mode.CROUCH, self.fault, now)
        elif jumped:
            return
        elif fresh and mode in (Mode.RELAXED, Mode.CROUCH):
            self._rise(gravity, angle, now)
        elif fresh and mode == Mode.HOLD:
            self._enter(Mode.TRACK, '', now)
        elif mode in (Mode.TRACK, Mode.HOLD, Mode.STAND_UP, Mode.GET_UP):
            self._judge_silence(now)
        mode = self._mode
        if (now - self._since) / 1e9 < self._way.duration:
            return
        if mode == Mode.STAND_UP:
            self._enter(Mode.TRACK, '', now)
        elif mode == Mode.GET_UP:  # and does not lie any more
            self._enter(Mode.STAND_UP, 'standing up', now)
        elif mode == Mode.CROUCH:
            self._enter(Mode.RELAXED, self._reason, now)

    def _fell(self, gravity: FloatArray, angle: float, now: int) -> None:
        """Take torque off; latched, but where the robot may get up by itself."""
        reason, mode = f'fell: tilted by {np.degrees(angle):.0f} degrees', self._mode
        self.get_up.fell()
        if self.fault:  # stopped, or broken: no fall that just needs a hand
            self.fault = self.fault if self._limp else f'{self.fault}; {reason}'
            self._limp = True
        elif not self.get_up.left or mode == Mode.RELAXED:
            self.fail(self.get_up.words(reason))
        elif mode in (Mode.CROUCH, Mode.GET_UP) or not self._get_up(gravity, now, falling=True):
            self._enter(Mode.RELAXED, reason, now)

    def _get_up(self, gravity: FloatArray, now: int, *, falling: bool) -> bool:
        """Begin the script for how the robot lies or falls; False if there is none."""
        up = self.get_up
        script = up.script(gravity, falling=falling)
        if script is None:
            return False
        up.begins()
        self._enter(Mode.GET_UP, f'getting up, try {up.tries} of {up.config.tries}', now)
        self._way = Way((self._limited.position, *script.poses), script.seconds)
        return True

    def _rise(self, gravity: FloatArray, angle: float, now: int) -> None:
        """Commands have come to a robot that is down: let it stand up, or get up first."""
        up = self.get_up
        lies = up.config.enabled and angle > self.robot.fall_tilt
        if up.down and self._mode == Mode.RELAXED and (now - self._since) / 1e9 < up.config.rest:
            return
        if lies:
            up.fell()  # or was found so
            if not self._get_up(gravity, now, falling=False):
                self._fell(gravity, angle, now)
        else:
            up.begins()
            self._enter(Mode.STAND_UP, 'standing up', now)

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
            self._since, start = now, self._limited.position
            if mode == Mode.STAND_UP:  # from a crouch that was broken off, legs still carry it
                astray = np.inf if self._mode == Mode.CROUCH else self.config.astray
                self._way = way_up(self.robot, start, astray, self.config.stand_up)
            elif mode == Mode.CROUCH:
                self._way = Way((start, self.robot.crouch), (self.config.crouch,))
            elif mode == Mode.TRACK:
                self.get_up.stands()
        self._mode, self._reason = mode, reason
