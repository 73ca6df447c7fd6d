"""Raw subscriptions of a recorder to whatever topics there are, as they come and change."""

import importlib
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from lebot_rl_ros.data.bag.types import Message, Topic
from lebot_rl_ros.ros.recording_qos import described, request

# rclpy gives a callback what is known about a message only if it takes two arguments.
_TWO = inspect.signature(lambda serialized, information: None)


@dataclass
class Listened:
    """One topic that is listened to."""

    topic: Topic
    recorded: bool  # some are only listened to
    profile: QoSProfile  # asked for
    subscription: Any = None
    publishers: tuple[bytes, ...] = ()  # their ids in DDS, when looked last
    messages: int = 0
    lost: int = 0  # that were sent and did not come, as far as the sender's numbers tell
    number: int = 0  # the sender's, of the newest message
    missing: int = 0  # numbers left out since the last look, if there was one sender only


class RecordingTopics:
    """Looks for topics, subscribes to those wanted, and hands on every message as it came."""

    def __init__(
        self,
        node: Node,
        wanted: Callable[[str], bool],
        take: Callable[[Message], object],
        on_topic: Callable[[Topic], None],
        hooks: Mapping[str, Callable[[bytes], None] | None],
    ) -> None:
        """Begin; nothing is subscribed to before :meth:`look`.

        Args:
            node: subscribes.
            wanted: whether a topic, by its absolute name, is recorded.
            take: gets every message of a recorded topic.
            on_topic: is told of each of these topics before its first message, and again when
                its publishers offer something else.
            hooks: topics to listen to in any case, and what to call with their messages.
        """
        self._node, self._wanted, self._take, self._on_topic = node, wanted, take, on_topic
        self._hooks = dict(hooks)
        self.listened: dict[str, Listened] = {}
        self.left: dict[str, str] = {}  # topics that are wanted but cannot be taken, and why
        self.newest = time.monotonic()  # when a message came last

    def look(self) -> None:
        """Subscribe to what is new; a tenth of a millisecond where nothing is."""
        for name, types in self._node.get_topic_names_and_types():
            if name not in self.listened and name not in self.left:
                self._meet(name, types)

    def review(self) -> None:
        """See whether publishers have changed, and count what they sent in vain; call at 1 Hz."""
        for listened in self.listened.values():
            infos = self._publishers(listened.topic.name)
            ids = tuple(bytes(info.endpoint_gid) for info in infos)
            if len(ids) <= 1 and ids in (listened.publishers, ()):
                listened.lost += listened.missing
            listened.missing = 0
            if not ids or ids == listened.publishers:
                continue
            listened.publishers = ids
            offered = [info.qos_profile for info in infos]
            self._adapt(listened, offered)

    def _publishers(self, name: str) -> list[Any]:
        found = self._node.get_publishers_info_by_topic(name)
        return sorted(found, key=lambda info: bytes(info.endpoint_gid))

    def _meet(self, name: str, types: list[str]) -> None:
        recorded = self._wanted(name)
        if not recorded and name not in self._hooks:
            return
        infos = self._publishers(name)
        if not infos:
            return  # so far somebody only waits for it: what it will offer is not known
        kinds = sorted({info.topic_type for info in infos})
        if len(kinds) > 1:
            self._leave(name, f'it has several types: {", ".join(kinds)}')
            return
        try:
            message_class(kinds[0])
        except (ImportError, AttributeError, ValueError):
            self._leave(name, f'its type {kinds[0]} is not installed')
            return
        offered = [info.qos_profile for info in infos]
        digest = str(infos[0].topic_type_hash)
        topic = Topic(
            name,
            kinds[0],
            tuple(described(profile) for profile in offered),
            digest if digest.startswith('RIHS') else '',
        )
        listened = Listened(topic, recorded, request(topic.type, offered))
        listened.publishers = tuple(bytes(info.endpoint_gid) for info in infos)
        if recorded:
            self._on_topic(topic)
        listened.subscription = self._subscribe(listened)
        self.listened[name] = listened

    def _leave(self, name: str, why: str) -> None:
        self.left[name] = why
        self._node.get_logger().warning(f'{name} is not recorded: {why}')

    def _adapt(self, listened: Listened, offered: list[QoSProfile]) -> None:
        """Another set of publishers: ask for what all of them can serve."""
        topic = listened.topic
        profiles = tuple(described(one) for one in offered)
        if profiles != topic.qos:
            listened.topic = replace(topic, qos=profiles)
            if listened.recorded:
                self._on_topic(listened.topic)
        if not _serve(offered, listened.profile):
            old, listened.profile = listened.subscription, request(topic.type, offered)
            self._node.get_logger().info(
                f'{topic.name}: now {listened.profile.reliability.name.lower()}, '
                f'{listened.profile.durability.name.lower()}, as a publisher offers no more'
            )
            listened.subscription = self._subscribe(listened)
            self._node.destroy_subscription(old)

    def _subscribe(self, listened: Listened) -> Any:
        return self._node.create_subscription(
            message_class(listened.topic.type),
            listened.topic.name,
            self._taker(listened),
            listened.profile,
            raw=True,
        )

    def _taker(self, listened: Listened) -> Callable[..., None]:
        """The callback of one topic: this is where the recorder spends its time."""
        name, hook = listened.topic.name, self._hooks.get(listened.topic.name)
        recorded, hand_on = listened.recorded, self._take

        def take(*given: Any) -> None:
            # The events executor of Jazzy's rclpy gives both arguments as one tuple.
            data, information = given[0] if len(given) == 1 else given
            arrived = information['received_timestamp'] or time.time_ns()
            if recorded:
                sent = information['source_timestamp'] or arrived
                hand_on(Message(name, arrived, sent, data))
            number = information['publication_sequence_number'] or 0
            if number > listened.number + 1 and listened.messages:
                listened.missing += number - listened.number - 1
            listened.number = number
            listened.messages += 1
            self.newest = time.monotonic()
            if hook is not None:
                hook(data)

        take.__signature__ = _TWO  # type: ignore[attr-defined]
        return take


def message_class(name: str) -> Any:
    """The class of a message by its name, as in sensor_msgs/msg/JointState.

    Raises:
        ImportError: its package is not installed.
        AttributeError: the package has no such message.
        ValueError: this is no name of a message.
    """
    package, kind, message = name.split('/')
    return getattr(importlib.import_module(f'{package}.{kind}'), message)


def _serve(offered: list[QoSProfile], asked: QoSProfile) -> bool:
    """Whether every publisher can serve this request."""
    most = request('', offered)
    best_effort, volatile = ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE
    return asked.reliability in (most.reliability, best_effort) and asked.durability in (
        most.durability,
        volatile,
    )
