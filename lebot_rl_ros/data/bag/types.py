"""What a bag is made of: topics and their messages, as they came over the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class BagError(ValueError):
    """A bag that cannot be used; the message has the path, what is wrong, and what to do."""


@dataclass(frozen=True)
class Topic:
    """One topic, as rosbag2 describes it."""

    name: str  # absolute, as in /policy/steps
    type: str  # as in sensor_msgs/msg/JointState
    qos: tuple[Mapping[str, Any], ...] = ()  # offered profiles, with rosbag2's names and values
    hash: str = ''  # RIHS01_..., REP-2016; '' where it is not known
    definition: str = ''  # in ros2msg form; '' looks it up by the type

    @property
    def latched(self) -> bool:
        """Whether who comes late hears the last message: such a one begins every file of a bag."""
        return any(profile.get('durability') == 'transient_local' for profile in self.qos)


@dataclass(frozen=True)
class Message:
    """One message, serialized: CDR with the four octets before it that name its encoding."""

    topic: str
    log_time: int  # ns since the epoch, when it was received
    publish_time: int  # ns since the epoch, when it was sent; log_time where that is not known
    data: bytes = field(repr=False)
