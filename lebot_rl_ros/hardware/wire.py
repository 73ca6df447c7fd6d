"""A serial port as the buses need it: a request out, an answer in, with a deadline of our own."""

import os
import select
import termios
import time
from collections.abc import Callable
from contextlib import suppress

import serial

from lebot_rl_ros.hardware.ports import known_ports as known_ports
from lebot_rl_ros.hardware.ports import latency_timer, open_advice
from lebot_rl_ros.hardware.ports import latency_timer_advice as latency_timer_advice

CHUNK = 4096  # bytes that are read at once; more than any answer
ECHO = 4096  # bytes sent without an exchange that are known again if they come back
LONGEST_DRAIN = 0.05  # s, for a line that is never quiet
WRITE_TIMEOUT = 0.5  # s; an output that does not move for so long is as good as gone
BITS = 10  # of a byte on the wire: start, eight, stop

_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class WireLost(OSError):  # noqa: N818  it is a state of the world, not a mistake
    """The port cannot be opened or is gone; the message names it and says what helps."""


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
            raise WireLost(open_advice(port, error)) from error
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
