"""What a policy's tick acts on: the newest of four topics, once all of it belongs together."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState

from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import JointOrder, to_ns
from lebot_rl_ros.ros.velocity import VelocityInput


class TickInputs:
    """Callbacks cache; the one that brings what was missing acts, in its own call."""

    def __init__(
        self,
        node: Node,
        joint_names: Sequence[str],
        *,
        lockstep: bool,
        stamped: bool,
        timeout: float,
        slack: float,
        wanted: Callable[[int], bool],
        act: Callable[[int, int], None],
        applied: Callable[[FloatArray, str], None],
    ) -> None:
        """Subscribe.

        Args:
            node: whose subscriptions they are.
            joint_names: the robot's, in its order.
            lockstep: act only on inputs of the very same tick.
            stamped: whether cmd_vel is a TwistStamped.
            timeout: s; an older cmd_vel means stand.
            slack: s that cmd_vel may lag in lockstep; inf does not wait for it.
            wanted: whether to act on the state of this stamp (ns) at all.
            act: called with the last tick's stamp and the new one; the first has -1 before it.
            applied: called with joints (J,) rad that the driver applied, and its mode in words.
        """
        self._log, self.order = node.get_logger(), JointOrder(joint_names)
        self._lockstep, self._wanted, self._act, self._applied = lockstep, wanted, act, applied
        self.joints: Any = None  # JointState, from the first one on
        self.imu: Imu | None = None
        self.last = self.imu_ns = self.applied_ns = -1  # stamps, ns; last: of the last tick
        self.waiting = False
        self.command = VelocityInput(
            node, stamped=stamped, timeout=timeout, slack=slack if lockstep else np.inf,
            wake=self._wake,
        )  # fmt: skip
        for kind, topic, callback in (
            (JointState, names.JOINT_COMMANDS_APPLIED, self._on_applied),
            (Imu, names.IMU, self._on_imu),
            (JointState, names.JOINT_STATES, self._on_joints),
        ):
            node.create_subscription(kind, topic, callback, qos.NEWEST)

    @property
    def missing(self) -> str:
        """The topic that the next tick waits for."""
        if self.joints is None or not self.waiting:
            return names.JOINT_STATES
        return names.CMD_VEL if self.command.awaiting else names.IMU

    def _on_imu(self, message: Imu) -> None:
        self.imu, self.imu_ns = message, to_ns(message.header.stamp)
        self._wake()

    def _on_applied(self, message: JointState) -> None:
        try:
            target = self.order(message.name, message.position)
        except ValueError as error:
            self._log.error(f'joint_commands_applied: {error}', throttle_duration_sec=1.0)
            return
        self.applied_ns = to_ns(message.header.stamp)
        self._applied(target, message.header.frame_id)
        self._wake()

    def _on_joints(self, message: JointState) -> None:
        if self._wanted(to_ns(message.header.stamp)):
            self.joints = message
            self._try_tick()

    def _wake(self) -> None:
        """Something came that a tick may have waited for."""
        if self.waiting:
            self._try_tick()

    def _try_tick(self) -> None:
        """Act if everything that belongs to the newest joint_states is there."""
        stamp = to_ns(self.joints.header.stamp)
        if self._lockstep and 0 <= self.last < stamp:
            waiting = self.imu_ns < stamp or self.applied_ns < self.last
        else:
            waiting = self.imu is None or (self._lockstep and self.imu_ns != stamp)
        self.waiting = waiting or self.command.awaited(stamp)
        if not self.waiting:
            last, self.last = self.last, stamp
            self._act(last, stamp)
