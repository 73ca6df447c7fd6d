"""What the tests of writing bags share: topics, messages, and readers that are not ours."""

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from lebot_rl_ros.data.bag.types import Message, Topic

START = 1_700_000_000_000_000_000  # ns
STORE = get_typestore(Stores.ROS2_JAZZY)
RELIABLE = {
    'history': 'keep_last',
    'depth': 10,
    'reliability': 'reliable',
    'durability': 'volatile',
}
LATCHED = {'history': 'keep_last', 'depth': 1, 'durability': 'transient_local'}
WORDS = Topic('/words', 'std_msgs/msg/String', qos=(RELIABLE,))
JOINTS = Topic('/joint_states', 'sensor_msgs/msg/JointState', qos=(RELIABLE,))
MODE = Topic('/mode', 'std_msgs/msg/String', qos=(LATCHED,))
Seen = tuple[str, int, int, bytes]  # topic, log time, publish time, data


@cache
def text(words):
    """A serialized std_msgs/String."""
    message = STORE.types['std_msgs/msg/String'](words)
    return bytes(STORE.serialize_cdr(message, 'std_msgs/msg/String'))


def word(number, words='', topic='/words', step=10_000_000):
    """The message of a number: its log time is that many steps (10 ms) after START."""
    log_time = START + number * step
    return Message(topic, log_time, log_time - 1000, text(words or f'word {number}'))


def noise(number, octets, topic='/words'):
    """A message that cannot be compressed."""
    data = np.random.default_rng(number).bytes(octets)
    return Message(topic, START + number * 10_000_000, START + number, b'\0\1\0\0' + data)


def seen(message):
    """What must be the same on the other side."""
    return (message.topic, message.log_time, message.publish_time, message.data)


def read_file(path):
    """All messages of a file in the order of the file, by the package `mcap`, CRCs checked."""
    found = []
    with path.open('rb') as file:
        reader = make_reader(file, validate_crcs=True)
        for _, channel, message in reader.iter_messages(log_time_order=False):
            found.append((channel.topic, message.log_time, message.publish_time, message.data))
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics.message_count == len(found)
        by_channel = Counter(topic for topic, *_ in found)
        for channel_id, count in summary.statistics.channel_message_counts.items():
            assert by_channel[summary.channels[channel_id].topic] == count
    return found


def read_bag(folder):
    """All messages of a bag, file by file; `rosbags` must see the same ones."""
    import yaml

    described = yaml.safe_load((Path(folder) / 'metadata.yaml').read_text())
    paths = described['rosbag2_bagfile_information']['relative_file_paths']
    found = [message for path in paths for message in read_file(Path(folder) / path)]
    with Reader(folder) as reader:
        assert reader.message_count == len(found)
        theirs = [(c.topic, log_time, bytes(data)) for c, log_time, data in reader.messages()]
        assert Counter(theirs) == Counter((topic, log, data) for topic, log, _, data in found)
        assert {c.topic: c.msgcount for c in reader.connections if c.msgcount} == Counter(
            topic for topic, *_ in found
        )
    return found
