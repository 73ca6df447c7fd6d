"""A serial port as the buses need it: a request out, an answer in, with a deadline of our own."""

import errno
import os
import select
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import serial
from serial.tools import list_ports

CHUNK = 4096  # bytes that are read at once; more than any answer
ECHO = 4096  # bytes sent without an exchange that are known again if they come back
LONGEST_DRAIN = 0.05  # s, for a line that is never quiet
WRITE_TIMEOUT = 0.5  # s; an output that does not move for so long is as good as gone
BITS = 10  # of a byte on the wire: start, eight, stop

_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class WireLost(OSError):  # noqa: N818  it is a state of the world, not a mistake
    """The port cannot be opened or is gone; the message names it and says what helps."""


def known_ports() -> list[str]:
    """Serial ports that are there, the names that survive replugging first."""
    by_id = Path('/dev/serial/by-id')
    stable = sorted(map(str, by_id.iterdir())) if by_id.is_dir() else []
    return stable + sorted(port.device for port in list_ports.comports())


def latency_timer(port: str, sysfs: Path = Path('/sys')) -> tuple[Path, float] | None:
    """Where the USB adapter behind a port has its latency timer, and its value, s; or None."""
    path = sysfs / 'bus/usb-serial/devices' / os.path.basename(os.path.realpath(port))
    path /= 'latency_timer'
    try:
        return path, int(path.read_text()) / 1e3
    except (OSError, ValueError):
        return None


def latency_timer_advice(port: str, sysfs: Path = Path('/sys')) -> str:
    """The line that mends a slow USB adapter; empty if it is fast, or not known to be slow.

    Such an adapter keeps what it received for up to this time: with 16 ms, eight servos are read
    59 times a second instead of 770.
    """
    found = latency_timer(port, sysfs)
    if found is None or found[1] <= 0.001:
        return ''
    return (
        f'{port}: its USB latency timer is {1e3 * found[1]:.0f} ms, which delays every answer; '
        f'set it with: echo 1 | sudo tee {found[0]}'
    )


def _advice(port: str, error: Exception) -> str:
    code = getattr(error, 'errno', None)
    if code in (errno.EACCES, errno.EPERM):
        return (
            f'{port}: no permission; join its group (sudo usermod -aG dialout $USER) and log in '
            'again. If the port comes and goes, brltty grabs it: sudo apt remove brltty'
        )
    if code == errno.ENOENT:
        return f'{port} is not there; ports that are: {", ".join(known_ports()) or "none"}'
    if code in (errno.EBUSY, errno.EAGAIN):
        return f'{port} is in use; another driver or brltty has it, see: fuser -v {port}'
    return f'{port} cannot be opened: {error}'


class Wire:
    """One exclusive serial port, 8N1, raw. Every method raises WireLost when the port is gone."""

    def __init__(self, port: str, baud: int) -> None:
        """Open ``port``: a device, a link to one, or an emulated port's link."""
        self.port = port
        self.echoed = 0  # requests that came back, as half-duplex adapters without a switch do
        self._unheard = b''  # sent since the last exchange; its echo would come first
        try:
            self._serial = serial.Serial(port, baud, timeout=0, exclusive=True)
        except (serial.SerialException, OSError, termios.error, ValueError) as error:
            raise WireLost(_advice(port, error)) from error
        with suppress(ValueError, OSError, NotImplementedError):  # a 1 ms latency timer, where the
            self._serial.set_low_latency_mode(True)  # adapter's driver lets everybody ask for it
        self._fd: int = self._serial.fileno()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        found = latency_timer(port)
        self.latency = 0.001 if found is None else found[1]  # s, until what came is handed on

    @property
    def baud(self) -> int:
        """Bit/s."""
        return int(self._serial.baudrate)

    def set_baud(self, baud: int) -> None:
        """Talk at another rate from now on."""
        try:
            self._serial.baudrate = baud
        except (serial.SerialException, OSError, termios.error, ValueError) as error:
            raise WireLost(f'{self.port} cannot be set to {baud} bit/s: {error}') from error

    def duration(self, count: int) -> float:
        """Seconds that ``count`` bytes take."""
        return count * BITS / self.baud

    def fileno(self) -> int:
        """The descriptor, for someone who waits on it or must write when we no longer can."""
        return self._fd

    def close(self) -> None:
        """Leave the port; harmless when it is gone or closed."""
        with suppress(serial.SerialException, OSError, termios.error):
            self._serial.close()
        self._fd = -1

    def send(self, request: bytes | bytearray) -> None:
        """Write a request that nobody answers."""
        self._write(request)
        self._unheard = (self._unheard + request)[-ECHO:]

    def exchange(
        self,
        request: bytes,
        expected: int,
        timeout: float,
        enough: Callable[[bytes], bool] | None = None,
    ) -> bytes:
        """Throw away what lies there, write, and read until enough came or time is up.

        Args:
            request: what to write. If it comes back, with or without those of :meth:`send` before
                it, that echo is taken off and counted.
            expected: bytes of a full answer; more are returned if they are there.
            timeout: s, from now.
            enough: says of fewer bytes whether nothing more will come.
        """
        deadline = time.monotonic() + timeout
        lying, heard, self._unheard = self._read(), self._unheard, b''
        if lying and heard.startswith(lying):
            heard = heard[len(lying) :]
        self._write(request)
        data, echo = b'', True  # echo: it may still be one
        while True:
            more = self.receive(deadline)
            late = not more
            data += more or self._read()  # we may have been late ourselves, not the answer
            if echo:
                rest = self._without_echo(data, heard, request)
                if rest is not None:
                    data, echo = rest, False
            if late:
                return data
            if not echo and (len(data) >= expected or (enough is not None and enough(data))):
                return data

    def receive(self, deadline: float) -> bytes:
        """What comes, at least one byte; nothing if none did until ``deadline`` (monotonic)."""
        left = deadline - time.monotonic()
        if left <= 0:  # also where bytes come without end
            return b''
        try:
            events = self._poll.poll(left * 1e3)
            if not events:
                return b''
            data = b'' if events[0][1] & _GONE else os.read(self._fd, CHUNK)
        except OSError as error:
            raise self._lost(error) from error
        if not data:  # readable, but nothing to read: the other side hung up
            raise self._lost('hung up')
        return data

    def drain(self, quiet: float = 0.0) -> int:
        """Throw away what lies there, and what comes until it was quiet for so long, s.

        Returns:
            How many bytes that were.
        """
        end = time.monotonic() + LONGEST_DRAIN
        count, self._unheard = len(self._read()), b''
        while quiet and (now := time.monotonic()) < end:
            more = self.receive(now + quiet)
            if not more:
                break
            count += len(more)
        return count

    def _without_echo(self, data: bytes, heard: bytes, request: bytes) -> bytes | None:
        """Data behind the echo, or all of it if there is none; None while that is not clear."""
        for echo in (heard + request, request) if heard else (request,):
            if data.startswith(echo):
                self.echoed += 1
                return data[len(echo) :]
            if echo.startswith(data):
                return None
        at = data.find(request)  # garbage before it cannot be an answer to it
        if at < 0:
            return data
        self.echoed += 1
        return data[at + len(request) :]

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, CHUNK)
        except BlockingIOError:
            return b''
        except OSError as error:
            raise self._lost(error) from error

    def _write(self, data: bytes | bytearray) -> None:
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                if not select.select((), (self._fd,), (), WRITE_TIMEOUT)[1]:
                    raise self._lost('takes no more bytes')
                written += os.write(self._fd, data[written:])
        except BlockingIOError as error:
            raise self._lost('takes no more bytes') from error
        except (OSError, ValueError) as error:
            raise error if isinstance(error, WireLost) else self._lost(error) from error

    def _lost(self, reason: object) -> WireLost:
        return WireLost(f'{self.port} is lost ({reason}); is the cable in?')
