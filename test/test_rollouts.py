"""Collection: every number in its place, at cuts and ends above all."""

import numpy as np
import pytest

from lebot_rl_ros.learning.method import Box, Discrete
from lebot_rl_ros.learning.rollouts import collect, collect_episodes, flatten
from small_worlds import SmallWorld


class Counter(SmallWorld):
    """Environment i counts its steps from 100 i on; it ends after ``lengths[i]`` of them."""

    name = 'counter'

    def __init__(self, lengths, limit=None):
        self.lengths = np.array(lengths)
        self.ticks = np.zeros(len(lengths), int)
        box = Box((1,), np.zeros(1, np.float32), np.full(1, 1e6, np.float32))
        super().__init__(len(lengths), box, Discrete(1000), limit=limit)

    def begin(self, which):
        self.ticks[which] = 0

    def observe(self):
        return (100 * np.arange(len(self.ticks)) + self.ticks)[:, None].astype(np.float32)

    def move(self, action):
        assert (action == self.observe()[:, 0] + 5).all()
        self.ticks = self.ticks + 1
        return self.ticks * 10.0, self.ticks >= self.lengths


def act(observation):
    return observation[:, 0].astype(np.int64) + 5, -observation[:, 0]


def test_each_number_is_where_it_belongs():
    world = Counter([3, 99], limit=4)
    rollouts = collect(world, act, 6)
    assert rollouts.observations[:, :, 0].tolist() == [
        [0, 100], [1, 101], [2, 102], [0, 103], [1, 100], [2, 101],
    ]  # fmt: skip
    assert rollouts.path[-1, :, 0].tolist() == [0, 102]
    assert (rollouts.actions == rollouts.observations[..., 0] + 5).all()
    assert rollouts.actions.dtype == np.int64
    assert (rollouts.log_probs == -rollouts.observations[..., 0]).all()
    assert rollouts.rewards[:, 0].tolist() == [10, 20, 30, 10, 20, 30]
    assert np.argwhere(rollouts.terminated).tolist() == [[2, 0], [5, 0]]
    assert np.argwhere(rollouts.truncated).tolist() == [[3, 1]]
    assert rollouts.cut_steps.tolist() == [3]
    assert rollouts.cut_environments.tolist() == [1]
    assert rollouts.cut_observations.tolist() == [[104]]
    assert rollouts.mask.all()
    assert (rollouts.done == (rollouts.terminated | rollouts.truncated)).all()
    assert flatten(rollouts.observations).shape == (12, 1)
    # The next one goes on where this one ended.
    assert collect(world, act, 1).observations[0, :, 0].tolist() == [0, 102]


def test_values_of_what_a_step_led_to_are_those_before_the_reset():
    rollouts = collect(Counter([3, 99], limit=4), act, 6)
    calls = []

    def predict(observations):
        calls.append(len(observations))
        return observations[:, 0] * 2.0

    values, next_values = rollouts.values(predict)
    assert calls == [7 * 2 + 1]
    assert (values == 2.0 * rollouts.observations[..., 0]).all()
    assert next_values[:, 1].tolist() == [202, 204, 206, 208, 202, 204]
    assert next_values[[0, 1, 3, 4], 0].tolist() == [2, 4, 2, 4]  # those at 2 and 5 terminated


def test_cuts_are_in_the_order_of_the_values_that_are_put_back():
    rollouts = collect(Counter([99, 99, 99], limit=2), act, 5)
    _, next_values = rollouts.values(lambda x: x[:, 0])
    assert next_values[1].tolist() == next_values[3].tolist() == [2, 102, 202]
    assert len(rollouts.cut_steps) == 6


def test_what_terminated_was_not_truncated_even_if_both_are_said():
    world = Counter([2])
    plain = world.step

    def step(action):
        outcome = plain(action)
        object.__setattr__(outcome, 'truncated', outcome.terminated.copy())
        return outcome

    world.step = step
    rollouts = collect(world, act, 4)
    assert rollouts.terminated[:, 0].tolist() == [False, True, False, True]
    assert not rollouts.truncated.any()
    assert len(rollouts.cut_steps) == 0
    assert rollouts.cut_observations.shape == (0, 1)


def test_watchers_see_every_step_and_a_stop_ends_after_its_step():
    seen = []
    rollouts = collect(
        Counter([3]),
        act,
        100,
        watch=lambda outcome: seen.append(bool(outcome.done[0])),
        stop=lambda outcome: outcome.final_observation[0, 0] == 2,
    )
    assert seen == [False, False]
    assert len(rollouts.rewards) == 2
    assert len(rollouts.path) == 3


def test_a_long_rollout_with_a_stop_keeps_all_its_steps():
    rollouts = collect(Counter([700]), act, 5000, stop=lambda outcome: bool(outcome.done[0]))
    assert rollouts.observations[:, 0, 0].tolist() == list(range(700))
    assert (rollouts.actions[:, 0] == np.arange(700) + 5).all()
    assert (rollouts.rewards[:, 0] == 10 * (np.arange(700) + 1)).all()
    assert rollouts.terminated[:, 0].tolist() == [False] * 699 + [True]


def test_episodes_are_whole_and_as_many_of_each_environment():
    world = Counter([2, 5])
    rollouts = collect_episodes(world, act, 2)
    assert len(rollouts.rewards) == 10
    assert rollouts.mask[:, 0].tolist() == [True] * 4 + [False] * 6
    assert rollouts.mask[:, 1].all()
    assert int((rollouts.done & rollouts.mask).sum()) == 4


def test_the_rest_of_an_episode_under_way_is_an_episode():
    world = Counter([4, 4])
    collect(world, act, 3)
    rollouts = collect_episodes(world, act, 1)
    assert rollouts.observations[:, :, 0].tolist() == [[3, 103]]


def test_episodes_that_do_not_end_are_an_error():
    with pytest.raises(ValueError, match='counter: 1 episodes did not end within 20 steps'):
        collect_episodes(Counter([99]), act, 1, longest=20)


def test_pictures_and_numbers_keep_their_type():
    world = Counter([3])
    world.observation = np.zeros((1, 2, 2, 3), np.uint8)
    plain = world.step

    def step(action):
        outcome = plain(np.array([world.ticks[0] + 5]))
        picture = np.full((1, 2, 2, 3), world.ticks[0], np.uint8)
        object.__setattr__(outcome, 'observation', picture)
        return outcome

    world.step = step
    rollouts = collect(world, lambda x: (np.zeros(1, np.int64), np.zeros(1)), 2)
    assert rollouts.path.dtype == np.uint8
    assert rollouts.path[:, 0, 0, 0, 0].tolist() == [0, 1, 2]
