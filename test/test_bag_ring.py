"""The last seconds in memory, and as a bag when they are asked for."""

import threading

import pytest

from bag_samples import MODE, WORDS, noise, read_bag, seen, word
from lebot_rl_ros.data.bag import ring as ring_module
from lebot_rl_ros.data.bag.metadata import read_metadata
from lebot_rl_ros.data.bag.recording_options import OVERHEAD
from lebot_rl_ros.data.bag.ring import Ring
from lebot_rl_ros.data.bag.types import BagError, Topic

WALL = 1_795_298_881.5  # 2026-11-21 22:08:01 UTC


@pytest.fixture
def ring(tmp_path):
    made = Ring(tmp_path / 'saved', 2.0, metadata={'policy': 'walk'}, wall=lambda: WALL)
    made.add(WORDS)
    made.add(MODE)
    yield made
    made.stop()


def test_nothing_is_on_disk_until_it_is_asked_for(tmp_path, ring):
    for number in range(1000):  # 10 ms each
        ring.put(word(number))
    assert list(tmp_path.iterdir()) == []
    status = ring.status()
    assert (status.seconds, status.messages) == (2.0, 201)
    path = ring.save('fall').result(60)
    assert path == tmp_path / 'saved' / 'fall_20261121_220801'
    assert read_bag(path) == [seen(word(number)) for number in range(799, 1000)]
    assert read_metadata(path).custom_data == {'policy': 'walk', 'saved_because': 'fall'}
    assert ring.status().saved == (path,)


def test_the_ring_goes_on_while_it_saves(ring, monkeypatch):
    writing, go = threading.Event(), threading.Event()
    real = ring_module.BagWriter.write

    def slow(self, message):
        writing.set()
        assert go.wait(60)
        real(self, message)

    monkeypatch.setattr(ring_module.BagWriter, 'write', slow)
    for number in range(100):
        ring.put(word(number))
    first = ring.save('fall')
    assert writing.wait(60)
    for number in range(100, 300):
        ring.put(word(number))
    second = ring.save('again')
    assert ring.status().saving == 2
    with pytest.raises(BagError, match='third: the ring is busy'):
        ring.save('third').result(0)
    go.set()
    assert read_bag(first.result(60)) == [seen(word(number)) for number in range(100)]
    assert read_bag(second.result(60)) == [seen(word(number)) for number in range(99, 300)]
    assert ring.status().saving == 0


def test_a_bag_begins_with_what_was_latched_at_its_beginning(ring):
    ring.put(word(0, 'stand', topic='/mode'))
    ring.put(word(1, 'walk', topic='/mode'))
    for number in range(2, 500):
        ring.put(word(number))
    ring.put(word(500, 'fallen', topic='/mode'))
    found = read_bag(ring.save('fall').result(60))
    walk = word(1, 'walk', topic='/mode')
    assert found[0] == ('/mode', word(300).log_time, walk.publish_time, walk.data)
    assert found[1] == seen(word(300))
    assert found[-1] == seen(word(500, 'fallen', topic='/mode'))
    assert len(found) == 202


def test_memory_is_bounded(tmp_path):
    ring = Ring(tmp_path, 100.0, octets=10 * (1000 + 4 + OVERHEAD))
    ring.add(WORDS)
    for number in range(50):
        ring.put(noise(number, 1000))
    status = ring.status()
    assert status.messages == 10
    assert status.octets == 10 * (1000 + 4 + OVERHEAD)
    assert status.seconds == pytest.approx(0.09)
    path = ring.save('why').result(60)
    assert read_bag(path) == [seen(noise(number, 1000)) for number in range(40, 50)]
    ring.put(noise(0, 20_000))  # larger than all: nothing is left
    assert ring.status().messages == 0
    with pytest.raises(BagError, match='holds nothing yet'):
        ring.save('why').result(0)
    assert ring.stop().octets == 0


def test_an_unknown_type_does_not_spoil_the_rest(ring):
    ring.add(Topic('/thing', 'our_msgs/msg/Thing'))
    for number in range(5):
        ring.put(word(number))
        ring.put(word(number, topic='/thing'))
        ring.put(word(number, topic='/never_added'))
    path = ring.save('Fell over: left/front leg!').result(60)
    assert path.name == 'Fell_over_left_front_leg_20261121_220801'
    assert read_bag(path) == [seen(word(number)) for number in range(5)]
    assert ring.save('Fell over: left/front leg!').result(60).name.endswith('220801_2')


def test_without_room_nothing_is_saved(tmp_path):
    ring = Ring(tmp_path, 2.0, floor_octets=1 << 60)
    ring.add(WORDS)
    ring.put(word(0))
    with pytest.raises(OSError, match='MiB are free'):
        ring.save('fall').result(60)
    assert 'MiB are free' in ring.status().reason
    assert ring.status().saved == ()
    assert list(tmp_path.iterdir()) == []
    assert ring.stop().saving == 0
    with pytest.raises(BagError, match='more than 0'):
        Ring(tmp_path, 0.0)
