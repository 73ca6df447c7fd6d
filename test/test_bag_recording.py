"""Recording from a thread of its own: never waits, loses nothing silently, outlives kills."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from bag_samples import LATCHED, MODE, START, WORDS, noise, read_bag, read_file, seen, word
from lebot_rl_ros.data.bag.recording import Recording
from lebot_rl_ros.data.bag.recording_options import OVERHEAD, RecordingOptions
from lebot_rl_ros.data.bag.recover import recover
from lebot_rl_ros.data.bag.types import BagError, Topic
from lebot_rl_ros.data.bag.writer import BagWriter

QUICK = {'floor_octets': 0, 'sync_period': 0.02, 'batch_period': 0.005}
OPTIONS = RecordingOptions(**QUICK)


def eventually(condition, seconds=60.0):
    """Wait until something holds that no event tells of."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it never came about'
        time.sleep(0.002)


class Gate(BagWriter):
    """A writer whose disk hangs until it is let go."""

    def __init__(self, folder):
        super().__init__(folder)
        self.hangs, self.go = threading.Event(), threading.Event()

    def write(self, message):
        self.hangs.set()
        assert self.go.wait(60)
        super().write(message)


def hanging(tmp_path, **options):
    """A recording that holds one message back in its thread; its writer."""
    writers = []

    def make(path):
        writers.append(Gate(path))
        return writers[0]

    recording = Recording(tmp_path / 'run', RecordingOptions(**{**QUICK, **options}), writers=make)
    recording.add(WORDS)
    recording.add(MODE)
    recording.start()
    assert recording.put(word(0))
    assert writers[0].hangs.wait(60)
    return recording, writers[0]


def test_what_is_put_is_in_the_bag(tmp_path):
    recording = Recording(tmp_path / 'run', OPTIONS, metadata={'policy': 'walk'})
    assert recording.status().state == 'idle'
    assert not recording.put(word(0))
    recording.add(WORDS)
    assert recording.start() == tmp_path / 'run'
    messages = [word(number) for number in range(1000)]
    assert sum(recording.put(message) for message in messages) == 1000
    status = recording.stop()
    assert (status.state, status.reason, status.queued) == ('stopped', '', 0)
    assert (status.written, status.dropped, status.refused) == (1000, {}, {})
    assert status.files == 1
    assert status.octets == (tmp_path / 'run' / 'run_0.mcap').stat().st_size
    assert read_bag(tmp_path / 'run') == [seen(message) for message in messages]
    assert not recording.put(word(1))
    assert recording.status().dropped == {}  # nobody asked for it


def test_a_hanging_disk_holds_nobody_up_and_drops_are_counted(tmp_path):
    recording, writer = hanging(tmp_path, queue_messages=100)
    took = [recording.put(word(number)) for number in range(1, 121)]
    took += [recording.put(word(number, topic='/mode')) for number in range(30)]
    assert took == [True] * 100 + [False] * 50
    status = recording.status()
    assert (status.queued, dict(status.dropped)) == (100, {'/words': 20, '/mode': 30})
    assert recording.stop(timeout=0.0).state == 'stopping'
    writer.go.set()
    status = recording.stop()
    assert (status.state, status.written) == ('stopped', 101)
    assert read_bag(tmp_path / 'run') == [seen(word(number)) for number in range(101)]


def test_the_queue_is_bounded_in_octets_too(tmp_path):
    room = 10 * (1000 + 4 + OVERHEAD)
    recording, writer = hanging(tmp_path, queue_octets=room)
    assert [recording.put(noise(number, 1000)) for number in range(12)] == [True] * 10 + [
        False
    ] * 2
    assert recording.put(noise(0, 2 * room)) is False
    writer.go.set()
    status = recording.stop()
    assert status.written == 11
    assert dict(status.dropped) == {'/words': 3}


def test_an_unknown_type_is_refused_and_the_rest_recorded(tmp_path):
    recording = Recording(tmp_path / 'run', OPTIONS)
    recording.start()
    recording.add(Topic('/thing', 'our_msgs/msg/Thing'))
    recording.add(WORDS)
    for number in range(3):
        recording.put(word(number, topic='/thing'))
        recording.put(word(number))
        recording.put(word(number, topic='/never_added'))
    status = recording.stop()
    assert status.state == 'stopped'
    assert 'our_msgs/msg/Thing' in status.refused['/thing']
    assert dict(status.dropped) == {'/thing': 3, '/never_added': 3}
    assert read_bag(tmp_path / 'run') == [seen(word(number)) for number in range(3)]


def test_a_split_comes_after_what_was_put_before_it(tmp_path):
    recording = Recording(tmp_path / 'run', OPTIONS)
    with pytest.raises(BagError, match='nothing is being recorded'):
        recording.split().result(0)
    recording.add(WORDS)
    recording.start()
    for number in range(300):
        recording.put(word(number))
        if number in (99, 199):
            split = recording.split()
    split.result(60)
    recording.stop()
    counts = [len(read_file(tmp_path / 'run' / f'run_{number}.mcap')) for number in range(3)]
    assert counts == [100, 100, 100]
    with pytest.raises(BagError, match='nothing is being recorded'):
        recording.split().result(0)


def test_start_and_stop_at_any_time_from_other_threads(tmp_path):
    """Whatever happens meanwhile: what put() took is in exactly one bag, in order."""
    recording = Recording(tmp_path / 'run', OPTIONS)
    recording.add(WORDS)
    over = threading.Event()
    taken = {0: [], 1: []}

    def put(who):
        number = who
        while not over.is_set():
            if recording.put(word(number)):
                taken[who].append(seen(word(number)))
            number += 2
            time.sleep(0)

    with ThreadPoolExecutor(2) as threads:
        puts = [threads.submit(put, who) for who in (0, 1)]
        folders = []
        written = 0
        for turn in range(6):
            before = len(taken[0]), len(taken[1])
            folders.append(recording.start())
            with pytest.raises(BagError, match='being recorded already'):
                recording.start()
            if turn % 2:
                recording.split()
            eventually(lambda: all(len(taken[w]) > before[w] + 20 for w in (0, 1)))  # noqa: B023
            status = recording.stop()
            assert (status.state, dict(status.dropped)) == ('stopped', {})
            written += status.written
        over.set()
        for future in puts:
            future.result(60)
    assert [folder.name for folder in folders] == ['run', *(f'run_{n}' for n in range(2, 7))]
    found = [message for folder in folders for message in read_bag(folder)]
    assert written == len(found) == len(taken[0]) + len(taken[1])
    for who in (0, 1):
        assert [one for one in found if (one[1] - START) // 10_000_000 % 2 == who] == taken[who]


def test_latched_messages_from_before_begin_every_bag(tmp_path):
    now = START + 7
    recording = Recording(tmp_path / 'run', OPTIONS, clock=lambda: now)
    recording.add(MODE)
    recording.add(WORDS)
    recording.put(word(0, 'walk', topic='/mode'))
    recording.put(word(0))
    for path in (tmp_path / 'run', tmp_path / 'run_2'):
        recording.start()
        recording.put(word(1))
        recording.stop()
        walk = word(0, 'walk', topic='/mode')
        assert read_bag(path) == [('/mode', now, walk.publish_time, walk.data), seen(word(1))]


def test_it_stops_above_the_floor(tmp_path):
    free = [500 << 20]
    recording = Recording(
        tmp_path / 'run',
        RecordingOptions(**{**QUICK, 'floor_octets': 200 << 20}),
        free=lambda path: free[0],
    )
    recording.add(WORDS)
    recording.start()
    recording.put(word(0))
    eventually(lambda: recording.status().written == 1)
    assert recording.status().free_octets == 500 << 20
    free[0] = 150 << 20
    eventually(lambda: recording.status().state == 'full')
    assert not recording.put(word(1))
    assert dict(recording.status().dropped) == {'/words': 1}
    status = recording.stop()
    assert status.reason == (
        f'150 MiB are free on the disk of {tmp_path / "run"}, less than the 200 MiB that are left '
        'to others'
    )
    assert read_bag(tmp_path / 'run') == [seen(word(0))]
    with pytest.raises(OSError, match='150 MiB are free'):
        recording.start()
    assert not (tmp_path / 'run_2').exists()
    free[0] = 250 << 20
    recording.start()
    assert recording.stop().dropped == {}
    assert read_bag(tmp_path / 'run_2') == []


def test_any_other_error_closes_the_bag(tmp_path):
    class Broken(BagWriter):
        def write(self, message):
            if message.log_time >= word(3).log_time:
                raise RuntimeError('the moon is in the wrong place')
            super().write(message)

    recording = Recording(tmp_path / 'run', OPTIONS, writers=Broken)
    recording.add(WORDS)
    recording.start()
    for number in range(5):
        recording.put(word(number))
    split = recording.split()
    eventually(lambda: recording.status().state == 'failed')
    assert isinstance(split.exception(60), BagError)
    status = recording.stop()
    assert status.reason == 'the moon is in the wrong place'
    assert dict(status.dropped) == {'/words': 2}
    assert read_bag(tmp_path / 'run') == [seen(word(number)) for number in range(3)]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB, where one may be mounted."""
    place = tmp_path / 'disk'
    place.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(place)]
    if not shutil.which('mount') or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('nothing may be mounted here')
    yield place
    subprocess.run(['umount', '-l', str(place)], check=True)  # whoever still has a file open


def crowd(disk):
    """Somebody else takes all the room that there is."""
    place = (disk / 'other').open('wb', buffering=0)
    with place as other, pytest.raises(OSError, match='No space'):
        write_for_ever(other)


def write_for_ever(file):
    while True:
        file.write(bytes(4096))


def fill(recording, octets, most=2000):
    """Put messages until the recording ends by itself; how many it took."""
    taken = 0
    for number in range(most):
        taken += recording.put(noise(number, octets))
        if recording.status().state != 'recording':
            break
        time.sleep(0)
        eventually(lambda: recording.status().queued < 50)
    eventually(lambda: recording.status().state == 'full')
    return taken


@pytest.mark.parametrize('options', [{}, {'split_bytes': 300_000}, {'compression': ''}])
@pytest.mark.parametrize('octets', [1500, 20_000, 700_000])
def test_a_full_disk_ends_the_bag_well(small_disk, octets, options):
    """Messages smaller and larger than the reserve; with one file, and when splitting."""
    recording = Recording(small_disk / 'run', RecordingOptions(**QUICK, **options))
    recording.add(WORDS)
    recording.start()
    taken = fill(recording, octets)
    status = recording.stop()
    assert status.state == 'full'
    assert 'No space left' in status.reason
    assert status.reason.endswith('device')  # nothing went wrong after that
    kept = read_bag(small_disk / 'run')
    assert kept == [seen(noise(number, octets)) for number in range(len(kept))]
    assert status.written == len(kept)
    # All that fits is kept, but for the reserve, the open chunk and the message that was too much.
    assert sum(len(data) for *_, data in kept) > 2**21 - 900_000 - 2 * octets
    refused = status.dropped.get('/words', 0)
    # A message that was in a chunk that did not fit any more counts as dropped as well.
    assert taken <= status.written + refused
    assert recover(small_disk / 'run').healthy


def test_a_disk_that_others_fill_ends_the_bag_well(small_disk):
    recording = Recording(small_disk / 'run', OPTIONS)
    recording.add(WORDS)
    recording.start()
    for number in range(50):
        recording.put(word(number))
    eventually(lambda: recording.status().written == 50)
    crowd(small_disk)
    fill(recording, 5000)
    status = recording.stop()
    assert (status.state, status.reason.count('No space left')) == ('full', 1)
    kept = read_bag(small_disk / 'run')
    assert kept[:50] == [seen(word(number)) for number in range(50)]
    assert status.written == len(kept)


def test_a_disk_that_is_full_at_the_start_leaves_nothing_behind(small_disk):
    crowd(small_disk)
    with pytest.raises(OSError, match='No space'):
        Recording(small_disk / 'run', OPTIONS).start()
    assert [path.name for path in small_disk.iterdir()] == ['other']


LIMITED = """
import resource, sys
sys.path.insert(0, {tests!r})
from test_bag_recording import *
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
recording = Recording({folder!r}, OPTIONS)
recording.add(WORDS)
recording.start()
fill(recording, 20_000)
status = recording.stop()
print(status.written, status.state, status.reason)
"""


def test_a_limit_of_file_size_is_a_full_disk(tmp_path):
    """Where nothing may be mounted this is the real error; the end of the bag has no room."""
    code = LIMITED.format(
        tests=str(Path(__file__).parent), folder=str(tmp_path / 'run'), limit=1_000_000
    )
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    written, state, *_ = ran.stdout.split()
    assert state == 'full'
    assert 'File too large' in ran.stdout
    kept = read_bag(tmp_path / 'run')
    assert kept == [seen(noise(number, 20_000)) for number in range(len(kept))]
    assert len(kept) == int(written) > 40
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1_000_000


VICTIM = """
import sys, time
sys.path.insert(0, {tests!r})
from bag_samples import *
from lebot_rl_ros.data.bag.recording import Recording
from lebot_rl_ros.data.bag.recording_options import RecordingOptions
options = RecordingOptions(floor_octets=0, split_seconds={split})
recording = Recording({folder!r}, options)
recording.add(WORDS)
recording.add(MODE)
recording.start()
for number in range(10**9):
    topic = '/mode' if number % 50 == 0 else '/words'
    message = Message(topic, time.time_ns(), number, text('word ' * 20 + str(number % 100)))
    assert recording.put(message)
    print(number, message.log_time, flush=True)
    time.sleep(0.002)
"""


def victim(folder, split, seconds):
    """Kill a recording process after so long: what it acknowledged, and when it was killed."""
    code = VICTIM.format(tests=str(Path(__file__).parent), folder=str(folder), split=split)
    acknowledged = []
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            acknowledged.append(tuple(map(int, line.split())))
            if acknowledged[-1][1] - acknowledged[0][1] > seconds * 1e9:
                break
        killed = time.time_ns()
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split(b'\n')
        acknowledged += [tuple(map(int, line.split())) for line in rest if line.count(b' ') == 1]
    return acknowledged, killed


def test_a_kill_costs_no_more_than_two_seconds(tmp_path):
    """Three real processes, killed at random moments, one of them with a split each second."""
    choose = random.Random(5)
    cases = [
        (tmp_path / f'run{n}', split, 2.2 + choose.random()) for n, split in enumerate((0, 0, 1))
    ]
    with ThreadPoolExecutor(3) as threads:
        outcomes = list(threads.map(lambda case: victim(*case), cases))
    for (folder, split, _), (acknowledged, killed) in zip(cases, outcomes, strict=True):
        assert len(acknowledged) > 100
        assert not (folder / 'metadata.yaml').exists()
        recover(folder)
        found = read_bag(folder)
        kept = {publish_time for *_, publish_time, _ in found}  # the number
        lost = [log_time for number, log_time in acknowledged if number not in kept]
        assert all(killed - log_time < 2_000_000_000 for log_time in lost)
        assert sorted(kept) == list(range(len(kept)))  # and no hole before
        if split:
            assert len(list(folder.glob('*.mcap'))) >= 3


def test_put_from_many_threads_keeps_every_count(tmp_path):
    recording, writer = hanging(tmp_path, queue_messages=500)
    with ThreadPoolExecutor(4) as threads:

        def many(who):
            return sum(recording.put(word(1000 * who + n)) for n in range(300))

        taken = sum(threads.map(many, range(4)))
    assert taken == 500
    assert sum(recording.status().dropped.values()) == 700
    writer.go.set()
    assert recording.stop().written == 501


def test_a_second_publisher_of_a_latched_topic_is_remembered(tmp_path):
    recording = Recording(tmp_path / 'run', OPTIONS, clock=lambda: START)
    recording.add(MODE)
    recording.put(word(0, 'one', topic='/mode'))
    recording.add(Topic('/mode', MODE.type, qos=(LATCHED, LATCHED)))
    recording.put(word(1, 'two', topic='/mode'))
    recording.start()
    recording.split().result(60)
    recording.stop()
    texts = [data for *_, data in read_file(tmp_path / 'run' / 'run_1.mcap')]
    assert texts == [word(0, 'one').data, word(0, 'two').data]


def test_an_option_that_is_wrong_is_said_at_the_start(tmp_path):
    recording = Recording(tmp_path / 'run', RecordingOptions(compression='gzip', floor_octets=0))
    with pytest.raises(BagError, match="'gzip'"):
        recording.start()
    assert recording.status().state == 'idle'
    assert partial(recording.put, word(0))() is False
