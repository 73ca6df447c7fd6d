"""Keeps a bag from moving a robot: who drives joints in the graph that it would be played into."""

from collections.abc import Iterable

from rclpy.node import Node

from lebot_rl_ros.ros import names

UNKNOWN = '_NODE_NAME_UNKNOWN_'  # of an endpoint whose node DDS has not told yet
UNNAMED = 'a node that DDS has not named yet'

# What a driver or its policy would take for its own: a state that is not the robot's is as bad as
# a command, as a policy answers it.
GUARDED = (
    names.JOINT_COMMANDS,
    names.CMD_VEL,
    names.JOINT_STATES,
    names.IMU,
    names.JOINT_COMMANDS_APPLIED,
)
SAID_BY_DRIVERS = (names.JOINT_STATES, names.JOINT_COMMANDS_APPLIED)


def guarded(topics: Iterable[str]) -> dict[str, list[str]]:
    """Topics (absolute) that can move a robot, by the namespace, with a slash behind it."""
    found: dict[str, list[str]] = {}
    for topic in topics:
        for name in GUARDED:
            if topic.endswith(f'/{name}'):
                found.setdefault(topic.removesuffix(name), []).append(topic)
                break
    return found


def drivers(node: Node, namespace: str) -> list[str]:
    """Nodes but ``node`` that say what the joints of a namespace (with a slash) do."""
    mine = (node.get_namespace(), node.get_name())
    found = {
        (one.node_namespace, one.node_name)
        for name in SAID_BY_DRIVERS
        for one in node.get_publishers_info_by_topic(namespace + name)
    }
    return sorted(
        UNNAMED if UNKNOWN in name else f'{space.rstrip("/")}/{name}'
        for space, name in found - {mine}
    )


def reason(node: Node, topics: Iterable[str]) -> str:
    """Why these topics must not be played here; empty if they may."""
    for namespace, risky in guarded(topics).items():
        found = drivers(node, namespace)
        if found:
            return (
                f'{" and ".join(found)} drives a robot here, which may be a real one: '
                f'{", ".join(risky)} from a bag would move it. End the driver, play under other '
                'names (--remap /:=/old/), leave them out (--exclude), set ROS_DOMAIN_ID to a '
                'domain without a robot, or give --force if you mean it'
            )
    return ''
