"""The servos of one robot, joint side: opened, read, written, lost and found again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.hardware.bus import Feedback, ServoBus
from lebot_rl_ros.hardware.guard import Guard
from lebot_rl_ros.hardware.joints import JointMap
from lebot_rl_ros.hardware.wire import WireLost
from lebot_rl_ros.robot.state import FloatArray

BACK_OFF = (0.1, 1.0)  # s until a lost port is tried again, at first and at most
FRESH = 2  # reads that a joint's value may be old and still be told; at the fifth it is a fault


@dataclass(frozen=True, slots=True)
class JointReadings:
    """One read, joint side. A joint that did not answer keeps its last values."""

    position: FloatArray  # (J,) rad
    velocity: FloatArray  # (J,) rad/s
    effort: FloatArray  # (J,) N·m
    raw: Feedback  # as the servos said it

    @property
    def fresh(self) -> bool:
        """Whether every joint has answered lately: what is older is not told to anybody."""
        known = np.isfinite(self.position) & np.isfinite(self.velocity)
        return bool((known & (self.raw.missed < FRESH)).all())


class Servos:
    """Everything between joint targets and bytes. No call blocks for longer than its exchange."""

    def __init__(
        self,
        joints: JointMap,
        open_bus: Callable[[], ServoBus],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened yet.

        Args:
            joints: from servo angles to joint angles.
            open_bus: opens the port; raises WireLost where it is not there.
            now: s, for the back-off.
        """
        self._joints, self._open_bus, self._now = joints, open_bus, now
        self.bus: ServoBus | None = None
        self.lost = 'not opened yet'  # why there is no bus; empty while there is one
        self.opened = 0  # how often
        self.torque = False  # as last told to the servos
        self._guard: Guard | None = None
        self._wait, self._due = BACK_OFF[0], 0.0

    def connect(self) -> bool:
        """Open the port if it is lost and time to try; returns whether it was opened just now.

        Nothing moves by it: goals become the present angles, and torque is off until asked for.
        """
        if self.bus is not None or self._now() < self._due:
            return False
        try:
            self.bus = bus = self._open_bus()
            self._guard = Guard(bus.fileno(), bus.torque_off())
            self._switch_off()
        except OSError as error:
            self._lose(error)
            return False
        self.lost, self._wait = '', BACK_OFF[0]
        self.opened += 1
        return True

    def read(self) -> JointReadings | None:
        """Read all servos once; None if the port is gone."""
        if self.bus is None:
            return None
        try:
            raw = self.bus.read()
        except WireLost as error:
            self._lose(error)
            return None
        joints = self._joints
        return JointReadings(
            joints.to_joint(raw.position),
            joints.to_joint_velocity(raw.velocity),
            joints.to_effort(raw.load),
            raw,
        )

    def write(self, position: FloatArray, torque: bool) -> None:
        """Send targets (J,) rad, joint side; goals go first, so that torque moves nothing."""
        if self.bus is None:
            return
        try:
            if self.torque and not torque:
                self._switch_off()
            self.bus.write_goals(self._joints.to_servo(position))
            if torque and not self.torque:
                self.bus.set_torque(True)
                self.torque = True
        except WireLost as error:
            self._lose(error)

    def ask_torque(self) -> FloatArray | None:
        """What the servos say of their torque, (J,): 1, 0, or NaN; None if the port is gone."""
        try:
            return None if self.bus is None else self.bus.torque()
        except WireLost as error:
            self._lose(error)
            return None

    def clear_alarms(self, alarm: npt.NDArray[np.int64]) -> list[int]:
        """Make the servos that complain, (J,) bits, forget it; returns their ids.

        It may reboot them, so the robot must be without torque.
        """
        if self.bus is None or self.torque:
            return []
        ids = [id for id, bits in zip(self.bus.ids, alarm, strict=True) if bits]
        try:
            for id in ids:
                self.bus.clear_alarm(id)
            self._switch_off()  # some protocols clear by switching on
        except WireLost as error:
            self._lose(error)
        return ids

    def close(self) -> None:
        """Torque off, then leave the port."""
        if self.bus is None:
            return
        try:
            self._switch_off()
        except WireLost as error:
            self._lose(error)
        self._leave('closed')

    def _switch_off(self) -> None:
        assert self.bus is not None
        self.torque = False
        self.bus.set_torque(False)

    def _lose(self, error: OSError) -> None:
        self._leave(str(error))
        self._due = self._now() + self._wait
        self._wait = min(2 * self._wait, BACK_OFF[1])

    def _leave(self, reason: str) -> None:
        self.lost, self.torque = reason, False
        if self._guard is not None:
            self._guard.release()
            self._guard = None
        if self.bus is not None:
            self.bus.close()
            self.bus = None
