"""From an IMU's frames to samples in base_link's axes: grouping, mounting, bias, orientation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lebot_rl_ros.hardware import attitude
from lebot_rl_ros.hardware import witmotion as wit
from lebot_rl_ros.robot import rotations
from lebot_rl_ros.robot.state import FloatArray

ORIENTATIONS = ('device', 'filter', 'none')
REST_WINDOW = 1.0  # s
CONJUGATE = np.array([1.0, -1.0, -1.0, -1.0])


@dataclass(frozen=True, slots=True)
class ImuSample:
    """One sample, after mounting and gyro bias."""

    device_time: float | None  # s since 2000-01-01, by the device's clock; whole ms
    orientation: FloatArray | None  # (4,) unit quaternion w x y z, base_link in world
    angular_velocity: FloatArray  # (3,) rad/s, base_link
    linear_acceleration: FloatArray  # (3,) m/s², base_link, specific force: +g on z at rest


class Groups:
    """Puts frames together to the groups that the device sent them in."""

    def __init__(self, wanted: Sequence[int]) -> None:
        """``wanted`` are the types that make a group whole; others are let pass."""
        self.wanted = tuple(sorted(wanted))
        self.incomplete = 0  # from the first whole group on
        self.lacking: tuple[int, ...] = ()  # what the last incomplete group lacked
        self._group: dict[int, bytes] = {}
        self._last, self._begun = 0, False

    def reset(self) -> None:
        """Begin with the next group; the count stays."""
        self._group, self._last, self._begun = {}, 0, False

    def add(self, frame: wit.Frame) -> dict[int, bytes] | None:
        """Take the next frame; returns the payloads by type when it makes a group whole.

        A group begins where types begin again from below, and where bytes were lost: what is on
        both sides of a loss need not belong together.
        """
        if frame.type <= self._last or frame.gap:
            self._drop()
        self._last = frame.type
        if frame.type in self.wanted:
            self._group[frame.type] = frame.payload
            if frame.type == self.wanted[-1]:
                if len(self._group) == len(self.wanted):
                    group, self._group, self._begun = self._group, {}, True
                    return group
                self._drop()
        return None

    def _drop(self) -> None:
        if self._group:
            self.incomplete += self._begun
            self.lacking = tuple(type for type in self.wanted if type not in self._group)
            self._group = {}


class SampleMaker:
    """Turns a whole group into a sample."""

    def __init__(
        self, rate: float, mounting: Sequence[float], orientation: str, *, device_time: bool
    ) -> None:
        """Prepare.

        Args:
            rate: groups a second, Hz.
            mounting: roll, pitch, yaw (rad, fixed axes, REP-103) of the sensor in base_link, as
                the rpy of its joint in a URDF.
            orientation: ``device`` fuses it, ``filter`` does it here (see attitude.py), ``none``.
            device_time: whether groups have the device's clock.

        Raises:
            ValueError: there is no such orientation, or mounting is not three finite numbers.
        """
        if orientation not in ORIENTATIONS:
            raise ValueError(
                f'orientation is {orientation!r}; choices are {", ".join(ORIENTATIONS)}'
            )
        if len(mounting) != 3 or not all(map(math.isfinite, mounting)):
            raise ValueError(f'mounting is {mounting}, must be roll, pitch and yaw in rad')
        self.types = [wit.ACCELERATION, wit.GYRO]
        self.types += [wit.QUATERNION] * (orientation == 'device') + [wit.TIME] * device_time
        self.bias = attitude.GyroBias(max(round(REST_WINDOW * rate), 2))
        self.temperature = math.nan  # deg C, of the sensor
        self.misfit = 0.0  # rad, at the last rest: orientation against the direction of gravity
        self.invalid = 0  # groups with a date or a quaternion that is none
        self.repeated = 0  # groups of a device time that was there already
        self._period, self._orientation, self._device_time = 1 / rate, orientation, device_time
        sensor_in_base = rotations.from_roll_pitch_yaw(np.asarray(mounting, dtype=float))
        # As matrices: a vector of the sensor seen from base_link, and q -> q * base_in_sensor.
        self._to_base = rotations.rotate_inverse(sensor_in_base, np.eye(3))
        self._by_mounting = rotations.multiply(np.eye(4), sensor_in_base * CONJUGATE).T
        # Of the orientation that is made here; what the filter learns of the gyro comes on top of
        # the bias, rad/s.
        self._fused: FloatArray = np.array([1.0, 0.0, 0.0, 0.0])
        self._drift: FloatArray = np.zeros(3)
        self._tilt_known, self._last_ms = False, -1

    def restart(self) -> None:
        """Samples are missing from here on: what was known of the tilt and of a rest is old."""
        self.bias.restart()
        self._tilt_known, self._last_ms = False, -1

    def __call__(self, group: dict[int, bytes]) -> ImuSample | None:
        """Payloads by type, in SI and base_link; None if they were there already or are wrong."""
        ms = wit.decode_time(group[wit.TIME]) if self._device_time else -1
        if ms is None or (self._device_time and ms == self._last_ms):
            self.invalid += ms is None
            self.repeated += ms is not None
            return None
        orientation = None
        if self._orientation == 'device':
            orientation = self._turned(wit.counts(group[wit.QUATERNION]))
            if orientation is None:
                self.invalid += 1
                return None
        *counts, temperature = wit.counts(group[wit.ACCELERATION])
        force = self._to_base @ np.array(counts) * wit.ACCELERATION_SCALE
        rate = self._to_base @ np.array(wit.counts(group[wit.GYRO])[:3]) * wit.GYRO_SCALE
        rested = self.bias.add(rate, force)
        rate = rate - self.bias.value
        if self._orientation == 'filter':
            orientation = self._fuse(rate, force)
        if rested and orientation is not None:
            up = self.bias.gravity / max(math.hypot(*self.bias.gravity), 1e-9)
            cosine = -float(up @ rotations.gravity_in_body(orientation))
            self.misfit = math.acos(min(max(cosine, -1.0), 1.0))
        self._last_ms, self.temperature = ms, temperature / 100
        return ImuSample(ms / 1e3 if self._device_time else None, orientation, rate, force)

    def _turned(self, counts: tuple[int, ...]) -> FloatArray | None:
        """Orientation of base_link from that of the sensor; None if it has no length of one."""
        sensor = np.array(counts) * wit.QUATERNION_SCALE
        length = math.sqrt(sensor @ sensor)
        if abs(length - 1) > 0.1:
            return None
        return self._by_mounting @ (sensor / length)

    def _fuse(self, rate: FloatArray, force: FloatArray) -> FloatArray:
        if not self._tilt_known:
            heading = np.array([0.0, 0.0, float(rotations.yaw(self._fused))])
            turned = rotations.from_roll_pitch_yaw(heading)
            self._fused = rotations.multiply(turned, attitude.from_gravity(force))
            self._tilt_known = True
        self._fused, self._drift = attitude.complementary(
            self._fused, self._drift, rate, force, self._period
        )
        return self._fused
