"""The ring by hand numbers, and against a plain list that remembers everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.learning.replay import ROWS, ReplayBuffer


def add(replay, observation, reward=0.0, following=None, terminated=False, truncated=False):
    """One step of one environment; numbers stand for vectors of one."""
    following = observation + 1.0 if following is None else following
    replay.add(
        np.array([[observation]]), np.array([[-observation]]), np.array([reward]),
        np.array([[following]]), np.array([terminated]), np.array([truncated]),
    )  # fmt: skip


def record(replay, observations, *, terminated=(), truncated=(), rewards=None, following=None):
    """One recording; numbers stand for vectors of one."""
    observations = np.array(observations, dtype=np.float32)
    flags = [np.isin(np.arange(len(observations)), at) for at in (terminated, truncated)]
    following = observations + 1 if following is None else np.array(following, dtype=np.float32)
    rewards = np.zeros(len(observations)) if rewards is None else np.array(rewards)
    replay.extend(
        observations[:, None], -observations[:, None], rewards, following[:, None], *flags
    )


def draw(replay, size=400, **options):
    """Rows (observation, action, reward, next observation, discount), each once."""
    batch = replay.sample(size, np.random.default_rng(0), **{'discount': 0.5, **options})
    columns = (
        batch.observations[:, 0], batch.actions[:, 0], batch.rewards,
        batch.next_observations[:, 0], batch.discounts,
    )  # fmt: skip
    return {tuple(row) for row in np.stack([column.numpy() for column in columns], 1).tolist()}


def test_a_step_comes_back_as_it_was():
    replay = ReplayBuffer(10, (1,), 1)
    add(replay, 3.0, reward=2.0, following=7.0)
    assert len(replay) == 1
    assert draw(replay) == {(3.0, -3.0, 2.0, 7.0, 0.5)}


def test_nothing_comes_after_a_terminated_step_and_the_critic_is_asked_after_a_truncated_one():
    replay = ReplayBuffer(10, (1,), 1)
    add(replay, 1.0, following=50.0, terminated=True)
    add(replay, 2.0, following=60.0, truncated=True)
    assert draw(replay) == {(1.0, -1.0, 0.0, 50.0, 0.0), (2.0, -2.0, 0.0, 60.0, 0.5)}


def test_the_next_episodes_observation_is_never_mixed_in():
    # Episodes of even and odd numbers: an even one must never lead to an odd one.
    for n_steps in (1, 3):
        replay, rng = ReplayBuffer(37, (1,), 1), np.random.default_rng(1)
        start = 0.0
        for _ in range(40):
            length = int(rng.integers(1, 6))
            for t in range(length):
                end = t == length - 1
                over = end and rng.random() < 0.5
                now = start + 2 * t
                add(replay, now, following=now + 2, terminated=over, truncated=end and not over)
            start = start + 101.0
        rows = draw(replay, 2000, n_steps=n_steps)
        assert len(rows) == 37
        for observation, _, _, following, _ in rows:
            steps = (following - observation) / 2
            assert steps in range(1, n_steps + 1)


def test_three_steps_are_summed_by_hand():
    replay = ReplayBuffer(10, (1,), 1)
    for t, reward in enumerate((1.0, 10.0, 100.0, 1000.0)):
        add(replay, float(t), reward=reward)
    assert draw(replay, n_steps=3) == {
        (0.0, 0.0, 1.0 + 5.0 + 25.0, 3.0, 0.125),
        (1.0, -1.0, 10.0 + 50.0 + 250.0, 4.0, 0.125),
        (2.0, -2.0, 100.0 + 500.0, 4.0, 0.25),  # the fourth is the last that is known
        (3.0, -3.0, 1000.0, 4.0, 0.5),
    }


def test_a_sum_stops_at_the_end_of_an_episode():
    replay = ReplayBuffer(10, (1,), 1)
    add(replay, 0.0, reward=1.0)
    add(replay, 1.0, reward=10.0, following=9.0, terminated=True)
    add(replay, 20.0, reward=100.0)
    add(replay, 21.0, reward=1000.0, following=29.0, truncated=True)
    add(replay, 30.0, reward=7.0)
    assert draw(replay, n_steps=4) == {
        (0.0, 0.0, 6.0, 9.0, 0.0),
        (1.0, -1.0, 10.0, 9.0, 0.0),
        (20.0, -20.0, 600.0, 29.0, 0.25),
        (21.0, -21.0, 1000.0, 29.0, 0.5),
        (30.0, -30.0, 7.0, 31.0, 0.5),
    }


@given(
    count=st.integers(1, 4),
    capacity=st.integers(4, 23),
    n_steps=st.integers(1, 5),
    script=st.lists(
        st.sampled_from(['step', 'step', 'end', 'cut', 'record', 'forget']), max_size=25
    ),
    seed=st.integers(0, 99),
)
def test_any_story_is_as_a_plain_list_tells_it(count, capacity, n_steps, script, seed):
    """Steps of some environments, recordings between them; the list links them by hand."""
    rng = np.random.default_rng(seed)
    replay = ReplayBuffer(capacity, (1,), 1)
    story = []  # [observation, reward, following, terminated, index of the next step or None]
    open_steps = [None] * count
    number = 0.0
    for event in script:
        if event in ('record', 'forget'):
            open_steps = [None] * count
            if event == 'forget':
                replay.cut()
                continue
            length = int(rng.integers(1, 4))
            rewards = rng.integers(0, 9, length).astype(float)
            observations = number + np.arange(length)
            number += 10
            record(replay, observations, truncated=[length - 1], rewards=rewards)
            for t in range(length):
                after = len(story) + 1 if t < length - 1 else None
                story.append([observations[t], rewards[t], observations[t] + 1, False, after])
            continue
        observations = number + 10.0 * np.arange(count)
        number += 100
        rewards = rng.integers(0, 9, count).astype(float)
        done = np.full(count, event in ('end', 'cut')) & (rng.random(count) < 0.7)
        over = done & (event == 'end')
        replay.add(
            observations[:, None], -observations[:, None], rewards, observations[:, None] + 1,
            over, done & ~over,
        )  # fmt: skip
        for i in range(count):
            if open_steps[i] is not None:
                story[open_steps[i]][4] = len(story)
            story.append([observations[i], rewards[i], observations[i] + 1, bool(over[i]), None])
            open_steps[i] = None if done[i] else len(story) - 1
    if not story:
        return
    expected = set()
    for row in story[-capacity:]:
        total, factor, last = row[1], 0.5, row
        for _ in range(n_steps - 1):
            if last[4] is None:
                break
            last = story[last[4]]
            total, factor = total + factor * last[1], factor * 0.5
        expected.add((row[0], -row[0], total, last[2], 0.0 if last[3] else factor))
    assert draw(replay, 60 * capacity, n_steps=n_steps) == expected


def test_more_than_there_is_room_for_leaves_the_last():
    replay = ReplayBuffer(3, (1,), 1)
    record(replay, range(5), terminated=[4])
    assert {row[0] for row in draw(replay)} == {2.0, 3.0, 4.0}
    with pytest.raises(ValueError, match='room for 3 steps, 4 came'):
        replay.add(
            np.zeros((4, 1)), np.zeros((4, 1)), np.zeros(4), np.zeros((4, 1)),
            np.zeros(4, bool), np.zeros(4, bool),
        )  # fmt: skip


def test_draws_are_uniform_and_repeat_by_the_seed():
    replay = ReplayBuffer(8, (1,), 1)
    record(replay, range(8), terminated=[7])
    first, again = (
        replay.sample(8000, np.random.default_rng(3), discount=1.0).observations.clone()
        for _ in range(2)
    )
    assert (first == again).all()
    counts = np.bincount(first[:, 0].numpy().astype(int), minlength=8)
    assert np.abs(counts - 1000).max() < 5 * (8000 / 8 * 7 / 8) ** 0.5  # five deviations


def test_images_stay_bytes():
    replay = ReplayBuffer(4, (2, 3, 3), 1, 'uint8')
    picture = np.arange(18, dtype=np.uint8).reshape(1, 2, 3, 3)
    flag = np.array([False])
    replay.add(picture, np.zeros((1, 1)), np.zeros(1), picture + 1, flag, flag)
    batch = replay.sample(2, np.random.default_rng(0), discount=0.9)
    assert batch.observations.dtype == batch.next_observations.dtype
    np.testing.assert_array_equal(batch.observations[1].numpy(), picture[0])
    np.testing.assert_array_equal(batch.next_observations[1].numpy(), picture[0] + 1)


def test_a_copy_of_the_state_goes_on_alike():
    one, other = ReplayBuffer(5, (1,), 1), ReplayBuffer(5, (1,), 1)
    for t in range(7):
        add(one, float(t), reward=float(t), truncated=t == 4)
    other.load_state(one.state())
    for replay in (one, other):
        add(replay, 7.0, reward=9.0)  # follows the last step in both
    assert draw(one, n_steps=3) == draw(other, n_steps=3)
    assert (6.0, -6.0, 6.0 + 0.5 * 9.0, 8.0, 0.25) in draw(other, n_steps=3)
    state = one.state()
    with pytest.raises(ValueError, match=r'observations to replay: found \(5, 1\)'):
        ReplayBuffer(5, (2,), 1).load_state(state)
    del state[ROWS[1]]
    with pytest.raises(ValueError, match='actions to replay: found nothing'):
        other.load_state(state)


def test_what_does_not_fit_is_refused():
    replay = ReplayBuffer(5, (1,), 1)
    with pytest.raises(ValueError, match='no steps'):
        replay.sample(1, np.random.default_rng(0), discount=1.0)
    with pytest.raises(ValueError, match='capacity of the replay is 0'):
        ReplayBuffer(0, (1,), 1)
    with pytest.raises(ValueError, match=r'rewards to replay are not finite at \[1\]'):
        record(replay, range(2), rewards=[0.0, np.nan])
    flags = np.zeros(2, bool)
    with pytest.raises(
        ValueError, match=r'actions to replay have shape \(2, 3\), expected \(2, 1\)'
    ):
        replay.extend(
            np.zeros((2, 1)), np.zeros((2, 3)), np.zeros(2), np.zeros((2, 1)), flags, flags
        )
    with pytest.raises(ValueError, match=r'truncated to replay have shape \(1,\)'):
        replay.extend(
            np.zeros((2, 1)), np.zeros((2, 1)), np.zeros(2), np.zeros((2, 1)), flags, flags[:1]
        )
    assert len(replay) == 0
