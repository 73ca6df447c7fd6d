"""Pictures that carry a number, and a camera that sends them."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from lebot_rl_ros.hardware.emulation.camera import MjpegServer, encode_jpeg

WIDTH, HEIGHT = 320, 240
ONE, ZERO = (250, 150, 20), (10, 60, 200)  # RGB; exchanged channels would be seen
BITS = 16  # fields of 80 x 60 px


def coded(number: int) -> np.ndarray:
    """Picture (HEIGHT, WIDTH, 3) of a number below 2**16: 4 x 4 fields, lowest bit first."""
    bits = number >> np.arange(BITS) & 1
    fields = np.where(bits[:, None] == 1, ONE, ZERO).astype(np.uint8).reshape(4, 4, 3)
    return fields.repeat(HEIGHT // 4, axis=0).repeat(WIDTH // 4, axis=1)


def decoded(pixels: np.ndarray) -> int:
    """The number in a picture; every field must have one of the two colours."""
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    fields = pixels.reshape(4, HEIGHT // 4, 4, WIDTH // 4, 3)[:, 20:-20, :, 20:-20]
    means = fields.mean(axis=(1, 3)).reshape(BITS, 3)
    bits = means[:, 0] > means[:, 2]
    assert np.abs(means - np.where(bits[:, None], ONE, ZERO)).max() < 8
    return int((bits << np.arange(BITS)).sum())


def from_jpeg(data: bytes) -> int:
    """The number in a JPEG."""
    return decoded(np.array(Image.open(io.BytesIO(data)).convert('RGB')))


def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait for what a thread of ours does; fail if that takes too long."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < end, f'waited {seconds} s in vain for {what}'
        pause.wait(0.005)


class Feeder:
    """Publishes numbered pictures at 30 Hz; what it sent is kept by number."""

    def __init__(self, server: MjpegServer, first: int = 0) -> None:
        self.sent: dict[int, bytes] = {}
        self.number = first  # of the next picture
        self._server, self._end, self._one = server, threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._feed)

    def _feed(self) -> None:
        while not self._end.wait(1 / 30):
            with self._one:
                self.sent[self.number] = encode_jpeg(coded(self.number))
                self._server.publish(self.sent[self.number])
                self.number += 1

    def jump(self, number: int) -> None:
        """Go on from another number: it tells what was sent before from what is sent after."""
        with self._one:
            self.number = number

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()


@contextmanager
def server() -> Iterator[MjpegServer]:
    """A camera without pictures."""
    made = MjpegServer()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def camera() -> Iterator[tuple[MjpegServer, Feeder]]:
    """A camera that sends numbered pictures."""
    with server() as made, Feeder(made) as feeder:
        yield made, feeder


def write_video(path: str, count: int, codec: str = 'MJPG', rate: float = 50.0) -> None:
    """A video of the numbers from 0."""
    import cv2

    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*codec), rate, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(count):
        writer.write(coded(number)[..., ::-1])
    writer.release()


INFO = """\
image_width: 320
image_height: 240
camera_name: head
camera_matrix:
  rows: 3
  cols: 3
  data: [300.5, 0., 159.5, 0., 301.5, 119.5, 0., 0., 1.]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.1, -0.2, 0.001, 0.002, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [290., 0., 158., 0., 0., 291., 118., 0., 0., 0., 1., 0.]
"""
