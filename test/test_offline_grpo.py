"""GRPO on continuations: groups, credit, and robots that go on from recorded steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from lebot_rl_ros.cli.policy_task import task_config
from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.data.joining import Joiner
from lebot_rl_ros.envs.adapting import NOISY, FaultyRobot
from lebot_rl_ros.envs.continuations import Continuations, ContinuedTask, sensed
from lebot_rl_ros.envs.faulty_task import FaultyTask, judge
from lebot_rl_ros.envs.gym_world import GymWorld
from lebot_rl_ros.learning.episodes import Episodes
from lebot_rl_ros.learning.method import Box, Outcome
from lebot_rl_ros.learning.offline.credit import returns_to_go, step_advantages
from lebot_rl_ros.learning.offline.grpo import OfflineGRPO, OfflineGRPOConfig
from lebot_rl_ros.learning.offline.registry import METHODS, make_method
from lebot_rl_ros.learning.online.trained import Trained, TrainedConfig
from lebot_rl_ros.mdp.observations import ObservationLayout
from lebot_rl_ros.sim.randomisation import NOMINAL
from online_toy import OBSERVATION, OFFSET, mistake, small_base

torch.set_num_threads(1)
SLIP = ('slip:rr_hip:0.35',)


# --- credit


def episodes(lengths, groups, rewards):
    number = np.repeat(np.arange(len(lengths)), lengths)
    count = len(number)
    rewards = np.asarray(rewards, np.float32)
    nothing = np.zeros((count, 1), np.float32)
    return Episodes(
        nothing, nothing, rewards, rewards, number, np.array(groups),
        np.ones(len(lengths), bool), count,
    )  # fmt: skip


def test_returns_to_go_by_hand():
    found = returns_to_go(np.array([1.0, 2.0, 4.0, 8.0]), np.array([3, 1]), 0.5)
    assert found.tolist() == [1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4.0, 8.0]


def test_credit_by_hand():
    """Two continuations of one state: the second walks a step longer."""
    played = episodes([2, 3], [0, 0], [1.0, 1.0, 3.0, 0.0, 5.0])
    whole = step_advantages(played, 'episode', 1.0, scale=False)
    assert whole.tolist() == [-3.0, -3.0, 3.0, 3.0, 3.0]  # returns 2 and 8
    togo = step_advantages(played, 'togo', 1.0, scale=False)
    # 2 and 8, then 1 and 5; nobody is left to compare the last step with.
    assert togo.tolist() == [-3.0, -2.0, 3.0, 2.0, 0.0]
    scaled = step_advantages(played, 'togo', 1.0, scale=True)
    assert_allclose(scaled, togo / np.sqrt((9 + 4 + 9 + 4 + 0) / 5))


@given(st.data())
def test_advantages_sum_to_zero(data):
    groups = data.draw(st.integers(1, 4))
    size = data.draw(st.integers(2, 5))
    lengths = data.draw(
        st.lists(st.integers(1, 6), min_size=groups * size, max_size=groups * size)
    )
    whose = np.repeat(np.arange(groups), size)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    played = episodes(lengths, whose, rng.standard_normal(sum(lengths)) + 3.0)
    first = np.cumsum(lengths) - lengths
    time = np.arange(sum(lengths)) - np.repeat(first, lengths)
    for scale in (False, True):
        togo = step_advantages(played, 'togo', 0.9, scale=scale)
        for group in range(groups):
            for t in range(6):
                step = (whose[played.number] == group) & (time == t)
                assert abs(togo[step].sum()) < 1e-5
        whole = step_advantages(played, 'episode', 0.9, scale=scale)
        per_episode = whole[first]
        assert_array_equal(whole, np.repeat(per_episode, lengths))
        for group in range(groups):
            assert abs(per_episode[whose == group].sum()) < 1e-5


# --- a world whose answer is known


class Target:
    """Robots that earn -|a - (base mean + OFFSET)|²; its tasks are the states that they see."""

    name, steps = 'target', 0

    def __init__(self, trained, count):
        self._trained, self.count = trained, count
        self.observation_space = self.action_space = Box((1,), np.zeros(1), np.ones(1))
        self.observation = np.zeros((count, OBSERVATION), np.float32)
        self.tasks, self.finished = [], []

    def sample_tasks(self, count, rng):
        return rng.standard_normal((count, OBSERVATION)).astype(np.float32)

    def set_task(self, tasks):
        self.tasks.append(tasks)
        self.observation = tasks.copy()

    def step(self, action):
        self.steps += self.count
        wanted = self._trained.base_mean(torch.from_numpy(self.observation)).numpy() + OFFSET
        reward = -np.square(action - wanted).sum(axis=1)
        self.observation = 0.5 * self.observation
        nobody = np.zeros(self.count, bool)
        return Outcome(self.observation, self.observation, reward, nobody, nobody)


def toy(**settings):
    base, manifest = small_base()
    trained = Trained(base, manifest, TrainedConfig(), 0)
    settings = {'groups': 4, 'group_size': 8, 'horizon': 5, 'minibatch': 80, **settings}
    method = make_method('grpo', trained, base, settings, 0)
    method.world = Target(trained, method.config.groups * method.config.group_size)
    return method


@pytest.mark.parametrize('credit', ['togo', 'episode'])
def test_it_finds_what_earns_more(credit):
    method = toy(credit=credit, actor_rate=3e-3, std=0.2)
    before = mistake(method.trained)
    told = method.learn(None, 400)
    after = mistake(method.trained)
    assert before == pytest.approx(float(np.square(OFFSET).sum()), rel=1e-5)
    assert after < (0.1 if credit == 'togo' else 0.4) * before
    assert told['simulated_steps'] == method.world.steps
    assert 0.0 <= told['approx_kl'] < 1.0


def test_a_group_begins_in_one_state_and_groups_differ():
    method = toy()
    method.learn(None, 1)
    tasks = method.world.tasks[0].reshape(4, 8, OBSERVATION)
    assert (tasks == tasks[:, :1]).all()
    assert len(np.unique(tasks[:, 0], axis=0)) == 4
    first = method.last.observations[method.last.number == 0][0]
    assert_array_equal(first, tasks[0, 0])


def test_the_first_gradient_is_that_of_the_advantages_alone():
    """At ratio 1 nothing is clipped: the loss is -mean of the advantages, which is zero."""
    method = toy(minibatch=10_000)
    told = method.learn(None, 1)
    assert abs(told['policy_loss']) < 1e-5
    assert told['clip_fraction'] == 0.0
    assert told['approx_kl'] == pytest.approx(0.0, abs=1e-6)


def test_the_kl_holds_it_at_the_reference():
    free, held = toy(actor_rate=3e-3), toy(actor_rate=3e-3, kl_coefficient=5.0)
    for method in (free, held):
        method.learn(None, 150)
    assert mistake(held.trained) > 2.0 * mistake(free.trained)


def test_a_far_update_ends_its_round():
    method = toy(target_kl=1e-9, actor_rate=1e-2)
    method.learn(None, 6)
    # The first minibatch of a round is at ratio 1; the second one is too far, and the last.
    assert method.rounds == 3


def test_what_it_refuses():
    method = toy()
    method.world = None
    with pytest.raises(ValueError, match='has no simulator'):
        method.learn(None, 1)
    method.world = Target(method.trained, 30)
    with pytest.raises(ValueError, match='has 30 robots, 4 groups of 8 need 32'):
        method.learn(None, 1)
    for settings in ({'group_size': 1}, {'std': 0.0}, {'credit': 'luck'}, {'discount': 1.1}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            OfflineGRPOConfig(**settings)


# --- robots that go on from recorded steps


@pytest.fixture(scope='module')
def base(lebot):
    return load_walk(lebot, 'walk')


@pytest.fixture(scope='module')
def settings(lebot, base):
    own = task_config(lebot, base.policy.manifest, 'walk')
    return replace(own, randomisation=NOMINAL, episode=1e6)


def walked(lebot, base, seconds, faults=(), randomisation=NOMINAL, exploration=0.0, seed=0):
    """Rows of a walk, and the simulator's positions, velocities and truth before each of them."""
    walker = Walker(lebot, base, seed=seed, exploration=exploration)
    robot = FaultyRobot(lebot, walker, base.gait, faults, seed=seed, randomisation=randomisation)
    joiner, were = None, []
    while robot.seconds < seconds:
        were.append((robot.simulation.qpos[0].copy(), robot.simulation.qvel[0].copy()))
        steps, rewards = robot.step()
        if joiner is None:
            joiner = Joiner.fitting(
                steps.dtype, rewards.dtype, period=20_000_000,
                base_sha256=base.policy.manifest.sha256,
            )  # fmt: skip
        joiner.steps(steps)
        joiner.rewards(rewards)
    return joiner.flush(), were


@pytest.mark.parametrize('faults', [(), SLIP])
def test_a_restored_robot_is_where_the_recorded_one_was(lebot, base, settings, faults):
    """Without noise, all but place and heading comes back; velocity as legs can tell it."""
    rows, were = walked(lebot, base, 3.0, faults)
    chosen = np.array([60, 83, 101, 119, 140])
    task = ContinuedTask(lebot, rows[chosen], faults, settings)
    observation = task.reset()
    assert_allclose(observation, rows['observation'][chosen], atol=2e-3)
    simulation = task.simulation
    for robot, index in enumerate(chosen):
        qpos, qvel = were[index]
        assert_allclose(simulation.qpos[robot, 7:], qpos[7:], atol=1e-5)
        assert_allclose(simulation.qvel[robot, 3:], qvel[3:], atol=1e-4)
        assert abs(simulation.qpos[robot, 2] - qpos[2]) < 0.006
        speed = np.linalg.norm(simulation.qvel[robot, :2]), np.linalg.norm(qvel[:2])
        assert abs(speed[0] - speed[1]) < 0.15


def test_it_goes_on_as_the_recorded_one_did(lebot, base, settings):
    """The same actions lead to about the same joints for a fifth of a second."""
    rows, _ = walked(lebot, base, 3.0)
    start = 100
    task = ContinuedTask(lebot, rows[[start]], (), settings)
    task.reset()
    for index in range(start, start + 10):
        outcome = task.step(rows['action'][[index]].astype(float))
    then = slice(6, 14)  # joint angles
    gone = np.abs(outcome.observation[0] - rows['observation'][start + 10])[then]
    moved = np.abs(rows['observation'][start] - rows['observation'][start + 10])[then]
    assert gone.max() < 0.1
    assert gone.max() < 0.4 * moved.max()
    assert outcome.observation[0, -2:] == pytest.approx(
        rows['observation'][start + 10, -2:], abs=1e-6
    )  # the gait clock
    assert_array_equal(
        outcome.observation[0, 30:32], rows['observation'][start + 10, 30:32]
    )  # the command


def test_servos_that_hear_late_still_follow_what_they_were_told_before(lebot, base, settings):
    late = replace(NOMINAL, latency=(0.02, 0.02))  # s: one period
    rows, _ = walked(lebot, base, 2.5, (), late)
    chosen = np.array([101, 108, 113])
    task = ContinuedTask(lebot, rows[chosen], (), replace(settings, randomisation=late))
    task.reset()
    outcome = task.step(np.zeros((3, 8)))  # which they do not hear yet
    then = slice(6, 14)  # joint angles
    error = np.abs(outcome.observation - rows['observation'][chosen + 1])[:, then]
    assert error.max() < 0.02


def test_who_fell_begins_again_where_it_began(lebot, base, settings):
    rows, _ = walked(lebot, base, 1.0)
    task = ContinuedTask(lebot, rows[[20, 30]], (), settings)
    first = task.reset()
    task.simulation.qpos[1, 3:7] = np.cos(0.6), np.sin(0.6), 0.0, 0.0
    outcome = task.step(np.zeros((2, 8)))
    assert outcome.terminated.tolist() == [False, True]
    assert_allclose(outcome.observation[1], first[1], atol=2e-3)
    assert not np.allclose(outcome.observation[0], first[0], atol=2e-3)


def test_groups_begin_with_equal_observations_but_for_their_noise(lebot, base, settings):
    rows, _ = walked(lebot, base, 1.0)
    count = 6
    task = ContinuedTask(lebot, rows[[0] * count], (), settings)
    world = GymWorld('continuations', Continuations(task, rows), 0)
    tasks = np.repeat(world.sample_tasks(2, np.random.default_rng(0)), 3)
    world.set_task(tasks)
    assert_array_equal(world.observation[:3], np.repeat(world.observation[:1], 3, axis=0))
    assert not np.array_equal(world.observation[0], world.observation[3])


def test_continuations_refuse_what_they_cannot_restore(lebot, base, settings):
    rows, _ = walked(lebot, base, 0.2)
    with pytest.raises(ValueError, match='slope cannot be continued'):
        ContinuedTask(lebot, rows[:1], ('slope:5',), settings)
    few = ObservationLayout.of(lebot, ('gyro', 'command'))
    with pytest.raises(ValueError, match='no gravity, joint_position'):
        sensed(lebot, few, rows['observation'])
    with pytest.raises(ValueError, match='have 34 numbers, 68 expected'):
        sensed(lebot, ObservationLayout.of(lebot, history=2), rows['observation'])
    with pytest.raises(ValueError, match='no recorded steps'):
        Continuations(ContinuedTask(lebot, rows[:1], (), settings), rows[:0])


def test_it_walks_better_with_a_slipped_horn(lebot, base, settings):
    """From 10 s of a walk with the slip: a few seconds of learning give back a good part."""
    rows, _ = walked(lebot, base, 10.0, SLIP, NOISY, exploration=0.1)
    manifest = base.policy.manifest
    trained = Trained(base.tensors, manifest, TrainedConfig(), 0)
    assert METHODS['grpo'].evidence
    method = OfflineGRPO(trained, base.tensors, OfflineGRPOConfig(), 0)
    noisy = replace(settings, randomisation=NOISY)
    task = ContinuedTask(lebot, rows[[0] * 128], SLIP, noisy)
    method.world = GymWorld('continuations', Continuations(task, rows), 0)
    judging = FaultyTask(lebot, 8, SLIP, noisy)

    def act(observation):
        with torch.no_grad():
            seen = torch.from_numpy(np.asarray(observation, np.float32))
            return trained.mean(seen).numpy()

    before = judge(judging, act, seed=9, seconds=5.0, settle=1.0)
    told = method.learn(None, 96)
    after = judge(judging, act, seed=9, seconds=5.0, settle=1.0)
    assert after.reward > 1.2 * before.reward  # a second; healthy robots have 164
    assert after.falls <= before.falls
    assert told['simulated_steps'] < 60_000
