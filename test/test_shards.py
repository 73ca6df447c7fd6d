"""Worlds side by side as one."""

import numpy as np
import pytest

from lebot_rl_ros.learning.rollouts import collect
from lebot_rl_ros.learning.shards import Shards, beside
from small_worlds import Regulator, TimeOutChain


def gain(observation):
    return -0.5 * observation, np.zeros(len(observation), np.float32)


def test_steps_are_those_of_the_shards_in_order():
    one, two = Regulator(2, 3, seed=0), Regulator(3, 3, seed=1)
    world = Shards([Regulator(2, 3, seed=0), Regulator(3, 3, seed=1)])
    assert world.count == 5
    for _ in range(4):
        action = gain(world.observation)[0]
        found = world.step(action)
        expected = [one.step(action[:2]), two.step(action[2:])]
        for name in ('observation', 'final_observation', 'reward', 'terminated', 'truncated'):
            both = np.concatenate([getattr(outcome, name) for outcome in expected])
            np.testing.assert_array_equal(getattr(found, name), both)
    np.testing.assert_array_equal(world.observation, found.observation)
    assert world.steps == 20
    assert world.finished == one.finished + two.finished
    world.finished.clear()
    assert world.finished == []


def test_rollouts_beside_each_other_are_those_of_one_world():
    def act(observation):
        return np.zeros(len(observation), int), np.zeros(len(observation), np.float32)

    parts = [collect(TimeOutChain(count), act, 7) for count in (2, 1, 3)]
    whole, found = collect(TimeOutChain(6), act, 7), beside(parts)
    for name in ('path', 'actions', 'rewards', 'terminated', 'truncated', 'mask'):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name), err_msg=name)
    for name in ('cut_steps', 'cut_environments', 'cut_observations'):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name), err_msg=name)

    def predict(observation):
        return observation.astype(np.float32) * 10.0

    for ours, theirs in zip(found.values(predict), whole.values(predict), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_shards_must_be_alike():
    with pytest.raises(ValueError, match='no shards'):
        Shards([])
    with pytest.raises(ValueError, match='the shards differ'):
        Shards([Regulator(1, 3), TimeOutChain(1)])
