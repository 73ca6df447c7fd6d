"""Leg odometry: joints and IMU in, odom out; with tf2_msgs installed, odom -> base_link too."""

from dataclasses import dataclass, field
from typing import Any

from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState

from lebot_rl_ros.robot import load_robot, rotations
from lebot_rl_ros.robot.odometry import DeadReckoning, leg_odometry
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import diagnostics, names, qos
from lebot_rl_ros.ros.convert import JointOrder, OdometryMessage, is_finite, robot_state
from lebot_rl_ros.ros.parameters import declare
from lebot_rl_ros.ros.spin import run


@dataclass(frozen=True)
class OdometryParameters:
    """Parameters of the node."""

    robot: str = field(
        default='lebot', metadata={'description': 'name in config/robots, or path of a table'}
    )


class OdometryNode(Node):
    """Integrates what the legs say."""

    def __init__(self) -> None:
        """Declare and subscribe."""
        super().__init__('odometry')
        self.robot = load_robot(declare(self, OdometryParameters).robot)
        self._order = JointOrder(self.robot.joint_names)
        self._imu: Imu | None = None
        self._pose = DeadReckoning()
        self._odom = OdometryMessage(self.robot.base_link)
        self._cadence, self._dropped, self._trouble = diagnostics.Cadence(), 0, ''
        self._publish = self.create_publisher(Odometry, names.ODOM, qos.OFFER).publish
        self._transform = _transform_publisher(self, self.robot.base_link)
        self.create_subscription(Imu, names.IMU, self._on_imu, qos.NEWEST)
        self.create_subscription(JointState, names.JOINT_STATES, self._on_joints, qos.NEWEST)
        self._diagnostics = diagnostics.Diagnostics(self, self._health)

    def _on_imu(self, message: Imu) -> None:
        self._imu = message

    def _on_joints(self, message: JointState) -> None:
        if self._imu is None:
            return
        try:
            state = robot_state(message, self._order, self._imu)
            self._trouble = is_finite(state) and f'{is_finite(state)} is not finite'
        except ValueError as error:
            self._trouble = str(error)
        if self._trouble:
            self._dropped += 1
            return
        self._cadence.tick()
        gravity = rotations.gravity_in_body(state.orientation)
        feet = self.robot.legs(state.joint_position, state.joint_velocity)
        velocity = leg_odometry(self.robot, feet, gravity, state.angular_velocity)
        position = self._pose.advance(int(state.stamp), state.orientation, velocity)
        self._odom.write(position, state.orientation, velocity, state.angular_velocity)
        self._odom.stamp(int(state.stamp))
        self._publish(self._odom.serialized())
        if self._transform:
            self._transform(message.header.stamp, position, state.orientation)

    def _health(self) -> diagnostics.Health:
        values = {
            'rate_hz': self._cadence.rate(),
            'dropped': self._dropped,
            'transform': bool(self._transform),
        }
        if self._trouble:
            return diagnostics.ERROR, f'no odometry: {self._trouble}', values
        if not values['rate_hz']:
            return (
                diagnostics.WARN,
                f'no {names.JOINT_STATES}' if self._imu else f'no {names.IMU}',
                values,
            )
        return diagnostics.OK, 'running', values


def _transform_publisher(node: Node, base_link: str) -> Any:
    """Function that sends a pose on /tf; None where tf2_msgs is missing (it has no wheel)."""
    try:
        from geometry_msgs.msg import TransformStamped
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return None
    publisher = node.create_publisher(TFMessage, '/tf', qos.OFFER)
    transform = TransformStamped(child_frame_id=base_link)
    transform.header.frame_id = 'odom'
    message = TFMessage(transforms=[transform])

    def send(stamp: Time, position: FloatArray, orientation: FloatArray) -> None:
        moved, turned = transform.transform.translation, transform.transform.rotation
        moved.x, moved.y, moved.z = position.tolist()
        turned.w, turned.x, turned.y, turned.z = orientation.tolist()
        transform.header.stamp = stamp
        publisher.publish(message)

    return send


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(OdometryNode, args)


if __name__ == '__main__':
    raise SystemExit(main())
