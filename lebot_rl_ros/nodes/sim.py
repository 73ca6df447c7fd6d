"""The robot, simulated: publishes what a robot's drivers would, and takes the same commands."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from geometry_msgs.msg import TwistStamped
from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from lebot_rl_ros.robot import JointCommand, load_robot, rotations
from lebot_rl_ros.ros import diagnostics, names, qos
from lebot_rl_ros.ros.camera import CameraPublisher
from lebot_rl_ros.ros.convert import JointOrder, to_ns
from lebot_rl_ros.ros.driver_topics import DriverTopics
from lebot_rl_ros.ros.parameters import declare
from lebot_rl_ros.ros.realtime import ask_for_realtime
from lebot_rl_ros.ros.spin import Stop, run
from lebot_rl_ros.safety.supervisor import Mode, Supervisor
from lebot_rl_ros.sim.fault_text import parse_fault
from lebot_rl_ros.sim.faults import inject
from lebot_rl_ros.sim.model import ONBOARD, ONBOARD_FOVY
from lebot_rl_ros.sim.pacing import RESEND, Pace, Pacer, Participant, Tally
from lebot_rl_ros.sim.randomisation import NOMINAL, TRAINING
from lebot_rl_ros.sim.simulation import Simulation

PICTURE = (320, 240)  # px
REST = 0.005  # s that clock and truth wait for the command, so as not to delay it
# Whose stamps may hold the simulation back, and by how many seconds they may lag.
PARTICIPANTS: dict[str, tuple[type, float]] = {
    names.JOINT_COMMANDS: (JointState, 0.0),
    names.CMD_VEL: (TwistStamped, 0.2),
}


@dataclass(frozen=True)
class SimParameters:
    """Parameters of the node."""

    robot: str = field(
        default='lebot', metadata={'description': 'name in config/robots, or path of a table'}
    )
    seed: int = field(default=0, metadata={'description': 'of every random draw'})
    real_time_factor: float = field(default=1.0, metadata={'description': '0: as fast as it goes'})
    lockstep: bool = field(
        default=False, metadata={'description': 'wait for lockstep_topics at every tick'}
    )
    lockstep_topics: tuple[str, ...] = field(default=(names.JOINT_COMMANDS,))
    lockstep_timeout: float = field(
        default=1.0, metadata={'description': 's of wall time, then the tick is missed'}
    )
    wait_for_graph: bool = field(
        default=True, metadata={'description': 'time 0 lasts until lockstep_topics speak'}
    )
    duration: float = field(
        default=0.0, metadata={'description': 's of simulated time, then crouch; 0: for ever'}
    )
    exit_when_finished: bool = field(
        default=False, metadata={'description': 'end the process after duration, robot down'}
    )
    faults: tuple[str, ...] = field(
        default=(), metadata={'description': 'as in slip:rr_hip:0.35@10'}
    )
    randomise: bool = field(
        default=False, metadata={'description': 'draw this robot as in training'}
    )
    camera_rate: float = field(
        default=0.0, metadata={'description': 'Hz of the camera, robot time; 0: none'}
    )
    wait_for_listeners: int = field(
        default=0, metadata={'description': 'time 0 lasts until so many listen to the state'}
    )
    wait_for_monitor: bool = field(
        default=False, metadata={'description': 'time 0 lasts until ground_truth/odom is heard'}
    )
    realtime_priority: int = field(
        default=0,
        metadata={
            'description': 'of SCHED_FIFO, 1 to 99; 0, and real_time_factor 0, do not ask for it'
        },
    )
    headless: bool = field(default=True, metadata={'description': 'false opens a window'})

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


class SimNode(Node):
    """MuJoCo behind the topics of the drivers; the driver of the control loop's clock."""

    def __init__(self) -> None:
        """Declare, build, advertise; time does not run yet."""
        super().__init__('sim')
        self.config = config = declare(self, SimParameters)
        self.robot = robot = load_robot(config.robot)
        self.simulation = Simulation(
            robot, seed=config.seed, randomisation=TRAINING if config.randomise else NOMINAL
        )
        self._faults = sorted(
            (parse_fault(text, robot.joint_names) for text in config.faults), key=lambda f: f.time
        )
        self._supervisor = Supervisor(robot)
        self._order = JointOrder(robot.joint_names)
        self._command: JointCommand | None = None
        self._topics = DriverTopics(self, robot, Mode._member_names_)
        self._answers = Participant(round(PARTICIPANTS[names.JOINT_COMMANDS][1] * 1e9))
        participants = {
            topic: Participant(round(PARTICIPANTS[topic][1] * 1e9))
            for topic in config.lockstep_topics
            if topic != names.JOINT_COMMANDS
        }
        for topic, participant in participants.items():
            self.create_subscription(
                PARTICIPANTS[topic][0], topic, _speaker(participant), qos.NEWEST
            )
        self.create_subscription(JointState, names.JOINT_COMMANDS, self._on_command, qos.NEWEST)
        self._pacer = Pacer(
            Pace(
                self.simulation.period,
                config.real_time_factor,
                config.lockstep,
                config.lockstep_timeout,
            ),
            {names.JOINT_COMMANDS: self._answers, **participants},
        )
        self._serve()
        self._tally, self._cadence = Tally(), diagnostics.Cadence()
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self._rejected = ''
        self.finished = self._changed = self._rest_due = False
        self._final_pose: list[float] = []
        self._reset()
        self._watch()
        # As fast as it goes, it would leave nothing to others on its core.
        self._scheduling = ask_for_realtime(
            config.realtime_priority if config.real_time_factor else 0
        )
        self.get_logger().info(f'{robot.name} lies ready; time begins when the graph is there')

    def _serve(self) -> None:
        """Offer the services that a driver offers, and the reset."""
        for name, answer in (
            (names.STOP, self._supervisor.stop),
            (names.CLEAR_FAULTS, self._supervisor.clear_faults),
            (names.SIM_RESET, self._reset),
        ):
            self.create_service(Trigger, name, self._service(answer))
        self.create_service(SetBool, names.SET_TORQUE, self._on_torque)

    def _watch(self) -> None:
        """Open the camera and the window, if asked for."""
        self._camera, self._picture_due, self._viewer = None, 0, None
        if self.config.camera_rate > 0:
            from lebot_rl_ros.sim.render import Renderer  # needs OpenGL

            width, height = PICTURE
            self._renderer = Renderer(self.simulation, width=width, height=height, camera=ONBOARD)
            self._camera = CameraPublisher(self, width, height, ONBOARD_FOVY)
        if not self.config.headless:
            from lebot_rl_ros.sim.viewer import Viewer  # needs a display

            self._viewer = Viewer(self.simulation)

    def run(self, executor: Executor, stop: Stop) -> None:
        """Spin until stopped or done; then bring the robot down before the process ends."""
        pacer = self._pacer
        while not stop and not (self.config.exit_when_finished and self._at_rest):
            longest = REST if self._rest_due else 0.1
            executor.spin_once(timeout_sec=longest if self._at_rest else pacer.patience(longest))
            if self._rest_due and (self._answered or pacer.elapsed() > REST):
                self._publish_rest()
            if self._at_rest:
                continue
            if not pacer.started:
                self._try_start()
            elif pacer.due() or (self.finished and pacer.pace.real_time_factor == 0):
                for topic in pacer.give_up():
                    silence = f'silent for {pacer.pace.timeout} s'
                    self.get_logger().warning(f'{topic}: {silence}, no longer waited for')
                self._tick()
        self._supervisor.stop('the simulation was stopped')
        for _ in range(round(2 * self.robot.control_rate)):
            if self._supervisor.mode == Mode.RELAXED:
                break
            self._advance(None)
        self.get_logger().info('robot crouched, torque off')

    @property
    def _at_rest(self) -> bool:
        """Whether the run is over and the robot down: nothing moves any more."""
        return self.finished and self._supervisor.mode == Mode.RELAXED

    @property
    def _answered(self) -> bool:
        """Whether a command for the last state has come."""
        return self._answers.answered(self._pacer.stamp)

    def _missing(self) -> list[str]:
        """What time 0 still waits for, in words."""
        config, waiting = self.config, []
        if config.wait_for_graph:
            waiting += self._pacer.missing()
        listeners = self._topics.listeners
        if listeners < config.wait_for_listeners:
            waiting.append(f'listeners of the state ({listeners} of {config.wait_for_listeners})')
        if config.wait_for_monitor and not self._topics.watched:
            waiting.append('a listener of ground_truth/odom')
        return waiting

    def _try_start(self) -> None:
        if not self._missing():
            self._pacer.start()
        elif self._pacer.elapsed() > RESEND:  # discovery may have lost it
            self._publish_state()

    def _tick(self) -> None:
        if not self.finished:
            self._tally.tick(missed=not self._answered)
        self._cadence.tick()
        self._advance(self._command)
        self._command = None
        self._pacer.ticked()
        end = round(self.config.duration * 1e9)
        if end and not self.finished and self._pacer.stamp >= end:
            self.finished = self._changed = True
            self._final_pose = self._pose()
            self._supervisor.stop('the run is complete')
        if self._changed:  # people need not wait a second for news
            self._changed = False
            self._diagnostics.publish()

    def _advance(self, command: JointCommand | None) -> None:
        """One control period: decide, write, step, read, publish."""
        before, stamp = self._supervisor.mode, int(self._state.stamp)
        decision = self._supervisor.cycle(self._state, command)
        if decision.mode != before:
            self.get_logger().info(f'{before.name} -> {decision.mode.name} {decision.reason}')
            self._changed = True
        while self._faults and self._faults[0].time * 1e9 <= stamp:
            inject(self._faults[0], self.simulation)
            self.get_logger().warning(f'fault injected: {self._faults.pop(0)}')
        self.simulation.set_torque(0, on=decision.torque)
        self._topics.applied(stamp, decision.mode.name, decision.position)
        self.simulation.step(decision.position[None])
        self._sense()
        self._publish_state()
        if not self.finished:
            gravity = rotations.gravity_in_body(self._truth.orientation[0])
            self._tally.observe(bool(rotations.tilt(gravity) > self.robot.fall_tilt))
        if self._viewer:
            self._viewer.show(self.simulation)
        if self._camera and self._pacer.stamp >= self._picture_due:
            self._picture_due = self._pacer.stamp + round(1e9 / self.config.camera_rate)
            self._camera.publish(self._renderer.draw(self.simulation), self._pacer.stamp)

    def _sense(self) -> None:
        states = self.simulation.sense()
        self._state = type(states)(*(getattr(states, name)[0] for name in states.__slots__))
        self._truth = self.simulation.truth()

    def _publish_state(self) -> None:
        """What the control loop waits for; the rest follows when the loop is served."""
        # The IMU goes first, so that it lies ready when joint_states makes the policy act.
        self._topics.imu(self._state)
        self._pacer.send(int(self._state.stamp))
        self._topics.joints(self._state)
        self._rest_due = True

    def _publish_rest(self) -> None:
        """Clock and truth, which nobody in the control loop waits for."""
        self._rest_due = False
        stamp, truth = self._pacer.stamp, self._truth
        self._topics.clock(stamp)
        self._topics.truth(
            stamp,
            truth.position[0],
            truth.orientation[0],
            truth.linear_velocity[0],
            truth.angular_velocity[0],
        )

    def _on_command(self, message: JointState) -> None:
        arrived = time.perf_counter()
        try:
            position = self._order(message.name, message.position)
        except ValueError as error:
            self._supervisor.rejected += 1
            self._rejected = str(error)
            self.get_logger().error(f'joint command refused: {error}', throttle_duration_sec=1.0)
            return
        stamp, pacer = to_ns(message.header.stamp), self._pacer
        if self._answers.speak(stamp) and stamp == pacer.stamp and pacer.started:
            self._tally.answer(arrived - pacer.sent)
        self._command = JointCommand(stamp, position.copy())

    def _pose(self) -> list[float]:
        """x, y, z (m) and yaw (rad)."""
        yaw = float(rotations.yaw(self._truth.orientation[0]))
        return [*self._truth.position[0].tolist(), yaw]

    def _reset(self) -> str:
        self.simulation.reset(pose=self.robot.crouch)
        self._supervisor.reset(self.robot.crouch)
        self._sense()
        return 'the robot lies crouched at the origin'

    def _service(self, answer: Callable[[], str]) -> Any:
        def respond(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            response.success, response.message = True, answer()
            self.get_logger().info(response.message)
            return response

        return respond

    def _on_torque(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = True, self._supervisor.set_torque(request.data)
        return response

    def _health(self) -> diagnostics.Health:
        supervisor = self._supervisor
        values = {
            'sim_s': int(self._state.stamp) / 1e9,
            'rate_hz': self._cadence.rate(),
            **self._tally.values(),
            'mode': supervisor.mode.name.lower(),
            'fault': supervisor.fault,
            'rejected_commands': supervisor.rejected,
            'last_rejection': self._rejected,
            'pose': self._final_pose or self._pose(),
            'finished': self.finished,
            'scheduling': self._scheduling,
        }
        if not self._pacer.started:
            return diagnostics.WARN, f'waiting for {", ".join(self._missing())}', values
        if supervisor.fault and not self.finished:
            return diagnostics.ERROR, supervisor.fault, values
        if supervisor.mode != Mode.TRACK:
            return diagnostics.WARN, supervisor.reason or supervisor.mode.name.lower(), values
        return diagnostics.OK, 'running', values


def _speaker(participant: Participant) -> Callable[[Any], None]:
    """Callback that tells a participant's stamps."""

    def hear(message: Any) -> None:
        participant.speak(to_ns(message.header.stamp))

    return hear


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(SimNode, args, loop=SimNode.run)


if __name__ == '__main__':
    raise SystemExit(main())
