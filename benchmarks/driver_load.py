"""What the servo driver costs: CPU of its process at 50 Hz, beside a bare rclpy publisher.

The driver reads and writes eight emulated servos at 1 Mbaud, publishes joint_states and takes
commands; the graph of `lebot walk --backend wire` runs round it. The bare publisher is one rclpy
process of the same executor that sends a JointState of eight joints at 50 Hz and does nothing
else. Both are measured over the same seconds, by the kernel's count of their CPU time.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.bringup.runner import Runner

DOMAIN = 87
LIMIT = 15.0  # % of one core
BARE = """
from rclpy.node import Node
from sensor_msgs.msg import JointState
from lebot_rl_ros.ros.spin import run

class Bare(Node):
    def __init__(self):
        super().__init__('bare')
        publisher = self.create_publisher(JointState, 'bare', 10)
        names = [f'j{i}' for i in range(8)]

        def send():
            zeros = [0.0] * 8
            message = JointState(name=names, position=zeros, velocity=zeros, effort=zeros)
            message.header.stamp = self.get_clock().now().to_msg()
            publisher.publish(message)

        self.create_timer(0.02, send)

run(Bare)
"""


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, all threads."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def measure(bus: str, seconds: float) -> dict[str, float]:
    """Share of one core (%) by process, over so many seconds of walking."""
    environment = os.environ | {'ROS_DOMAIN_ID': str(DOMAIN)}
    bare = subprocess.Popen([sys.executable, '-c', BARE], env=environment)
    with tempfile.TemporaryDirectory() as folder:
        stack = walk_stack({'backend': 'wire', 'bus': bus, 'ports': f'{folder}/ports'})
        try:
            with Runner(stack, Path(folder) / 'logs', print, environment) as runner:
                time.sleep(8.0)  # gathered, stood up, walking
                pids = {name: process.popen.pid for name, process in runner.processes.items()}
                pids['bare publisher'] = bare.pid
                before, begin = {name: cpu(pid) for name, pid in pids.items()}, time.monotonic()
                time.sleep(seconds)
                span = time.monotonic() - begin
                return {name: 100 * (cpu(pid) - before[name]) / span for name, pid in pids.items()}
        finally:
            bare.terminate()
            bare.wait()


def main() -> int:
    """Print a table; 1 if the driver is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=20.0)
    args = parser.parse_args()
    rows = {bus: measure(bus, args.seconds) for bus in ('feetech', 'dynamixel')}
    names = list(rows['feetech'])
    print(f'% of one core, over {args.seconds:g} s of walking at 50 Hz; {os.cpu_count()} cores')
    print(f'{"":<16}' + ''.join(f'{bus:>11}' for bus in rows))
    for name in names:
        print(f'{name:<16}' + ''.join(f'{row[name]:11.1f}' for row in rows.values()))
    worst = max(row['servo_driver'] for row in rows.values())
    ratio = max(row['servo_driver'] / row['bare publisher'] for row in rows.values())
    print(f'servo_driver: {worst:.1f} % (limit {LIMIT:g}), {ratio:.1f} times the bare publisher')
    return int(worst > LIMIT)


if __name__ == '__main__':
    raise SystemExit(main())
