"""The learner node as a process, with the test as policy, reward node and driver around it."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from sensor_msgs.msg import JointState, PointCloud2
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool, Trigger

from adapter_samples import load_base, random_adapter
from fake_learner import Session, SessionConfig
from lebot_rl_ros.control.answering import Answering, Pairs
from lebot_rl_ros.data.rows import reward_dtype, step_dtype
from lebot_rl_ros.learning.online.checkpoint import Checkpoint
from lebot_rl_ros.nodes.learning_run import LearningRun
from lebot_rl_ros.nodes.learning_start import hold_folder, newest_accepted, parse_settings
from lebot_rl_ros.policy.adapters import AdapterError
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.ros import names, qos, swap_client
from lebot_rl_ros.ros.convert import set_stamp, to_ns
from lebot_rl_ros.ros.records import RecordMessage
from lebot_rl_ros.ros.swap_client import SwapClient
from lebot_rl_ros.ros.trial_watch import UNWATCHED
from ros_graph import ROOT, environment, fresh_domain, probe

TENSORS, MANIFEST = load_base()
PERIOD = 20_000_000
STEP = step_dtype(len(TENSORS['normaliser.mean']), len(TENSORS['log_std']))
REWARD = reward_dtype(('alive', 'fall'))
FOREIGN = bytes(range(32))


# When a state is answered


class Clock:
    """Wall time that the test moves."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def answering():
    """With half a second of patience, and a clock of the test."""
    clock = Clock()
    made = Answering(0.5, clock)
    made.clock = clock
    return made


def test_the_first_state_is_answered_at_once_and_the_others_after_their_step(answering):
    assert answering.answer() is None
    answering.heard(0)
    assert answering.answer() == 0
    answering.heard(0)  # repeated until time begins
    assert answering.answer() is None
    answering.heard(20)
    assert answering.answer() is None
    answering.worked(20)
    assert answering.answer() == 20
    assert answering.answer() is None
    assert answering.blind == 0


def test_a_step_may_come_before_the_state_that_it_led_to(answering):
    answering.heard(0)
    answering.answer()
    answering.worked(20)
    assert answering.answer() == 20
    answering.heard(20)
    assert answering.answer() is None


def test_without_steps_one_wait_is_all_until_they_come_again(answering):
    for stamp, steps in ((0, False), (20, True)):
        answering.heard(stamp)
        if steps:
            answering.worked(stamp)
        answering.answer()
    answering.heard(40)  # the policy holds: no step ended here
    answering.clock.now += 0.49
    assert answering.answer() is None
    answering.clock.now += 0.01
    assert answering.answer() == 40
    answering.heard(60)
    assert answering.answer() == 60  # at once
    answering.heard(80)
    answering.worked(80)
    assert answering.answer() == 80
    answering.heard(100)  # and now they are waited for again
    assert answering.answer() is None
    assert answering.blind == 2


def test_a_clock_that_jumps_back_is_followed(answering):
    for stamp in (1000, 1020):
        answering.heard(stamp)
        answering.worked(stamp)
        answering.answer()
    answering.heard(0)
    answering.clock.now += 1.0
    assert answering.answer() == 0
    answering.heard(20)
    answering.worked(20)
    assert answering.answer() == 20


def test_patience_must_be_positive():
    with pytest.raises(ValueError, match=r'patience is 0\.0'):
        Answering(0.0)


def test_halves_find_each_other_in_any_order_and_lone_ones_are_forgotten():
    pairs = Pairs(most=2)
    assert pairs.step(0, 20) is None
    assert pairs.reward(0) == 20
    assert pairs.reward(20) is None
    assert pairs.step(20, 40) == 40
    assert pairs.step(20, 40) is None  # again, but its reward is used up
    for stamp in (40, 60, 80):
        assert pairs.step(stamp, stamp + 20) is None
    assert pairs.reward(40) is None  # forgotten
    assert pairs.reward(80) == 100


def test_settings_are_read_and_what_is_none_is_named():
    text = 'batch=64 critic_rate=1e-3 quarantine=false activation=elu'
    assert parse_settings(text) == {
        'batch': 64, 'critic_rate': 0.001, 'quarantine': False, 'activation': 'elu',
    }  # fmt: skip
    assert parse_settings('') == {}
    for word in ('batch', '=3', 'batch='):
        with pytest.raises(ValueError, match=f"settings has '{word}', expected NAME=VALUE"):
            parse_settings(word)


# Who acts, and by whose wish


class Future:
    """An answer that the test gives."""

    def __init__(self):
        self.callbacks = []

    def add_done_callback(self, callback):
        self.callbacks.append(callback)

    def give(self, successful, reason=''):
        self.response = SimpleNamespace(
            result=SimpleNamespace(successful=successful, reason=reason)
        )
        for callback in self.callbacks:
            callback(self)

    def result(self):
        return self.response


class Hand:
    """A swap client between a policy and an owner that the test plays."""

    def __init__(self):
        self.sent, self.ready, self.answers = [], True, []
        self.given_up = []
        client = SimpleNamespace(
            service_is_ready=lambda: self.ready,
            call_async=self._call,
            remove_pending_request=self.given_up.append,
        )
        node = SimpleNamespace(
            create_client=lambda *_: client,
            create_subscription=lambda *_: None,
            create_timer=lambda *_, **__: None,
        )
        self.client = SwapClient(node, 'recover')
        self.word('', 'start')

    def _call(self, request):
        future = Future()
        self.sent.append((request.parameters[0].value.string_value, future))
        return future

    def ask(self, label):
        self.client.request(label, lambda *answer: self.answers.append(answer))
        return self.sent[-1][1]

    def word(self, label, why='set by parameter'):
        self.client._on_active(String(data=json.dumps({'label': label, 'why': why})))

    @property
    def state(self):
        client = self.client
        return client.wanted, bool(client.other), client.lost, client.busy


@pytest.mark.parametrize('topic_first', [True, False])
def test_an_own_swap_is_nobody_elses_whichever_word_comes_first(topic_first):
    hand = Hand()
    for label in ('recover@1', 'recover@2', '', 'recover@2'):
        future = hand.ask(label)
        assert hand.client.busy
        if topic_first:
            hand.word(label)
        future.give(True)
        if not topic_first:
            hand.word(label)
        assert hand.state == (label, False, False, False)
    assert hand.answers == [(True, '')] * 4


def test_words_that_lag_two_swaps_behind_are_still_own_and_an_operators_is_not():
    hand = Hand()
    for label in ('recover@1', 'recover@2'):
        hand.ask(label).give(True)
    hand.word('recover@1')
    assert hand.state == ('recover@2', False, False, False)
    hand.word('recover@2')
    hand.word('recover@1')  # this one no one here asked for
    assert hand.client.other == 'recover@1 acts (set by parameter)'
    hand.word('recover@2')
    assert hand.state == ('recover@2', False, False, False)
    hand.word('recover@1', 'rolled back from recover@2')
    assert hand.client.other == 'recover@1 acts (rolled back from recover@2)'


def test_a_swap_to_what_acts_already_has_no_word_and_waits_for_none():
    hand = Hand()
    hand.ask('').give(True)
    hand.word('turn@1')
    assert hand.client.other


def test_a_refusal_changes_nothing():
    hand = Hand()
    hand.ask('recover@1').give(False, 'it is damaged')
    assert hand.answers == [(False, 'it is damaged')]
    assert hand.state == ('', False, False, False)
    with pytest.raises(ValueError, match='recover@2 was asked for and is not answered yet'):
        [hand.ask('recover@2') for _ in range(2)]


def test_a_policy_that_is_not_there_is_waited_for_and_then_given_up(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(swap_client.time, 'monotonic', lambda: now[0])
    hand = Hand()
    hand.ready = False
    hand.sent.append(('nothing', None))
    hand.ask('recover@1')
    hand.client._look()
    assert len(hand.sent) == 1
    hand.ready = True  # it comes
    hand.client._look()
    assert hand.sent[-1][0] == 'recover@1'
    now[0] += 8.1  # and never answers
    hand.client._look()
    assert hand.answers == [(False, 'the policy does not answer')]
    assert hand.given_up == [hand.sent[-1][1]]
    assert hand.client.lost  # what acts now is not known: it is to be asked again
    hand.sent[-1][1].give(True)  # too late
    assert hand.state == ('', False, True, False)


def test_a_policy_that_begins_anew_is_lost_until_it_is_asked_again():
    hand = Hand()
    hand.ask('recover@1').give(True)
    hand.word('recover@1')
    hand.word('', 'start')
    assert hand.state == ('recover@1', False, True, False)
    hand.ask('recover@1')
    hand.word('', 'start')  # and dies again before it answers
    hand.client._look()
    assert [label for label, _ in hand.sent] == ['recover@1'] * 3
    hand.sent[-1][1].give(True)
    assert hand.answers[1:] == [(True, '')]


# The node


class Robot:
    """Everything around the learner: steps, rewards, states, and a policy that can be told."""

    def __init__(self, listening):
        self.probe, self.now = listening, 0
        self.refuse = ''
        self.asked = []
        self.join()
        self.reward = Node('reward', context=listening.context)
        listening._executor.add_node(self.reward)
        self._rewards = self.reward.create_publisher(PointCloud2, names.REWARDS, qos.EVERY)
        self._states = listening.node.create_publisher(JointState, names.JOINT_STATES, qos.EVERY)
        self.progress = listening.listen(Header, names.LEARNER_PROGRESS)
        self.statistics = listening.listen(DiagnosticArray, names.LEARNER_STATISTICS)
        self.verdicts = listening.listen(String, names.LEARNER_VERDICTS, qos.HISTORY)
        self.trials = listening.listen(Header, names.LEARNER_TRIAL)
        self._reward = RecordMessage(REWARD)

    def join(self):
        """The policy begins, with the base alone."""
        self.policy = Node('policy', context=self.probe.context)
        self.probe._executor.add_node(self.policy)
        self._active = self.policy.create_publisher(String, names.ACTIVE_ADAPTER, qos.LATCHED)
        self._steps = self.policy.create_publisher(PointCloud2, names.STEPS, qos.EVERY)
        self._step = RecordMessage(STEP)
        self.policy.declare_parameter('adapter', '')
        self.policy.add_on_set_parameters_callback(self._on_set)
        self.acting = ''
        self.tell('', 'start')

    def leave(self):
        """The policy dies."""
        self.probe._executor.remove_node(self.policy)
        self.policy.destroy_node()

    def _on_set(self, parameters):
        label = parameters[0].value
        self.asked.append((label, self.now))
        if self.refuse:
            return SetParametersResult(successful=False, reason=self.refuse)
        if label != self.acting:
            self.tell(label, 'set by parameter')
        return SetParametersResult(successful=True)

    def tell(self, label, why):
        """Another adapter acts from now on."""
        self.acting = label
        self._active.publish(String(data=json.dumps({'label': label, 'why': why})))

    def begin(self):
        """The first state, repeated as a driver does until the graph is there."""
        self.now += PERIOD

        def answered():
            self.state(0)
            return self.probe.within(0.2, self._reached)

        self.probe.until(answered, 'the first answer')

    def state(self, step=PERIOD):
        """The driver publishes the next state."""
        self.now += step
        message = JointState()
        set_stamp(message.header.stamp, self.now)
        self._states.publish(message)

    def step(self, base=None, rewarded=True):
        """The step that ended now, and what it earned."""
        begin = self.now - PERIOD
        row = self._step.rows[0]
        row['sec'], row['nanosec'] = divmod(begin, 10**9)
        row['next_sec'], row['next_nanosec'] = divmod(self.now, 10**9)
        row['observation'] = np.sin(np.arange(len(row['observation'])) + begin / 1e9)
        sha = bytes.fromhex(MANIFEST.sha256) if base is None else base
        row['base_sha256'] = np.frombuffer(sha, np.uint8)
        self._step.stamp(begin)
        self._steps.publish(self._step.serialized())
        if rewarded:
            earned = self._reward.rows[0]
            earned['sec'], earned['nanosec'] = row['sec'], row['nanosec']
            earned['reward'] = 1.0
            self._reward.stamp(begin)
            self._rewards.publish(self._reward.serialized())

    def tick(self, number=1, **how):
        """States and steps in lockstep: each is answered before the next."""
        for _ in range(number):
            self.state()
            self.step(**how)
            self.answered()

    def answered(self, seconds=20.0):
        """Wait until the newest state is answered."""
        self.probe.until(self._reached, f'progress {self.now}', seconds)

    def _reached(self):
        return self.progress and to_ns(self.progress[-1].stamp) == self.now

    def says(self, text='', walking=True):
        """Wait until the learner's health, told from now on, says so; returns it."""
        self.probe.health.clear()

        def found():
            if walking:
                self.tick()
            word = self.probe.health.get('/learner')
            return word if word and text in word[1] else None

        return self.probe.until(found, f'health {text!r}')

    @property
    def told(self):
        """Every verdict so far: version, stage, verdict."""
        found = [json.loads(message.data) for message in self.verdicts]
        return [(one['version'], one['stage'], one['verdict']) for one in found]


def start(domain, folder, fake=True, **parameters):
    """A learner process; with the test's own session if ``fake``."""
    given = {
        'adapter_store': folder / 'store', 'folder': folder / 'run', 'lockstep': 'true',
        'offer_every': 20, 'statistics_every': 10, 'tensorboard': 'false', 'run': 'one',
        'checkpoint_every': 0.01, 'patience': 5.0,
    } | parameters  # fmt: skip
    words = [word for key, value in given.items() for word in ('-p', f'{key}:={value}')]
    what = (
        [str(ROOT / 'test' / 'fake_learner.py')] if fake else ['-m', 'lebot_rl_ros.nodes.learner']
    )
    return subprocess.Popen(
        [sys.executable, *what, '--ros-args', *words],
        env=environment(domain) | {'PYTHONPATH': f'{ROOT}:{ROOT / "test"}'},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def end(process):
    """Interrupt it; it must end with status 0 by itself. Returns what it said."""
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    return output


@contextmanager
def learning(folder, **parameters):
    """A learner, and the robot around it; the learner is ended at the end."""
    domain = fresh_domain()
    with probe(domain) as listening:
        robot = Robot(listening)
        robot.domain = domain
        robot.process = start(domain, folder, **parameters)
        try:
            yield robot
        finally:
            if robot.process.poll() is None:
                robot.process.kill()
            robot.process.communicate()
            robot.leave()
            listening._executor.remove_node(robot.reward)
            robot.reward.destroy_node()


def hashes(folder):
    """Hash of every version."""
    store = AdapterStore(folder / 'store')
    return [store.manifest('recover', v).sha256 for v in store.versions('recover')]


SWAPS = [('recover@1', 21), ('recover@2', 41), ('recover@3', 61)]  # label, and in which tick


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A run of 75 steps without any mishap: its swaps, verdicts and versions."""
    folder = tmp_path_factory.mktemp('whole')
    with learning(folder) as robot:
        robot.begin()
        robot.tick(75)
        said = end(robot.process)
        swaps = [(label, now // PERIOD) for label, now in robot.asked]
        return swaps, robot.told, hashes(folder), said, robot


@pytest.mark.ros
def test_what_is_on_trial_is_named_before_it_acts_and_when_it_is_judged(whole):
    """The fake session accepts ten steps after a swap."""
    robot = whole[4]
    words = [(word.frame_id, to_ns(word.stamp) // PERIOD) for word in robot.trials]
    expected = [((label, tick), ('', tick + 10)) for label, tick in SWAPS]
    assert words == [word for both in expected for word in both]


def test_a_swap_falls_between_two_known_ticks(whole):
    """Every 20 steps a version, which is accepted 10 steps later; the first state has no step."""
    swaps, told, _, said, robot = whole
    assert swaps == SWAPS
    assert told == [
        (version, *what)
        for version in (1, 2, 3)
        for what in (('behaviour', 'probation'), ('probation', 'accepted'))
    ]
    verdict = json.loads(robot.verdicts[0].data)
    assert verdict['measures'] == {'kl': 0.5, 'odd': None}  # JSON knows no NaN
    assert (verdict['time'], verdict['reason']) == (0.4, 'small')
    assert 'recover begins; the base shall act' in said
    assert 'recover@3, probation: accepted: as good' in said
    words = [{pair.key: pair.value for pair in m.status[0].values} for m in robot.statistics]
    assert [float(word['rows']) for word in words] == [10, 20, 30, 40, 50, 60, 70]
    assert {word['value_loss'] for word in words} == {'0.25'}
    assert [to_ns(m.header.stamp) // PERIOD for m in robot.statistics][:2] == [11, 21]


@pytest.mark.ros
def test_a_trial_that_the_policy_took_back_is_asked_for_again(tmp_path):
    """The learner had been silent for too long, and is back."""
    with learning(tmp_path) as robot:
        robot.begin()
        robot.tick(22)
        assert robot.acting == 'recover@1'
        robot.tell('', UNWATCHED)
        robot.probe.until(lambda: robot.acting == 'recover@1', 'that it acts again')
        robot.tick(10)
        assert (1, 'probation', 'accepted') in robot.told
        assert [label for label, _ in robot.asked] == ['recover@1'] * 2


@pytest.mark.ros
def test_kill_9_in_the_middle_and_the_versions_are_those_of_a_whole_run(tmp_path, whole):
    with learning(tmp_path) as robot:
        robot.begin()
        robot.tick(25)  # version 1 is on trial
        assert '25 steps, recover@1 acting' in robot.probe.call(Trigger, 'learner/save').message
        robot.process.kill()
        robot.process.communicate()
        assert robot.acting == 'recover@1'  # nobody was there to take it back
        robot.progress.clear()
        robot.process = start(robot.domain, tmp_path)
        robot.probe.until(
            lambda: robot.probe.health.get('/learner', (0, '', {}))[2].get('rows') == '25',
            'the rows of before',
        )
        robot.now -= PERIOD
        robot.begin()  # the driver is still where it was
        robot.tick(50)
        said = end(robot.process)
        assert 'recover goes on after 25 steps' in said
        assert [label for label, _ in robot.asked] == [label for label, _ in whole[0]]
        assert robot.told[-4:] == whole[1][-4:]
    assert hashes(tmp_path) == whole[2]


def run_of(folder, **identity):
    """A run on disk with the test's session, without a node."""
    store = AdapterStore(folder / 'store')
    about = {'base_sha256': MANIFEST.sha256, 'adapter': 'recover', 'run': 'one'} | identity
    config = SessionConfig(offer_every=20)

    def make():
        return Session(TENSORS, MANIFEST, config, store, 0)

    return LearningRun(make, about, Checkpoint(folder / 'run', 5.0), None)


def test_a_checkpoint_of_another_run_is_not_gone_on_from_and_a_damaged_one_is_kept(tmp_path):
    first = run_of(tmp_path)
    assert first.origin == 'begins'
    first.session.count, first.rows = 7, 7
    assert first.close() == ''
    assert run_of(tmp_path).origin.startswith('goes on after 7 steps, from ')
    other = run_of(tmp_path, run='two')
    assert "is of another run: run was 'one', is 'two'" in other.origin
    assert (other.rows, other.session.count) == (0, 0)
    file = tmp_path / 'run' / 'checkpoint.safetensors'
    file.write_bytes(file.read_bytes()[:-1])
    damaged = run_of(tmp_path)
    assert 'is not a checkpoint that can be read' in damaged.origin
    assert damaged.origin.endswith('that file is now checkpoint.unusable')
    assert (damaged.rows, damaged.session.count) == (0, 0)
    assert os.listdir(tmp_path / 'run') == ['checkpoint.unusable']


def test_what_the_session_cannot_do_is_told_for_a_while_and_learning_goes_on(tmp_path):
    run = run_of(tmp_path)

    def full():
        raise AdapterError('the store cannot be written: No space left on device')

    run.session.count = 1
    work, run.session.work = run.session.work, full
    assert run.work() is None
    run.session.work = work
    assert run.work() is None
    assert run.trouble == 'the store cannot be written: No space left on device'
    run._failed_at -= 60.0
    assert run.trouble == ''


def test_a_run_begins_with_the_newest_version_that_was_accepted(tmp_path):
    store = AdapterStore(tmp_path)
    assert newest_accepted(store, 'recover') is None
    for seed in range(3):
        store.add('recover', *random_adapter(MANIFEST, 'recover', seed))
    assert newest_accepted(store, 'recover') is None
    for version, verdict in ((1, 'accepted'), (2, 'accepted'), (3, 'rejected')):
        store.judge('recover', version, verdict, 'so')
    assert newest_accepted(store, 'recover').manifest.version == 2


def test_a_folder_is_one_learners_until_it_ends(tmp_path):
    lock = hold_folder(tmp_path / 'run')
    with pytest.raises(ValueError, match='run is in use by another learner; give each its own'):
        hold_folder(tmp_path / 'run')
    os.close(lock)
    os.close(hold_folder(tmp_path / 'run'))


@pytest.mark.ros
def test_where_time_does_not_wait_all_that_came_is_taken_before_any_of_it_is_worked_on(tmp_path):
    """A session that needs two periods for a step would fall ever further behind."""
    given = {'lockstep': 'false', 'offer_every': 1000, 'settings': 'slow=0.04'}
    with learning(tmp_path, **given) as robot:
        robot.probe.until(
            lambda: 'no policy/steps' in robot.probe.health.get('/learner', (0, '', {}))[1],
            'the learner',
        )
        for _ in range(200):
            robot.now += PERIOD
            robot.step()
        newest = lambda: {p.key: float(p.value) for p in robot.statistics[-1].status[0].values}  # noqa: E731
        robot.probe.until(lambda: robot.statistics and newest()['rows'] == 200, 'all rows')
        assert newest()['calls'] < 100
        assert robot.progress == []  # nobody waits for it
        end(robot.process)


# One learner for all that follows; each test leaves it learning


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    """A learner that has taken its first steps."""
    folder = tmp_path_factory.mktemp('shared')
    (folder / 'run').mkdir()
    with learning(folder, patience=0.3, offer_every=1000) as robot:
        robot.folder = folder
        robot.begin()
        robot.tick(3)
        yield robot
        assert 'Traceback' not in end(robot.process)


@pytest.fixture
def robot(shared):
    """The shared learner: it learns, and the policy does what it is told."""
    shared.refuse = ''
    shared.asked.clear()
    assert shared.probe.call(SetBool, 'learner/enable', SetBool.Request(data=True)).success
    shared.tick(2)
    return shared


def rows_of(robot):
    """How many steps the learner has learned from."""
    return int(robot.says(walking=False)[2]['rows'])


@pytest.mark.ros
def test_states_without_a_step_are_answered_too(robot):
    before = int(robot.says(walking=False)[2]['unanswered_states'])
    for _ in range(3):  # the policy holds
        robot.state()
        robot.answered()
    robot.tick(3)  # and walks again: the first of these was no longer waited for
    robot.state()
    robot.step(rewarded=False)  # a reward that was lost
    robot.answered()
    assert int(robot.says(walking=False)[2]['unanswered_states']) == before + 5


@pytest.mark.ros
def test_disabled_it_learns_nothing_and_answers_all_the_same(robot):
    answer = robot.probe.call(SetBool, 'learner/enable', SetBool.Request(data=False))
    assert answer.message == 'the base stays'
    before = rows_of(robot)
    robot.tick(5)
    assert rows_of(robot) == before
    robot.says('not enabled; the base stays')
    answer = robot.probe.call(SetBool, 'learner/enable', SetBool.Request(data=True))
    assert answer.message == 'learning, with the base'
    robot.tick(5)
    assert rows_of(robot) == before + 5


@pytest.mark.ros
def test_an_operators_adapter_pauses_it_until_it_is_taken_back(robot):
    before = rows_of(robot)
    robot.tell('turn@2', 'set by parameter')
    robot.says('turn@2 acts (set by parameter): nothing is learned; set the base again, or call')
    robot.tick(5)
    assert rows_of(robot) == before
    assert robot.asked == []  # nobody takes the operator's choice away
    robot.tell('', 'rolled back from turn@2')
    robot.says('the base acts')
    before = rows_of(robot)
    robot.tick(5)
    assert rows_of(robot) == before + 5
    robot.tell('turn@2', 'set by parameter')
    robot.says('turn@2 acts')
    robot.probe.call(SetBool, 'learner/enable', SetBool.Request(data=True))
    robot.probe.until(lambda: robot.asked == [('', robot.now)], 'the base again')


@pytest.mark.ros
def test_a_policy_that_begins_anew_is_asked_again_for_what_shall_act(robot):
    robot.leave()
    robot.says('no policy/steps: learning waits', walking=False)
    robot.join()
    robot.probe.until(lambda: robot.probe.node.count_publishers('policy/steps'), 'the policy')
    robot.begin()
    robot.tick(5)
    robot.says('the base acts')


@pytest.mark.ros
def test_steps_of_another_base_are_told(robot):
    robot.tick(1, base=FOREIGN)
    word = f'steps of base 000102030405, this is {MANIFEST.sha256[:12]}: not learned from'
    robot.says(word, walking=False)
    robot.tick(1)
    robot.says('the base acts')


@pytest.mark.ros
def test_a_disk_that_is_full_is_told_and_learning_goes_on(robot):
    path = robot.folder / 'run' / 'checkpoint.safetensors'
    assert robot.probe.call(Trigger, 'learner/save').success
    content = path.read_bytes()
    (robot.folder / 'full').touch()
    robot.tick(3)
    robot.says(f'no checkpoint: {path}: No space left on device')
    answer = robot.probe.call(Trigger, 'learner/save')
    assert (answer.success, answer.message) == (False, f'{path}: No space left on device')
    before = rows_of(robot)
    robot.tick(3)
    assert rows_of(robot) == before + 3
    assert path.read_bytes() == content
    (robot.folder / 'full').unlink()
    assert robot.probe.call(Trigger, 'learner/save').success
    robot.tick(1)
    robot.says('the base acts')


@pytest.mark.ros
def test_it_is_niced_and_says_so(robot):
    values = robot.says(walking=False)[2]
    assert int(values['nice']) == os.getpriority(os.PRIO_PROCESS, robot.process.pid)
    assert int(values['nice']) == min(os.nice(0) + 10, 19)
    assert values['threads'] == '1'


@pytest.mark.ros
@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'learner': 'sarsa'}, "learner is 'sarsa'; choices are td3, ppo"),
        ({'gate.norm': -1.0}, 'norm is -1.0, must be positive'),
    ],
)
def test_a_parameter_that_cannot_be_is_named_and_ends_it(tmp_path, given, message):
    process = start(fresh_domain(), tmp_path, fake=False, **given)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert message in output
    assert '[FATAL]' in output
