"""One picture of a camera: pixels or JPEG, whichever it came as; the other is made when asked."""

import os
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

QUALITY = 85  # of JPEG, where nobody says
OPEN_TIMEOUT = 5.0  # s for a camera's first picture; some wake up slowly


def opencv() -> Any:
    """The module cv2, quiet: what goes wrong is said by us, once.

    Raises:
        ModuleNotFoundError: it is not installed; the message says what to do.
    """
    # OpenCV reads these when it is imported. The last is how many s it waits for a device's
    # picture; for streams it is told at each opening.
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    os.environ.setdefault('OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT', f'{OPEN_TIMEOUT:.0f}')
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a camera needs OpenCV: pip install 'lebot_rl_ros[camera]'", name='cv2'
        ) from error
    return cv2


def jpeg_header(data: bytes) -> tuple[int, int, bool]:
    """What a JPEG says of itself: width, height, and whether it brings its Huffman tables.

    Cameras of Motion JPEG may leave the tables out, as the standard ones are meant (AVI and UVC
    allow that); not every decoder knows them.

    Raises:
        ValueError: begin, end or size are not there: the picture is damaged.
    """
    if not (data.startswith(b'\xff\xd8') and data.rstrip(b'\0\r\n').endswith(b'\xff\xd9')):
        raise ValueError(f'{len(data)} bytes that are no whole JPEG')
    at, tables, width, height = 2, False, 0, 0
    # Segments: FF, marker, two bytes of length, content (ITU-T T.81, B.1.1)
    while at + 9 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:  # start of scan
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        tables |= marker == 0xC4
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height = int.from_bytes(data[at + 5 : at + 7], 'big')
            width = int.from_bytes(data[at + 7 : at + 9], 'big')
        at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    if not (width and height):
        raise ValueError('a JPEG without a size')
    return width, height, tables


class Frame:
    """A picture and when it arrived."""

    def __init__(self, data: npt.NDArray[np.uint8], stamp: int, number: int) -> None:
        """Keep a picture.

        Args:
            data: (height, width, 3) BGR, as OpenCV has them, or (N,) or (1, N): a JPEG's bytes.
            stamp: ns at which it arrived, by the clock of whoever asked for it.
            number: of pictures that have arrived, this one included.

        Raises:
            ValueError: the JPEG is damaged.
        """
        self.stamp, self.number = stamp, number
        self._jpeg = b''
        if data.ndim == 3:
            self.height, self.width = data.shape[:2]
            self._bgr = data
            self.as_jpeg = False
        else:
            self._jpeg = data.tobytes()
            self.width, self.height, self.as_jpeg = jpeg_header(self._jpeg)

    @cached_property
    def _bgr(self) -> npt.NDArray[np.uint8]:
        cv2 = opencv()
        how = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # the size stays the header's
        decoded = cv2.imdecode(np.frombuffer(self._jpeg, np.uint8), how)
        if decoded is None or decoded.shape != (self.height, self.width, 3):
            raise ValueError(f'{len(self._jpeg)} bytes of JPEG that cannot be decoded')
        return decoded

    def rgb(self) -> npt.NDArray[np.uint8]:
        """(height, width, 3).

        Raises:
            ValueError: the JPEG is damaged.
        """
        cv2 = opencv()
        return cv2.cvtColor(self._bgr, cv2.COLOR_BGR2RGB)

    def jpeg(self, quality: int = 0) -> bytes:
        """JPEG of 1 to 100, or, with 0, as it came (made with ``QUALITY`` if it came as pixels).

        Raises:
            ValueError: the JPEG that came is damaged.
        """
        if self.as_jpeg and not quality:
            return self._jpeg
        cv2 = opencv()
        done, data = cv2.imencode(
            '.jpg', self._bgr, [cv2.IMWRITE_JPEG_QUALITY, quality or QUALITY]
        )
        if not done:
            raise ValueError(f'no JPEG of {self.width} x {self.height} pixels can be made')
        return data.tobytes()
