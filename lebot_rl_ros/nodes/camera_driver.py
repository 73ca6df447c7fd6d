"""The robot's camera: a device, a stream or a video in, pictures and their calibration out."""

from dataclasses import dataclass

from rclpy.executors import Executor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from lebot_rl_ros.hardware.camera import CameraSource
from lebot_rl_ros.hardware.camera_info import Calibration, load_calibration
from lebot_rl_ros.hardware.frame import Frame
from lebot_rl_ros.ros import diagnostics
from lebot_rl_ros.ros.camera import FRAME, PicturePublisher
from lebot_rl_ros.ros.parameters import declare, parameter
from lebot_rl_ros.ros.spin import Stop, run


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of the node."""

    source: str = parameter(
        '/dev/video0', 'device (a link in /dev/v4l/by-id keeps its name), URL, or path of a video'
    )
    width: int = parameter(0, 'px that the device is asked for; 0: as it likes', range=(0, 16384))
    height: int = parameter(0, 'px that the device is asked for; 0: as it likes', range=(0, 16384))
    rate: float = parameter(0.0, 'Hz at most; a file is played at this rate; 0: as it comes')
    camera_info: str = parameter('', "path of the calibration's YAML; empty: not calibrated")
    frame_id: str = parameter(FRAME, 'optical frame: z ahead, x right, y down')
    jpeg_quality: int = parameter(
        0, '1 to 100; 0: JPEG is passed on as it comes, other pictures get 85', range=(0, 100)
    )
    loop: bool = parameter(True, 'whether a video begins again at its end')
    timeout: float = parameter(1.0, 's without a picture that count as frozen')


class CameraDriver(Node):
    """Publishes each picture once, when it arrives."""

    def __init__(self) -> None:
        """Declare, read the calibration, begin to read pictures."""
        super().__init__('camera_driver')
        self.config = config = declare(self, CameraParameters)
        if bool(config.width) != bool(config.height):
            raise ValueError(
                f'width is {config.width} and height {config.height}: give both, or 0 for both'
            )
        self._calibration = load_calibration(config.camera_info) if config.camera_info else None
        self._info = CameraInfo()
        self._publisher = PicturePublisher(self, config.frame_id)
        self._cadence, self._undecodable = diagnostics.Cadence(), 0
        clock = self.get_clock()
        try:
            self._source = CameraSource(
                config.source,
                config.width,
                config.height,
                config.rate,
                loop=config.loop,
                timeout=config.timeout,
                clock=lambda: clock.now().nanoseconds,
            )
        except ModuleNotFoundError as error:
            raise ValueError(error) from error
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self._state = ''
        self.get_logger().info(f'reads {self._source.origin.name}')

    def run(self, executor: Executor, stop: Stop) -> None:
        """Publish what comes until stopped."""
        while not stop:
            frame = self._source.take(0.1)
            if frame is not None:
                self._publish(frame)
            executor.spin_once(timeout_sec=0.0)
            self._tell_changes()

    def destroy_node(self) -> None:
        """Let go of the camera, too."""
        self._source.close()
        super().destroy_node()

    def _publish(self, frame: Frame) -> None:
        if (frame.width, frame.height) != (self._info.width, self._info.height):
            self._info = _camera_info(frame.width, frame.height, self._calibration)
        quality = self.config.jpeg_quality
        try:
            self._publisher.publish(
                frame.stamp, self._info, frame.rgb, lambda: frame.jpeg(quality)
            )
        except ValueError:
            self._undecodable += 1
            return
        self._cadence.tick()

    def _tell_changes(self) -> None:
        """People need not wait a second for news."""
        level, message = self._judge()
        state = message.partition(':')[0]  # without ages and reasons, which change all the time
        if state == self._state:
            return
        self._state = state
        self._diagnostics.publish()
        log = self.get_logger()
        if level == diagnostics.OK:  # a line of code has one severity in rclpy
            log.info(message)
        elif level == diagnostics.WARN:
            log.warning(message)
        else:
            log.error(message)

    def _judge(self) -> tuple[bytes, str]:
        """Level and words."""
        source, config, info = self._source, self.config, self._info
        if source.ended:
            return diagnostics.WARN, f'{source.origin.name} has been played to its end'
        if not source.number:
            reason = source.reason or 'nothing has come yet'
            return diagnostics.WARN, f'waiting for the camera: {reason}'
        if source.age > source.timeout:
            reason = source.reason if source.lost else 'it is open, but sends nothing of use'
            return diagnostics.ERROR, f'frozen: no new picture for {source.age:.1f} s ({reason})'
        calibration, size = self._calibration, f'{info.width} x {info.height}'
        if calibration and info.width and not info.k[0]:
            return diagnostics.WARN, (
                f'{config.camera_info} is for {calibration.width} x {calibration.height} px, the '
                f'pictures have {size}: published as not calibrated'
            )
        asked = f'{config.width} x {config.height}'
        if config.width and info.width and size != asked:
            return diagnostics.WARN, f'{size} px instead of {asked}'
        return diagnostics.OK, 'running'

    def _health(self) -> diagnostics.Health:
        source, info = self._source, self._info
        values = {
            'source': source.origin.name,
            'rate_hz': self._cadence.rate(),
            'age_s': round(source.age, 3),
            'pictures': source.number,
            'size': f'{info.width} x {info.height}',
            'reopened': source.reopened,
            'damaged': source.damaged + self._undecodable,
            'reason': source.reason,
            'calibrated': bool(info.k[0]),
        }
        return *self._judge(), values


def _camera_info(width: int, height: int, calibration: Calibration | None) -> CameraInfo:
    """Of pictures of this size; K[0] = 0 says that they are not calibrated."""
    info = CameraInfo(width=width, height=height)
    if calibration and (calibration.width, calibration.height) == (width, height):
        info.distortion_model, info.d = calibration.distortion_model, calibration.d
        info.k, info.r, info.p = calibration.k, calibration.r, calibration.p
    return info


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(CameraDriver, args, loop=CameraDriver.run)


if __name__ == '__main__':
    raise SystemExit(main())
