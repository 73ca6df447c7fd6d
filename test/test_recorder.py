"""The recorder: what is taken, that nothing is missed, and what a kill and a full disk leave."""

import json
import math
import os
import shutil
import subprocess
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Imu, JointState, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger

from lebot_rl_ros.bringup.graph import Stack, walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.data.bag.recover import recover
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.convert import to_ns
from lebot_rl_ros.ros.recording_falls import FallWatch
from lebot_rl_ros.ros.recording_qos import described, request
from lebot_rl_ros.ros.recording_selection import Selection, make_selection
from lebot_rl_ros.ros.recording_topics import RecordingTopics
from ros_graph import ROOT, environment, fresh_domain, lebot, node_process, probe

rosbag2 = pytest.importorskip('rosbags.rosbag2', reason='the independent reader is not here')

PERIOD = load_robot().control_period_ns
WAITED_FOR = {'joint_states', 'imu/data', 'policy/steps'}  # listeners that are counted
COMPARED = {
    'joint_states': JointState,
    'imu/data': Imu,
    'joint_commands': JointState,
    'joint_commands_applied': JointState,
    'policy/steps': PointCloud2,
    'reward/rewards': PointCloud2,
}
WALK = {'policy': 'trot', 'vx': 0.1, 'record': True}
BEST = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


def read(folder):
    """A bag by the independent reader: connections by topic, and (log time, data) of each."""
    found = defaultdict(list)
    with rosbag2.Reader(folder) as bag:
        for connection, stamp, data in bag.messages():
            found[connection.topic].append((stamp, bytes(data)))
        connections = {connection.topic: connection for connection in bag.connections}
    assert {t: len(m) for t, m in found.items()} == {
        t: c.msgcount for t, c in connections.items() if c.msgcount
    }
    return connections, dict(found)


def stamps(messages):
    """Header stamps, ns, of serialized messages."""
    pairs = [np.frombuffer(data[4:12], '<u4') for _, data in messages]
    return [int(sec) * 10**9 + int(nanosec) for sec, nanosec in pairs]


def frames(messages):
    """What stands in header.frame_id; of joint_commands_applied that is the driver's mode."""
    return [data[16 : 15 + int.from_bytes(data[12:16], 'little')].decode() for _, data in messages]


def text(messages):
    """What String messages say."""
    return [data[8 : 7 + int.from_bytes(data[4:8], 'little')].decode() for _, data in messages]


def stack_of(folder, recorder=None, counted=0, **arguments):
    """A recorded walk; ``counted``: listeners of the test that are none of the graph's."""
    stack = walk_stack(WALK | {'record_folder': str(folder)} | arguments)
    nodes = []
    for spec in stack.nodes:
        parameters = dict(spec.parameters) | ((recorder or {}) if spec.name == 'recorder' else {})
        if 'wait_for_listeners' in parameters:
            parameters['wait_for_listeners'] += counted
        nodes.append(replace(spec, parameters=parameters))
    return Stack(tuple(nodes), stack.arguments)


# What is taken


def test_without_a_choice_the_namespace_is_taken_and_what_robots_share():
    mine = Selection('/lb', exclude='image_raw$')
    taken = ('/lb/joint_states', '/lb/camera/image_raw/compressed', '/lb/clock', '/diagnostics')
    assert all(map(mine, (*taken, '/rosout', '/tf', '/parameter_events')))
    left = ('/lb2/joint_states', '/other', '/lb/camera/image_raw', '/lb/_hidden', '/lb/_action/x')
    assert not any(map(mine, left))
    assert Selection('/')('/anything/at/all')


def test_a_list_is_taken_whatever_else_is_said_and_a_pattern_anywhere():
    chosen = make_selection(
        lambda name: name if name.startswith('/') else f'/lb/{name}',
        '/lb',
        ('odom', '/camera/image_raw'),
        exclude='raw|odom',
    )
    assert chosen('/lb/odom')
    assert chosen('/camera/image_raw')
    assert not chosen('/lb/imu/data')
    assert not chosen('/diagnostics')
    both = Selection('/lb', frozenset({'/lb/odom'}), 'imu|joint', 'applied')
    assert all(map(both, ('/lb/odom', '/x/imu/data')))
    assert not any(map(both, ('/lb/joint_commands_applied', '/rosout')))


def test_an_expression_that_is_none_is_named():
    with pytest.raises(ValueError, match=r"pattern is '\(', no regular expression: missing \)"):
        Selection(pattern='(')


@pytest.mark.parametrize(
    ('offered', 'reliable', 'latched'),
    [
        ([qos.OFFER], True, False),
        ([qos.OFFER, BEST], False, False),
        ([qos.LATCHED, qos.LATCHED], True, True),
        ([qos.LATCHED, qos.OFFER], True, False),
    ],
)
def test_what_is_asked_for_every_publisher_can_serve(offered, reliable, latched):
    asked = request('std_msgs/msg/String', offered)
    assert (asked.reliability == ReliabilityPolicy.RELIABLE) is reliable
    assert (asked.durability == DurabilityPolicy.TRANSIENT_LOCAL) is latched
    assert asked.depth >= 1000
    assert request('sensor_msgs/msg/Image', offered).depth < 100  # a thousand would be gigabytes


def test_profiles_are_told_in_the_words_of_rosbag2():
    told = described(qos.LATCHED)
    assert (told['history'], told['depth']) == ('keep_last', 1)
    assert (told['reliability'], told['durability']) == ('reliable', 'transient_local')
    assert told['deadline'] == {'sec': 0, 'nsec': 0}
    assert described(BEST)['reliability'] == 'best_effort'


class Graph:
    """A node in a graph that is made up."""

    def __init__(self, topics):
        self.topics, self.warned, self.callbacks = topics, [], {}

    def create_subscription(self, kind, name, callback, profile, *, raw):
        self.callbacks[name] = callback

    def get_topic_names_and_types(self):
        return [(name, types) for name, types in self.topics.items()]

    def get_publishers_info_by_topic(self, name):
        info = type('Info', (), {'topic_type_hash': '', 'qos_profile': BEST})
        return [
            type('Info', (info,), {'topic_type': kind, 'endpoint_gid': [i]})
            for i, kind in enumerate(self.topics[name])
        ]

    def get_logger(self):
        return type('Log', (), {'warning': lambda _, words: self.warned.append(words)})()


def test_a_type_that_is_not_installed_is_told_once_and_left_out():
    graph = Graph({'/a': ['foo_msgs/msg/Bar'], '/b': ['std_msgs/msg/None'], '/c': ['x', 'y']})
    topics = RecordingTopics(graph, lambda name: True, print, print, {})
    topics.look()
    topics.look()
    assert topics.listened == {}
    assert graph.warned == [
        '/a is not recorded: its type foo_msgs/msg/Bar is not installed',
        '/b is not recorded: its type std_msgs/msg/None is not installed',
        '/c is not recorded: it has several types: x, y',
    ]


def test_messages_keep_their_times_and_what_a_sender_left_out_is_counted():
    graph, taken = (
        Graph({'/one': ['std_msgs/msg/String'], '/two': ['std_msgs/msg/String'] * 2}),
        [],
    )
    topics = RecordingTopics(graph, lambda name: True, taken.append, lambda topic: None, {})
    topics.look()
    for number in (7, 8, 11, 12):
        information = {
            'received_timestamp': 100 + number,
            'source_timestamp': number,
            'publication_sequence_number': number,
        }
        for name, callback in graph.callbacks.items():
            callback((name.encode(), information))  # as Jazzy's events executor gives them
            callback(b'again', information | {'source_timestamp': 0})  # and the others
    one = [message for message in taken if message.topic == '/one']
    assert [(m.log_time, m.publish_time) for m in one[:2]] == [(107, 7), (107, 107)]
    assert [m.data for m in one[:2]] == [b'/one', b'again']
    assert topics.listened['/one'].lost == 0  # not before it is known that nobody else sends
    topics.review()
    assert topics.listened['/one'].lost == 2
    assert topics.listened['/two'].lost == 0  # whose numbers they are cannot be told


def test_a_driver_tells_of_falls_and_faults_once_each():
    watch = FallWatch('/lb')

    def said(level=0, name='/lb/sim', **values):
        pairs = [type('Pair', (), {'key': k, 'value': v}) for k, v in values.items()]
        status = type('S', (), {'name': name, 'values': pairs, 'level': bytes([level])})
        return watch.hear(type('Array', (), {'status': [status]}))

    assert said(run_s='0.0', falls='0', fault='') == ''
    assert not watch.running
    assert said(run_s='2.0', falls='0', fault='') == ''
    assert watch.running
    assert said(name='/other/sim', falls='9') == ''
    assert (
        said(2, run_s='3.0', falls='1', fault='the robot fell: 80 deg') == 'the robot fell: 80 deg'
    )
    assert said(2, run_s='3.1', falls='1', fault='the robot fell: 80 deg') == ''
    assert said(0, run_s='5.0', falls='1', fault='') == ''
    assert said(1, run_s='6.0', falls='2', fault='') == 'fell'
    assert said(1, run_s='9.0', falls='2', fault='the run is complete') == ''


@pytest.mark.parametrize('backend', ['mujoco', 'wire', 'hardware'])
@pytest.mark.parametrize('learn', [False, True])
def test_a_graph_with_a_recorder_waits_for_it_and_ends_it_last(backend, learn):
    plain, recorded = (
        walk_stack({'record': record, 'backend': backend, 'learn': learn})
        for record in (False, True)
    )
    before, after = ({s.name: s for s in stack.nodes} for stack in (plain, recorded))
    assert not before['recorder'].condition
    assert [s.name for s in recorded.nodes if s.ends_last] == ['recorder']
    for name in (recorded.driver, 'policy'):
        waits = [of[name].parameters['wait_for_listeners'] for of in (before, after)]
        assert waits[1] == waits[0] + (backend != 'hardware' or name == 'policy')
    topics = [of[recorded.driver].parameters['lockstep_topics'] for of in (before, after)]
    assert set(topics[1]) - set(topics[0]) == {names.RECORDER_PROGRESS}
    expected = {s.name for s in recorded.nodes if s.condition} - {'recorder'}
    assert set(after['recorder'].parameters['wait_for']) == expected
    assert ('learner' in expected) is learn
    assert json.loads(after['recorder'].parameters['arguments'])['backend'] == backend


# With real processes


def count_in(listening):
    """Listen where a driver and a policy count listeners, beside `joint_states`."""
    listening.listen(Imu, 'imu/data', 1000)
    listening.listen(PointCloud2, 'policy/steps', 1000)


def fill(file):
    """Write until there is no room."""
    with suppress(OSError):
        while True:
            file.write(os.urandom(1 << 12))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB, or a reason why not."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    done = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', str(disk)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f'no small disk can be mounted here: {done.stderr.decode().strip()}')
    yield disk
    subprocess.run(['umount', '-l', str(disk)], check=True)


@pytest.mark.parametrize('factor', [0.0, 1.0])
def test_a_bag_has_all_that_was_published_to_the_last_message(tmp_path, factor):
    domain, folder, hashes = fresh_domain(), tmp_path / 'bag', {}
    stack = stack_of(folder, counted=1, real_time_factor=factor, duration=3)
    with probe(domain) as listening:
        heard = {name: listening.listen(kind, name, 1000) for name, kind in COMPARED.items()}
        with Runner(stack, tmp_path / 'logs', print, environment(domain)) as runner:
            sim = runner.processes['sim'].popen

            def ended():
                for name, _ in listening.node.get_topic_names_and_types():
                    for info in listening.node.get_publishers_info_by_topic(name):
                        hashes[name] = (info.topic_type, str(info.topic_type_hash))
                return sim.poll() is not None

            listening.until(lambda: len(heard['policy/steps']) > 20, 'a walk', 40.0)
            listening.until(ended, 'the end of the run', 40.0)
            assert runner.stop() == []
        listening.within(0.3, lambda: False)
    connections, messages = read(folder)
    for name in COMPARED:
        said = Counter(to_ns(message.header.stamp) for message in heard[name])
        kept = Counter(stamps(messages[f'/{name}']))
        # The first state is sent again until all are there, and who comes first hears more.
        said.pop(0, 0), kept.pop(0, 0)
        # The test may be heard late by whoever does not wait for it, and misses a beginning, or
        # without real time all of so short a run.
        late = min(said, default=math.inf)
        assert said or name not in WAITED_FOR, name
        assert {stamp: n for stamp, n in kept.items() if stamp >= late} == said, name
        assert len(kept) > 140, name
    assert stamps(messages['/reward/rewards']) == stamps(messages['/policy/steps'])
    states = sorted(set(stamps(messages['/joint_states'])))
    assert states == list(range(0, states[-1] + 1, PERIOD))
    assert states[-1] > 3 * 10**9  # and the crouch behind it
    assert sorted(set(stamps(messages['/ground_truth/odom']))) == states
    log = [stamp for stamp, _ in messages['/joint_states']]
    assert log == sorted(log)
    assert abs(log[-1] / 1e9 - time.time()) < 60.0
    assert {'/clock', '/ground_truth/odom', '/odom', '/cmd_vel', '/rosout'} <= set(messages)
    assert text(messages['/policy/active_adapter'])[0].startswith('{"name"')
    assert '/recorder/progress' not in connections
    for name, connection in connections.items():
        if name in hashes:
            assert (connection.msgtype, f'RIHS01_{connection.digest[7:]}') == hashes[name]
    if factor:  # without real time the run can be over before all were discovered
        assert len(set(hashes) & set(connections)) >= 14


def test_lebot_walk_says_where_the_bag_is_and_what_it_knows_of_the_run(tmp_path):
    walk = ('walk', '--record', '--policy', 'walk', '--cmd', '0.2', '0', '--duration', '2')
    done = lebot(
        *walk, '--real-time-factor', '0', '--namespace', 'lb', '--out', str(tmp_path), '--json',
        str(tmp_path / 'r.json'), '--record-exclude', 'terms', '--record-split', '0.2',
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    connections, messages = read(tmp_path / 'bag')
    (bag,) = json.loads((tmp_path / 'r.json').read_text())['bags']
    assert bag['path'] == str(tmp_path / 'bag')
    assert bag['messages'] == sum(map(len, messages.values()))
    assert (bag['topics'], bag['trouble']) == (len(messages), '')
    assert f'bag {tmp_path / "bag"}: {bag["messages"]} messages' in done.stdout
    assert f'next: lebot bag info {tmp_path / "bag"}' in done.stdout
    steps = stamps(messages['/lb/policy/steps'])
    ticks = json.loads((tmp_path / 'r.json').read_text())['ticks']
    assert [s for s in steps if s < 2 * 10**9] == list(range(0, ticks * PERIOD, PERIOD))
    assert '/lb/reward/terms' not in connections
    known = {name for name in connections if not name.startswith('/lb/')}
    assert known <= {'/diagnostics', '/rosout', '/parameter_events', '/tf', '/tf_static'}
    files = sorted((tmp_path / 'bag').glob('*.mcap'))
    latched = text(messages['/lb/policy/active_adapter'])
    assert len(latched) == len(files) > 1  # each file begins with it
    run = metadata(files[0])
    assert run['policy'] == 'walk'
    assert run['policy_sha256'] == json.loads(latched[0])['base_sha256']
    assert json.loads(run['arguments'])['vx'] == 0.2
    assert json.loads(run['parameters'])['/lb/sim']['duration'] == 2.0
    assert json.loads(run['parameters'])['/lb/policy']['policy'] == 'walk'
    assert run['robot'].startswith('# What LeBot is')
    assert set(run) == {
        'version', 'git_revision', 'started', 'robot', 'policy', 'policy_sha256', 'adapter',
        'parameters', 'arguments',
    }  # fmt: skip


def metadata(file):
    """What a file says of its run, by another independent reader."""
    from mcap.reader import make_reader

    with file.open('rb') as stream:
        records = [r for r in make_reader(stream).iter_metadata() if r.name == 'lebot_rl_ros']
    return records[-1].metadata


def test_with_a_ring_nothing_is_written_but_the_seconds_about_a_fall(tmp_path):
    done = lebot(
        'walk', '--record', '--record-ring', '60', '--policy', 'trot', '--cmd', '0.1', '0',
        '--real-time-factor', '0', '--duration', '6', '--out', str(tmp_path), '--quiet',
        '--fault', 'slip:fl_hip:1.2@2', '--fault', 'slip:rl_hip:1.2@2',
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    (folder,) = (tmp_path / 'bag').iterdir()
    assert f'bag {folder}' in done.stdout
    _, messages = read(folder)
    modes = frames(messages['/joint_commands_applied'])
    assert (modes[75], modes[-1]) == ('track', 'relaxed')
    assert stamps(messages['/joint_states'])[0] == 0  # a minute of the wall clock holds it all
    assert 'fell' in metadata(next(folder.glob('*.mcap')))['saved_because']


def test_kill_9_costs_no_more_than_two_seconds_and_the_walk_goes_on(tmp_path):
    domain, folder, events = fresh_domain(), tmp_path / 'bag', []
    arrived = []
    with probe(domain) as listening:
        listening.node.create_subscription(
            JointState,
            'joint_states',
            lambda message: arrived.append((time.time(), to_ns(message.header.stamp))),
            1000,
        )
        count_in(listening)
        stack = stack_of(folder, counted=1)
        with Runner(stack, tmp_path / 'logs', events.append, environment(domain)) as runner:

            def beyond(stamp):
                runner.poll()
                assert not runner.failed
                return bool(arrived) and arrived[-1][1] > stamp

            listening.until(lambda: beyond(4 * 10**9), 'four seconds of walking', 60.0)
            runner.processes['recorder'].popen.kill()
            killed = time.time()
            last = arrived[-1][1]
            listening.until(lambda: beyond(last + 10**9), 'a second more')
            listening.until(lambda: 'recorder was started again' in ' '.join(
                [*events, *(beyond(0) * [''])]), 'another recorder')  # fmt: skip
            again = tmp_path / 'bag_2'
            listening.until(lambda: beyond(0) and (again / 'bag_2_0.mcap').exists(), 'its bag')
            mark = arrived[-1][1]
            listening.until(lambda: beyond(mark + 5 * 10**8), 'half a second in it')
            assert runner.stop() == []
    shutil.copytree(folder, tmp_path / 'torn')
    with pytest.raises(FileNotFoundError, match='Expected metadata file'):
        read(tmp_path / 'torn')
    recover(folder)
    kept = stamps(read(folder)[1]['/joint_states'])
    assert sorted(set(kept)) == list(range(0, kept[-1] + 1, PERIOD))
    # The kill may fall just before the disk has a second's worth, and that takes its time.
    assert kept[-1] >= max(stamp for at, stamp in arrived if at < killed - 2.0)
    assert stamps(read(again)[1]['/joint_states'])[-1] >= mark


def test_a_full_disk_ends_the_bag_and_not_the_walk(tmp_path, small_disk):
    domain, folder = fresh_domain(), small_disk / 'bag'
    stack = stack_of(folder, {'free': 1}, counted=1, lockstep=True, real_time_factor=2.0)
    with probe(domain) as listening:
        states = listening.listen(JointState, 'joint_states', 1000)
        count_in(listening)

        def health(node, key):
            return listening.health.get(node, (0, '', {}))[2].get(key, '')

        def walked(stamp):
            return states and to_ns(states[-1].header.stamp) > stamp

        with Runner(stack, tmp_path / 'logs', print, environment(domain)) as runner:
            listening.until(lambda: walked(3 * 10**9), 'three seconds of walking', 60.0)
            assert health('/recorder', 'state') in ('recording', '')
            filler = (small_disk / 'filler').open('wb', buffering=0)
            fill(filler)
            listening.until(lambda: health('/recorder', 'state') == 'full', 'that it stops')
            reason = listening.health['/recorder'][1]
            assert reason.startswith(f'no longer recording into {folder}: ')
            assert listening.health['/recorder'][0] == 1  # a warning
            mark = to_ns(states[-1].header.stamp)
            listening.until(lambda: walked(mark + 3 * 10**9), 'that it walks on')
            listening.until(lambda: float(health('/sim', 'run_s') or 0) * 1e9 > mark, 'a word')
            assert health('/sim', 'missed_ticks') == '0'
            assert 'dropped/joint_states' in listening.health['/recorder'][2]
            filler.close()
            assert runner.stop() == []
    kept = sorted(set(stamps(read(folder)[1]['/joint_states'])))
    assert kept == list(range(0, kept[-1] + 1, PERIOD))
    assert kept[-1] >= 2 * 10**9
    assert 'no longer recording' in (tmp_path / 'logs' / 'recorder.log').read_text()


def test_services_and_topics_that_come_later(tmp_path):
    domain, folder = fresh_domain(), tmp_path / 'bag'
    with probe(domain) as talking:
        node = talking.node
        latched = node.create_publisher(String, 'latched', qos.LATCHED)
        latched.publish(String(data='before'))
        plain = node.create_publisher(String, 'plain', 10)
        with node_process(domain, 'recorder', folder=folder, patience=1.0):

            def say(publisher, count):
                talking.until(publisher.get_subscription_count, 'the recorder')
                for i in range(count):
                    publisher.publish(String(data=str(i)))

            def call(verb):
                return talking.call(Trigger, f'recorder/{verb}')

            talking.until(
                lambda: talking.health.get('/recorder', (1, ''))[1] == 'recording', 'a recording'
            )
            say(plain, 5)
            later = node.create_publisher(String, 'later', BEST)
            say(later, 1)
            answer = call('start')
            assert (answer.success, 'already' in answer.message) == (False, True)
            answer = call('save')
            assert (answer.success, 'ring is 0' in answer.message) == (False, True)
            # What is said just before may be on its way: DDS promises no order among topics.
            assert plain.wait_for_all_acked()
            assert 'file 2' in call('split').message
            say(plain, 7)
            assert plain.wait_for_all_acked()
            answer = call('stop')
            assert answer.success
            assert answer.message.startswith(f'{folder}: ')
            assert 'in 2 files' in answer.message
            assert not call('split').success
            assert call('stop').message == 'nothing is being recorded'
            say(plain, 100)
            assert plain.wait_for_all_acked()
            assert call('start').message == str(tmp_path / 'bag_2')
            say(plain, 3)
            later.publish(String(data='more'))
            second = node.create_publisher(String, 'plain', BEST)  # reliable no longer fits all
            talking.until(second.get_subscription_count, 'that less is asked for')
            second.publish(String(data='second'))
            talking.within(0.3, lambda: False)
    connections, messages = read(folder)
    assert text(messages['/plain']) == [*map(str, range(5)), *map(str, range(7))]
    assert text(messages['/latched']) == ['before', 'before']  # at the start of each file
    assert text(messages['/later']) == ['0']
    profile = connections['/later'].ext.offered_qos_profiles[0]
    assert profile.reliability.name.lower() == 'best_effort'
    _, messages = read(tmp_path / 'bag_2')
    assert text(messages['/plain']) == ['0', '1', '2', 'second']
    assert text(messages['/latched']) == ['before']
    assert text(messages['/later']) == ['more']


def test_without_room_nothing_is_begun_and_the_reason_is_told(tmp_path):
    domain = fresh_domain()
    with (
        node_process(domain, 'recorder', folder=tmp_path / 'bag', free=1_000_000),
        probe(domain) as listening,
    ):
        listening.until(
            lambda: 'not recording: ' in listening.health.get('/recorder', (0, ''))[1], 'a reason'
        )
        assert listening.health['/recorder'][0] == 1
        answer = listening.call(Trigger, 'recorder/start')
        assert not answer.success
        assert 'less than the' in answer.message
    assert not (tmp_path / 'bag').exists()


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'pattern': "'['"}, "pattern is '[', no regular expression"),
        ({'compression': 'zip'}, "compression is 'zip'; choices are zstd, lz4, none"),
        ({'robot': 'spot'}, 'spot'),
    ],
)
def test_parameters_that_cannot_be_are_refused(tmp_path, parameters, message):
    with node_process(fresh_domain(), 'recorder', folder=tmp_path, **parameters) as process:
        assert process.wait(20) == 2
        assert message in process.stdout.read()


def test_the_page_about_ros2_names_what_the_recorder_offers():
    page = (ROOT / 'docs' / 'ros2.md').read_text()
    for name in (names.RECORDER_PROGRESS, names.START_RECORDING, names.SAVE_RECORDING):
        assert f'`{name}`' in page
