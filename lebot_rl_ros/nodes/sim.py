"""The robot, simulated: publishes what a robot's drivers would, and takes the same commands."""

import time
from dataclasses import dataclass, field
from typing import Any

from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.executors import Executor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState
from std_srvs.srv import SetBool, Trigger

from lebot_rl_ros.robot import JointCommand, load_robot, rotations
from lebot_rl_ros.ros import diagnostics, names, qos
from lebot_rl_ros.ros.camera import CameraPublisher
from lebot_rl_ros.ros.convert import (
    ImuMessage,
    JointMessage,
    JointOrder,
    OdometryMessage,
    set_stamp,
    to_ns,
)
from lebot_rl_ros.ros.parameters import declare
from lebot_rl_ros.ros.spin import Stop, run
from lebot_rl_ros.safety.supervisor import Mode, Supervisor
from lebot_rl_ros.sim.fault_text import parse_fault
from lebot_rl_ros.sim.faults import inject
from lebot_rl_ros.sim.model import ONBOARD, ONBOARD_FOVY
from lebot_rl_ros.sim.pacing import Participant, Tally
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
        self._joints = JointMessage(robot.joint_names, full=True)
        self._applied = {
            mode: JointMessage(robot.joint_names, frame_id=mode.name.lower()) for mode in Mode
        }
        self._imu, self._odom = ImuMessage(robot.imu_link), OdometryMessage(robot.base_link)
        self._clock_message = Clock()
        self._participants = {
            topic: Participant(round(PARTICIPANTS[topic][1] * 1e9))
            for topic in config.lockstep_topics
        }
        self._joints_publisher = self.create_publisher(JointState, names.JOINT_STATES, qos.EVERY)
        self._publish_joints = self._joints_publisher.publish
        imu_publisher = self.create_publisher(Imu, names.IMU, qos.EVERY)
        self._publish_imu = imu_publisher.publish
        self._state_publishers = (self._joints_publisher, imu_publisher)
        self._publish_applied = self.create_publisher(
            JointState, names.JOINT_COMMANDS_APPLIED, qos.EVERY
        ).publish
        self._truth_publisher = self.create_publisher(Odometry, names.GROUND_TRUTH, qos.EVERY)
        self._publish_odom = self._truth_publisher.publish
        self._publish_clock = self.create_publisher(Clock, names.CLOCK, qos.OFFER).publish
        self.create_subscription(JointState, names.JOINT_COMMANDS, self._on_command, qos.NEWEST)
        for topic in config.lockstep_topics:
            if topic != names.JOINT_COMMANDS:
                self.create_subscription(
                    PARTICIPANTS[topic][0], topic, self._on_participant(topic), qos.NEWEST
                )
        for name, answer in (
            (names.STOP, self._supervisor.stop),
            (names.CLEAR_FAULTS, self._supervisor.clear_faults),
            (names.SIM_RESET, self._reset),
        ):
            self.create_service(Trigger, name, self._service(answer))
        self.create_service(SetBool, names.SET_TORQUE, self._on_torque)
        self._tally = Tally(robot.control_period_ns)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self._cadence = diagnostics.Cadence()
        self._rejected = ''
        self._reset()
        self._deadline = time.perf_counter()
        self._sent = 0.0
        self._started = False
        self.finished = self._changed = self._rest_due = False
        self._final_pose: list[float] = []
        self._camera, self._picture_due = None, 0
        if config.camera_rate > 0:
            from lebot_rl_ros.sim.render import Renderer  # needs OpenGL

            width, height = PICTURE
            self._renderer = Renderer(self.simulation, width=width, height=height, camera=ONBOARD)
            self._camera = CameraPublisher(self, width, height, ONBOARD_FOVY)
        self._viewer = None
        if not config.headless:
            from lebot_rl_ros.sim.viewer import Viewer  # needs a display

            self._viewer = Viewer(self.simulation)

    def run(self, executor: Executor, stop: Stop) -> None:
        """Spin until stopped or done; then bring the robot down before the process ends."""
        while not stop:
            executor.spin_once(timeout_sec=self._patience())
            if self._rest_due and (self._answered or time.perf_counter() - self._sent > REST):
                self._publish_rest()
            if self._ready():
                self._tick()
                if self.config.exit_when_finished and self._at_rest:
                    break
        self._supervisor.stop('the simulation was stopped')
        for _ in range(round(2 * self.robot.control_rate)):
            if self._supervisor.mode == Mode.RELAXED:
                break
            self._advance(None)
        self.get_logger().info('robot crouched, torque off')

    def _patience(self) -> float:
        """Seconds until something is due by itself."""
        if not self._started or self._at_rest:
            return 0.05
        late_at = self._sent + self.config.lockstep_timeout
        due = (
            self._deadline
            if self._arrived or not self.config.lockstep
            else max(late_at, self._deadline)
        )
        if self._rest_due:
            due = min(due, self._sent + REST)
        return min(max(due - time.perf_counter(), 0.0), 0.1)

    @property
    def _at_rest(self) -> bool:
        """Whether the run is over and the robot down: nothing moves any more."""
        return self.finished and self._supervisor.mode == Mode.RELAXED

    @property
    def _answered(self) -> bool:
        """Whether a command for the last state has come."""
        return self._participants[names.JOINT_COMMANDS].answered(self._state_ns)

    @property
    def _arrived(self) -> bool:
        """Whether all whom the simulation waits for have answered the last state."""
        return all(
            participant.reached(self._state_ns) for participant in self._participants.values()
        )

    def _missing(self) -> list[str]:
        """What time 0 still waits for, in words."""
        config = self.config
        waiting = []
        if config.wait_for_graph:
            waiting += [t for t, p in self._participants.items() if not p.reached(self._state_ns)]
        listeners = min(p.get_subscription_count() for p in self._state_publishers)
        if listeners < config.wait_for_listeners:
            waiting.append(
                f'listeners of joint_states ({listeners} of {config.wait_for_listeners})'
            )
        if config.wait_for_monitor and not self._truth_publisher.get_subscription_count():
            waiting.append('a listener of ground_truth/odom')
        return waiting

    def _ready(self) -> bool:
        if self._at_rest:
            return False
        now = time.perf_counter()
        if not self._started:
            if not self._missing():
                self._started, self._deadline = True, now
                return True
            if now - self._sent > 0.05:  # discovery may have lost it
                self._publish_state()
            return False
        if now < self._deadline:
            return False
        if not self.config.lockstep or self._arrived or self.finished:
            return True
        if now - self._sent > self.config.lockstep_timeout:
            for topic, participant in self._participants.items():
                if participant.give_up(self._state_ns):
                    silence = f'silent for {self.config.lockstep_timeout} s'
                    self.get_logger().warning(f'{topic}: {silence}, no longer waited for')
            return True
        return False

    def _tick(self) -> None:
        if not self.finished:
            self._tally.tick(missed=not self._answered)
        self._cadence.tick()
        self._advance(self._command)
        self._command = None
        factor = self.config.real_time_factor
        if factor:
            # A late tick delays the ones after it, as the cycle of a bus does; it is not made up
            # for in a burst.
            self._deadline = max(
                self._deadline + self.simulation.period / factor, time.perf_counter() - 0.01
            )
        if (
            not self.finished
            and self.config.duration
            and self._state_ns >= round(self.config.duration * 1e9)
        ):
            self.finished = True
            self._final_pose = self._pose()
            self._supervisor.stop('the run is complete')
            self._changed = True
        if self._changed:  # people need not wait a second for news
            self._changed = False
            self._diagnostics.publish()

    def _advance(self, command: JointCommand | None) -> None:
        """One control period: decide, write, step, read, publish."""
        before, stamp = self._supervisor.mode, self._state_ns
        decision = self._supervisor.cycle(self._state, command)
        if decision.mode != before:
            self.get_logger().info(f'{before.name} -> {decision.mode.name} {decision.reason}')
            self._changed = True
        while self._faults and self._faults[0].time * 1e9 <= stamp:
            inject(self._faults[0], self.simulation)
            self.get_logger().warning(f'fault injected: {self._faults.pop(0)}')
        self.simulation.set_torque(0, on=decision.torque)
        applied = self._applied[decision.mode]
        applied.stamp(stamp)
        applied.position[:] = decision.position
        self._publish_applied(applied.serialized())
        self.simulation.step(decision.position[None])
        self._sense()
        self._publish_state()
        if not self.finished:
            gravity = rotations.gravity_in_body(self._truth.orientation[0])
            self._tally.observe(bool(rotations.tilt(gravity) > self.robot.fall_tilt))
        if self._viewer:
            self._viewer.show(self.simulation)
        if self._camera and self._state_ns >= self._picture_due:
            self._picture_due = self._state_ns + round(1e9 / self.config.camera_rate)
            self._camera.publish(self._renderer.draw(self.simulation), self._state_ns)

    def _sense(self) -> None:
        states = self.simulation.sense()
        self._state = type(states)(*(getattr(states, name)[0] for name in states.__slots__))
        self._state_ns = int(self._state.stamp)
        self._truth = self.simulation.truth()

    def _publish_state(self) -> None:
        """What the control loop waits for; the rest follows when the loop is served."""
        state = self._state
        self._imu.stamp(self._state_ns)
        self._imu.write(state)
        self._joints.stamp(self._state_ns)
        self._joints.position[:] = state.joint_position
        self._joints.velocity[:] = state.joint_velocity
        self._joints.effort[:] = state.joint_effort
        # The IMU goes first, so that it lies ready when joint_states makes the policy act.
        self._publish_imu(self._imu.serialized())
        self._sent = time.perf_counter()
        self._publish_joints(self._joints.serialized())
        self._rest_due = True

    def _publish_rest(self) -> None:
        """Clock and truth, which nobody in the control loop waits for."""
        self._rest_due = False
        set_stamp(self._clock_message.clock, self._state_ns)
        self._odom.stamp(self._state_ns)
        self._publish_clock(self._clock_message)
        truth = self._truth
        self._odom.write(
            truth.position[0],
            truth.orientation[0],
            truth.linear_velocity[0],
            truth.angular_velocity[0],
        )
        self._publish_odom(self._odom.serialized())

    def _on_command(self, message: JointState) -> None:
        arrived = time.perf_counter()
        try:
            position = self._order(message.name, message.position)
        except ValueError as error:
            self._supervisor.rejected += 1
            self._rejected = str(error)
            self.get_logger().error(f'joint command refused: {error}', throttle_duration_sec=1.0)
            return
        stamp = to_ns(message.header.stamp)
        if (
            self._participants[names.JOINT_COMMANDS].speak(stamp)
            and stamp == self._state_ns
            and self._started
        ):
            self._tally.answer(arrived - self._sent)
        self._command = JointCommand(stamp, position.copy())

    def _on_participant(self, topic: str) -> Any:
        participant = self._participants[topic]
        return lambda message: participant.speak(to_ns(message.header.stamp))

    def _pose(self) -> list[float]:
        """x, y, z (m) and yaw (rad)."""
        return [
            *self._truth.position[0].tolist(),
            float(rotations.yaw(self._truth.orientation[0])),
        ]

    def _reset(self) -> str:
        self.simulation.reset(pose=self.robot.crouch)
        self._supervisor.reset(self.robot.crouch)
        self._sense()
        return 'the robot lies crouched at the origin'

    def _service(self, answer: Any) -> Any:
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
            'sim_s': self._state_ns / 1e9,
            'rate_hz': self._cadence.rate(),
            **self._tally.values(),
            'mode': supervisor.mode.name.lower(),
            'fault': supervisor.fault,
            'rejected_commands': supervisor.rejected,
            'last_rejection': self._rejected,
            'pose': self._final_pose or self._pose(),
            'finished': self.finished,
        }
        if not self._started:
            return diagnostics.WARN, f'waiting for {", ".join(self._missing())}', values
        if supervisor.fault and not self.finished:
            return diagnostics.ERROR, supervisor.fault, values
        if supervisor.mode != Mode.TRACK:
            return diagnostics.WARN, supervisor.reason or supervisor.mode.name.lower(), values
        return diagnostics.OK, 'running', values


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(SimNode, args, loop=SimNode.run)


if __name__ == '__main__':
    raise SystemExit(main())
