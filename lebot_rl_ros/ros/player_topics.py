"""Publishers for the topics of a bag: their classes, and what they offer."""

import importlib
from collections.abc import Mapping
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from lebot_rl_ros.data.bag.types import Topic

DEPTH = 100  # messages of a topic that wait for slow listeners, where the bag does not say more


class PlayError(ValueError):
    """A bag that cannot be played here; the message says why, and what to do."""


def message_class(topic: Topic) -> Any:
    """The Python class of a topic's messages.

    Raises:
        PlayError: it is not installed here.
    """
    package, _, name = topic.type.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PlayError(
            f'{topic.name}: the type {topic.type} is not installed here; leave the topic out '
            f'with --exclude {topic.name}'
        ) from error


def has_header(kind: Any) -> bool:
    """Whether messages of a class begin with a std_msgs/Header."""
    first = next(iter(kind.get_fields_and_field_types().values()), '')
    return bool(first == 'std_msgs/Header')


def offered(topic: Topic) -> QoSProfile:
    """A profile that every listener of the recorded publishers can be served with."""
    reliable = [one.get('reliability', 'reliable') != 'best_effort' for one in topic.qos]
    depth = max((int(one.get('depth') or 0) for one in topic.qos), default=0)
    return QoSProfile(
        depth=max(depth, DEPTH),
        reliability=ReliabilityPolicy.RELIABLE
        if any(reliable) or not reliable
        else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL
        if topic.latched
        else DurabilityPolicy.VOLATILE,
    )


def playable(topics: Mapping[str, Topic]) -> tuple[list[Topic], list[str]]:
    """Topics whose types are installed here, and the names of the others."""
    ours, others = [], []
    for topic in topics.values():
        try:
            message_class(topic)
            ours.append(topic)
        except PlayError:
            others.append(topic.name)
    return ours, others
