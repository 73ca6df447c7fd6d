"""Bags onto DDS: the same octets, in time, never to a driven robot; and to a policy under test."""

import math
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import String

from lebot_rl_ros.cli.main import main
from lebot_rl_ros.data.bag.feeding import Roles, header_stamp, restamped, ticks
from lebot_rl_ros.data.bag.playing import Beat, Lateness, Schedule, parse_remaps, remapped
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.convert import ImuMessage, JointMessage, set_stamp, to_ns
from lebot_rl_ros.ros.player_topics import offered
from recorded_walk import SECONDS, recorded_walk
from ros_graph import ROOT, environment, fresh_domain, lebot, node_process, probe

ROBOT = load_robot()
T0 = 1_700_000_000_000_000_000
MS = 1_000_000
LATCH = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
UNRELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = ({'durability': 'transient_local', 'depth': 1},)
BEST = ({'reliability': 'best_effort', 'depth': 1},)
KINDS = {
    '/joint_states': 'sensor_msgs/msg/JointState', '/joint_commands': 'sensor_msgs/msg/JointState',
    '/joint_commands_applied': 'sensor_msgs/msg/JointState', '/imu/data': 'sensor_msgs/msg/Imu',
    '/cmd_vel': 'geometry_msgs/msg/TwistStamped', '/clock': 'rosgraph_msgs/msg/Clock',
}  # fmt: skip
CLASSES = {JointState: '/joint_states', Imu: '/imu/data', TwistStamped: '/cmd_vel'}


# When a message is due


def test_deadlines_are_reckoned_from_the_beginning():
    schedule = Schedule(T0, 2.0, 100.0)
    assert schedule.due(T0) == 100.0
    assert schedule.due(T0 + 3 * 10**9) == 101.5
    day = 24 * 3600 * 10**9
    assert schedule.due(T0 + day) == 100.0 + 12 * 3600
    assert schedule.log_time(101.5) == T0 + 3 * 10**9
    assert Schedule(T0, 0.1, 0.0).due(T0 + 10**9) == pytest.approx(10.0)
    for rate in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(BagError, match='rate is'):
            Schedule(T0, rate, 0.0)


def test_clock_and_words_come_at_their_times_and_late_ones_are_not_made_up_for():
    beat = Beat(10.0, 4.0)
    assert beat.due(10.0)
    assert beat(10.0) == (True, False)
    assert beat.next == 10.25
    assert beat(10.2) == (False, False)
    assert beat(10.25) == (True, False)
    assert beat(11.9) == (True, True)  # five ticks late: one
    assert beat.next == 12.0
    assert beat(12.0) == (True, True)
    silent = Beat(0.0, 0.0)
    assert not silent.due(0.99)
    assert silent(1.0) == (False, True)
    assert silent.next == 2.0


def test_lateness_by_hand():
    late = Lateness()
    assert all(math.isnan(value) for value in late.quantiles(50, 99))
    for value in range(101):
        late.add(value / 1000)
    assert late.quantiles(50, 99) == pytest.approx((0.050, 0.099))
    assert late.count == 101


def test_names_are_moved_one_by_one_or_by_namespace():
    remaps = parse_remaps(['/a:=/b', '/left/:=/right/', '/left/odom:=/path', '/:=/old/'])
    moved = {n: remapped(n, remaps) for n in ('/a', '/left/x/y', '/left/odom', '/c')}
    assert moved == {
        '/a': '/b', '/left/x/y': '/right/x/y', '/left/odom': '/path', '/c': '/old/c',
    }  # fmt: skip
    assert remapped('/a', {}) == '/a'
    for bad, said in (
        ('a:=/b', 'absolute names'), ('/a', 'absolute names'), ('/a/:=/b', 'at the end of both'),
    ):  # fmt: skip
        with pytest.raises(BagError, match=said):
            parse_remaps([bad])
    with pytest.raises(BagError, match='remap of /a is given twice'):
        parse_remaps(['/a:=/b', '/a:=/c'])


def test_what_is_offered_serves_every_listener_that_was_served():
    def profile(*qos):
        found = offered(Topic('/a', 'x', qos))
        return found.reliability.name, found.durability.name, found.depth

    assert profile() == ('RELIABLE', 'VOLATILE', 100)
    assert profile(*BEST) == ('BEST_EFFORT', 'VOLATILE', 100)
    assert profile(*BEST, {'depth': 500}) == ('RELIABLE', 'VOLATILE', 500)
    assert profile(*LATCHED) == ('RELIABLE', 'TRANSIENT_LOCAL', 100)


# Ticks of a policy


def say(topic, log, stamp, kind=JointState, **fields):
    message = kind(**fields)
    set_stamp(message.header.stamp, stamp)
    return Message(topic, T0 + log, T0 + log, serialize_message(message))


ROLES = Roles('/joint_states', '/imu/data', '/joint_commands_applied', '/cmd_vel',
              '/joint_commands')  # fmt: skip
STATE, COMMAND, APPLIED, IMU, WISH = (
    ROLES.state,
    ROLES.command,
    ROLES.applied,
    ROLES.imu,
    '/cmd_vel',
)


def shape(found):
    return [
        (t.stamp, [(m.topic, header_stamp(m)) for m in t.before], t.expected is not None)
        for t in found
    ]


def test_stamps_are_read_and_moved_in_both_byte_orders():
    message = say('/a', 0, 12 * 10**9 + 34)
    assert header_stamp(message) == 12 * 10**9 + 34
    moved = restamped(message.data, 5 * 10**9)
    assert header_stamp(Message('/a', 0, 0, moved)) == 17 * 10**9 + 34
    assert (moved[:4], moved[12:]) == (message.data[:4], message.data[12:])
    big = b'\0\0\0\0' + (12).to_bytes(4, 'big') + (34).to_bytes(4, 'big') + b'tail'
    assert header_stamp(Message('/a', 0, 0, big)) == 12 * 10**9 + 34
    assert restamped(big, -(2 * 10**9)) == big[:7] + b'\x0a' + big[8:]
    with pytest.raises(BagError, match='/a: a message of 11 octets has no header'):
        header_stamp(Message('/a', 0, 0, big[:11]))


def test_ticks_are_put_together_by_stamps_whatever_the_recorder_heard_first():
    heard = [
        say(WISH, 0, 0, TwistStamped),
        say(STATE, 1, 0), say(IMU, 2, 0, Imu), say(STATE, 3, 0),  # sent again; IMU behind it
        say(COMMAND, 5, 0),
        say(APPLIED, 6, 0), say(STATE, 7, 20), say(APPLIED, 8, 20),  # before its command
        say(IMU, 8, 20, Imu), say(IMU, 8, 40, Imu),
        say(COMMAND, 9, 20), say(COMMAND, 9, 20),
        say(WISH, 10, 7, TwistStamped),
        say(STATE, 11, 40), say(COMMAND, 12, 40),
        say(WISH, 13, 8, TwistStamped),
    ]  # fmt: skip
    assert shape(ticks(heard, ROLES)) == [
        (0, [(WISH, 0), (IMU, 0)], True),
        (20, [(APPLIED, 0), (IMU, 20)], True),
        (40, [(APPLIED, 20), (IMU, 40), (WISH, 7)], True),
    ]


def test_a_recorder_that_hears_one_topic_late_changes_nothing():
    heard = [
        m for n in range(100) for m in (
            say(IMU, 20 * MS * n, n, Imu), say(STATE, 20 * MS * n + 1, n),
            say(COMMAND, 20 * MS * n + 2, n), say(APPLIED, 20 * MS * n + 3, n),
        )
    ]  # fmt: skip
    lags = {STATE: 400 * MS, IMU: 900 * MS, COMMAND: 0, APPLIED: 30 * MS}
    late = [replace(m, log_time=m.log_time + lags[m.topic]) for m in heard]
    late.sort(key=lambda message: message.log_time)
    found = shape(ticks(late, ROLES))
    assert found == shape(ticks(heard, ROLES))
    assert found[7] == (7, [(APPLIED, 6), (IMU, 7)], True)
    assert len(found) == 100


def test_states_that_were_not_answered_are_left_out_but_not_what_came_with_them():
    heard = [
        *(say(topic, 10 * n + later, 20 * n) for n in range(5)
          for topic, later in ((STATE, 0), (APPLIED, 3))),
        say(COMMAND, 44, 80),
        *(say(STATE, 100 + n, 100 + 20 * n) for n in range(60)),
        say(COMMAND, 170, 100 + 20 * 59), say(COMMAND, 171, 100),  # that one waited too long
    ]  # fmt: skip
    assert shape(ticks(heard, ROLES)) == [
        (80, [(APPLIED, 0), (APPLIED, 20), (APPLIED, 40), (APPLIED, 60)], True),
        (1280, [(APPLIED, 80)], True),
    ]


def test_a_bag_without_commands_gives_all_states_and_a_reset_does_not_stop_it():
    roles = Roles(STATE, IMU, APPLIED, '', '')
    far = 50 * 10**9
    heard = [
        say(STATE, 1, far), say(IMU, 2, far, Imu), say(APPLIED, 3, far),
        say(STATE, 4, 0), say(IMU, 5, 0, Imu), say(APPLIED, 6, 0), say(STATE, 7, 20),
    ]  # fmt: skip
    assert shape(ticks(heard, roles)) == [
        (far, [(IMU, far)], False),
        (0, [(APPLIED, far), (IMU, 0)], False),
        (20, [(APPLIED, 0)], False),
    ]


def test_what_is_sent_as_bytes_ends_where_the_message_ends():
    """Strict readers refuse octets behind the end, which rclpy leaves behind empty arrays."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for names in (['a'], ['a', 'bc'], ['a', 'bcd', 'ef']):
        message = JointMessage(names, frame_id='track')
        message.position[:] = range(len(names))
        data = message.serialized()
        found = store.deserialize_cdr(data, KINDS['/joint_states'])
        assert found.position.tolist() == list(range(len(names)))
        assert (found.name, found.header.frame_id, len(found.effort)) == (names, 'track', 0)
        message = JointMessage(names, full=True)
        assert len(store.deserialize_cdr(message.serialized(), KINDS['/joint_states']).effort)
    store.deserialize_cdr(ImuMessage('imu').serialized(), KINDS['/imu/data'])


# A graph


def write(folder, messages, topics):
    with BagWriter(folder) as writer:
        for name, (kind, qos) in topics.items():
            writer.add(Topic(name, kind, qos))
        for message in messages:
            writer.write(message)
    return str(folder)


def words(folder, count=30, every=10):
    """A bag of text: one latched word at first, and others 10 ms apart."""
    texts = [(f'/words/{"ab"[n % 2]}', n * every, f'word {n}') for n in range(count)]
    messages = [
        Message(name, T0 + ms * MS, T0 + ms * MS, serialize_message(String(data=text)))
        for name, ms, text in (('/latched', 0, 'first'), *texts)
    ]
    kind = 'std_msgs/msg/String'
    topics = {'/words/a': (kind, ()), '/words/b': (kind, BEST), '/latched': (kind, LATCHED)}
    return write(folder, messages, topics), messages


def motion(folder, seconds=1.0):
    """A bag of all that could move a robot, 50 Hz."""
    messages = []
    for n in range(round(50 * seconds)):
        for name in ('/imu/data', '/joint_states', '/joint_commands', '/cmd_vel'):
            kind = {'/imu/data': Imu, '/cmd_vel': TwistStamped}.get(name, JointState)
            messages.append(say(name, n * 20 * MS, n * 20 * MS, kind))
    return write(folder, messages, {name: (KINDS[name], ()) for name in KINDS if name != '/clock'})


class Hearing(list):
    """Octets of a topic, in the order in which they came; DDS fills them up to words."""

    def __init__(self, listening, kind, topic, qos=1000):
        super().__init__()
        listening.node.create_subscription(
            kind, topic, lambda data: self.append(bare(data)), qos, raw=True
        )


def bare(data):
    """Octets of a text without what DDS fills them up with."""
    return data.rstrip(b'\0')


@contextmanager
def played(domain, *words):
    """`lebot bag play`, while the test listens; gives what it will have said."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lebot, 'bag', 'play', *words, domain=domain)


def test_every_octet_is_published_with_its_qos_and_under_its_new_name(tmp_path):
    bag, messages = words(tmp_path / 'bag')
    domain = fresh_domain()
    with probe(domain) as listening:
        heard = {
            '/words/a': Hearing(listening, String, '/moved/a'),
            '/words/b': Hearing(listening, String, '/other', UNRELIABLE),
        }
        remaps = ['--remap', '/words/:=/moved/', '/words/b:=/other']
        with played(domain, bag, *remaps, '--wait-for', 'words/*', '--rate', '0.5') as done:
            listening.until(lambda: len(heard['/words/a']) == 15, 'all words')
            listening.until(lambda: len(heard['/words/b']) == 15, 'all other words')
            infos = listening.node.get_publishers_info_by_topic('/latched')
            late = Hearing(listening, String, '/latched', LATCH)
            result = done.result()
        assert result.returncode == 0, result.stderr
        assert '31 messages played, late by' in result.stdout
        for topic, octets in heard.items():
            assert octets == [bare(m.data) for m in messages if m.topic == topic]
    assert not late or late == [bare(messages[0].data)]
    assert all(one.qos_profile.durability.name == 'TRANSIENT_LOCAL' for one in infos)


def test_what_was_latched_before_is_heard_also_from_the_middle_on(tmp_path):
    bag, messages = words(tmp_path / 'bag')
    domain = fresh_domain()
    with probe(domain) as listening:
        latched = Hearing(listening, String, '/latched', LATCH)
        rest = Hearing(listening, String, '/words/a')
        part = ['--from', '0.2', '--to', '0.25', '--wait-for', '/latched', '/words/a']
        with played(domain, bag, *part, '--exclude', 'words/b') as done:
            listening.until(lambda: len(rest) == 3, 'the words of a stretch')
            listening.until(lambda: latched, 'what was latched')
        assert 'messages played' in done.result().stdout
    assert latched == [bare(messages[0].data)]
    assert rest == [bare(messages[n + 1].data) for n in (20, 22, 24)]


def test_the_clock_is_published_and_goes_as_fast_as_asked(tmp_path):
    bag, _ = words(tmp_path / 'bag', count=40, every=20)
    domain = fresh_domain()
    with probe(domain) as listening:
        heard = listening.listen(Clock, '/clock', 1000)
        text = Hearing(listening, String, '/words/a')
        with played(
            domain, bag, '--clock', '50', '--rate', '0.5', '--wait-for', 'words/a'
        ) as done:
            listening.until(lambda: len(text) == 20, 'the words')
            result = done.result()
        assert result.returncode == 0, result.stderr
        listening.within(0.2, lambda: False)
    times = [to_ns(message.clock) for message in heard]
    assert len(times) > 20
    assert times == sorted(set(times))
    assert T0 <= times[0] < times[-1] <= T0 + 10**9
    steps = np.array([b - a for a, b in pairwise(times)])
    assert np.median(steps) == pytest.approx(10 * MS, rel=0.2), '50 Hz at half the speed'


def test_a_loop_goes_on_until_it_is_interrupted(tmp_path):
    bag, messages = words(tmp_path / 'bag', count=4)
    domain = fresh_domain()
    command = [sys.executable, '-m', 'lebot_rl_ros.cli.main', 'bag', 'play', bag, '--loop',
               '--wait-for', 'words/a']  # fmt: skip
    with probe(domain) as listening:
        heard = Hearing(listening, String, '/words/a')
        popen = subprocess.Popen(
            command, env=environment(domain), cwd=ROOT, text=True, stdout=subprocess.PIPE
        )
        try:
            listening.until(lambda: len(heard) >= 7, 'the words four times')
            popen.send_signal(signal.SIGINT)
            said, _ = popen.communicate(timeout=20)
        finally:
            popen.kill()
            popen.wait()
    assert popen.returncode == 130
    assert 'messages played' in said
    assert heard[:6] == [bare(messages[n].data) for n in (1, 3, 1, 3, 1, 3)]


def test_stamps_are_moved_to_now_all_by_the_same_cycles_of_the_gait(tmp_path):
    bag = motion(tmp_path / 'bag', 0.4)
    domain = fresh_domain()
    with probe(domain) as listening:
        heard = {kind: listening.listen(kind, name) for kind, name in CLASSES.items()}
        before = listening.node.get_clock().now().nanoseconds
        names = [*CLASSES.values()]
        with played(domain, bag, '--restamp', '--topics', *names, '--wait-for', *names) as done:
            listening.until(lambda: all(len(h) == 20 for h in heard.values()), 'all messages')
            assert done.result().returncode == 0
        after = listening.node.get_clock().now().nanoseconds
    for kind, messages in heard.items():
        stamps = [to_ns(message.header.stamp) for message in messages]
        if kind is TwistStamped:
            assert stamps[0] == 0, 'who commanded did not know the time'
            stamps[0] = stamps[1] - 20 * MS
        (shift,) = {stamp - n * 20 * MS for n, stamp in enumerate(stamps)}
        assert shift % (400 * MS) == 0, f'{kind}: the gait has 2.5 Hz'
        assert before < shift < after


# A robot


@contextmanager
def driver(domain, name='joint_states'):
    """A node that says what the joints do."""
    with probe(domain) as listening:
        publisher = listening.node.create_publisher(JointState, name, 10)
        stop = threading.Event()

        def speak():
            while not stop.wait(0.02):
                publisher.publish(JointState())

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            yield listening
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize('topics', [['joint_commands'], ['cmd_vel'], ['imu/data']])
def test_nothing_that_could_move_a_robot_is_played_where_one_is_driven(tmp_path, topics):
    bag = motion(tmp_path / 'bag')
    domain = fresh_domain()
    with driver(domain) as listening:
        kind = {'imu/data': Imu, 'cmd_vel': TwistStamped}.get(topics[0], JointState)
        heard = Hearing(listening, kind, f'/{topics[0]}')
        done = lebot('bag', 'play', bag, '--topics', *topics, domain=domain)
        listening.within(0.3, lambda: False)
    assert done.returncode == 2
    assert f'/probe drives a robot here, which may be a real one: /{topics[0]}' in done.stderr
    assert '--force' in done.stderr
    assert not heard


def test_force_and_other_names_play_it_all_the_same(tmp_path):
    bag = motion(tmp_path / 'bag', 0.2)
    domain = fresh_domain()
    with driver(domain, 'joint_commands_applied') as listening:
        heard = Hearing(listening, JointState, '/joint_commands')
        only = ['--topics', 'joint_commands', '--wait-for', 'joint_commands']
        with played(domain, bag, *only, '--force') as done:
            listening.until(lambda: len(heard) == 10, 'the commands')
            assert done.result().returncode == 0
        moved = Hearing(listening, JointState, '/old/joint_commands')
        with played(domain, bag, *only, '--remap', '/:=/old/') as done:
            listening.until(lambda: len(moved) == 10, 'the commands under another name')
            assert done.result().returncode == 0
    assert len(heard) == 10


def test_a_driver_that_joins_later_ends_it(tmp_path):
    bag = motion(tmp_path / 'bag', 60.0)
    domain = fresh_domain()
    with probe(domain) as listening:
        heard = Hearing(listening, JointState, '/joint_commands')
        with played(domain, bag, '--topics', 'joint_commands') as done:
            listening.until(lambda: heard, 'the first command')
            publisher = listening.node.create_publisher(JointState, 'joint_states', 10)
            result = done.result()
        publisher.publish(JointState())
    assert result.returncode == 2
    assert 'stopped: /probe drives a robot here' in result.stderr
    assert len(heard) < 50 * 40


@pytest.mark.parametrize('given, message', [
    (['--rate', '0'], '--rate is 0, must be positive'),
    (['--clock', '-1'], '--clock is -1 Hz'),
    (['--topics', 'nothing'], "no topic 'nothing'"),
    (['--remap', 'a:=b'], "remap 'a:=b': expected /OLD:=/NEW"),
    (['--feed', 'policy', '--loop'], '--feed plays the inputs of a policy, once'),
    (['--feed', 'policy'], 'no topic joint_commands_applied'),
    (['--from', '100'], 'nothing lies from 100 s'),
    (['--wait-for', 'words/a', '--patience', '0.3'], 'nobody listens to /words/a: waited 0.3 s'),
])  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path, capfd, monkeypatch, given, message):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(fresh_domain()))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    bag, _ = words(tmp_path / 'bag', count=3)
    assert main(['bag', 'play', bag, *given]) == 2
    assert message in capfd.readouterr().err


def test_a_clock_of_the_bag_and_records_stand_against_what_was_asked(tmp_path, capsys):
    data = serialize_message(Clock())
    topics = {'/clock': (KINDS['/clock'], ()), '/x/policy/steps': (KINDS['/imu/data'], ())}
    bag = write(tmp_path / 'bag', [Message('/clock', T0, T0, data)], topics)
    assert main(['bag', 'play', bag, '--clock', '10']) == 2
    assert 'the bag has its own /clock' in capsys.readouterr().err
    assert main(['bag', 'play', bag, '--restamp']) == 2
    assert '/x/policy/steps: rows have stamps of their own' in capsys.readouterr().err


def test_topics_of_types_that_are_not_here_are_left_out_and_named(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(fresh_domain()))
    with BagWriter(tmp_path / 'bag') as writer:
        writer.add(Topic('/odd', 'odd_msgs/msg/Odd', definition='int32 x\n', hash='RIHS01_00'))
        writer.add(Topic('/word', 'std_msgs/msg/String'))
        for name in ('/odd', '/word'):
            writer.write(Message(name, T0, T0, serialize_message(String(data='a'))))
    assert main(['bag', 'play', str(tmp_path / 'bag')]) == 0
    said = capfd.readouterr()
    assert 'types not installed here: /odd' in said.err
    assert '1 messages played' in said.out


# A policy under test

LOCKSTEP = {'lockstep': 'true', 'lockstep_cmd_vel': 'true'}


def fed(bag, *words, policy='walk'):
    """What `lebot bag play --feed policy` says of a fresh policy node."""
    domain = fresh_domain()
    with node_process(domain, 'policy', policy=policy, **LOCKSTEP):
        return lebot('bag', 'play', str(bag), '--feed', 'policy', *words, domain=domain)


def test_a_policy_fed_from_a_bag_commands_what_was_recorded_bit_for_bit():
    """Up to the end of the run: the robot crouches without waiting for anybody."""
    bag = recorded_walk()
    with Bag(bag) as opened:
        answered = {header_stamp(m): m.log_time for m in opened.messages(['/joint_commands'])}
        states = {header_stamp(m): m.log_time for m in opened.messages(['/joint_states'])}
        end = answered[SECONDS * 10**9 - ROBOT.control_period_ns] + 1
        before = {stamp for stamp in states if stamp < SECONDS * 10**9}
        middle = next(time for stamp, time in states.items() if stamp >= 10**9)
        start = opened.start
    assert len(before) == 50 * SECONDS
    assert before <= set(answered)
    until = ['--rate', '0', '--to', f'{(end - start) / 1e9:.9f}']
    # The recorder may have heard the last states later than their commands: these are cut off.
    assert all_equal(fed(bag, *until)) >= len(before) - 25
    # From the middle on, and at the present time: this policy remembers nothing but what was
    # applied last, and its gait reads the same phase.
    part = fed(bag, *until, '--from', f'{(middle - start) / 1e9:.9f}', '--restamp')
    assert all_equal(part) >= len(before) - 50 - 25


def all_equal(done):
    """How many states there were, if all were answered as recorded."""
    assert done.returncode == 0, done.stdout + done.stderr
    count = done.stdout.split()[0]
    said = f'{count} of {count} states answered; {count} of {count} commands equal those recorded'
    assert said in done.stdout
    return int(count)


def test_another_policy_commands_something_else_and_is_told_so():
    done = fed(recorded_walk(), '--rate', '0', policy='trot')
    assert done.returncode == 0, done.stdout + done.stderr
    words = done.stdout.split()
    assert words[0] == words[2]
    assert int(words[5]) < int(words[7])
    assert 'the largest difference is' in done.stdout
    largest = float(done.stdout.rpartition('difference is ')[2].split()[0])
    assert 0.01 < largest < 3.0


def test_without_a_policy_it_says_how_to_start_one():
    done = lebot('bag', 'play', str(recorded_walk()), '--feed', 'policy', '--patience', '0.5')
    assert done.returncode == 2
    assert 'no policy commands /joint_commands; start one in another terminal' in done.stderr


def test_a_policy_in_a_graph_with_a_driver_is_not_fed():
    domain = fresh_domain()
    with driver(domain):
        done = lebot('bag', 'play', str(recorded_walk()), '--feed', 'policy', domain=domain)
    assert done.returncode == 2
    assert 'drives a robot here' in done.stderr
