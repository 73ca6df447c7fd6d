"""Bags as rosbag2 writes them, seen by readers that are not ours."""

import json

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader
from rosbags.interfaces import QosDurability, QosHistory
from rosbags.rosbag2 import Reader

from bag_samples import (
    JOINTS,
    LATCHED,
    MODE,
    RELIABLE,
    START,
    STORE,
    WORDS,
    noise,
    read_bag,
    read_file,
    seen,
    text,
    word,
)
from lebot_rl_ros.data.bag.definitions import complete, known
from lebot_rl_ros.data.bag.mending import scan
from lebot_rl_ros.data.bag.metadata import BagMetadata, load_qos, read_metadata, write_metadata
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter

# From the REP-2016 hashes that Jazzy's own packages install beside their messages.
STRING_HASH = 'RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18'


def information(folder):
    return yaml.safe_load((folder / 'metadata.yaml').read_text())['rosbag2_bagfile_information']


def test_other_readers_see_every_message(tmp_path):
    messages = [word(number) for number in range(500)]
    with BagWriter(tmp_path / 'run', chunk_bytes=4096) as writer:
        writer.add(WORDS)
        for message in messages:
            writer.write(message)
    assert read_bag(tmp_path / 'run') == [seen(message) for message in messages]
    assert sorted(path.name for path in (tmp_path / 'run').iterdir()) == [
        'metadata.yaml',
        'run_0.mcap',
    ]


def test_a_message_reads_as_it_was_sent(tmp_path):
    kinds = STORE.types
    stamp = kinds['builtin_interfaces/msg/Time'](7, 8)
    header = kinds['std_msgs/msg/Header'](stamp, 'imu_link')
    numbers = (np.array([0.5]), np.array([]), np.array([]))
    sent = kinds['sensor_msgs/msg/JointState'](header, ['knee'], *numbers)
    with BagWriter(tmp_path / 'run') as writer:
        writer.add(JOINTS)
        data = bytes(STORE.serialize_cdr(sent, JOINTS.type))
        writer.write(Message(JOINTS.name, START, START, data))
    with Reader(tmp_path / 'run') as reader:
        ((connection, _, data),) = list(reader.messages())
        heard = STORE.deserialize_cdr(data, connection.msgtype)
    assert heard.header == header
    assert heard.name == ['knee']
    assert heard.position.tolist() == [0.5]


def test_a_file_is_as_rosbag2_writes_it(tmp_path):
    with BagWriter(tmp_path / 'run', metadata={'policy': 'walk', 'robot': 'a: 1\n'}) as writer:
        writer.add(JOINTS)
        writer.add(WORDS)
        writer.write(word(0))
    with (tmp_path / 'run' / 'run_0.mcap').open('rb') as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == 'ros2'
        summary = reader.get_summary()
        metadata = [(record.name, record.metadata) for record in reader.iter_metadata()]
    schema = next(one for one in summary.schemas.values() if one.name == JOINTS.type)
    assert schema.encoding == 'ros2msg'
    definition = schema.data.decode()
    assert definition.startswith('std_msgs/Header header\n')
    assert f'\n{"=" * 80}\nMSG: std_msgs/Header\n' in definition
    assert f'\n{"=" * 80}\nMSG: builtin_interfaces/Time\nint32 sec\n' in definition
    channel = next(one for one in summary.channels.values() if one.topic == WORDS.name)
    assert channel.message_encoding == 'cdr'
    assert channel.metadata['topic_type_hash'] == STRING_HASH
    # The text of a QoS profile, as yaml-cpp puts it.
    assert channel.metadata['offered_qos_profiles'] == (
        '- history: keep_last\n  depth: 10\n  reliability: reliable\n  durability: volatile\n'
        '  deadline:\n    sec: 9223372036\n    nsec: 854775807\n'
        '  lifespan:\n    sec: 9223372036\n    nsec: 854775807\n  liveliness: automatic\n'
        '  liveliness_lease_duration:\n    sec: 9223372036\n    nsec: 854775807\n'
        '  avoid_ros_namespace_conventions: false'
    )
    # rosbag2 describes the bag at the beginning and at the end; the run stands between.
    assert [name for name, _ in metadata] == ['rosbag2', 'lebot_rl_ros', 'rosbag2']
    assert metadata[1][1] == {'policy': 'walk', 'robot': 'a: 1\n'}
    inside = yaml.safe_load(metadata[2][1]['serialized_metadata'])
    assert inside == information(tmp_path / 'run')
    assert set(metadata[2][1]) == {'serialized_metadata'}


def test_chunks_have_crcs_and_are_compressed(tmp_path):
    with BagWriter(tmp_path / 'run', chunk_bytes=10_000) as writer:
        writer.add(WORDS)
        for number in range(1000):
            writer.write(word(number))
    with (tmp_path / 'run' / 'run_0.mcap').open('rb') as file:
        records = list(StreamReader(file, emit_chunks=True).records)
    chunks = [record for record in records if type(record).__name__ == 'Chunk']
    assert len(chunks) >= 5
    for chunk in chunks:
        assert chunk.compression == 'zstd'
        assert chunk.uncompressed_crc
        assert chunk.uncompressed_size < 12_000
        assert len(chunk.data) < chunk.uncompressed_size / 2


def test_metadata_yaml_is_version_nine(tmp_path):
    custom = {'arguments': json.dumps({'a': [1, 'ä']}), 'adapter': '', 'number': '7'}
    with BagWriter(tmp_path / 'run', metadata=custom, split_seconds=1.0) as writer:
        writer.add(WORDS)
        writer.add(MODE)
        for number in (0, 30, 99, 100, 250):  # in 10 ms
            writer.write(word(number))
    bag = information(tmp_path / 'run')
    assert list(bag) == [
        'version', 'storage_identifier', 'duration', 'starting_time', 'message_count',
        'topics_with_message_count', 'compression_format', 'compression_mode',
        'relative_file_paths', 'files', 'custom_data', 'ros_distro',
    ]  # fmt: skip
    assert bag['version'] == 9
    assert bag['storage_identifier'] == 'mcap'
    assert bag['duration'] == {'nanoseconds': 2_500_000_000}
    assert bag['starting_time'] == {'nanoseconds_since_epoch': START}
    assert bag['message_count'] == 5
    assert (bag['compression_format'], bag['compression_mode']) == ('', '')
    assert bag['relative_file_paths'] == ['run_0.mcap', 'run_1.mcap', 'run_2.mcap']
    assert bag['custom_data'] == custom
    assert bag['ros_distro'] == 'jazzy'
    assert [file['message_count'] for file in bag['files']] == [3, 1, 1]
    assert bag['files'][0] == {
        'path': 'run_0.mcap',
        'starting_time': {'nanoseconds_since_epoch': START},
        'duration': {'nanoseconds': 990_000_000},
        'message_count': 3,
    }
    words, mode = bag['topics_with_message_count']
    assert (words['message_count'], mode['message_count']) == (5, 0)
    assert words['topic_metadata']['name'] == '/words'
    assert words['topic_metadata']['type'] == 'std_msgs/msg/String'
    assert words['topic_metadata']['serialization_format'] == 'cdr'
    assert words['topic_metadata']['type_description_hash'] == STRING_HASH
    assert mode['topic_metadata']['offered_qos_profiles'][0]['durability'] == 'transient_local'
    with Reader(tmp_path / 'run') as reader:
        connection = next(one for one in reader.connections if one.topic == '/mode')
        assert connection.ext.offered_qos_profiles[0].durability == QosDurability.TRANSIENT_LOCAL
        assert connection.ext.offered_qos_profiles[0].history == QosHistory.KEEP_LAST


def test_metadata_reads_back(tmp_path):
    with BagWriter(tmp_path / 'run', metadata={'policy': 'walk'}) as writer:
        writer.add(WORDS)
        writer.write(word(3))
    read = read_metadata(tmp_path / 'run')
    assert read.custom_data == {'policy': 'walk'}
    assert [(topic.name, topic.type, count) for topic, count in read.topics] == [
        ('/words', 'std_msgs/msg/String', 1)
    ]
    assert read.topics[0][0].qos[0]['depth'] == 10
    assert (read.files[0].path, read.files[0].count) == ('run_0.mcap', 1)
    assert read.start == START + 30_000_000
    assert read.duration == 0
    (tmp_path / 'other').mkdir()
    write_metadata(tmp_path / 'other', read)
    assert information(tmp_path / 'other') == information(tmp_path / 'run')


def test_metadata_of_older_bags_reads(tmp_path):
    # As Iron wrote it: version 8, numbers for policies, the profiles as a text.
    text = '- history: 1\n  depth: 5\n  reliability: 1\n  durability: 1\n  liveliness: 1'
    bag = {
        'version': 8,
        'relative_file_paths': ['old_0.mcap'],
        'starting_time': {'nanoseconds_since_epoch': 100},
        'duration': {'nanoseconds': 7},
        'message_count': 3,
        'topics_with_message_count': [
            {
                'topic_metadata': {
                    'name': '/mode',
                    'type': 'std_msgs/msg/String',
                    'offered_qos_profiles': text,
                },
                'message_count': 3,
            }
        ],
        'custom_data': None,
    }
    (tmp_path / 'metadata.yaml').write_text(yaml.dump({'rosbag2_bagfile_information': bag}))
    read = read_metadata(tmp_path)
    assert read.version == 8
    assert read.topics[0][0].latched
    assert read.topics[0][0].qos[0]['history'] == 'keep_last'
    assert [(file.path, file.count, file.start, file.end) for file in read.files] == [
        ('old_0.mcap', 3, 100, 107)
    ]


@pytest.mark.parametrize('broken', ['', '[', 'a: 1', 'rosbag2_bagfile_information: {version: 9}'])
def test_a_broken_metadata_yaml_says_so(tmp_path, broken):
    (tmp_path / 'metadata.yaml').write_text(broken)
    with pytest.raises(BagError, match=r'metadata\.yaml'):
        read_metadata(tmp_path)
    (tmp_path / 'metadata.yaml').unlink()
    with pytest.raises(BagError, match='lebot bag recover'):
        read_metadata(tmp_path)


def test_a_bag_without_messages_is_one(tmp_path):
    with BagWriter(tmp_path / 'run') as writer:
        writer.add(WORDS)
    assert read_bag(tmp_path / 'run') == []
    bag = information(tmp_path / 'run')
    assert bag['starting_time'] == {'nanoseconds_since_epoch': 2**63 - 1}  # as rosbag2 says it
    assert bag['duration'] == {'nanoseconds': 0}
    assert bag['custom_data'] is None


def test_splits_by_size(tmp_path):
    messages = [noise(number, 5000) for number in range(100)]
    with BagWriter(tmp_path / 'run', chunk_bytes=10_000, split_bytes=100_000) as writer:
        writer.add(WORDS)
        for message in messages:
            writer.write(message)
        octets = writer.octets
    assert read_bag(tmp_path / 'run') == [seen(message) for message in messages]
    sizes = [path.stat().st_size for path in sorted((tmp_path / 'run').glob('*.mcap'))]
    assert len(sizes) == 5
    # One chunk, one message and the index over the limit at most.
    assert all(100_000 <= size < 100_000 + 20_000 for size in sizes[:-1])
    assert octets <= sum(sizes)


def test_latched_messages_begin_every_file(tmp_path):
    with BagWriter(tmp_path / 'run') as writer:
        writer.add(WORDS)
        writer.add(MODE)
        for number, mode in enumerate(('up', 'walk')):
            writer.write(word(number, mode, topic='/mode'))
        writer.write(word(5))
        writer.split()
        writer.write(word(9))
        writer.split()
        writer.split()  # nothing but what is latched is in it yet; it is a file all the same
        writer.write(word(10, 'lie', topic='/mode'))
    walk = word(1, 'walk', topic='/mode')
    again = ('/mode', word(5).log_time, walk.publish_time, walk.data)
    later = ('/mode', word(9).log_time, walk.publish_time, walk.data)
    files = [read_file(path) for path in sorted((tmp_path / 'run').glob('*.mcap'))]
    assert files[0] == [
        seen(word(0, 'up', topic='/mode')),
        seen(walk),
        seen(word(5)),
    ]
    assert files[1] == [again, seen(word(9))]
    assert files[2] == [later]
    assert files[3] == [later, seen(word(10, 'lie', topic='/mode'))]
    # What is repeated is in the counts: they are those of the files.
    topics = information(tmp_path / 'run')['topics_with_message_count']
    assert {one['topic_metadata']['name']: one['message_count'] for one in topics} == {
        '/words': 2,
        '/mode': 6,
    }
    read_bag(tmp_path / 'run')


def test_a_deep_latched_topic_keeps_its_depth_for_each_publisher(tmp_path):
    history = Topic('/verdicts', 'std_msgs/msg/String', qos=({**LATCHED, 'depth': 3}, LATCHED))
    with BagWriter(tmp_path / 'run') as writer:
        writer.add(history)
        for number in range(10):
            writer.write(word(number, topic='/verdicts'))
        writer.split()
    second = read_file(tmp_path / 'run' / 'run_1.mcap')
    assert [data for *_, data in second] == [text(f'word {number}') for number in (6, 7, 8, 9)]


def test_a_latched_message_is_repeated_for_its_lifespan(tmp_path):
    short = Topic('/rosout', 'std_msgs/msg/String', qos=({**LATCHED, 'lifespan': {'sec': 2}},))
    with BagWriter(tmp_path / 'run', split_seconds=1.5) as writer:
        writer.add(short)
        writer.add(WORDS)
        writer.write(word(0, topic='/rosout'))
        for number in (0, 150, 300):
            writer.write(word(number))
    counts = [len(read_file(tmp_path / 'run' / f'run_{number}.mcap')) for number in range(3)]
    assert counts == [2, 2, 1]  # at 1.5 s it is alive, at 3 s it is not


def test_sync_leaves_all_messages_on_the_disk(tmp_path):

    with BagWriter(tmp_path / 'run') as writer:
        writer.add(WORDS)
        writer.write(word(0))
        assert scan(tmp_path / 'run' / 'run_0.mcap').index.count == 0  # still in the chunk
        writer.sync()
        assert scan(tmp_path / 'run' / 'run_0.mcap').index.count == 1
        assert not (tmp_path / 'run' / 'metadata.yaml').exists()  # the sign of a closed bag
        writer.sync()
        writer.write(word(1))
    assert len(read_bag(tmp_path / 'run')) == 2


def test_a_bag_needs_a_folder_of_its_own(tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'notes.txt').write_text('mine')
    with pytest.raises(BagError, match='not empty'):
        BagWriter(tmp_path / 'run')
    with pytest.raises(BagError, match="'gzip'"):
        BagWriter(tmp_path / 'other', compression='gzip')


def test_mistakes_with_topics_are_named(tmp_path):
    with BagWriter(tmp_path / 'run') as writer:
        with pytest.raises(BagError, match='/words is written before'):
            writer.write(word(0))
        writer.add(WORDS)
        writer.add(Topic('/words', 'std_msgs/msg/String', qos=(LATCHED,)))  # known already
        with pytest.raises(BagError, match='std_msgs/msg/Bool'):
            writer.add(Topic('/words', 'std_msgs/msg/Bool'))
        with pytest.raises(BagError, match='our_msgs/msg/Thing'):
            writer.add(Topic('/thing', 'our_msgs/msg/Thing'))
        writer.write(word(1))
    assert read_bag(tmp_path / 'run') == [seen(word(1))]
    # The QoS is that of the first time, in the channel and in metadata.yaml: rosbags insists.
    topic, _ = read_metadata(tmp_path / 'run').topics[0]
    assert [dict(qos)['depth'] for qos in topic.qos] == [10]


def test_a_topic_may_bring_its_own_definition(tmp_path):
    brought = Topic('/t', 'our_msgs/msg/T', hash='RIHS01_' + '0' * 64, definition='int32 a\n')
    bare = Topic('/u', 'our_msgs/msg/U', definition='int32 b\n')
    with BagWriter(tmp_path / 'run') as writer:
        for topic in (brought, bare):
            writer.add(topic)
            writer.write(Message(topic.name, START, START, b'\0\1\0\0\7\0\0\0'))
    with Reader(tmp_path / 'run') as reader:
        assert {one.topic: (one.digest, one.msgdef.data) for one in reader.connections} == {
            '/t': (brought.hash, 'int32 a\n'),
            '/u': ('', 'int32 b\n'),
        }


@pytest.mark.parametrize(
    'name, digest',
    [  # as rclpy of Jazzy says them for a publisher
        ('std_msgs/msg/String', STRING_HASH),
        (
            'std_msgs/msg/Char',
            'RIHS01_3ad2d04dd29ba19d04b16659afa3ccaedd691914b02a64e82e252f2fa6a586a9',
        ),
        (
            'service_msgs/msg/ServiceEventInfo',
            'RIHS01_41bcbbe07a75c9b52bc96bfd5c24d7f0fc0a08c0cb7921b3373c5732345a6f45',
        ),
    ],
)
def test_hashes_are_those_of_ros(name, digest):
    assert complete(Topic('/t', name)).hash == digest


def test_types_of_a_sourced_install_are_known(tmp_path, monkeypatch):
    folder = tmp_path / 'share' / 'some_msgs' / 'msg'
    folder.mkdir(parents=True)
    (folder / 'Outer.msg').write_text('# what it is for\nInner[] parts\nstd_msgs/Header header\n')
    (folder / 'Inner.msg').write_text('int32 ONE=1\nfloat64[3] place  # m\n')
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'/nowhere:{tmp_path}')
    topic = complete(Topic('/o', 'some_msgs/msg/Outer'))
    assert topic.definition.startswith('some_msgs/Inner[] parts\nstd_msgs/Header header\n')
    assert f'{"=" * 80}\nMSG: some_msgs/Inner\nint32 ONE=1\nfloat64[3] place\n' in topic.definition
    assert topic.hash.startswith('RIHS01_')
    assert known('some_msgs/msg/Inner')


def test_qos_of_any_form_reads(tmp_path):
    assert load_qos('') == load_qos(None) == load_qos('[]') == ()
    (one,) = load_qos([{'depth': 3, 'reliability': 2, 'lifespan': {'sec': 1, 'nsec': 2}}])
    assert (one['depth'], one['reliability'], one['durability']) == (3, 'best_effort', 'volatile')
    assert one['lifespan'] == {'sec': 1, 'nsec': 2}
    assert BagMetadata().duration == 0
    assert RELIABLE['depth'] == 10


def test_what_becomes_known_of_the_run_later_is_added(tmp_path):
    writer = BagWriter(tmp_path / 'run', metadata={'policy': 'walk'})
    writer.add(WORDS)
    writer.write(word(0))
    writer.describe({'adapter': 'tile'})
    writer.sync()
    assert scan(tmp_path / 'run' / 'run_0.mcap').index.metadatas['lebot_rl_ros'] == {
        'policy': 'walk',
        'adapter': 'tile',
    }
    writer.split()
    writer.describe({'policy': 'trot'})
    writer.close()
    known = {'policy': 'trot', 'adapter': 'tile'}
    assert information(tmp_path / 'run')['custom_data'] == known
    records = [scan(path).index.metadatas['lebot_rl_ros'] for path in sorted_files(tmp_path)]
    assert records == [{'policy': 'walk', 'adapter': 'tile'}, known]
    with (tmp_path / 'run' / 'run_1.mcap').open('rb') as file:
        names = [record.name for record in make_reader(file).iter_metadata()]
    assert names == ['rosbag2', 'lebot_rl_ros', 'lebot_rl_ros', 'rosbag2']


def sorted_files(folder):
    return sorted((folder / 'run').glob('*.mcap'))
