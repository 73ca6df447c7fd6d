"""The IMU's driver: bytes of a serial port in, imu/data out."""

import math
import select
import time
from dataclasses import dataclass

from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import Imu

from lebot_rl_ros.hardware.imu import SILENT, ImuReader
from lebot_rl_ros.hardware.imu_samples import ImuSample
from lebot_rl_ros.hardware.wire import WireLost, latency_timer_advice
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros import diagnostics, names, qos
from lebot_rl_ros.ros.convert import PatchedMessage
from lebot_rl_ros.ros.parameters import declare, parameter
from lebot_rl_ros.ros.realtime import ask_for_realtime
from lebot_rl_ros.ros.spin import Stop, run

SERVE = 0.02  # s between two turns of timers and services
RESEND = 0.05  # s of wall time between two tries to reach those who have not joined yet
BACK_OFF = (0.1, 1.0)  # s until a lost port is tried again, at first and at most
RECONFIGURE = 1.0  # s without a sample, then the device may have lost its power and its settings
MISFIT = math.radians(10.0)  # between orientation and gravity at rest
SLOW = 0.9  # share of the rate asked for
VECTORS = ('orientation', 'angular_velocity', 'linear_acceleration')


@dataclass(frozen=True)
class ImuDriverParameters:
    """Parameters of the node."""

    robot: str = parameter('lebot', 'name in config/robots, or path of a table')
    port: str = parameter('/dev/imu', 'serial port of a WitMotion IMU, or a link to it')
    baud: int = parameter(115200, 'that the device is set to; 9600 as delivered')
    rate: float = parameter(200.0, 'Hz that the device is asked for')
    mounting: str = parameter(
        '0 0 0', 'roll pitch yaw of the sensor in base_link, degrees, as the rpy of a URDF'
    )
    orientation: str = parameter('device', 'who makes it: device, filter (here) or none')
    lockstep: bool = parameter(
        False, "stamp with the device's clock, and publish each control tick's sample only"
    )
    orientation_stddev: float = parameter(0.0, 'rad, of each axis; 0: not known')
    angular_velocity_stddev: float = parameter(0.0, 'rad/s, of each axis; 0: not known')
    linear_acceleration_stddev: float = parameter(0.0, 'm/s², of each axis; 0: not known')
    realtime_priority: int = parameter(20, 'of SCHED_FIFO, 1 to 99; 0 does not ask for it')

    def __post_init__(self) -> None:
        """Check what the reader does not see.

        Raises:
            ValueError: a standard deviation is negative.
        """
        for name in VECTORS:
            if not getattr(self, f'{name}_stddev') >= 0.0:
                value = getattr(self, f'{name}_stddev')
                raise ValueError(f'{name}_stddev is {value}, must not be negative')

    @property
    def mounting_rad(self) -> tuple[float, ...]:
        """Roll, pitch, yaw in rad.

        Raises:
            ValueError: the text is something else.
        """
        try:
            roll, pitch, yaw = map(float, self.mounting.split())
        except ValueError as error:
            raise ValueError(
                f"mounting is {self.mounting!r}, must be three angles in degrees as in '180 0 90'"
            ) from error
        return math.radians(roll), math.radians(pitch), math.radians(yaw)


class ImuDriverNode(Node):
    """Publishes each sample as soon as its bytes are there; never an old one."""

    def __init__(self) -> None:
        """Declare; the port is opened by :meth:`run`, as it may not be there yet.

        Raises:
            ValueError: the device cannot do what the parameters ask for.
        """
        super().__init__('imu_driver')
        self.config = config = declare(self, ImuDriverParameters)
        self.robot = load_robot(config.robot)
        self._reader = ImuReader(
            config.port,
            config.baud,
            config.rate,
            config.mounting_rad,
            orientation=config.orientation,
            device_time=config.lockstep,
        )
        self._message = _message(self.robot.imu_link, config)
        self._publish = self.create_publisher(Imu, names.IMU, qos.EVERY).publish
        self._poll = select.poll()
        self._why = 'not opened yet'  # what keeps the samples away; empty if nothing does
        self._opened, self._try_at, self._back_off = 0, 0.0, BACK_OFF[0]
        self._configured = self._sent = 0.0  # when, s of the monotonic clock
        self._heard = 0  # samples since opening
        self._latest = False  # the last message is of the newest sample
        self._cadence, self._reported = diagnostics.Cadence(), 0
        self._scheduling = ask_for_realtime(config.realtime_priority)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    def run(self, executor: Executor, stop: Stop) -> None:
        """Serve port and node until stopped. The port's descriptor is what wakes it."""
        serve_at = 0.0
        while not stop:
            if not self._reader.is_open:
                executor.spin_once(timeout_sec=min(max(self._try_at - time.monotonic(), 0), 0.1))
                if time.monotonic() >= self._try_at:
                    self._open()
                continue
            if self._poll.poll(SERVE * 1e3):
                self._take()
            self._look_after()
            if time.monotonic() >= serve_at:  # a sample need not pay for it
                serve_at = time.monotonic() + SERVE
                executor.spin_once(timeout_sec=0.0)
        self._reader.close()

    def _open(self) -> None:
        try:
            self._reader.open()
        except WireLost as error:
            self._lost(error)
            return
        self._poll = select.poll()
        self._poll.register(self._reader.fileno(), select.POLLIN)
        self._opened += 1
        self._configured, self._back_off, self._heard = time.monotonic(), BACK_OFF[0], 0
        self.get_logger().info(f'{self.config.port} is open')

    def _lost(self, error: WireLost) -> None:
        self._try_at = time.monotonic() + self._back_off
        self._back_off = min(2 * self._back_off, BACK_OFF[1])
        self._latest = False
        self._tell(str(error))

    def _take(self) -> None:
        """Publish what has come: of each control tick in lockstep, else the newest."""
        try:
            samples = self._reader.read()
        except WireLost as error:
            self._lost(error)
            return
        self._heard += len(samples)
        self._cadence.count += len(samples)
        if not self.config.lockstep:
            if samples:
                self._send(samples[-1], self.get_clock().now().nanoseconds)
            return
        for sample in samples:
            stamp = round((sample.device_time or 0.0) * 1e3) * 1_000_000
            self._latest = stamp % self.robot.control_period_ns == 0
            if self._latest:
                self._send(sample, stamp)

    def _send(self, sample: ImuSample, stamp: int) -> None:
        message = self._message
        message.stamp(stamp)
        if sample.orientation is not None:
            values = message.values['orientation.x']
            values[:3], values[3] = sample.orientation[1:], sample.orientation[0]
        message.values['angular_velocity.x'][:] = sample.angular_velocity
        message.values['linear_acceleration.x'][:] = sample.linear_acceleration
        self._publish(message.serialized())
        self._sent = time.monotonic()

    def _look_after(self) -> None:
        """Say when the device falls silent, set it up again, and reach those who join late."""
        now = time.monotonic()
        if self._heard or self._reader.age > SILENT:
            self._tell(self._reader.silence())
        if self._why and now - self._configured > RECONFIGURE:
            self._configured = now
            try:
                self._reader.configure()
            except WireLost as error:
                self._lost(error)
        stands = self._latest and self.config.lockstep and not self._why
        if stands and now - self._sent > RESEND:
            self._sent = now
            self._publish(self._message.serialized())

    def _tell(self, why: str) -> None:
        """Why there are no samples, or '' that there are; people need not wait a second for it."""
        if why == self._why:
            return
        self._why = why
        if why:
            self.get_logger().error(f'{self.config.port}: no samples: {why}')
        else:
            self.get_logger().info(f'{self.config.port}: samples come')
        self._diagnostics.publish()

    def _health(self) -> diagnostics.Health:
        reader, errors, made = self._reader, self._reader.errors, self._reader.made
        rate, more = self._cadence.rate(), errors.total() - self._reported
        self._reported += more
        values = {
            'rate_hz': rate,
            'age_s': reader.age,
            'port': self.config.port,
            'opened': self._opened,
            **vars(errors),
            'repeated': made.repeated,
            'gyro_bias': made.bias.value.round(5).tolist(),
            'rests': made.bias.windows,
            'misfit_deg': math.degrees(made.misfit),
            'temperature': made.temperature,
            'scheduling': self._scheduling,
        }
        if self._why:
            return diagnostics.ERROR, f'no samples: {self._why}', values
        warnings = [advice for advice in (latency_timer_advice(self.config.port),) if advice]
        if more:
            warnings.append(f'{more} frames or samples damaged, incomplete or late')
        if not self.config.lockstep and rate < SLOW * self.config.rate:
            warnings.append(f'{rate} Hz come, {self.config.rate:g} were asked for')
        if made.misfit > MISFIT:
            warnings.append(
                f'at rest, orientation and gravity disagree by {math.degrees(made.misfit):.0f} '
                'deg: calibrate the sensor, or use orientation:=filter'
            )
        if warnings:
            return diagnostics.WARN, '; '.join(warnings), values
        return diagnostics.OK, 'running', values


def _message(frame_id: str, config: ImuDriverParameters) -> PatchedMessage:
    """Imu (REP-145) with what does not change: frame and covariances; 0 where not known."""
    message = Imu()
    message.header.frame_id = frame_id
    for name in VECTORS:
        variance = getattr(config, f'{name}_stddev') ** 2
        getattr(message, f'{name}_covariance')[[0, 4, 8]] = variance
    if config.orientation == 'none':
        message.orientation_covariance[0] = -1.0
    return PatchedMessage(
        message, {'orientation.x': 4, 'angular_velocity.x': 3, 'linear_acceleration.x': 3}
    )


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(ImuDriverNode, args, loop=ImuDriverNode.run)


if __name__ == '__main__':
    raise SystemExit(main())
