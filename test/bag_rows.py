"""Bags made of rows, by an independent writer, for tests of what reads them."""

import struct

import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores, get_typestore

from lebot_rl_ros.data.rows import reward_dtype, step_dtype

STORE = get_typestore(Stores.ROS2_JAZZY)
CODES = {'i1': 1, 'u1': 2, 'i2': 3, 'u2': 4, 'i4': 5, 'u4': 6, 'f4': 7, 'f8': 8}
PERIOD = 20_000_000  # ns
CLOUD = 'sensor_msgs/msg/PointCloud2'
WIDTH, JOINTS, TERMS = 5, 3, ('alive', 'fall')
STEP, REWARD = step_dtype(WIDTH, JOINTS), reward_dtype(TERMS)
BASE, OTHER_BASE = '5a' * 32, 'c3' * 32


def stamp_of(ns):
    return STORE.types['builtin_interfaces/msg/Time'](*map(int, divmod(ns, 1_000_000_000)))


def header(ns, frame_id=''):
    return STORE.types['std_msgs/msg/Header'](stamp_of(ns), frame_id)


def cloud(rows, ns=0, frame_id=''):
    """Rows (N,) as a serialized PointCloud2."""
    field_type = STORE.types['sensor_msgs/msg/PointField']
    rows, fields = np.atleast_1d(rows), []
    for name in rows.dtype.names:
        base, offset = rows.dtype.fields[name][:2]
        element, shape = base.subdtype or (base, (1,))
        fields.append(field_type(name, offset, CODES[element.str[1:]], shape[0]))
    data = np.frombuffer(rows.tobytes(), np.uint8)
    size = rows.dtype.itemsize
    message = STORE.types[CLOUD](
        header(ns, frame_id), 1, len(rows), fields, False, size, len(data), data, True
    )
    return bytes(STORE.serialize_cdr(message, CLOUD))


def text(words):
    message = STORE.types['std_msgs/msg/String'](words)
    return bytes(STORE.serialize_cdr(message, 'std_msgs/msg/String'))


def qos(durability=QosDurability.VOLATILE):
    never = QosTime(9223372036, 854775807)
    return Qos(
        QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, durability, never, never,
        QosLiveliness.AUTOMATIC, never, False,
    )  # fmt: skip


def write_bag(folder, messages, types=None, compress=True, metadata=None):
    """A bag of (topic, log time, serialized message), in the order given."""
    types = types or {}
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
    if compress:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        for key, value in (metadata or {}).items():
            writer.set_custom_data(key, value)
        connections = {}
        for topic, log_time, data in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, types.get(topic, CLOUD), typestore=STORE, offered_qos_profiles=[qos()]
                )
            writer.write(connections[topic], log_time, data)
    return folder


def stream(count, seed=0, start=50, base=BASE, terms=TERMS):
    """Rows of both topics for ``count`` periods from period ``start`` on."""
    rng = np.random.default_rng(seed)
    steps, rewards = np.zeros(count, STEP), np.zeros(count, reward_dtype(terms))
    stamps = (np.arange(count) + start) * PERIOD
    for rows in (steps, rewards):
        rows['sec'], rows['nanosec'] = np.divmod(stamps, 1_000_000_000)
    steps['next_sec'], steps['next_nanosec'] = np.divmod(stamps + PERIOD, 1_000_000_000)
    for rows in (steps, rewards):
        for name in rows.dtype.names[2:]:
            if rows.dtype[name].base == np.float32:
                rows[name] = rng.normal(size=rows[name].shape)
    steps['mode'], steps['adapter_version'] = 2, rng.integers(0, 9, count)
    steps['base_sha256'] = np.frombuffer(bytes.fromhex(base), np.uint8)
    return steps, rewards


def stamps(rows):
    return rows['sec'].astype(np.int64) * 1_000_000_000 + rows['nanosec']


def arrivals(steps, rewards, clock=1_700_000_000_000_000_000, late=3_000_000):
    """Messages of both topics as they would come: the reward 3 ms behind its step."""
    found = [
        (topic, clock + int(stamp) + behind, cloud(row, int(stamp)))
        for topic, rows, behind in (
            ('/policy/steps', steps, 0), ('/reward/rewards', rewards, late)
        )
        for row, stamp in zip(rows, stamps(rows), strict=True)
    ]  # fmt: skip
    return sorted(found, key=lambda entry: entry[1])


def cut_off(path, octets=40):
    """What a kill leaves: a file without its end."""
    content = path.read_bytes()
    path.write_bytes(content[: -octets if octets < len(content) else 8])


def message_indexes(content):
    """Where the message indexes of an MCAP file begin."""
    found, at = [], 8
    while content[at] != 2:  # the footer
        if content[at] == 7:
            found.append(at)
        at += 9 + struct.unpack_from('<Q', content, at + 1)[0]
    return found
