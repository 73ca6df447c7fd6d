"""The robot's devices, emulated at the wire: what the drivers open are its ports."""

import time
from dataclasses import dataclass
from pathlib import Path

from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from lebot_rl_ros.hardware.emulation.camera_feed import CameraFeed
from lebot_rl_ros.hardware.emulation.fault_text import WIRE_FAULTS, WireFault, parse_wire_fault
from lebot_rl_ros.hardware.emulation.robot import EmulatedRobot
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.robot.servos import with_servos
from lebot_rl_ros.ros import diagnostics, names
from lebot_rl_ros.ros.driver_topics import WorldTopics
from lebot_rl_ros.ros.parameters import declare, parameter
from lebot_rl_ros.ros.realtime import ask_for_realtime, share_interpreter
from lebot_rl_ros.ros.spin import Stop, run
from lebot_rl_ros.sim.body import SimulatedBody
from lebot_rl_ros.sim.camera_process import CameraProcess
from lebot_rl_ros.sim.fault_text import Fault, parse_fault

LAST, QUIET = 4.0, 0.3  # s at the end: at most, and of silence on the servo bus
IDLE = 0.05  # s of wall time between two words of a world whose time stands


@dataclass(frozen=True)
class EmulatorParameters:
    """Parameters of the node."""

    robot: str = parameter('lebot', 'name in config/robots, or path of a table')
    bus: str = parameter('feetech', 'protocol of the servos: feetech or dynamixel')
    ports: str = parameter('', 'folder in which the ports appear: servos, imu')
    lockstep: bool = parameter(False, 'the body waits for the driver; else it moves in real time')
    real_time_factor: float = parameter(1.0, '0 sends bytes as fast as they go')
    seed: int = parameter(0, 'of every random draw')
    faults: tuple[str, ...] = parameter((), 'as in slip:rr_hip:0.35@10 or drop:fl_knee:0.2@5-8')
    fault: str = parameter(
        '', "a fault to begin now, as in unplug:bus; 'clear' ends all", writable=True
    )
    randomise: bool = parameter(False, 'draw this robot as in training')
    servos: str = parameter('', "file of `lebot identify`; '' is the joint table's servo")
    held: bool = parameter(False, 'the body hangs clamped in the air, legs free')
    realtime_priority: int = parameter(
        40,
        'of SCHED_FIFO, above the drivers, as hardware is never late; 0, and lockstep, do not ask',
    )
    camera_rate: float = parameter(0.0, 'Hz of the camera; 0: none')
    camera_port: int = parameter(0, 'TCP port of its stream on the loopback; 0: any')

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.ports:
            raise ValueError("ports is '': name the folder in which the ports shall appear")


class EmulatorNode(Node):
    """MuJoCo behind serial ports; says where the robot really is."""

    def __init__(self) -> None:
        """Declare, build, open the ports."""
        super().__init__('emulator')
        self.config = config = declare(self, EmulatorParameters)
        self.robot = robot = with_servos(load_robot(config.robot), config.servos)
        self.body = SimulatedBody(
            robot, seed=config.seed, randomise=config.randomise, held=config.held
        )
        faults = [self._parse(text) for text in config.faults]
        self._of_body = sorted(
            (fault for fault in faults if isinstance(fault, Fault)), key=lambda fault: fault.time
        )
        self.emulated = EmulatedRobot(
            robot,
            self.body,
            Path(config.ports),
            protocol=config.bus,
            lockstep=config.lockstep,
            paced=config.real_time_factor > 0,
            faults=[fault for fault in faults if isinstance(fault, WireFault)],
            seed=config.seed,
            on_tick=self._on_tick,
        )
        self._world = WorldTopics(self, robot)
        self.create_service(Trigger, names.SIM_RESET, self._on_reset)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._camera = None
        if config.camera_rate:
            share_interpreter()  # with the thread that draws
            drawer = CameraProcess(config.robot)
            self._camera = CameraFeed(
                lambda: drawer.draw(self.body.simulation.qpos[0]),
                config.camera_rate,
                self.emulated.faults,
                config.camera_port,
                on_close=drawer.close,
            )
        self._told = time.perf_counter()
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self._scheduling = ask_for_realtime(0 if config.lockstep else config.realtime_priority)
        where = f', camera at {self._camera.url}' if self._camera else ''
        self.get_logger().info(
            f'{robot.name} lies behind {config.ports}/servos ({config.bus}) and /imu{where}'
        )

    def _parse(self, text: str) -> Fault | WireFault:
        kind = text.partition('@')[0].partition(':')[0]
        parse = parse_wire_fault if kind in WIRE_FAULTS else parse_fault
        return parse(text, self.robot.joint_names)

    def run(self, executor: Executor, stop: Stop) -> None:
        """Answer until stopped."""
        due = 0.0
        try:
            while not stop:
                self.emulated.serve(0.02)
                now = time.perf_counter()
                if now >= due:  # services and parameters can wait a little, bytes cannot
                    due = now + 0.01
                    executor.spin_once(timeout_sec=0.0)
                if now - self._told > IDLE:
                    self._tell()
            # The hardware is still there while its drivers bring the robot down.
            end = time.perf_counter() + LAST
            while self.emulated.unheard < QUIET and time.perf_counter() < end:
                self.emulated.serve(0.02)
        finally:
            self.emulated.close()
            if self._camera:
                self._camera.close()

    def _on_tick(self) -> None:
        """A control period has passed."""
        awake = self.emulated.seconds_awake
        while self._of_body and awake and self._of_body[0].time <= awake:
            self.get_logger().warning(f'fault injected: {self._of_body[0]}')
            self.body.inject(self._of_body.pop(0))
        for words in self.emulated.faults.take_news():
            self.get_logger().warning(words)
        self._tell()

    def _tell(self) -> None:
        """Where the robot is; in lockstep also what time it is."""
        self._told = time.perf_counter()
        stamp = int(self.get_clock().now().nanoseconds)
        if self.config.lockstep:
            stamp = round(self.emulated.seconds * 1e9)
            self._world.clock(stamp)
        truth = self.body.truth
        self._world.truth(
            stamp,
            truth.position,
            truth.orientation,
            truth.linear_velocity,
            truth.angular_velocity,
        )
        self._world.true_joints(stamp, self.body.state.joint_position)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.body.reset()
        self.emulated.reset()
        response.success, response.message = True, 'the robot lies crouched at the origin'
        self.get_logger().info(response.message)
        return response

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for given in parameters:
            if given.name == 'fault' and given.value == 'clear':
                self.emulated.faults.clear()
            elif given.name == 'fault' and given.value:
                try:
                    fault = self._parse(given.value)
                except ValueError as error:
                    return SetParametersResult(successful=False, reason=str(error))
                if isinstance(fault, WireFault):
                    self.emulated.faults.add(fault, self.emulated.seconds_awake)
                else:
                    self.body.inject(fault)
        return SetParametersResult(successful=True)

    def _health(self) -> diagnostics.Health:
        active = [str(fault) for fault in self.emulated.faults.all_active]
        values = {
            'robot_s': self.emulated.seconds,
            'torque': self.emulated.bank.torque.astype(int).tolist(),
            'faults': ' '.join(active),
            'scheduling': self._scheduling,
        }
        if self._camera and self._camera.trouble:
            return diagnostics.ERROR, f'no pictures: {self._camera.trouble}', values
        word = f'faults: {" ".join(active)}' if active else 'no fault on the wires'
        return diagnostics.OK, word, values


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(EmulatorNode, args, loop=EmulatorNode.run)


if __name__ == '__main__':
    raise SystemExit(main())
