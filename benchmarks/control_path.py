"""Latency of the control path beside a bare rclpy echo of the same two messages, in one run.

Time runs from `joint_states` leaving a process to its `joint_commands` arriving back. Three
answerers take turns:

* `bare`: a process that only sends a JointState of eight joints at 50 Hz, and one that echoes it;
* `echo`: the simulator as sender, an echo as answerer (what IMU, clock and truth beside it cost);
* `policy`: the simulator as sender, the policy node with the shipped policy as answerer.

    python benchmarks/control_path.py [--rounds 3] [--seconds 12]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import set_stamp, to_ns
from lebot_rl_ros.ros.monitor import Heard, Monitor
from lebot_rl_ros.ros.spin import Stop, run

ROBOT = load_robot()
PERIOD = 1.0 / ROBOT.control_rate


class Echo(Node):
    """Answers every joint_states with joint_commands of the same stamp."""

    def __init__(self) -> None:
        """Join."""
        super().__init__('echo')
        self._reply = JointState(name=list(ROBOT.joint_names), position=ROBOT.stand.tolist())
        self._publish_reply = self.create_publisher(
            JointState, names.JOINT_COMMANDS, qos.OFFER
        ).publish
        self.create_subscription(JointState, names.JOINT_STATES, self._answer, qos.NEWEST)

    def _answer(self, message: JointState) -> None:
        self._reply.header.stamp = message.header.stamp
        self._publish_reply(self._reply)


class Sender(Node):
    """Sends joint_states at the control rate and times the answers."""

    def __init__(self) -> None:
        """Join."""
        super().__init__('sender')
        stand, zeros = ROBOT.stand.tolist(), [0.0] * len(ROBOT.joints)
        self._state = JointState(
            name=list(ROBOT.joint_names), position=stand, velocity=zeros, effort=zeros
        )
        self._publish_state = self.create_publisher(
            JointState, names.JOINT_STATES, qos.OFFER
        ).publish
        self.create_subscription(JointState, names.JOINT_COMMANDS, self._arrived, qos.NEWEST)
        self._stamp, self._sent = 0, 0.0
        self.latency: list[float] = []

    def _arrived(self, message: JointState) -> None:
        if to_ns(message.header.stamp) == self._stamp:
            self.latency.append(time.perf_counter() - self._sent)

    def send(self, executor: EventsExecutor, stop: Stop, seconds: float) -> None:
        """One state every period."""
        deadline = time.perf_counter()
        while len(self.latency) < seconds / PERIOD and not stop:
            if time.perf_counter() >= deadline:
                deadline += PERIOD
                self._stamp += ROBOT.control_period_ns
                set_stamp(self._state.header.stamp, self._stamp)
                self._sent = time.perf_counter()
                self._publish_state(self._state)
            executor.spin_once(timeout_sec=max(deadline - time.perf_counter(), 0.0))


def percentiles(latency: list[float]) -> tuple[float, float]:
    """p50 and p99 in ms."""
    p50, p99 = np.percentile(latency, (50, 99)) * 1e3
    return float(p50), float(p99)


def measure_bare(seconds: float, domain: int) -> tuple[float, float]:
    """Sender and echo, two processes of their own."""
    words = [sys.executable, __file__]
    environment = os.environ | {'ROS_DOMAIN_ID': str(domain)}
    with subprocess.Popen([*words, '--as', 'echo'], env=environment) as echo:
        done = subprocess.run(
            [*words, '--as', 'sender', '--seconds', str(seconds)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        echo.send_signal(signal.SIGINT)
    return percentiles(json.loads(done.stdout.splitlines()[-1]))


def measure_sim(seconds: float, domain: int, *, policy: bool) -> tuple[float, float]:
    """The simulator with the policy node or an echo; the rest of the graph does not run."""
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    stack = walk_stack({'duration': seconds, 'teleop': 'none', 'monitored': True})
    wanted = ('sim', 'policy') if policy else ('sim',)
    for spec in stack.nodes:
        if spec.name in wanted:
            spec.parameters['wait_for_listeners'] = 0  # nobody records here
    stack = type(stack)(
        tuple(spec for spec in stack.nodes if spec.name in wanted), stack.arguments
    )
    heard = Heard()
    echo = (
        None
        if policy
        else subprocess.Popen([sys.executable, __file__, '--as', 'echo'], env=os.environ)
    )
    limit = time.monotonic() + seconds + 30.0
    with Runner(stack, Path('runs/benchmark'), print) as runner, Monitor('', heard) as monitor:
        while heard.health.get('sim') is None or heard.health['sim'].values['finished'] != 'True':
            monitor.listen(0.5)
            runner.poll()
            if runner.failed or time.monotonic() > limit:
                raise RuntimeError(runner.failed or f'no end within {limit:g} s: {heard.health}')
    if echo:
        echo.send_signal(signal.SIGINT)
        echo.wait()
    values = heard.health['sim'].values
    return float(values['tick_p50_ms']), float(values['tick_p99_ms'])


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--rounds', type=int, default=3, help='each answerer takes this many turns (default: 3)'
    )
    parser.add_argument('--seconds', type=float, default=12.0, help='of a turn (default: 12)')
    parser.add_argument('--as', dest='role', choices=('echo', 'sender'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if args.role == 'echo':
        return run(Echo)
    if args.role == 'sender':
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        node, executor = Sender(), EventsExecutor()
        executor.add_node(node)
        node.send(executor, Stop(), args.seconds)
        print(json.dumps(node.latency))
        return 0
    answerers = {
        'bare': lambda domain: measure_bare(args.seconds, domain),
        'echo': lambda domain: measure_sim(args.seconds, domain, policy=False),
        'policy': lambda domain: measure_sim(args.seconds, domain, policy=True),
    }
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in answerers}
    print(f'{"round":<6} {"answerer":<8} {"p50 ms":>8} {"p99 ms":>8}')
    for turn in range(args.rounds):
        for i, (name, measure) in enumerate(answerers.items()):
            p50, p99 = measure(60 + (turn * 3 + i) % 40)
            results[name].append((p50, p99))
            print(f'{turn:<6} {name:<8} {p50:8.3f} {p99:8.3f}', flush=True)
    median = {name: np.median(rows, axis=0) for name, rows in results.items()}
    for name, row in median.items():
        print(f'median {name:<8} {row[0]:8.3f} {row[1]:8.3f}')
    for peer in ('bare', 'echo'):
        ratio = median['policy'] / median[peer]
        limits = '   (wanted: at most 1.5 and 2)' if peer == 'bare' else ''
        print(f'policy / {peer}: p50 {ratio[0]:.2f}, p99 {ratio[1]:.2f}{limits}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
