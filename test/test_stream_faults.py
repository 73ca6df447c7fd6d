"""A hostile stream: what is lost, how late the rest is, and that a run repeats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lebot_rl_ros.data.stream_faults import HostileStream

PERIOD = 20_000_000  # ns


def arrivals(count=500, topics=('steps', 'rewards'), **given):
    """Time of arrival (ns), topic and number of all messages of a run, in that order."""
    stream, out = HostileStream(**given), []
    for number in range(count):
        for topic in topics:
            stream.put(topic, number * PERIOD, number)
    for now in range(0, (count + 10) * PERIOD, 1_000_000):
        out += [(now, *message) for message in stream.take(now)]
    assert stream.flush() == []
    return out, stream.counts


def test_without_faults_it_hands_everything_on_at_once():
    out, counts = arrivals(50, loss=0.0, jitter=0.0, reorder=0.0)
    assert out == [
        (number * PERIOD, topic, number) for number in range(50) for topic in ('steps', 'rewards')
    ]
    assert counts == {'sent': 100, 'lost': 0, 'held': 0, 'repeated': 0}


def test_the_default_loses_one_in_twenty_and_delays_by_up_to_10_ms():
    out, counts = arrivals(4000, reorder=0.0)
    assert counts['sent'] == 8000
    assert 8000 - len(out) == counts['lost']
    assert 300 < counts['lost'] < 500  # 400, and five of its deviations
    late = np.array([now - number * PERIOD for now, _, number in out]) / 1e6  # ms, rounded up
    assert late.max() <= 10
    assert late.mean() == pytest.approx(5.5, abs=0.2)


def test_topics_lose_other_messages():
    out, _ = arrivals(1000, loss=0.5)
    kept = [{number for _, of, number in out if of == topic} for topic in ('steps', 'rewards')]
    assert 150 < len(kept[0] & kept[1]) < 350


def test_what_is_held_back_is_overtaken():
    out, counts = arrivals(4000, topics=('steps',), loss=0.0, jitter=0.0, reorder=0.1, hold=0.06)
    late = np.array([now - number * PERIOD for now, _, number in out]) / 1e6
    assert 300 < (late > 0).sum() == counts['held'] < 500
    assert late[late > 0].min() >= 20
    assert late.max() <= 60
    assert (np.diff([number for *_, number in out]) < 0).sum() > 200
    assert sorted(number for *_, number in out) == list(range(4000))


def test_what_is_repeated_comes_twice():
    out, counts = arrivals(1000, topics=('steps',), loss=0.0, repeat=0.2)
    numbers, times = np.unique([number for *_, number in out], return_counts=True)
    assert len(numbers) == 1000
    assert 140 < (times == 2).sum() == counts['repeated'] < 260


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_a_run_repeats_whatever_the_other_topic_does(seed, loss):
    both, _ = arrivals(60, seed=seed, loss=loss)
    again, _ = arrivals(60, seed=seed, loss=loss)
    alone, _ = arrivals(60, topics=('steps',), seed=seed, loss=loss)
    assert both == again
    assert [message for message in both if message[1] == 'steps'] == alone


def test_another_seed_is_another_run():
    assert arrivals(seed=1)[0] != arrivals(seed=2)[0]


@pytest.mark.parametrize('given, message', [
    ({'loss': 1.1}, 'loss is 1.1, expected a share from 0 to 1'),
    ({'repeat': float('nan')}, 'repeat is nan'),
    ({'jitter': -0.01}, 'jitter is -0.01 s, expected 0 or more'),
    ({'hold': float('inf')}, 'hold is inf s'),
])  # fmt: skip
def test_faults_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        HostileStream(**given)
