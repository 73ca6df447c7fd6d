"""What the robot is told to do: the newest cmd_vel, believed only while it is young."""

from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import Twist, TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import to_ns

PATIENCE = 0.5  # s of wall time, half of what a driver in lockstep waits for an answer


class VelocityInput:
    """The newest command and its age in the states' time."""

    def __init__(
        self,
        node: Node,
        *,
        stamped: bool,
        timeout: float,
        slack: float = np.inf,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Subscribe.

        Args:
            node: whose subscription it is.
            stamped: whether messages are TwistStamped.
            timeout: s; an older command means stand.
            slack: s that a stamp may lag behind a tick that waits for it, in lockstep: the driver,
                which waits too, may hear a command before we do.
            wake: called when :meth:`awaited` may have become false.
        """
        self._timeout, self._standing = timeout, np.zeros(2)
        self.newest: FloatArray = np.zeros(2)  # m/s, rad/s
        self._ns, self._now = -(1 << 62), -1
        self._slack = slack if stamped else np.inf
        self._stamp, self._silent = -np.inf, False  # ns of the newest that came; no longer awaited
        self._wake, self.awaiting, self._due = wake, False, -1
        self._patience = node.create_timer(
            PATIENCE, self._give_up, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._patience.cancel()
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

    def awaited(self, stamp: int) -> bool:
        """Whether the tick of this stamp waits for a younger command.

        For the first one as long as it takes, for the next ones until it has been silent for
        ``PATIENCE``.
        """
        self._due = stamp
        self.awaiting = not self._silent and self._stamp < stamp - self._slack * 1e9
        if self.awaiting and np.isfinite(self._stamp) and self._patience.is_canceled():
            self._patience.reset()
        return self.awaiting

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
        if not isinstance(message, TwistStamped):
            return
        stamp = to_ns(message.header.stamp)
        if 0 < stamp < self._now:
            self._ns = stamp
        stamp = stamp or max(self._now, self._due)  # 0: it does not know the time yet
        if stamp > self._stamp:
            self._silent = False
            self._patience.cancel()
        self._stamp = stamp
        self._wake()

    def _give_up(self) -> None:
        """It fell silent: ticks go on, and stand when its word is too old."""
        self._patience.cancel()
        self._silent = True
        self._wake()
