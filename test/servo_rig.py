"""Emulated servos on a real pseudo-terminal, answered by a thread of the test's process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from joint_body import JointBody
from lebot_rl_ros.hardware.emulation.faults import parse_wire_fault
from lebot_rl_ros.hardware.emulation.robot import EmulatedRobot
from lebot_rl_ros.robot import Robot


class Rig:
    """A robot whose joints only turn, behind ``port``; in lockstep: nothing is waited for."""

    def __init__(self, robot: Robot, folder: Path, protocol: str, faults: tuple[str, ...]) -> None:
        self.robot, self.body, self.protocol = robot, JointBody(robot), protocol
        parsed = [parse_wire_fault(text, robot.joint_names) for text in faults]
        self.emulated = EmulatedRobot(
            robot, self.body, folder, protocol=protocol, lockstep=True, faults=parsed
        )
        self.port = str(folder / 'servos')
        self._ended, self._unplug = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def torque(self):
        """(J,) who has torque, as the servos themselves know."""
        return self.emulated.bank.torque

    def unplug(self) -> None:
        """Pull the cable of the servos; the thread does it between two answers."""
        self._unplug.set()

    def _serve(self) -> None:
        while not self._ended.is_set():
            self.emulated.serve(0.02)
            if self._unplug.is_set():
                self.emulated.servo_line.unplug()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.emulated.close()


@contextmanager
def servo_rig(
    robot: Robot, folder: Path, protocol: str = 'feetech', faults: tuple[str, ...] = ()
) -> Iterator[Rig]:
    """A rig that ends with the block."""
    rig = Rig(robot, folder, protocol, faults)
    try:
        yield rig
    finally:
        rig.close()
