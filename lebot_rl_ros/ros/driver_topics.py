"""What the drivers of the robot publish, simulated or not: joints, what was applied, truth."""

from collections.abc import Sequence

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState

from lebot_rl_ros.robot import Robot, RobotState
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import ImuMessage, JointMessage, OdometryMessage, set_stamp

UNKNOWN = '_NODE_NAME_UNKNOWN_'  # rmw's word for a node that has not said yet what it has


def watched(node: Node) -> bool:
    """Whether anybody listens to the truth, but for a recorder, which listens to everything."""
    listeners = node.get_subscriptions_info_by_topic(names.GROUND_TRUTH)
    return any(one.node_name not in ('recorder', UNKNOWN) for one in listeners)


class JointTopics:
    """Publishers with their messages ready; all take one robot's numbers and a stamp in ns."""

    def __init__(self, node: Node, robot: Robot, modes: Sequence[str]) -> None:
        """Advertise; ``modes`` are the names that ``joint_commands_applied`` may carry."""
        self._joints = JointMessage(robot.joint_names, full=True)
        self._applied = {
            mode: JointMessage(robot.joint_names, frame_id=mode.lower()) for mode in modes
        }
        self._of_joints = node.create_publisher(JointState, names.JOINT_STATES, qos.EVERY)
        self._of_applied = node.create_publisher(
            JointState, names.JOINT_COMMANDS_APPLIED, qos.EVERY
        )

    @property
    def listeners(self) -> int:
        """How many listen to the joints."""
        return int(self._of_joints.get_subscription_count())

    def applied(self, stamp: int, mode: str, position: FloatArray) -> None:
        """What the servos got for the state of this stamp: (J,) rad."""
        message = self._applied[mode]
        message.stamp(stamp)
        message.position[:] = position
        self._of_applied.publish(message.serialized())

    def joints(self, state: RobotState) -> None:
        """Angles, speeds and torques."""
        message = self._joints
        message.stamp(int(state.stamp))
        message.position[:] = state.joint_position
        message.velocity[:] = state.joint_velocity
        message.effort[:] = state.joint_effort
        self._of_joints.publish(message.serialized())


class ImuTopic:
    """Orientation, rates and acceleration."""

    def __init__(self, node: Node, robot: Robot) -> None:
        """Advertise."""
        self._imu = ImuMessage(robot.imu_link)
        self._publisher = node.create_publisher(Imu, names.IMU, qos.EVERY)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return int(self._publisher.get_subscription_count())

    def publish(self, state: RobotState) -> None:
        """Send one robot's."""
        self._imu.stamp(int(state.stamp))
        self._imu.write(state)
        self._publisher.publish(self._imu.serialized())


class WorldTopics:
    """What only a simulated world knows: its time, and where the robot really is."""

    def __init__(self, node: Node, robot: Robot) -> None:
        """Advertise."""
        self._odom, self._clock = OdometryMessage(robot.base_link), Clock()
        self._joints = JointMessage(robot.joint_names)
        self._of_truth = node.create_publisher(Odometry, names.GROUND_TRUTH, qos.EVERY)
        self._of_joints = node.create_publisher(JointState, names.TRUE_JOINTS, qos.EVERY)
        self._of_clock = node.create_publisher(Clock, names.CLOCK, qos.OFFER)

    def clock(self, stamp: int) -> None:
        """The simulation's time, ns."""
        set_stamp(self._clock.clock, stamp)
        self._of_clock.publish(self._clock)

    def truth(
        self,
        stamp: int,
        position: FloatArray,
        orientation: FloatArray,
        linear: FloatArray,
        angular: FloatArray,
    ) -> None:
        """Pose (m, w x y z) in the world and twist (m/s, rad/s) in ``base_link``."""
        self._odom.stamp(stamp)
        self._odom.write(position, orientation, linear, angular)
        self._of_truth.publish(self._odom.serialized())

    def true_joints(self, stamp: int, position: FloatArray) -> None:
        """Where the joints really are, (J,) rad; made only for who listens."""
        if self._of_joints.get_subscription_count():
            self._joints.stamp(stamp)
            self._joints.position[:] = position
            self._of_joints.publish(self._joints.serialized())
