"""Quality of service of a recorder: what every publisher of a topic can serve, and its names."""

from collections.abc import Sequence
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

# Messages that may wait for the recorder, by how large they are: what does not fit into a few
# dozen MB may not be kept by the thousand.
DEPTH = 1000
DEPTHS = {'sensor_msgs/msg/Image': 20, 'sensor_msgs/msg/CompressedImage': 200}


def request(message_type: str, offered: Sequence[QoSProfile]) -> QoSProfile:
    """The strongest profile that is compatible with every publisher.

    Reliable only if all are, latched only if all are: what is asked for and not offered by one of
    them would leave its messages out.
    """
    reliable = all(one.reliability == ReliabilityPolicy.RELIABLE for one in offered)
    latched = bool(offered) and all(
        one.durability == DurabilityPolicy.TRANSIENT_LOCAL for one in offered
    )
    return QoSProfile(
        depth=DEPTHS.get(message_type, DEPTH),
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=(DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE),
    )


def described(profile: QoSProfile) -> dict[str, Any]:
    """A profile with the names and values of rosbag2's metadata."""
    return {
        'history': profile.history.name.lower(),
        'depth': profile.depth,
        'reliability': profile.reliability.name.lower(),
        'durability': profile.durability.name.lower(),
        'deadline': _duration(profile.deadline),
        'lifespan': _duration(profile.lifespan),
        'liveliness': profile.liveliness.name.lower(),
        'liveliness_lease_duration': _duration(profile.liveliness_lease_duration),
        'avoid_ros_namespace_conventions': bool(profile.avoid_ros_namespace_conventions),
    }


def _duration(duration: Any) -> dict[str, int]:
    seconds, nanoseconds = divmod(duration.nanoseconds, 1_000_000_000)
    return {'sec': seconds, 'nsec': nanoseconds}
