"""Segments of recorded walks, answers about them, and DPO against the policy that is known."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from lebot_rl_ros.data.rows import transition_dtype
from lebot_rl_ros.learning.methods.dpo import preference_loss
from lebot_rl_ros.learning.offline.answers import (
    Answer,
    Labelled,
    append_answers,
    read_answers,
    resolve,
)
from lebot_rl_ros.learning.offline.comparing import better, draw_like, like, scores, split_pairs
from lebot_rl_ros.learning.offline.contract import offline_data
from lebot_rl_ros.learning.offline.dpo import OfflineDPO, OfflineDPOConfig
from lebot_rl_ros.learning.offline.registry import METHODS, make_method
from lebot_rl_ros.learning.offline.segments import Piece, cut, whole
from lebot_rl_ros.learning.online.trained import Trained, TrainedConfig
from lebot_rl_ros.learning.preferences import Preferences, Segments, bradley_terry
from online_toy import JOINTS, OBSERVATION, act, small_base

torch.set_num_threads(1)
TERMS = ('smooth', 'silent')
STD, BETA = 0.3, 0.5


@dataclass(frozen=True)
class Bag:
    """A recording, as far as segments are concerned."""

    rows: np.ndarray
    sha256: str = 'a' * 64
    path: str = '/field/monday'


def walk(count, first=0, command=(0.3, 0.0)):
    """Rows of one walk without a cut; stamps count periods from ``first`` on."""
    rows = np.zeros(count, transition_dtype(OBSERVATION, JOINTS, TERMS))
    rows['stamp'] = 20_000_000 * (first + np.arange(count))
    rows['next_stamp'] = rows['stamp'] + 20_000_000
    rows['std'], rows['known'], rows['mode'] = STD, 1, 2
    rows['follows'][1:] = 1
    rows['command'] = command
    rows['reward'] = np.arange(count)
    rows['smooth'] = -np.arange(first, first + count)
    return rows


def fallen(rows):
    rows['terminated'][-1], rows['known'][-1] = 1, 0
    return rows


def places(pieces):
    return list(zip(pieces.start.tolist(), pieces.steps.tolist(), strict=True))


# --- segments


def test_a_walk_is_cut_from_its_end_and_a_fall_ends_a_segment():
    pieces = cut([Bag(fallen(walk(11)))], 4)
    assert places(pieces) == [(3, 4), (7, 4)]
    assert pieces.fell.tolist() == [False, True]
    assert pieces.returns.tolist() == [3 + 4 + 5 + 6, 7 + 8 + 9 + 10]
    assert pieces.piece(1) == Piece('a' * 64, 140_000_000, 4)
    assert pieces.piece(1).name == 'monday'


def test_no_segment_reaches_over_a_cut_and_short_walks_count_only_if_they_fell():
    rows = np.concatenate([walk(5), walk(3, 100), fallen(walk(2, 200)), walk(4, 300)])
    assert places(cut([Bag(rows)], 4)) == [(1, 4), (8, 2), (10, 4)]
    rows['truncated'][12] = 1  # in the middle of the last walk
    assert places(cut([Bag(rows)], 4)) == [(1, 4), (8, 2)]


def test_steps_that_the_driver_took_over_are_in_no_segment():
    rows = walk(10)
    rows['mode'][5] = 1
    rows['follows'][6] = 0
    pieces = cut([Bag(rows)], 4)
    assert [pieces.rows(i)['stamp'][0] // 20_000_000 for i in range(len(pieces))] == [1, 6]


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=6))
def test_segments_hold_no_step_twice_and_no_cut(walks):
    parts, first = [], 0
    for count, fell in walks:
        part = walk(count, first)
        parts.append(fallen(part) if fell else part)
        first += count + 5
    longest = max(count for count, _ in walks)
    pieces = cut([Bag(np.concatenate(parts))], min(3, longest))
    stamps = np.concatenate([pieces.rows(i)['stamp'] for i in range(len(pieces))])
    assert len(set(stamps.tolist())) == len(stamps)
    for i in range(len(pieces)):
        rows = pieces.rows(i)
        assert (rows['stamp'][1:] == rows['next_stamp'][:-1]).all()
        assert not rows['terminated'][:-1].any()


@pytest.mark.parametrize(
    ('bags', 'steps', 'words'),
    [
        ([Bag(walk(5))], 0, 'a segment of 0 steps'),
        ([Bag(walk(5))], 6, 'the longest of 1 recordings has 5'),
        ([Bag(walk(5)), Bag(walk(5))], 2, 'was given twice'),
    ],
)
def test_what_cannot_be_cut(bags, steps, words):
    with pytest.raises(ValueError, match=words):
        cut(bags, steps)


def test_recordings_of_several_bases_are_not_compared():
    other = walk(5)
    other['base_sha256'] = 7
    with pytest.raises(ValueError, match='tuesday: base 070707070707, 3 observations, 2 joints'):
        cut([Bag(walk(5)), Bag(other, 'c' * 64, 'tuesday')], 2)


def test_commands_are_like_only_if_they_are_so_all_the_time():
    straight, turning = np.tile([0.3, 0.0], (4, 1)), np.tile([0.3, 0.1], (4, 1))
    assert like(straight, turning)
    turning[3, 1] = 0.11
    assert not like(straight, turning)
    assert like(straight[:3], turning)  # the shorter one knows no fourth step


def test_pairs_are_of_like_commands_different_and_repeat_by_seed():
    commands = [(0.3, 0.0), (0.32, 0.05), (0.3, 0.5), (0.28, 0.45), (0.0, -0.5)]
    bag = Bag(np.concatenate([walk(4, 10 * i, c) for i, c in enumerate(commands)]))
    pieces = cut([bag], 2)
    pairs = draw_like(pieces, 1000, np.random.default_rng(0))
    found = {frozenset(pair) for pair in pairs.tolist()}
    groups = [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9}]
    every = {frozenset((a, b)) for group in groups for a in group for b in group if a < b}
    assert found == every  # all there are
    assert len(pairs) == len(every)  # each once
    few = draw_like(pieces, 5, np.random.default_rng(0))
    assert_array_equal(few, pairs[:5])  # so who goes on goes on with the same ones


@given(st.data())
def test_pairs_are_like_by_brute_force(data):
    count = data.draw(st.integers(2, 8))
    speed = st.sampled_from([0.0, 0.04, 0.05, 0.1, 0.3])
    parts = []
    for i in range(count):
        part = walk(data.draw(st.integers(1, 3)), 10 * i)
        part['command'][:, 0] = [data.draw(speed) for _ in part]
        parts.append(fallen(part))
    pieces = cut([Bag(np.concatenate(parts))], 3)
    commands = [pieces.rows(i)['command'] for i in range(count)]
    wanted = {
        frozenset((a, b)) for a in range(count) for b in range(a) if like(commands[a], commands[b])
    }
    if not wanted:
        with pytest.raises(ValueError, match='no two of'):
            draw_like(pieces, 99, np.random.default_rng(0))
        return
    found = draw_like(pieces, 99, np.random.default_rng(0))
    assert {frozenset(pair) for pair in found.tolist()} == wanted


def test_without_like_commands_there_are_no_pairs():
    bag = Bag(np.concatenate([walk(2, 0, (0.3, 0.0)), walk(2, 10, (0.1, 0.0))]))
    with pytest.raises(ValueError, match='no two of 2 segments were under like commands'):
        draw_like(cut([bag], 2), 3, np.random.default_rng(0))


def test_falls_are_compared_with_what_did_not_fall():
    bag = Bag(np.concatenate([fallen(walk(4)), walk(4, 10), fallen(walk(2, 20))]))
    pieces = cut([bag], 2)
    pairs = draw_like(
        pieces, 100, np.random.default_rng(1), among=pieces.fell, against=~pieces.fell
    )
    assert (pieces.fell[pairs].sum(axis=1) == 1).all()
    labels = better(scores(pieces, 'falls'), pairs)
    assert_array_equal(labels, np.where(pieces.fell[pairs[:, 0]], 0.0, 1.0))


def test_scores_by_hand_and_ties():
    pieces = cut([Bag(walk(6))], 2)
    assert scores(pieces, 'return').tolist() == [1.0, 5.0, 9.0]
    assert scores(pieces, 'term:smooth').tolist() == [-0.5, -2.5, -4.5]
    values = np.array([0.0, 1.0, 3.0])  # their standard deviation is 1.247
    pairs = np.array([[0, 1], [1, 2], [2, 0], [1, 1]])
    assert better(values, pairs).tolist() == [0.0, 0.0, 1.0, 0.5]
    assert better(values, pairs, margin=1.0).tolist() == [0.5, 0.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ('by', 'words'),
    [
        ('term:pretty', "no term 'pretty'; the recorded ones are .'smooth', 'silent'"),
        ('term:silent', 'term silent is 0 in all 3 segments'),
        ('term:', 'choices are falls, return, term:NAME'),
        ('taste', 'choices are falls, return, term:NAME'),
    ],
)
def test_judges_that_there_are_not(by, words):
    with pytest.raises(ValueError, match=words):
        scores(cut([Bag(walk(6))], 2), by)


# --- answers


def three_answers():
    pieces = cut([Bag(walk(8))], 2)
    one, two, three, four = (pieces.piece(i) for i in range(4))
    return pieces, [
        Answer(one, two, 'first', 'person', 'b' * 64, '2026-01-01T00:00:00+00:00'),
        Answer(three, one, 'second', 'return'),
        Answer(three, four, 'equal', 'person'),
    ]


def test_answers_are_appended_and_pooled(tmp_path):
    _, answers = three_answers()
    a, b = tmp_path / 'new' / 'a.jsonl', tmp_path / 'b.jsonl'
    append_answers(a, answers[:1])
    append_answers(a, answers[1:2])
    append_answers(b, answers[2:])
    assert read_answers(a) == answers[:2]
    (tmp_path / 'both').write_bytes(a.read_bytes() + b.read_bytes())
    assert read_answers(tmp_path / 'both') == answers
    assert read_answers(a)[0].first.name == 'monday'


def test_a_line_that_was_cut_short_is_no_answer_and_is_mended(tmp_path):
    _, answers = three_answers()
    file = tmp_path / 'a.jsonl'
    append_answers(file, answers[:2])
    whole_file = file.read_bytes()
    for length in range(whole_file.index(b'\n') + 1, len(whole_file), 17):  # a crash anywhere
        file.write_bytes(whole_file[:length])
        assert read_answers(file) == answers[:1]
        append_answers(file, answers[2:])
        assert read_answers(file) == [answers[0], answers[2]]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'kind': 'recipe'}, 'line 2 is no answer'),
        ({'answer': 'best'}, "the answer is 'best'"),
        ({'second': {'bag': 'a' * 64, 'stamp': 20_000_000, 'steps': 0}}, 'choices are'),
        ({'mood': 'good'}, 'line 2 is no answer'),
    ],
)
def test_lines_that_are_no_answers(tmp_path, change, words):
    _, answers = three_answers()
    file = tmp_path / 'a.jsonl'
    append_answers(file, answers[:2])
    lines = file.read_text().splitlines()
    file.write_text(f'{lines[0]}\n{json.dumps(json.loads(lines[1]) | change)}\n')
    with pytest.raises(ValueError, match=words):
        read_answers(file)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'nothing\.jsonl cannot be read'):
        read_answers(tmp_path / 'nothing.jsonl')


def test_answers_find_their_steps_however_the_bag_is_cut_today():
    rows = walk(8)
    rows['observation'][:, 0], rows['action'][:, 0] = np.arange(8), 10 + np.arange(8)
    _, answers = three_answers()
    other = Bag(walk(5), 'c' * 64, '/field/tuesday')
    labelled = resolve(answers, whole([other, Bag(rows)]))
    assert labelled.left_out == 1
    preferences = labelled.preferences
    assert preferences.preferred.tolist() == [1.0, 0.0]
    seen = preferences.segments.observations[:, :, 0]
    assert seen[preferences.pairs[0]].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert seen[preferences.pairs[1]].tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert len(seen) == 3  # a segment is kept once
    assert preferences.segments.actions[0, 1, 0] == 11.0
    assert_allclose(labelled.std, STD)


def test_answers_about_other_bags_bases_or_steps_are_refused():
    pieces, answers = three_answers()
    with pytest.raises(ValueError, match=r'not given: monday \(aaaaaaaaaaaa\); given: tuesday'):
        resolve(answers, whole([Bag(walk(8), 'c' * 64, 'tuesday')]))
    with pytest.raises(ValueError, match='of the base bbbbbbbbbbbb, this one is dddddddddddd'):
        resolve(answers, pieces, 'd' * 64)
    with pytest.raises(ValueError, match=r'no 2 steps without a cut from 0\.080 s on'):
        resolve(answers, whole([Bag(walk(5))]))
    with pytest.raises(ValueError, match='none of 1 answers decides'):
        resolve(answers[2:], pieces)


# --- DPO


def linear(kind='all', seed=0):
    """A base without hidden layers, and what is trained of it."""
    base, manifest = small_base(seed, hidden=())
    return base, Trained(base, manifest, TrainedConfig(kind=kind), seed)


def planted(trained, pairs, steps, rng, judges=None):
    """Pairs of segments of the base on the same states, as a Bradley-Terry judge sees them.

    The reward of a step is c(s) . a with c(s) = W s + w, known numbers. So the optimum is known:
    the reference's mean moved by std² c(s) / beta.
    """
    matrix = rng.standard_normal((JOINTS, OBSERVATION)) * 0.5
    offset = np.array([0.8, -0.6])
    seen = rng.standard_normal((pairs, 1, steps, OBSERVATION)).astype(np.float32)
    seen = np.repeat(seen, 2, axis=1).reshape(2 * pairs, steps, OBSERVATION)
    with torch.no_grad():
        mean = trained.mean(torch.from_numpy(seen)).numpy()
    actions = mean + STD * rng.standard_normal(mean.shape).astype(np.float32)

    def direction(states):
        return states @ matrix.T + offset

    returns = (direction(seen) * actions).sum(axis=(1, 2))
    index = np.arange(2 * pairs).reshape(-1, 2)
    labels = bradley_terry(returns[index[:, 0]], returns[index[:, 1]])
    if judges is not None:
        labels = judges.random(pairs) < labels
    lengths = np.full(2 * pairs, steps, np.int64)
    segments = Segments(seen, actions, np.zeros((2 * pairs, steps), np.float32), lengths)
    preferences = Preferences(segments, index, np.asarray(labels, np.float32))
    return Labelled(preferences, np.full(actions.shape, STD, np.float32), 0), direction


def shift(trained, states):
    with torch.no_grad():
        x = torch.from_numpy(states)
        return (trained.mean(x) - trained.base_mean(x)).numpy()


SURE = {
    'beta': BETA,
    'validation': 0.0,
    'kl_cap': 1e6,
    'gradient_norm': 1e6,
    'minibatch': 100_000,
}


@pytest.mark.parametrize(
    ('judges', 'pairs', 'tolerance'), [(None, 200, 0.01), (np.random.default_rng(5), 4000, 0.15)]
)
def test_it_recovers_a_planted_preference(judges, pairs, tolerance):
    """Expected values of labels give the optimum itself; drawn ones give it within their noise."""
    base, trained = linear()
    labelled, direction = planted(trained, pairs, 3, np.random.default_rng(1), judges)
    method = OfflineDPO(trained, base, OfflineDPOConfig(**SURE, actor_rate=0.02))
    method.labelled = labelled
    before = method.learn(None, 1)
    after = method.learn(None, 200)
    states = np.random.default_rng(2).standard_normal((200, OBSERVATION)).astype(np.float32)
    wanted = STD**2 * direction(states) / BETA
    assert np.abs(wanted).max() > 0.3  # there is something to find
    error = np.linalg.norm(shift(trained, states) - wanted) / np.linalg.norm(wanted)
    assert error < tolerance
    assert after['policy_loss'] < before['policy_loss']
    assert after['accuracy'] > 0.6


def test_the_loss_by_hand():
    """One pair of one step each: the margin is what the Gaussians say."""
    base, trained = linear()
    labelled, _ = planted(trained, 1, 1, np.random.default_rng(0))
    segments = labelled.preferences.segments
    labelled = replace(
        labelled, preferences=Preferences(segments, np.array([[1, 0]]), np.ones(1, np.float32))
    )
    method = OfflineDPO(trained, base, OfflineDPOConfig(**SURE))
    method.labelled = labelled
    method.learn(None, 1)  # so that it differs from the reference
    x = torch.from_numpy(segments.observations[:, 0])
    with torch.no_grad():
        now, then = trained.mean(x).numpy(), trained.base_mean(x).numpy()
    actions = segments.actions[:, 0]
    ratio = (np.square(actions - then) - np.square(actions - now)).sum(axis=1) / (2 * STD**2)
    loss, told = method.loss(np.array([0]))
    expected = preference_loss(
        torch.tensor([ratio[1] - ratio[0]]), torch.ones(1), beta=BETA
    ).item()
    assert_allclose(loss.item(), expected, rtol=1e-4)
    assert_allclose(told[1].item(), BETA * (ratio[1] - ratio[0]), rtol=1e-3)


def recorded(trained, count, seed):
    """A walk whose segments differ in how far their actions lie along (1, -1)."""
    rng = np.random.default_rng(seed)
    rows = walk(count)
    rows['observation'] = rng.standard_normal((count, OBSERVATION))
    with torch.no_grad():
        mean = trained.mean(torch.from_numpy(rows['observation'].copy())).numpy()
    act(rows, mean, rng)
    rows['smooth'] = rows['action'] @ np.array([1.0, -1.0], np.float32)
    return rows


def test_from_recorded_rows_to_a_better_term_and_it_stops_where_others_are_worse():
    base, trained = linear('bias')
    bag = Bag(recorded(trained, 2000, 0))
    pieces = cut([bag], 5)
    values = scores(pieces, 'term:smooth')
    pairs = draw_like(pieces, 600, np.random.default_rng(0))
    words = {1.0: 'first', 0.0: 'second', 0.5: 'equal'}
    answers = [
        Answer(pieces.piece(a), pieces.piece(b), words[float(label)], 'term:smooth')
        for (a, b), label in zip(pairs, better(values, pairs, 0.1), strict=True)
    ]
    method = make_method('dpo', trained, base, {'actor_rate': 0.01, 'kl_cap': 0.3}, 0)
    method.labelled = resolve(answers, whole([bag]))
    data = offline_data([bag.rows], replace(trained.manifest, sha256=''))
    states = np.random.default_rng(9).standard_normal((100, OBSERVATION)).astype(np.float32)
    first = method.learn(data, 20)
    assert first['validation_loss'] < np.log(2.0)  # better than knowing nothing
    last = method.learn(data, 2000)
    assert 'kl_cap' in method.stopped
    assert last['kl'] <= 0.3
    moved = shift(trained, states)
    assert moved[:, 0].mean() > 0.02
    assert moved[:, 1].mean() < -0.02
    assert last.keys() == first.keys()  # as curves need
    assert method.learn(data, 10) == last  # it has stopped
    assert not METHODS['dpo'].evidence  # no rewards were asked, so none are evidence


def test_segments_to_judge_by_are_in_no_pair_learned_from():
    rng = np.random.default_rng(0)
    pairs = np.array([rng.choice(40, 2, replace=False) for _ in range(200)])
    learned, judged = split_pairs(pairs, 0.2, rng)
    apart = set(pairs[judged].ravel().tolist())
    assert 8 <= len(apart) <= 9  # of 40
    assert not apart & set(pairs[learned].ravel().tolist())
    assert len(learned) > 100
    for few, share in ((pairs[:9], 0.2), (pairs, 0.0)):  # too few to spare some; none wanted
        learned, judged = split_pairs(few, share, rng)
        assert (len(learned), len(judged)) == (len(few), 0)


def test_pairs_that_share_one_segment_are_all_learned_from():
    base, trained = linear()
    labelled, _ = planted(trained, 10, 2, np.random.default_rng(0))
    star = np.stack([np.zeros(19, np.int64), np.arange(1, 20)], axis=1)
    preferences = replace(labelled.preferences, pairs=star, preferred=np.ones(19, np.float32))
    method = OfflineDPO(trained, base, OfflineDPOConfig())
    method.labelled = replace(labelled, preferences=preferences)
    told = method.learn(None, 5)
    assert 'validation_loss' not in told
    assert told['accuracy'] > 0.0


def test_what_it_refuses():
    base, trained = linear()
    method = OfflineDPO(trained, base, OfflineDPOConfig())
    with pytest.raises(ValueError, match=r'lebot prefer.*--preferences'):
        method.learn(None, 1)
    labelled, _ = planted(trained, 2, 2, np.random.default_rng(0))
    segments = labelled.preferences.segments
    method.labelled = replace(
        labelled,
        preferences=replace(
            labelled.preferences,
            segments=replace(segments, observations=segments.observations[..., :2]),
        ),
    )
    with pytest.raises(ValueError, match='have 2 observations, the policy has 3'):
        method.learn(None, 1)
    method.labelled = replace(labelled, std=0.0 * labelled.std)
    with pytest.raises(ValueError, match='spread of the actions is 0'):
        method.learn(None, 1)
    for settings in ({'beta': 0.0}, {'validation': 0.5}, {'loss': 'hinge'}, {'patience': 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            OfflineDPOConfig(**settings)


def test_the_reference_is_what_was_accepted():
    """Whoever goes on from an adapter is held to that one, not to the base."""
    base, trained = linear('lora')
    with torch.no_grad():
        for _, parameter in trained.named_parameters():
            parameter.add_(0.1)
    labelled, _ = planted(trained, 20, 3, np.random.default_rng(0))
    method = OfflineDPO(trained, base, OfflineDPOConfig())
    method.labelled = labelled
    loss = method.learn(None, 1)['policy_loss']
    assert loss == pytest.approx(np.log(2.0), abs=1e-5)  # at first it prefers nothing
    assert method.learn(None, 1)['deviation'] > 0.05  # though it is far from the base
