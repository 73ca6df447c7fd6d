"""What the robot is told to do: the newest cmd_vel, believed only while it is young."""

import numpy as np
from geometry_msgs.msg import Twist, TwistStamped
from rclpy.node import Node

from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import to_ns


class VelocityInput:
    """The newest command and its age in the states' time."""

    def __init__(self, node: Node, *, stamped: bool, timeout: float) -> None:
        """Subscribe; an older command than ``timeout`` s means stand."""
        self._timeout, self._standing = timeout, np.zeros(2)
        self.newest: FloatArray = np.zeros(2)  # m/s, rad/s
        self._ns, self._now = -(1 << 62), -1
        node.create_subscription(
            TwistStamped if stamped else Twist, names.CMD_VEL, self._on_message, qos.NEWEST
        )

    @property
    def age(self) -> float:
        """Seconds; over 1e9 if none has come."""
        return (self._now - self._ns) / 1e9

    @property
    def standing(self) -> bool:
        """Whether the newest command is too old to be followed."""
        return self.age > self._timeout

    def __call__(self, now: int) -> FloatArray:
        """What to do for the state of this stamp: (2,) m/s forward and rad/s about z."""
        if self._now < 0 and self.newest.any():
            self._ns = now  # it came before time had begun
        self._now = now
        followed = not self.standing and np.isfinite(self.newest).all()
        return self.newest if followed else self._standing

    def _on_message(self, message: TwistStamped | Twist) -> None:
        twist = message.twist if isinstance(message, TwistStamped) else message
        self.newest = np.array((twist.linear.x, twist.angular.z))
        # Age counts from arrival, or from the stamp if that lies in the states' time and is older.
        self._ns = self._now
        if isinstance(message, TwistStamped) and 0 < to_ns(message.header.stamp) < self._now:
            self._ns = to_ns(message.header.stamp)
