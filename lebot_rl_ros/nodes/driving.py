"""What every driver of the robot does, simulated or not: take commands, keep limits, tell."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from lebot_rl_ros.control.pacing import CMD_VEL_SLACK, Pace, Pacer, Participant, Tally
from lebot_rl_ros.robot import JointCommand, Robot
from lebot_rl_ros.ros import diagnostics, names, qos
from lebot_rl_ros.ros.convert import JointOrder, to_ns
from lebot_rl_ros.ros.parameters import parameter
from lebot_rl_ros.safety.get_up import GetUpConfig
from lebot_rl_ros.safety.supervisor import Mode, Supervisor, SupervisorConfig

# Whose stamps may hold a driver back, and by how many seconds they may lag.
PARTICIPANTS: dict[str, tuple[type, float]] = {
    names.JOINT_COMMANDS: (JointState, 0.0),
    names.CMD_VEL: (TwistStamped, CMD_VEL_SLACK),
    names.IMU: (Imu, 0.0),
    names.LEARNER_PROGRESS: (Header, 0.0),
    names.RECORDER_PROGRESS: (Header, 0.1),
}


@dataclass(frozen=True)
class DriverParameters:
    """Parameters that all drivers have."""

    robot: str = parameter('lebot', 'name in config/robots, or path of a table')
    real_time_factor: float = parameter(1.0, '0: as fast as it goes')
    lockstep: bool = parameter(False, 'wait for lockstep_topics at every tick')
    lockstep_topics: tuple[str, ...] = parameter((names.JOINT_COMMANDS,), 'whose stamps count')
    lockstep_timeout: float = parameter(1.0, 's of wall time, then the tick is missed')
    wait_for_graph: bool = parameter(True, 'the first tick lasts until lockstep_topics speak')
    wait_for_listeners: int = parameter(0, 'it lasts until so many listen to the state')
    wait_for_monitor: bool = parameter(False, 'it lasts until ground_truth/odom is heard')
    duration: float = parameter(0.0, 's of robot time, then crouch; 0: for ever')
    exit_when_finished: bool = parameter(False, 'end the process after duration, robot down')
    get_up: bool = parameter(False, 'after a fall it gets up by itself, where it can')
    get_up_tries: int = parameter(3, 'after a fall, then it stays down', range=(0, 100))
    realtime_priority: int = parameter(
        0, 'of SCHED_FIFO, 1 to 99; 0, and real_time_factor 0, do not ask for it'
    )

    def __post_init__(self) -> None:
        """Check the values against each other."""
        unknown = [topic for topic in self.lockstep_topics if topic not in PARTICIPANTS]
        if unknown:
            raise ValueError(
                f'lockstep_topics has {unknown}; choices are {", ".join(PARTICIPANTS)}'
            )
        if self.real_time_factor < 0 or (self.real_time_factor == 0 and not self.lockstep):
            raise ValueError(
                f'real_time_factor is {self.real_time_factor}: '
                'give a positive one, or 0 with lockstep: true'
            )


class Driving:
    """The part of a driver that does not care what is driven."""

    def __init__(
        self,
        node: Node,
        robot: Robot,
        config: DriverParameters,
        on_clear: Callable[[], None] = lambda: None,
    ) -> None:
        """Listen to commands and offer the services that a driver offers.

        Args:
            node: the driver.
            robot: what it drives.
            config: its parameters.
            on_clear: called when somebody clears the faults.
        """
        self._log, self.robot, self.config = node.get_logger(), robot, config
        get_up = GetUpConfig(config.get_up, config.get_up_tries)
        self.supervisor = Supervisor(robot, SupervisorConfig(get_up=get_up))
        self._order = JointOrder(robot.joint_names)
        self._command: JointCommand | None = None
        self._rejected = ''
        self.finished = self.changed = False
        self._begin = 0  # ns, the first stamp
        self._answers = Participant(round(PARTICIPANTS[names.JOINT_COMMANDS][1] * 1e9))
        participants = {
            topic: Participant(round(PARTICIPANTS[topic][1] * 1e9))
            for topic in config.lockstep_topics
            if topic != names.JOINT_COMMANDS
        }
        # A recorder is awaited before the first tick; later only where time may wait for it.
        self._at_first = {} if config.lockstep else _without(participants, names.RECORDER_PROGRESS)
        for topic, participant in (participants | self._at_first).items():
            node.create_subscription(
                PARTICIPANTS[topic][0], topic, self._speaker(participant), qos.NEWEST
            )
        node.create_subscription(JointState, names.JOINT_COMMANDS, self._on_command, qos.NEWEST)
        self.pacer = Pacer(
            Pace(
                1.0 / robot.control_rate,
                config.real_time_factor,
                config.lockstep,
                config.lockstep_timeout,
            ),
            {names.JOINT_COMMANDS: self._answers, **participants},
        )
        self.tally, self._cadence = Tally(), diagnostics.Cadence()
        node.create_service(Trigger, names.STOP, self.service(self.supervisor.stop))
        self._on_clear = on_clear
        node.create_service(Trigger, names.CLEAR_FAULTS, self.service(self._clear))
        node.create_service(SetBool, names.SET_TORQUE, self._on_torque)

    @property
    def answered(self) -> bool:
        """Whether a command for the last state has come."""
        return self._answers.answered(self.pacer.stamp)

    @property
    def at_rest(self) -> bool:
        """Whether the run is over and the robot down: nothing moves any more."""
        return self.finished and self.supervisor.mode == Mode.RELAXED

    @property
    def seconds(self) -> float:
        """Robot time since the first stamp."""
        return (self.pacer.stamp - self._begin) / 1e9

    def start(self) -> None:
        """Let time run."""
        self._begin, self.changed = self.pacer.stamp, True
        self.pacer.start()

    def waiting(self, listeners: int, *, watched: bool) -> list[str]:
        """What the first tick still waits for, in words."""
        config, waiting = self.config, []
        if config.wait_for_graph:
            waiting += self.pacer.missing()
            at_first = self._at_first.items()
            waiting += [topic for topic, one in at_first if not one.reached(self.pacer.stamp)]
        if listeners < config.wait_for_listeners:
            waiting.append(f'listeners of the state ({listeners} of {config.wait_for_listeners})')
        if config.wait_for_monitor and not watched:
            waiting.append('a listener of ground_truth/odom')
        return waiting

    def take_command(self) -> JointCommand | None:
        """The newest command, once; a tick begins with it."""
        if not self.finished:
            self.tally.tick(missed=not self.answered)
        self._cadence.tick()
        command, self._command = self._command, None
        return command

    def give_up(self) -> None:
        """No longer wait for who has been silent for too long, and say so."""
        for topic in self.pacer.give_up():
            silence = f'silent for {self.pacer.pace.timeout} s'
            self._log.warning(f'{topic}: {silence}, no longer waited for')

    def told(self, before: Mode, reason: str) -> None:
        """Log a change of the mode."""
        if self.supervisor.mode != before:
            self._log.info(f'{before.name} -> {self.supervisor.mode.name} {reason}')
            self.changed = True

    def end(self) -> None:
        """Tell the robot to crouch once the run's duration is over."""
        if self.config.duration and not self.finished and self.seconds >= self.config.duration:
            self.finished = self.changed = True
            self.supervisor.stop('the run is complete')

    def health(self) -> dict[str, object]:
        """What every driver tells of itself."""
        return {
            'run_s': self.seconds if self.pacer.started else 0.0,
            'begin_s': self._begin / 1e9,
            'rate_hz': self._cadence.rate(),
            **self.tally.values(),
            'mode': self.supervisor.mode.name.lower(),
            'fault': self.supervisor.fault,
            'get_up_tries': self.supervisor.get_up.tries,
            'rejected_commands': self.supervisor.rejected,
            'last_rejection': self._rejected,
            'finished': self.finished,
        }

    def judged(self, values: Mapping[str, object], waiting: list[str]) -> diagnostics.Health:
        """The driver's level and its reason."""
        supervisor = self.supervisor
        if not self.pacer.started:
            return diagnostics.WARN, f'waiting for {", ".join(waiting)}', values
        if supervisor.fault and not self.finished:
            return diagnostics.ERROR, supervisor.fault, values
        if supervisor.mode != Mode.TRACK:
            return diagnostics.WARN, supervisor.reason or supervisor.mode.name.lower(), values
        return diagnostics.OK, 'running', values

    def service(self, answer: Callable[[], str]) -> Any:
        """Callback of a Trigger service that does something and says what."""

        def respond(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            response.success, response.message = True, answer()
            self._log.info(response.message)
            return response

        return respond

    def _clear(self) -> str:
        self._on_clear()
        return self.supervisor.clear_faults()

    def _on_command(self, message: JointState) -> None:
        arrived = time.perf_counter()
        try:
            position = self._order(message.name, message.position)
        except ValueError as error:
            self.supervisor.rejected += 1
            self._rejected = str(error)
            self._log.error(f'joint command refused: {error}', throttle_duration_sec=1.0)
            return
        stamp, pacer = to_ns(message.header.stamp), self.pacer
        if self._answers.speak(stamp) and stamp == pacer.stamp and pacer.started:
            self.tally.answer(arrived - pacer.sent)
        self._command = JointCommand(stamp, position.copy())

    def _on_torque(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = True, self.supervisor.set_torque(request.data)
        return response

    def _speaker(self, participant: Participant) -> Callable[[Any], None]:
        """Callback that tells a participant's stamps; who does not know the time yet sends 0."""

        def hear(message: Any) -> None:
            stamp = to_ns(getattr(message, 'header', message).stamp)
            participant.speak(stamp or self.pacer.stamp)

        return hear


def _without(participants: dict[str, Participant], topic: str) -> dict[str, Participant]:
    """Take one out; returns it, if it was there."""
    return {topic: participants.pop(topic)} if topic in participants else {}
