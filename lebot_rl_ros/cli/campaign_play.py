"""Plays one case of the fault campaign on a graph of its own: processes, robot, operator."""

import itertools
import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.cli.campaign_cases import LAST, Case
from lebot_rl_ros.cli.campaign_judge import WALKED, Moments, Outcome, judge
from lebot_rl_ros.cli.campaign_measures import WINDOW
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.ros import names
from lebot_rl_ros.ros.witness import Recording, Witness

ASKED = 0.2  # m/s
CAMERA_RATE = 5.0  # Hz
WALK = 4.0  # s of walking before the fault
START_PATIENCE, AGAIN_PATIENCE = 20.0, 8.0  # s
STAYS = 5.0  # s that a robot is watched which must not walk again
STILL, SINKS = 0.5, 5.0  # s without motion before the operator clears, and how long that may take
STARTS = 3  # of a case whose robot does not get to walk
_domains = itertools.count(os.getpid())


class DidNotWalk(Exception):  # noqa: N818  (it is not this program that erred)
    """A case did not come to its fault; the message says why."""


def free_domain() -> int:
    """A ROS domain in 1-100 in which nobody is: the port of its first participant is free.

    Each call begins behind the last one's: what a killed graph left behind in shared memory can
    keep the next graph of the same domain waiting.

    Raises:
        RuntimeError: all of them are taken.
    """
    for _ in range(100):
        domain = 1 + next(_domains) % 100
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', 7400 + 250 * domain + 10))  # RTPS 2.2, 9.6.1.1
            except OSError:
                continue
        return domain
    raise RuntimeError('all ROS domains from 1 to 100 are taken')


def run_case(
    case: Case, bus: str, robot: Robot, logs: Path, domain: int = 0
) -> tuple[Outcome, list[str]]:
    """Run one case on a graph of its own and judge it.

    Args:
        case: what happens.
        bus: protocol of the servos.
        robot: that walks.
        logs: folder for the nodes' logs.
        domain: ROS domain of the graph; 0: one that is free.

    Returns:
        What it came to, and why it had to be started again: on a busy machine the robot does not
        always get to walk, and then there is nothing to judge.
    """
    reasons: list[str] = []
    while True:
        try:
            return _run(case, bus, robot, logs, domain or free_domain()), reasons
        except DidNotWalk as error:
            reasons.append(str(error))
            if len(reasons) == STARTS:
                now = time.time()
                nothing = Moments(now, now, now, now, now)
                troubles = [f'started {STARTS} times: {reasons[-1]}']
                outcome = judge(case, Recording(), nothing, robot, asked=ASKED, troubles=troubles)
                return outcome, reasons


def _run(case: Case, bus: str, robot: Robot, logs: Path, domain: int) -> Outcome:
    """One start of a case; the processes live only in here."""
    with tempfile.TemporaryDirectory(prefix='lebot-') as ports:
        stack = walk_stack(
            {
                'backend': 'wire',
                'bus': bus,
                'ports': ports,
                'robot': robot.name,
                'vx': ASKED,
                'monitored': True,
                'respawn': False,
                'camera_rate': CAMERA_RATE if case.needs_camera else 0.0,
            }
        )
        environment = dict(os.environ) | {'ROS_DOMAIN_ID': str(domain)}
        with Runner(stack, logs, lambda event: None, environment) as runner:
            end = time.monotonic() + START_PATIENCE
            while not (runner.spoken(stack.driver) or runner.failed) and time.monotonic() < end:
                time.sleep(0.02)
                runner.poll()
            with Witness(domain, case.silent) as witness:
                at = Play(case, witness, runner, robot.fall_tilt).run()
            troubles = [runner.failed] if runner.failed else []
            troubles += [f'at its end, {words}' for words in runner.stop()]
    return judge(case, witness.recording, at, robot, asked=ASKED, troubles=troubles)


class Play:
    """What happens in a case: walk, break, mend, clear, walk again."""

    def __init__(self, case: Case, witness: Witness, runner: Runner, fall_tilt: float) -> None:
        """``fall_tilt`` in rad."""
        self._case, self._witness, self._runner = case, witness, runner
        self._heard, self._fall_tilt = witness.recording, fall_tilt
        self._resets: list[float] = []

    def run(self) -> Moments:
        """Do it; returns when what was done.

        Raises:
            DidNotWalk: it did not come to the fault; the message says why.
        """
        witness, case = self._witness, self._case
        self._begin_to_walk()
        begin = time.time()
        refused = witness.set_fault(case.fault)
        if refused:
            raise ValueError(f'the emulator refused {case.fault}: {refused}')
        active = time.time()
        self._until(lambda: False, LAST - (active - begin))
        over = time.time()
        witness.set_fault('clear')
        if self._heard.mode == 'track':
            self._until(lambda: self._walks(over), AGAIN_PATIENCE)
            return Moments(begin, active, over, over, over)
        self._until(lambda: False, case.settle)
        self._until(lambda: self._heard.lies_still(over, STILL), SINKS)
        cleared = again = self._clear(begin)
        patience = STAYS if case.stays else AGAIN_PATIENCE
        self._until(lambda: self._walks(again) or self._went_down(again), patience)
        if self._went_down(again) and not case.stays:
            again = self._clear(again)
            self._until(lambda: self._walks(again), AGAIN_PATIENCE)
        return Moments(begin, active, over, cleared, again, tuple(self._resets))

    def _begin_to_walk(self) -> None:
        heard = self._heard
        self._until(lambda: heard.mode == 'track', START_PATIENCE)
        begin = time.time()
        if heard.mode == 'track':
            self._until(lambda: False, WALK)
        if not self._until(lambda: self._walks(begin), WINDOW):
            said = {word.node: word.message for word in heard.words if word.level}
            why = self._runner.failed or said.get('servo_driver', 'it said nothing')
            raise DidNotWalk(f'it did not walk before the fault: {why}')

    def _clear(self, since: float) -> float:
        """What the operator does; returns when."""
        if self._fell(since):
            self._witness.trigger(names.SIM_RESET)
            self._resets.append(time.time())
        now = time.time()
        self._witness.trigger(names.CLEAR_FAULTS)
        return now

    def _walks(self, since: float) -> bool:
        heard = self._heard
        return heard.mode == 'track' and heard.speed(since, WINDOW) >= WALKED * ASKED

    def _fell(self, since: float) -> bool:
        """Whether it has lain since then."""
        tilts = (tilt for stamp, tilt, _ in self._heard.path if stamp >= since)
        return any(tilt > self._fall_tilt for tilt in tilts)

    def _went_down(self, since: float) -> bool:
        """Whether it stood up after it was cleared, and is relaxed again."""
        up = any(stamp > since and mode == 'stand_up' for stamp, mode, _ in self._heard.applied)
        return up and self._heard.mode == 'relaxed'

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Listen until it is so, the time is over, or a process has died; whether it is so."""

        def met() -> bool:
            self._runner.poll()
            return bool(self._runner.failed) or condition()

        return self._witness.until(met, seconds) and not self._runner.failed
