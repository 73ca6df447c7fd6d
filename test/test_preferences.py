"""Segments, pairs and labels by hand arithmetic, and their file."""

import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

from lebot_rl_ros.learning.episodes import Episodes
from lebot_rl_ros.learning.preference_files import load_preferences, save_preferences
from lebot_rl_ros.learning.preferences import (
    Preferences,
    Segments,
    bradley_terry,
    draw_pairs,
    label,
    of_episodes,
    pad,
)


def piece(*rewards, first=0.0):
    """Observations count on from ``first``; actions are choices."""
    steps = len(rewards)
    observations = np.arange(first, first + steps, dtype=np.float32)[:, None]
    return observations, np.arange(steps), np.array(rewards, np.float32)


def three():
    return pad([piece(1.0, 2.0), piece(5.0), piece(0.0, 0.0, 1.0)])


def test_segments_are_padded_and_padding_does_not_count():
    segments = three()
    assert segments.observations.shape == (3, 3, 1)
    assert segments.lengths.tolist() == [2, 1, 3]
    assert segments.mask.tolist() == [[True, True, False], [True, False, False], [True] * 3]
    segments.rewards[~segments.mask] = 100.0
    assert segments.returns.tolist() == [3.0, 5.0, 1.0]
    assert segments.take(np.array([2, 0])).returns.tolist() == [1.0, 3.0]


def test_episodes_are_cut_into_segments():
    rewards = np.array([1, 2, 3, 4, 5, 6, 7], np.float32)
    observations = np.arange(7, dtype=np.float32)[:, None]
    number = np.array([0, 0, 0, 1, 1, 1, 1])
    groups, cut = np.array([4, 9]), np.zeros(2, bool)
    episodes = Episodes(
        observations, np.arange(7), np.zeros(7, np.float32), rewards, number, groups, cut, 7
    )
    whole, mine = of_episodes(episodes)
    assert whole.returns.tolist() == [6.0, 22.0]
    assert mine.tolist() == [4, 9]
    pieces, mine = of_episodes(episodes, steps=2)
    assert pieces.lengths.tolist() == [2, 1, 2, 2]
    assert pieces.returns.tolist() == [3.0, 3.0, 9.0, 13.0]
    assert pieces.observations[2, :, 0].tolist() == [3.0, 4.0]
    assert mine.tolist() == [4, 4, 9, 9]


def test_bradley_terry_by_hand():
    assert bradley_terry(np.array([1.0]), np.array([0.0])) == pytest.approx(1 / (1 + np.e**-1))
    assert bradley_terry(np.array([3.0]), np.array([2.0]), 0.5) == pytest.approx(
        1 / (1 + np.e**-2)
    )
    never_errs = bradley_terry(np.array([2.0, 1.0, 1.0]), np.array([1.0, 1.0, 2.0]), 0.0)
    assert never_errs.tolist() == [1.0, 0.5, 0.0]
    with np.errstate(all='raise'):
        far = bradley_terry(np.array([1e9, -1e9]), np.zeros(2))
    assert far.tolist() == [1.0, 0.0]


def test_labels_are_probabilities_or_draws_of_them():
    segments = three()  # returns 3, 5, 1
    pairs = np.array([[0, 1], [1, 2], [0, 0]])
    exact = label(segments, pairs, temperature=2.0)
    sigmoid = 1 / (1 + np.exp(-np.array([-1.0, 2.0, 0.0])))
    assert exact.preferred == pytest.approx(sigmoid)
    many = np.repeat(pairs, 4000, axis=0)
    drawn = label(segments, many, temperature=2.0, rng=np.random.default_rng(0))
    assert set(drawn.preferred.tolist()) == {0.0, 1.0}
    share = drawn.preferred.reshape(3, 4000).mean(axis=1)
    assert share == pytest.approx(sigmoid, abs=4 * np.sqrt(0.25 / 4000))
    sure = label(segments, pairs, temperature=0.0, rng=np.random.default_rng(0))
    assert sure.preferred.tolist() == [0.0, 1.0, 0.5]


def test_any_function_may_judge():
    pairs = np.array([[0, 1], [1, 2]])
    shorter = label(three(), pairs, score=lambda s: -s.lengths, temperature=0.0)
    assert shorter.preferred.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match=r'scores have shape \(1,\), must be \(3,\) and finite'):
        label(three(), pairs, score=lambda s: np.zeros(1))
    with pytest.raises(ValueError, match='and finite'):
        label(three(), pairs, score=lambda s: np.array([0.0, np.nan, 1.0]))


def test_pairs_are_different_segments_of_one_group_all_as_likely():
    groups = np.array([7, 3, 7, 5, 3, 7])  # 3: rows 1, 4; 5 is alone; 7: rows 0, 2, 5
    pairs = draw_pairs(groups, 30_000, np.random.default_rng(1))
    found, count = np.unique(pairs, axis=0, return_counts=True)
    expected = {(1, 4), (4, 1), (0, 2), (0, 5), (2, 0), (2, 5), (5, 0), (5, 2)}
    assert set(map(tuple, found.tolist())) == expected
    share = dict(zip(map(tuple, found.tolist()), count / 30_000, strict=True))
    for (
        pair,
        value,
    ) in share.items():  # a segment of five begins; then one of the others of its group
        assert value == pytest.approx(0.2 if pair in {(1, 4), (4, 1)} else 0.1, abs=0.01)
    with pytest.raises(ValueError, match='3 segments cannot be paired'):
        draw_pairs(np.array([0, 1, 2]), 4, np.random.default_rng(0))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'rewards': np.zeros(3)}, r'rewards has shape \(3,\), must be \(segments, steps\)'),
        (
            {'actions': np.zeros((3, 2))},
            r'actions begins with shape \(3, 2\), rewards has \(3, 3\)',
        ),
        ({'lengths': np.array([1, 0, 2])}, 'lengths are from 0 to 2, must be from 1 to 3'),
        ({'lengths': np.array([1, 4, 2])}, 'lengths are from 1 to 4, must be from 1 to 3'),
        ({'lengths': np.ones(3)}, 'lengths is float64'),
        ({'rewards': np.full((3, 3), np.nan)}, r'rewards of segments \[0, 1, 2\] is not finite'),
    ],
)
def test_segments_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Segments(**{**vars(three()), **change})


@pytest.mark.parametrize(
    ('pairs', 'preferred', 'message'),
    [
        (np.array([[0, 3]]), np.ones(1), 'pairs name segments 0 to 3, there are 0 to 2'),
        (np.array([[-1, 0]]), np.ones(1), 'pairs name segments -1 to 0'),
        (np.array([0, 1]), np.ones(2), r'must be int64 of \(P, 2\)'),
        (np.array([[0.0, 1.0]]), np.ones(1), 'pairs is float64'),
        (np.array([[0, 1]]), np.ones(2), r'preferred has shape \(2,\), must be \(1,\)'),
        (np.array([[0, 1]]), np.array([1.5]), 'labels outside 0 to 1'),
        (np.array([[0, 1]]), np.array([np.nan]), 'labels outside 0 to 1'),
    ],
)
def test_preferences_that_cannot_be_are_refused(pairs, preferred, message):
    with pytest.raises(ValueError, match=message):
        Preferences(three(), pairs, preferred)
    with pytest.raises(ValueError, match='no trajectories'):
        pad([])


def test_a_file_gives_back_the_same_bits(tmp_path):
    pictures = np.arange(3 * 3 * 4, dtype=np.uint8).reshape(3, 3, 2, 2)
    segments = Segments(**{**vars(three()), 'observations': pictures})
    preferred = np.array([0.25, 1.0], np.float32)
    preferences = Preferences(segments, np.array([[2, 0], [1, 2]]), preferred)
    path = tmp_path / 'new' / 'answers.safetensors'
    save_preferences(path, preferences)
    found = load_preferences(path)
    for mine, other in ((segments, found.segments), (preferences, found)):
        for name, value in vars(mine).items():
            if isinstance(value, np.ndarray):
                assert getattr(other, name).dtype == value.dtype
                assert (getattr(other, name) == value).all()
    assert [entry.name for entry in path.parent.iterdir()] == ['answers.safetensors']


def test_files_that_are_no_preferences_are_refused_by_name(tmp_path):
    path = tmp_path / 'answers.safetensors'
    with pytest.raises(ValueError, match=r'answers\.safetensors cannot be read'):
        load_preferences(path)
    path.write_bytes(pickle.dumps(three().lengths))
    with pytest.raises(ValueError, match=r'answers\.safetensors cannot be read'):
        load_preferences(path)
    save_file({'pairs': np.zeros((1, 2), np.int64)}, path)
    with pytest.raises(ValueError, match=r'answers\.safetensors is of no kind'):
        load_preferences(path)
    kind = {'kind': 'preferences', 'schema': '1'}
    save_file({'pairs': np.zeros((1, 2), np.int64)}, path, metadata=kind)
    with pytest.raises(ValueError, match=r"has arrays \['pairs'\], expected"):
        load_preferences(path)
    arrays = dict(vars(three()))
    arrays |= {'pairs': np.array([[0, 9]]), 'preferred': np.ones(1, np.float32)}
    save_file(arrays, path, metadata=kind)
    with pytest.raises(ValueError, match=r'answers\.safetensors: pairs name segments 0 to 9'):
        load_preferences(path)
    save_preferences(path, Preferences(three(), np.array([[0, 1]]), np.ones(1, np.float32)))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r'answers\.safetensors cannot be read'):
        load_preferences(path)
