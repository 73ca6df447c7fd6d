"""What is on trial is taken back when nobody judges it any more."""

import json
from dataclasses import replace

import pytest
from std_msgs.msg import Header, String

from adapter_samples import load_base, random_adapter
from lebot_rl_ros.bringup.graph import Stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.nodes.policy_parameters import PolicyParameters
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.trial_watch import UNWATCHED, TrialWatch
from ros_graph import environment, fresh_domain, probe
from test_adapter_swap import policy_node
from test_walk_learn import hasty_stack


class Listening:
    """A node that keeps what it was given to call."""

    def create_subscription(self, kind, topic, callback, profile):
        assert (kind, topic) == (Header, names.LEARNER_TRIAL)
        self.say = lambda label: callback(Header(frame_id=label))


def steps_until_taken(watch, taken, label, most=20):
    """How many steps of a version until it is taken back; 0: it never is."""
    before = len(taken)
    for number in range(1, most + 1):
        watch.acted(label)
        if len(taken) > before:
            return number
    return 0


def test_only_what_the_learner_named_is_taken_back_and_once():
    node, taken = Listening(), []
    watch = TrialWatch(node, 5, taken.append)
    assert steps_until_taken(watch, taken, 'recover@1') == 0  # nobody said that it is on trial
    node.say('recover@1')
    assert steps_until_taken(watch, taken, 'turn@2') == 0  # an operator's
    assert steps_until_taken(watch, taken, '') == 0
    assert steps_until_taken(watch, taken, 'recover@1') == 6
    assert steps_until_taken(watch, taken, 'recover@1') == 0  # it was told; there is no hurry
    assert taken == ['recover@1']


def test_every_word_begins_the_count_anew_and_an_empty_one_ends_it():
    node, taken = Listening(), []
    watch = TrialWatch(node, 5, taken.append)
    for _ in range(4):
        node.say('recover@1')
        assert steps_until_taken(watch, taken, 'recover@1', 5) == 0
    node.say('')  # it was accepted
    assert steps_until_taken(watch, taken, 'recover@1') == 0
    forever = TrialWatch(node, 0, taken.append)
    node.say('recover@1')
    assert steps_until_taken(forever, taken, 'recover@1', 1000) == 0


@pytest.mark.parametrize('value', [-1.0, float('inf'), float('nan')])
def test_a_patience_that_cannot_be_is_refused(value):
    with pytest.raises(ValueError, match=f'trial_patience is {value}, must be 0 or more seconds'):
        PolicyParameters(trial_patience=value)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    """An adapter in two versions."""
    store, manifest = AdapterStore(tmp_path_factory.mktemp('adapters')), load_base()[1]
    for seed in range(2):
        store.add('recover', *random_adapter(manifest, 'recover', seed))
    return store


@pytest.mark.ros
def test_a_policy_goes_back_to_what_acted_before_the_trial(store):
    with policy_node(store, trial_patience=0.4) as node:  # 20 steps
        words = node.probe.node.create_publisher(Header, names.LEARNER_TRIAL, 10)
        node.probe.until(words.get_subscription_count, 'the policy')

        def label():
            return node.says['label']

        assert node.set('recover@1').successful
        words.publish(Header(frame_id='recover@2'))
        assert words.wait_for_all_acked()
        assert node.set('recover@2').successful
        node.rows(18)
        assert label() == 'recover@2'
        for _ in range(5):
            node.feed.tick()
        node.probe.until(lambda: label() == 'recover@1', 'that it is taken back')
        assert node.says['why'] == UNWATCHED
        assert node.get() == 'recover@1'
        node.acts('recover@1')
        # What an operator sets now is nobody's trial.
        assert node.set('recover@2').successful
        node.rows(40)
        assert label() == 'recover@2'
        node.acts('recover@2')


@pytest.mark.ros
def test_a_learner_that_dies_for_good_leaves_nothing_on_trial(tmp_path):
    """In the whole graph; the trial would last a minute."""
    changes = {
        'learner': {'probation.window': 20.0, 'probation.windows': 3},
        'policy': {'trial_patience': 1.0},
        'sim': {'lockstep_timeout': 1.0},
    }
    stack = hasty_stack(tmp_path, seed=4)
    nodes = tuple(
        replace(spec, parameters={**spec.parameters, **changes.get(spec.name, {})})
        for spec in stack.nodes
    )
    domain = fresh_domain()
    with probe(domain) as listening:
        active = listening.listen(String, names.ACTIVE_ADAPTER, qos.LATCHED)
        said = lambda: [json.loads(word.data) for word in active]  # noqa: E731
        with Runner(
            Stack(nodes, stack.arguments), tmp_path / 'logs', print, environment(domain)
        ) as runner:
            listening.until(
                lambda: active and said()[-1]['label'].startswith('recover@'), 'a trial', 60.0
            )
            runner.processes['learner'].popen.kill()  # and nobody looks after it
            listening.until(lambda: said()[-1]['why'] == UNWATCHED, 'that it is taken back', 60.0)
            assert said()[-1]['label'] == ''
            runner.stop()
    assert UNWATCHED in (tmp_path / 'logs' / 'policy.log').read_text()
