"""What a driver of the robot publishes, simulated or not: state, what was applied, truth."""

from collections.abc import Sequence

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState

from lebot_rl_ros.robot import Robot, RobotState
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import ImuMessage, JointMessage, OdometryMessage, set_stamp


class DriverTopics:
    """Publishers with their messages ready; all take one robot's numbers and a stamp in ns."""

    def __init__(self, node: Node, robot: Robot, modes: Sequence[str]) -> None:
        """Advertise; ``modes`` are the names that ``joint_commands_applied`` may carry."""
        self._joints = JointMessage(robot.joint_names, full=True)
        self._applied = {
            mode: JointMessage(robot.joint_names, frame_id=mode.lower()) for mode in modes
        }
        self._imu, self._odom = ImuMessage(robot.imu_link), OdometryMessage(robot.base_link)
        self._clock = Clock()
        self._of_joints = node.create_publisher(JointState, names.JOINT_STATES, qos.EVERY)
        self._of_imu = node.create_publisher(Imu, names.IMU, qos.EVERY)
        self._of_applied = node.create_publisher(
            JointState, names.JOINT_COMMANDS_APPLIED, qos.EVERY
        )
        self._of_truth = node.create_publisher(Odometry, names.GROUND_TRUTH, qos.EVERY)
        self._of_clock = node.create_publisher(Clock, names.CLOCK, qos.OFFER)

    @property
    def listeners(self) -> int:
        """How many listen to the whole state."""
        return min(self._of_joints.get_subscription_count(), self._of_imu.get_subscription_count())

    @property
    def watched(self) -> bool:
        """Whether anybody listens to the truth."""
        return self._of_truth.get_subscription_count() > 0

    def applied(self, stamp: int, mode: str, position: FloatArray) -> None:
        """What the servos got for the state of this stamp: (J,) rad."""
        message = self._applied[mode]
        message.stamp(stamp)
        message.position[:] = position
        self._of_applied.publish(message.serialized())

    def imu(self, state: RobotState) -> None:
        """Orientation, rates and acceleration."""
        self._imu.stamp(int(state.stamp))
        self._imu.write(state)
        self._of_imu.publish(self._imu.serialized())

    def joints(self, state: RobotState) -> None:
        """Angles, speeds and torques."""
        message = self._joints
        message.stamp(int(state.stamp))
        message.position[:] = state.joint_position
        message.velocity[:] = state.joint_velocity
        message.effort[:] = state.joint_effort
        self._of_joints.publish(message.serialized())

    def clock(self, stamp: int) -> None:
        """The simulation's time."""
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
        """Where a simulated robot really is."""
        self._odom.stamp(stamp)
        self._odom.write(position, orientation, linear, angular)
        self._of_truth.publish(self._odom.serialized())
