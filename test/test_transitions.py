"""Recorded steps on disk: what goes in comes out, and what cannot be is refused by name."""

import io
import zipfile
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lebot_rl_ros.data.transitions import (
    Transitions,
    TransitionsError,
    load_transitions,
    save_transitions,
)

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def table(steps=6, **changes):
    """Two trajectories: one that fell after 4 steps, one that was cut after 2."""
    rng = np.random.default_rng(0)
    values = {
        'observations': rng.normal(size=(steps, 3)).astype(np.float32),
        'actions': rng.normal(size=(steps, 2)).astype(np.float32),
        'rewards': rng.normal(size=steps).astype(np.float32),
        'terminated': np.arange(steps) == 3,
        'truncated': np.arange(steps) == steps - 1,
        'log_probs': rng.normal(size=steps).astype(np.float32),
    }
    return {**values, **changes}


def with_value(name, index, value):
    changed = table()[name].copy()
    changed[index] = value
    return {name: changed}


@st.composite
def transitions(draw):
    size = draw(st.integers(1, 12))
    kind = draw(arrays.arrays(np.int8, size, elements=st.integers(0, 2)))
    kind[-1] = draw(st.integers(1, 2))
    matrix = st.integers(1, 4).flatmap(
        lambda width: arrays.arrays(np.float32, (size, width), elements=FINITE)
    )
    line = arrays.arrays(np.float32, size, elements=FINITE)
    return Transitions(
        draw(matrix), draw(matrix), draw(line), kind == 1, kind == 2, draw(st.none() | line)
    )


@given(transitions())
def test_what_is_saved_is_loaded(tmp_path_factory, data):
    path = save_transitions(tmp_path_factory.mktemp('data') / 'sub' / 'x.npz', data)
    loaded = load_transitions(path)
    for entry in fields(data):
        first, second = getattr(data, entry.name), getattr(loaded, entry.name)
        assert (first is None) == (second is None)
        if first is not None:
            np.testing.assert_array_equal(first, second)
            assert first.dtype == second.dtype
    assert [entry.name for entry in path.parent.iterdir()] == ['x.npz']


@given(transitions())
def test_segments_cover_all_steps_and_each_ends_once(data):
    ends = data.terminated | data.truncated
    joined = np.concatenate([np.arange(len(data))[part] for part in data.segments()])
    np.testing.assert_array_equal(joined, np.arange(len(data)))
    for part in data.segments():
        assert ends[part].tolist() == [False] * (part.stop - part.start - 1) + [True]


def test_select_takes_whole_trajectories():
    data = Transitions(**table())
    assert data.segments() == [slice(0, 4), slice(4, 6)]
    second = data.select([slice(4, 6)])
    np.testing.assert_array_equal(second.rewards, data.rewards[4:])
    np.testing.assert_array_equal(second.log_probs, data.log_probs[4:])
    both = data.select(data.segments()[::-1])
    np.testing.assert_array_equal(both.actions, data.actions[[4, 5, 0, 1, 2, 3]])
    with pytest.raises(TransitionsError, match='no steps'):
        data.select([])


def test_double_becomes_single():
    data = Transitions(**table(rewards=np.linspace(0.0, 1.0, 6)))
    assert data.rewards.dtype == np.float32


BAD = [
    ({'rewards': np.zeros(5)}, 'rewards has 5 steps, observations has 6'),
    ({'log_probs': np.zeros(7)}, 'log_probs has 7 steps, observations has 6'),
    ({'actions': np.zeros(6)}, r'actions has shape \(6,\), expected \(steps, numbers\)'),
    ({'actions': np.zeros((6, 0))}, r'actions has shape \(6, 0\)'),
    ({'rewards': np.zeros((6, 1))}, r'rewards has shape \(6, 1\), expected \(steps,\)'),
    (with_value('observations', (2, 1), np.nan), r'observations\[2, 1\] is nan \(1 in all\)'),
    (with_value('rewards', 4, np.inf), r'rewards\[4\] is inf'),
    ({'rewards': np.full(6, 1e300)}, r'rewards\[0\] is inf \(6 in all\)'),
    ({'rewards': np.zeros(6, dtype=int)}, 'rewards is of type int64, expected float'),
    ({'terminated': np.zeros(6)}, 'terminated is of type float64, expected bool'),
    (with_value('truncated', 3, True), r'both set at step 3 \(1 in all\)'),
    (with_value('truncated', 5, False), 'truncated is false at the last step, 5'),
    ({name: value[:0] for name, value in table().items()}, 'observations has no steps'),
]


@pytest.mark.parametrize(('changes', 'message'), BAD)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(TransitionsError, match=message):
        Transitions(**table(**changes))


@pytest.mark.parametrize(('changes', 'message'), BAD)
def test_a_file_with_it_is_refused_by_name(tmp_path, changes, message):
    path = tmp_path / 'bad.npz'
    np.savez(path, **table(**changes))
    with pytest.raises(TransitionsError, match=rf'bad\.npz: .*{message}'):
        load_transitions(path)


def test_missing_and_unknown_arrays_are_named(tmp_path):
    path = tmp_path / 'x.npz'
    values = table(reward=np.zeros(6))
    del values['rewards']
    np.savez(path, **values)
    message = r"x\.npz: missing arrays \['rewards'\], unknown arrays \['reward'\]; expected obs"
    with pytest.raises(TransitionsError, match=message):
        load_transitions(path)


def test_objects_are_never_unpickled(tmp_path):
    path, mark = tmp_path / 'x.npz', tmp_path / 'mark'

    class Trap:
        def __reduce__(self):
            return mark.touch, ()

    np.savez(path, allow_pickle=True, **table(rewards=np.array([Trap()] * 6, dtype=object)))
    with pytest.raises(TransitionsError, match=r'x\.npz: rewards cannot be read: .*pickle'):
        load_transitions(path)
    assert not mark.exists()


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(TransitionsError, match=r'none\.npz cannot be read: No such file'):
        load_transitions(tmp_path / 'none.npz')
    path = save_transitions(tmp_path / 'x.npz', Transitions(**table()))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TransitionsError, match=r'x\.npz is truncated or not an \.npz file'):
        load_transitions(path)
    with pytest.raises(TransitionsError, match=r'x\.csv: expected a name that ends in \.npz'):
        save_transitions(tmp_path / 'x.csv', Transitions(**table()))


def test_a_damaged_array_is_named(tmp_path):
    """The archive's table is whole, but the bytes of one array are not what was summed."""
    path = tmp_path / 'x.npz'
    np.savez(path, **table())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo('actions.npy').header_offset
    content = bytearray(path.read_bytes())
    size = content.index(b'\n', start) - start
    content[start + size + 5] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(TransitionsError, match=r'x\.npz: actions cannot be read'):
        load_transitions(path)


def test_what_is_no_array_is_refused(tmp_path):
    path = tmp_path / 'x.npz'
    np.savez(path, **table())
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content, 'a') as archive:
        archive.writestr('notes.txt', 'hello')
    path.write_bytes(content.getvalue())
    with pytest.raises(TransitionsError, match=r"unknown arrays \['notes.txt'\]"):
        load_transitions(path)


def test_data_of_another_robot_are_refused():
    data = Transitions(**table())
    data.check(3, 2)
    with pytest.raises(TransitionsError, match=r'x\.npz: observations has 3 numbers a step, .* 4'):
        data.check(4, 2, 'x.npz')
    with pytest.raises(TransitionsError, match='actions has 2 numbers a step, the policy needs 8'):
        data.check(3, 8)
