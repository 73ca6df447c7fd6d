"""A whole robot behind its wires: servo bus and IMU on pseudo-terminals, one body that moves."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lebot_rl_ros.hardware.emulation.bank import servo_bank
from lebot_rl_ros.hardware.emulation.body import Body
from lebot_rl_ros.hardware.emulation.faults import FaultSchedule, WireFault
from lebot_rl_ros.hardware.emulation.line import Line
from lebot_rl_ros.hardware.emulation.responder import EmulatedBus
from lebot_rl_ros.hardware.emulation.waiting import wait
from lebot_rl_ros.hardware.emulation.witmotion import EmulatedImu
from lebot_rl_ros.hardware.joints import JointMap
from lebot_rl_ros.robot import Robot

BAUD = 1_000_000  # of the servo bus
SOONEST = 0.02  # s of wall time between two samples of an IMU whose robot's time stands


class EmulatedRobot:
    """Servos and IMU of one robot. Call :meth:`serve` in a loop.

    In real time the body moves with the wall clock. In lockstep it moves by one control period
    whenever all servos are read, before the answer goes out, so that a run repeats; only while the
    bus cannot be heard (unplugged, wrong rate) time then goes on by itself.
    """

    def __init__(
        self,
        robot: Robot,
        body: Body,
        folder: Path,
        *,
        protocol: str = 'feetech',
        lockstep: bool = False,
        paced: bool = True,
        faults: Sequence[WireFault] = (),
        seed: int = 0,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the ports ``servos`` and ``imu`` in ``folder``.

        Args:
            robot: whose servos these are; as its joint table says, so a calibration is not needed.
            body: what moves.
            folder: of the ports; made if it is not there.
            protocol: of the servos, feetech or dynamixel.
            lockstep: the body waits for the driver.
            paced: bytes take the time that they take on a wire of 1 Mbaud.
            faults: of the wires. Their time counts from the first torque.
            seed: of the faults.
            on_tick: told after every control period that has passed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.robot, self.body, self.lockstep = robot, body, lockstep
        self.faults = FaultSchedule(faults, robot.joint_names, seed)
        self._joints, self._stall = JointMap(robot), robot.servo.stall_torque
        self.servo_line, self.imu_line = Line(folder / 'servos'), Line(folder / 'imu')
        self.bank = servo_bank(
            protocol,
            [joint.id for joint in robot.joints],
            nominal_voltage=robot.servo.nominal_voltage,
        )
        self.bus = EmulatedBus(
            self.servo_line,
            self.bank,
            baud=BAUD,
            paced=paced and not lockstep,
            faults=self.faults,
            on_full_read=self._tick if lockstep else None,
        )
        self.imu = EmulatedImu(self.imu_line, faults=self.faults, seed=seed)
        self._on_tick = on_tick
        self._steps = round(1.0 / robot.control_rate / body.period)
        self._count, self._torque_since = 0, -1
        self._next = self._idle = time.perf_counter()
        self._sense()

    @property
    def seconds(self) -> float:
        """Robot time since the start."""
        return self._count * self.body.period

    @property
    def seconds_awake(self) -> float:
        """Robot time since the servos first had torque; 0 before. Faults are timed by it."""
        return (
            0.0
            if self._torque_since < 0
            else (self._count - self._torque_since) * self.body.period
        )

    @property
    def unheard(self) -> float:
        """Seconds of wall time since the driver of the servos last sent something."""
        return time.perf_counter() - self.bus.heard

    def reset(self) -> None:
        """The body was put somewhere else: let the devices sense it."""
        self._sense()

    def serve(self, longest: float) -> None:
        """Answer what comes and let the body move, for up to ``longest`` s."""
        due = [time_ for time_ in (self.bus.due, self._moves_at()) if time_ is not None]
        wait((self.servo_line, self.imu_line), min(due, default=None), longest)
        self.imu.receive()
        self.bus.receive()
        self.bus.flush()
        now = time.perf_counter()
        moves_at = self._moves_at()
        if moves_at is not None and now >= moves_at:
            self._next = max(self._next + self.body.period, now - 0.05)
            self._step()
        elif self.lockstep and now - self._idle > SOONEST:
            # Time stands; a stream would not: who opens the port now must hear of the present.
            self._idle = now
            self.imu.repeat(self.seconds, self.body.state)

    def close(self) -> None:
        """Take the ports away."""
        self.servo_line.close()
        self.imu_line.close()

    def _moves_at(self) -> float | None:
        """When the body moves by itself; None while it waits for the driver."""
        if not self.lockstep:
            return self._next
        deaf = self.faults.active('unplug', 'bus') or self.faults.active('baud')
        if deaf:
            self._next = max(self._next, self._idle)
        return self._next if deaf else None

    def _tick(self) -> None:
        """One control period, as the driver reads all servos."""
        self._idle = time.perf_counter()
        for _ in range(self._steps):
            self._step()

    def _step(self) -> None:
        if self._torque_since < 0 and self.bank.torque.any():
            self._torque_since = self._count
        self.faults.at(self.seconds_awake)
        period = self.body.period
        goal = self._joints.to_joint(self.bank.goal(period))
        self.body.step(goal, self.bank.torque, self.bank.strength)
        self._count += 1
        self._sense()
        (self.imu_line.unplug if self.faults.active('unplug', 'imu') else self.imu_line.plug)()
        self.imu.advance(self.seconds, self.body.state)
        if self._count % self._steps == 0:
            self._on_tick()

    def _sense(self) -> None:
        state, joints = self.body.state, self._joints
        self.bank.sense(
            self.body.period,
            joints.to_servo(state.joint_position),
            joints.to_servo_velocity(state.joint_velocity),
            np.clip(joints.sign * state.joint_effort / self._stall, -1.0, 1.0),
        )
