"""A picture as the messages that cameras publish: raw, JPEG, calibration; one stamp."""

import io
import math
from array import array
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import set_stamp

FRAME = 'camera_optical_frame'
Pixels = npt.NDArray[np.uint8]  # (height, width, 3) RGB


class PicturePublisher:
    """Publishes pictures of any size; formats that nobody listens to are not made."""

    def __init__(self, node: Node, frame_id: str = FRAME) -> None:
        """Advertise."""
        self._image = Image(encoding='rgb8')
        self._pixels = np.zeros((0, 0, 3), np.uint8)
        self._compressed = CompressedImage(format='jpeg')
        self._frame_id = frame_id
        self._publishers = (
            node.create_publisher(Image, names.CAMERA_IMAGE, qos.OFFER),
            node.create_publisher(CompressedImage, names.CAMERA_COMPRESSED, qos.OFFER),
            node.create_publisher(CameraInfo, names.CAMERA_INFO, qos.OFFER),
        )

    def publish(
        self, stamp: int, info: CameraInfo, rgb: Callable[[], Pixels], jpeg: Callable[[], bytes]
    ) -> None:
        """Send a picture.

        Args:
            stamp: ns, of all three messages.
            info: of a picture of this size; its header is filled in.
            rgb: makes the pixels, if they are wanted.
            jpeg: makes the JPEG, if it is wanted.
        """
        wanted = [publisher.get_subscription_count() > 0 for publisher in self._publishers]
        if wanted[0]:
            self._resize(info.width, info.height)
            self._pixels[:] = rgb()
        if wanted[1]:
            self._compressed.data = array('B', jpeg())
        messages = (self._image, self._compressed, info)
        for message, publisher, anyone in zip(messages, self._publishers, wanted, strict=True):
            if anyone:
                message.header.frame_id = self._frame_id
                set_stamp(message.header.stamp, stamp)
                publisher.publish(message)

    def _resize(self, width: int, height: int) -> None:
        """Make the raw message fit; its pixels are then written in place."""
        if (self._image.width, self._image.height) != (width, height):
            self._image.width, self._image.height, self._image.step = width, height, 3 * width
            self._image.data = array('B', bytes(3 * width * height))
            self._pixels = np.frombuffer(self._image.data, np.uint8).reshape(height, width, 3)


class CameraPublisher:
    """Publishes the RGB pictures of an ideal camera in ``camera_optical_frame``."""

    def __init__(self, node: Node, width: int, height: int, fovy: float) -> None:
        """Prepare its calibration.

        Args:
            node: publishes.
            width: px.
            height: px.
            fovy: vertical field of view, degrees.
        """
        focal = 0.5 * height / math.tan(math.radians(fovy) / 2)
        cx, cy = (width - 1) / 2, (height - 1) / 2
        self._info = CameraInfo(
            width=width, height=height, distortion_model='plumb_bob', d=[0.0] * 5
        )
        self._info.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
        self._info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        self._info.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
        self._publisher = PicturePublisher(node)

    def publish(self, pixels: Pixels, stamp: int) -> None:
        """Send a picture (height, width, 3)."""
        self._publisher.publish(stamp, self._info, lambda: pixels, lambda: _jpeg(pixels))


def _jpeg(pixels: Pixels) -> bytes:
    from PIL import Image as Picture

    buffer = io.BytesIO()
    Picture.fromarray(pixels).save(buffer, 'JPEG', quality=85)
    return buffer.getvalue()
