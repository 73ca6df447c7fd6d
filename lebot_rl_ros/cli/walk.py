"""`lebot walk`: the walking graph from one command, with a live view and a report."""

import argparse
import shlex
import signal
import sys
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from lebot_rl_ros.bringup.arguments import ARGUMENTS, Argument
from lebot_rl_ros.bringup.graph import Stack, walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.cli.report import Report, make_report
from lebot_rl_ros.cli.view import View
from lebot_rl_ros.cli.walk_bags import bags_at, describe_bags, told
from lebot_rl_ros.control.adapters import AdapterSource, default_store
from lebot_rl_ros.control.walker import load_walk
from lebot_rl_ros.hardware.emulation.fault_text import WIRE_FAULTS, parse_wire_fault
from lebot_rl_ros.hardware.wire import known_ports
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.robot.servos import with_servos
from lebot_rl_ros.ros import names
from lebot_rl_ros.ros.monitor import Health, Heard, Monitor
from lebot_rl_ros.sim.fault_text import JOINT_FAULTS, WORLD_FAULTS, parse_fault

SPELLED_OTHERWISE = ('vx', 'wz', 'faults', 'monitored')
START_PATIENCE = 30.0  # s of wall time for the graph to find itself


def add_parser(subparsers: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Add the verb; the arguments are those of walk.launch.py."""
    kinds = '; '.join(
        f'{kind}: {about}'
        for kind, (_, about) in (JOINT_FAULTS | WORLD_FAULTS | WIRE_FAULTS).items()
    )
    parser = subparsers.add_parser('walk', help='start the walking graph, watch it, report')
    parser.add_argument(
        '--cmd', nargs=2, type=float, metavar=('VX', 'WZ'), help='m/s and rad/s (default: 0.3 0)'
    )
    parser.add_argument(
        '--fault',
        action='append',
        default=[],
        metavar='KIND:WHERE[:VALUE]@TIME',
        help=f'inject a fault, as in slip:rr_hip:0.35@10; may be given often. {kinds}',
    )
    for argument in ARGUMENTS:
        if argument.name not in SPELLED_OTHERWISE:
            _add(parser, argument)
    parser.add_argument('--quiet', action='store_true', help='no live view, only the report')
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='for picture and logs (default: runs/walk-TIME)'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the report as data')


def _add(parser: argparse.ArgumentParser, argument: Argument) -> None:
    option = '--' + argument.name.replace('_', '-')
    about = f'{argument.description} (default: {argument.default!s})'.replace('%', '%%')
    if isinstance(argument.default, bool):
        parser.add_argument(
            option,
            action=argparse.BooleanOptionalAction,
            default=argument.default,
            help=argument.description,
        )
    else:
        choices = f' [{", ".join(argument.choices)}]' if argument.choices else ''
        parser.add_argument(
            option, default=argument.default, metavar=argument.name.upper(), help=about + choices
        )


def run(args: argparse.Namespace) -> int:
    """Start, watch, end, report; 0 only if the robot walked and everything ended cleanly."""
    given: dict[str, object] = {
        a.name: getattr(args, a.name) for a in ARGUMENTS if a.name not in SPELLED_OTHERWISE
    }
    given |= {'faults': ' '.join(args.fault), 'monitored': True}
    if args.cmd:
        given |= {'vx': args.cmd[0], 'wz': args.cmd[1]}
    stamp = datetime.now(timezone.utc).astimezone().strftime('%Y%m%d-%H%M%S')
    out = args.out or Path('runs') / f'walk-{stamp}'
    if args.learn and not args.learn_folder:
        given['learn_folder'] = str((out / 'learner').absolute())
    folder = Path(args.record_folder or out / 'bag').expanduser().absolute()
    before = bags_at(folder)
    if args.record:
        given['record_folder'] = str(folder)
    stack = walk_stack(given)
    _check(stack)
    out.mkdir(parents=True, exist_ok=True)
    report, recorder = _walk(stack, out, quiet=args.quiet)
    bags: list[dict[str, Any]] = []
    if args.record:
        made = [path for path in bags_at(folder) if path not in before]
        words = recorder.values if recorder else {}
        bags = report.data['bags'] = describe_bags(made, words)
    report.save(out / 'report.json')
    if args.json:
        report.save(args.json)
    report.show()
    if report.data['ticks']:
        report.draw(out / 'run.png')
        print(f'picture {out / "run.png"}, logs in {out / "logs"}')
    if args.record:
        print('\n'.join(told(bags, recorder.message if recorder else 'its node said nothing')))
    return report.status


def _check(stack: Stack) -> None:
    """Refuse before any process starts what a node would refuse later."""
    robot = with_servos(load_robot(str(stack.arguments['robot'])), str(stack.arguments['servos']))
    if stack.arguments['policy'] != 'none':  # else somebody else commands, as LeBotROS-v0 does
        walk = load_walk(robot, str(stack.arguments['policy']))
        store = default_store(str(stack.arguments['adapter_store']))
        # What is trained need not be there yet; the learner finds its newest version.
        adapter = '' if stack.arguments['learn'] else str(stack.arguments['adapter'])
        AdapterSource(walk, store)(adapter).close()
    if stack.arguments['learn'] and find_spec('torch') is None:
        raise ValueError('learn needs torch: install the extra learn of this package')
    if stack.arguments['record'] and find_spec('mcap') is None:
        raise ValueError("record needs mcap: pip install 'lebot_rl_ros[record]'")
    for bag in shlex.split(str(stack.arguments['learn_bags'])):
        if not Path(bag).exists():
            raise ValueError(f'learn_bags: {bag} is not there')
    if stack.arguments['backend'] == 'hardware':
        for name in ('servo_port', 'imu_port'):
            port = str(stack.arguments[name])
            if not Path(port).exists():
                there = ', '.join(known_ports()) or 'none'
                raise ValueError(f'{name}: {port} is not there; ports that are: {there}')
    for fault in str(stack.arguments['faults']).split():
        _check_fault(fault, str(stack.arguments['backend']), robot.joint_names)


def _check_fault(text: str, backend: str, joint_names: tuple[str, ...]) -> None:
    kind = text.partition('@')[0].partition(':')[0]
    if kind not in WIRE_FAULTS:
        parse_fault(text, joint_names)
        return
    parse_wire_fault(text, joint_names)
    if backend != 'wire':
        raise ValueError(f'fault {text!r} is one of the wires; give --backend wire')


def _ticking(driver: Health | None) -> bool:
    """Whether robot time runs."""
    return driver is not None and driver.values['ticks'] != '0'


def _walk(stack: Stack, out: Path, *, quiet: bool) -> tuple[Report, Health | None]:
    """Let it walk; the report, and the last words of the recorder, if there is one."""
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    heard, started, reason = Heard(), time.monotonic(), ''
    view = View(stack, heard, quiet=quiet)
    with ExitStack() as running:
        running.enter_context(view)
        runner = running.enter_context(Runner(stack, out / 'logs', view.event))
        # Who joins a graph last is known to all at once; who comes before the others may have to
        # wait for DDS to repeat itself, three seconds later.
        while not (runner.spoken(stack.driver) or runner.failed or interrupted):
            time.sleep(0.02)
            runner.poll()
        real = stack.arguments['backend'] == 'hardware'
        path = names.ODOM if real else names.GROUND_TRUTH
        namespace = str(stack.arguments['namespace'])
        monitor = running.enter_context(Monitor(namespace, heard, path))
        while not reason:
            monitor.listen(0.1)
            runner.poll()
            view.update(runner.down)
            driver = heard.health.get(stack.driver)
            if runner.failed:
                reason = runner.failed
            elif interrupted:
                reason = 'interrupted'
            elif monitor.drivers() > 1:
                reason = 'another robot walks here: give --namespace, or set ROS_DOMAIN_ID'
            elif driver and driver.values.get('finished') == 'True':
                reason = 'completed'
            elif not _ticking(driver) and time.monotonic() - started > START_PATIENCE:
                waiting = driver.message if driver else f'no word from {stack.driver}'
                reason = f'nothing moved within {START_PATIENCE:g} s: {waiting}'
        wall = time.monotonic() - started
        view.event('ending: the robot crouches')
        while reason == 'completed' and heard.health[stack.driver].values['mode'] != 'relaxed':
            monitor.listen(0.1)
            runner.poll()
            view.update(runner.down)
            if runner.failed or interrupted:
                break
        restarts = sum(process.restarts for process in runner.processes.values())
        badly = runner.stop()
        monitor.listen(0.05)
    if badly and reason in ('completed', 'interrupted'):
        reason = f'{reason}, but {", ".join(badly)}; see {out / "logs"}'
    report = make_report(stack, heard, wall, reason, restarts)
    if runner.failed:
        print(f'lebot walk: {runner.failed}', file=sys.stderr)
    return report, heard.health.get('recorder')
