"""Pictures of a device, a file or a stream: the newest one, and a stream that comes back."""

import atexit
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from lebot_rl_ros.hardware.capture import Thinning, identify
from lebot_rl_ros.hardware.frame import OPEN_TIMEOUT, Frame, opencv

BACK_OFF = (0.2, 2.0)  # s from a loss to the next try: at first, and at most after doubling
FILE_RATE = 25.0  # Hz of a file that does not say


class CameraSource:
    """Reads pictures in a thread of its own, as OpenCV blocks, and keeps only the newest.

    A stream that ends, stalls or is not there is tried again until :meth:`close`. Motion JPEG is
    not decoded unless someone asks for pixels: that makes 0.3 % of a core of 4 %, at 640 x 480
    and 15 Hz.
    """

    def __init__(
        self,
        source: str,
        width: int = 0,
        height: int = 0,
        rate: float = 0.0,
        *,
        loop: bool = True,
        timeout: float = 1.0,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Begin to read; nothing need be there yet.

        Args:
            source: a device (number, ``/dev/video0``, a link in ``/dev/v4l/by-id``), a URL of one
                of ``capture.SCHEMES``, or the path of a video.
            width: px that a device is asked for; 0: as it likes. Others give what they have.
            height: px.
            rate: Hz that a device is asked for, that a stream is thinned out to, and that a file
                is played at; 0: as it comes.
            loop: whether a file begins again at its end.
            timeout: s without a picture, after which a device or stream is opened anew.
            clock: gives a frame's stamp, ns, when it arrives.

        Raises:
            ValueError: a setting that cannot be.
            ModuleNotFoundError: OpenCV is not installed.
        """
        self.origin = identify(source)
        if width < 0 or height < 0:
            raise ValueError(f'a camera of {width} x {height} px; 0 takes what it gives')
        if not (math.isfinite(rate) and rate >= 0):
            raise ValueError(f'rate of the camera is {rate}, must be 0 (as it comes) or more Hz')
        if not (math.isfinite(timeout) and timeout > 0):
            raise ValueError(f'timeout of the camera is {timeout}, must be more than 0 s')
        opencv()
        self._size, self._rate, self._loop = (width, height), rate, loop
        self.timeout, self._clock = timeout, clock
        self.number = self.reopened = self.damaged = 0  # pictures, come-backs, damaged pictures
        self.reason = ''  # of the last loss, in words
        self.ended = False  # a file came to its end
        self.lost = False  # there were pictures, and there are none: reason says why
        self._arrived = time.monotonic()
        self._news = threading.Condition()
        self._frame: Frame | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name='camera', daemon=True)
        self._thread.start()

    def __enter__(self) -> 'CameraSource':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def age(self) -> float:
        """Seconds since the last picture arrived; before the first one, since the beginning."""
        return time.monotonic() - self._arrived

    def take(self, timeout: float) -> Frame | None:
        """The newest frame, once; waits for it up to ``timeout`` s."""
        with self._news:
            self._news.wait_for(lambda: self._frame is not None, timeout)
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """Stop reading. Does not wait for a stream that hangs: its thread ends by itself."""
        self._closed.set()
        self._thread.join(0.5)
        if self._thread.is_alive():  # Python must not end under it: that would abort the process
            atexit.register(self._thread.join, 2 * OPEN_TIMEOUT)

    def _run(self) -> None:
        error = opencv().error
        delay = BACK_OFF[0]
        while not self._closed.is_set():
            before = self.number
            try:
                reason = self._open_and_read()
            except error as trouble:
                reason = f'{self.origin.name}: {trouble}'
            came = self.number > before
            if self.origin.kind == 'file' and came:
                if self._loop:
                    continue
                self.ended = True
                return
            self.reason = reason
            self.lost |= came
            delay = BACK_OFF[0] if came else delay
            self._closed.wait(delay)
            delay = min(2 * delay, BACK_OFF[1])

    def _open_and_read(self) -> str:
        """Read until it cannot go on; returns why."""
        if reason := self.origin.absent():
            return reason
        began = time.monotonic()
        capture = self.origin.open(*self._size, self._rate, self.timeout)
        try:
            if capture.isOpened():
                return self._read(capture)
        finally:
            capture.release()
        return self.origin.refusal(time.monotonic() - began)

    def _read(self, capture: Any) -> str:
        file, rate, name = self.origin.kind == 'file', self._rate, self.origin.name
        if file and not rate:
            own = capture.get(opencv().CAP_PROP_FPS)
            rate = own if 0 < own <= 240 else FILE_RATE
        thinning = Thinning(1 / rate if rate else 0.0)
        last, limit = time.monotonic(), max(self.timeout, OPEN_TIMEOUT)  # the first may take long
        while True:
            done, data = capture.read()
            now = time.monotonic()
            if self._closed.is_set():
                return ''
            # Also where a picture came: if this process stood still, it is an old one, and more
            # old ones are queued behind it.
            if now - last > limit and not file:
                return f'{name}: no picture for {now - last:.1f} s'
            if not done:
                waited = now - last > 0.9 * self.timeout
                return f'{name}: ' + (f'no picture for {now - last:.1f} s' if waited else 'ended')
            last, limit = now, self.timeout
            if file:
                self._closed.wait(max(thinning.due - now, 0.0))
            self._keep(data, thinning)

    def _keep(self, data: Any, thinning: Thinning) -> None:
        """A picture arrived: offer it, unless it is damaged or comes sooner than is wanted."""
        try:
            frame = Frame(data, self._clock(), self.number + 1)
        except ValueError as error:
            self.damaged += 1
            self.reason = f'{self.origin.name}: {error}'
            return
        self.number, self._arrived = frame.number, time.monotonic()
        self.reopened += self.lost
        self.lost = False
        if not thinning.lets_through(self._arrived):
            return
        with self._news:
            self._frame = frame
            self._news.notify_all()
