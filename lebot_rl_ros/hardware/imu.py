"""A serial IMU: opened, configured, read, lost and found again."""

import os
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lebot_rl_ros.hardware import witmotion as wit
from lebot_rl_ros.hardware.imu_samples import Groups, ImuSample, SampleMaker
from lebot_rl_ros.hardware.wire import Wire, WireLost

COMMAND_PAUSE = 0.02  # s between commands: the device needs a moment for each
SILENT = 0.2  # s without a whole group
# The kernel keeps this much of a stream and then throws away what is new, so the end of what a
# read finds may be old when it finds so much.
FULL = 4095  # bytes
MOST = 65536  # bytes that one read takes


@dataclass
class ImuErrors:
    """What was thrown away since the start."""

    damaged: int = 0  # frames whose sum was wrong
    skipped: int = 0  # bytes that belonged to no frame
    incomplete: int = 0  # groups that lacked a frame
    invalid: int = 0  # groups with a date or a quaternion that is none
    overrun: int = 0  # times that the stream had been left lying, and its samples were too old

    def total(self) -> int:
        """All of them, but for bytes, which belong to frames."""
        return self.damaged + self.incomplete + self.invalid + self.overrun


class ImuReader:
    """Reads a WitMotion IMU. Opens, configures and reads; never waits for the device."""

    def __init__(
        self,
        port: str,
        baud: int = 115200,
        rate: float = 200.0,
        mounting: Sequence[float] = (0.0, 0.0, 0.0),
        *,
        orientation: str = 'device',
        device_time: bool = False,
    ) -> None:
        """Check the parameters; nothing is opened yet.

        Args:
            port: path of the serial port.
            baud: that the device is set to; 9600 as delivered.
            rate: samples a second that it is asked for, Hz.
            mounting: roll, pitch, yaw (rad, fixed axes, REP-103) of the sensor in base_link, as
                the rpy of its joint in a URDF.
            orientation: ``device`` fuses it, ``filter`` does it here (see attitude.py), ``none``.
            device_time: ask for the device's clock, too; a time that was there already makes no
                second sample then.

        Raises:
            ValueError: the device cannot do that; the message has the choices.
        """
        self.port, self.baud, self.rate = port, baud, rate
        asked_rate, _ = wit.set_rate(rate), wit.set_baud(baud)  # also checks them
        self.made = SampleMaker(rate, mounting, orientation, device_time=device_time)
        types = self.made.types
        self._commands = wit.unlock(), wit.set_content(types), asked_rate
        share = wit.wire_share(types, rate, baud)
        if share > 1:
            raise ValueError(
                f'{len(types)} frames at {rate:g} Hz need {share:.0%} of {baud} baud: '
                'lower the rate, or set the device to a higher baud'
            )
        self.errors = ImuErrors()
        self._since = time.monotonic()  # of the newest whole group, or of opening before it
        self._received = self._frames = 0  # bytes and frames since then
        self._wire: Wire | None = None
        self._poll = select.poll()
        self._parser, self._groups, self._device_time = wit.Parser(), Groups(types), device_time

    @property
    def is_open(self) -> bool:
        """Whether there is a port to read from."""
        return self._wire is not None

    @property
    def age(self) -> float:
        """Seconds since the newest sample; since the start before the first."""
        return time.monotonic() - self._since

    def open(self) -> None:
        """Open the port for us alone, and configure the device.

        Raises:
            WireLost: the port is not there, not permitted or taken; the message says what to do.
        """
        self.close()
        self._wire = Wire(self.port, self.baud)
        self._poll = select.poll()
        self._poll.register(self._wire.fileno(), select.POLLIN)
        self._parser.reset()
        self._groups.reset()
        self.made.restart()
        self._received = self._frames = 0
        self.configure()
        self._since = time.monotonic()

    def configure(self) -> None:
        """Tell the device what to send and how often; it forgets that when it loses its power.

        Raises:
            WireLost: the port is gone; it is closed then.
        """
        with self._closed_if_lost() as wire:
            for command in self._commands:
                wire.send(command)
                time.sleep(COMMAND_PAUSE)

    def fileno(self) -> int:
        """Descriptor that becomes readable when bytes have come, or the port is gone."""
        return -1 if self._wire is None else self._wire.fileno()

    def read(self) -> list[ImuSample]:
        """Take all that lies there; the samples that it makes whole, oldest first. Never waits.

        Raises:
            WireLost: the port is gone; it is closed then.
        """
        with self._closed_if_lost() as wire:
            data = self._lying(wire)
        self._received += len(data)
        frames = self._parser.feed(data)
        self._frames += len(frames)
        groups = [group for frame in frames if (group := self._groups.add(frame))]
        samples = [sample for group in groups if (sample := self.made(group))]
        errors = self.errors
        errors.damaged, errors.skipped = self._parser.damaged, self._parser.skipped
        errors.incomplete, errors.invalid = self._groups.incomplete, self.made.invalid
        if len(data) >= FULL and not self._device_time:
            errors.overrun += 1
            self.made.restart()
            return []
        if groups:
            self._since = time.monotonic()
            self._received = self._frames = 0
        return samples

    def silence(self) -> str:
        """Why no sample has come for longer than SILENT, and what to do; empty if one has."""
        if self.age < SILENT:
            return ''
        lacking = self._groups.lacking
        if self._frames:
            lack = ', '.join(wit.NAMES[type] for type in lacking) or 'nothing yet'
            own = wit.QUATERNION in lacking
            hint = '; a device that has no quaternions needs orientation:=filter' if own else ''
            return f'frames come, but no whole sample: lacking {lack}{hint}'
        if self._received:
            return (
                f'bytes come, but no frames: is the device set to another baud than {self.baud}? '
                'As delivered it is 9600'
            )
        return 'silent: has it power, and do its TX and RX go to RX and TX of the adapter?'

    def close(self) -> None:
        """Close the port, if it is open."""
        if self._wire is not None:
            self._wire.close()
        self._wire = None

    def _lying(self, wire: Wire) -> bytes:
        """What lies there now."""
        data = b''
        try:
            while len(data) < MOST and (events := self._poll.poll(0)):
                more = os.read(wire.fileno(), MOST) if events[0][1] == select.POLLIN else b''
                if not more:  # readable, but nothing to read
                    raise WireLost(f'{self.port} is lost (hung up); is the cable in?')
                data += more
        except OSError as error:
            if isinstance(error, WireLost):
                raise
            raise WireLost(f'{self.port} is lost ({error}); is the cable in?') from error
        return data

    @contextmanager
    def _closed_if_lost(self) -> Iterator[Wire]:
        if self._wire is None:
            raise WireLost(f'{self.port} is not open')
        try:
            yield self._wire
        except WireLost:
            self.close()
            raise
