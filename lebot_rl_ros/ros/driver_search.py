"""Finds the one driver of a graph, and refuses a graph in which somebody else commands it."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters

from lebot_rl_ros.ros import names
from lebot_rl_ros.ros.driver_link import DriverLink
from lebot_rl_ros.ros.driver_services import GraphError

JOIN, LOOK = 1.0, 0.5  # s in which DDS tells who else is there: at first, and later
HEARD = 3.5  # s in which DDS repeats what was not heard at first
WORD = 2.0  # s to wait for what a driver says of itself every second
UNKNOWN = '_NODE_NAME_UNKNOWN_'  # of an endpoint whose node DDS has not told yet


@dataclass(frozen=True)
class Driver:
    """Who drives the joints."""

    path: str  # of the node
    lockstep: bool  # it waits for the answer to every state
    resets: bool  # the robot can be put back by a service: it is simulated

    @property
    def resets_itself(self) -> bool:
        """Whether driver and simulated robot are one node, which then forgets with the reset."""
        return self.path.rpartition('/')[2] == 'sim'


def find_driver(
    link: DriverLink, seconds: float, *, alone: bool, failed: Callable[[], str] = lambda: ''
) -> Driver:
    """Wait for a driver that speaks, and for its word on how it works.

    Args:
        link: to its topics; told afterwards whether the driver works in lockstep.
        seconds: to wait.
        alone: the graph is ours, so that nobody else can be in it.
        failed: why it is no use to wait any longer; empty as long as it is.

    Raises:
        GraphError: none is there, there are two, or somebody else commands.
    """
    found = link.spin(lambda: not link.lacking() or failed(), seconds)
    if failed():
        raise GraphError(failed())
    if not found:
        raise GraphError(
            f'waited {seconds:g} s for {link.lacking()} in namespace '
            f'{link.node.get_namespace()} of ROS domain {link.context.get_domain_id()}, discovery '
            f'range {os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"]}: no driver speaks there. Start '
            'one without a policy (`ros2 launch lebot_rl_ros walk.launch.py policy:=none '
            'teleop:=none`), give namespace= or domain=, or attach=False for a simulated robot'
        )
    if not alone:
        link.spin(lambda: False, JOIN)
    refuse_conflicts(link)
    (path,) = drivers(link)
    client = link.node.create_client(GetParameters, f'{path}/get_parameters')
    answer = link.services.ask(client, GetParameters.Request(names=['lockstep']))
    link.node.destroy_client(client)
    lockstep = bool(answer.values[0].bool_value)
    link.lockstep = lockstep
    # Only a simulated robot has it; an emulated one's is offered by another node than the driver.
    resets = link.spin(lambda: link.services.offered(names.SIM_RESET), seconds if alone else HEARD)
    if not resets:  # whether a fault keeps a real robot down must be known before it moves
        link.spin(lambda: path in link.said, WORD)
    return Driver(path, lockstep, resets)


def drivers(link: DriverLink) -> list[str]:
    """Paths of the nodes that say what the joints do."""
    return _speakers(link, names.JOINT_STATES)


def refuse_conflicts(link: DriverLink) -> None:
    """See that one driver is there and that nobody else commands it.

    Raises:
        GraphError: it names the nodes, and the ways out.
    """
    found = drivers(link)
    if len(found) > 1:
        raise GraphError(
            f'{len(found)} drivers publish {names.JOINT_STATES}: {", ".join(found)}; end one of '
            'them, or give namespace= or domain='
        )
    mine = link.node.get_fully_qualified_name()
    commanding = [path for path in _speakers(link, names.JOINT_COMMANDS) if path != mine]
    active = [path for path in commanding if not _rests(link, path)]
    if active:
        raise GraphError(
            f'{", ".join(active)} also publishes {names.JOINT_COMMANDS}: two would command the '
            f'robot. Make it fall silent (`ros2 lifecycle set {active[0]} deactivate`), or start '
            'the graph with policy:=none'
        )
    if link.velocity is None:
        wishing = [path for path in _speakers(link, names.CMD_VEL) if path != mine]
        if wishing:
            raise GraphError(
                f'{", ".join(wishing)} also publishes {names.CMD_VEL}, which the environment '
                "draws itself: give commands='topic' to follow it, or end it (teleop:=none)"
            )


def _rests(link: DriverLink, path: str) -> bool:
    """Whether a node is a managed one that is not active."""
    client = link.node.create_client(GetState, f'{path}/get_state')
    try:
        managed = link.spin(client.service_is_ready, LOOK)
        return (
            managed
            and link.services.ask(client, GetState.Request()).current_state.label != 'active'
        )
    finally:
        link.node.destroy_client(client)


def _speakers(link: DriverLink, topic: str) -> list[str]:
    def listed() -> list[str]:
        found = link.node.get_publishers_info_by_topic(topic)
        return sorted(f'{one.node_namespace.rstrip("/")}/{one.node_name}' for one in found)

    link.spin(lambda: not any(UNKNOWN in path for path in listed()), JOIN)
    return ['a node that DDS has not named yet' if UNKNOWN in path else path for path in listed()]
