"""`lebot campaign`: every wire fault, injected into a walking robot; what it did, as a table."""

import argparse
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.cli.campaign_cases import CASES, Case, select
from lebot_rl_ros.cli.campaign_judge import WALKED, Moments, Outcome, judge
from lebot_rl_ros.cli.campaign_measures import WINDOW
from lebot_rl_ros.cli.campaign_page import line, page, table
from lebot_rl_ros.robot import Robot, load_robot
from lebot_rl_ros.ros import names
from lebot_rl_ros.ros.witness import Witness

BUSES = ('feetech', 'dynamixel')
ASKED = 0.2  # m/s
CAMERA_RATE = 5.0  # Hz
WALK = 4.0  # s of walking before the fault
LAST = 3.0  # s that it lasts
SETTLE = 1.5  # s that the operator waits with the wires well: a port is found again within 1 s
START_PATIENCE, AGAIN_PATIENCE = 40.0, 8.0  # s


class CaseFailed(Exception):  # noqa: N818  (it is not this program that erred)
    """A case did not come to its fault; the message says why."""


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'campaign',
        help='every wire fault, injected into a walking robot',
        description='Each case is a whole graph of its own, in real time: the robot walks, a '
        'fault of its wires begins and ends, the operator clears, it walks again. Nothing else '
        'should keep the machine busy. Takes about 20 s a case.',
    )
    parser.add_argument(
        '--bus', default='both', choices=(*BUSES, 'both'), help='of the servos (default: both)'
    )
    kinds = dict.fromkeys(case.kind for case in CASES)
    parser.add_argument(
        '--only',
        nargs='+',
        default=[],
        metavar='KIND',
        help=f'these faults only: {", ".join(kinds)}, or one as in unplug:bus',
    )
    parser.add_argument('--out', type=Path, metavar='FILE.md', help='write the table as a page')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all numbers')
    parser.add_argument(
        '--logs', type=Path, metavar='DIR', help='of the nodes (default: runs/campaign-TIME)'
    )


def run(args: argparse.Namespace) -> int:
    """Run the cases; 0 if every robot did what is expected."""
    cases, robot, console = select(args.only), load_robot(), Console()
    buses = BUSES if args.bus == 'both' else (args.bus,)
    stamp = datetime.now(timezone.utc).astimezone().strftime('%Y%m%d-%H%M%S')
    logs = args.logs or Path('runs') / f'campaign-{stamp}'
    begun, done = time.monotonic(), []
    for bus in buses:
        for case in cases:
            name = f'{bus}-{case.fault.replace(":", "-")}'
            outcome = run_case(case, bus, robot, logs / name, free_domain())
            done.append((bus, case, outcome))
            number = f'{len(done):>2} of {len(buses) * len(cases)}'
            console.print(f'{number}  {line(bus, case, outcome)}', highlight=False)
    seconds = time.monotonic() - begun
    for bus in buses:
        console.print(table(bus, [entry[1:] for entry in done if entry[0] == bus]))
    failed = [entry for entry in done if entry[2].troubles]
    console.print(
        f'{len(done)} cases in {seconds / 60:.1f} min, {len(failed)} failed; logs in {logs}'
    )
    if args.out:
        args.out.write_text(page(done, robot, ASKED, (WALK, LAST, SETTLE), seconds))
    if args.json:
        entries = [
            {'bus': bus, 'fault': case.fault, 'about': case.about} | asdict(outcome)
            for bus, case, outcome in done
        ]
        args.json.write_text(json.dumps(entries, indent=2) + '\n')
    return 1 if failed else 0


def free_domain() -> int:
    """A ROS domain in 1-100 in which nobody is: the port of its first participant is free.

    Raises:
        RuntimeError: all of them are taken.
    """
    for offset in range(100):
        domain = 1 + (os.getpid() + offset) % 100
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', 7400 + 250 * domain + 10))  # RTPS 2.2, 9.6.1.1
            except OSError:
                continue
        return domain
    raise RuntimeError('all ROS domains from 1 to 100 are taken')


def run_case(case: Case, bus: str, robot: Robot, logs: Path, domain: int) -> Outcome:
    """Run one case on a graph of its own and judge it.

    Args:
        case: what happens.
        bus: protocol of the servos.
        robot: that walks.
        logs: folder for the nodes' logs.
        domain: ROS domain of the graph.
    """
    events: list[str] = []
    environment = dict(os.environ) | {'ROS_DOMAIN_ID': str(domain)}
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
        with Runner(stack, logs, events.append, environment) as runner:
            began = time.monotonic()
            while not (runner.spoken(stack.driver) or runner.failed):
                time.sleep(0.02)
                runner.poll()
                if time.monotonic() - began > START_PATIENCE:
                    break
            with Witness(domain, case.silent) as witness:
                try:
                    at, troubles = _play(case, witness, runner), []
                except CaseFailed as failure:
                    at, troubles = Moments(*[time.time()] * 5), [str(failure)]
            if runner.failed:
                troubles.append(runner.failed)
            troubles += [f'at its end, {words}' for words in runner.stop()]
    return judge(case, witness.recording, at, robot, asked=ASKED, troubles=troubles)


def _play(case: Case, witness: Witness, runner: Runner) -> Moments:
    """Walk, break, mend, clear, walk again; returns when."""
    heard, steps = witness.recording, 0

    def until(condition: Callable[[], bool], seconds: float) -> bool:
        def met() -> bool:
            nonlocal steps
            steps += 1
            if steps % 10 == 0:
                runner.poll()
            if runner.failed:
                raise CaseFailed('a process died')
            return condition()

        return witness.until(met, seconds)

    def walking(since: float) -> bool:
        return heard.mode == 'track' and heard.speed(since, WINDOW) >= WALKED * ASKED

    if not until(lambda: heard.mode == 'track', START_PATIENCE):
        said = {word.node: word.message for word in heard.words if word.level}
        raise CaseFailed(f'it did not begin to walk: {said or "nobody said why"}')
    standing = time.time()
    until(lambda: False, WALK)
    if not until(lambda: walking(standing), WALK):
        raise CaseFailed(f'it did not walk, but went at {heard.speed(standing, WINDOW):.2f} m/s')
    begin = time.time()
    refused = witness.set_fault(case.fault)
    if refused:
        raise CaseFailed(f'the emulator refused {case.fault}: {refused}')
    active = time.time()
    until(lambda: False, LAST - (active - begin))
    over = cleared = time.time()
    witness.set_fault('clear')
    if heard.mode != 'track':
        until(lambda: False, SETTLE)
        if any(tilt > 0.9 for _, tilt, _ in heard.path[-1:]):
            witness.trigger(names.SIM_RESET)
        cleared = time.time()
        if not witness.trigger(names.CLEAR_FAULTS):
            raise CaseFailed(f'{names.CLEAR_FAULTS} did not answer')
    until(lambda: walking(cleared), AGAIN_PATIENCE)
    return Moments(begin, active, over, cleared, time.time())
