"""What a camera's pictures can be read from, and how OpenCV opens it."""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lebot_rl_ros.hardware.frame import OPEN_TIMEOUT, opencv

SCHEMES = ('http', 'https', 'rtsp', 'rtsps', 'tcp', 'udp')


@dataclass(frozen=True)
class Source:
    """A device, a file or a stream."""

    kind: str  # 'device', 'file' or 'stream'
    target: str | int  # what OpenCV opens
    name: str  # for people; without a stream's user and password

    def absent(self) -> str:
        """Why there is nothing to open, where that can be known; else ''."""
        if self.kind == 'stream' or not isinstance(self.target, str):
            return ''
        if not Path(self.target).exists():
            return f'{self.name} is not there'
        if not os.access(self.target, os.R_OK):
            group = ': is the user in the group video?' if self.kind == 'device' else ''
            return f'{self.name} may not be read{group}'
        return ''

    def open(self, width: int, height: int, rate: float, timeout: float) -> Any:
        """Open it, which takes up to ``OPEN_TIMEOUT`` s.

        Args:
            width: px that a device is asked for; 0 does not ask. Others give what they have.
            height: px.
            rate: Hz that a device is asked for; 0 does not ask.
            timeout: s that reading from a stream of single pictures may take.

        Returns:
            cv2.VideoCapture, which may not be open. Of Motion JPEG in a file or a stream it reads
            (1, N) bytes of JPEG, else (height, width, 3) BGR.
        """
        cv2 = opencv()
        if self.kind == 'device':
            linux = sys.platform == 'linux'
            capture = cv2.VideoCapture(self.target, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
            for what, value in (
                (cv2.CAP_PROP_FRAME_WIDTH, width),
                (cv2.CAP_PROP_FRAME_HEIGHT, height),
                (cv2.CAP_PROP_FPS, rate),
                (cv2.CAP_PROP_BUFFERSIZE, 1),
            ):
                if value:
                    capture.set(what, value)
            return capture
        # Video by RTSP and the like begins with the next key frame, for which one read waits.
        single = str(self.target).startswith('http')
        settings = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(OPEN_TIMEOUT * 1e3)),
            *(
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                round(1e3 * (timeout if single else max(timeout, OPEN_TIMEOUT))),
            ),
            *(cv2.CAP_PROP_N_THREADS, 1),  # more would each hold back a picture
        ]
        capture = cv2.VideoCapture(self.target, cv2.CAP_FFMPEG, settings)
        if int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*'MJPG'):
            capture.set(cv2.CAP_PROP_FORMAT, -1)  # as it comes, not decoded
        return capture

    def refusal(self, seconds: float) -> str:
        """Why it could not be opened, as far as OpenCV lets one know; it took ``seconds``."""
        if seconds > 0.9 * OPEN_TIMEOUT:
            return f'{self.name}: no picture within {OPEN_TIMEOUT:g} s of opening it'
        why = {
            'device': 'it has no pictures, or another program uses it',
            'file': 'it is no video that OpenCV can read',
            'stream': 'nobody answers there, or without pictures',
        }
        return f'{self.name} cannot be opened: {why[self.kind]}'


def identify(source: str) -> Source:
    """What a user means: a device's number or path, a URL of ``SCHEMES``, or a video's path.

    Raises:
        ValueError: it is empty, or a URL of another scheme.
    """
    if not source.strip():
        raise ValueError(
            'source of the camera is empty; give a device (/dev/video0), a video or a URL'
        )
    if source.isdecimal():
        linux = sys.platform == 'linux'
        target = f'/dev/video{source}'
        return (
            Source('device', target, target)
            if linux
            else (Source('device', int(source), f'camera {source}'))
        )
    if '://' not in source:
        return Source('device' if source.startswith('/dev/') else 'file', source, source)
    url = urlsplit(source)
    if url.scheme not in SCHEMES:
        raise ValueError(
            f'source of the camera begins with {url.scheme}://; choices are {", ".join(SCHEMES)}'
        )
    name = f'{url.scheme}://{url.netloc.rpartition("@")[2]}{url.path}'
    return Source('stream', source, name)


class Thinning:
    """Which pictures of a stream are wanted, if it brings more than one per ``period`` (s)."""

    def __init__(self, period: float) -> None:
        """Let the next picture through; period 0 lets all through."""
        self.period, self.due = period, -math.inf

    def lets_through(self, now: float) -> bool:
        """Whether a picture that arrives at ``now`` (s) is wanted.

        It may come a quarter of a period early. Two are never closer than half a period, also at
        first and after one came late; else the times stay on their grid, so the mean rate holds.
        """
        if now < self.due - self.period / 4:
            return False
        self.due = max(self.due + self.period, now + 0.75 * self.period)
        return True
