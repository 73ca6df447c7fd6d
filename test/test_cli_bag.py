"""`lebot bag` on bags of a made-up walk, of which everything is known."""

import base64
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Header

from bag_walks import BEGIN, JOINTS, TYPES, Walk, write
from lebot_rl_ros.cli.bag import VERBS
from lebot_rl_ros.cli.bag_plot_page import page
from lebot_rl_ros.cli.bag_plot_run import load
from lebot_rl_ros.cli.bag_plot_series import collect
from lebot_rl_ros.cli.bag_plot_thin import envelope, mean_over, thin
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.scan import scan
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter

SECONDS = 8
CLASSES = {kind.__name__: kind for kind in (Imu, JointState, Odometry, TwistStamped)}
RUN = {
    'version': '0.1.0', 'git_revision': '0123456789abcdef', 'robot': 'name: lebot\njoints: {}',
    'policy': 'walk', 'policy_sha256': 'ab' * 32, 'adapter': 'ice@3',
    'parameters': json.dumps({'/policy': {'deterministic': True}}),
    'arguments': json.dumps({'duration': 8.0, 'seed': 0}),
}  # fmt: skip


@pytest.fixture(scope='module')
def walk() -> Walk:
    """8 s, with a fall at 4 s."""
    return Walk(50 * SECONDS, falls=[200])


@pytest.fixture(scope='module')
def bag(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it, in two files."""
    folder = tmp_path_factory.mktemp('bags') / 'whole'
    return write(folder, walk, metadata=RUN, split_seconds=5.0)


def test_every_verb_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    """In the list, and by its own help; an unknown one names them."""
    with pytest.raises(SystemExit, match='0'):
        main(['bag', '--help'])
    listed = capsys.readouterr().out
    assert all(f'  {verb} ' in listed for verb in VERBS)
    for verb in VERBS:
        with pytest.raises(SystemExit, match='0'):
            main(['bag', verb, '--help'])
        assert f'lebot bag {verb}' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='2'):
        main(['bag', 'sing'])
    assert "'recover'" in capsys.readouterr().err


def test_info_tells_files_topics_and_run(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By JSON exactly, and for people."""
    assert main(['bag', 'info', '--json', str(bag)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [file['name'] for file in data['files']] == ['whole_0.mcap', 'whole_1.mcap']
    assert data['octets'] == sum(path.stat().st_size for path in bag.glob('*.mcap'))
    topics = {topic['name']: topic for topic in data['topics']}
    assert set(topics) == set(TYPES)
    assert topics['/joint_states']['count'] == 400
    assert topics['/joint_states']['rate_hz'] == pytest.approx(50.0)
    assert topics['/cmd_vel']['rate_hz'] == pytest.approx(10.0)
    assert topics['/policy/active_adapter']['count'] == 2  # again at the split, as it is latched
    assert sum(topic['share'] for topic in data['topics']) == pytest.approx(1.0)
    assert data['messages'] == sum(topic['count'] for topic in data['topics'])
    assert data['start_ns'] == BEGIN + 200_000
    assert data['start'] == '2026-01-01T00:00:00.000Z'
    assert data['duration_s'] == pytest.approx(7.984, abs=0.01)
    assert data['learning'] == [
        {'namespace': '', 'steps': 399, 'transitions': 399, 'falls': 1}
    ]  # fmt: skip
    assert data['run']['robot']['name'] == 'lebot'
    assert data['run']['arguments'] == {'duration': 8.0, 'seed': 0}
    assert main(['bag', 'info', str(bag)]) == 0
    text = capsys.readouterr().out
    for words in ('2 files', 'robot: lebot', 'policy: walk abababababab, adapter: ice@3',
                  'git 0123456789ab', 'arguments: duration:=8.0', '399 transitions', '1 fall',
                  'whole_1.mcap', 'lebot train offline --bags', 'lebot identify'):  # fmt: skip
        assert words in text
    assert 'seed' not in text  # the default


def test_who_reads_the_beginning_only_gets_no_traceback(bag: Path) -> None:
    """As `| head` does."""
    read, write_end = os.pipe()
    os.close(read)
    command = [sys.executable, '-m', 'lebot_rl_ros.cli.main', 'bag', 'info', str(bag)]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b'')


def test_info_does_without_a_run_and_without_steps(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bag of another program: one topic, no metadata; also one file of it alone."""
    folder = write(tmp_path / 'imu', walk, topics=['/imu/data'])
    assert main(['bag', 'info', str(folder)]) == 0
    assert 'nothing to learn from: there is no topic policy/steps' in capsys.readouterr().out
    assert main(['bag', 'info', '--json', str(folder / 'imu_0.mcap')]) == 0
    assert json.loads(capsys.readouterr().out)['learning'] == []
    steps = write(tmp_path / 'steps', walk, topics=['/policy/steps'])
    assert main(['bag', 'info', str(steps)]) == 0
    assert '/reward/rewards' in capsys.readouterr().out


def test_a_whole_bag_is_healthy(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a topic, the joins, and the verdict."""
    assert main(['bag', 'check', str(bag)]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[-1] == 'healthy'
    assert sum(line.startswith('/') for line in lines[1:]) == len(TYPES)
    assert 'commands: 400 of 400 states answered' in lines
    assert any(line.startswith('steps and rewards: 399 joined') for line in lines)
    assert 'simulated time' in text
    assert 'recorder: 2,800 messages when it spoke last, 0 dropped, 0 lost' in lines
    assert main(['bag', 'check', '--json', str(bag)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data['healthy']
    assert data['findings'] == []
    (states,) = (row for row in data['topics'] if row['name'] == '/joint_states')
    assert states['rate'] == 50.0
    assert states['latency'] is None
    assert states['transport']['p50'] == pytest.approx(0.2)


def test_stamps_of_the_recorders_clock_have_a_latency(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a robot: joint_states come 100 us after their stamp, and are recorded 200 us later."""
    folder = write(tmp_path / 'robot', Walk(100, origin=BEGIN))
    assert main(['bag', 'check', '--json', str(folder)]) == 0
    data = json.loads(capsys.readouterr().out)
    (states,) = (row for row in data['topics'] if row['name'] == '/joint_states')
    assert states['latency']['p99'] == pytest.approx(0.3)
    assert main(['bag', 'check', str(folder)]) == 0
    assert 'from the stamp in the header to the bag' in capsys.readouterr().out


def test_what_is_lost_is_found(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two states at 2 s, a command at 3 s, ten steps at 6 s are not in the bag."""
    folder = write(
        tmp_path / 'lossy',
        walk,
        without={
            '/joint_states': [100, 101],
            '/joint_commands': [150],
            '/policy/steps': range(300, 310),
        },
    )
    assert main(['bag', 'check', str(folder)]) == 1
    text = capsys.readouterr().out
    for words in (
        '/joint_states: 2 messages missing (0.50%) in 1 gap, longest 60.0 ms at 2.0 s',
        '/joint_commands: 1 message missing (0.25%) in 1 gap, longest 40.0 ms at 3.0 s',
        '/policy/steps: 10 messages missing (2.51%) in 1 gap, longest 220.0 ms at 6.0 s',
        '1 of 398 states have no command (0.25%)',
        '2 commands answer a state that is not in the bag',
        '10 rewards without a step',
        'not healthy: 2 errors and 4 warnings',
    ):
        assert words in text
    assert main(['bag', 'check', '--json', str(folder)]) == 1
    assert not json.loads(capsys.readouterr().out)['healthy']


def test_what_the_recorder_dropped_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own count, of each topic."""
    folder = write(tmp_path / 'slow', Walk(100, dropped=17))
    assert main(['bag', 'check', str(folder)]) == 1
    words = 'error: the recorder says that 17 messages were dropped: /imu/data 17'
    assert words in capsys.readouterr().out.splitlines()


def test_what_is_slow_before_the_walk_begins_is_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For 4 s states come at every third tick, until the driver takes commands."""
    slow = [tick for tick in range(200) if tick % 3]
    names = ('/joint_commands_applied', '/policy/steps', '/reward/rewards')
    without = {name: range(200) for name in names} | {'/joint_states': slow, '/imu/data': slow}
    without['/joint_commands'] = slow
    folder = write(tmp_path / 'begun', Walk(400), without=without)
    assert main(['bag', 'check', str(folder)]) == 0
    without['/joint_commands_applied'] = ()
    folder = write(tmp_path / 'slow', Walk(400), without=without)
    assert main(['bag', 'check', str(folder)]) == 1
    assert 'error: /joint_states' in capsys.readouterr().out


def test_damage_is_found_and_the_rest_is_checked(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One octet of one chunk: an error, with the topics still told."""
    folder = shutil.copytree(bag, tmp_path / 'whole')
    file = folder / 'whole_0.mcap'
    octets = bytearray(file.read_bytes())
    octets[len(octets) // 2] ^= 0xFF
    file.write_bytes(octets)
    assert main(['bag', 'check', str(folder)]) == 1
    text = capsys.readouterr().out
    assert re.search(r'error: whole_0.mcap: chunk \d+ is damaged', text)
    assert '\n/joint_states ' in text
    assert main(['bag', 'info', str(folder)]) == 0
    assert 'damaged: 1 part cannot be read' in capsys.readouterr().out
    assert 200 < len(load(Bag(folder)).times['joint_states']) < 400


def test_a_hash_of_another_definition_is_found(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recorder wrote the hash of a type that has other fields."""
    with BagWriter(tmp_path / 'odd') as writer:
        name = '/imu/data'
        writer.add(Topic(name, TYPES[name], hash='RIHS01_' + '0' * 64))
        for _, message in walk.messages:
            if message.topic == name:
                writer.write(message)
    assert main(['bag', 'check', str(tmp_path / 'odd')]) == 1
    assert 'error: /imu/data: type hash RIHS01_00000000' in capsys.readouterr().out


def test_robots_under_namespaces_are_told_apart(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two robots in one bag, one of them with a step less."""
    with BagWriter(tmp_path / 'two') as writer:
        for space in ('/one', '/two'):
            for name, kind in TYPES.items():
                writer.add(Topic(space + name, kind))
        for tick, message in walk.messages:
            for space in ('/one', '/two'):
                if (space, message.topic, tick) != ('/two', '/policy/steps', 80):
                    writer.write(Message(space + message.topic, message.log_time,
                                         message.publish_time, message.data))  # fmt: skip
    path = str(tmp_path / 'two')
    assert main(['bag', 'check', path]) == 1
    text = capsys.readouterr().out
    assert 'steps and rewards in /one: 399 joined' in text
    assert 'steps and rewards in /two: 398 joined' in text
    assert main(['bag', 'info', path]) == 0
    assert '398 transitions in /two of 398 steps' in capsys.readouterr().out
    assert main(['bag', 'plot', path]) == 2
    assert 'several robots: /one, /two; say --namespace' in capsys.readouterr().err
    assert main(['bag', 'plot', path, '--namespace', 'three']) == 2
    assert 'has no robot under' in capsys.readouterr().err
    run = load(Bag(path), '/two')
    assert len(run.steps) == 398


def test_columns_are_what_decoding_gives(bag: Path) -> None:
    """Every number of every message of the five layouts, and the frames."""
    opened = Bag(bag)
    found = collect(scan(opened.files), {name: info.type for name, info in opened.topics.items()})
    assert set(found) == {
        '/joint_states', '/joint_commands', '/joint_commands_applied', '/imu/data', '/cmd_vel',
        '/ground_truth/odom',
    }  # fmt: skip
    for name, columns in found.items():
        messages = [
            deserialize_message(m.data, CLASSES[TYPES[name].rpartition('/')[2]])
            for m in opened.messages([name])
        ]
        stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in messages]
        assert columns.stamps.tolist() == stamps
        words = [columns.frames[code] for code in columns.frame]
        assert words == [m.header.frame_id for m in messages]
        for field, values in columns.fields.items():
            np.testing.assert_array_equal(values, [_numbers(m, field) for m in messages])
    assert found['/joint_states'].names == JOINTS
    assert set(found['/joint_commands_applied'].frames) == {'STAND_UP', 'TRACK'}


def _numbers(message: object, field: str) -> list[float]:
    owner = message
    if field in ('position', 'orientation') and hasattr(message, 'pose'):
        owner = message.pose.pose
    if field == 'twist':
        twist = message.twist.twist if hasattr(message.twist, 'twist') else message.twist
        return [getattr(part, axis) for part in (twist.linear, twist.angular) for axis in 'xyz']
    value = getattr(owner, field)
    if hasattr(value, 'x'):
        return [getattr(value, axis) for axis in 'xyzw' if hasattr(value, axis)]
    return list(value)


def test_joints_in_another_order_are_put_right(tmp_path: Path) -> None:
    """Two publishers, one of which turns its list around, and says more; a short one is NaN."""
    name = '/joint_states'
    with BagWriter(tmp_path / 'mixed') as writer:
        writer.add(Topic(name, TYPES[name]))
        for i, (order, extra) in enumerate([('ab', []), ('ba', [7.0, 8.0]), ('ab', [5.0, 6.0])]):
            message = JointState(header=Header(), name=list(order), position=[1.0, 2.0],
                                 velocity=extra)  # fmt: skip
            message.header.stamp.sec = i + 1
            writer.write(Message(name, i, i, serialize_message(message)))
    opened = Bag(tmp_path / 'mixed')
    columns = collect(scan(opened.files), {name: TYPES[name]})[name]
    assert columns.names == ['a', 'b']
    assert columns.fields['position'].tolist() == [[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]
    np.testing.assert_array_equal(
        columns.fields['velocity'], [[np.nan, np.nan], [8.0, 7.0], [5.0, 6.0]]
    )


def test_envelopes_keep_peaks() -> None:
    """By hand: 8 values in 4 bins; NaN does not count."""
    time, values = np.arange(8.0), np.array([1, 5, 2, -3, np.nan, 4, 0, 0.5])
    at, low, high = envelope(time, values, 4)
    assert at.tolist() == [0, 2, 4, 6]
    assert low.tolist() == [1, -3, 4, 0]
    assert high.tolist() == [5, 2, 4, 0.5]
    assert thin(time, values, 2)[1].tolist() == [-3, 5, 0, 4]
    assert thin(time, values, 4)[1] is values
    long = np.zeros(100_000)
    long[54_321] = 9.0
    assert thin(np.arange(100_000.0), long)[1].max() == 9.0


def test_running_mean_by_hand() -> None:
    """Over 2 s, a value each second: of three values inside, of two at the ends."""
    time = np.arange(5.0)
    found = mean_over(time, np.array([0.0, 3.0, 6.0, 0.0, np.nan]), 2.0)
    assert found.tolist() == [1.5, 3.0, 3.0, 3.0, 0.0]


def test_a_run_for_pictures(bag: Path) -> None:
    """Seconds of robot time, modes, falls, heat, adapter: as the walk was made."""
    run = load(Bag(bag))
    assert run.clock.label == 'robot time, s'
    np.testing.assert_allclose(run.times['imu/data'], np.arange(400) / 50)
    assert run.falls == pytest.approx([200 / 50])
    assert [(round(a, 2), round(b, 2), word) for a, b, word in run.modes] == [
        (0.0, 0.5, 'STAND_UP'), (0.5, 7.98, 'TRACK'),
    ]  # fmt: skip
    assert run.terms == ['speed', 'tilt', 'fall']
    assert run.servo['temperature'].shape == (8, 8)
    assert run.servo['temperature'][3, 2] == pytest.approx(32.3)  # at 3 s
    assert run.servo_times == pytest.approx(np.arange(8), abs=0.02)
    assert [label for _, label in run.adapters] == ['ice@3']


def test_without_robot_time_pictures_take_the_recorders(tmp_path: Path, walk: Walk) -> None:
    """A bag with two runs of the simulator: its clock began anew."""
    with BagWriter(tmp_path / 'again') as writer:
        writer.add(Topic('/joint_states', TYPES['/joint_states']))
        for part in range(2):
            for _, message in walk.messages:
                if message.topic == '/joint_states':
                    at = message.log_time + part * 60 * 10**9
                    writer.write(Message(message.topic, at, at, message.data))
    run = load(Bag(tmp_path / 'again'))
    assert run.clock.label == 'time, s'
    assert run.times['joint_states'][-1] == pytest.approx(60 + 7.98)


class Page(HTMLParser):
    """What a page refers to, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.words = ''
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what it refers to."""
        self.tags.add(tag)
        named = dict(attrs)
        self.sources += [named[key] or '' for key in ('src', 'srcset', 'data') if key in named]
        self.links += [named['href'] or ''] if 'href' in named else []
        self.ids |= {named['id'] or ''} if 'id' in named else set()
        if tag not in ('meta', 'img', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Every tag that is closed was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Take the words."""
        self.words += data


def test_plot_draws_and_makes_one_page(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight pictures; the page has them inside, and refers to nothing outside of itself."""
    out = tmp_path / 'out'
    assert main(['bag', 'plot', str(bag), '--out', str(out), '--html']) == 0
    assert '8 pictures' in capsys.readouterr().out
    files = sorted(path.name for path in out.iterdir())
    assert files == ['imu.png', 'index.html', 'joints.png', 'joints_close.png', 'path.png',
                     'rates.png', 'reward.png', 'servos.png', 'walk.png']  # fmt: skip
    for path in out.glob('*.png'):
        octets = path.read_bytes()
        assert octets[:8] == b'\x89PNG\r\n\x1a\n'
        width, height = struct.unpack('>II', octets[16:24])
        assert width == 975
        assert 300 < height < 2500
    text = (out / 'index.html').read_text()
    found = Page(text)
    assert found.open == []
    assert len(found.sources) == 8
    for source in found.sources:
        assert source.startswith('data:image/png;base64,')
        assert base64.b64decode(source.partition(',')[2])[:4] == b'\x89PNG'
    assert all(link.startswith('#') and link[1:] in found.ids for link in found.links)
    assert not found.tags & {'script', 'link', 'iframe', 'object'}
    assert 'url(' not in text
    assert 'width=device-width' in text
    for words in ('healthy', '/joint_states', 'ice@3', 'adapter', '399 joined'):
        assert words in found.words


def test_plot_leaves_out_what_is_not_there(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only an IMU: its picture and the rates, in the bag's folder; nothing at all: an error."""
    folder = write(tmp_path / 'imu', walk, topics=['/imu/data'])
    assert main(['bag', 'plot', str(folder)]) == 0
    assert {path.name for path in (folder / 'plots').iterdir()} == {'imu.png', 'rates.png'}
    assert main(['bag', 'info', str(folder)]) == 0  # pictures in it do not disturb
    empty = write(tmp_path / 'empty', Walk(0), topics=['/imu/data'])
    capsys.readouterr()
    assert main(['bag', 'plot', str(empty)]) == 2
    assert 'nothing to draw' in capsys.readouterr().err
    assert main(['bag', 'check', str(empty)]) == 0
    assert main(['bag', 'info', str(empty)]) == 0


def test_names_in_a_bag_cannot_break_the_page(walk: Walk, tmp_path: Path) -> None:
    """Metadata comes from anywhere."""
    evil = {'policy': '<script>alert(1)</script>', 'adapter': '" onload="x'}
    folder = write(tmp_path / 'a<b>', Walk(100), metadata=evil)
    found = Page(page(Bag(folder), [('a & b', '"<', b'png')]))
    assert 'script' not in found.tags
    assert '<script>alert(1)</script>' in found.words


def test_a_bag_that_was_killed_is_mended(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut off in the middle of a chunk, without metadata.yaml: every verb says what to do."""
    folder = write(tmp_path / 'killed', walk)
    before = sum(info.count for info in Bag(folder).topics.values())
    (folder / 'metadata.yaml').unlink()
    file = folder / 'killed_0.mcap'
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    for verb in ('info', 'check', 'plot'):
        assert main(['bag', verb, str(folder)]) == 2
        assert f'`lebot bag recover {folder}` mends it' in capsys.readouterr().err
    assert main(['bag', 'recover', str(folder)]) == 0
    text = capsys.readouterr().out
    after = sum(info.count for info in Bag(folder).topics.values())
    assert before / 3 < after < before
    assert f'{after} messages' in text.replace(',', '')
    assert 'killed_0.mcap.damaged' in text
    assert main(['bag', 'check', str(folder)]) == 0
    capsys.readouterr()
    assert main(['bag', 'recover', str(folder), '--json']) == 0
    again = json.loads(capsys.readouterr().out)
    assert again['healthy']
    assert sum(again['counts'].values()) == after


@pytest.mark.parametrize('verb', ['info', 'check', 'plot', 'recover'])
def test_what_is_no_bag_is_refused(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No path, an empty folder, another storage, another file: each by its name."""
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'old_0.db3').write_bytes(b'SQLite format 3\0')
    (tmp_path / 'notes.txt').write_text('hello')
    for name in ('nowhere', 'empty', 'old', 'notes.txt'):
        assert main(['bag', verb, str(tmp_path / name)]) == 2
        told = capsys.readouterr()
        assert told.err.startswith('lebot bag: ')
        assert name in told.err
        assert told.out == ''
        if name == 'old' and verb != 'recover':
            assert 'sqlite3' in told.err
            assert 'ros2 bag convert' in told.err


def test_a_missing_extra_is_named(
    bag: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a robot without what reads bags."""
    monkeypatch.setitem(sys.modules, 'mcap.stream_reader', None)
    assert main(['bag', 'check', str(bag)]) == 3
    assert "pip install 'lebot_rl_ros[record]'" in capsys.readouterr().err


def test_bags_of_another_writer_are_read(
    walk: Walk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the rosbags package: no hash of ours, no run, chunks of its own."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(tmp_path / 'theirs', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        names = ('/joint_states', '/imu/data', '/joint_commands')
        made = {name: writer.add_connection(name, TYPES[name], typestore=store) for name in names}
        for _, message in walk.messages:
            if message.topic in made:
                writer.write(made[message.topic], message.log_time, message.data)
    assert main(['bag', 'check', str(tmp_path / 'theirs')]) == 0
    assert 'commands: 400 of 400 states answered' in capsys.readouterr().out
    assert main(['bag', 'info', str(tmp_path / 'theirs')]) == 0


def test_a_message_that_is_cut_off_is_named(tmp_path: Path) -> None:
    """Ten octets that say they are a JointState."""
    with BagWriter(tmp_path / 'short') as writer:
        writer.add(Topic('/joint_states', TYPES['/joint_states']))
        writer.write(Message('/joint_states', 1, 1, b'\0\1\0\0' + bytes(6)))
    with pytest.raises(BagError, match='/joint_states'):
        load(Bag(tmp_path / 'short'))
    assert main(['bag', 'check', str(tmp_path / 'short')]) == 0
