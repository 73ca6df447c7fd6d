"""Bags to transitions: as the live learner joins them, from the cache, many at once."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bag_rows import (
    BASE,
    JOINTS,
    OTHER_BASE,
    PERIOD,
    REWARD,
    STEP,
    TERMS,
    WIDTH,
    arrivals,
    cloud,
    cut_off,
    stamps,
    stream,
    write_bag,
)
from lebot_rl_ros.data.bag import kept, live
from lebot_rl_ros.data.bag.cache import FOLDER
from lebot_rl_ros.data.bag.live import join_as_live
from lebot_rl_ros.data.bag.reader import Bag, Records
from lebot_rl_ros.data.bag.transitions import read_transitions
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.data.joining import COUNTS, Joiner
from lebot_rl_ros.data.rows import transition_dtype
from lebot_rl_ros.data.stream_faults import HostileStream
from lebot_rl_ros.robot import load_robot

CLOCK = 1_700_000_000_000_000_000  # ns
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=40, deadline=None)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def one_by_one(arrived, **given):
    """What a live learner has in the end: every row given as it came, taken at once."""
    join, out = Joiner(WIDTH, JOINTS, TERMS, period=PERIOD, **given), []
    for topic, row in arrived:
        (join.steps if topic.endswith('steps') else join.rewards)(row)
        out.append(join.take())
    return np.concatenate([*out, join.flush()]), join.counts


def sent(arrived):
    """The same as messages, of which some come at the same time."""
    return [(topic, CLOCK + i // 3, cloud(row)) for i, (topic, row) in enumerate(arrived)]


def records(arrived):
    """The same as the reader gives them."""
    found = []
    for name, dtype in (('steps', STEP), ('rewards', REWARD)):
        which = np.array([i for i, (t, _) in enumerate(arrived) if t.endswith(name)], np.int64)
        rows = np.array([arrived[i][1] for i in which], dtype)
        found.append(Records(rows, CLOCK + which // 3, which))
    return found


def joined(arrived, **given):
    join = Joiner(WIDTH, JOINTS, TERMS, period=PERIOD, **given)
    return join_as_live(join, *records(arrived), PERIOD)


def same(found, wanted):
    assert found.dtype == wanted.dtype
    assert found.tobytes() == wanted.tobytes()


def in_turn(steps, rewards):
    """Rows of both topics, the reward behind its step."""
    rows = [('/policy/steps', row, 0) for row in steps]
    rows += [('/reward/rewards', row, 1) for row in rewards]
    at = [int(stamp) for part in (steps, rewards) for stamp in stamps(part)]
    order = sorted(range(len(rows)), key=lambda i: (at[i], rows[i][2]))
    return [rows[i][:2] for i in order]


def hostile(seed, steps, rewards, **faults):
    """Rows as they arrive through a bad network, and how many were lost."""
    link = HostileStream(seed=seed, **{'loss': 0.05, 'repeat': 0.05, 'hold': 0.15} | faults)
    for topic, row in in_turn(steps, rewards):
        link.put(topic, int(stamps(np.atleast_1d(row))[0]), row)
    return link.flush(), link.counts['lost']


def test_a_bag_by_hand(tmp_path):
    steps, rewards = stream(4)
    rewards['terminated'][3] = 1
    path = write_bag(tmp_path / 'run', arrivals(steps[[0, 1, 3]], rewards), metadata={'a': 'b'})
    (found,) = read_transitions(path)
    assert found.path == path
    assert found.sha256 == Bag(path).sha256
    assert (found.terms, found.metadata) == (TERMS, {'a': 'b'})
    assert found.rows['stamp'].tolist() == [1_000_000_000, 1_020_000_000, 1_060_000_000]
    assert found.rows['known'].tolist() == [1, 0, 0]
    assert found.rows['follows'].tolist() == [0, 1, 0]
    assert found.rows['terminated'].tolist() == [0, 0, 1]
    assert {k: n for k, n in found.counts.items() if n} == {
        'joined': 3,
        'gaps': 1,
        'lost_steps': 1,
    }
    np.testing.assert_array_equal(found.rows['fall'], rewards['fall'][[0, 1, 3]])
    assert found.rows.dtype == transition_dtype(WIDTH, JOINTS, TERMS)
    with pytest.raises(ValueError, match='read-only'):
        found.rows['reward'] = 0.0


@pytest.mark.parametrize('cache', [True, False])
def test_a_hostile_run_is_read_as_the_live_learner_joined_it(tmp_path, cache):
    first, lost = hostile(1, *stream(400, 1, start=5_000))
    second, more = hostile(2, *stream(300, 2, start=100), loss=0.1)
    arrived = first + second
    wanted, counts = one_by_one(arrived)
    assert min(lost, more) > 0
    assert counts['restarts'] == 1
    assert min(counts[name] for name in ('lost_steps', 'lost_rewards', 'duplicates', 'gaps'))
    path = write_bag(tmp_path / 'run', sent(arrived))
    for _ in range(2):
        (found,) = read_transitions([path], cache=cache)
        same(found.rows, wanted)
        assert tuple(found.counts) == COUNTS
        names = ('joined', 'gaps', 'restarts', 'lost_steps', 'lost_rewards')
        assert [found.counts[name] for name in names] == [counts[name] for name in names]


@FEW
@given(SEEDS, st.floats(0.0, 0.4), st.integers(1, 120))
def test_losses_repetitions_and_delays_end_the_same(seed, loss, count):
    rng = np.random.default_rng(seed)
    steps, rewards = stream(count, seed)
    rewards['terminated'] = rng.random(count) < 0.1
    arrived, _ = hostile(seed, steps, rewards, loss=loss, repeat=0.2, hold=0.4, reorder=0.2)
    if {topic for topic, _ in arrived} == {'/policy/steps', '/reward/rewards'}:
        same(joined(arrived)[0], one_by_one(arrived)[0])


@FEW
@given(SEEDS, st.integers(2, 5))
def test_clocks_that_jump_in_one_topic_before_the_other_end_the_same(seed, streams):
    """Resets of the simulator, with stragglers of either topic far behind them."""
    rng = np.random.default_rng(seed)
    arrived = []
    for i in range(streams):
        start = int(rng.integers(0, 3000))
        steps, rewards = stream(int(rng.integers(5, 80)), seed + i, start=start)
        part, _ = hostile(seed + i, steps, rewards, repeat=0.1, loss=0.05)
        arrived += part
    at = np.arange(len(arrived)) + rng.integers(0, 25) * np.array(
        [topic.endswith('rewards') for topic, _ in arrived]
    )
    arrived = [arrived[i] for i in np.argsort(at, kind='stable')]
    same(joined(arrived)[0], one_by_one(arrived)[0])


@FEW
@given(SEEDS, st.integers(0, 250), st.integers(1, 250))
def test_a_topic_that_dies_or_stalls_ends_the_same(seed, start, length):
    """Rewards that come when the joiner has given up waiting are late there, and so here."""
    steps, rewards = stream(300, seed)
    topic = ('rewards', 'steps')[seed % 2]
    arrived = in_turn(steps, rewards)
    stalled = [i for i, (name, _) in enumerate(arrived) if name.endswith(topic)]
    held = set(stalled[start : start + length])
    behind = stalled[min(start + length, len(stalled) - 1)]
    order = sorted(range(len(arrived)), key=lambda i: (behind, -1) if i in held else (i, 0))
    arrived = [arrived[i] for i in order]
    same(joined(arrived, capacity=100)[0], one_by_one(arrived, capacity=100)[0])


@pytest.mark.parametrize('block', [1, 7, 100])
def test_blocks_of_any_length_end_the_same(monkeypatch, block):
    arrived, _ = hostile(3, *stream(300, 3))
    monkeypatch.setattr(live, 'BLOCK', block)
    same(joined(arrived)[0], one_by_one(arrived)[0])


def test_most_rows_are_given_many_at_once(monkeypatch):
    given, steps = [], Joiner.steps
    monkeypatch.setattr(
        Joiner, 'steps', lambda self, r: given.append(np.size(r)) or steps(self, r)
    )
    steps_rows, rewards = stream(2_000)
    joined(in_turn(steps_rows, rewards))
    assert max(given) > 1_900
    assert len(given) < 20


def test_the_cache_is_mapped_and_not_made_again(tmp_path, monkeypatch):
    path = write_bag(tmp_path / 'run', arrivals(*stream(100)))
    (first,) = read_transitions(path)
    assert sorted(p.suffix for p in (path / FOLDER).iterdir()) == ['.json', '.npy']
    assert isinstance(first.rows.base, np.memmap)
    calls = []
    monkeypatch.setattr(kept, 'join_bag', lambda *a: calls.append(a) or 1 / 0)
    (again,) = read_transitions(path)
    assert not calls
    assert isinstance(again.rows.base, np.memmap)
    same(again.rows, first.rows)
    assert (again.sha256, again.counts, again.terms) == (first.sha256, first.counts, first.terms)
    with pytest.raises(ZeroDivisionError):
        read_transitions(path, cache=False)
    assert Bag(path).topics  # what lies beside its files is none of a bag's business


def test_without_the_cache_nothing_is_written(tmp_path):
    path = write_bag(tmp_path / 'run', arrivals(*stream(50)))
    before = sorted(tmp_path.rglob('*'))
    (found,) = read_transitions(path, cache=False)
    assert len(found.rows) == 50
    assert sorted(tmp_path.rglob('*')) == before


def test_a_bag_that_changed_is_read_again(tmp_path):
    path = write_bag(tmp_path / 'run', arrivals(*stream(100)))
    (old,) = read_transitions(path)
    other = write_bag(tmp_path / 'other', arrivals(*stream(100, 1)))
    status = (path / 'run.mcap').stat()
    (path / 'run.mcap').write_bytes((other / 'other.mcap').read_bytes())
    os.utime(path / 'run.mcap', ns=(status.st_atime_ns, status.st_mtime_ns))
    (new,) = read_transitions(path)
    assert new.sha256 != old.sha256
    assert new.rows.tobytes() != old.rows.tobytes()
    assert len(list((path / FOLDER).iterdir())) == 2  # the old one is gone
    os.utime(path / 'run.mcap', ns=(1, 1))
    same(read_transitions(path)[0].rows, new.rows)


def test_caches_of_different_questions_do_not_meet(tmp_path):
    steps, rewards = stream(100)
    steps['base_sha256'][40:] = np.frombuffer(bytes.fromhex(OTHER_BASE), np.uint8)
    path = write_bag(tmp_path / 'run', arrivals(steps, rewards))
    for _ in range(2):
        assert len(read_transitions(path, base_sha256=BASE)[0].rows) == 40
        assert len(read_transitions(path, base_sha256=OTHER_BASE)[0].rows) == 60
    assert len(list((path / FOLDER).iterdir())) == 4


def test_a_bag_of_one_base_is_kept_once_whoever_asks(tmp_path, monkeypatch):
    paths = [write_bag(tmp_path / f'run{i}', arrivals(*stream(50, i))) for i in range(2)]
    asked = ['', BASE]
    first = [read_transitions(p, base_sha256=base) for p, base in zip(paths, asked, strict=True)]
    monkeypatch.setattr(kept, 'join_bag', lambda *a: 1 / 0)
    for path, (one,) in zip(paths, first, strict=True):
        for base in asked:
            same(read_transitions(path, base_sha256=base)[0].rows, one.rows)
    with pytest.raises(ZeroDivisionError):  # what is kept is no answer
        read_transitions(paths[0], base_sha256=OTHER_BASE)


@pytest.mark.parametrize('spoil', [
    lambda array, table: array.write_bytes(array.read_bytes()[:-1]),
    lambda array, table: array.write_bytes(array.read_bytes() + b'x'),
    lambda array, table: array.write_bytes(b'\0' * array.stat().st_size),
    lambda array, table: array.write_bytes(b''),
    lambda array, table: array.unlink(),
    lambda array, table: table.unlink(),
    lambda array, table: table.write_text('{"format": '),
    lambda array, table: table.write_text('[]'),
    lambda array, table: table.write_text(
        json.dumps({**json.loads(table.read_text()), 'format': -1})
    ),
    lambda array, table: table.write_text(
        json.dumps({**json.loads(table.read_text()), 'rows': 7})
    ),
])  # fmt: skip
def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch, spoil):
    path = write_bag(tmp_path / 'run', arrivals(*stream(60)))
    (wanted,) = read_transitions(path, cache=False)
    read_transitions(path)
    array, table = (next((path / FOLDER).glob(f'*.{kind}')) for kind in ('npy', 'json'))
    spoil(array, table)
    made, join_bag = [], kept.join_bag
    monkeypatch.setattr(kept, 'join_bag', lambda *a: made.append(a) or join_bag(*a))
    same(read_transitions(path)[0].rows, wanted.rows)
    same(read_transitions(path)[0].rows, wanted.rows)
    assert len(made) == 1
    assert json.loads(table.read_text())['rows'] == 60


def test_a_folder_that_cannot_be_written_has_its_cache_elsewhere(tmp_path):
    path = write_bag(tmp_path / 'run', arrivals(*stream(60)))
    (path / FOLDER).write_text('a file is in the way')  # as root no folder is read-only
    (first,) = read_transitions(path)
    left = [p for p in (tmp_path / 'cache').rglob('*') if p.is_file()]
    assert sorted(p.suffix for p in left) == ['.json', '.npy']
    assert isinstance(read_transitions(path)[0].rows.base, np.memmap)
    for file in left:
        file.unlink()
    folder = left[0].parent
    folder.rmdir()
    folder.write_text('here, too')
    for workers in (1, 2):
        (again, _) = read_transitions([path, path], workers=workers)
        same(again.rows, first.rows)  # not kept, but read
        assert not again.rows.flags.writeable


def test_many_bags_are_read_by_processes_and_told_of(tmp_path):
    paths = [write_bag(tmp_path / f'run{i}', arrivals(*stream(50 + i, i))) for i in range(4)]
    read_transitions(paths[2])
    told = []
    found = read_transitions(paths, workers=2, progress=lambda *said: told.append(said))
    assert [len(one.rows) for one in found] == [50, 51, 52, 53]
    assert [one.path for one in found] == paths
    assert [said[:2] for said in told] == [(i + 1, 4) for i in range(4)]
    assert told[0][2] == paths[2]  # was there already
    assert sorted(said[2] for said in told) == paths
    for one, alone in zip(found, paths, strict=True):
        same(one.rows, read_transitions(alone, cache=False)[0].rows)


@pytest.mark.parametrize('workers', [1, 2])
def test_bags_that_fail_are_all_named_and_the_others_are_kept(tmp_path, workers):
    paths = [write_bag(tmp_path / f'run{i}', arrivals(*stream(50, i))) for i in range(4)]
    cut_off(paths[1] / 'run1.mcap')
    (paths[3] / 'metadata.yaml').write_text('x: [')
    told = []
    with pytest.raises(BagError) as failure:
        read_transitions(paths, workers=workers, progress=lambda *said: told.append(said))
    lines = str(failure.value).splitlines()
    assert str(paths[1]) in lines[0]
    assert 'lebot bag recover' in lines[0]
    assert any(str(paths[3]) in line for line in lines[1:])
    assert len(told) == 4
    assert (paths[0] / FOLDER).exists()
    assert (paths[2] / FOLDER).exists()


def test_each_bag_that_cannot_be_used_has_its_own_error(tmp_path):
    steps, rewards = stream(30)

    def refused(name, messages, reason, **asked):
        path = write_bag(tmp_path / name, messages, metadata=asked.pop('metadata', None))
        with pytest.raises(BagError, match=reason) as failure:
            read_transitions(path, **asked)
        assert str(path) in str(failure.value)

    none = steps[:0], rewards[:0]
    refused('a', arrivals(none[0], rewards), r'has no topic policy/steps; it has /reward/rewards')
    refused(
        'b', arrivals(steps, none[1]), r'no topic /reward/rewards; .*its steps have no rewards'
    )
    apart = rewards.copy()
    apart['nanosec'] += 7
    refused('c', arrivals(steps, apart), r'none of its 30 steps has a reward of the same stamp')
    mixed = steps.copy()
    mixed['base_sha256'][9:] = np.frombuffer(bytes.fromhex(OTHER_BASE), np.uint8)
    refused('d', arrivals(mixed, rewards), f'mixes steps of base {BASE} and {OTHER_BASE}; give ba')
    refused(
        'e', arrivals(steps, rewards), f'by base {BASE}, expected {OTHER_BASE}',
        base_sha256=OTHER_BASE,
    )  # fmt: skip
    swapped = [('/reward/rewards', CLOCK, cloud(steps)), ('/policy/steps', CLOCK, cloud(rewards))]
    refused('f', swapped, 'policy/steps: field next_sec is missing')
    refused('g', arrivals(steps, rewards), 'has no reward term tilt; it has alive, fall',
            terms=['tilt'])  # fmt: skip
    refused('h', arrivals(steps, rewards), 'the robot in its metadata cannot be read',
            metadata={'robot': 'joints: [1]'})  # fmt: skip
    path = write_bag(tmp_path / 'z', arrivals(steps, rewards))
    cut_off(path / 'z.mcap')
    with pytest.raises(BagError, match=rf'has no end.*`lebot bag recover {path}` mends it'):
        read_transitions(path)


def test_a_bag_of_another_robot_is_refused(tmp_path):
    robot = load_robot()
    names = '[{name: a}, {name: b}, {name: c}]'
    table = f'name: tripod\ncontrol_rate: 50.0\njoints: {names}'
    path = write_bag(tmp_path / 'run', arrivals(*stream(30)), metadata={'robot': table})
    assert len(read_transitions(path)[0].rows) == 30
    with pytest.raises(BagError, match='is a bag of the robot tripod, expected one of lebot'):
        read_transitions(path, robot=robot)
    plain = write_bag(tmp_path / 'plain', arrivals(*stream(30)))
    with pytest.raises(BagError, match='is a bag of a robot with 3 joints, lebot has 8'):
        read_transitions(plain, robot=robot)
    with pytest.raises(BagError, match='has observations of 5 numbers, expected 34'):
        read_transitions(plain, observation=34)
    assert len(read_transitions(plain, observation=WIDTH)[0].rows) == 30


def test_joints_in_another_order_are_another_robot(tmp_path):
    from dataclasses import replace

    robot = load_robot()
    robot = replace(robot, joints=robot.joints[:3], get_up=())
    order = [joint.name for joint in robot.joints]
    for names, fits in ((order, True), (order[::-1], False)):
        table = json.dumps({'name': 'lebot', 'joints': [{'name': name} for name in names]})
        path = write_bag(tmp_path / f'run{fits}', arrivals(*stream(30)), metadata={'robot': table})
        if fits:
            assert len(read_transitions(path, robot=robot)[0].rows) == 30
        else:
            with pytest.raises(
                BagError, match='has the joints fr_hip, fl_knee, fl_hip; lebot has fl_'
            ):
                read_transitions(path, robot=robot)


def test_bags_that_do_not_fit_each_other_are_refused(tmp_path):
    one = write_bag(tmp_path / 'one', arrivals(*stream(30)))
    other = write_bag(tmp_path / 'other', arrivals(*stream(30, 1, base=OTHER_BASE)))
    with pytest.raises(BagError, match=f'{one} has base {BASE}, {other} has {OTHER_BASE}; give'):
        read_transitions([one, other])
    with pytest.raises(BagError, match=f'{other} was made by base {OTHER_BASE}, expected {BASE}'):
        read_transitions([one, other], base_sha256=BASE)


def test_the_period_is_that_of_the_robot_in_the_bag(tmp_path):
    """At 5 Hz a step takes 0.2 s: within a window of 10 periods rows may come 2 s late."""
    steps, rewards = stream(50)
    for rows in (steps, rewards):
        at = stamps(rows) * 10
        rows['sec'], rows['nanosec'] = np.divmod(at, 1_000_000_000)
    steps['next_sec'], steps['next_nanosec'] = np.divmod(stamps(steps) + 10 * PERIOD, 10**9)
    order = np.arange(50)
    order[10:16] = [15, 10, 11, 12, 13, 14]  # a second behind
    found = [
        read_transitions(
            write_bag(
                tmp_path / f'run{i}', sent(in_turn(steps, rewards[:0]) * 0 + [
                    *(('/policy/steps', steps[j]) for j in order),
                    *(('/reward/rewards', row) for row in rewards),
                ]), metadata=metadata,
            ), period=period,
        )[0]
        for i, (metadata, period) in enumerate((
            ({'robot': 'control_rate: 5.0'}, PERIOD), ({}, PERIOD), ({}, 10 * PERIOD),
        ))
    ]  # fmt: skip
    assert [one.counts['late'] for one in found] == [0, 5, 0]
    assert [len(one.rows) for one in found] == [50, 45, 50]


def test_terms_are_picked_in_the_order_asked(tmp_path):
    path = write_bag(tmp_path / 'run', arrivals(*stream(30)))
    (whole,) = read_transitions(path)
    (one,) = read_transitions(path, terms=['fall'])
    assert (one.terms, one.rows.dtype) == (('fall',), transition_dtype(WIDTH, JOINTS, ['fall']))
    (both,) = read_transitions(path, terms=['fall', 'alive'])
    assert both.rows.dtype == transition_dtype(WIDTH, JOINTS, ['fall', 'alive'])
    for name in whole.rows.dtype.names:
        np.testing.assert_array_equal(both.rows[name], whole.rows[name])
    assert not one.rows.flags.writeable
    assert isinstance(read_transitions(path, terms=TERMS)[0].rows.base, np.memmap)


def test_a_namespace_tells_two_robots_apart(tmp_path):
    messages = []
    for i, name in enumerate(('one', 'two')):
        messages += [(f'/{name}{t}', at, data) for t, at, data in arrivals(*stream(30 + i, i))]
    path = write_bag(tmp_path / 'run', sorted(messages, key=lambda message: message[1]))
    with pytest.raises(BagError, match='has /one/policy/steps and /two/policy/steps; give the'):
        read_transitions(path)
    assert len(read_transitions(path, namespace='one')[0].rows) == 30
    assert len(read_transitions(path, namespace='/two')[0].rows) == 31


def test_a_single_file_has_its_cache_beside_it(tmp_path):
    folder = write_bag(tmp_path / 'run', arrivals(*stream(30)))
    (found,) = read_transitions(folder / 'run.mcap')
    assert isinstance(found.rows.base, np.memmap)
    assert Path(found.rows.base.filename).parent == folder / FOLDER
