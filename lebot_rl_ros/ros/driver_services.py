"""The services of a driver and of a simulated robot, called and waited for."""

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from lebot_rl_ros.ros import names

ANSWER, AGAIN = 10.0, 1.0  # s to wait for an answer in all, and until the call is repeated

Spin = Callable[[Callable[[], Any], float], bool]  # listens until true, or for so many s


class GraphError(ValueError):
    """The graph is not what a learner needs; the message says what is wrong and what helps."""


class DriverServices:
    """Clients of one node; it has to be spun by ``spin`` meanwhile."""

    def __init__(self, node: Node, spin: Spin) -> None:
        """Make the clients.

        They come before the subscriptions of the node: who has heard of those has heard of these
        too, so that no answer is sent to a reader that is not known yet.
        """
        self._spin = spin
        self._triggers = {
            name: node.create_client(Trigger, name)
            for name in (names.CLEAR_FAULTS, names.SIM_RESET)
        }
        self._torque = node.create_client(SetBool, names.SET_TORQUE)

    def offered(self, name: str) -> bool:
        """Whether somebody offers the service of this name."""
        return bool(self._triggers[name].service_is_ready())

    def trigger(self, name: str) -> str:
        """Call the service of this name; returns what it said."""
        return str(self.ask(self._triggers[name], Trigger.Request()).message)

    def set_torque(self, on: bool) -> None:
        """Allow or forbid torque."""
        self.ask(self._torque, SetBool.Request(data=on))

    def ask(self, client: Any, request: Any) -> Any:
        """Call a service that may be called twice, and wait for its answer.

        Raises:
            GraphError: it is not there, or does not answer.
        """
        if not self._spin(client.service_is_ready, ANSWER):
            raise GraphError(f'service {client.srv_name} is not there')
        futures: list[Any] = []
        while len(futures) < ANSWER / AGAIN:
            futures.append(client.call_async(request))
            if self._spin(lambda: any(future.done() for future in futures), AGAIN):
                return next(future for future in futures if future.done()).result()
        raise GraphError(f'service {client.srv_name} has not answered for {ANSWER:g} s')
