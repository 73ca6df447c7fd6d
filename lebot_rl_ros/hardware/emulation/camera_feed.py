"""Pictures for an emulated camera, handed on beside the loop that answers on the wires."""

import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.hardware.emulation.camera import MjpegServer, encode_jpeg
from lebot_rl_ros.hardware.emulation.faults import FaultSchedule


class CameraFeed:
    """Asks for pictures and publishes them, in a thread: they take longer than a servo may."""

    def __init__(
        self,
        picture: Callable[[], npt.NDArray[np.uint8]],
        rate: float,
        faults: FaultSchedule,
        port: int = 0,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the stream.

        Args:
            picture: gives (height, width, 3) RGB; called in the thread only.
            rate: Hz of wall time.
            faults: asked for ``freeze`` and ``unplug`` at ``camera``.
            port: TCP port on the loopback; 0: any.
            on_close: called at the end, so that ``picture`` returns or fails.
        """
        self._picture, self._period, self._faults = picture, 1.0 / rate, faults
        self._server, self._on_close = MjpegServer(port), on_close
        self.url = self._server.url
        self.trouble = ''  # why there are no pictures
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name='camera', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the stream."""
        self._ended.set()
        self._on_close()
        self._thread.join(2.0)
        self._server.close()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(due - time.monotonic(), 0.0)):
            due = max(due + self._period, time.monotonic())
            self._server.freeze(bool(self._faults.active('freeze', 'camera')))
            if self._faults.active('unplug', 'camera'):
                self._server.drop()
                continue
            self._server.resume()
            if not self._server.clients:
                continue
            try:
                self._server.publish(encode_jpeg(self._picture()))
            except RuntimeError as error:  # no OpenGL
                self.trouble = str(error)
                return
