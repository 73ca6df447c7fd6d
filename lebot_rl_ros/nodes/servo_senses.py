"""What a servo driver knows of its robot: joints from the bus, orientation from the IMU, time."""

import time
from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu

from lebot_rl_ros.hardware.servos import JointReadings
from lebot_rl_ros.robot import Robot, RobotState, rotations
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import to_ns

STALE_IMU = 0.1  # s; with an older one a fall would not be seen
RESYNC = 0.5  # s of wall time in which an emulated robot's clock is heard


class ServoSenses:
    """The newest of everything; callbacks fill it, the driver's tick reads it."""

    def __init__(self, node: Node, robot: Robot, *, lockstep: bool) -> None:
        """Listen to the IMU; in lockstep also to the emulated robot's clock, the only one then."""
        self._robot, self._node, self._lockstep = robot, node, lockstep
        self._clock_ns = -1
        self.forget()
        node.create_subscription(Imu, names.IMU, self._on_imu, qos.NEWEST)
        if lockstep:
            node.create_subscription(Clock, names.CLOCK, self._on_clock, qos.OFFER)

    def forget(self) -> None:
        """Know nothing, as at the beginning."""
        self.readings: JointReadings | None = None
        self._imu_ns, self._orientation = -1, np.array([1.0, 0.0, 0.0, 0.0])

    def now(self) -> int:
        """This machine's time, ns. Take it before a read: what a slow one brings is older."""
        return int(self._node.get_clock().now().nanoseconds)

    def stamp(self, begin: int, last: int, answered: bool) -> int:
        """Time of a read, ns: when it began; in lockstep the emulated robot's.

        Args:
            begin: :meth:`now` before the read.
            last: stamp of the read before.
            answered: whether the bus was there.
        """
        if not self._lockstep:
            return begin
        return last + self._robot.control_period_ns if answered else max(self._clock_ns, last)

    def resynchronise(self, turn: Callable[[float], None]) -> int:
        """The emulated robot's time, ns, once it waits for us; ``turn`` serves callbacks."""
        end = time.monotonic() + RESYNC
        while time.monotonic() < end or (self._clock_ns < 0 and time.monotonic() < end + 5.0):
            turn(0.01)
        return max(self._clock_ns, 0)

    def state(self, stamp: int) -> RobotState:
        """What is known, with the stamp of its read; joints that are not known are NaN."""
        nothing = np.full(len(self._robot.joints), np.nan)
        readings = self.readings
        return RobotState(
            stamp=stamp,
            joint_position=readings.position if readings else nothing,
            joint_velocity=readings.velocity if readings else nothing,
            joint_effort=readings.effort if readings else nothing,
            orientation=self._orientation,
            angular_velocity=np.zeros(3),
            linear_acceleration=np.zeros(3),
        )

    def fallen(self) -> bool | None:
        """Whether it is tilted beyond the limit; None: there was no word of the IMU yet."""
        if self._imu_ns < 0:
            return None
        tilt = rotations.tilt(rotations.gravity_in_body(self._orientation))
        return bool(tilt > self._robot.fall_tilt)

    def blind(self, stamp: int) -> str:
        """Why a command cannot be followed now: without an IMU a fall would not be seen."""
        if self._imu_ns < 0:
            return f'no {names.IMU} yet'
        age = (stamp - self._imu_ns) / 1e9
        return f'{names.IMU} is {age:.1f} s old' if age > STALE_IMU else ''

    def _on_imu(self, message: Imu) -> None:
        q = message.orientation
        if message.orientation_covariance[0] != -1.0:  # else it is not measured (REP-145)
            self._imu_ns = to_ns(message.header.stamp)
            self._orientation = np.array((q.w, q.x, q.y, q.z))

    def _on_clock(self, message: Clock) -> None:
        self._clock_ns = to_ns(message.clock)
