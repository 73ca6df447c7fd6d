"""`lebot prefer`, and `lebot train offline` with dpo and grpo, on real bags."""

import io
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import Future

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from rich.console import Console

from bag_rows import arrivals, write_bag
from lebot_rl_ros.cli import prefer_clips
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.cli.prefer import converse
from lebot_rl_ros.cli.prefer_ask import Page, meant, viewer
from lebot_rl_ros.cli.prefer_clips import layout_of, path, told
from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.data.bag.transitions import read_transitions
from lebot_rl_ros.envs.adapting import FaultyRobot
from lebot_rl_ros.envs.continuations import sensed
from lebot_rl_ros.learning.offline.answers import Answer, append_answers, read_answers
from lebot_rl_ros.learning.offline.comparing import draw_like
from lebot_rl_ros.learning.offline.segments import cut
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.sim.render import Renderer
from lebot_rl_ros.sim.simulation import Simulation

torch.set_num_threads(1)


def record(lebot, folder, seed, seconds=8.0, command=(0.3, 0.0), fall_at=0.0):
    """A bag of a walk of the base that explores; and where the simulator says it was."""
    walk = load_walk(lebot, 'walk')
    walker = Walker(lebot, walk, seed=seed, exploration=0.1)
    robot = FaultyRobot(lebot, walker, walk.gait, seed=seed, command=command)
    steps, rewards, were = [], [], []
    while robot.seconds < seconds:
        if fall_at and not robot.fallen_at and robot.seconds >= fall_at:
            robot.simulation.qpos[0, 2] += 0.1
            robot.simulation.qpos[0, 3:7] = np.cos(0.6), np.sin(0.6), 0.0, 0.0
        were.append(robot.simulation.qpos[0].copy())
        step, reward = robot.step()
        steps.append(step)
        rewards.append(reward)
    messages = arrivals(np.concatenate(steps), np.concatenate(rewards))
    return write_bag(folder, messages), np.array(were)


@pytest.fixture(scope='module')
def bags(lebot, tmp_path_factory):
    place = tmp_path_factory.mktemp('bags')
    straight, were = record(lebot, place / 'straight', 1)
    fell, _ = record(lebot, place / 'fell', 2, seconds=14.0, fall_at=4.0)
    return straight, fell, were


@pytest.fixture(scope='module')
def pieces(bags):
    return cut(read_transitions([bags[0]]), 25)


def lebot_command(*words):
    return main([str(word) for word in words])


# --- answers by scores


def test_scores_answer_and_are_asked_once(bags, tmp_path, capsys):
    out = tmp_path / 'new' / 'answers.jsonl'
    words = ('prefer', bags[0], '--out', out, '--auto', 'term:action_rate', '--pairs', 60)
    assert lebot_command(*words) == 0
    found = read_answers(out)
    assert 40 < len(found) <= 60
    assert {one.by for one in found} == {'term:action_rate'}
    assert {one.answer for one in found} == {'first', 'second'}
    assert {one.first.steps for one in found} == {20}
    assert found[0].base == load_walk_hash()
    rows = {int(row['stamp']): i for i, row in enumerate(read_transitions([bags[0]])[0].rows)}
    values = read_transitions([bags[0]])[0].rows['action_rate']
    for one in found:
        first, second = (values[rows[p.stamp] :][:20].mean() for p in (one.first, one.second))
        assert (first > second) == (one.answer == 'first')
    before = out.read_bytes()
    assert lebot_command(*words) == 0
    assert out.read_bytes() == before
    assert f'{len(found)} answers are known' in ' '.join(capsys.readouterr().out.split())


def load_walk_hash():
    return load_walk(load_robot(), 'walk').policy.manifest.sha256


def test_falls_answer(bags, tmp_path):
    out = tmp_path / 'answers.jsonl'
    assert lebot_command('prefer', *bags[:2], '--out', out, '--by', 'falls', '--seconds', 1) == 0
    rows = read_transitions([bags[1]])[0].rows
    (end,) = rows['stamp'][rows['terminated'] != 0]
    found = read_answers(out)
    assert len(found) >= 8
    for one in found:
        worse = one.second if one.answer == 'first' else one.first
        assert worse.stamp + 49 * 20_000_000 == end
        assert worse.name == 'fell'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--auto', 'taste'), "the judge is 'taste'; choices are falls, return, term:NAME"),
        (('--auto', 'falls'), 'ends in a fall: falls decide nothing'),
        (('--auto', 'return', '--margin', '1e9'), 'all are ties'),
        (('--auto', 'return', '--seconds', '60'), 'take shorter segments'),
        (('--auto', 'return', '--pairs', '0'), '--pairs is 0'),
    ],
)
def test_what_scores_cannot_answer(bags, tmp_path, capsys, words, message):
    assert lebot_command('prefer', bags[0], '--out', tmp_path / 'a', *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'a').exists()


# --- answers by a person


class Person:
    """Answers as it was told to."""

    def __init__(self, *words):
        self._words, self.shown = list(words), []

    def __call__(self, number, total, clip):
        self.shown.append((number, total, clip))
        return self._words.pop(0)


def draw(number, first, second):
    done = Future()
    done.set_result(f'{number}.gif')
    return done


def test_a_person_is_asked_on_where_it_was_left(pieces, tmp_path):
    out = tmp_path / 'answers.jsonl'
    pairs = draw_like(pieces, 6, np.random.default_rng(0))
    first = Person('left', 'skip', 'quit')
    counts = converse(pieces, pairs, [], draw, first, out)
    assert counts == {'left': 1, 'skip': 1}
    assert first.shown == [(1, 6, '1.gif'), (2, 6, '2.gif'), (3, 6, '3.gif')]
    known = read_answers(out)
    assert [one.answer for one in known] == ['first', 'skip']
    assert known[0].first == pieces.piece(int(pairs[0, 0]))
    assert known[0].by == 'person'
    second = Person('right', 'equal', 'left', 'left')
    converse(pieces, pairs, known, draw, second, out)
    assert [number for number, _, _ in second.shown] == [3, 4, 5, 6]
    assert [one.answer for one in read_answers(out)][2:] == ['second', 'equal', 'first', 'first']


def test_what_was_answered_is_on_the_disk_before_the_next_question(pieces, tmp_path):
    out = tmp_path / 'answers.jsonl'
    pairs = draw_like(pieces, 4, np.random.default_rng(0))

    def ask(number, total, clip):
        if number == 1:
            return 'right'
        assert len(read_answers(out)) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converse(pieces, pairs, [], draw, ask, out)
    assert [one.answer for one in read_answers(out)] == ['second']


@pytest.mark.parametrize(
    ('text', 'word'),
    [('l\n', 'left'), ('R', 'right'), (' equal ', 'equal'), ('s', 'skip'), ('q', 'quit'),
     ('', ''), ('x', ''), ('leftish', '')],
)  # fmt: skip
def test_what_an_answer_means(text, word):
    assert meant(text) == word


def test_without_a_desktop_nothing_is_opened(monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    monkeypatch.setattr('sys.platform', 'linux')
    assert viewer() == ''


def test_the_page_shows_one_pair_and_takes_one_answer(tmp_path):
    clip = tmp_path / 'pair-0007.gif'
    clip.write_bytes(b'GIF89a and so on')
    page = Page(0, Console(quiet=True))
    told_by = []
    asking = threading.Thread(target=lambda: told_by.append(page(7, 9, clip)))
    try:
        assert 'drawing' in get(page.address)
        asking.start()
        while '7 of 9' not in get(page.address):  # the other thread is about to show it
            pass
        assert get(f'{page.address}clip/7').startswith('GIF89a')
        for address, number, answer in (
            (page.address.replace(page.secret, 'guess'), 7, 'left'),
            (page.address, 6, 'left'),
            (page.address, 7, 'shrug'),
        ):
            with pytest.raises(urllib.error.HTTPError):
                post(address, number=number, answer=answer)
        assert 'drawing' in post(page.address, number=7, answer='right')
        asking.join(10.0)
        assert told_by == ['right']
        with pytest.raises(urllib.error.HTTPError):  # a second click
            post(page.address, number=7, answer='left')
    finally:
        page.close()


def get(address):
    with urllib.request.urlopen(address, timeout=10.0) as answer:
        return answer.read().decode()


def post(address, **fields):
    data = urllib.parse.urlencode(fields).encode()
    with urllib.request.urlopen(address, data, timeout=10.0) as answer:
        return answer.read().decode()


# --- clips


def test_the_way_that_a_clip_shows_is_the_one_that_was_walked(lebot, bags, tmp_path):
    bag, were = record(lebot, tmp_path / 'turn', 3, seconds=5.0, command=(0.3, 0.4))
    rows = read_transitions([bag])[0].rows
    part = slice(100, 200)
    layout = layout_of(lebot, rows['observation'].shape[1])
    found = path(lebot, sensed(lebot, layout, rows['observation'][part]), rows['stamp'][part])
    real = were[part]
    assert_allclose(found[:, 7:], real[:, 7:], atol=1e-5)
    assert_allclose(found[:, 2], real[:, 2], atol=0.008)
    walked, wanted = found[-1, :2] - found[0, :2], real[-1, :2] - real[0, :2]
    assert np.linalg.norm(walked) == pytest.approx(np.linalg.norm(wanted), rel=0.2)

    def heading(q):
        return 2.0 * np.arctan2(q[6], q[3])

    turned = heading(real[-1]) - heading(real[0])
    assert abs(turned) > 0.3
    assert heading(found[-1]) - heading(found[0]) == pytest.approx(turned, abs=0.1)


def test_a_bag_of_another_robot_cannot_be_drawn(lebot, twelve):
    assert layout_of(lebot, 68).history == 2
    with pytest.raises(ValueError, match='34 a frame'):
        layout_of(lebot, 46)


def test_told_says_the_command(pieces):
    assert told(pieces.rows(0)) == 'told 0.30 m/s, +0.00 rad/s'


def test_the_terminal_shows_clips_and_keeps_answers(bags, tmp_path, monkeypatch, capsys):
    try:
        Renderer(Simulation(load_robot()), width=32, height=24).close()
    except RuntimeError as error:
        pytest.skip(str(error))
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(prefer_clips, 'SIZE', (64, 48))
    monkeypatch.setattr('sys.stdin', io.StringIO('what\nleft\n'))  # then its end
    out = tmp_path / 'answers.jsonl'
    words = ('prefer', bags[0], '--out', out, '--seconds', 0.4, '--pairs', 3)
    assert lebot_command(*words) == 0
    assert [one.answer for one in read_answers(out)] == ['first']
    with Image.open(tmp_path / 'answers.jsonl.clips' / 'pair-0001.gif') as clip:
        assert clip.n_frames == 5  # the last one stays longer
        assert clip.size == (2 * 64 + prefer_clips.GAP, 48 + prefer_clips.BAR)
    assert '1 of 3' in capsys.readouterr().out


# --- from answers to an adapter


def test_dpo_from_bags_to_a_version_in_the_store(bags, tmp_path, capsys):
    out, store = tmp_path / 'answers.jsonl', tmp_path / 'store'
    judge = ('prefer', bags[0], '--out', out, '--auto', 'term:action_rate', '--pairs', 200)
    assert lebot_command(*judge, '--quiet') == 0
    train = (
        'train', 'offline', '--bags', bags[0], '--method', 'dpo', '--preferences', out,
        '--adapter', 'smooth', '--store', store, '--steps', 40,
    )  # fmt: skip
    assert lebot_command(*train) == 0, capsys.readouterr()
    adapter = AdapterStore(store).get('smooth', 1)
    data = adapter.manifest.data
    assert data['bags'][0]['sha256'] == read_transitions([bags[0]])[0].sha256
    assert data['preferences'][0]['name'] == 'answers.jsonl'
    assert data['judges'] == ['term:action_rate']
    assert data['pairs'] == len(read_answers(out))
    assert adapter.manifest.training['method'] == 'offline dpo'
    assert adapter.manifest.scores['kl'] > 0.0


def test_grpo_from_bags_to_a_version_in_the_store(bags, tmp_path, capsys):
    store = tmp_path / 'store'
    train = (
        'train', 'offline', '--bags', bags[0], '--method', 'grpo', '--adapter', 'strong',
        '--store', store, '--steps', 4, '--fault', 'weak:fl_knee:0.6', '--holdout', 0.0,
        '--set', 'groups=2', 'group_size=4', 'horizon=10',
    )  # fmt: skip
    assert lebot_command(*train) == 0, capsys.readouterr()
    data = AdapterStore(store).get('strong', 1).manifest.data
    assert data['simulated_faults'] == ['weak:fl_knee:0.6']
    assert data['robots'] == 8


def test_options_and_preferences_that_do_not_fit(bags, tmp_path, capsys):
    straight, fell, _ = bags
    out = tmp_path / 'answers.jsonl'
    judge = ('prefer', fell, '--out', out, '--auto', 'return', '--pairs', 20)
    assert lebot_command(*judge, '--quiet') == 0
    train = ('train', 'offline', '--bags', straight, '--store', tmp_path / 'store', '--method')
    other = tmp_path / 'other.jsonl'
    foreign = [Answer(a.first, a.second, a.answer, a.by, 'e' * 64) for a in read_answers(out)]
    append_answers(other, foreign)
    torn = tmp_path / 'torn.jsonl'
    torn.write_text(json.dumps({'kind': 'note'}) + '\n')
    for words, message in (
        (('dpo',), 'give --preferences FILE'),
        (('dpo', '--preferences', out), 'about bags that were not given: fell'),
        (('dpo', '--preferences', other), 'of the base eeeeeeeeeeee, this one is'),
        (('dpo', '--preferences', torn), 'line 1 is no answer of `lebot prefer`'),
        (('grpo', '--preferences', out), '--preferences is for --method dpo, not for grpo'),
        (('bc', '--fault', 'dead:fl_knee'), '--fault is for --method grpo, not for bc'),
        (('grpo', '--fault', 'broken'), 'unknown kind'),
    ):
        assert lebot_command(*train, *words, '--steps', 1) == 2, words
        assert message in ' '.join(capsys.readouterr().err.split())
    assert not (tmp_path / 'store').exists()
