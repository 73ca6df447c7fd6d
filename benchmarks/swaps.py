"""Swaps of adapters while the robot walks: what they cost, and whether anything else notices.

(a) In lockstep, as fast as the simulation goes: thousands of swaps through the node's parameter
service, among the four adapters that ship and the base. (b) In real time, both cores kept busy by
niced processes: rounds with swaps and rounds without in turn. Every joint_commands_applied is
checked against the robot's limits. The effect of a request is the arrival of the first joint
command that the new policy computed, as the rows of policy/steps say.

    python benchmarks/swaps.py                  # all, about five minutes
    python benchmarks/swaps.py --swaps 500 --real-time-swaps 50
"""

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState, PointCloud2

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import to_ns
from lebot_rl_ros.ros.records import read_record, record_dtype

ROBOT = load_robot()
DOMAIN = '88'
NAMES = ('turn', 'payload', 'ice', 'backwards')  # that ship
WORK_LIMIT, EFFECT_LIMIT = 0.2, 50.0  # ms: mean work in the tick thread; p99 request to effect
ROUND = 50  # swaps of a real-time round
EVERY = 0.4  # s between two requests in real time


class Client:
    """Swaps, and keeps bytes of what it hears; they are read when time no longer counts."""

    def __init__(self) -> None:
        """Join the graph."""
        self.requests: list[tuple[float, str]] = []  # wall time, text
        self.refused = 0
        self.heard: dict[str, list[tuple[float, bytes]]] = {}
        self.node = node = Node('swapper')
        self.service = node.create_client(
            SetParametersAtomically, 'policy/set_parameters_atomically'
        )
        for message_type, topic in (
            (JointState, names.JOINT_COMMANDS),
            (JointState, names.JOINT_COMMANDS_APPLIED),
            (PointCloud2, names.STEPS),
            (DiagnosticArray, names.DIAGNOSTICS),
        ):
            keep = self._keeper(self.heard.setdefault(topic, []))
            node.create_subscription(message_type, topic, keep, qos.EVERY, raw=True)
        # the simulation begins when somebody watches the truth
        node.create_subscription(Odometry, names.GROUND_TRUTH, lambda m: None, 1, raw=True)
        self.executor = EventsExecutor()
        self.executor.add_node(node)

    @staticmethod
    def _keeper(kept: list[tuple[float, bytes]]) -> Callable[[bytes], None]:
        return lambda message: kept.append((time.perf_counter(), bytes(message)))

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def swap(self, text: str) -> None:
        """Swap and wait for the answer."""
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=text)
        request = SetParametersAtomically.Request(
            parameters=[Parameter(name='adapter', value=value)]
        )
        self.requests.append((time.perf_counter(), text))
        future = self.service.call_async(request)
        while not future.done():
            self.executor.spin_once(timeout_sec=0.1)
        self.refused += not future.result().result.successful

    def values(self, node: str) -> dict[str, str]:
        """The newest diagnostics of a node."""
        for _, message in reversed(self.heard[names.DIAGNOSTICS]):
            for status in deserialize_message(message, DiagnosticArray).status:
                if status.name == f'/{node}':
                    return {pair.key: pair.value for pair in status.values}
        return {}

    def fresh(self) -> dict[str, str]:
        """Diagnostics of the simulation that were sent from now on."""
        self.spin(1.1)
        return self.values('sim')

    def effects(self) -> FloatArray:
        """Ms from each request to the arrival of the first command that its policy computed."""
        arrival = {_stamp(message): when for when, message in self.heard[names.JOINT_COMMANDS]}
        first = deserialize_message(self.heard[names.STEPS][0][1], PointCloud2)
        dtype = record_dtype(first)
        changes, last = [], None
        for _, message in self.heard[names.STEPS]:
            row = read_record(deserialize_message(message, PointCloud2), dtype)[0]
            acting = bytes(row['adapter_sha256'])
            if last is not None and acting != last:
                stamp = int(row['sec']) * 10**9 + int(row['nanosec'])
                changes.append(arrival.get(stamp, np.nan))
            last = acting
        found, sent = [], np.array([when for when, _ in self.requests])
        for when in changes:  # in lockstep several requests may fall between two steps
            before = sent[sent <= when]
            if len(before):
                found.append(1e3 * (when - before[-1]))
        return np.array(found)

    def beyond_limits(self) -> tuple[int, int]:
        """How many applied targets broke a limit of the robot, and how many there were."""
        limits, period = ROBOT.limits, 1.0 / ROBOT.control_rate
        messages = [
            deserialize_message(message, JointState)
            for _, message in self.heard[names.JOINT_COMMANDS_APPLIED]
        ]
        position = np.array([message.position for message in messages])
        stamp = np.array([to_ns(message.header.stamp) for message in messages])
        on = np.array([message.header.frame_id != 'relaxed' for message in messages])
        outside = ((position < ROBOT.lower - 1e-9) | (position > ROBOT.upper + 1e-9)).any(axis=1)
        follows = (np.diff(stamp) == ROBOT.control_period_ns) & on[1:] & on[:-1]
        velocity = np.diff(position, axis=0) / period
        fast = (np.abs(velocity) > limits.velocity + 1e-6).any(axis=1) & follows
        # where stopping at a position limit needs more, the position limit wins
        edge = (position <= ROBOT.lower + 1e-9) | (position >= ROBOT.upper - 1e-9)
        hard = np.abs(np.diff(velocity, axis=0)) / period > limits.acceleration + 1e-3
        jerked = (hard & ~edge[2:]).any(axis=1) & follows[1:] & follows[:-1]
        return int(outside.sum() + fast.sum() + jerked.sum()), len(messages)


def _stamp(message: bytes) -> int:
    """Nanoseconds of a serialized message that begins with a header."""
    sec, nanosec = struct.unpack_from('<iI', message, 4)
    return int(sec) * 10**9 + int(nanosec)


@contextmanager
def walking(store: Path, speed: float) -> Iterator[Client]:
    """Simulation, policy and teleop, walking; the rest of the graph does not run."""
    given = {'real_time_factor': speed, 'monitored': True, 'adapter_store': str(store)}
    stack = walk_stack(given)
    nodes = tuple(spec for spec in stack.nodes if spec.name in ('sim', 'policy', 'teleop'))
    for spec in nodes:
        if spec.name != 'teleop':
            spec.parameters['wait_for_listeners'] = 0  # nobody records here
    with Runner(type(stack)(nodes, stack.arguments), store / 'logs', print) as runner:
        client = Client()
        try:
            limit = time.monotonic() + 30.0
            while client.values('sim').get('mode') != 'track':
                client.spin(0.5)
                runner.poll()
                if runner.failed or time.monotonic() > limit:
                    raise RuntimeError(runner.failed or 'the robot does not walk')
            client.spin(2.0)
            yield client
        finally:
            client.node.destroy_node()


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """So many processes that never rest, at the lowest priority."""
    words = ['nice', '-n', '19', sys.executable, '-c', 'while True: pass']
    running = [subprocess.Popen(words) for _ in range(cores)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def texts(rng: np.random.Generator, number: int) -> Iterator[str]:
    """Adapters or the base, by chance, never one twice in a row."""
    last = ''
    for _ in range(number):
        last = str(rng.choice([text for text in ('', *NAMES) if text != last]))
        yield last


def verdict(name: str, good: bool, said: str) -> bool:
    """Print a line and return whether it passed."""
    print(f'{"PASS" if good else "FAIL"}  {name}: {said}', flush=True)
    return good


def common(client: Client, swaps: int) -> bool:
    """What both runs must show."""
    policy, (broken, checked) = client.values('policy'), client.beyond_limits()
    mean, p99 = (float(policy[f'swap_work_{q}_ms']) for q in ('mean', 'p99'))
    good = [
        verdict('swaps', client.refused == 0, f'{swaps}, {client.refused} refused'),
        verdict('limits', broken == 0, f'{broken} of {checked} applied commands beyond'),
        verdict(
            'work in the tick thread',
            mean < WORK_LIMIT,
            f'mean {mean:.3f} ms (below {WORK_LIMIT}), p99 {p99:.3f} ms, '
            f'of the last {min(swaps, 1000)}',
        ),
    ]
    print(f'      policy: {policy["scheduling"]}; sim: {client.values("sim")["scheduling"]}')
    return all(good)


def lockstep(store: Path, swaps: int) -> bool:
    """Part (a)."""
    with walking(store, 0.0) as client:
        begun, before = time.perf_counter(), client.fresh()
        for text in texts(np.random.default_rng(0), swaps):
            client.swap(text)
        seconds, after = time.perf_counter() - begun, client.fresh()
        ticks, missed, falls = (
            int(after[key]) - int(before[key]) for key in ('ticks', 'missed_ticks', 'falls')
        )
        print(f'lockstep: {swaps} swaps and {ticks} ticks in {seconds:.1f} s, {falls} falls')
        steps = len(client.effects())
        print(f'      {steps} of them had a step of their own before the next came')
        good = verdict('missed ticks', missed == 0, f'{missed} of {ticks}')
        return common(client, swaps) and good


def real_time(store: Path, swaps: int) -> bool:
    """Part (b)."""
    rng, missed, ticks = np.random.default_rng(1), {True: 0, False: 0}, {True: 0, False: 0}
    with walking(store, 1.0) as client, busy(os.cpu_count() or 1):
        client.spin(2.0)
        for _ in range(max(swaps // ROUND, 1)):
            for swapping in (True, False):
                before = client.fresh()
                for text in texts(rng, min(ROUND, swaps)):
                    if swapping:
                        client.swap(text)
                    client.spin(EVERY)
                after = client.fresh()
                missed[swapping] += int(after['missed_ticks']) - int(before['missed_ticks'])
                ticks[swapping] += int(after['ticks']) - int(before['ticks'])
        print(f'real time, {os.cpu_count()} busy cores: {len(client.requests)} swaps')
        p50, p99 = np.percentile(client.effects(), (50, 99))
        good = [
            verdict(
                'missed ticks',
                missed[True] <= missed[False] + 1,
                f'{missed[True]} of {ticks[True]} with swaps, '
                f'{missed[False]} of {ticks[False]} without',
            ),
            verdict(
                'request to effect',
                bool(p99 < EFFECT_LIMIT),
                f'p50 {p50:.1f} ms, p99 {p99:.1f} ms (below {EFFECT_LIMIT:g}), '
                f'{len(client.effects())} seen',
            ),
        ]
        return common(client, len(client.requests)) and all(good)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--swaps', type=int, default=10_000, help='in lockstep (default: 10000)')
    parser.add_argument(
        '--real-time-swaps', type=int, default=200, help='in real time (default: 200)'
    )
    args = parser.parse_args()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', DOMAIN)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    good = True
    with tempfile.TemporaryDirectory() as folder:
        if args.swaps:
            good &= lockstep(Path(folder), args.swaps)
        if args.real_time_swaps:
            good &= real_time(Path(folder), args.real_time_swaps)
    rclpy.try_shutdown()
    return 0 if good else 1


if __name__ == '__main__':
    raise SystemExit(main())
