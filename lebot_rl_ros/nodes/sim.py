"""The robot, simulated: publishes what a robot's drivers would, and takes the same commands."""

from dataclasses import dataclass

from rclpy.executors import Executor
from rclpy.node import Node
from std_srvs.srv import Trigger

from lebot_rl_ros.control.pacing import RESEND
from lebot_rl_ros.nodes.driving import DriverParameters, Driving
from lebot_rl_ros.robot import JointCommand, load_robot, rotations
from lebot_rl_ros.robot.servos import with_servos
from lebot_rl_ros.ros import diagnostics, names
from lebot_rl_ros.ros.camera import CameraPublisher
from lebot_rl_ros.ros.driver_topics import ImuTopic, JointTopics, WorldTopics, watched
from lebot_rl_ros.ros.parameters import declare, parameter
from lebot_rl_ros.ros.realtime import ask_for_realtime
from lebot_rl_ros.ros.spin import Stop, run
from lebot_rl_ros.safety.supervisor import Mode
from lebot_rl_ros.sim.fault_text import parse_fault
from lebot_rl_ros.sim.faults import inject
from lebot_rl_ros.sim.helper import Helper
from lebot_rl_ros.sim.model import ONBOARD, ONBOARD_FOVY
from lebot_rl_ros.sim.randomisation import NOMINAL, TRAINING
from lebot_rl_ros.sim.simulation import Simulation

PICTURE = (320, 240)  # px
TRUTH = ('position', 'orientation', 'linear_velocity', 'angular_velocity')
REST = 0.005  # s that clock and truth wait for the command, so as not to delay it


@dataclass(frozen=True)
class SimParameters(DriverParameters):
    """Parameters of the node."""

    seed: int = parameter(0, 'of every random draw')
    faults: tuple[str, ...] = parameter((), 'as in slip:rr_hip:0.35@10')
    randomise: bool = parameter(False, 'draw this robot as in training')
    servos: str = parameter('', "file of `lebot identify`; '' is the joint table's servo")
    held: bool = parameter(False, 'the body hangs clamped in the air, legs free')
    camera_rate: float = parameter(0.0, 'Hz of the camera, robot time; 0: none')
    headless: bool = parameter(True, 'false opens a window')
    helper: float = parameter(
        6.0,
        's after a fall when the robot walks on because a simulated person put it on its feet: '
        'where get_up is true and it stays down; 0: nobody comes',
    )


class SimNode(Node):
    """MuJoCo behind the topics of the drivers; the driver of the control loop's clock."""

    def __init__(self) -> None:
        """Declare, build, advertise; time does not run yet."""
        super().__init__('sim')
        self.config = config = declare(self, SimParameters)
        self.robot = robot = with_servos(load_robot(config.robot), config.servos)
        self.simulation = Simulation(
            robot,
            seed=config.seed,
            randomisation=TRAINING if config.randomise else NOMINAL,
            held=config.held,
        )
        self._faults = sorted(
            (parse_fault(text, robot.joint_names) for text in config.faults), key=lambda f: f.time
        )
        self._joints = JointTopics(self, robot, Mode._member_names_)
        self._imu, self._world = ImuTopic(self, robot), WorldTopics(self, robot)
        self._driving = Driving(self, robot, config)
        self._pacer, self._supervisor = self._driving.pacer, self._driving.supervisor
        self.create_service(Trigger, names.SIM_RESET, self._driving.service(self._reset))
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self._rest_due = False
        # She lets it go when it tracks, the time of a stand-up later.
        after = max(config.helper - self._supervisor.config.stand_up, 0.0)
        self._helper = Helper(
            self.simulation, 0, after if config.get_up and config.helper else None
        )
        self._reset()
        self._watch()
        # As fast as it goes, it would leave nothing to others on its core.
        self._scheduling = ask_for_realtime(
            config.realtime_priority if config.real_time_factor else 0
        )
        self.get_logger().info(f'{robot.name} lies ready; time begins when the graph is there')

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
        pacer, driving = self._pacer, self._driving
        while not stop and not (self.config.exit_when_finished and driving.at_rest):
            longest = REST if self._rest_due else 0.1
            executor.spin_once(timeout_sec=longest if driving.at_rest else pacer.patience(longest))
            if driving.answered or pacer.elapsed() > REST:
                self._publish_rest()
            if driving.at_rest:
                continue
            if not pacer.started:
                self._try_start()
            elif pacer.due() or (driving.finished and pacer.pace.real_time_factor == 0):
                driving.give_up()
                self._tick()
        self._supervisor.stop('the simulation was stopped')
        for _ in range(round(2 * self.robot.control_rate)):
            if self._supervisor.mode == Mode.RELAXED:
                break
            self._advance(None)
        self._publish_rest()
        self.get_logger().info('robot crouched, torque off')

    def _missing(self) -> list[str]:
        """What time 0 still waits for, in words."""
        listeners = min(self._joints.listeners, self._imu.listeners)
        return self._driving.waiting(listeners, watched=watched(self))

    def _try_start(self) -> None:
        if not self._missing():
            self._driving.start()
        elif self._pacer.elapsed() > RESEND:  # discovery may have lost it
            self._publish_state()

    def _tick(self) -> None:
        driving = self._driving
        self._advance(driving.take_command())
        self._pacer.ticked()
        driving.end()
        if driving.changed:  # people need not wait a second for news
            driving.changed = False
            self._diagnostics.publish()

    def _advance(self, command: JointCommand | None) -> None:
        """One control period: decide, write, step, read, publish."""
        self._publish_rest()  # if nobody answered in time, or nobody is waited for any more
        before, stamp = self._supervisor.mode, int(self._state.stamp)
        decision = self._supervisor.cycle(self._state, command)
        self._driving.told(before, decision.reason)
        while self._faults and self._faults[0].time * 1e9 <= stamp:
            inject(self._faults[0], self.simulation)
            self.get_logger().warning(f'fault injected: {self._faults.pop(0)}')
        self.simulation.set_torque(0, on=decision.torque)
        self._joints.applied(stamp, decision.mode.name, decision.position)
        self._help(stamp)
        self.simulation.step(decision.position[None])
        self._sense()
        self._publish_state()
        if not self._driving.finished:
            gravity = rotations.gravity_in_body(self._truth.orientation[0])
            self._driving.tally.observe(bool(rotations.tilt(gravity) > self.robot.fall_tilt))
        if self._viewer:
            self._viewer.show(self.simulation)
        if self._camera and self._pacer.stamp >= self._picture_due:
            self._picture_due = self._pacer.stamp + round(1e9 / self.config.camera_rate)
            self._camera.publish(self._renderer.draw(self.simulation), self._pacer.stamp)

    def _help(self, stamp: int) -> None:
        """Be the person who puts the robot on its feet where it cannot get up by itself."""
        supervisor = self._supervisor
        comes = self._helper.watch(
            stamp,
            down=supervisor.get_up.down,
            stays_down=supervisor.stays_down and not self._driving.finished,
            moves=supervisor.mode == Mode.TRACK or bool(supervisor.fault),
        )
        if comes:
            supervisor.clear_faults()
            self._driving.changed = True
            self.get_logger().warning(f'the helper puts it on its feet: {self._helper.helped}')

    def _sense(self) -> None:
        states = self.simulation.sense()
        self._state = type(states)(*(getattr(states, name)[0] for name in states.__slots__))
        self._truth = self.simulation.truth()

    def _publish_state(self) -> None:
        """What the control loop waits for; the rest follows when the loop is served."""
        # The IMU goes first, so that it lies ready when joint_states makes the policy act.
        self._imu.publish(self._state)
        self._pacer.send(int(self._state.stamp))
        self._joints.joints(self._state)
        self._rest_due = True

    def _publish_rest(self) -> None:
        """Clock and truth of the newest state, once; nobody in the control loop waits for them."""
        if not self._rest_due:
            return
        self._rest_due = False
        stamp, truth = self._pacer.stamp, self._truth
        self._world.clock(stamp)
        self._world.truth(stamp, *(getattr(truth, name)[0] for name in TRUTH))

    def _reset(self) -> str:
        self.simulation.reset(pose=self.robot.crouch)
        self._supervisor.reset(self.robot.crouch)
        self._helper.let_go()
        self._sense()
        return 'the robot lies crouched at the origin'

    def _health(self) -> diagnostics.Health:
        values = self._driving.health() | {
            'scheduling': self._scheduling,
            'helped': self._helper.helped,
        }
        missing = [] if self._pacer.started else self._missing()
        return self._driving.judged(values, missing)


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(SimNode, args, loop=SimNode.run)


if __name__ == '__main__':
    raise SystemExit(main())
