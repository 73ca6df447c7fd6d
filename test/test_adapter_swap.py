"""Adapters swapped under a running policy: prepared, faded, and by the node's own services."""

import hashlib
import json
import math
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger

from adapter_samples import load_base, random_adapter
from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.control.adapters import AdapterSource, default_store, prepare
from lebot_rl_ros.control.fade import MOST, Fade
from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.policy.adapter_files import MODEL, save_adapter
from lebot_rl_ros.policy.adapters import merge
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.robot import RobotState
from lebot_rl_ros.ros import qos
from lebot_rl_ros.ros.convert import set_stamp, to_ns
from lebot_rl_ros.ros.realtime import ask_for_realtime
from lebot_rl_ros.ros.records import read_record
from policy_feed import PERIOD, ROBOT, Feed
from ros_graph import ROOT, environment, fresh_domain, lebot, node_process, probe

TENSORS, MANIFEST = load_base()
BASE = PolicyRuntime(TENSORS, MANIFEST)
SIZE = MANIFEST.observation_size
ZEROS = bytes(32)


def fill(root):
    """A store with swing 1 and 2, grip 1, and bad 1, which was rejected."""
    store = AdapterStore(root)
    for seed, name in enumerate(('swing', 'swing', 'grip', 'bad')):
        store.add(name, *random_adapter(MANIFEST, name, seed))
    store.judge('bad', 1, 'rejected', 'it fell on ice')
    return store


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    """The store, for those who do not change it."""
    return fill(tmp_path_factory.mktemp('adapters'))


def runtime_of(store, text):
    """The policy that a text names, merged by the test."""
    return PolicyRuntime(merge(TENSORS, store.load(text)), MANIFEST)


# What is prepared


def test_the_base_is_the_runtime_that_runs(store):
    made = prepare('', store, TENSORS, MANIFEST, BASE)
    assert made.runtime is BASE
    assert (made.label, made.name, made.version) == ('', '', 0)
    assert bytes.fromhex(made.sha256) == ZEROS


def test_one_adapter_has_the_hash_of_its_file_and_a_mixture_one_of_its_own(store):
    observation = np.random.default_rng(0).standard_normal(SIZE)
    made = prepare('swing', store, TENSORS, MANIFEST)
    file = (store.folder('swing', 2) / MODEL).read_bytes()
    assert (made.label, made.name, made.version) == ('swing@2', 'swing', 2)
    assert made.sha256 == hashlib.sha256(file).hexdigest()
    expected = runtime_of(store, 'swing').act(observation)
    np.testing.assert_array_equal(made.runtime.act(observation), expected)
    assert np.abs(expected - BASE.act(observation)).max() > 0.01
    mixed = prepare('swing@1:0.7+grip', store, TENSORS, MANIFEST)
    hashes = [store.manifest(*part).sha256 for part in (('swing', 1), ('grip', 1))]
    text = f'swing@1:0.7#{hashes[0]}+grip@1#{hashes[1]}'
    assert (mixed.label, mixed.name, mixed.version) == ('swing@1:0.7+grip@1', 'swing+grip', 0)
    assert mixed.sha256 == hashlib.sha256(text.encode()).hexdigest()
    half = prepare('swing@1:0.5', store, TENSORS, MANIFEST)
    assert (half.label, half.version) == ('swing@1:0.5', 1)
    assert len({half.sha256, mixed.sha256, made.sha256, hashes[0]}) == 4


def test_a_policy_that_overflows_is_refused_though_every_number_of_it_is_finite(tmp_path):
    store = AdapterStore(tmp_path)
    config, tensors, manifest = random_adapter(MANIFEST, 'huge', 1)
    store.add('huge', config, {k: np.float32(1e12) * v for k, v in tensors.items()}, manifest)
    with pytest.raises(ValueError, match='huge@1 on this base gives actions or values that are'):
        prepare('huge', store, TENSORS, MANIFEST)


def test_the_open_loop_policy_has_nothing_to_adapt(store):
    source = AdapterSource(load_walk(ROBOT, 'trot'), store)
    assert source('').label == ''
    with pytest.raises(ValueError, match='the policy trot has no weights to adapt'):
        source('swing')


def test_the_store_of_a_user_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path / 'data'))
    monkeypatch.delenv('LEBOT_ADAPTERS', raising=False)
    assert default_store().root == tmp_path / 'data' / 'lebot' / 'adapters'
    monkeypatch.setenv('LEBOT_ADAPTERS', str(tmp_path / 'mine'))
    assert default_store().root == tmp_path / 'mine'
    assert default_store(tmp_path / 'given').root == tmp_path / 'given'


# From one to the next


class Constant:
    """A policy that always acts alike."""

    def __init__(self, action):
        self.action = action

    def act(self, observation, out=None):
        out[:] = self.action
        return out


def ticks(fade, number):
    """Actions of the next ticks and the newest policy's shares in them."""
    out = np.zeros(1, dtype=np.float32)
    found = []
    for _ in range(number):
        fade(np.zeros(1), out=out)
        found.append((float(out[0]), fade.share))
    return found


def test_a_fade_goes_over_linearly():
    fade = Fade(Constant(0.0), 1)
    assert ticks(fade, 1) == [(0.0, 1.0)]
    fade.swap(Constant(8.0), 3)
    assert ticks(fade, 4) == [(2.0, 0.25), (4.0, 0.5), (6.0, 0.75), (8.0, 1.0)]
    fade.swap(Constant(1.0), 0)
    assert ticks(fade, 1) == [(1.0, 1.0)]


def test_a_swap_during_a_fade_starts_from_the_mixture_of_that_tick():
    fade = Fade(Constant(0.0), 1)
    fade.swap(Constant(8.0), 3)
    assert ticks(fade, 2)[-1] == (4.0, 0.5)
    fade.swap(Constant(-4.0), 1)  # half of 4, the mixture, and half of -4
    assert ticks(fade, 2) == [(0.0, 0.5), (-4.0, 1.0)]
    fade.swap(Constant(100.0), 1)
    fade.swap(Constant(4.0), 1)  # that between the two has never acted
    assert ticks(fade, 1) == [(0.0, 0.5)]
    fade.swap(Constant(7.0), 0)  # at once, fade or not
    assert ticks(fade, 2) == [(7.0, 1.0)] * 2


def test_only_so_many_policies_fade_out_at_once():
    fade = Fade(Constant(0.0), 1)
    for number in range(1, 20):
        fade.swap(Constant(float(number)), 9)
        ticks(fade, 1)
    assert len(fade._old) == MOST
    assert sum(share for _, share in fade._old) == pytest.approx(1.0)


def state(number):
    """Some state of the robot."""
    rng = np.random.default_rng(number)
    return RobotState(
        number * PERIOD,
        ROBOT.stand + 0.1 * rng.standard_normal(8),
        rng.standard_normal(8),
        np.zeros(8),
        np.array([1.0, 0, 0, 0]),
        0.1 * rng.standard_normal(3),
        np.array([0, 0, 9.81]),
    )


@pytest.mark.parametrize('deterministic', [True, False])
def test_a_row_belongs_to_the_policy_that_acted_at_its_stamp(store, deterministic):
    walker = Walker(ROBOT, load_walk(ROBOT, 'walk'), deterministic=deterministic, seed=3)
    command = np.array([0.3, 0.1])

    def tick(number):
        walker.act(state(number), command)
        walker.record(number * PERIOD)

    made = prepare('swing@1', store, TENSORS, MANIFEST)
    turn = runtime_of(store, 'swing@1')
    tick(1)
    walker.swap(made, 1)
    walker.complete(2 * PERIOD, np.zeros(8), 2)
    assert walker.row['adapter_version'] == 0  # the step before the swap stays what it was
    assert bytes(walker.row['adapter_sha256']) == ZEROS
    for number, share in ((2, 0.5), (3, 1.0)):
        tick(number)
        row = walker.row
        observation = row['observation']
        mean = share * turn.act(observation) + (1 - share) * BASE.act(observation)
        np.testing.assert_allclose(row['mean'], mean, rtol=1e-6)
        assert (row['adapter_version'], row['blend']) == (1, share)
        assert bytes(row['adapter_sha256']).hex() == made.sha256
        assert row['value'] == np.float32(turn.value(observation))
        noise = (row['action'] - row['mean']) / np.exp(TENSORS['log_std'])
        assert noise.any() != deterministic
        density = -0.5 * noise @ noise - TENSORS['log_std'].sum() - 4 * math.log(2 * math.pi)
        assert row['log_prob'] == pytest.approx(density, rel=1e-5)
    walker.swap(prepare('', store, TENSORS, MANIFEST, walker.walk.policy))
    tick(4)
    np.testing.assert_array_equal(walker.row['mean'], BASE.act(walker.row['observation']))
    assert bytes(walker.row['adapter_sha256']) == ZEROS


# The node


class Node:
    """A policy node, its driver, and its services."""

    def __init__(self, listening, store, node='/policy'):
        self.probe, self.store, self.name = listening, store, node
        self.active = listening.listen(String, 'policy/active_adapter', qos.LATCHED)
        self.feed = Feed(listening)
        listening.until(lambda: self.active, 'the active adapter')

    @property
    def says(self):
        """The newest word of the latched topic."""
        return json.loads(self.active[-1].data)

    def set(self, *texts, service=SetParametersAtomically, **others):
        """Set the parameter; the result, or one of each if they are not set atomically."""
        given = [('adapter', text) for text in texts] + list(others.items())
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in given]
        answer = self.probe.call(
            service, f'{self.name}/{_snake(service)}', service.Request(parameters=parameters)
        )
        return answer.result if service is SetParametersAtomically else answer.results

    def get(self):
        """Value of the parameter."""
        request = GetParameters.Request(names=['adapter'])
        answer = self.probe.call(GetParameters, f'{self.name}/get_parameters', request)
        return answer.values[0].string_value

    def rows(self, number):
        """Tick and return that many rows, of steps taken from now on."""
        self.feed.steps.clear()
        first = self.feed.now + PERIOD
        for _ in range(number + 1):
            self.feed.tick()
        last = first + (number - 1) * PERIOD
        mine = lambda: [m for m in self.feed.steps if to_ns(m.header.stamp) >= first]  # noqa: E731
        self.probe.until(lambda: mine() and to_ns(mine()[-1].header.stamp) == last, 'steps')
        index = len(self.feed.steps) - len(mine())
        return [self.feed.row(index + i) for i in range(number)]

    def acts(self, text):
        """Assert that each of the next rows is of this policy, to the bit."""
        runtime = runtime_of(self.store, text)
        for row in self.rows(2):
            np.testing.assert_array_equal(row['mean'], runtime.act(row['observation']))
            sha = prepare(text, self.store, TENSORS, MANIFEST).sha256
            assert bytes(row['adapter_sha256']).hex() == sha
            assert row['blend'] == 1.0


def _snake(service):
    return {SetParameters: 'set_parameters', SetParametersAtomically: 'set_parameters_atomically'}[
        service
    ]


@contextmanager
def policy_node(store, **parameters):
    """A policy node that walks, with this store."""
    domain = fresh_domain()
    with (
        node_process(domain, 'policy', adapter_store=store.root, lockstep='true', **parameters),
        probe(domain) as listening,
    ):
        node = Node(listening, store)
        node.domain = domain
        yield node


@pytest.fixture(scope='module')
def shared(store):
    """One node for all tests that leave the store as it is."""
    with policy_node(store) as node:
        yield node


@pytest.fixture
def node(shared):
    """The shared node with the base alone."""
    assert shared.set('', adapter_blend=0).successful
    return shared


def test_a_swap_turns_outputs_over_between_two_ticks_and_the_base_comes_back(node):
    node.feed.drive(0.3, 0.1)
    node.acts('')
    before = node.feed.now
    assert node.set('swing').successful
    row = node.rows(1)[0]  # the very next tick
    assert row['adapter_version'] == 2
    assert bytes(row['adapter_sha256']).hex() == node.store.manifest('swing', 2).sha256
    node.acts('swing')
    assert node.get() == 'swing'
    says = node.says
    assert (says['name'], says['version'], says['label']) == ('swing', 2, 'swing@2')
    assert (says['why'], says['base_sha256']) == ('set by parameter', MANIFEST.sha256)
    assert says['since'] == pytest.approx(before / 1e9)
    assert node.set('swing@1:0.7+grip:0.3').successful
    node.acts('swing@1:0.7+grip:0.3')
    assert node.set('').successful
    node.acts('')
    assert node.says['label'] == ''


def broken(root):
    """Folders that must be refused, by what is wrong with them."""
    config, tensors, manifest = random_adapter(MANIFEST, 'odd', 5)
    first = next(iter(tensors))
    variants = {
        'foreign': (tensors, replace(manifest, base_sha256='f' * 64)),
        'shapes': (tensors | {first: np.zeros((2, 7), dtype=np.float32)}, manifest),
        'order': (tensors, replace(manifest, joint_names=manifest.joint_names[::-1])),
        'nan': (tensors, manifest),
        'truncated': (tensors, manifest),
        'pickle': (tensors, manifest),
        'huge': ({k: np.float32(1e12) * v for k, v in tensors.items()}, manifest),
    }
    for name, (given, about) in variants.items():
        save_adapter(root / name, config, given, about)
    path = root / 'nan' / MODEL
    weights = bytearray(path.read_bytes())
    weights[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(weights)
    table = json.loads((root / 'nan' / 'manifest.json').read_text())
    table['sha256'] = hashlib.sha256(weights).hexdigest()
    (root / 'nan' / 'manifest.json').write_text(json.dumps(table))
    path = root / 'truncated' / MODEL
    path.write_bytes(path.read_bytes()[:-10])
    (root / 'pickle' / MODEL).write_bytes(b'\x80\x04K\x01.')
    return {
        str(root / name): message
        for name, message in {
            'foreign': 'was made for base ' + 'f' * 64,
            'shapes': 'has shape (2, 7), the base needs',
            'order': 'was made for joint order',
            'nan': '1 values that are not finite',
            'truncated': 'is truncated or not a safetensors file',
            'pickle': 'is a pickle under another name',
            'huge': 'gives actions or values that are not finite',
            'nowhere': 'cannot be read: No such file or directory',
        }.items()
    }


def test_every_refusal_has_its_message_and_leaves_the_running_adapter(node, tmp_path):
    assert node.set('grip').successful
    node.feed.drive(0.3, 0.0)
    health = node.probe.health
    node.probe.until(
        lambda: health.get('/policy', (0, '', {}))[2].get('adapter') == 'grip@1', 'grip'
    )
    swaps = int(health['/policy'][2]['swaps'])
    refusals = {
        'walz': 'there is no adapter walz; there are ',
        'swing@7': 'adapter swing has no version 7; it has 1, 2',
        'bad': 'it fell on ice',
        'bad@1': 'adapter bad@1 was rejected: it fell on ice',
        'swing:nan': "weight is 'nan', expected a number from -1 to 2",
        'swing:1e99': "weight is '1e99', expected a number from -1 to 2",
        'swing++grip': 'empty term',
        'Swing': "adapter name 'Swing'",
        'swing+swing@2': 'names swing@2 twice',
    } | broken(tmp_path)
    for text, message in refusals.items():
        answer = node.set(text)
        assert not answer.successful, text
        assert message in answer.reason
        assert node.get() == 'grip'
    node.acts('grip')
    assert node.says['label'] == 'grip@1'

    def told():
        values = health['/policy'][2]
        return values['last_refusal'] == answer.reason and values

    values = node.probe.until(told, 'the last refusal')
    assert int(values['swaps']) == swaps
    assert int(values['refused_swaps']) >= len(refusals)
    assert float(values['swap_work_ms']) > 0.0
    assert float(values['request_to_effect_ms']) > 0.0


def test_requests_with_other_parameters_are_answered_for_all_of_them(node):
    for others, reason in (
        ({'policy': 'trot'}, 'read-only parameter: policy'),
        ({'colour': 'red'}, 'undeclared'),
        ({'adapter_blend': -1}, 'adapter_blend'),
        ({'use_sim_time': 'yes'}, 'Wrong parameter type'),
    ):
        answer = node.set('swing', **others)
        assert not answer.successful, others
        assert reason in answer.reason
    assert 'Wrong parameter type' in node.set(5).reason
    assert (
        'cannot be undeclared'
        in node.probe.call(
            SetParametersAtomically,
            '/policy/set_parameters_atomically',
            SetParametersAtomically.Request(parameters=[ParameterMessage(name='adapter')]),
        ).result.reason
    )
    node.acts('')
    one, two, three, four = node.set('swing', 'walz', 5, 'grip', service=SetParameters)
    assert (one.successful, two.successful) == (True, False)
    assert (three.successful, four.successful) == (False, True)
    node.acts('grip')
    assert node.set('swing', 'swing@1').successful  # atomically: the last one
    node.acts('swing@1')
    assert node.get() == 'swing@1'
    assert node.set('grip', adapter_blend=2).successful
    assert [float(row['blend']) for row in node.rows(3)] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_naming_what_is_active_changes_nothing(node):
    assert node.set('swing').successful
    heard = len(node.active)
    assert node.set('swing').successful
    assert node.set('').successful
    node.probe.until(lambda: not node.says['label'], 'the base')
    assert len(node.active) == heard + 1


def test_a_blend_is_what_the_row_says(node):
    node.feed.drive(0.3, 0.1)
    assert node.set('swing', adapter_blend=3).successful
    turn = runtime_of(node.store, 'swing')
    for row, share in zip(node.rows(4), (0.25, 0.5, 0.75, 1.0), strict=True):
        observation = row['observation']
        mean = share * turn.act(observation) + (1 - share) * BASE.act(observation)
        np.testing.assert_allclose(row['mean'], mean, rtol=1e-5, atol=1e-6)
        assert row['blend'] == share
        assert row['adapter_version'] == 2
        density = -TENSORS['log_std'].sum() - 4 * math.log(2 * math.pi)
        assert row['log_prob'] == pytest.approx(density, rel=1e-5)


def test_a_late_joiner_hears_what_is_active(node):
    assert node.set('swing@1').successful
    with probe(node.domain) as late:
        heard = late.listen(String, 'policy/active_adapter', qos.LATCHED)
        late.until(lambda: heard, 'the latched message')
        assert json.loads(heard[0].data)['label'] == 'swing@1'
        assert len(heard) == 1


def test_the_list_has_versions_verdicts_and_what_is_active(node):
    assert node.set('swing@1:0.5+grip').successful
    answer = node.probe.call(Trigger, '/policy/list_adapters')
    assert answer.success
    found = {entry['name']: entry['versions'] for entry in json.loads(answer.message)}
    assert {'bad', 'grip', 'swing'} <= set(found)  # and those that ship
    assert [(v['version'], v['active']) for v in found['swing']] == [(1, True), (2, False)]
    assert found['bad'][0]['verdict'] == 'rejected'
    assert found['bad'][0]['reason'] == 'it fell on ice'
    assert found['grip'][0] == {
        'version': 1, 'verdict': 'candidate', 'reason': '', 'base': 'this', 'active': True,
    }  # fmt: skip


def test_two_clients_at_once_are_both_answered_in_order(node):
    service = '/policy/set_parameters_atomically'
    with probe(node.domain) as other:
        clients = [
            # Deep, as each also gets the other's answers, to throw them away.
            p.node.create_client(SetParametersAtomically, service, qos_profile=qos.EVERY)
            for p in (node.probe, other)
        ]
        for client, p in zip(clients, (node.probe, other), strict=True):
            p.until(client.service_is_ready, 'the service')
            p.meet('/policy')  # after the client, so that its answers have a known reader
        texts = ['swing', 'walz', 'grip', 'swing@1:0.5', '', 'swing@1']

        def request(text):
            parameter = Parameter('adapter', value=text).to_parameter_msg()
            return SetParametersAtomically.Request(parameters=[parameter])

        futures = [[client.call_async(request(text)) for text in texts] for client in clients]
        for p, mine in zip((node.probe, other), futures, strict=True):
            p.until(lambda mine=mine: all(f.done() for f in mine), 'answers')
            assert [f.result().result.successful for f in mine] == [t != 'walz' for t in texts]
        for client, p in zip(clients, (node.probe, other), strict=True):
            p.node.destroy_client(client)
    node.acts('swing@1')
    assert node.says['label'] == 'swing@1'


def test_rollback_goes_back_step_by_step_also_when_files_are_gone_and_holds_are_kept(tmp_path):
    store = fill(tmp_path)
    with policy_node(store, adapter='swing@1') as node:

        def back():
            return node.probe.call(Trigger, '/policy/rollback_adapter')

        assert node.says['why'] == 'start'
        node.acts('swing@1')
        for text in ('swing', '', 'grip'):
            assert node.set(text).successful
        store.add('swing', *random_adapter(MANIFEST, 'swing', 8))
        store.add('swing', *random_adapter(MANIFEST, 'swing', 9))
        assert [(r.label, r.removed) for r in store.prune(1, names=['swing'])] == [
            ('swing@4', False), ('swing@3', True), ('swing@2', False), ('swing@1', False),
        ]  # fmt: skip
        expected = {text: runtime_of(store, text) for text in ('', 'swing@2', 'swing@1')}
        sha = {text: prepare(text, store, TENSORS, MANIFEST).sha256 for text in expected}
        shutil.rmtree(tmp_path)
        for text in ('', 'swing@2', 'swing@1', ''):
            before = node.says['label'] or 'the base alone'
            answer = back()
            assert answer.success
            assert answer.message == f'back from {before} to {text or "the base alone"}'
            assert node.get() == text
            node.probe.until(lambda text=text: node.says['label'] == text, text)
            assert node.says['why'] == f'rolled back from {before}'
            row = node.rows(1)[0]
            assert bytes(row['adapter_sha256']).hex() == sha[text]
            np.testing.assert_array_equal(row['mean'], expected[text].act(row['observation']))
        answer = back()
        assert not answer.success
        assert 'the base acts alone' in answer.message


def transition(listening, *numbers):
    """Success of lifecycle transitions."""
    done = []
    for number in numbers:
        request = ChangeState.Request()
        request.transition.id = number
        done.append(listening.call(ChangeState, '/policy/change_state', request).success)
    return done


def test_a_node_that_does_not_act_answers_too(store):
    configure, cleanup, activate, deactivate, shutdown = 1, 2, 3, 4, 7
    domain = fresh_domain()
    with (
        node_process(domain, 'policy', adapter_store=store.root, autostart='false'),
        probe(domain) as listening,
    ):
        listening.meet('/policy')
        node = SimpleNamespace(probe=listening, name='/policy')
        assert Node.set(node, 'walz').successful  # configuring will read it
        assert not listening.call(Trigger, '/policy/rollback_adapter').success
        assert not listening.call(Trigger, '/policy/list_adapters').success
        assert transition(listening, configure) == [False]
        assert Node.set(node, 'swing').successful
        assert transition(listening, configure) == [True]
        heard = listening.listen(String, 'policy/active_adapter', qos.LATCHED)
        listening.until(lambda: heard, 'the active adapter')
        assert json.loads(heard[-1].data)['label'] == 'swing@2'
        assert Node.set(node, 'grip').successful  # inactive: it acts as soon as it may
        listening.until(lambda: json.loads(heard[-1].data)['label'] == 'grip@1', 'grip')
        assert 'there is no adapter' in Node.set(node, 'walz').reason
        assert (
            transition(listening, activate, deactivate, cleanup, configure, activate) == [True] * 5
        )
        whole = Node(listening, store)
        whole.acts('grip')
        assert transition(listening, shutdown) == [True]
        assert Node.set(node, 'swing').reason == 'the policy is shut down'
        assert (
            listening.call(Trigger, '/policy/rollback_adapter').message
            == 'the policy is shut down'
        )


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'adapter': 'walz'}, 'there is no adapter walz'),
        ({'adapter': 'bad@1'}, 'it fell on ice'),
        ({'adapter': 'swing', 'policy': 'trot'}, 'the policy trot has no weights to adapt'),
        ({'adapter_blend': -3}, 'adapter_blend'),
        ({'realtime_priority': 200}, 'realtime_priority is 200, must be 0 or from 1 to 99'),
    ],
)
def test_what_is_refused_at_start_ends_the_node_before_anything_moves(store, given, message):
    domain = fresh_domain()
    with node_process(domain, 'policy', adapter_store=store.root, **given) as process:
        assert process.wait(20) == 2
        assert message in process.stdout.read()


def test_the_command_line_swaps_shows_lists_and_rolls_back(node):
    def run(*words):
        done = lebot('adapter', *words, domain=node.domain)
        return done.returncode, done.stdout + done.stderr

    status, said = run('swing')
    assert status == 0
    assert 'done in' in said
    assert 'active: swing@2' in said
    status, said = run('walz')
    assert status == 2
    assert 'refused: there is no adapter walz' in said
    assert 'active: swing@2' in said
    status, said = run('--list')
    assert status == 0
    assert '* swing@2' in said
    assert '  bad@1    rejected' in said
    status, said = run('--rollback')
    assert status == 0
    assert 'back from swing@2 to the base alone' in said
    assert run('')[1].endswith('rolled back from swing@2)\n')
    status, said = run('--node', 'nobody')
    assert status == 2
    assert 'start `lebot walk` in another terminal' in said


def test_an_adapter_is_checked_before_any_process_starts(store, tmp_path):
    out = str(tmp_path / 'out')
    done = lebot('walk', '--adapter', 'walz', '--adapter-store', str(store.root), '--out', out)
    assert done.returncode == 2
    assert 'there is no adapter walz; there are ' in done.stderr
    assert not (tmp_path / 'out').exists()


HALT = 2_000_000_000


def walk_with_a_swap(tmp_path, store):
    """Commands by stamp of a lockstep walk, swapped at 2 s, and the rows' versions by stamp.

    The simulation waits for the test's cmd_vel, so that robot time stands while the swap is made.
    """
    given = {'teleop': 'none', 'real_time_factor': 0, 'duration': 4, 'monitored': True}
    stack = walk_stack(given | {'adapter_store': str(store.root)})
    stack.nodes[0].parameters['lockstep_topics'] = ['joint_commands', 'cmd_vel']
    stack.nodes[0].parameters['lockstep_timeout'] = 30.0
    domain, stop = fresh_domain(), HALT - PERIOD - 200_000_000  # cmd_vel may lag 0.2 s
    message = TwistStamped()
    message.twist.linear.x = 0.3
    commands, gate = {}, [stop]
    with probe(domain) as listening:
        drive = listening.node.create_publisher(TwistStamped, 'cmd_vel', 10)
        steps = listening.listen(PointCloud2, 'policy/steps', 1000)

        def publish():
            # From 1 ns on: a stamp of 0 counts from its arrival, and so would not hold time up.
            set_stamp(message.header.stamp, min(max(1, max(commands, default=1)), gate[0]))
            drive.publish(message)

        def on_command(command):
            commands[to_ns(command.header.stamp)] = tuple(command.position)
            publish()

        def reached(stamp):
            publish()  # the simulation asks for the newest only: one may be lost
            return stamp in commands

        listening.node.create_subscription(JointState, 'joint_commands', on_command, 1000)
        listening.node.create_subscription(Odometry, 'ground_truth/odom', lambda m: None, 10)
        with Runner(stack, tmp_path, print, environment(domain)):
            listening.until(lambda: reached(HALT), 'the halt', 60.0)
            listening.meet('/policy')
            assert Node.set(SimpleNamespace(probe=listening, name='/policy'), 'swing').successful
            assert max(commands) == HALT
            gate[0] = 1 << 62
            last = 4_000_000_000 - PERIOD
            listening.until(lambda: reached(last), 'the end', 60.0)
            listening.until(lambda: to_ns(steps[-1].header.stamp) >= last - PERIOD, 'its step')
        rows = [read_record(step)[0] for step in steps]
    versions = {
        int(row['sec']) * 10**9 + int(row['nanosec']): int(row['adapter_version']) for row in rows
    }
    return {k: v for k, v in commands.items() if 1.2e9 < k <= last}, versions


def test_a_lockstep_walk_with_a_swap_repeats_to_the_last_bit(tmp_path, store):
    first, versions = walk_with_a_swap(tmp_path / 'a', store)
    again, _ = walk_with_a_swap(tmp_path / 'b', store)
    assert len(first) == (4_000_000_000 - 1_200_000_000) // PERIOD - 1
    assert first == again
    assert {version for stamp, version in versions.items() if stamp <= HALT} == {0}
    assert {version for stamp, version in versions.items() if stamp > HALT} == {2}


FIFO = """
import os, threading
from lebot_rl_ros.ros.realtime import ask_for_realtime
from lebot_rl_ros.ros.records import read_record
assert ask_for_realtime(0) == 'other: not asked for'
print(ask_for_realtime(7))
found = []
thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
thread.start(); thread.join()
assert found == [os.SCHED_OTHER], found
"""


def test_the_control_thread_alone_gets_a_real_time_priority_where_that_is_allowed():
    done = subprocess.run(
        [sys.executable, '-c', FIFO], cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert done.stdout.strip() in (
        'fifo 7',
        'other: not permitted (give the user rtprio, or CAP_SYS_NICE)',
    )
    with pytest.raises(ValueError, match='realtime_priority is -1'):
        ask_for_realtime(-1)
