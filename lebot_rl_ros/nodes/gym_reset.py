"""How LeBotROS-v0 begins an episode: on a robot that stands and whose driver tracks."""

import time
from collections.abc import Callable

import numpy as np

from lebot_rl_ros.mdp.commands import Gait
from lebot_rl_ros.mdp.terminations import fallen
from lebot_rl_ros.nodes.gym_config import RosEnvConfig
from lebot_rl_ros.robot import rotations
from lebot_rl_ros.ros import names
from lebot_rl_ros.ros.driver_link import DriverLink, Seen
from lebot_rl_ros.ros.driver_search import WORD, Driver
from lebot_rl_ros.ros.driver_services import GraphError

TRACK, RELAXED = 'track', 'relaxed'  # modes of the driver
FELL = 'fell'  # how the supervisor's reason for a fall begins
UPRIGHT = 1.0  # s that a robot stays upright before it counts as put on its feet
SENSED = 3  # periods after a reset, by when every driver has sensed it


class Riser:
    """Brings the robot into the standing pose, with the driver tracking."""

    def __init__(self, link: DriverLink, driver: Driver, config: RosEnvConfig, gait: Gait) -> None:
        """Take the link to a driver that was found."""
        self._link, self._driver, self._config = link, driver, config
        self._robot = link.robot
        period = self._robot.control_period_ns
        self._cycle = round(1e9 / gait.frequency)  # ns
        self.phases = max(round(self._cycle / period), 1)  # periods in a cycle of the gait's clock

    def __call__(self, phase: int) -> Seen:
        """Reset where there is a reset, stand up, track; returns the first state of the episode.

        Args:
            phase: in lockstep, the part of the gait's clock at which the episode begins, up to a
                constant: an episode that is seeded alike then begins alike.

        Raises:
            GraphError: it does not come to stand in time; the message says what is in the way.
        """
        link, driver = self._link, self._driver
        link.drain()
        if not driver.resets:
            self._await_operator()
        elif driver.resets_itself:
            self._turn_to(phase)
            link.services.trigger(names.SIM_RESET)
            link.services.trigger(names.CLEAR_FAULTS)
        else:
            # The body is put elsewhere behind the back of the servos: only without torque.
            link.services.set_torque(False)
            self._stand_until(RELAXED)
            self._turn_to(phase)
            link.services.trigger(names.SIM_RESET)
            for _ in range(SENSED):
                self._stand()
            link.services.trigger(names.CLEAR_FAULTS)
            link.services.set_torque(True)
        seen = self._stand_until(TRACK)
        if not driver.resets:
            for _ in range(round(self._config.settle * self._robot.control_rate)):
                seen = self._stand()
        return seen

    def _stand(self) -> Seen:
        """One period in which the robot is told to stand."""
        link, stamp = self._link, self._link.stamp
        link.send(stamp, self._robot.stand)
        seen = link.wait(stamp, self._config.patience)
        if seen is None:
            raise GraphError(
                f'{self._driver.path} is silent: no {link.lacking(stamp)} for '
                f'{self._config.patience:g} s'
            )
        return seen

    def _stand_until(self, mode: str) -> Seen:
        for _ in range(round(self._config.rise * self._robot.control_rate)):
            seen = self._stand()
            if seen.mode == mode:
                return seen
        raise GraphError(
            f'{self._driver.path} is in mode {seen.mode}, not {mode}, after '
            f'{self._config.rise:g} s: {self._word("fault") or self._word("message")}'
        )

    def _turn_to(self, phase: int) -> None:
        """Let periods go by until the gait's clock stands at a phase; only where time waits."""
        period = self._robot.control_period_ns
        for _ in range(self.phases if self._driver.lockstep else 0):
            if round(self._link.stamp % self._cycle / period) % self.phases == phase:
                return
            self._stand()

    def _await_operator(self) -> None:
        """Wait until a real robot is upright and has no fault but a fall; that one is cleared.

        A stop, heat or a lost servo is for a person to judge, not for a learner.
        """
        link, path = self._link, self._driver.path
        if link.newest().mode != TRACK:  # what it said last may be older than its fault
            link.said.pop(path, None)
            link.spin(lambda: path in link.said, WORD)
        self._await(self._lies, 'put it on its feet')
        self._await(self._foreign_fault, f'call {names.CLEAR_FAULTS} when it may move')
        if self._word('fault'):
            link.services.trigger(names.CLEAR_FAULTS)

    def _await(self, hindrance: Callable[[], str], way_out: str) -> None:
        """Tell a person what is in the way, and wait until it is gone for a while."""
        link, seconds, why = self._link, self._config.operator, hindrance()
        if not why:
            return
        link.node.get_logger().warning(f'{why}: {way_out}; waiting up to {seconds:g} s')
        last = time.monotonic()

        def gone() -> bool:
            nonlocal last
            if hindrance():
                last = time.monotonic()
            return time.monotonic() - last >= UPRIGHT

        if not link.spin(gone, seconds):
            raise GraphError(
                f'{why}, and for {seconds:g} s nobody helped: {way_out}, then reset once more'
            )

    def _lies(self) -> str:
        """Why the robot cannot stand up by itself; empty if it is upright."""
        gravity = rotations.gravity_in_body(self._link.newest().state.orientation)
        if not fallen(self._robot, gravity):
            return ''
        return f'{self._robot.name} lies tilted by {np.degrees(rotations.tilt(gravity)):.0f} deg'

    def _foreign_fault(self) -> str:
        fault = self._word('fault')
        own = not fault or fault.startswith(FELL)
        return '' if own else f'{self._driver.path} has stopped by itself ({fault})'

    def _word(self, key: str) -> str:
        return self._link.said.get(self._driver.path, {}).get(key, '')
