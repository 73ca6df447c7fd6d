"""Data sets of bags: splits that stay, versions, hashes, and the command."""

import json
import shutil

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bag_rows import BASE, OTHER_BASE, PERIOD, TERMS, arrivals, stream, write_bag
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.data.bag.transitions import read_transitions
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.data.dataset_making import make_dataset
from lebot_rl_ros.data.datasets import (
    FILE,
    DataSetError,
    load_dataset,
    names,
    read_dataset,
    versions,
)
from lebot_rl_ros.data.joining import trajectories
from lebot_rl_ros.data.rows import transition_dtype
from lebot_rl_ros.data.splits import SHARES, check_shares, gather, split_of, split_rows

HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
STAMPS = st.integers(0, 2**62)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('LEBOT_DATASETS', str(tmp_path / 'sets'))


def walk(folder, seed, count=200, every=10, **given):
    """A bag of trajectories of some steps each, which end with a fall."""
    steps, rewards = stream(count, seed, **given)
    rewards['terminated'][every - 1 :: every] = 1
    return write_bag(folder, arrivals(steps, rewards))


def rows_of(lengths, start=0):
    """Transitions of trajectories of these lengths."""
    rows = np.zeros(sum(lengths), transition_dtype(2, 1, ()))
    rows['stamp'] = start + np.arange(len(rows)) * PERIOD
    rows['next_stamp'] = rows['stamp'] + PERIOD
    rows['follows'], rows['known'] = 1, 1
    rows['follows'][:1] = 0
    rows['terminated'][np.cumsum(lengths) - 1] = 1
    return rows


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(HASHES, st.lists(st.integers(1, 5), min_size=1, max_size=9)), min_size=2,
             max_size=6, unique_by=lambda bag: bag[0]),
    st.integers(0, 9), st.data(),
)  # fmt: skip
def test_splits_are_disjoint_and_stay_when_bags_are_added(bags, seed, data):
    def deal(some):
        found = {}
        for sha256, lengths in some:
            rows = rows_of(lengths)
            pieces = split_rows(rows, sha256, seed, SHARES)
            assert set(pieces) == set(SHARES)
            every = sorted((p for part in pieces.values() for p in part), key=lambda p: p.start)
            assert every == trajectories(rows)  # each one once, none cut
            found |= {(sha256, p.start): name for name, part in pieces.items() for p in part}
        return found

    whole = deal(bags)
    some = data.draw(st.lists(st.sampled_from(bags), unique_by=lambda bag: bag[0]))
    before = deal(some)
    assert {key: whole[key] for key in before} == before


@given(st.integers(), HASHES, STAMPS, st.floats(0.05, 0.9))
def test_a_split_does_not_depend_on_the_order_of_the_shares(seed, sha256, stamp, share):
    shares = {'train': share, 'test': 1.0 - share}
    back = dict(reversed(shares.items()))
    assert split_of(seed, sha256, stamp, shares) == split_of(seed, sha256, stamp, back)


def test_a_split_by_hand():
    """The first seven octets of the hash are a number from 0 to 1, as a fraction of 2^56."""
    import hashlib

    zero = '00' * 32
    first = hashlib.sha256(f'0 {zero} 7'.encode()).digest()[:7]
    place = sum(octet * 256**i for i, octet in enumerate(first)) / 256**7
    assert 0.0 < place < 1.0
    assert split_of(0, zero, 7, {'a': place + 1e-9, 'b': 1.0 - place - 1e-9}) == 'a'
    assert split_of(0, zero, 7, {'a': place - 1e-9, 'b': 1.0 - place + 1e-9}) == 'b'
    assert split_of(0, zero, 7, {'a': 0.0, 'b': 1.0}) == 'b'
    assert split_of(0, zero, 7, {'a': 1.0, 'b': 0.0}) == 'a'


def test_shares_are_met_and_the_seed_deals_anew():
    dealt = [split_of(0, 'aa' * 32, i * PERIOD, SHARES) for i in range(20_000)]
    for name, share in SHARES.items():
        spread = np.sqrt(share * (1 - share) / 20_000)
        assert abs(dealt.count(name) / 20_000 - share) < 4 * spread
    for change in ({'seed': 1}, {'sha256': 'ab' * 32}):
        given = {'seed': 0, 'sha256': 'aa' * 32} | change
        other = [split_of(stamp=i * PERIOD, shares=SHARES, **given) for i in range(20_000)]
        agree = np.mean([a == b for a, b in zip(dealt, other, strict=True)])
        assert abs(agree - 0.66) < 0.02  # of independent ones 0.8^2 + 2 * 0.1^2


@pytest.mark.parametrize('shares, reason', [
    ({'train': 0.5}, 'train 0.5: 0.5 in all, expected 1'),
    ({'train': 1.2, 'test': -0.2}, 'split train has share 1.2'),
    ({'Train': 1.0}, "split 'Train': expected small letters"),
    ({}, 'are none: 0 in all'),
    ({'train': float('nan')}, 'split train has share nan'),
])  # fmt: skip
def test_shares_that_cannot_be_are_refused(shares, reason):
    with pytest.raises(ValueError, match=reason):
        check_shares(shares)


def test_what_is_gathered_is_never_one_trajectory_that_it_was_not():
    """Two recordings of one simulator have the same stamps: by them a seam would not be seen."""
    first, second = rows_of([3, 4]), rows_of([3, 4])
    first['terminated'][2] = 0
    first['follows'][3] = 0  # cut there, and by nothing else
    out = np.concatenate([
        gather(first, trajectories(first)[:1]), gather(second, trajectories(second)[1:]),
    ])  # fmt: skip
    assert out['next_stamp'][2] == out['stamp'][3]
    assert trajectories(out) == [slice(0, 3), slice(3, 7)]
    assert second['follows'].tolist() == [0, 1, 1, 1, 1, 1, 1]  # a copy was changed
    assert len(gather(first, [])) == 0


def test_a_data_set_is_made_loaded_and_goes_on(tmp_path):
    bags = [walk(tmp_path / f'run{i}', i) for i in range(4)]
    root = tmp_path / 'sets'
    made = make_dataset(root, 'field', bags[:2], seed=3)
    assert made.folder == root / 'field' / '0001'
    assert (made.label, made.parent, made.base_sha256) == ('field@1', 0, BASE)
    assert (made.terms, made.widths) == (TERMS, (5, 3))
    assert made.paths == bags[:2]
    assert [bag.steps for bag in made.bags] == [200, 200]
    assert [bag.trajectories for bag in made.bags] == [20, 20]
    assert load_dataset(root, 'field') == read_dataset(made.folder) == made

    rows = {split: made.load(split) for split in SHARES}
    assert [len(rows[split]) for split in SHARES] == [made.steps(split) for split in SHARES]
    assert sum(map(len, rows.values())) == 400
    assert min(map(len, rows.values())) > 0
    whole = [recorded.rows for recorded in read_transitions(bags[:2])]
    keys = {row.tobytes() for part in whole for row in part['observation']}
    dealt = [{row.tobytes() for row in part['observation']} for part in rows.values()]
    assert set.union(*dealt) == keys
    assert sum(map(len, dealt)) == len(keys)  # disjoint
    for part in rows.values():
        pieces = trajectories(part)
        assert {piece.stop - piece.start for piece in pieces} == {10}
        assert part['terminated'][9::10].all()

    more = make_dataset(root, 'field', [bags[2]], add=True)
    assert (more.version, more.parent, more.seed, more.splits) == (2, 1, 3, made.splits)
    assert more.bags[:2] == made.bags
    for split, before in rows.items():
        after = more.load(split)
        assert len(after) > len(before)
        assert after[: len(before)].tobytes() == before.tobytes()
    other = make_dataset(root, 'field', [bags[3]])
    assert [bag.sha256 for bag in other.bags] == [read_transitions(bags[3])[0].sha256]
    assert (versions(root, 'field'), names(root)) == ([1, 2, 3], ['field'])
    assert load_dataset(root, 'field', 1) == made  # a version never changes
    with pytest.raises(DataSetError, match='field@1 has no split dev; it has train, validation'):
        made.load('dev')


def test_a_data_set_knows_its_content_wherever_it_lies(tmp_path):
    walk(tmp_path / 'here' / 'bags' / 'run', 0)
    made = make_dataset(tmp_path / 'here' / 'sets', 'field', [tmp_path / 'here' / 'bags' / 'run'])
    shutil.move(tmp_path / 'here', tmp_path / 'there')
    moved = load_dataset(tmp_path / 'there' / 'sets', 'field')
    moved.check()
    assert len(moved.load('train')) == made.steps('train')
    again = make_dataset(tmp_path / 'new', 'field', moved.paths)
    assert again.sha256 == moved.sha256 == made.sha256  # another path, another day
    other = make_dataset(tmp_path / 'newer', 'field', moved.paths, seed=1)
    assert other.sha256 != made.sha256


def test_a_bag_that_changed_is_named(tmp_path):
    bags = [walk(tmp_path / f'run{i}', i) for i in range(3)]
    made = make_dataset(tmp_path / 'sets', 'field', bags)
    made.check()
    shutil.rmtree(bags[1])
    walk(bags[1], 9)
    shutil.rmtree(bags[2])
    with pytest.raises(DataSetError) as failure:
        made.check()
    lines = str(failure.value).splitlines()
    assert len(lines) == 2
    assert f'{bags[1]} has changed since field@1 was made: its hash is ' in lines[0]
    assert f'{bags[2]}: there is no such bag' in lines[1]
    walk(bags[2], 2)
    for use in (
        lambda: made.load('train'),
        lambda: make_dataset(tmp_path / 'sets', 'field', [walk(tmp_path / 'run3', 3)], add=True),
    ):
        with pytest.raises(DataSetError, match=f'{bags[1]} has changed since field@1'):
            use()
    assert versions(tmp_path / 'sets', 'field') == [1]


def test_what_a_version_cannot_change_is_refused(tmp_path):
    bag, other = walk(tmp_path / 'run', 0), walk(tmp_path / 'other', 1)
    root = tmp_path / 'sets'
    make_dataset(root, 'field', [bag])
    for asked in (
        {'splits': {'train': 1.0}}, {'seed': 4}, {'base_sha256': OTHER_BASE}, {'terms': ['fall']},
    ):  # fmt: skip
        with pytest.raises(DataSetError, match=f'field@1 has {next(iter(asked))} .*another name'):
            make_dataset(root, 'field', [other], **asked)
    make_dataset(root, 'field', [other], splits=dict(SHARES), seed=0, base_sha256=BASE)


def test_bags_that_do_not_go_together_are_refused(tmp_path):
    bag = walk(tmp_path / 'run', 0)
    root = tmp_path / 'sets'
    shutil.copytree(bag, tmp_path / 'copy')
    with pytest.raises(DataSetError, match=r'run and .*copy are the same bag'):
        make_dataset(root, 'field', [bag, tmp_path / 'copy'])
    terms = walk(tmp_path / 'terms', 1, terms=('alive', 'tilt'))
    with pytest.raises(
        DataSetError, match=r'has the reward terms alive, fall, .* alive, tilt; gi'
    ):
        make_dataset(root, 'field', [bag, terms])
    with pytest.raises(BagError, match=r'has base 5a5a.*give base_sha256'):
        make_dataset(root, 'field', [bag, walk(tmp_path / 'base', 2, base=OTHER_BASE)])
    with pytest.raises(DataSetError, match='field: no bags were given'):
        make_dataset(root, 'field', [])
    with pytest.raises(DataSetError, match=r"data set name '\.\./x': expected a small letter"):
        make_dataset(root, '../x', [bag])
    assert names(root) == []  # nothing was left behind
    one = make_dataset(root, 'field', [bag, terms], terms=['alive'])
    assert one.terms == ('alive',)
    assert one.load('train').dtype == transition_dtype(5, 3, ['alive'])


def test_a_manifest_that_was_changed_is_refused(tmp_path):
    made = make_dataset(tmp_path / 'sets', 'field', [walk(tmp_path / 'run', 0)])
    path = made.folder / FILE
    good = path.read_text()
    assert yaml.safe_load(good)['bags'][0]['path'] == '../../../run'
    for old, new, reason in (
        ('seed: 0', 'seed: 1', 'was changed after it was written'),
        ('train: 0.8', 'train: 0.9', 'was changed after it was written'),
        ('steps: 200', 'steps: 201', 'was changed after it was written'),
        ('schema: 1', 'schema: 2', 'is of another version of the format'),
        ('seed: 0', 'sed: 0', 'is no data set'),
        ('name: field', 'name: [', 'cannot be read'),
        (good, '', 'is no data set'),
    ):
        assert old in good
        path.write_text(good.replace(old, new))
        with pytest.raises(DataSetError, match=reason):
            load_dataset(tmp_path / 'sets', 'field')
    path.unlink()
    with pytest.raises(DataSetError, match='cannot be read'):
        load_dataset(tmp_path / 'sets', 'field')


def test_the_command_makes_shows_checks_and_lists(tmp_path, capsys):
    def lebot(*words):
        status = main(['dataset', *map(str, words)])
        return status, *capsys.readouterr()

    assert lebot('list')[1].startswith(f'no data sets in {tmp_path / "sets"}; `lebot dataset make')
    walk(tmp_path / 'bags' / 'a', 0)
    walk(tmp_path / 'bags' / 'b', 1)
    status, out, told = lebot('make', 'field', tmp_path / 'bags', '--seed', 5, '--workers', 1)
    assert status == 0
    assert told.splitlines() == [
        f'1/2 {tmp_path / "bags" / "a"}', f'2/2 {tmp_path / "bags" / "b"}',
    ]  # fmt: skip
    assert out.startswith('field@1  ')
    assert f'base {BASE[:12]}, seed 5' in out
    assert 'train          80% wanted' in out
    walk(tmp_path / 'c', 2, count=20, every=20)
    status, out, _ = lebot('make', 'field', tmp_path / 'c', '--add', '--json')
    assert (status, json.loads(out)['version'], len(json.loads(out)['bags'])) == (0, 2, 3)
    status, out, _ = lebot('make', 'small', tmp_path / 'c', '--splits', 'a:0.5,b:0.5')
    assert ' got nothing. Whole trajectories are dealt out, and there are 1' in out
    assert lebot('check', 'field@1')[1] == 'field@1: all 2 bags have the hash that they had\n'
    assert json.loads(lebot('show', 'field@2', '--json')[1])['parent'] == 1
    status, out, _ = lebot('list')
    assert [line.split()[0] for line in out.splitlines()] == ['field@1', 'field@2', 'small@1']
    assert len(json.loads(lebot('list', '--json')[1])) == 3
    shutil.rmtree(tmp_path / 'bags' / 'a')
    for words, reason in (
        (('check', 'field'), 'bags/a: there is no such bag'),
        (('show', 'field@9'), 'field has no version 9; it has 1, 2'),
        (('show', 'fjeld'), 'there is no data set fjeld; there are field, small in'),
        (('show', 'field@x'), "'field@x': expected NAME or NAME@VERSION"),
        (('make', 'new', tmp_path / 'c', '--splits', 'a'), "--splits 'a': expected NAME:SHARE"),
        (('make', 'new', tmp_path / 'none'), 'none: there is no bag'),
    ):
        status, _, said = lebot(*words)
        assert status == 2
        assert reason in said
