"""A version on trial acts only while somebody judges it."""

from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import Header

from lebot_rl_ros.ros import names, qos

UNWATCHED = 'the learner fell silent'  # the policy's word for a swap of its own accord


class TrialWatch:
    """Takes back what the learner had put on trial before it fell silent.

    The learner names what is on trial once a second of the robot, and before it acts for the first
    time. Only such a version is taken back: what an operator chose stays, learner or not.
    """

    def __init__(self, node: Node, steps: int, take_back: Callable[[str], None]) -> None:
        """Listen.

        Args:
            node: the policy.
            steps: that a version may act without a word; 0: as many as it likes.
            take_back: called with the label of a version that shall act no longer.
        """
        self._steps, self._take_back = steps, take_back
        self._label, self._since = '', 0  # on trial; its steps since the last word
        node.create_subscription(Header, names.LEARNER_TRIAL, self._on_word, qos.OFFER)

    def acted(self, label: str) -> None:
        """Count a step of what acts now."""
        if not self._label or label != self._label:
            return
        self._since += 1
        if self._since > self._steps > 0:
            self._label = ''
            self._take_back(label)

    def _on_word(self, word: Header) -> None:
        self._label, self._since = word.frame_id, 0
