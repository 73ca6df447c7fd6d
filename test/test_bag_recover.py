"""Bags that nobody closed: what lies before the tear is kept, whatever the tear hit."""

import os
import shutil
import struct
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from bag_samples import MODE, START, WORDS, noise, read_bag, read_file, seen, word
from lebot_rl_ros.data.bag import mending, recover_files
from lebot_rl_ros.data.bag.finishing import finish
from lebot_rl_ros.data.bag.mcap_index import MAGIC, read_index
from lebot_rl_ros.data.bag.recover import recover
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.data.bag.writer import BagWriter


def write(folder, messages, **options):
    with BagWriter(folder, **{'chunk_bytes': 2000, 'metadata': {'policy': 'w'}, **options}) as bag:
        bag.add(WORDS)
        bag.add(MODE)
        for message in messages:
            bag.write(message)


@cache
def records(path):
    """(opcode, begin, end) of each record of a file."""
    data, at, found = path.read_bytes(), len(MAGIC), []
    while at < len(data) - len(MAGIC):
        opcode, length = struct.unpack_from('<BQ', data, at)
        found.append((opcode, at, at + 9 + length))
        at += 9 + length
    return found


@cache
def messages_of_chunks(path):
    """For each chunk where it ends and what is in it, from the whole file's own index."""
    found = []
    with path.open('rb') as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        everything = [
            (channel.topic, message.log_time, message.publish_time, message.data)
            for _, channel, message in reader.iter_messages(log_time_order=False)
        ]
    at = 0
    for index in summary.chunk_indexes:
        count = sum(
            (end - begin - 15) // 16
            for opcode, begin, end in records(path)
            if opcode == Opcode.MESSAGE_INDEX and begin in index.message_index_offsets.values()
        )
        end = index.chunk_start_offset + index.chunk_length
        found.append((end, everything[at : at + count]))
        at += count
    assert at == len(everything)
    return found


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A real bag of many chunks and both topics."""
    folder = tmp_path_factory.mktemp('whole') / 'run'
    topics = ('/words', '/words', '/words', '/mode')
    write(folder, [word(number, topic=topics[number % 4]) for number in range(400)])
    return folder / 'run_0.mcap'


def torn(whole, length, folder):
    folder = folder / 'run'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / 'run_0.mcap').write_bytes(whole.read_bytes()[:length])
    (folder / '.reserve').write_bytes(bytes(100))
    return folder


@settings(max_examples=100)
@given(data=st.data(), keep=st.booleans())
def test_every_whole_chunk_before_the_tear_is_kept(tmp_path_factory, whole, data, keep):
    size = whole.stat().st_size
    edges = [
        edge + by for _, begin, end in records(whole) for edge in (begin, end) for by in (0, 1)
    ]
    begin = records(whole)[1][1]  # after the header
    length = data.draw(
        st.integers(begin, size - 1) | st.sampled_from([e for e in edges if begin <= e < size])
    )
    folder = torn(whole, length, tmp_path_factory.getbasetemp() / 'torn')
    expected = [
        message for end, messages in messages_of_chunks(whole) if end <= length
        for message in messages
    ]  # fmt: skip
    recovered = recover(folder, keep=keep)
    assert read_bag(folder) == expected
    assert sum(recovered.counts.values()) == len(expected)
    assert not recovered.healthy
    names = {'metadata.yaml', 'run_0.mcap'} | ({'run_0.mcap.damaged'} if keep else set())
    assert {path.name for path in folder.iterdir()} == names
    if keep:
        assert (folder / 'run_0.mcap.damaged').read_bytes() == whole.read_bytes()[:length]
    again = recover(folder)
    assert again.healthy
    assert again.counts == recovered.counts


@pytest.mark.parametrize('compression', ['', 'lz4'])
def test_of_a_torn_chunk_the_first_messages_are_kept(tmp_path, compression):
    if compression == 'lz4':
        pytest.importorskip('lz4')
    messages = [noise(number, 30_000) for number in range(20)]
    write(tmp_path / 'run', messages, chunk_bytes=1 << 20, compression=compression)
    path = tmp_path / 'run' / 'run_0.mcap'
    ((_, begin, _),) = [one for one in records(path) if one[0] == Opcode.CHUNK]
    os.truncate(path, begin + 400_000)
    (tmp_path / 'run' / 'metadata.yaml').unlink()
    recovered = recover(tmp_path / 'run')
    kept = read_bag(tmp_path / 'run')
    assert kept == [seen(message) for message in messages[: len(kept)]]
    # lz4's blocks are of 64 KiB and more; without compression the last whole message counts.
    assert len(kept) == 13 if not compression else 7 <= len(kept) <= 13
    assert recovered.counts == {'/words': len(kept), '/mode': 0}
    assert recovered.lost_octets == 400_000


def test_zeros_at_the_end_are_no_records(tmp_path, whole):
    """After a power cut a file may be as long as it was to be, and empty from some point on."""
    chunks = messages_of_chunks(whole)
    end, _ = chunks[3]
    data = whole.read_bytes()
    for at in (end, end + 5, chunks[4][0] - 3):
        folder = torn(whole, 0, tmp_path)
        (folder / 'run_0.mcap').write_bytes(data[:at] + bytes(len(data) - at))
        recover(folder)
        expected = [message for _, messages in chunks[:4] for message in messages]
        assert read_bag(folder) == expected


@pytest.mark.parametrize('keep', [True, False])
def test_a_rotten_chunk_in_the_middle_costs_that_chunk(tmp_path, whole, keep):
    chunks = messages_of_chunks(whole)
    data = bytearray(whole.read_bytes())
    data[chunks[2][0] - 20] ^= 0xFF
    cut = chunks[8][0]
    folder = torn(whole, 0, tmp_path)
    (folder / 'run_0.mcap').write_bytes(data[:cut])
    recovered = recover(folder, keep=keep)
    expected = [
        one for number, (_, found) in enumerate(chunks[:9]) if number != 2 for one in found
    ]
    assert read_bag(folder) == expected
    begin = next(begin for _, begin, end in records(whole) if end == chunks[2][0])
    assert recovered.lost_octets == chunks[2][0] - begin
    assert str(recovered.lost_octets) in recovered.message


def test_messages_of_a_channel_that_rotted_away_do_not_spoil_the_rest(tmp_path):
    first = [word(number) for number in range(100)]
    second = [
        word(number, topic='/mode' if number % 2 else '/words') for number in range(100, 200)
    ]
    with BagWriter(tmp_path / 'run', chunk_bytes=1000) as bag:
        bag.add(WORDS)
        for message in first:
            bag.write(message)
        bag.sync()
        bag.add(MODE)
        for message in second:
            bag.write(message)
    path = tmp_path / 'run' / 'run_0.mcap'
    chunks = messages_of_chunks(path)
    hit = next(i for i, (_, found) in enumerate(chunks) if any(one[0] == '/mode' for one in found))
    data = bytearray(path.read_bytes())
    data[chunks[hit][0] - 20] ^= 0xFF
    path.write_bytes(data[: chunks[-1][0]])
    recover(tmp_path / 'run')
    expected = [
        message
        for number, (_, found) in enumerate(chunks)
        for message in found
        if number < hit or (number > hit and message[0] == '/words')
    ]
    assert sorted(read_bag(tmp_path / 'run')) == sorted(expected)


def test_a_healthy_bag_is_left_alone(tmp_path):
    write(tmp_path / 'run', [word(number) for number in range(100)], split_seconds=0.3)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(tmp_path)}
    recovered = recover(tmp_path / 'run')
    assert recovered.healthy
    assert recovered.lost_octets == 0
    assert 'is whole: 100 messages' in recovered.message
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files(tmp_path)} == before
    one = recover(tmp_path / 'run' / 'run_1.mcap')
    assert one.healthy
    assert one.counts == {'/words': 30, '/mode': 0}


def files(folder):
    return [path for path in Path(folder).rglob('*') if path.is_file()]


def test_a_lost_metadata_yaml_is_made_anew(tmp_path):
    write(tmp_path / 'run', [word(number) for number in range(1200)], split_seconds=1.0)
    path = tmp_path / 'run' / 'metadata.yaml'
    old = yaml.safe_load(path.read_text())
    assert len(old['rosbag2_bagfile_information']['files']) == 12  # _10 comes after _9
    data = {file: file.read_bytes() for file in files(tmp_path) if file != path}
    for damage in (
        path.unlink,
        lambda: path.write_text('version: 9\n'),
        lambda: path.write_text(''),
    ):
        damage()
        recovered = recover(tmp_path / 'run')
        assert not recovered.healthy
        assert recovered.lost_octets == 0
        assert 'every file was whole' in recovered.message
        assert yaml.safe_load(path.read_text()) == old
        assert {file: file.read_bytes() for file in data} == data
        assert recover(tmp_path / 'run').healthy


def test_only_the_torn_file_is_written_anew(tmp_path):
    messages = [word(number) for number in range(100)]
    write(tmp_path / 'run', messages, split_seconds=0.3)
    (tmp_path / 'run' / 'metadata.yaml').unlink()
    last = tmp_path / 'run' / 'run_3.mcap'
    os.truncate(last, last.stat().st_size - 10)
    times = [(tmp_path / 'run' / f'run_{n}.mcap').stat().st_ino for n in range(3)]
    recovered = recover(tmp_path / 'run')
    assert recovered.lost_octets == 0  # the tear was in the footer
    assert read_bag(tmp_path / 'run') == [seen(message) for message in messages]
    assert [(tmp_path / 'run' / f'run_{n}.mcap').stat().st_ino for n in range(3)] == times


def test_another_place_leaves_the_old_bag_as_it_is(tmp_path, whole):
    folder = torn(whole, messages_of_chunks(whole)[5][0] + 7, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    recovered = recover(folder, tmp_path / 'mended')
    assert recovered.path == tmp_path / 'mended'
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert len(read_bag(tmp_path / 'mended')) == sum(recovered.counts.values()) > 0
    with pytest.raises(BagError, match='mended exists'):
        recover(folder, tmp_path / 'mended')
    file = recover(folder / 'run_0.mcap', tmp_path / 'one.mcap')
    assert read_file(tmp_path / 'one.mcap') == read_bag(tmp_path / 'mended')
    assert file.counts == recovered.counts


def test_a_single_file_is_mended(tmp_path, whole):
    folder = torn(whole, messages_of_chunks(whole)[5][0], tmp_path)
    recover(folder / 'run_0.mcap')
    assert len(read_file(folder / 'run_0.mcap')) > 0
    assert (folder / 'run_0.mcap.damaged').exists()
    assert not (folder / 'metadata.yaml').exists()


class Killed(BaseException):
    """Nothing in the code may handle this."""


@pytest.mark.parametrize('links', [True, False])
def test_a_second_kill_loses_nothing(tmp_path, whole, monkeypatch, links):
    """Die before each step on the disk in turn; the next recover must find all messages."""
    length = messages_of_chunks(whole)[5][0] + 30
    expected = [one for _, found in messages_of_chunks(whole)[:6] for one in found]
    steps = ('replace', 'rename', 'link', 'fsync', 'unlink')
    died = 0
    for at in range(40):
        folder = torn(whole, length, tmp_path)
        left = [at]

        def step(name, left=left):
            real = getattr(os, name)

            def call(*arguments, **options):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                if name == 'link' and not links:
                    raise PermissionError(1, 'no hard links here')
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in steps:
                patch.setattr(os, name, step(name))
            try:
                recover(folder)
            except Killed:
                died += 1
            else:
                break
        recover(folder)
        assert read_bag(folder) == expected, f'killed before step {at}'
        assert (folder / 'run_0.mcap.damaged').read_bytes() == whole.read_bytes()[:length]
        assert {path.name for path in folder.iterdir()} == {
            'metadata.yaml', 'run_0.mcap', 'run_0.mcap.damaged',
        }  # fmt: skip
    assert 5 <= died < 40


def test_a_bag_that_is_being_written_is_not_touched(tmp_path):
    with BagWriter(tmp_path / 'run') as writer:
        writer.add(WORDS)
        writer.write(word(0))
        writer.sync()
        with pytest.raises(BagError, match='is being written'):
            recover(tmp_path / 'run')
        writer.write(word(1))
    assert len(read_bag(tmp_path / 'run')) == 2


def test_without_room_for_a_copy_it_says_so(tmp_path, whole, monkeypatch):
    folder = torn(whole, messages_of_chunks(whole)[5][0], tmp_path)
    usage = type('Usage', (), {'free': 1000})
    monkeypatch.setattr(recover_files.shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(BagError, match='another disk, or mend it in place'):
        recover(folder)
    recover(folder, keep=False)
    assert len(read_bag(folder)) > 0


def test_what_is_no_bag_is_said(tmp_path):
    with pytest.raises(BagError, match='no such bag'):
        recover(tmp_path / 'nothing')
    with pytest.raises(BagError, match='no such bag'):
        recover(tmp_path / 'nothing.mcap')
    with pytest.raises(BagError, match=r'holds no \.mcap'):
        recover(tmp_path)
    (tmp_path / 'letter.mcap').write_text('Dear reader')
    with pytest.raises(BagError, match='is no MCAP file'):
        recover(tmp_path / 'letter.mcap')


@pytest.mark.parametrize('start', [b'', MAGIC[:3], MAGIC, MAGIC + b'\x01\x20', MAGIC + bytes(50)])
def test_a_file_that_was_hardly_begun(tmp_path, start):
    write(tmp_path / 'run', [word(0)])
    (tmp_path / 'run' / 'metadata.yaml').unlink()
    (tmp_path / 'run' / 'run_1.mcap').write_bytes(start)
    recover(tmp_path / 'run')
    assert read_bag(tmp_path / 'run') == [seen(word(0))]
    assert (tmp_path / 'run' / 'run_1.mcap.damaged').read_bytes() == start
    (tmp_path / 'alone').mkdir()
    (tmp_path / 'alone' / 'alone_0.mcap').write_bytes(start)
    with pytest.raises(BagError, match='nothing that could be recovered'):
        recover(tmp_path / 'alone')


def test_files_of_other_writers_are_mended_too(tmp_path):
    """No chunks, no indexes, attachments: all that the format allows."""
    path = tmp_path / 'other.mcap'
    with path.open('wb') as file:
        writer = Writer(file, use_chunking=False)
        writer.start('ros2', 'other')
        schema = writer.register_schema('std_msgs/msg/String', 'ros2msg', b'string data\n')
        channel = writer.register_channel('/words', 'cdr', schema)
        for number in range(50):
            writer.add_message(channel, START + number, bytes(20), START)
        writer.add_attachment(1, 2, 'note', 'text/plain', b'hello')
        writer.finish()
    data = path.read_bytes()
    end = next(begin for opcode, begin, _ in records(path) if opcode == Opcode.DATA_END)
    path.write_bytes(data[: end + 3])
    assert recover(path).counts == {'/words': 50}
    assert len(read_file(path)) == 50
    with path.open('rb') as file:
        assert [one.data for one in make_reader(file).iter_attachments()] == [b'hello']


def test_the_new_index_is_the_one_that_the_writer_would_have_made(tmp_path, whole):
    end = next(begin for opcode, begin, _ in records(whole) if opcode == Opcode.DATA_END)
    path = tmp_path / 'torn.mcap'
    path.write_bytes(whole.read_bytes()[:end])
    recover(path)
    ours, theirs = read_index(path), read_index(whole)
    assert ours.schemas == theirs.schemas
    assert ours.channels == theirs.channels
    assert ours.chunks == theirs.chunks
    assert ours.counts == theirs.counts
    assert (ours.start, ours.stop) == (theirs.start, theirs.stop)
    assert ours.metadatas == theirs.metadatas


def test_a_rotten_index_is_made_anew(tmp_path, whole):
    data = bytearray(whole.read_bytes())
    begin = next(begin for opcode, begin, _ in records(whole) if opcode == Opcode.STATISTICS)
    data[begin + 9] ^= 0xFF  # the count of messages: only the summary's CRC tells
    path = tmp_path / 'run.mcap'
    path.write_bytes(data)
    assert read_index(path) is None
    recover(path)
    assert read_file(path) == read_file(whole)


def test_a_chunk_that_unpacks_but_is_wrong_is_left_out(tmp_path):
    """Without compression only the CRC tells."""
    messages = [noise(number, 300) for number in range(50)]
    write(tmp_path / 'run', messages, compression='')
    path = tmp_path / 'run' / 'run_0.mcap'
    chunks = messages_of_chunks(path)
    data = bytearray(path.read_bytes()[: chunks[-1][0]])
    data[chunks[2][0] - 100] ^= 0xFF  # in a message
    path.write_bytes(data)
    recover(tmp_path / 'run')
    expected = [one for number, (_, found) in enumerate(chunks) if number != 2 for one in found]
    assert read_bag(tmp_path / 'run') == expected


def test_scan_rejects_what_cannot_be_mended_in_place(tmp_path, whole):
    chunks = messages_of_chunks(whole)
    data = bytearray(whole.read_bytes()[: chunks[4][0]])
    data[chunks[2][0] - 20] ^= 0xFF
    path = tmp_path / 'run.mcap'
    path.write_bytes(data)
    found = mending.scan(path)
    assert not found.in_place
    with pytest.raises(BagError, match='in the middle'):
        finish(path, found)
    assert path.read_bytes() == data


def test_lz4_without_its_package_is_an_error_not_a_loss(tmp_path, monkeypatch):
    pytest.importorskip('lz4')
    import mcap.stream_reader

    write(tmp_path / 'run', [word(number) for number in range(100)], compression='lz4')
    path = tmp_path / 'run' / 'run_0.mcap'
    os.truncate(path, path.stat().st_size - 10)
    data = path.read_bytes()
    monkeypatch.setattr(mcap.stream_reader, 'lz4', None)
    with pytest.raises(BagError, match='lz4'):
        recover(tmp_path / 'run')
    assert path.read_bytes() == data
    assert CompressionType.LZ4
