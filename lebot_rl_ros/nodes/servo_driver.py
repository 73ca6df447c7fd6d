"""The servos of a real robot, or of an emulated one: reads, publishes, takes commands, writes."""

import time
from dataclasses import dataclass
from functools import partial

from rclpy.executors import Executor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from lebot_rl_ros.control.pacing import RESEND
from lebot_rl_ros.hardware.buses import PROTOCOLS, open_bus
from lebot_rl_ros.hardware.calibration import load_calibration
from lebot_rl_ros.hardware.joints import JointMap
from lebot_rl_ros.hardware.servos import Servos
from lebot_rl_ros.hardware.wire import latency_timer_advice
from lebot_rl_ros.nodes.driving import DriverParameters, Driving
from lebot_rl_ros.nodes.servo_senses import ServoSenses
from lebot_rl_ros.nodes.servo_watch import ServoWatch
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros import diagnostics
from lebot_rl_ros.ros.driver_topics import JointTopics, watched
from lebot_rl_ros.ros.parameters import declare, parameter
from lebot_rl_ros.ros.realtime import ask_for_realtime
from lebot_rl_ros.ros.spin import Stop, run
from lebot_rl_ros.safety.health import Health, HealthConfig
from lebot_rl_ros.safety.supervisor import Mode

# An emulated robot that waits for us is never late; the machine that it runs on may be.
LOCKSTEP_SLACK = 0.5  # s


@dataclass(frozen=True)
class ServoDriverParameters(DriverParameters):
    """Parameters of the node; those of HealthConfig stand beside them."""

    wait_for_graph: bool = parameter(False, 'the first tick lasts until lockstep_topics speak')
    realtime_priority: int = parameter(30, 'of SCHED_FIFO, 1 to 99; 0 does not ask for it')
    bus: str = parameter('feetech', 'protocol of the servos: feetech or dynamixel')
    port: str = parameter('', 'serial port, best by id: /dev/serial/by-id/...')
    baud: int = parameter(1_000_000, 'of the bus')
    calibration: str = parameter(
        '', "YAML file; '' is this user's for this robot, if there is one"
    )
    write_by: float = parameter(0.01, 's after a read; the servos are written then at the latest')
    reply_slack: float = parameter(
        0.0, 's that answers may be late for; 0: what the adapter behind the port needs'
    )
    torque_poll: float = parameter(0.2, 's between two looks at the torque registers')
    autostart: bool = parameter(True, 'configure and activate without a manager')

    def __post_init__(self) -> None:
        """Check the values against each other."""
        super().__post_init__()
        if self.bus not in PROTOCOLS:
            raise ValueError(f'bus is {self.bus!r}; choices are {", ".join(PROTOCOLS)}')
        if not self.port:
            raise ValueError("port is '': name the serial port; `lebot bus scan` lists them")


class ServoDriver(LifecycleNode):
    """A tick: read, publish; the command comes, limits; write. The driver is the clock."""

    def __init__(self) -> None:
        """Declare; with ``autostart`` also configure and activate.

        Raises:
            ValueError: robot, calibration or parameters are unfit; nothing was opened.
        """
        super().__init__('servo_driver')
        self.config = declare(self, ServoDriverParameters)
        limits = declare(self, HealthConfig, prefix='limits.')
        self._active = False
        config = self.config
        self.robot = robot = load_robot(config.robot)
        calibration = load_calibration(robot, config.calibration)
        for line in calibration.short_travel(robot):
            self.get_logger().warning(line)
        bus = partial(
            open_bus,
            config.bus,
            config.port,
            config.baud,
            [joint.id for joint in robot.joints],
            period=1.0 / robot.control_rate,
            slack=LOCKSTEP_SLACK if config.lockstep else config.reply_slack or None,
        )
        self.servos = Servos(JointMap(robot, calibration), bus)
        self._driving = Driving(self, robot, config, lambda: self._watch.clear())
        self._pacer, self._supervisor = self._driving.pacer, self._driving.supervisor
        self._watch = ServoWatch(
            self.servos, Health(robot, limits), self._supervisor, config.torque_poll
        )
        self._topics = JointTopics(self, robot, Mode._member_names_)
        self._senses = ServoSenses(self, robot, lockstep=config.lockstep)
        self._written = True
        self.unpublished = 0
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self._scheduling = ask_for_realtime(
            config.realtime_priority if config.real_time_factor else 0
        )
        self.get_logger().info(
            f'{robot.name}: {config.bus} servos on {config.port}, {config.baud} baud'
        )
        if config.autostart:
            self.trigger_configure()
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the past; the port is opened when the driver is active."""
        self._senses.forget()
        self._supervisor.reset(self.robot.crouch)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the port and begin to read; the first command only stands the robot up, slowly."""
        self._supervisor.clear_faults()
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Crouch, torque off; the state is not read any more."""
        self._come_down('deactivated')
        self._active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave the port."""
        self.servos.close()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Crouch, torque off, leave the port; the process goes on until it is interrupted."""
        if self._active:
            self._come_down('shut down')
        self._active = False
        self.servos.close()
        return super().on_shutdown(state)

    def run(self, executor: Executor, stop: Stop) -> None:
        """Drive until stopped or done; then bring the robot down before the process ends."""
        self._executor = executor
        driving, pacer = self._driving, self._pacer
        try:
            while not stop and not (self.config.exit_when_finished and driving.at_rest):
                resting = driving.at_rest or not self._active
                executor.spin_once(timeout_sec=0.1 if resting else self._patience())
                if resting:
                    continue
                if not pacer.started:
                    self._try_start()
                elif not self._written and self._decision_due():
                    driving.give_up()
                    self._write()
                if pacer.started and self._written and self._tick_due():
                    self._read()
            if self._active:
                self._come_down('the driver was stopped')
        finally:
            self.servos.close()
        self.get_logger().info('torque off')

    def _patience(self) -> float:
        """Seconds until something is due by itself."""
        if not self._pacer.started or self._written:
            return self._pacer.patience(0.1)
        return max(self._limit - self._pacer.elapsed(), 0.0)

    @property
    def _limit(self) -> float:
        """Seconds after a read at which commands are no longer waited for."""
        return self.config.lockstep_timeout if self.config.lockstep else self.config.write_by

    def _decision_due(self) -> bool:
        hurry = self._driving.finished and not self.config.real_time_factor
        return hurry or not self._pacer.missing() or self._pacer.elapsed() >= self._limit

    def _tick_due(self) -> bool:
        hurry = self._driving.finished and not self.config.real_time_factor
        return hurry or self._pacer.due()

    def _missing(self) -> list[str]:
        """What the first tick still waits for, in words."""
        missing = [self.servos.lost] if self.servos.lost else []
        if not self.servos.lost and self._senses.readings is None:
            missing.append('an answer of every servo')
        return missing + self._driving.waiting(self._topics.listeners, watched=watched(self))

    def _try_start(self) -> None:
        if not self._missing():
            self._driving.start()
            self._written = False
        elif self._pacer.elapsed() > RESEND:  # discovery may have lost it
            if self.config.lockstep and self._senses.readings is not None:
                self._pacer.send(self._pacer.stamp)
                self._publish()
            else:
                self._read()

    def _read(self) -> None:
        """Read all servos and tell, unless what they said is stale."""
        if self.servos.connect():
            self._opened()
        begin, before = self._senses.now(), self.servos.lost
        readings = self.servos.read()
        if self.servos.lost and not before:
            self.get_logger().error(f'servo bus lost: {self.servos.lost}')
        stamp = self._senses.stamp(begin, self._pacer.stamp, readings is not None)
        if readings is not None:
            self._senses.readings = readings
        self._pacer.send(stamp)
        self._publish(told=readings is not None)
        if not self._pacer.started:
            return
        self._pacer.ticked()
        self._watch.judge(readings)
        self._written = False
        self._driving.end()
        if self._driving.changed:  # people need not wait a second for news
            self._driving.changed = False
            self._diagnostics.publish()

    def _publish(self, told: bool = True) -> None:
        readings = self._senses.readings
        if told and readings is not None and readings.fresh:
            self._topics.joints(self._senses.state(self._pacer.stamp))
        else:
            self.unpublished += 1

    def _write(self) -> None:
        """Decide what the servos get for the state that was read, and send it."""
        before, stamp = self._supervisor.mode, self._pacer.stamp
        state, blind = self._senses.state(stamp), self._senses.blind(stamp)
        decision = self._supervisor.cycle(state, self._driving.take_command(), blind)
        self._driving.told(before, decision.reason)
        self.servos.write(decision.position, decision.torque)
        fallen = self._senses.fallen()
        if fallen is not None and not self._driving.finished:
            self._driving.tally.observe(fallen)
        if not self.servos.lost:
            self._topics.applied(stamp, decision.mode.name, decision.position)
        self._written = True

    def _opened(self) -> None:
        """The port is there, again or for the first time."""
        self._watch.forget()
        self.get_logger().info(f'{self.config.port} is open')
        advice = latency_timer_advice(self.config.port)
        if advice:
            self.get_logger().warning(advice)
        if self.config.lockstep:
            self.servos.read()  # from here on the emulated robot waits for us
            turn = self._executor.spin_once
            self._pacer.send(self._senses.resynchronise(lambda seconds: turn(timeout_sec=seconds)))

    def _come_down(self, reason: str) -> None:
        """Crouch with what time it takes, then torque off."""
        self._supervisor.stop(reason)
        for _ in range(round(2 * self.robot.control_rate)):
            if self._supervisor.mode == Mode.RELAXED or self.servos.lost:
                break
            begin, before = time.monotonic(), self._supervisor.mode
            self._senses.readings = self.servos.read() or self._senses.readings
            self._pacer.send(self._pacer.stamp + self.robot.control_period_ns)
            decision = self._supervisor.cycle(self._senses.state(self._pacer.stamp), None)
            self._driving.told(before, decision.reason)
            self.servos.write(decision.position, decision.torque)
            self._topics.applied(self._pacer.stamp, decision.mode.name, decision.position)
            if self.config.real_time_factor:
                left = 1.0 / self.robot.control_rate - (time.monotonic() - begin)
                time.sleep(max(left, 0.0))
        self.servos.write(self._supervisor.robot.crouch, False)

    def _health(self) -> diagnostics.Health:
        values = self._driving.health() | {
            'port': self.config.port,
            'unpublished': self.unpublished,
            'scheduling': self._scheduling,
            **self._watch.values(),
        }
        missing = [] if self._pacer.started else self._missing()
        level, message, _ = self._driving.judged(values, missing)
        if self._watch.warnings and level != diagnostics.ERROR:
            told = [message] if level != diagnostics.OK else []
            return diagnostics.WARN, '; '.join((*told, *self._watch.warnings)), values
        return level, message, values


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(ServoDriver, args, loop=ServoDriver.run)


if __name__ == '__main__':
    raise SystemExit(main())
