"""A picture as the messages that cameras publish: raw, JPEG, calibration; one stamp."""

import io
import math
from array import array

import numpy as np
import numpy.typing as npt
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import set_stamp


class CameraPublisher:
    """Publishes RGB pictures in ``camera_optical_frame``."""

    def __init__(self, node: Node, width: int, height: int, fovy: float) -> None:
        """Prepare the messages of an ideal camera.

        Args:
            node: publishes.
            width: px.
            height: px.
            fovy: vertical field of view, degrees.
        """
        focal = 0.5 * height / math.tan(math.radians(fovy) / 2)
        cx, cy = (width - 1) / 2, (height - 1) / 2
        self._image = Image(width=width, height=height, encoding='rgb8', step=3 * width)
        self._image.data = array('B', bytes(3 * width * height))
        self._pixels = np.frombuffer(self._image.data, np.uint8).reshape(height, width, 3)
        self._compressed = CompressedImage(format='jpeg')
        self._info = CameraInfo(
            width=width, height=height, distortion_model='plumb_bob', d=[0.0] * 5
        )
        self._info.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
        self._info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        self._info.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
        self._messages = (self._image, self._compressed, self._info)
        for message in self._messages:
            message.header.frame_id = 'camera_optical_frame'
        self._publishers = (
            node.create_publisher(Image, names.CAMERA_IMAGE, qos.OFFER),
            node.create_publisher(CompressedImage, names.CAMERA_COMPRESSED, qos.OFFER),
            node.create_publisher(CameraInfo, names.CAMERA_INFO, qos.OFFER),
        )

    def publish(self, pixels: npt.NDArray[np.uint8], stamp: int) -> None:
        """Send a picture (height, width, 3); formats that nobody listens to are not made."""
        raw, compressed, _ = (publisher.get_subscription_count() for publisher in self._publishers)
        if raw:
            self._pixels[:] = pixels
        if compressed:
            from PIL import Image as Picture

            buffer = io.BytesIO()
            Picture.fromarray(pixels).save(buffer, 'JPEG', quality=85)
            self._compressed.data = array('B', buffer.getvalue())
        for message, publisher in zip(self._messages, self._publishers, strict=True):
            if publisher.get_subscription_count():
                set_stamp(message.header.stamp, stamp)
                publisher.publish(message)
