"""A learning run on disk: written whole or not at all, also by a disk that is full, or a kill."""

import errno
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lebot_rl_ros.data.rows import transition_dtype
from lebot_rl_ros.learning.online import checkpoint as module
from lebot_rl_ros.learning.online.checkpoint import FILE, LONGEST, Checkpoint, pack, unpack
from lebot_rl_ros.learning.online.tensorboard import Scalars
from ros_graph import ROOT

ROWS = transition_dtype(5, 2, ('alive', 'fall'))
STATE = {
    'learner.weight': np.arange(6, dtype=np.float32).reshape(2, 3),
    'learner.count': np.array(7),
    'learner.flags': np.array([True, False]),
}


class Clock:
    """Wall time that the test moves."""

    now = 100.0

    def __call__(self):
        return self.now


def some_rows(number):
    """Transitions of random bytes: every bit of them must come back."""
    rng = np.random.default_rng(3)
    return np.frombuffer(rng.bytes(number * ROWS.itemsize), ROWS).copy()


def written(writer):
    """Wait for the thread, and let the writer see how it ended."""
    if writer._writing is not None:
        writer._writing.exception()
    return writer.due


def test_what_was_written_comes_back_to_the_bit(tmp_path):
    state = STATE | {'replay': some_rows(4), 'none': some_rows(0)}
    Checkpoint(tmp_path, 1.0).save(state, {'step': 3, 'labels': ['recover@2', '']})
    found, meta = Checkpoint(tmp_path, 1.0).load()
    assert meta == {'step': 3, 'labels': ['recover@2', '']}
    assert set(found) == set(state)
    for name, array in state.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    )
)
def test_any_array_comes_back(tmp_path_factory, array):
    path = tmp_path_factory.mktemp('one') / FILE
    path.write_bytes(pack({'a': array}, {}))
    found = unpack(path)[0]['a']
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


def test_a_slice_of_a_larger_array_comes_back_as_that_slice(tmp_path):
    whole = np.arange(20.0).reshape(4, 5)
    Checkpoint(tmp_path, 1.0).save({'a': whole[:, ::2], 'r': some_rows(6)[::3]}, {})
    found, _ = unpack(tmp_path / FILE)
    np.testing.assert_array_equal(found['a'], whole[:, ::2])
    assert found['r'].tobytes() == some_rows(6)[::3].tobytes()


def test_a_checkpoint_is_due_every_so_often_and_learning_goes_on_meanwhile(tmp_path):
    clock = Clock()
    writer = Checkpoint(tmp_path, 5.0, clock)
    assert writer.load() is None
    assert not writer.due
    clock.now += 5.0
    assert writer.due
    state = {'a': np.zeros(3)}
    writer.offer(state, {'step': 1})
    state['a'][:] = 9.0  # what learning does next is not in it
    assert not written(writer)
    np.testing.assert_array_equal(writer.load()[0]['a'], np.zeros(3))
    assert (writer.written, writer.size) == (1, (tmp_path / FILE).stat().st_size)
    clock.now += 4.9
    assert not writer.due
    clock.now += 0.2
    assert writer.due


def test_a_slow_disk_is_written_to_less_often(tmp_path, monkeypatch):
    clock = Clock()
    writer = Checkpoint(tmp_path, 1.0, clock)

    def slow(path, content):
        clock.now += 2.0

    monkeypatch.setattr(module, 'replace_file', slow)
    clock.now += 1.0
    writer.offer(STATE, {})
    written(writer)
    clock.now += 17.9  # a tenth of the time: 2 s of writing, 18 s without
    assert not writer.due
    clock.now += 0.2
    assert writer.due


def test_a_full_disk_is_told_and_tried_again_and_the_old_file_stays(tmp_path, monkeypatch):
    clock = Clock()
    writer = Checkpoint(tmp_path, 5.0, clock)
    writer.save(STATE, {'step': 1})
    real, full = module.replace_file, [True]

    def replace(path, content):
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    monkeypatch.setattr(module, 'replace_file', replace)
    pauses, waited = [], 5.0
    clock.now += 5.0
    for _ in range(6):
        assert writer.due
        writer.offer(STATE, {'step': 2})
        written(writer)
        assert writer.trouble == f'{tmp_path / FILE}: No space left on device'
        assert writer.load()[1] == {'step': 1}
        waited = 0.0
        while not writer.due:
            clock.now += 5.0
            waited += 5.0
        pauses.append(waited)
    assert pauses == [5.0, 10.0, 20.0, 40.0, LONGEST, LONGEST]
    with pytest.raises(OSError, match='No space left'):
        writer.save(STATE, {'step': 2})
    full[0] = False
    clock.now += LONGEST
    writer.offer(STATE, {'step': 2})
    written(writer)
    assert writer.trouble == ''
    assert writer.load()[1] == {'step': 2}
    clock.now += 5.0
    assert writer.due  # as often as before


def test_a_file_that_may_not_grow_leaves_the_one_of_before_and_no_rubbish(tmp_path):
    """A real refusal of the system: this process may write no file above 4 KB."""
    Checkpoint(tmp_path, 5.0).save({'a': np.zeros(8)}, {'step': 1})
    script = f"""
import resource, signal, sys
import numpy as np
from pathlib import Path
from lebot_rl_ros.learning.online.checkpoint import Checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}))
writer = Checkpoint(Path({str(tmp_path)!r}), 5.0)
try:
    writer.save({{'a': np.zeros(10_000)}}, {{'step': 2}})
except OSError as error:
    print(writer.trouble)
writer.save({{'a': np.ones(8)}}, {{'step': 3}})
print(writer.trouble or 'well again')
"""
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f'{tmp_path / FILE}: File too large', 'well again']
    assert unpack(tmp_path / FILE)[1] == {'step': 3}
    assert os.listdir(tmp_path) == [FILE]


def test_kill_9_at_any_moment_leaves_a_whole_file(tmp_path):
    """A process that does nothing but write is killed again and again."""
    script = f"""
import numpy as np
from pathlib import Path
from lebot_rl_ros.learning.online.checkpoint import Checkpoint
writer = Checkpoint(Path({str(tmp_path)!r}), 5.0)
found = writer.load()
step = found[1]['step'] if found else 0
while True:
    step += 1
    writer.save({{'a': np.full(200_000, step, np.float32)}}, {{'step': step}})
    print(step, flush=True)
"""
    last = 0
    for round_ in range(4):
        process = subprocess.Popen(
            [sys.executable, '-c', script], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3 + round_):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        said = [int(line) for line in process.stdout.read().split()]
        process.stdout.close()
        last = said[-1] if said else last
        state, meta = unpack(tmp_path / FILE)
        assert meta['step'] >= last  # what was said to be on the disk is
        np.testing.assert_array_equal(state['a'], np.float32(meta['step']))


def test_what_a_killed_writer_left_is_cleared_away(tmp_path):
    (tmp_path / f'.{FILE}.4711').write_bytes(b'half')
    Checkpoint(tmp_path, 1.0)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'is not a checkpoint that can be read'),
        (pack(STATE, {})[:-1], 'is not a checkpoint that can be read'),
        (pack(STATE, {}).replace(b'schema\\": 1', b'schema\\": 9'), 'schema is 9, expected 1'),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_set_aside(tmp_path, content, message):
    (tmp_path / FILE).write_bytes(content)
    reader = Checkpoint(tmp_path, 1.0)
    with pytest.raises(ValueError, match=f'{FILE}.*{message}'):
        reader.load()
    assert reader.set_aside().read_bytes() == content
    assert reader.load() is None


def test_a_pause_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match='checkpoint_every is 0'):
        Checkpoint(tmp_path, 0.0)


def test_curves_are_written_and_read_back(tmp_path):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    scalars = Scalars(tmp_path / 'tb')
    for step in (50, 100):
        scalars.write(step, {'value_loss': step / 100})
    scalars.close()
    scalars.write(150, {'value_loss': 9.0})  # too late
    events = accumulator.EventAccumulator(str(tmp_path / 'tb'))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars('learner/value_loss')]
    assert found == [(50, 0.5), (100, 1.0)]
    assert scalars.trouble == ''


def test_without_tensorboard_it_is_said_and_learning_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    scalars = Scalars(tmp_path / 'tb')
    for step in (1, 2):
        scalars.write(step, {'value_loss': 1.0})
    assert 'tensorboard is not installed' in scalars.trouble
    scalars.close()
    assert not (tmp_path / 'tb').exists()
