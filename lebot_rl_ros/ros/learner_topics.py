"""What a learner hears of the graph, and tells it: rows; how far it is, its numbers, verdicts."""

import json
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState, PointCloud2
from std_msgs.msg import Header, String

from lebot_rl_ros.ros import diagnostics, names, qos
from lebot_rl_ros.ros.convert import SerializedMessage, set_stamp
from lebot_rl_ros.ros.records import read_record, record_dtype

TRIAL_EVERY = 10**9  # ns of the robot between two words about a version on trial
REPEAT = 0.25  # s after which the last answer is given again: the driver may not have had it


class LearnerTopics:
    """The learner's publishers, with their messages ready."""

    def __init__(self, node: Node) -> None:
        """Advertise."""
        self._progress, self._progressed = SerializedMessage(Header()), 0.0
        self._of_progress = node.create_publisher(Header, names.LEARNER_PROGRESS, qos.OFFER)
        self._of_trial = node.create_publisher(Header, names.LEARNER_TRIAL, qos.OFFER)
        self._on_trial, self._named = '', 0
        self._of_statistics = node.create_publisher(
            DiagnosticArray, names.LEARNER_STATISTICS, qos.OFFER
        )
        self._of_verdicts = node.create_publisher(String, names.LEARNER_VERDICTS, qos.HISTORY)

    def progress(self, stamp: int) -> None:
        """Everything up to the state of this stamp, ns, was taken."""
        self._progress.stamp(stamp)
        self._progressed = time.monotonic()
        self._of_progress.publish(self._progress.serialized())

    def repeat(self) -> None:
        """Say the last progress again if it was some time ago; call it often."""
        if self._progressed and time.monotonic() - self._progressed > REPEAT:
            self._progressed = time.monotonic()
            self._of_progress.publish(self._progress.serialized())

    def trial(self, stamp: int, label: str) -> None:
        """Say what is on trial at this stamp, ns, '' if nothing is: on a change, and every second.

        The policy takes back what it has not been told of for long (``ros/trial_watch.py``).
        """
        due = bool(label) and not 0 <= stamp - self._named < TRIAL_EVERY
        if due or label != self._on_trial:
            self._on_trial, self._named = label, stamp
            word = Header(frame_id=label)
            set_stamp(word.stamp, stamp)
            self._of_trial.publish(word)

    def statistics(self, stamp: int, values: Mapping[str, float]) -> None:
        """Numbers of the learning after the step that ended at this stamp, ns."""
        word = diagnostics.status('learner', diagnostics.OK, '', values)
        array = DiagnosticArray(status=[word])
        set_stamp(array.header.stamp, stamp)
        self._of_statistics.publish(array)

    def verdict(self, event: Mapping[str, Any]) -> None:
        """What was decided about a version, and why; JSON."""
        self._of_verdicts.publish(String(data=json.dumps(event)))


class LearnerInput:
    """The learner's subscriptions; who takes the rows is told of whole messages only."""

    def __init__(
        self,
        node: Node,
        on_steps: Callable[[npt.NDArray[np.void]], None],
        on_rewards: Callable[[npt.NDArray[np.void]], None],
    ) -> None:
        """Listen to `policy/steps` and `reward/rewards`, every row of them."""
        self._node = node
        self.heard = 0.0  # time.monotonic() of the newest step
        self.refused = ''  # why a message was not taken, the last time
        for topic, take in ((names.STEPS, on_steps), (names.REWARDS, on_rewards)):
            node.create_subscription(PointCloud2, topic, self._reader(topic, take), qos.EVERY)

    def states(self, on_state: Callable[[int], None]) -> None:
        """Listen to the stamps, ns, of `joint_states` as well.

        Nothing else of them is read: a stamp stands behind the four bytes that name the encoding.
        """

        def read(serialized: bytes) -> None:
            second, nanosecond = struct.unpack_from('<iI', serialized, 4)
            on_state(second * 1_000_000_000 + nanosecond)

        self._node.create_subscription(JointState, names.JOINT_STATES, read, qos.EVERY, raw=True)

    def _reader(
        self, topic: str, take: Callable[[npt.NDArray[np.void]], None]
    ) -> Callable[[PointCloud2], None]:
        dtype: np.dtype[Any] | None = None

        def read(message: PointCloud2) -> None:
            nonlocal dtype
            if topic == names.STEPS:
                self.heard = time.monotonic()
            try:
                if dtype is None or dtype.itemsize != message.point_step:
                    dtype = record_dtype(message)
                take(read_record(message, dtype))
            except ValueError as error:
                self.refused = f'{topic}: {error}'
                self._node.get_logger().error(self.refused, throttle_duration_sec=1.0)

        return read
