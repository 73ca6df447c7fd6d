"""The last messages of latched topics, which begin every file of a bag."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from lebot_rl_ros.data.bag.types import Message, Topic

MOST = 1000  # messages kept of one topic, whatever its publishers offer
_FOREVER = 2**62  # ns


class Latched:
    """Remembers for each latched topic what someone who comes late would still hear.

    Each offered profile is one publisher, so a topic keeps as many messages as they offer
    together (`depth`; one where it is not known). Which publisher sent what is not known.
    """

    def __init__(self) -> None:
        self._kept: dict[str, deque[Message]] = {}
        self._lifespan: dict[str, int] = {}

    def add(self, topic: Topic) -> None:
        """Know a topic; for one that is not latched this does nothing."""
        profiles = [qos for qos in topic.qos if qos.get('durability') == 'transient_local']
        if not profiles:
            return
        depth = min(sum(max(1, int(qos.get('depth') or 0)) for qos in profiles), MOST)
        self._kept[topic.name] = deque(self._kept.get(topic.name, ()), maxlen=depth)
        self._lifespan[topic.name] = max(_nanoseconds(qos.get('lifespan')) for qos in profiles)

    def take(self, message: Message) -> None:
        """Remember a message, if its topic is latched."""
        kept = self._kept.get(message.topic)
        if kept is not None:
            kept.append(message)

    def messages(self, now: int) -> Iterator[Message]:
        """What is still to be heard at a time in ns: with that log time and its old publish time.

        A message older than its lifespan (/rosout has ten seconds) is not.
        """
        for name, kept in self._kept.items():
            for message in tuple(kept):
                if now - message.publish_time <= self._lifespan[name]:
                    yield Message(name, now, message.publish_time, message.data)


def _nanoseconds(time: Mapping[str, Any] | None) -> int:
    """A duration of rosbag2's; 0 and what is not given mean forever."""
    if time is None:
        return _FOREVER
    return int(time.get('sec', 0)) * 10**9 + int(time.get('nsec', 0)) or _FOREVER
