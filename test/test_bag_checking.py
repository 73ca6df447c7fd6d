"""What is said about the times of topics: numbers worked out by hand."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bag_walks import PERIOD, Walk, write
from lebot_rl_ros.data.bag.checking import answers, latency, missing, timing
from lebot_rl_ros.data.bag.findings import (
    TopicReport,
    judge_answers,
    judge_counts,
    judge_joins,
    judge_topic,
    status,
)
from lebot_rl_ros.data.bag.integrity import definition_hash, inspect
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.scan import messages_of, scan
from lebot_rl_ros.data.bag.types import BagError, Topic

MS = 1_000_000


def grid(*ticks: int) -> np.ndarray:
    """Stamps of these ticks, 20 ms each; the first is not 0."""
    return np.array([1_000 + tick for tick in ticks], np.int64) * 20 * MS


def arrivals(count: int) -> np.ndarray:
    """Log times, as they come on a machine that is never late."""
    return 10**18 + np.arange(count, dtype=np.int64) * 20 * MS


def test_a_whole_topic_has_no_findings() -> None:
    """100 stamps, 20 ms apart."""
    found = timing(arrivals(100), grid(*range(100)))
    assert (found.count, found.rate, found.lost, found.gaps) == (100, 50.0, 0, ())
    assert found.exact
    assert found.regular
    assert (found.p50, found.p99, found.longest) == (20 * MS, 20 * MS, 20 * MS)
    report = TopicReport('/joint_states', 'a', 1, 0, 99 * 20 * MS, found)
    assert judge_topic(report, report.end) == []


def test_missing_stamps_are_counted_exactly() -> None:
    """Ticks 10, 50, 51 are missing of 0..99: 97 messages, periods of 40 and 60 ms."""
    kept = [tick for tick in range(100) if tick not in (10, 50, 51)]
    found = timing(arrivals(97), grid(*kept))
    assert (found.lost, found.exact, found.longest) == (3, True, 60 * MS)
    assert [(gap.start, gap.length) for gap in found.gaps] == [
        (int(grid(9)[0]), 40 * MS),
        (int(grid(49)[0]), 60 * MS),
    ]
    (finding,) = judge_topic(TopicReport('/a', 'b', 1, 0, 0, found), 0, ' at 1.0 s')
    assert finding.severity == 'error'  # 3 of 100 is over 1 %
    assert finding.what == '3 messages missing (3.00%) in 2 gaps, longest 60.0 ms at 1.0 s'


def test_one_of_many_missing_is_a_warning() -> None:
    """1 of 1000 is less than 1 %, and still makes the bag unhealthy."""
    kept = [tick for tick in range(1000) if tick != 500]
    found = judge_topic(TopicReport('/a', 'b', 1, 0, 0, timing(arrivals(999), grid(*kept))), 0)
    assert [finding.severity for finding in found] == ['warning']
    assert status(found) == 1


def test_what_was_never_sent_is_bad_where_the_robot_walks_by_it() -> None:
    """The recorder lost none: leg odometry that left out ticks is a note, a missed tick is not."""
    kept = [tick for tick in range(1000) if tick % 10]
    found = timing(arrivals(len(kept)), grid(*kept))
    for name, lost, kind in (
        ('/odom', False, 'error'),
        ('/odom', True, 'note'),
        ('/lebot1/imu/data', True, 'error'),
    ):
        (finding,) = judge_topic(TopicReport(name, 'b', 1, 0, 0, found), 0, none_lost=lost)
        assert finding.severity == kind
        assert ('the recorder lost none' in finding.do) == lost


def test_a_late_message_is_not_a_lost_one() -> None:
    """Periods 20 20 34 6 20: late by 14 ms; 20 20 40 20 lacks one; 20 47 13 40 20 lacks two."""
    assert missing(np.cumsum([0, 20, 20, 34, 6, 20]), 20.0) == 0
    assert missing(np.cumsum([0, 20, 20, 40, 20]), 20.0) == 1
    assert missing(np.cumsum([0, 20, 47, 13, 40, 20]), 20.0) == 2  # 47 + 13 = 3 periods, of two
    assert missing(np.cumsum([0, 20, 20, 100]), 20.0) == 4  # at the end
    assert missing(np.array([7]), 20.0) == 0
    # 100 ms of silence at 200 Hz, then what had waited at once, and on: nothing is lost.
    waited = [*range(0, 50, 5), *range(145, 169), *range(170, 250, 5)]
    assert missing(np.array(waited), 5.0) == 0
    del waited[12:15]  # three of the burst
    assert missing(np.array(waited), 5.0) == 3


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(1, 298), max_size=40),
    st.lists(st.floats(-0.2, 0.2), min_size=300, max_size=300),
)
def test_losses_are_found_whatever_is_lost_and_however_stamps_jitter(
    lost: set[int], jitter: list[float]
) -> None:
    """Up to 40 of 300 are left out; stamps shake by up to a fifth of a period each way."""
    kept = [tick for tick in range(300) if tick not in lost]
    exact = timing(arrivals(len(kept)), grid(*kept))
    assert (exact.lost, exact.exact) == (len(lost), True)
    shaken = grid(*kept) + np.array([round(jitter[tick] * 20 * MS) for tick in kept])
    about = timing(arrivals(len(kept)), np.sort(shaken))
    assert about.lost == len(lost)


def test_order_duplicates_and_restarts() -> None:
    """Ticks 0..49, one of them late, one twice; then the clock begins anew, 0..49 again."""
    ticks = [*range(20), 21, 20, *range(22, 50), 49, *range(50)]
    found = timing(arrivals(len(ticks)), grid(*ticks) * 4)  # 80 ms: 49 back is not 50 periods
    assert found.restarts == 0
    again = [*range(20), 21, 20, *range(22, 60), 59, *range(50)]
    found = timing(arrivals(len(again)), grid(*again))
    assert (found.backwards, found.duplicates, found.restarts, found.lost) == (1, 1, 1, 0)
    severities = {f.severity for f in judge_topic(TopicReport('/a', 'b', 1, 0, 0, found), 0)}
    assert severities == {'warning', 'note'}


def test_arrivals_alone_are_no_losses() -> None:
    """Without stamps a gap is a note, and over a second a warning; nothing is claimed lost."""
    log = arrivals(100)
    log[50:] += 30 * MS
    found = timing(log)
    assert (found.stamped, found.exact, len(found.gaps)) == (False, False, 1)
    findings = judge_topic(TopicReport('/a', 'b', 1, 0, int(log[-1]), found), int(log[-1]))
    assert [finding.severity for finding in findings] == ['note']
    log[50:] += 2000 * MS
    findings = judge_topic(TopicReport('/a', 'b', 1, 0, int(log[-1]), timing(log)), int(log[-1]))
    assert [finding.severity for finding in findings] == ['warning']


def test_events_have_no_rate_to_keep() -> None:
    """Neither ten messages at odd times, nor one, nor none with a rate."""
    times = np.cumsum([0, 3, 900, 14, 15, 92, 65, 3500, 8, 9, 7]) * MS
    assert not timing(times).regular
    assert timing(times).gaps == ()
    assert timing(times[:1]).period == 0.0
    assert timing(times[:1]).rate == 0.0
    regular = timing(arrivals(100))
    events = TopicReport('/diagnostics', 'a', 1, 0, 0, regular, events=True)
    assert judge_topic(events, 10**12) == []


def test_a_topic_that_stops_is_told() -> None:
    """7 s before the end of the bag; 4 s are how a walk ends."""
    found = timing(arrivals(100), grid(*range(100)))
    report = TopicReport('/a', 'b', 1, 0, 10 * 10**9, found)
    assert judge_topic(report, 14 * 10**9) == []
    (finding,) = judge_topic(report, 17 * 10**9)
    assert finding.what == 'silent for the last 7.0 s of the bag'


def test_latency_by_hand() -> None:
    """Of 1, 2, 3, 4, 10 ms: the median is 3; simulated time has none."""
    sent = arrivals(5)
    found = latency(sent, sent + np.array([1, 2, 3, 4, 10]) * MS)
    assert found is not None
    assert (found.p50, found.longest, found.least) == (3.0, 10.0, 1.0)
    assert found.p99 == pytest.approx(4 + 0.96 * 6)  # at 0.99 * 4 = 3.96 of the sorted five
    assert latency(sent - 10**18, sent) is None  # began at 0
    assert latency(sent, sent + np.arange(5) * 3_000 * MS) is None  # runs slower
    assert latency(np.zeros(0, np.int64), sent) is None
    assert latency(sent, sent + np.array([1, 1, 1, 1, 70_000]) * MS) is None  # two clocks


def test_stamps_ahead_of_their_arrival_are_two_clocks() -> None:
    """By 5 ms: the other machine's clock goes ahead."""
    sent = arrivals(100)
    ahead = latency(sent + 5 * MS, sent)
    report = TopicReport('/a', 'b', 1, 0, 0, timing(sent, sent), ahead)
    (finding,) = judge_topic(report, 0)
    assert '5.0 ms after it was recorded' in finding.what


def test_commands_answer_states() -> None:
    """States 0..9, commands to 2, 3, 5, 8 and 77: between 2 and 9 four have none."""
    found = answers(grid(*range(10)), grid(2, 3, 5, 8, 77))
    assert (found.answered, found.unanswered, found.foreign) == (4, 4, 1)
    assert [finding.severity for finding in judge_answers(found)] == ['error', 'warning']
    whole = answers(grid(*range(1000)), grid(*(t for t in range(1000) if t != 400)))
    assert (whole.answered, whole.unanswered) == (999, 1)
    assert [finding.severity for finding in judge_answers(whole)] == ['warning']
    assert judge_answers(answers(grid(1, 2, 3), grid(2, 3))) == []
    assert answers(grid(1, 2), grid()).answered == 0


def test_joins_are_judged_by_what_is_lost() -> None:
    """Two at the ends are in any bag; more are not."""
    assert judge_joins({'joined': 100, 'lost_rewards': 1, 'lost_steps': 2}) == []
    assert [f.severity for f in judge_joins({'joined': 1000, 'lost_rewards': 3})] == ['warning']
    assert [f.severity for f in judge_joins({'joined': 100, 'lost_steps': 3})] == ['error']
    assert [f.severity for f in judge_joins({'joined': 0})] == ['error']
    assert [f.severity for f in judge_joins({'joined': 9, 'conflicting': 1})] == ['error']
    assert [f.severity for f in judge_joins({'joined': 9, 'gaps': 1})] == ['note']
    assert judge_counts({'/a': 3, '/b': 0}, {'/a': 3}) == []
    assert [f.what for f in judge_counts({'/a': 3}, {'/a': 2})] == ['3 messages promised, 2 read']


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds."""
    return write(tmp_path_factory.mktemp('checking') / 'walk', Walk(200))


def test_scan_finds_what_messages_finds(bag: Path) -> None:
    """Every topic, every time and octet, in the same order."""
    opened = Bag(bag)
    wanted = {(m.topic, m.log_time, m.publish_time, m.data) for m in opened.messages()}
    found = [m for piece in scan(opened.files) for m in messages_of(piece)]
    assert len(found) == len(wanted)
    assert {(m.topic, m.log_time, m.publish_time, m.data) for m in found} == wanted
    only = [m.topic for piece in scan(opened.files, ['/cmd_vel']) for m in messages_of(piece)]
    assert only == ['/cmd_vel'] * 40


def test_a_whole_file_has_no_damage(bag: Path) -> None:
    """All of its chunks carry a CRC."""
    (file,) = Bag(bag).files
    state = inspect(file)
    assert state.damage == ()
    assert state.chunks > 3
    assert (state.unchecked, state.octets) == (0, file.stat().st_size)


def test_each_damaged_chunk_is_found_and_the_rest_is_read(bag: Path, tmp_path: Path) -> None:
    """An octet is turned over in the second chunk and in the fourth."""
    from mcap.reader import make_reader

    (file,) = Bag(bag).files
    with file.open('rb') as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    octets = bytearray(file.read_bytes())
    for index in (1, 3):
        chunk = summary.chunk_indexes[index]
        octets[chunk.chunk_start_offset + chunk.chunk_length - 40] ^= 0xFF
    broken = tmp_path / 'broken.mcap'
    broken.write_bytes(octets)
    state = inspect(broken)
    assert len(state.damage) == 2
    assert [d.start for d in state.damage] == [
        summary.chunk_indexes[i].message_start_time for i in (1, 3)
    ]
    with pytest.raises(BagError):
        list(scan([broken]))
    reasons: list[BagError] = []
    left = sum(len(piece.log) for piece in scan([broken], damaged=reasons.append))
    assert len(reasons) == 2
    whole = sum(len(piece.log) for piece in scan([file]))
    assert 0 < left < whole


def test_a_damaged_index_is_found(bag: Path, tmp_path: Path) -> None:
    """An octet of the summary, which has a CRC of its own."""
    (file,) = Bag(bag).files
    octets = bytearray(file.read_bytes())
    start = int.from_bytes(octets[-28:-20], 'little')
    assert zlib.crc32(octets[start:-12]) == int.from_bytes(octets[-12:-8], 'little')
    octets[octets.index(b'/cmd_vel', start)] ^= 0x01
    broken = tmp_path / 'broken.mcap'
    broken.write_bytes(octets)
    assert 'index is damaged' in inspect(broken).damage[-1].what
    broken.write_bytes(octets[: len(octets) // 2])
    assert 'nothing can be read after' in inspect(broken).damage[-1].what


def test_hashes_follow_from_definitions(bag: Path) -> None:
    """Each of the bag's; and not any more once a field has another name."""
    for topic in Bag(bag).topics.values():
        assert definition_hash(topic) == topic.hash
    imu = Bag(bag).topics['/imu/data']
    other = imu.definition.replace('linear_acceleration_covariance', 'something_else')
    assert definition_hash(Topic('/a', imu.type, definition=other)) != imu.hash
    with pytest.raises(ValueError, match='sensor_msgs/msg/Imu'):
        definition_hash(Topic('/a', imu.type, definition='no definition at all ]['))


def test_the_period_of_the_samples() -> None:
    """The made-up walk is what the other tests take it for."""
    assert PERIOD == 20 * MS
