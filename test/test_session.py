"""A learning run without ROS: what is offered, when it acts, and what is taken back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lebot_rl_ros.data.rows import reward_dtype, step_dtype
from lebot_rl_ros.learning.online.gate import Gate, GateConfig
from lebot_rl_ros.learning.online.probation_config import ProbationConfig
from lebot_rl_ros.learning.online.session import Session
from lebot_rl_ros.learning.online.session_config import SessionConfig
from lebot_rl_ros.learning.online.trained import TrainedConfig
from lebot_rl_ros.learning.online.versions import Memory
from lebot_rl_ros.policy.adapters import merge
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.policy.store import AdapterStore
from online_toy import JOINTS, OBSERVATION, OFFSET, small_base

torch.set_num_threads(1)
PERIOD = 20_000_000
BASE, MANIFEST = small_base()
MANIFEST = replace(MANIFEST, sha256='ab' * 32)
OPEN = GateConfig(
    norm=10.0, bias=10.0, change=10.0, change_base=10.0, kl_mean=1e6, kl_p99=1e6, kl_base=1e6,
    saturation=1.0, evidence=None,
)  # fmt: skip
SHORT = ProbationConfig(window=0.5, windows=1, patience=0, settle=0.0, block=0.1)
SETTINGS = {
    'learning_starts': 20, 'batch': 32, 'hidden': 16, 'updates_per_step': 1.0, 'discount': 0.0,
    'actor_rate': 3e-3, 'critic_rate': 3e-3, 'value_scale': 1.0, 'base': 0.0, 'step': 0.2,
}  # fmt: skip
CONFIG = SessionConfig(
    settings=SETTINGS, trained=TrainedConfig('bias'), gate=OPEN, probation=SHORT, offer_every=50
)


class Robot:
    """A walk of numbers on which the base is wrong by OFFSET; acts as it was last told."""

    def __init__(self, seed=0):
        self.rng, self.time, self.version = np.random.default_rng(seed), 0, 0
        self.runtime = PolicyRuntime(BASE, MANIFEST, compiled=False)
        self.base = self.runtime
        self.observation = np.zeros(OBSERVATION, np.float32)
        self.bad = set()  # versions that earn nothing

    def step(self, count=1):
        rows = np.zeros(count, step_dtype(OBSERVATION, JOINTS))
        rewards = np.zeros(count, reward_dtype(['fall']))
        for row, reward in zip(rows, rewards, strict=True):
            row['sec'], row['nanosec'] = divmod(self.time, 10**9)
            reward['sec'], reward['nanosec'] = row['sec'], row['nanosec']
            self.time += PERIOD
            row['next_sec'], row['next_nanosec'] = divmod(self.time, 10**9)
            row['observation'], row['command'] = self.observation, (0.3, 0.0)
            mean, std = self.runtime.act(self.observation), 0.2
            noise = self.rng.standard_normal(JOINTS).astype(np.float32)
            row['mean'], row['std'], row['action'] = mean, std, mean + std * noise
            row['applied_action'], row['mode'], row['blend'] = row['action'], 2, 1.0
            row['log_prob'] = -0.5 * (noise**2).sum() - JOINTS * np.log(std * np.sqrt(2 * np.pi))
            row['adapter_version'] = self.version
            row['base_sha256'] = np.frombuffer(bytes.fromhex(MANIFEST.sha256), np.uint8)
            wanted = self.base.act(self.observation) + OFFSET
            reward['reward'] = 3.0 - np.square(row['action'] - wanted).sum()
            if self.version in self.bad:
                reward['reward'] = 0.0
            step = self.rng.standard_normal(OBSERVATION).astype(np.float32)
            self.observation = np.float32(0.5) * self.observation + step
        return rows, rewards

    def obey(self, swap):
        self.version, self.runtime = swap.version, self.base
        if swap.adapter is not None:
            tensors = merge(BASE, [(swap.adapter, 1.0)])
            self.runtime = PolicyRuntime(tensors, MANIFEST, compiled=False)


def asked_for(session, robot, steps):
    """Walk on; the swaps that are asked for meanwhile, to be answered."""
    for _ in range(steps):
        rows, rewards = robot.step()
        session.steps(rows)
        session.rewards(rewards)
        swap = session.work()
        if swap is not None:
            yield swap


def walk(session, robot, steps, each=lambda swap: None):
    """Step, learn, obey; returns the swaps."""
    swaps = []
    for swap in asked_for(session, robot, steps):
        each(swap)
        robot.obey(swap)
        session.swapped(swap, True, '')
        swaps.append(swap)
    return swaps


def verdicts(session):
    return [(e['stage'], e['verdict'], e['version']) for e in session.events]


def test_versions_are_offered_tried_and_accepted_and_the_robot_gets_better():
    session, robot = Session(BASE, MANIFEST, CONFIG), Robot()
    first = [float(r) for r in robot.step(200)[1]['reward']]
    robot = Robot()
    swaps = walk(session, robot, 600)
    last = robot.step(200)[1]['reward']
    assert np.mean(last) > np.mean(first) + 0.5 * float(np.square(OFFSET).sum())
    assert [swap.version for swap in swaps] == list(range(1, len(swaps) + 1))
    assert len(swaps) >= 5
    assert session.accepted == session.acting or session.acting == f'recover@{len(swaps)}'
    assert [v for _, v, _ in verdicts(session)][:4] == [
        'probation', 'accepted', 'probation', 'accepted',
    ]  # fmt: skip
    assert session.counts['accepted'] >= len(swaps) - 1
    assert session.statistics()['stream_joined'] == session.counts['rows'] >= 598


def test_rows_alone_decide():
    """The same rows give the same versions, bit for bit; other draws give others."""
    tensors = []
    for seed in (0, 0, 1):
        session, robot = Session(BASE, MANIFEST, CONFIG, seed=seed), Robot()
        swaps = walk(session, robot, 300)
        tensors.append([swap.adapter.tensors['actor.0.bias'].tobytes() for swap in swaps])
    assert len(tensors[0]) >= 3
    assert tensors[0] == tensors[1]
    assert tensors[0] != tensors[2]


def test_what_earns_less_is_taken_back_and_what_acted_before_acts_again():
    session, robot = Session(BASE, MANIFEST, CONFIG), Robot()
    robot.bad = {2}
    swaps = walk(session, robot, 260)
    assert [swap.label for swap in swaps[:3]] == ['recover@1', 'recover@2', 'recover@1']
    assert 'it earned 0.00 a step' in swaps[2].reason
    assert ('probation', 'rejected', 2) in verdicts(session)
    stored = session._store.get('recover', 2).manifest
    assert stored.verdict == 'rejected'
    assert 'the accepted version' in stored.reason
    assert session.learner.experience.quarantined > 0
    assert session.counts['rolled_back'] == 1
    assert swaps[3].version == 3
    assert swaps[3].adapter.manifest.parent == 'recover@1'


def test_without_anything_accepted_it_goes_back_to_the_base():
    session, robot = Session(BASE, MANIFEST, CONFIG), Robot()
    robot.bad = {1}
    swaps = walk(session, robot, 200)
    assert (swaps[1].label, swaps[1].adapter) == ('', None)


def gone_wrong(**changes):
    """A session whose accepted version has come to earn nothing; its robot and swaps since."""
    session, robot = Session(BASE, MANIFEST, replace(CONFIG, **changes)), Robot()
    walk(session, robot, 330)
    assert session.accepted
    robot.bad = set(range(100))
    robot.bad.discard(0)
    return session, robot


def test_what_leads_below_the_base_gives_way_to_it():
    session, robot = gone_wrong()
    accepted, swaps = session.accepted, []
    for _ in range(600):
        swaps += walk(session, robot, 1)
        if session.counts['went_home']:
            break
    assert (swaps[-1].label, swaps[-1].adapter) == ('', None)
    assert swaps[-1].reason == 'what was accepted earns less than the base did: the base is tried'
    told = [(e['verdict'], e['version']) for e in session.events if e['stage'] == 'base']
    assert told == [('probation', 0), ('accepted', 0)]
    assert (session.accepted, session.acting) == ('', '')
    assert accepted
    fresh = Session(BASE, MANIFEST, CONFIG).learner.trained.export()[1]
    np.testing.assert_array_equal(
        session.learner.trained.export()[1]['actor.0.bias'], fresh['actor.0.bias']
    )
    robot.bad = set()
    swaps = walk(session, robot, 200)  # and learns again
    assert swaps[0].adapter.manifest.parent == ''


def test_a_base_that_is_no_better_gives_way_to_what_was_accepted():
    session, robot = gone_wrong()
    robot.bad.add(0)  # the world is bad for all
    swaps = []
    for _ in range(900):
        swaps += walk(session, robot, 1)
        if ('base', 'rejected', 0) in verdicts(session):
            break
    assert [swap.label for swap in swaps[-2:]] == ['', session.accepted]
    assert session.acting == session.accepted != ''
    assert session.counts['went_home'] == 0


def test_a_base_that_may_not_act_is_tried_again_later():
    session, robot = gone_wrong()
    asked = []
    for swap in asked_for(session, robot, 600):
        refused = swap.version == 0 and not asked
        asked += [swap] * (swap.version == 0)
        if not refused:
            robot.obey(swap)
        session.swapped(swap, not refused, 'it is not there')
        if session.counts['went_home']:
            break
    assert len(asked) == 2
    assert (session.counts['went_home'], session.accepted) == (1, '')


def test_one_swap_at_a_time_and_a_refused_one_is_no_version():
    session, robot = Session(BASE, MANIFEST, CONFIG), Robot()
    swap = None
    while swap is None:
        rows, rewards = robot.step()
        session.steps(rows)
        session.rewards(rewards)
        swap = session.work()
    for _ in range(120):  # nobody answers
        rows, rewards = robot.step()
        session.steps(rows)
        session.rewards(rewards)
        assert session.work() is None
    session.swapped(swap, False, 'no such policy')
    assert session.acting == session.accepted == ''
    assert session._store.get('recover', 1).manifest.reason == 'no such policy'
    following = walk(session, robot, 3)
    assert following[0].version == 2


def test_a_rollback_that_is_refused_is_asked_for_again():
    session, robot = Session(BASE, MANIFEST, CONFIG), Robot()
    robot.bad = {1}
    asked = []
    for swap in asked_for(session, robot, 200):
        asked.append(swap.version)
        acts = asked != [1, 0]  # the first word to go back is lost
        if acts:
            robot.obey(swap)
        session.swapped(swap, acts, '' if acts else 'the policy is gone')
        if asked[-2:] == [0, 0]:
            break
    assert asked == [1, 0, 0]


def test_a_learner_that_breaks_never_acts_and_begins_again():
    session, robot = Session(BASE, MANIFEST, CONFIG), Robot()
    walk(session, robot, 60)
    with torch.no_grad():
        session.learner.trained.parameters()[0][0] = float('nan')
    swaps = walk(session, robot, 60)
    assert swaps == []
    broken = [e for e in session.events if e['verdict'] == 'rejected' and e['stage'] == 'static']
    assert 'not finite' in broken[0]['reason']
    assert session.counts['refused'] == 1
    assert torch.isfinite(session.learner.trained.parameters()[0]).all()
    assert walk(session, robot, 120)


def test_without_a_gate_every_version_acts():
    session, robot = Session(BASE, MANIFEST, replace(CONFIG, gate=None)), Robot()
    robot.bad = {1, 2}
    swaps = walk(session, robot, 300)
    assert [swap.version for swap in swaps] == [1, 2, 3, 4, 5]
    assert not session.events


def test_it_goes_on_from_a_checkpoint_with_what_was_accepted(tmp_path):
    store = AdapterStore(tmp_path)
    session, robot = Session(BASE, MANIFEST, CONFIG, store), Robot()
    walk(session, robot, 330)
    state, meta = session.state(), session.meta
    accepted = session.accepted
    assert accepted
    other = Session(BASE, MANIFEST, CONFIG, AdapterStore(tmp_path), seed=9)
    other.load_state(state, meta)
    assert other.accepted == other.acting == accepted
    assert other.counts == session.counts
    for name, value in other.state().items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)
    robot.obey(other.trials.ask(other.trials.accepted, 'goes on'))
    other.swapped(other.trials.asked, True, '')
    swaps = walk(other, robot, 160)
    assert swaps
    assert swaps[0].version == max(store.versions('recover')) or swaps[0].version > 1
    assert store.manifest('recover', 1).verdict == 'accepted'


def test_it_goes_on_from_an_accepted_adapter():
    session, robot = Session(BASE, MANIFEST, CONFIG), Robot()
    walk(session, robot, 330)
    start = session.trials.accepted
    other = Session(BASE, MANIFEST, CONFIG, Memory(), start=start)
    assert other.accepted == start.manifest.label
    np.testing.assert_array_equal(
        other.learner.trained.export()[1]['actor.0.bias'], start.tensors['actor.0.bias']
    )


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'learner': 'sarsa'}, "learner is 'sarsa'; choices are td3, ppo, actor_critic"),
        ({'settings': {'speed': 1}}, "td3 has no setting 'speed'; it has batch"),
        ({'trained': TrainedConfig('residual')}, 'a residual network is no adapter'),
    ],
)
def test_unfit_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        Session(BASE, MANIFEST, replace(CONFIG, **changes))


def test_unfit_numbers_are_refused():
    with pytest.raises(ValueError, match='offer_every is 0'):
        SessionConfig(offer_every=0)


def test_what_has_not_changed_is_not_offered_again():
    """A learner that waits for a large batch has nothing new to try."""
    settings = {'batch': 400, 'minibatch': 100, 'learning_rate': 3e-3}
    session, robot = (
        Session(BASE, MANIFEST, replace(CONFIG, learner='ppo', settings=settings)),
        Robot(),
    )
    swaps = walk(session, robot, 1300)
    assert session.counts['learned'] > 1200
    assert 1 <= len(swaps) <= 3


def test_a_learner_that_is_ahead_and_stands_still_goes_back_to_what_acts():
    """Nothing that it is given may be fresh enough to learn from: it would stand for ever."""
    session, robot = Session(BASE, MANIFEST, CONFIG), Robot()
    walk(session, robot, 130)
    accepted = session.trials.accepted.tensors['actor.0.bias']
    session.learner.update = dict  # nothing is due any more
    with torch.no_grad():
        session.learner.trained.parameters()[0] += 1.0
    session._gate = Gate(BASE, MANIFEST, replace(OPEN, change=1e-9))  # so that it is refused
    walk(session, robot, 50)
    ahead = session.learner.trained.export()[1]['actor.0.bias']
    assert np.abs(ahead - accepted).max() > 0.9
    walk(session, robot, 60)
    np.testing.assert_array_equal(session.learner.trained.export()[1]['actor.0.bias'], accepted)


@pytest.mark.parametrize(('learner', 'rate'), [('td3', 'actor_rate'), ('ppo', 'learning_rate')])
def test_all_weights_are_trained_more_slowly_unless_told_otherwise(learner, rate):
    def made(kind, **settings):
        config = SessionConfig(learner=learner, trained=TrainedConfig(kind), settings=settings)
        return getattr(Session(BASE, MANIFEST, config).learner.config, rate)

    assert made('all') == pytest.approx(0.2 * made('lora'))
    assert made('all', **{rate: 0.5}) == 0.5


def test_bundles_of_rows_do_not_matter():
    """What comes one by one, or some at once, teaches the same."""
    learned = []
    for sizes in ((1,) * 40, (3, 10, 1, 4, 6, 10, 6)):
        session, robot = Session(BASE, MANIFEST, CONFIG), Robot()
        for size in sizes:
            rows, rewards = robot.step(size)
            session.steps(rows)
            session.rewards(rewards)
            session.work()
        learned.append(session.state())
        assert session.counts['learned'] == 39
    assert learned[0].keys() == learned[1].keys()
    for name, value in learned[0].items():
        np.testing.assert_array_equal(value, learned[1][name], err_msg=name)


def test_a_learner_that_lies_behind_does_not_fall_further_behind():
    """Of what came while it learned it does what it may at once, and leaves the rest out."""
    session, robot = Session(BASE, MANIFEST, with_settings(updates_per_step=2.0, most=7)), Robot()
    for size in (40, 400, 30):  # the first of them before learning starts
        before = session.learner.updates
        rows, rewards = robot.step(size)
        session.steps(rows)
        session.rewards(rewards)
        session.work()
        assert session.learner.updates - before == (0 if size == 40 else 7)
    assert session.counts['learned'] == 469
    assert session.statistics()['updates_left_out'] == 2 * 430 - 14
    assert len(session.learner.experience) == 469


def with_settings(**settings):
    return replace(CONFIG, settings=SETTINGS | settings)
