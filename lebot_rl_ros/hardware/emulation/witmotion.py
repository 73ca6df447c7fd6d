"""A WitMotion IMU at the end of a line: its registers, its stream, its quantisation."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lebot_rl_ros.hardware import witmotion as wit
from lebot_rl_ros.hardware.attitude import integrate
from lebot_rl_ros.hardware.emulation.faults import FaultSchedule
from lebot_rl_ros.hardware.emulation.line import Line
from lebot_rl_ros.robot import RobotState, rotations
from lebot_rl_ros.robot.state import FloatArray

CONTENT = 0x001E  # as delivered: acceleration, gyro, angle, magnetometer
RATES = {code: rate for rate, code in wit.RATE_CODES.items()}
BAUDS = {code: baud for baud, code in wit.BAUD_CODES.items()}
# Values that these registers take; a rate of 0x0C is a single sample, 0x0D none.
KNOWN = {(wit.RATE, code) for code in (*RATES, 0x0C, 0x0D)} | {(wit.BAUD, code) for code in BAUDS}
ORDER = (  # in which a group's frames leave
    wit.TIME,
    wit.ACCELERATION,
    wit.GYRO,
    wit.ANGLE,
    wit.MAGNETOMETER,
    wit.QUATERNION,
)
WORLD_FIELD = np.array([0.0, 200.0, -430.0])  # mG, east north up, about that of central Europe
TEMPERATURE = 2500  # 0.01 deg C
SHARE = 0.1  # of frames that `corrupt` damages unless it says how many


@dataclass(frozen=True)
class ImuNoise:
    """Imperfections, one standard deviation per sample; SI, in the sensor's axes."""

    angular_velocity: float = 0.0  # rad/s
    linear_acceleration: float = 0.0  # m/s²
    orientation: float = 0.0  # rad, about each axis
    gyro_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)  # rad/s, constant


class EmulatedImu:
    """Answers no command and streams groups of frames, as the device does."""

    def __init__(
        self,
        line: Line,
        *,
        mounting: Sequence[float] = (0.0, 0.0, 0.0),
        rate: float = 10.0,
        baud: int = 115200,
        faults: FaultSchedule | None = None,
        noise: ImuNoise | None = None,
        seed: int = 0,
    ) -> None:
        """Switch on.

        Args:
            line: that the driver's port is the other end of.
            mounting: roll, pitch, yaw (rad) of the sensor in base_link, as an rpy of a URDF.
            rate: Hz, saved in the device; 10 as delivered.
            baud: saved in the device; 9600 as delivered.
            faults: asked for ``silence`` and ``corrupt`` at ``imu``.
            noise: None is a perfect sensor, but for its quantisation.
            seed: of noise and of what is damaged.

        Raises:
            ValueError: the device has no such rate or baud.
        """
        self.line, self.noise = line, noise
        sensor_in_base = rotations.from_roll_pitch_yaw(np.asarray(mounting, dtype=float))
        # As matrices, as a group is made in every step of the body: a vector of base_link seen
        # from the sensor, and q -> q * sensor_in_base.
        self._to_sensor = rotations.rotate_inverse(sensor_in_base, np.eye(3)).T
        self._by_mounting = rotations.multiply(np.eye(4), sensor_in_base).T
        self._faults = faults
        self._random, self._damage = np.random.default_rng((seed, 1)), np.random.default_rng(seed)
        _, _, _, rate_code, _ = wit.set_rate(rate)
        _, _, _, baud_code, _ = wit.set_baud(baud)
        self.saved = {wit.CONTENT: CONTENT, wit.RATE: rate_code, wit.BAUD: baud_code}
        self.registers = dict(self.saved)
        self._time, self._unlocked_until = 0.0, -1.0
        self._state: RobotState | None = None
        self._group, self._rest = -1, b''
        self._powered = True

    def power_cycle(self) -> None:
        """Lose the power: what was not saved is gone. The clock has a battery and goes on."""
        self.registers = dict(self.saved)
        self._unlocked_until, self._group, self._rest = -1.0, -1, b''

    @property
    def types(self) -> tuple[int, ...]:
        """The frames of a group now."""
        content = self.registers[wit.CONTENT]
        return tuple(type for type in ORDER if content >> (type - wit.FIRST_TYPE) & 1)

    @property
    def baud(self) -> int:
        """The device's own speed now."""
        return BAUDS[self.registers[wit.BAUD]]

    @property
    def rate(self) -> float:
        """Groups a second now: what the register says, less where the wire is too slow for it."""
        rate = RATES.get(self.registers[wit.RATE], 0.0)
        return rate / max(wit.wire_share(self.types, rate, self.baud), 1.0)

    def receive(self) -> None:
        """Take what commands have come.

        To write content or rate restarts the output: a group of what is true now is sent at once.
        """
        if not self._has_power():
            return
        data = self.line.read()
        if not data or not self._understood():
            return
        restart = False
        self._rest += data
        while (start := self._rest.find(b'\xff\xaa')) >= 0 and len(self._rest) >= start + 5:
            register, value = struct.unpack_from('<BH', self._rest, start + 2)
            self._rest = self._rest[start + 5 :]
            restart |= self._obey(register, value)
        self._rest = self._rest[start:] if start >= 0 else self._rest[-1:]
        if restart and self._state is not None:
            self._group = int(self._time * self.rate + 1e-6)
            self._send(self._state)

    def advance(self, time_s: float, state: RobotState) -> None:
        """Tell the device what is true now; it sends a group if one is due.

        Args:
            time_s: its own clock, s since 2000-01-01 00:00:00; call with 0 for the first state.
            state: of one robot, base_link's axes.
        """
        self._time, self._state = time_s, state
        group = int(time_s * self.rate + 1e-6)
        if self._has_power() and group != self._group:
            self._group = group
            self._send(state)

    def repeat(self, time_s: float, state: RobotState) -> None:
        """Send a group now, for a stream that goes on while the robot's time stands."""
        self._time, self._state = time_s, state
        if self._has_power():
            self._send(state)

    def _has_power(self) -> bool:
        """Whether the cable is in; the device begins anew when it is put in again."""
        plugged = self.line.plugged
        if plugged and not self._powered:
            self.power_cycle()
        self._powered = plugged
        return plugged

    def _understood(self) -> bool:
        """Whether both ends talk at the same speed; so it is taken where that cannot be told."""
        return self.line.baud in (None, self.baud)

    def _obey(self, register: int, value: int) -> bool:
        """Take one command; whether it restarts the output.

        What the device does not know, or is locked for, it ignores.
        """
        if register == wit.KEY and value == wit.UNLOCK_VALUE:
            self._unlocked_until = self._time + wit.UNLOCK_SECONDS
        elif self._time > self._unlocked_until:
            return False
        elif register == wit.SAVE and value == 0x00:
            self.saved = dict(self.registers)
        elif register == wit.SAVE and value == 0xFF:  # restart
            self.power_cycle()
        elif register == wit.CONTENT or (register, value) in KNOWN:
            self.registers[register] = value
            return register != wit.BAUD
        return False

    def _send(self, state: RobotState) -> None:
        """Send one group of frames."""
        if not self.rate or (self._faults and self._faults.active('silence', 'imu')):
            return
        group = b''.join(self._damaged(frame) for frame in self._frames(state))
        if not self._understood():
            group = self._damage.bytes(len(group))
        self.line.write(group)

    def _damaged(self, frame: bytes) -> bytes:
        """A frame, with one of its bits turned over if that fault is active and the dice say."""
        fault = self._faults and self._faults.active('corrupt', 'imu')
        if not fault:
            return frame
        share = SHARE if fault.value is None else fault.value
        if self._damage.random() >= share:
            return frame
        damaged = bytearray(frame)
        damaged[self._damage.integers(len(frame))] ^= 1 << self._damage.integers(8)
        return bytes(damaged)

    def _frames(self, state: RobotState) -> Iterator[bytes]:
        """The frames of a group, in the sensor's axes."""
        rate = self._to_sensor @ state.angular_velocity
        force = self._to_sensor @ state.linear_acceleration
        orientation: FloatArray = self._by_mounting @ state.orientation
        if self.noise:
            rate = rate + self.noise.gyro_bias + self._draw(self.noise.angular_velocity)
            force = force + self._draw(self.noise.linear_acceleration)
            orientation = integrate(orientation, self._draw(self.noise.orientation), 1.0)
        for type in self.types:
            if type == wit.TIME:
                yield wit.encode_time(self._time)
            elif type == wit.ACCELERATION:
                yield wit.encode(type, force, wit.ACCELERATION_SCALE, TEMPERATURE)
            elif type == wit.GYRO:
                yield wit.encode(type, rate, wit.GYRO_SCALE)
            elif type == wit.ANGLE:
                roll, pitch = rotations.roll_pitch(rotations.gravity_in_body(orientation))
                yaw = float(rotations.yaw(orientation))
                yield wit.encode(type, (roll, pitch, yaw), wit.ANGLE_SCALE)
            elif type == wit.MAGNETOMETER:
                yield wit.encode(type, rotations.rotate_inverse(orientation, WORLD_FIELD), 1.0)
            else:
                yield wit.encode(type, orientation, wit.QUATERNION_SCALE)

    def _draw(self, deviation: float) -> FloatArray:
        return self._random.normal(0.0, 1.0, 3) * deviation
