"""What recording costs beside only listening: CPU of both in turn, and what is lost.

One process sends joints and IMU at 200 Hz, steps at 50 Hz and JPEGs of 640x480 (40 kB) at 15 Hz.
In turn the recorder node takes them, and a bare subscriber: raw, with the same quality of service
and executor, and a callback that only counts. CPU time is that of the whole process from the first
message to the last, by the kernel's own count. What is in the bag is counted by `rosbags`.

    python benchmarks/recorder.py                       # six times 20 s
    python benchmarks/recorder.py --rounds 1 --seconds 5
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

LIMIT = 25.0  # % of a core that the recorder may take
JPEG = 40_000  # octets
RATES = {'joint_states': 200, 'imu/data': 200, 'policy/steps': 50, 'camera/compressed': 15}  # Hz


def messages() -> dict[str, Any]:
    """One message of each topic, as a LeBot sends them."""
    from sensor_msgs.msg import CompressedImage

    from lebot_rl_ros.data.rows import step_dtype
    from lebot_rl_ros.robot import load_robot
    from lebot_rl_ros.ros.convert import ImuMessage, JointMessage, SerializedMessage
    from lebot_rl_ros.ros.records import RecordMessage

    robot = load_robot()
    picture = CompressedImage(format='jpeg')
    picture.data.frombytes(np.random.default_rng(0).bytes(JPEG))
    steps = RecordMessage(step_dtype(51, len(robot.joint_names)))
    return {
        'joint_states': JointMessage(robot.joint_names, full=True),
        'imu/data': ImuMessage(robot.imu_link),
        'policy/steps': steps,
        'camera/compressed': SerializedMessage(picture),
    }


def kinds() -> dict[str, Any]:
    """Class of each topic's messages."""
    from sensor_msgs.msg import CompressedImage, Imu, JointState, PointCloud2

    return dict(zip(RATES, (JointState, Imu, PointCloud2, CompressedImage), strict=True))


def publish(seconds: float) -> None:
    """Send for so long once somebody listens to all; tell how many there were of each."""
    import rclpy
    from rclpy.node import Node

    from lebot_rl_ros.ros import qos

    rclpy.init()
    node = Node('publisher')
    sent, ready = dict.fromkeys(RATES, 0), messages()
    publishers = {
        name: node.create_publisher(kind, name, qos.EVERY) for name, kind in kinds().items()
    }
    while not all(publisher.get_subscription_count() for publisher in publishers.values()):
        time.sleep(0.05)
    time.sleep(2.0)  # whoever listens has started what it needs
    print('begin', flush=True)
    begun = time.perf_counter()
    noise = np.random.default_rng(1)
    while (now := time.perf_counter() - begun) < seconds:
        for name, rate in RATES.items():
            while sent[name] < now * rate and sent[name] < seconds * rate:
                message = ready[name]
                message.stamp(time.time_ns())
                if hasattr(message, 'values'):  # numbers that change, as those of a robot do
                    for values in message.values.values():
                        values[:] = noise.standard_normal(values.shape)
                publishers[name].publish(message.serialized())
                sent[name] += 1
        time.sleep(0.001)
    print(json.dumps(sent), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()
    os._exit(0)


def listen() -> None:
    """Count what comes until interrupted; tell how much that was."""
    import rclpy
    from rclpy.experimental import EventsExecutor
    from rclpy.node import Node
    from rclpy.signals import SignalHandlerOptions

    from lebot_rl_ros.ros.qos import EVERY
    from lebot_rl_ros.ros.recording_qos import request
    from lebot_rl_ros.ros.spin import Stop, spin

    stop = Stop()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, heard = Node('listener'), dict.fromkeys(RATES, 0)
    for name, kind in kinds().items():

        def count(serialized: bytes, name: str = name) -> None:
            heard[name] += 1

        package = kind.__module__.split('.')[0]
        profile = request(f'{package}/msg/{kind.__name__}', [EVERY])
        node.create_subscription(kind, name, count, profile, raw=True)
    executor = EventsExecutor()
    executor.add_node(node)
    spin(executor, stop)
    print(json.dumps(heard), flush=True)
    os._exit(0)


@contextlib.contextmanager
def process(*words: str, environment: dict[str, str]) -> Iterator['subprocess.Popen[str]']:
    """A process that is interrupted in the end."""
    started = subprocess.Popen(
        [sys.executable, *words],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGINT)
        started.wait(20)


def counted(folder: Path) -> dict[str, int]:
    """Messages by topic, by a reader that is none of ours."""
    from rosbags.rosbag2 import Reader

    found = dict.fromkeys(RATES, 0)
    with Reader(folder) as bag:
        for connection, _, _ in bag.messages():
            if connection.topic[1:] in found:
                found[connection.topic[1:]] += 1
    return found


def measure(seconds: float, folder: Path, domain: int, *, records: bool) -> dict[str, float]:
    """One run: % of a core, messages sent, and lost."""
    environment = os.environ | {
        'ROS_DOMAIN_ID': str(domain),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }
    words = [__file__, '--role', 'listen']
    if records:
        node = ['-m', 'lebot_rl_ros.nodes.recorder', '--ros-args']
        words = [*node, '-p', f'folder:={folder}', '-p', 'patience:=1.0']
    with process(*words, environment=environment) as taker:
        with process(
            __file__, '--role', 'publish', '--seconds', str(seconds), environment=environment
        ) as giver:
            assert giver.stdin is not None
            assert giver.stdout is not None
            giver.stdout.readline()
            before, begun = psutil.Process(taker.pid).cpu_times(), time.perf_counter()
            sent = json.loads(giver.stdout.readline())
            wall = time.perf_counter() - begun
            after = psutil.Process(taker.pid).cpu_times()
            time.sleep(0.5)
            giver.stdin.close()
        taker.send_signal(signal.SIGINT)
        output, _ = taker.communicate(timeout=20)
    got = counted(folder) if records else json.loads(output.splitlines()[-1])
    used = after.user + after.system - before.user - before.system
    return {
        'cpu': 100.0 * used / wall,
        'sent': sum(sent.values()),
        'lost': sum(sent[name] - got[name] for name in sent),
    }


def main() -> int:
    """Measure in turn; 0 if nothing was lost and the recorder keeps its limit."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=3, help='runs of each kind')
    parser.add_argument('--seconds', type=float, default=20.0, help='of a run')
    parser.add_argument('--domain', type=int, default=88, help='ROS domain')
    parser.add_argument('--role', choices=('publish', 'listen'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == 'publish':
        publish(args.seconds)
        return 0
    if args.role == 'listen':
        listen()
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2 * args.rounds):
            records = bool(number % 2)
            run = measure(
                args.seconds, Path(folder) / f'bag{number}', args.domain, records=records
            )
            found[records].append(run)
            load = os.getloadavg()[0]
            print(
                f'{"recorder" if records else "bare":<9} {run["cpu"]:5.1f} % of a core  '
                f'{run["sent"]:.0f} sent, {run["lost"]:.0f} lost  (load {load:.1f})',
                flush=True,
            )
    bare, recorder = (median(run['cpu'] for run in found[kind]) for kind in (False, True))
    lost = sum(run['lost'] for run in found[True])
    print(f'median: recorder {recorder:.1f} %, bare {bare:.1f} %; the recorder lost {lost:.0f}')
    return int(recorder > LIMIT or lost > 0)


if __name__ == '__main__':
    raise SystemExit(main())
