"""LeBotFaults-v0: what a task does to the robot, how long it stays, and that it matters."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import lebot_rl_ros.envs  # noqa: F401  registers
from lebot_rl_ros.envs.lebot_tasks import (
    STRAIGHT_ON,
    TASK,
    FaultRanges,
    FaultsTask,
    LeBotFaultsVectorEnv,
    describe,
)
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.robot import load_robot, share_path
from lebot_rl_ros.sim.model import FLOOR

ROBOT = load_robot('lebot')


def tasks_of(*rows):
    return np.array([*rows], dtype=TASK)


def test_draws_are_in_range_and_differ():
    ranges = FaultRanges()
    tasks = ranges.sample(2000, 8, np.random.default_rng(0))
    assert set(tasks['fault']) == {'dead', 'weak', 'slip'}
    assert set(tasks['joint']) == set(range(8))
    for name, (low, high) in (('friction', ranges.friction), ('load', ranges.load)):
        assert low <= tasks[name].min() < tasks[name].max() <= high
    slips = tasks['value'][tasks['fault'] == 'slip']
    assert ((np.abs(slips) >= 0.2) & (np.abs(slips) <= 0.4)).all()
    assert 0.4 < (slips > 0).mean() < 0.6
    weak = tasks['value'][tasks['fault'] == 'weak']
    assert ((weak >= 0.2) & (weak <= 0.5)).all()
    assert not tasks['value'][tasks['fault'] == 'dead'].any()


def test_a_task_is_what_it_says_in_the_model():
    task = FaultsTask(ROBOT, 4, seed=0)
    healthy = task.simulation.nominal
    task.set_task(
        tasks_of(
            (0.5, 0.0, 'dead', 3, 0.0),
            (0.6, 0.1, 'weak', 0, 0.25),
            (0.7, 0.2, 'slip', 6, -0.3),
            (0.8, 0.0, 'weak', 1, 1.0),
        )
    )
    task.reset()
    simulation = task.simulation
    full = healthy.actuator_forcerange
    models = simulation.models
    assert [m.geom_friction[m.geom(FLOOR).id, 0] for m in models] == [0.5, 0.6, 0.7, 0.8]
    gained = [m.body_mass.sum() - healthy.body_mass.sum() for m in models]
    assert gained == pytest.approx([0.0, 0.1, 0.2, 0.0])
    assert not models[0].actuator_forcerange[3].any()
    assert models[1].actuator_forcerange[0] == pytest.approx(0.25 * full[0])
    assert np.array_equal(np.delete(models[1].actuator_forcerange, 0, 0), np.delete(full, 0, 0))
    assert simulation.horn_offset[2].tolist() == [0, 0, 0, 0, 0, 0, -0.3, 0]
    assert not simulation.horn_offset[[0, 1, 3]].any()
    assert np.array_equal(models[3].actuator_forcerange, full)


def test_told_tasks_outlive_episodes_and_none_draws_new_ones():
    config = replace(STRAIGHT_ON, episode=0.06)  # three periods
    task = FaultsTask(ROBOT, 2, config, seed=0)
    task.set_task(tasks_of((0.5, 0.1, 'dead', 3, 0.0), (0.6, 0.0, 'slip', 5, 0.3)))
    task.reset()
    for _ in range(2):
        for _ in range(3):
            outcome = task.step(np.zeros((2, 8)))
        assert outcome.truncated.all()
        assert not task.simulation.models[0].actuator_forcerange[3].any()
        # Once, not once for every episode.
        assert task.simulation.horn_offset[1, 5] == 0.3
        gained = (
            task.simulation.models[0].body_mass.sum() - task.simulation.nominal.body_mass.sum()
        )
        assert gained == pytest.approx(0.1)
    told = task.tasks.copy()
    task.set_task(None)
    task.reset()
    first = task.tasks.copy()
    for _ in range(3):
        task.step(np.zeros((2, 8)))
    assert (first['friction'] != told['friction']).all()
    assert (task.tasks['friction'] != first['friction']).all()


def test_a_slipped_hip_costs_the_shipped_policy_its_walk():
    walk = PolicyRuntime.load(share_path('policies', 'walk'))
    task = FaultsTask(ROBOT, 20, seed=0)
    hip = next(i for i, name in enumerate(ROBOT.joint_names) if 'hip' in name)
    healthy, slipped = (0.7, 0.0, 'weak', hip, 1.0), (0.7, 0.0, 'slip', hip, -0.4)
    task.set_task(tasks_of(*[healthy] * 10, *[slipped] * 10))
    observation, reward = task.reset(), np.zeros(20)
    for _ in range(100):
        outcome = task.step(walk.act_many(observation))
        observation = outcome.observation
        reward += outcome.reward
    assert reward[:10].min() > reward[10:].mean() + 20.0, reward


def test_the_environment_in_one_and_in_many():
    env = gymnasium.make('LeBotFaults-v0')
    check_env(env.unwrapped, skip_render_check=True)
    many = LeBotFaultsVectorEnv(3, threads=0)
    tasks = many.sample_tasks(3, np.random.default_rng(0))
    many.set_task(tasks)
    first, _ = many.reset(seed=5)
    again, _ = many.reset(seed=5)
    assert first.shape == many.observation_space.shape
    assert np.array_equal(first, again)
    assert np.array_equal(many.task.tasks, tasks)


def test_errors_name_the_value_and_the_choices():
    with pytest.raises(ValueError, match=r"faults are \('melted',\); choices are dead, weak"):
        FaultRanges(faults=('melted',))
    task = FaultsTask(ROBOT, 2)
    with pytest.raises(ValueError, match=r'of shape \(1,\), must be .* of shape \(2,\)'):
        task.set_task(tasks_of((0.5, 0.0, 'dead', 3, 0.0)))
    with pytest.raises(ValueError, match='joints 0 to 7'):
        task.set_task(tasks_of((0.5, 0.0, 'dead', 3, 0.0), (0.5, 0.0, 'dead', 8, 0.0)))


def test_a_task_in_words():
    row = tasks_of((0.5, 0.1, 'slip', 0, 0.3))[0]
    assert describe(ROBOT, row) == f'slip:{ROBOT.joint_names[0]}:0.3@0 friction 0.50 load 0.10 kg'
