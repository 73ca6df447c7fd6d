"""Cut and merge: every message is where it belongs, as other readers see it; none is lost."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader

import bag_walks
from bag_walks import BEGIN, PERIOD
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.data.bag import editing
from lebot_rl_ros.data.bag.editing import cut, merge
from lebot_rl_ros.data.bag.lineage import lineage
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.selection import choose_topics, moment
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter

STRING, EMPTY = 'std_msgs/msg/String', 'std_msgs/msg/Empty'
T0 = 1_700_000_000_000_000_000
LATCHED = ({'durability': 'transient_local', 'depth': 2},)
NAMES = ('/a', '/b/c', '/latched')


def text(number):
    """A std_msgs/String, serialized; its length depends on the number."""
    body = str(number).encode() * (1 + number % 40) + b'\0'
    return b'\0\1\0\0' + len(body).to_bytes(4, 'little') + body


def write(folder, messages, *, metadata=None, topics=NAMES, kind=STRING, **settings):
    """A bag of messages given as (topic, log time, publish time, number)."""
    with BagWriter(folder, metadata=metadata or {}, chunk_bytes=512, **settings) as writer:
        for name in topics:
            writer.add(Topic(name, kind, LATCHED if name == '/latched' else ()))
        for name, log, publish, number in messages:
            writer.write(Message(name, log, publish, text(number)))
    return folder


def seen(folder):
    """What an independent reader sees: topic, log time, publish time, octets, by file."""
    found = []
    for path in sorted(Path(folder).glob('*.mcap')):
        with path.open('rb') as file:
            found += [
                (channel.topic, message.log_time, message.publish_time, message.data)
                for _, channel, message in make_reader(file).iter_messages()
            ]
    return found


def as_rosbags(folder):
    """What another independent reader sees: topics with types, hashes, QoS; and messages."""
    with Reader(folder) as reader:
        topics = {
            c.topic: (c.msgtype, c.digest, c.msgcount, len(c.ext.offered_qos_profiles))
            for c in reader.connections
        }
        return topics, [(c.topic, time, bytes(data)) for c, time, data in reader.messages()]


def ours(messages):
    return [(name, log, publish, text(number)) for name, log, publish, number in messages]


TIMES = st.integers(0, 3_000_000_000)  # ns after T0
MESSAGES = st.lists(
    st.tuples(st.sampled_from(NAMES[:2]), TIMES, st.integers(0, 50_000_000), st.integers(0, 99)),
    min_size=1, max_size=60,
).map(lambda rows: [
    (name, T0 + log, T0 + log - late, number)
    for name, log, late, number in sorted(rows, key=lambda row: row[1])
])  # fmt: skip
# Bags of one test lie side by side: each example has its own folder.
PLACES = iter(range(1_000_000))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('bags')


@settings(max_examples=25)
@given(messages=MESSAGES, first=TIMES, length=TIMES, split=st.sampled_from([0.0, 0.7]))
def test_a_cut_has_the_messages_of_its_time_and_no_others(folder, messages, first, length, split):
    here = folder / f'cut{next(PLACES)}'
    bag = write(here / 'whole', messages, split_seconds=split)
    low, high = T0 + first, T0 + first + length
    wanted = [m for m in messages if low <= m[1] < high]
    begin, end = messages[0][1], messages[-1][1]
    if high <= max(begin, low) or low > end:
        with pytest.raises(BagError, match='nothing lies from'):
            cut(bag, here / 'part', start=decimal(low), end=decimal(high))
        assert not (here / 'part').exists()
        return
    made = cut(bag, here / 'part', start=decimal(low), end=decimal(high))
    assert made.messages == len(wanted)
    assert seen(here / 'part') == ours(wanted)
    topics, found = as_rosbags(here / 'part')
    assert found == [(name, log, data) for name, log, _, data in ours(wanted)]
    before, _ = as_rosbags(bag)
    assert {n: (t[0], t[1], t[3]) for n, t in topics.items()} == {
        n: (t[0], t[1], t[3]) for n, t in before.items()
    }
    assert {n: t[2] for n, t in topics.items()} == {
        name: sum(m[0] == name for m in wanted) for name in NAMES
    }


def decimal(ns):
    """Seconds since the epoch with every digit."""
    return f'{ns // 10**9}.{ns % 10**9:09d}'


@settings(max_examples=25)
@given(bags=st.lists(MESSAGES, min_size=2, max_size=3), split=st.sampled_from([0.0, 0.7]))
def test_a_merge_has_all_messages_in_the_order_of_time(folder, bags, split):
    here = folder / f'merge{next(PLACES)}'
    paths = [
        write(here / str(i), messages, split_seconds=split) for i, messages in enumerate(bags)
    ]
    merge(paths, here / 'whole')
    every = sorted((m for messages in bags for m in messages), key=lambda message: message[1])
    assert seen(here / 'whole') == ours(every)
    topics, found = as_rosbags(here / 'whole')
    assert found == [(name, log, data) for name, log, _, data in ours(every)]
    assert sum(topic[2] for topic in topics.values()) == len(every)


def test_parts_of_a_bag_merged_are_the_bag(tmp_path):
    bag = bag_walks.write(tmp_path / 'walk', bag_walks.Walk(100))
    cut(bag, tmp_path / 'a', end='0.7')
    cut(bag, tmp_path / 'b', start='0.7', exclude=['active_adapter'])
    merge([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'again')
    assert seen(tmp_path / 'again') == seen(bag)
    assert as_rosbags(tmp_path / 'again')[0] == as_rosbags(bag)[0]


def test_what_latched_topics_said_before_begins_the_cut(tmp_path):
    said = [('/latched', T0 + n, T0 + n - 5, n) for n in range(4)]
    later = [('/a', T0 + 100, T0 + 90, 7), ('/latched', T0 + 200, T0 + 195, 8)]
    write(tmp_path / 'bag', [*said, ('/a', T0 + 50, T0 + 40, 6), *later])
    made = cut(tmp_path / 'bag', tmp_path / 'cut', start=decimal(T0 + 60))
    assert (made.messages, made.latched) == (4, 2)  # its publisher keeps two
    assert seen(tmp_path / 'cut') == [
        ('/latched', T0 + 60, T0 - 3, text(2)),
        ('/latched', T0 + 60, T0 - 2, text(3)),
        *ours(later),
    ]
    made = cut(tmp_path / 'bag', tmp_path / 'other', start=decimal(T0 + 60), topics=['a'])
    assert (made.messages, made.latched) == (1, 0)


@pytest.mark.parametrize('written, expected', [
    ('0', 100), ('1.5', 1_500_000_100), ('-0.25', 3_750_000_100), ('-4', 100),
    ('1700000000.000000123', T0 + 123), ('2023-11-14T22:13:20Z', T0),
    ('2023-11-14T22:13:20.000250', T0 + 250_000), ('2023-11-14 23:13:20+01:00', T0),
])  # fmt: skip
def test_moments_by_hand(written, expected):
    assert moment(written, 100, 4_000_000_100) == expected


@pytest.mark.parametrize('written', ['soon', '', 'nan', 'inf', '2023-13-01'])
def test_what_is_no_moment_is_refused(written):
    with pytest.raises(BagError, match=r'is no time|is not finite'):
        moment(written, 0, 1)


def test_topics_are_chosen_by_name_pattern_and_namespace():
    names = ['/imu/data', '/joint_states', '/left/joint_states', '/left/policy/steps', '/odom']
    assert choose_topics(names) == names
    assert choose_topics(names, ['joint_states']) == ['/joint_states', '/left/joint_states']
    assert choose_topics(names, ['/joint_states']) == ['/joint_states']
    assert choose_topics(names, ['/left/*', 'odom']) == [*names[2:4], '/odom']
    assert choose_topics(names, ['*'], ['policy/*', '/odom']) == names[:3]
    with pytest.raises(BagError, match=r"no topic 'jint_states'; topics are /imu/data, /joint"):
        choose_topics(names, ['jint_states'])


def test_aligned_bags_lie_one_behind_the_other(tmp_path):
    one = [('/a', T0, T0 - 1, 1), ('/a', T0 + 2_000_000_000, T0 + 1_999_999_999, 2)]
    two = [('/b/c', T0 - 10**15, T0 - 10**15 - 7, 3), ('/a', T0 - 10**15 + 5, T0 - 10**15, 4)]
    three = [('/a', T0 + 9, T0 + 8, 5)]
    bags = (('1', one), ('2', two), ('empty', []), ('3', three))
    paths = [write(tmp_path / name, messages) for name, messages in bags]
    made = merge(paths, tmp_path / 'm', align=True)
    second = T0 + 3_000_000_000
    third = second + 5 + 1_000_000_000
    assert made.shifts == (0, second - (T0 - 10**15), 0, third - (T0 + 9))
    assert seen(tmp_path / 'm') == ours([
        *one, ('/b/c', second, second - 7, 3), ('/a', second + 5, second, 4),
        ('/a', third, third - 1, 5),
    ])  # fmt: skip
    assert lineage(Bag(tmp_path / 'm').metadata)[0]['arguments']['shifts_ns'] == [*made.shifts]


def test_conflicts_name_both_bags_and_what_helps(tmp_path):
    write(tmp_path / 'x', [], topics=['/a'], kind=STRING)
    write(tmp_path / 'y', [], topics=['/a'], kind=EMPTY)
    said = (
        r'/a has the type std_msgs/msg/String in .*/x, but std_msgs/msg/Empty in .*/y; '
        r'`lebot bag cut .* --exclude /a`'
    )
    with pytest.raises(BagError, match=said):
        merge([tmp_path / 'x', tmp_path / 'y'], tmp_path / 'm')
    with BagWriter(tmp_path / 'z') as writer:
        definition = 'string data\nint32 more\n'
        writer.add(Topic('/a', STRING, hash='RIHS01_' + 'ab' * 32, definition=definition))
    with pytest.raises(
        BagError, match=r'/a has the type hash RIHS01_\w+ in .*/x, but RIHS01_abab'
    ):
        merge([tmp_path / 'x', tmp_path / 'z'], tmp_path / 'm')
    assert not (tmp_path / 'm').exists()
    with pytest.raises(BagError, match='1 bags to merge'):
        merge([tmp_path / 'x'], tmp_path / 'm')


def test_profiles_that_were_offered_in_any_bag_are_kept(tmp_path):
    best = {'reliability': 'best_effort', 'depth': 1}
    for name, qos in (('x', (best,)), ('y', (best, {'reliability': 'reliable', 'depth': 5}))):
        with BagWriter(tmp_path / name) as writer:
            writer.add(Topic('/a', STRING, qos))
    merge([tmp_path / 'x', tmp_path / 'y'], tmp_path / 'm')
    found = [(q['reliability'], q['depth']) for q in Bag(tmp_path / 'm').topics['/a'].qos]
    assert found == [('best_effort', 1), ('reliable', 5)]


def test_metadata_of_both_is_kept_and_where_a_bag_is_from(tmp_path):
    one = {'policy': 'walk', 'robot': 'lebot', 'adapter': 'ice'}
    two = {'policy': 'walk', 'robot': 'other'}
    for name, metadata in (('1', one), ('2', two)):
        write(tmp_path / name, [('/a', T0, T0, 1), ('/a', T0 + 9, T0, 2)], metadata=metadata)
    cut(tmp_path / '1', tmp_path / 'cut', start=decimal(T0 + 5))
    assert {k: v for k, v in Bag(tmp_path / 'cut').metadata.items() if k != 'lineage'} == one
    merge([tmp_path / 'cut', tmp_path / '2'], tmp_path / 'm')
    metadata = dict(Bag(tmp_path / 'm').metadata)
    (step,) = json.loads(metadata.pop('lineage'))
    assert metadata == {'policy': 'walk'}  # neither robot speaks for both
    sources = step['from']
    assert [s['sha256'] for s in sources] == [Bag(tmp_path / n).sha256 for n in ('cut', '2')]
    assert sources[0]['metadata']['robot'] == 'lebot'
    assert sources[1]['metadata'] == {'robot': 'other'}
    (former,) = lineage(sources[0]['metadata'])
    assert former['operation'] == 'cut'
    assert former['from'][0]['sha256'] == Bag(tmp_path / '1').sha256
    assert former['arguments'] == {
        'from_ns': T0 + 5, 'to_ns': T0 + 10, 'topics': sorted(NAMES),
    }  # fmt: skip
    cut(tmp_path / 'cut', tmp_path / 'again', topics=['a'])
    assert [s['operation'] for s in lineage(Bag(tmp_path / 'again').metadata)] == ['cut', 'cut']


def test_the_same_cut_has_the_same_octets(tmp_path):
    write(tmp_path / 'bag', [('/a', T0 + n, T0, n) for n in range(50)])
    for name in ('x', 'y'):
        cut(tmp_path / 'bag', tmp_path / name / 'part', start='0', end=decimal(T0 + 30))
    assert Bag(tmp_path / 'x' / 'part').sha256 == Bag(tmp_path / 'y' / 'part').sha256


def test_nothing_is_overwritten_without_force_and_nothing_but_a_bag_with_it(tmp_path):
    bag = write(tmp_path / 'bag', [('/a', T0, T0, 1), ('/b/c', T0 + 1, T0, 2)])
    other = write(tmp_path / 'other', [('/a', T0, T0, 3)])
    with pytest.raises(BagError, match=r'other is there already; --force replaces it'):
        cut(bag, other)
    assert seen(other) == ours([('/a', T0, T0, 3)])
    cut(bag, other, topics=['/a'], force=True)
    assert seen(other) == ours([('/a', T0, T0, 1)])
    assert [path.name for path in other.glob('*.mcap')] == ['other_0.mcap']
    notes = tmp_path / 'notes'
    notes.mkdir()
    (notes / 'thesis.txt').write_text('years of work')
    for force in (False, True):
        with pytest.raises(BagError, match='notes is there and is no bag'):
            cut(bag, notes, force=force)
    assert (notes / 'thesis.txt').read_text() == 'years of work'
    for out in (bag, bag / 'inside'):
        with pytest.raises(BagError, match='is, or lies in, the bag'):
            cut(bag, out, force=True)
    with pytest.raises(BagError, match='is, or lies in, the bag'):
        merge([other, bag], bag, force=True)
    file = tmp_path / 'file'
    file.touch()
    with pytest.raises(BagError, match='file is a file; a bag is a folder'):
        cut(bag, file, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bag', 'file', 'notes', 'other']


def test_what_fails_half_way_leaves_the_old_bag_and_no_rests(tmp_path, monkeypatch):
    bag = write(tmp_path / 'bag', [('/a', T0 + n, T0, n) for n in range(20)])
    other = write(tmp_path / 'other', [('/a', T0, T0, 3)])

    class Full(BagWriter):
        def write(self, message):
            if message.log_time == T0 + 10:
                raise OSError(28, 'No space left on device')
            super().write(message)

    monkeypatch.setattr(editing, 'BagWriter', Full)
    with pytest.raises(OSError, match='No space left'):
        cut(bag, other, force=True)
    assert seen(other) == ours([('/a', T0, T0, 3)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bag', 'other']


def test_memory_does_not_grow_with_the_bag(tmp_path):
    rng, peaks = np.random.default_rng(0), []
    for count in (200, 800):
        here = tmp_path / str(count)
        with BagWriter(here / 'bag', compression='') as writer:
            writer.add(Topic('/a', STRING))
            for n in range(count):
                body = rng.bytes(25_000)
                data = b'\0\1\0\0' + len(body).to_bytes(4, 'little') + body
                writer.write(Message('/a', T0 + n, T0 + n, data))
        tracemalloc.start()
        cut(here / 'bag', here / 'part')
        merge([here / 'bag', here / 'part'], here / 'both', align=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert Bag(here / 'both').topics['/a'].count == 2 * count
    assert peaks[1] < 1.3 * peaks[0], 'bags of 5 and of 20 MB'


def test_progress_is_told_up_to_the_end(tmp_path):
    write(tmp_path / 'bag', [('/a', T0 + n, T0, 1) for n in range(2500)])
    heard = []
    cut(tmp_path / 'bag', tmp_path / 'x', progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1000, 2500), (2000, 2500), (2500, 2500)]


def test_the_command_line_cuts_merges_and_explains(tmp_path, capsys):
    bag = bag_walks.write(tmp_path / 'walk', bag_walks.Walk(100))
    cuts = [str(tmp_path / name) for name in ('a', 'b')]
    assert main(['bag', 'cut', str(bag), cuts[0], '--from', '-0.5', '--topics', 'imu/*']) == 0
    assert main(['bag', 'cut', str(bag), cuts[1], '--to', '0.5', '--exclude', '/clock']) == 0
    said = capsys.readouterr().out
    assert f'{cuts[0]}: 25 messages' in said
    assert [m[1] for m in seen(cuts[0])] == [
        BEGIN + tick * PERIOD + 200_000 for tick in range(75, 100)
    ]
    whole = str(tmp_path / 'm')
    assert main(['bag', 'merge', *cuts, whole, '--align']) == 0
    assert 'moved by +0.000, ' in capsys.readouterr().out
    assert main(['bag', 'merge', *cuts, whole]) == 2
    assert '--force replaces it' in capsys.readouterr().err
    assert main(['bag', 'cut', str(bag), str(tmp_path / 'c'), '--topics', 'imu/dta']) == 2
    assert "no topic 'imu/dta'; topics are /clock" in capsys.readouterr().err
