"""Bag first, then online: replay from recorded steps, and a version that was trained before."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lebot_rl_ros.bringup.arguments import REPLAYING, parse_arguments
from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.learning.online.checkpoint import pack, unpack
from lebot_rl_ros.learning.online.learner import Replaying
from lebot_rl_ros.learning.online.registry import LEARNERS
from lebot_rl_ros.learning.online.session import Session
from lebot_rl_ros.learning.online.td3 import OnlineTD3
from lebot_rl_ros.learning.online.td3_config import OnlineTD3Config
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.learning.online.versions import Memory
from lebot_rl_ros.nodes.learning_start import newest_untried
from lebot_rl_ros.policy.adapters import AdapterManifest
from lebot_rl_ros.policy.store import AdapterStore
from offline_bags import slipped_bag
from offline_bags import walked as walked_alone
from online_toy import learner, signed, slipped_rows, the_same
from test_session import BASE, CONFIG, MANIFEST, SETTINGS, Robot, verdicts, walk
from test_walk_learn import walked

torch.set_num_threads(1)
QUICK = {'learning_starts': 1, 'most': 10_000, 'batch': 32, 'hidden': 16, 'capacity': 500}


def recorded(count, version=0, seed=0):
    """Rows of the toy's base, with the hash that its manifest has here."""
    trained = Trained(BASE, MANIFEST, CONFIG.trained)
    rows = slipped_rows(trained, np.random.default_rng(seed), count, version)
    rows['base_sha256'] = np.frombuffer(bytes.fromhex(MANIFEST.sha256), np.uint8)
    return rows


def session_of(**settings):
    config = replace(CONFIG, settings={**SETTINGS, **settings})
    return Session(BASE, MANIFEST, config)


def offline_version(store, shift, verdict='candidate', method='offline td3_bc', name='recover'):
    """A version that moves the mean action by ``shift``, as an offline training writes it."""
    trained = Trained(BASE, MANIFEST, CONFIG.trained)
    with torch.no_grad():
        trained.actor[len(trained.layers) - 1].bias += torch.tensor(shift, dtype=torch.float32)
    lora, tensors = trained.export()
    about = AdapterManifest(
        name, 1, MANIFEST.sha256, MANIFEST.robot, MANIFEST.joint_names,
        training={'method': method}, verdict=verdict,
    )  # fmt: skip
    return store.add(name, lora, tensors, about)


# --- replay


def test_td3_takes_recorded_steps_into_its_ring():
    session = session_of(capacity=10_000)
    rows = recorded(300)
    known = int(((rows['known'] > 0) | (rows['terminated'] > 0)).sum())
    assert session.replay(rows) == known
    ring = session.learner.recorded
    assert len(ring) == known
    assert len(session.learner.experience) == 0
    kept = rows[rows['known'] > 0]
    np.testing.assert_array_equal(ring.observations[:known], kept['observation'])
    np.testing.assert_array_equal(ring.rewards[:known], kept['reward'])  # as they are online
    assert session.statistics()['replayed'] == known
    assert session.counts['learned'] == 0


def test_the_newest_stay_where_there_is_less_room():
    session = session_of(capacity=100)
    rows = recorded(300)
    session.replay(rows)
    ring = session.learner.recorded
    assert len(ring) == 100
    kept = rows[rows['known'] > 0][-100:]
    assert {r.tobytes() for r in ring.actions} == {r.tobytes() for r in kept['action']}


def test_versions_of_another_run_are_not_mistaken_for_rejected_ones():
    session = session_of(capacity=10_000)
    session.replay(signed(recorded(200), 3))
    session.learner.revert(None, {3})
    assert session.learner.recorded.quarantined == 0


def test_steps_of_another_base_are_refused():
    rows = recorded(50)
    rows['base_sha256'][7:] = 1
    with pytest.raises(ValueError, match='made with the base 010101010101, this one is abab'):
        session_of().replay(rows)


@pytest.mark.parametrize('name', ['ppo', 'actor_critic', 'streaming_actor_critic'])
def test_who_learns_on_policy_cannot_use_them(name):
    session = Session(BASE, MANIFEST, replace(CONFIG, learner=name, settings={}))
    with pytest.raises(ValueError, match=f'{name} learns from what .* learners that can are td3'):
        session.replay(recorded(50))


def test_the_critics_learn_first_and_the_policy_stays():
    found = learner(OnlineTD3, OnlineTD3Config(**{**QUICK, 'replay_updates': 70, 'most': 10}))
    found.replay(recorded(300))
    before = {name: p.clone() for name, p in found.trained.actor.named_parameters()}
    critics = [p.clone() for p in found.critics.parameters()]
    assert found.update() == {}  # nothing to offer
    assert found.updates == 40  # some at a time: the robot walks meanwhile
    assert found.update() == {}
    assert found.updates == 70
    for name, p in found.trained.actor.named_parameters():
        assert torch.equal(p, before[name])
    assert any((p != q).any() for p, q in zip(found.critics.parameters(), critics, strict=True))
    found.ingest(recorded(40, seed=1))
    found.ingest(recorded(10, seed=2))
    assert found.update()['updates'] == 80
    moved = dict(found.trained.actor.named_parameters())
    assert any(not torch.equal(p, before[name]) for name, p in moved.items())


def test_a_learner_that_has_replay_knows_what_actions_are_worth():
    """Of a bandit: the error of Q on new steps, once the robot has walked for two seconds."""
    fresh, errors = recorded(400, seed=9), []
    for rows in (None, recorded(500)):
        settings = {'discount': 0.0, 'critic_rate': 3e-3, 'value_scale': 1.0, 'capacity': 5000}
        found = learner(OnlineTD3, OnlineTD3Config(**{**QUICK, **settings, 'replay_updates': 500}))
        if rows is not None:
            found.replay(rows)
            found.update()
        found.ingest(recorded(40, seed=5))
        found.ingest(recorded(60, seed=6))
        found.update()
        with torch.no_grad():
            seen = found.trained.normalised(torch.from_numpy(np.array(fresh['observation'])))
            said = found.critics(seen, torch.from_numpy(np.array(fresh['action']))).mean(dim=0)
            base = [found.base.value(one) for one in np.array(fresh['observation'])]
            error = said.numpy() + base - fresh['reward']
        errors.append(float(np.square(error).mean()))
    assert errors[1] < 0.5 * errors[0]


def test_a_checkpoint_keeps_what_is_still_due(tmp_path):
    config = OnlineTD3Config(**{**QUICK, 'replay_updates': 120, 'most': 20})
    found, again = (learner(OnlineTD3, config) for _ in range(2))
    found.replay(recorded(200))
    found.update()
    file = tmp_path / 'checkpoint'
    file.write_bytes(pack(found.state(), {}))
    again.load_state(unpack(file)[0])
    for one in (found, again):
        one.update()
        one.update()
        one.ingest(recorded(60, seed=2))
        one.ingest(recorded(60, seed=3))
        one.update()
    assert found.updates == again.updates == 120 + 20
    the_same(found.state(), again.state())


def test_a_session_with_replay_goes_on_bit_for_bit():
    walked = []
    for _ in range(2):
        session, robot = session_of(replay_updates=100), Robot()
        session.replay(recorded(200))
        swaps = walk(session, robot, 300)
        walked.append([swap.adapter.tensors['actor.0.bias'].tobytes() for swap in swaps])
    assert walked[0] == walked[1]
    assert len(walked[0]) >= 2


def test_the_table_of_learners_says_who_can():
    """What the arguments of a walk know without torch is what the learners are."""
    able = {name for name, (one, _) in LEARNERS.items() if hasattr(one, 'replay')}
    assert able == set(REPLAYING)
    assert isinstance(session_of().learner, Replaying)


def test_half_of_a_batch_is_recorded():
    found = learner(OnlineTD3, OnlineTD3Config(**QUICK))
    bag, own = recorded(200), recorded(100, seed=1)
    bag['reward'], own['reward'] = 1.0, 2.0
    found.replay(bag)
    assert (found._draw()[2] == 1.0).all()  # nothing else is there yet
    found.ingest(own)
    drawn = found._draw()
    assert [len(column) for column in drawn] == [32] * 5
    assert int((drawn[2] == 1.0).sum()) == 16
    found.replay(recorded(10)[:0])
    assert len(found.recorded) > 100


# --- a version that was trained before


def test_a_version_from_offline_is_tried_first_and_gone_on_from():
    store = Memory()
    first = offline_version(store, [0.3, -0.2])
    session, robot = Session(BASE, MANIFEST, CONFIG, store, first=first), Robot()
    swaps = walk(session, robot, 80)
    assert swaps[0].label == 'recover@1'
    assert verdicts(session)[:2] == [
        ('behaviour', 'probation', 1), ('probation', 'accepted', 1),
    ]  # fmt: skip
    assert store.get('recover', 1).manifest.verdict == 'accepted'
    assert session.accepted == 'recover@1'
    walk(session, robot, 200)
    assert session.counts['accepted'] >= 2
    assert store.get('recover', 2).manifest.parent == 'recover@1'


def test_a_version_from_offline_that_earns_less_is_taken_back():
    store = Memory()
    first = offline_version(store, [0.3, -0.2])
    session, robot = Session(BASE, MANIFEST, CONFIG, store, first=first), Robot()
    robot.bad = {1}
    assert walk(session, robot, 20) == []  # what the base earns must be known first
    swaps = walk(session, robot, 60)
    assert [swap.label for swap in swaps[:2]] == ['recover@1', '']
    assert store.get('recover', 1).manifest.verdict == 'rejected'
    lora, tensors = session.learner.trained.export()
    base = Trained(BASE, MANIFEST, CONFIG.trained).export()[1]
    assert lora is not None
    assert np.abs(tensors['actor.2.bias'] - base['actor.2.bias']).max() < 0.1


def test_a_version_from_offline_that_cannot_act_is_forgotten():
    store = Memory()
    first = offline_version(store, [0.3, -0.2])
    session, robot = Session(BASE, MANIFEST, CONFIG, store, first=first), Robot()
    swap = None
    while swap is None:
        rows, rewards = robot.step()
        session.steps(rows)
        session.rewards(rewards)
        swap = session.work()
    session.swapped(swap, False, 'no such policy')
    assert session.acting == ''
    base = Trained(BASE, MANIFEST, CONFIG.trained).export()[1]
    for name, value in session.learner.trained.export()[1].items():
        np.testing.assert_array_equal(value, base[name])
    assert all(swap.version > 1 for swap in walk(session, robot, 120))  # it is not asked for again


def test_a_first_trial_that_was_cut_short_is_made_again():
    store = Memory()
    first = offline_version(store, [0.3, -0.2])
    session, robot = Session(BASE, MANIFEST, CONFIG, store, first=first), Robot()
    assert [swap.label for swap in walk(session, robot, 40)] == ['recover@1']
    state, meta = session.state(), session.meta
    again = Session(BASE, MANIFEST, CONFIG, store)
    again.load_state(state, meta)
    assert again.acting == ''
    swaps = walk(again, Robot(), 80)
    assert swaps[0].label == 'recover@1'
    assert again.accepted == 'recover@1'
    state, meta = again.state(), again.meta
    assert meta['first'] == 0


@pytest.mark.parametrize(
    ('versions', 'expected'),
    [
        ([], 0),
        ([('candidate', 'offline td3_bc')], 1),
        ([('candidate', 'online td3')], 0),  # a trial of another run, cut short
        ([('rejected', 'offline td3_bc')], 0),
        ([('candidate', 'offline awac'), ('accepted', 'online td3')], 0),
        ([('accepted', 'online td3'), ('candidate', 'offline awac')], 2),
        ([('candidate', 'offline bc'), ('candidate', 'offline awac')], 2),
    ],
)
def test_the_newest_version_from_offline_that_nobody_tried(tmp_path, versions, expected):
    store = AdapterStore(tmp_path)
    for verdict, method in versions:
        offline_version(store, [0.1, 0.1], verdict, method)
    found = newest_untried(store, 'recover')
    assert (found.manifest.version if found else 0) == expected


# --- the whole graph


@pytest.mark.ros
def test_a_walk_begins_with_a_bag_and_tries_what_was_trained_from_it(tmp_path):
    bag = slipped_bag(tmp_path / 'bag', 60.0)
    words = ['--bags', bag, '--method', 'bc', '--adapter', 'recover', '--rank', '2']
    words += ['--steps', '5', '--store', tmp_path / 'store', '--quiet']
    assert main(['train', 'offline', *map(str, words)]) == 0
    verdicts = walked(tmp_path, adapter='recover', learn_bags=str(bag), duration=8.0)
    told = [(v['stage'], v['verdict'], v['version']) for v in verdicts]
    assert told[:2] == [('behaviour', 'probation', 1), ('probation', 'accepted', 1)]
    assert AdapterStore(tmp_path / 'store').manifest('recover', 1).verdict == 'accepted'
    (log,) = (tmp_path / 'logs').glob('learner*')
    steps, _ = walked_alone(60.0)
    assert (
        f'first with recover@1 on trial, with {len(steps) - 1} recorded steps' in log.read_text()
    )


# --- the walk's arguments


def test_the_learner_is_told_the_bags():
    stack = walk_stack({'learn': True, 'learn_bags': '/a/one /b/two'})
    told = next(node for node in stack.nodes if node.name == 'learner')
    assert told.parameters['bags'] == '/a/one /b/two'


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'learn_bags': 'a'}, 'learn_bags is .a., which nobody learns from; give learn'),
        ({'learn': True, 'learner': 'ppo', 'learn_bags': 'a'}, 'learner is ppo, .* td3'),
    ],
)
def test_bags_that_nobody_would_read_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        parse_arguments(given)
