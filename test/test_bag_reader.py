"""Bags read: by an independent writer and by ours, whole, cut, cut off, damaged."""

import hashlib
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import Reader

from bag_rows import (
    CLOUD,
    PERIOD,
    REWARD,
    STEP,
    STORE,
    arrivals,
    cloud,
    cut_off,
    header,
    message_indexes,
    stream,
    text,
    write_bag,
)
from lebot_rl_ros.data.bag import files
from lebot_rl_ros.data.bag.cdr import parse
from lebot_rl_ros.data.bag.files import find_bags, fingerprint, sha256_of
from lebot_rl_ros.data.bag.reader import Bag, find_topic
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter

CLOCK = 1_700_000_000_000_000_000  # ns
FEW = settings(max_examples=40, deadline=None)


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / 'run', arrivals(*stream(100)))


def write_ours(folder, messages, kinds=None, **settings):
    kinds = kinds or {}
    with BagWriter(folder, **settings) as writer:
        for name in dict.fromkeys(topic for topic, *_ in messages):
            writer.add(Topic(name, kinds.get(name, CLOUD)))
        for topic, time, data in messages:
            writer.write(Message(topic, time, time, data))
    return folder


def write_mcap(path, messages, **settings):
    """One file by the format's own library, with settings that no recorder of ours has."""
    with path.open('wb') as file:
        writer = Writer(file, **settings)
        writer.start('ros2', 'test')
        definition = STORE.generate_msgdef(CLOUD, ros_version=2)[0].encode()
        schema = writer.register_schema(CLOUD, 'ros2msg', definition)
        channels = {
            topic: writer.register_channel(topic, 'cdr', schema)
            for topic in dict.fromkeys(topic for topic, *_ in messages)
        }
        for topic, time, data in messages:
            writer.add_message(channels[topic], time, data, time - 5)
        writer.finish()
    return path


def by_rosbags(path):
    with Reader(path) as reader:
        return [(c.topic, time, bytes(data)) for c, time, data in reader.messages()]


def plain(messages):
    return [(m.topic, m.log_time, m.data) for m in messages]


def test_a_bag_of_another_writer_is_read_message_by_message(tmp_path):
    steps, rewards = stream(300)
    sent = arrivals(steps, rewards)
    bag = Bag(write_bag(tmp_path / 'run', sent, metadata={'robot': 'lebot'}))
    assert plain(bag.messages()) == sent == by_rosbags(bag.path)
    assert list(bag.topics) == ['/policy/steps', '/reward/rewards']
    topic = bag.topics['/policy/steps']
    assert (topic.type, topic.count) == (CLOUD, 300)
    assert topic.definition.startswith(STORE.generate_msgdef(CLOUD, ros_version=2)[0][:200])
    assert topic.qos[0]['reliability'] == 'reliable'
    assert (bag.start, bag.end) == (sent[0][1], sent[-1][1])
    assert bag.metadata == {'robot': 'lebot'}
    assert bag.rows('/policy/steps').tobytes() == steps.tobytes()
    assert bag.rows('/reward/rewards').tobytes() == rewards.tobytes()
    assert bag.rows('/policy/steps').dtype == STEP


def test_a_bag_of_several_files_is_one(tmp_path):
    sent = arrivals(*stream(200))
    run = {'policy': 'walk', 'started': '2026-01-02T03:04:05Z'}
    folder = write_ours(tmp_path / 'run', sent, split_seconds=1.0, chunk_bytes=4096, metadata=run)
    bag = Bag(folder)
    assert [file.name for file in bag.files] == [f'run_{i}.mcap' for i in range(len(bag.files))]
    assert len(bag.files) >= 4
    assert plain(bag.messages()) == sent
    assert bag.topics['/policy/steps'].count == 200
    assert bag.topics['/policy/steps'].hash == STORE.hash_rihs01(CLOUD)
    assert dict(bag.metadata) == run
    (folder / 'metadata.yaml').unlink()
    alone = Bag(folder)
    assert plain(alone.messages()) == sent
    assert alone.metadata == run
    one = Bag(bag.files[1])
    inside = [m for m in sent if one.start <= m[1] <= one.end]
    assert plain(one.messages()) == inside
    assert 0 < len(inside) < len(sent)


def test_files_beyond_the_tenth_come_in_the_order_of_their_numbers(tmp_path):
    sent = [('/policy/steps', CLOCK + i, cloud(stream(1)[0], i)) for i in range(12)]
    for i, message in enumerate(sent):
        (tmp_path / 'run').mkdir(exist_ok=True)
        write_mcap(tmp_path / 'run' / f'run_{i}.mcap', [message])
    bag = Bag(tmp_path / 'run')
    assert [file.stem for file in bag.files] == [f'run_{i}' for i in range(12)]
    assert plain(bag.messages()) == sent


@pytest.mark.parametrize('settings', [
    {'compression': CompressionType.NONE},
    {'compression': CompressionType.LZ4},
    {'use_chunking': False},
    {'use_chunking': False, 'use_statistics': False, 'use_summary_offsets': False},
    {'chunk_size': 2000, 'use_statistics': False},
    {'chunk_size': 2000, 'index_types': 0},
    {'chunk_size': 2000, 'repeat_channels': False, 'repeat_schemas': False},
    {'chunk_size': 2000, 'enable_crcs': False},
], ids=str)  # fmt: skip
def test_what_the_format_leaves_open_is_read_as_well(tmp_path, settings):
    if settings.get('index_types') == 0:
        from mcap.writer import IndexType

        settings = {**settings, 'index_types': IndexType.NONE}
    steps, rewards = stream(60)
    sent = arrivals(steps, rewards)
    bag = Bag(write_mcap(tmp_path / 'a.mcap', sent, **settings))
    assert plain(bag.messages()) == sent
    assert {m.log_time - m.publish_time for m in bag.messages()} == {5}
    assert [bag.topics[name].count for name in sorted(bag.topics)] == [60, 60]
    assert (bag.start, bag.end) == (sent[0][1], sent[-1][1])
    assert bag.rows('/policy/steps').tobytes() == steps.tobytes()
    assert bag.rows('/reward/rewards').tobytes() == rewards.tobytes()


@FEW
@given(st.data())
def test_messages_come_in_the_order_of_time_however_they_lie(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('order')
    times = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=40))
    rows = stream(len(times))[0]
    topics = ['/a', '/b', '/c']
    sent = [
        (data.draw(st.sampled_from(topics)), CLOCK + time, cloud(row))
        for time, row in zip(times, rows, strict=True)
    ]
    bag = Bag(write_mcap(folder / 'a.mcap', sent, chunk_size=data.draw(st.integers(1, 5000))))
    wanted = sorted(sent, key=lambda entry: entry[1])  # of one time, as they were written
    assert plain(bag.messages()) == wanted
    low, high = sorted(data.draw(st.tuples(st.integers(0, 52), st.integers(0, 52))))
    some = set(data.draw(st.lists(st.sampled_from(list(bag.topics)))))
    inside = [m for m in wanted if CLOCK + low <= m[1] < CLOCK + high and m[0] in some]
    assert plain(bag.messages(some, CLOCK + low, CLOCK + high)) == inside
    for topic in bag.topics:
        order = sorted(range(len(sent)), key=lambda i: sent[i][1])
        expected = b''.join(rows[i].tobytes() for i in order if sent[i][0] == topic)
        assert bag.rows(topic).tobytes() == expected


def test_only_chunks_that_may_hold_what_is_wanted_are_read(tmp_path, monkeypatch):
    from lebot_rl_ros.data.bag.mcap_file import McapFile

    early, late = stream(50), stream(50, start=10_000)
    bag = Bag(write_ours(tmp_path / 'run', arrivals(*early) + arrivals(*late), chunk_bytes=5000))
    read, count = McapFile.read, []
    monkeypatch.setattr(McapFile, 'read', lambda self, c: count.append(c) or read(self, c))
    everything = len(list(bag.messages())) and len(count)
    count.clear()
    border = CLOCK + 5_000 * PERIOD
    assert len(list(bag.messages(['/policy/steps'], border))) == 50
    assert 0 < len(count) <= everything // 2 + 1
    assert all(chunk.end >= border for chunk in count)


def test_messages_are_decoded_by_the_definitions_in_the_bag(tmp_path):
    words = [('/a', CLOCK, text('hello')), ('/b', CLOCK + 1, cloud(stream(1)[0], 7, 'base'))]
    bag = Bag(write_bag(tmp_path / 'run', words, {'/a': 'std_msgs/msg/String'}))
    first, second = bag.messages()
    assert bag.decode(first).data == 'hello'
    decoded = bag.decode(second)
    assert (decoded.header.frame_id, decoded.header.stamp.nanosec) == ('base', 7)
    assert [field.name for field in decoded.fields] == list(STEP.names)
    assert bytes(decoded.data) == stream(1)[0].tobytes()
    with pytest.raises(BagError, match=r'a message of /a at 1 ns: it cannot be read as std_msgs'):
        bag.decode(Message('/a', 1, 1, b'\0\1\0\0\xff\xff'))


def test_a_type_that_nobody_knows_is_decoded_too(tmp_path):
    definition = 'int32 x\nmine/Part part\n' + '=' * 80 + '\nMSG: mine/Part\nfloat64[] y\n'
    with (tmp_path / 'a.mcap').open('wb') as file:
        writer = Writer(file)
        writer.start('ros2', 'test')
        schema = writer.register_schema('mine/msg/Whole', 'ros2msg', definition.encode())
        channel = writer.register_channel('/mine', 'cdr', schema)
        data = struct.pack('<BBHiIdd', 0, 1, 0, -3, 2, 1.5, 2.5)
        writer.add_message(channel, CLOCK, data, CLOCK)
        writer.finish()
    bag = Bag(tmp_path / 'a.mcap')
    decoded = bag.decode(next(bag.messages()))
    assert decoded.x == -3
    assert decoded.part.y.tolist() == [1.5, 2.5]


IDL = """
module mine { module msg {
  struct Part { double y; };
  struct Whole { long x; mine::msg::Part part; };
}; };
"""


@pytest.mark.parametrize('kind, form, definition, data, field, value', [
    ('std_msgs/msg/String', 'ros2msg', '', text('hi'), 'data', 'hi'),  # without one: Jazzy's
    ('mine/msg/Whole', 'ros2idl', IDL, struct.pack('<BBHii d', 0, 1, 0, 7, 0, 1.5), 'x', 7),
    ('mine/msg/Whole', 'ros2msg', 'int32[', b'', '', 'the definition of mine/msg/Whole cannot'),
    ('mine/msg/Whole', 'ros2msg', '', b'', '', 'there is no definition of mine/msg/Whole'),
])  # fmt: skip
def test_definitions_of_other_forms_or_none(tmp_path, kind, form, definition, data, field, value):
    with (tmp_path / 'a.mcap').open('wb') as file:
        writer = Writer(file)
        writer.start('ros2', 'test')
        schema = writer.register_schema(kind, form, definition.encode())
        writer.add_message(writer.register_channel('/a', 'cdr', schema), CLOCK, data, CLOCK)
        writer.finish()
    bag = Bag(tmp_path / 'a.mcap')
    message = next(bag.messages())
    if field:
        assert getattr(bag.decode(message), field) == value
    else:
        with pytest.raises(BagError, match=rf'a.mcap: a message of /a at \d+ ns: {value}'):
            bag.decode(message)


def test_rows_are_those_of_the_messages_that_the_nodes_send(tmp_path):
    pytest.importorskip('rclpy')
    from lebot_rl_ros.ros.records import RecordMessage

    steps, _ = stream(20)
    message, sent = RecordMessage(STEP), []
    for i, row in enumerate(steps):
        message.stamp(i)
        message.rows[0] = row
        sent.append(('/policy/steps', CLOCK + i, message.serialized()))
    bag = Bag(write_ours(tmp_path / 'run', sent))
    assert bag.rows('/policy/steps').tobytes() == steps.tobytes()


@FEW
@given(st.data())
def test_rows_of_any_layout_are_read(tmp_path_factory, data):
    """Frames of any length move the rows, messages have any number of them, publishers mix."""
    folder = tmp_path_factory.mktemp('layout')
    elements = st.sampled_from(['i1', 'u1', '<i2', '<u2', '<i4', '<u4', '<f4', '<f8'])
    fields = data.draw(st.lists(st.tuples(elements, st.integers(1, 4)), min_size=1, max_size=5))
    dtype = np.dtype([
        (f'f{"x" * i}', kind, (n,)) if n > 1 else (f'f{"x" * i}', kind)
        for i, (kind, n) in enumerate(fields)
    ])  # fmt: skip
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    sent, wanted = [], []
    frames = data.draw(st.lists(st.sampled_from(['', 'a', 'base_link', 'fünf']), min_size=1))
    for i, frame in enumerate(frames):
        count = data.draw(st.integers(0, 3))
        octets = rng.integers(0, 256, dtype.itemsize * count, dtype=np.uint8)
        wanted.append(octets.tobytes())
        sent.append(('/r', CLOCK + i, cloud(octets.view(dtype), i, frame)))
    bag = Bag(write_mcap(folder / 'a.mcap', sent, chunk_size=data.draw(st.integers(1, 3000))))
    rows = bag.rows('/r')
    assert rows.tobytes() == b''.join(wanted)
    assert rows.dtype == dtype or not len(rows)


def test_a_layout_is_read_as_the_message_says():
    layout = parse(cloud(stream(2)[1], 5, 'odom'))
    assert (layout.dtype, layout.width) == (REWARD, 2)
    assert layout.start + 2 * REWARD.itemsize + 1 == layout.size  # is_dense comes last


@pytest.mark.parametrize('spoil, reason', [
    (lambda d: b'\0\0' + d[2:], 'encoding 0000 is not known'),
    (lambda d: d[:40], 'a message of 40 octets is no PointCloud2'),
    (lambda d: d[:-12], 'a record of 1 rows of'),
    (lambda d: d.replace(struct.pack('<I', REWARD.itemsize), b'\3\0\0\0', 1), 'rows of 3 octets'),
], ids=['encoding', 'octets', 'end', 'width'])  # fmt: skip
def test_a_message_that_is_none_is_refused(tmp_path, spoil, reason):
    good = cloud(stream(1)[1])
    with pytest.raises(ValueError, match=reason):
        parse(spoil(good))
    sent = [('/r', CLOCK, good), ('/r', CLOCK + 1, spoil(good))]
    bag = Bag(write_mcap(tmp_path / 'a.mcap', sent))
    with pytest.raises(BagError, match=f'a.mcap: /r: .*{reason}'):
        bag.rows('/r')


def test_rows_of_two_kinds_in_one_topic_are_refused(tmp_path):
    sent = [('/r', CLOCK, cloud(stream(1)[1])), ('/r', CLOCK + 1, cloud(stream(1)[0]))]
    bag = Bag(write_mcap(tmp_path / 'a.mcap', sent))
    with pytest.raises(BagError, match='/r: its messages have different fields: field reward is'):
        bag.rows('/r')
    words = write_bag(tmp_path / 'b', [('/a', CLOCK, text('x'))], {'/a': 'std_msgs/msg/String'})
    with pytest.raises(BagError, match=r'/a is of type std_msgs/msg/String, .* no records'):
        Bag(words).rows('/a')


def test_topics_are_found_below_a_namespace(bag, tmp_path):
    assert find_topic(Bag(bag), 'policy/steps') == '/policy/steps'
    message = cloud(stream(1)[0])
    both = ('/one/policy/steps', '/two/policy/steps', '/a_policy/steps')
    two = Bag(write_bag(tmp_path / 'two', [(t, CLOCK, message) for t in both]))
    with pytest.raises(BagError, match='/one/policy/steps and /two/policy/steps; give the names'):
        find_topic(two, 'policy/steps')
    assert find_topic(two, 'policy/steps', 'two') == '/two/policy/steps'
    assert find_topic(two, 'policy/steps', '/one/') == '/one/policy/steps'
    with pytest.raises(BagError, match='has no topic /policy/steps; it has /a_policy/steps, /one'):
        find_topic(two, 'policy/steps', '/')
    with pytest.raises(BagError, match='has no topic reward/rewards; it has /a_policy/steps'):
        find_topic(two, 'reward/rewards')
    for read in (two.rows, lambda name: two.messages([name])):
        with pytest.raises(BagError, match='has no topic /nothing; it has /a_policy/steps, /one'):
            read('/nothing')


@pytest.mark.parametrize('octets', [1, 8, 36, 37, 200, 5_000, 10**9])
def test_a_file_without_its_end_says_how_to_mend_it(bag, octets):
    cut_off(bag / 'run.mcap', octets)
    with pytest.raises(BagError, match=rf'run.mcap has no end.*`lebot bag recover {bag}` mends'):
        Bag(bag)


def test_an_empty_file_and_one_that_was_killed_have_no_end(tmp_path):
    writer = BagWriter(tmp_path / 'run')
    writer.add(Topic('/r', CLOUD))
    for i, row in enumerate(stream(200)[0]):
        writer.write(Message('/r', CLOCK + i, CLOCK + i, cloud(row)))
    writer.sync()
    with pytest.raises(BagError, match='`lebot bag recover '):  # as it lies there before close
        Bag(tmp_path / 'run')
    writer.close()
    assert len(Bag(tmp_path / 'run').rows('/r')) == 200
    (tmp_path / 'empty.mcap').touch()
    with pytest.raises(BagError, match=r'empty.mcap has no end'):
        Bag(tmp_path / 'empty.mcap')


def test_what_is_no_bag_is_refused(bag, tmp_path):
    with pytest.raises(BagError, match='nothing: there is no such bag'):
        Bag(tmp_path / 'nothing')
    (tmp_path / 'folder').mkdir()
    with pytest.raises(BagError, match=r'folder is not a bag: it has neither metadata.yaml nor'):
        Bag(tmp_path / 'folder')
    (tmp_path / 'a.mcap').write_bytes(b'certainly not' * 9)
    with pytest.raises(BagError, match=r'a.mcap is not an MCAP file'):
        Bag(tmp_path / 'a.mcap')
    (tmp_path / 'a.txt').touch()
    with pytest.raises(BagError, match=r'a.txt is not a bag; expected a folder'):
        Bag(tmp_path / 'a.txt')
    (tmp_path / 'old.db3').touch()
    with pytest.raises(BagError, match=r'storage sqlite3, .*`ros2 bag convert -i'):
        Bag(tmp_path / 'old.db3')
    metadata = bag / 'metadata.yaml'
    good = metadata.read_text()
    for old, new, reason in (
        ('storage_identifier: mcap', 'storage_identifier: sqlite3', 'has storage sqlite3'),
        ("compression_mode: ''", 'compression_mode: message', 'is compressed by message'),
        ('- run.mcap', '- gone.mcap', 'files that are missing: gone.mcap'),
        ('rosbag2_bagfile_information', 'something_else', 'is no metadata of rosbag2'),
        ('rosbag2_bagfile_information:', 'x: [', 'cannot be read'),
    ):
        assert old in good
        metadata.write_text(good.replace(old, new))
        with pytest.raises(BagError, match=reason):
            Bag(bag)


def test_damage_inside_a_file_is_found(tmp_path):
    sent = arrivals(*stream(100))
    good = write_mcap(
        tmp_path / 'a.mcap', sent, chunk_size=20_000, compression=CompressionType.NONE
    )
    content = good.read_bytes()
    at = content.index(sent[100][2]) + len(sent[100][2]) - 20  # a number of a row
    good.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    bag = Bag(good)  # the index is whole
    for read in (lambda: bag.rows('/policy/steps'), lambda: list(bag.messages())):
        with pytest.raises(
            BagError, match=r'a.mcap is damaged at octet \d+: .*its checksum; `lebot'
        ):
            read()


def test_an_index_that_was_altered_is_found(tmp_path):
    good = write_mcap(tmp_path / 'a.mcap', arrivals(*stream(30)))
    content = bytearray(good.read_bytes())
    first, second = message_indexes(content)[:2]  # of the first chunk, one for each topic
    entry = first + 9 + 6 + 8  # behind code and length, channel and length, and the log time
    content[entry : entry + 8] = content[second + 23 : second + 31]  # a message, not of this topic
    good.write_bytes(content)
    with pytest.raises(BagError, match='/policy/steps: its index does not point at its messages'):
        Bag(good).rows('/policy/steps')
    content = bytearray(write_mcap(good, arrivals(*stream(30))).read_bytes())
    at = content.rindex(b'/policy/steps')
    content[at + 1] = ord('P')
    good.write_bytes(content)
    with pytest.raises(BagError, match='its index does not match its checksum; `lebot bag recov'):
        Bag(good)


@FEW
@given(st.data())
def test_a_damaged_file_is_an_error_of_its_own_or_none(tmp_path_factory, data):
    """Whatever octets change: no other error, no endless reading, and no rows that are wrong."""
    folder = tmp_path_factory.mktemp('damage')
    steps, rewards = stream(30)
    sent = arrivals(steps, rewards)
    path = write_mcap(folder / 'a.mcap', sent, chunk_size=5000)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        bag = Bag(path)
        rows = bag.rows('/policy/steps')
        found = [message.data for message in bag.messages()]
    except BagError as error:
        said = str(error)
        assert str(path) in said
        return
    assert {row.tobytes() for row in rows} <= {row.tobytes() for row in steps}
    assert set(found) <= {message[2] for message in sent}


def test_the_hash_is_that_of_the_files_in_order(tmp_path, monkeypatch):

    folder = write_ours(tmp_path / 'run', arrivals(*stream(100)), split_seconds=0.5)
    bag = Bag(folder)
    assert len(bag.files) > 2
    whole = b''.join((folder / f'run_{i}.mcap').read_bytes() for i in range(len(bag.files)))
    assert bag.sha256 == hashlib.sha256(whole).hexdigest() == sha256_of(bag.files)
    monkeypatch.setattr(files, 'ENDS', 100)
    before = fingerprint(bag.files)
    content = bytearray(bag.files[0].read_bytes())
    content[-50] ^= 1
    status = bag.files[0].stat()
    bag.files[0].write_bytes(content)
    os.utime(bag.files[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(bag.files) != before  # of the same size and time


def test_bags_are_found_below_a_folder(tmp_path):
    messages = arrivals(*stream(3))
    first = write_bag(tmp_path / 'b' / 'x', messages)
    second = write_ours(tmp_path / 'a', messages)
    (tmp_path / 'c').mkdir()
    assert find_bags(tmp_path) == [second, first]
    assert find_bags(first) == [first]
    assert find_bags(first / 'x.mcap') == [first / 'x.mcap']
    with pytest.raises(BagError, match='c: there is no bag'):
        find_bags(tmp_path / 'c')


def test_a_header_and_its_checksum_are_as_the_format_says(bag):
    """By hand, against the specification: what the reader leans on is really there."""
    content = (bag / 'run.mcap').read_bytes()
    assert content[:8] == content[-8:] == b'\x89MCAP0\r\n'
    (summary,) = struct.unpack_from('<Q', content, len(content) - 28)
    assert content[summary] in (3, 11)  # a schema, or statistics
    (crc,) = struct.unpack_from('<I', content, len(content) - 12)
    assert crc in (0, zlib.crc32(content[summary:-12]))
    assert header(5).stamp.nanosec == 5
