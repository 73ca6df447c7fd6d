"""A long bag into transitions: `rosbags` message by message, ours the first time, ours again.

The bag is made here, once, and kept: 200 Hz joint states, 200 Hz IMU, 50 Hz steps and rewards,
serialized as the nodes send them, in chunks of 64 KiB with zstd. All three ways end with the same
array, which is compared to the last bit. The first time ours reads, joins, hashes the bag and
writes its cache to the disk; the second time the cache is mapped and every octet of it is copied.

    python benchmarks/bag_reading.py                  # an hour: some minutes, 2 GB of disk
    python benchmarks/bag_reading.py --minutes 10
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from lebot_rl_ros.data.bag.cache import FOLDER
from lebot_rl_ros.data.bag.transitions import read_transitions
from lebot_rl_ros.data.bag.types import Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter
from lebot_rl_ros.data.joining import TRACK, Joiner
from lebot_rl_ros.data.rows import reward_dtype, step_dtype
from lebot_rl_ros.robot import load_robot

FIRST, AGAIN = 1.5, 20.0  # times faster than `rosbags`, at least
OBSERVATION = 34
TERMS = ('speed', 'yaw_rate', 'height', 'tilt', 'sway', 'torque', 'action_rate', 'slip', 'fall')
PERIOD, SENSOR = 20_000_000, 5_000_000  # ns
START = 1_790_000_000_000_000_000  # ns
MARK = 1.2345e-303  # stands where float64 will be written
CODES = {'i1': 1, 'u1': 2, 'i2': 3, 'u2': 4, 'i4': 5, 'u4': 6, 'f4': 7, 'f8': 8}
CLOUD = 'sensor_msgs/msg/PointCloud2'
STORE = get_typestore(Stores.ROS2_JAZZY)
ROBOT = load_robot()

Rows = npt.NDArray[np.void]


class Sender:
    """Serializes one kind of message: made once, then its stamp and numbers are written in."""

    def __init__(self, name: str, type_name: str, message: Any, fill: bytes) -> None:
        self.topic = Topic(name, type_name)
        self._buffer = bytearray(STORE.serialize_cdr(message, type_name))
        self._places, at = [], self._buffer.find(fill)
        while at >= 0:
            self._places.append(slice(at, at + len(fill)))
            at = self._buffer.find(fill, at + len(fill))
        self.size = len(fill) * len(self._places)

    def send(self, stamp: int, content: bytes, delay: int) -> Message:
        seconds, rest = divmod(stamp, 1_000_000_000)
        self._buffer[4:12] = np.array([seconds, rest], np.int32).tobytes()
        at = 0
        for place in self._places:
            size = place.stop - place.start
            self._buffer[place] = content[at : at + size]
            at += size
        return Message(self.topic.name, stamp + delay, stamp + delay, bytes(self._buffer))


def header(frame_id: str) -> Any:
    return STORE.types['std_msgs/msg/Header'](
        STORE.types['builtin_interfaces/msg/Time'](0, 0), frame_id
    )


def cloud_sender(name: str, dtype: np.dtype) -> Sender:
    fields = []
    for field in dtype.names or ():
        base, offset = dtype.fields[field][:2]  # type: ignore[index]
        element, shape = base.subdtype or (base, (1,))
        fields.append(
            STORE.types['sensor_msgs/msg/PointField'](
                field, offset, CODES[element.str[1:]], shape[0]
            )
        )
    size = dtype.itemsize
    data = np.full(size, 0xA5, np.uint8)
    message = STORE.types[CLOUD](header(''), 1, 1, fields, False, size, size, data, True)
    return Sender(name, CLOUD, message, data.tobytes())


def joint_sender() -> Sender:
    joints = len(ROBOT.joints)
    marks = np.full(joints, MARK)
    kind = 'sensor_msgs/msg/JointState'
    message = STORE.types[kind](header(''), list(ROBOT.joint_names), marks, marks, marks)
    return Sender('/joint_states', kind, message, marks.tobytes())


def imu_sender() -> Sender:
    types, kind = STORE.types, 'sensor_msgs/msg/Imu'
    vector = types['geometry_msgs/msg/Vector3']
    turn = types['geometry_msgs/msg/Quaternion'](MARK, MARK, MARK, MARK)
    unknown = np.array([-1.0] + [0.0] * 8)
    moved = vector(MARK, MARK, MARK)
    message = types[kind](header(ROBOT.imu_link), turn, unknown, moved, unknown, moved, unknown)
    return Sender('/imu/data', kind, message, np.full(1, MARK).tobytes())


def rows_of(count: int) -> tuple[Rows, Rows]:
    """Steps and rewards of a walk: numbers at random, a fall in two minutes, some rows lost."""
    rng = np.random.default_rng(0)
    joints = len(ROBOT.joints)
    steps = np.zeros(count, step_dtype(OBSERVATION, joints))
    rewards = np.zeros(count, reward_dtype(TERMS))
    stamps = START + np.arange(count) * PERIOD
    for rows in (steps, rewards):
        rows['sec'], rows['nanosec'] = np.divmod(stamps, 1_000_000_000)
    steps['next_sec'], steps['next_nanosec'] = np.divmod(stamps + PERIOD, 1_000_000_000)
    for rows in (steps, rewards):
        for name in (rows.dtype.names or ())[2:]:
            if rows.dtype[name].base == np.float32:
                rows[name] = rng.normal(size=rows[name].shape)
    steps['mode'], steps['base_sha256'] = TRACK, rng.integers(0, 256, 32)
    rewards['terminated'] = rng.random(count) < PERIOD / 120e9
    return steps[rng.random(count) > 1e-4], rewards[rng.random(count) > 1e-4]


def messages(minutes: float) -> Iterator[Message]:
    """All that is recorded, in the order of arrival."""
    rng = np.random.default_rng(1)
    steps, rewards = rows_of(round(minutes * 60e9 / PERIOD))
    clouds = [
        (cloud_sender('/policy/steps', steps.dtype), iter(steps), 21_000_000),
        (cloud_sender('/reward/rewards', rewards.dtype), iter(rewards), 22_000_000),
    ]
    sensors = (joint_sender(), imu_sender())
    waiting = [next(rows, None) for _, rows, _ in clouds]
    for tick in range(round(minutes * 60e9 / SENSOR)):
        stamp = START + tick * SENSOR
        for sender in sensors:
            noise = rng.normal(size=sender.size // 8)
            yield sender.send(stamp, noise.tobytes(), 400_000)
        if tick % (PERIOD // SENSOR):
            continue
        for i, (sender, rows, delay) in enumerate(clouds):
            row = waiting[i]
            if row is not None and int(row['sec']) * 10**9 + int(row['nanosec']) == stamp:
                yield sender.send(stamp, row.tobytes(), delay)
                waiting[i] = next(rows, None)


def make(folder: Path, minutes: float) -> None:
    """Write the bag, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as parent:
        place = Path(parent, folder.name)
        with BagWriter(place) as writer:
            for sender in (joint_sender(), imu_sender()):
                writer.add(sender.topic)
            for name in ('/policy/steps', '/reward/rewards'):
                writer.add(Topic(name, CLOUD))
            for message in messages(minutes):
                writer.write(message)
        place.rename(folder)


def by_rosbags(folder: Path) -> Rows:
    """Message by message, as its users read a bag; then the same joiner."""
    names = ('/policy/steps', '/reward/rewards')
    found: dict[str, list[Rows]] = {name: [] for name in names}
    dtypes: dict[str, np.dtype] = {}
    elements = {code: name for name, code in CODES.items()}
    with Reader(folder) as reader:
        wanted = [c for c in reader.connections if c.topic in names]
        for connection, _, data in reader.messages(connections=wanted):
            message: Any = STORE.deserialize_cdr(data, connection.msgtype)
            if connection.topic not in dtypes:
                fields = [
                    (f.name, elements[f.datatype], (f.count,) if f.count > 1 else ())
                    for f in message.fields
                ]
                dtypes[connection.topic] = np.dtype(fields)
            found[connection.topic].append(np.frombuffer(message.data, dtypes[connection.topic]))
    steps, rewards = (np.concatenate(found[name]) for name in names)
    join = Joiner.fitting(steps.dtype, rewards.dtype, period=PERIOD)
    join.steps(steps)
    join.rewards(rewards)
    return np.concatenate((join.take(), join.flush()))


def ours(folder: Path) -> Rows:
    """Into memory of our own, so that all of it has been read."""
    rows: Rows = np.array(read_transitions(folder)[0].rows)
    return rows


def timed(work: Callable[[Path], Rows], folder: Path) -> tuple[float, float, Rows]:
    start, start_cpu = time.perf_counter(), time.process_time()
    rows = work(folder)
    return time.perf_counter() - start, time.process_time() - start_cpu, rows


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--minutes', type=float, default=60.0, help='of the bag (default: 60)')
    parser.add_argument('--rounds', type=int, default=1, help='turns of each way (default: 1)')
    parser.add_argument(
        '--folder', type=Path, default=Path(tempfile.gettempdir()), help='where the bag is kept'
    )
    args = parser.parse_args()
    folder = args.folder / f'bag_reading_{args.minutes:g}'
    if not folder.exists():
        start = time.perf_counter()
        make(folder, args.minutes)
        print(f'made {folder} in {time.perf_counter() - start:.0f} s')
    size = sum(file.stat().st_size for file in folder.glob('*.mcap'))
    with Reader(folder) as reader:
        print(f'{reader.message_count:,} messages, {size / 1e6:,.0f} MB, {os.cpu_count()} cores')

    ways = ('rosbags', 'ours, first time', 'ours, again')
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    print(f'{"round":<6} {"way":<18} {"s":>9} {"CPU s":>9} {"transitions":>12}')
    for turn in range(args.rounds):
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        made: list[Rows] = []
        for way in ways:
            spent, cpu, rows = timed(by_rosbags if way == 'rosbags' else ours, folder)
            seconds[way].append(spent)
            print(f'{turn:<6} {way:<18} {spent:9.3f} {cpu:9.3f} {len(rows):12,}', flush=True)
            made.append(rows)
        if any(rows.tobytes() != made[0].tobytes() for rows in made):
            print('the transitions differ')
            return 1
    best = {way: min(spent) for way, spent in seconds.items()}
    first, again = (best['rosbags'] / best[way] for way in ways[1:])
    print('the transitions are equal to the last bit')
    print(f'first time: {first:.1f} times faster   (wanted: at least {FIRST:g})')
    print(f'from the cache: {again:.0f} times faster   (wanted: at least {AGAIN:g})')
    return 0 if first >= FIRST and again >= AGAIN else 1


if __name__ == '__main__':
    raise SystemExit(main())
