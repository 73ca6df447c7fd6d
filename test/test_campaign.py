"""The fault campaign: cases, judgement on recordings made by hand, and one real case per bus."""

import math
import socket
from dataclasses import replace

import numpy as np
import pytest

from lebot_rl_ros.cli.campaign_cases import CASES, ERROR, WARN, Case, select
from lebot_rl_ros.cli.campaign_judge import Moments, judge
from lebot_rl_ros.cli.campaign_measures import stale
from lebot_rl_ros.cli.campaign_page import line, page
from lebot_rl_ros.cli.campaign_play import free_domain, run_case
from lebot_rl_ros.hardware.emulation.faults import WIRE_FAULTS, parse_wire_fault
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros import names
from lebot_rl_ros.ros.witness import Recording, Word
from ros_graph import fresh_domain

ROBOT = load_robot()
PERIOD = 0.02
START = 1000.0  # s since the epoch, of the hand-made recordings
AT = Moments(START + 6, START + 6.01, over=START + 9, cleared=START + 10.5, again=START + 10.5)
WALKS = Case('echo', 'a case that walks on', 'track')
RELAXES = Case(
    'mute:fl_knee', 'a case that relaxes', 'track relaxed', 0.25, ERROR, 'fl_knee', latched=True,
    silent=names.JOINT_STATES,
)  # fmt: skip


def ticks(begin, end):
    """Stamps of the control periods in [begin, end), s after START."""
    return (START + np.arange(round(begin / PERIOD), round(end / PERIOD)) * PERIOD).tolist()


def joints_at(stamp):
    """A walk, of all joints: 0.2 rad about the stance, 2.5 times a second."""
    return tuple(ROBOT.stand + 0.2 * np.sin(2 * np.pi * 2.5 * (stamp - START)))


def word(after, message, level=ERROR, node='servo_driver', mode='track'):
    return Word(START + after, node, level, message, {'mode': mode})


def recording(phases, words=()):
    """A robot that does what ``phases`` say: (mode, from, to), s after START; walks in track."""
    heard = Recording(words=list(words))
    for mode, begin, end in phases:
        for stamp in ticks(begin, end):
            truth = joints_at(stamp)
            heard.applied.append((stamp, mode, truth))
            heard.truth.append((stamp, truth))
            heard.path.append((stamp, 0.02, 0.2 if mode == 'track' else 0.0))
            if mode == 'track':
                heard.joints.append((stamp, truth))
    return heard


def walked_on():
    return recording([('track', 0, 14)])


def relaxed():
    """Relaxed 0.1 s after the fault, until cleared; walks again from 11.5 s on."""
    phases = [('track', 0, 6.1), ('relaxed', 6.1, 10.5), ('stand_up', 10.5, 11.5)]
    told = [word(6.1, 'fl_knee: 5 reads without an answer', mode='relaxed')]
    return recording([*phases, ('track', 11.5, 15)], told)


def verdict(case, heard, at=AT, **more):
    return judge(case, heard, at, ROBOT, asked=0.2, **more)


def test_who_walks_on_is_safe_at_once_and_walks_again_after_one_window():
    cleared = replace(AT, cleared=AT.over, again=AT.over)
    outcome = verdict(WALKS, walked_on(), cleared)
    assert outcome.troubles == ()
    assert (outcome.modes, outcome.safe, outcome.beyond, outcome.latched) == (
        ('track',), 0.0, 0, False,
    )  # fmt: skip
    assert outcome.again == pytest.approx(2.0, abs=PERIOD)
    assert outcome.published == 14 / PERIOD - 2  # what is older than two periods can be judged
    assert outcome.stale == 0


def test_who_relaxes_is_safe_when_it_does_and_walks_after_it_was_cleared():
    outcome = verdict(RELAXES, relaxed())
    assert outcome.troubles == ()
    assert outcome.modes == ('track', 'relaxed')
    assert outcome.safe == pytest.approx(0.1)
    assert (outcome.told, outcome.level) == ('fl_knee: 5 reads without an answer', ERROR)
    assert outcome.told_after == pytest.approx(0.1)
    assert outcome.latched
    # 0.2 m/s from 11.5 s on: 2 s after clearing at 10.5 s, half of the window has been walked.
    assert outcome.again == pytest.approx(2.0, abs=0.05)


def test_a_hold_on_the_way_is_harmless_but_counts_as_safe():
    heard = recording(
        [('track', 0, 6.06), ('hold', 6.06, 6.1), ('relaxed', 6.1, 10.5), ('track', 10.5, 14)],
        [word(6.1, 'fl_knee is gone')],
    )
    outcome = verdict(RELAXES, heard)
    assert outcome.troubles == ()
    assert outcome.modes == ('track', 'hold', 'relaxed')
    assert outcome.safe == pytest.approx(0.06)


def troubled(case, heard, at=AT):
    return ' / '.join(verdict(case, heard, at).troubles)


def test_what_is_not_as_expected_is_said():
    assert 'it did track instead of track, relaxed' in troubled(RELAXES, walked_on())
    assert 'safe after 0.00 s' not in troubled(RELAXES, walked_on())
    assert 'it did track, relaxed instead of track' in troubled(WALKS, relaxed())
    assert 'safe after 0.10 s, not within 0 s' in troubled(WALKS, relaxed())
    assert 'servo_driver told level 0, not 2' in troubled(RELAXES, walked_on())
    warned = replace(RELAXES, words='bus lost')
    assert "servo_driver did not say 'bus lost'" in troubled(warned, relaxed())
    slow = replace(RELAXES, within=0.05)
    assert 'safe after 0.10 s, not within 0.05 s' in troubled(slow, relaxed())
    assert verdict(WALKS, walked_on(), troubles=['policy died']).troubles[0] == 'policy died'


def test_nothing_heard_fails():
    said = troubled(WALKS, Recording())
    assert 'it did nothing instead of track' in said
    assert 'safe never' in said
    assert 'it did not walk again' in said


def test_who_stands_in_track_did_not_walk_on():
    heard = walked_on()
    heard.path = [(t, tilt, 0.09 if t > AT.begin else 0.2) for t, tilt, _ in heard.path]
    assert 'safe never' in troubled(WALKS, heard)
    assert 'it did not walk again' in troubled(WALKS, heard)


def test_a_fall_counts_from_the_fault_on():
    heard = walked_on()
    heard.path[10] = (heard.path[10][0], 1.5, 0.2)
    assert not verdict(WALKS, heard).fell
    heard.path[-1] = (heard.path[-1][0], ROBOT.fall_tilt + 0.01, 0.2)
    outcome = verdict(WALKS, heard)
    assert (outcome.fell, outcome.fell_up) == (False, True)
    assert 'it fell' not in outcome.troubles
    heard.path[320] = (heard.path[320][0], ROBOT.fall_tilt + 0.01, 0.2)
    assert 'it fell' in troubled(WALKS, heard)


def test_who_stands_up_before_it_was_cleared_was_not_latched():
    phases = [
        ('track', 0, 6.1),
        ('relaxed', 6.1, 9.3),
        ('stand_up', 9.3, 10.3),
        ('track', 10.3, 14),
    ]
    outcome = verdict(RELAXES, recording(phases, [word(6.1, 'fl_knee')]))
    assert not outcome.latched
    assert 'it did not stay down until it was cleared' in outcome.troubles


def test_targets_beyond_limits_count_at_once_joints_may_sag():
    heard = walked_on()
    stamp, mode, target = heard.applied[7]
    heard.applied[7] = (stamp, mode, (ROBOT.upper[0] + 1e-6, *target[1:]))
    assert verdict(WALKS, heard).beyond == 1
    stamp, joints = heard.joints[9]
    heard.joints[9] = (stamp, (*joints[:-1], ROBOT.lower[-1] - 0.04))
    assert verdict(WALKS, heard).beyond == 1
    heard.joints[9] = (stamp, (*joints[:-1], ROBOT.lower[-1] - 0.06))
    assert verdict(WALKS, heard).beyond == 2


@pytest.mark.parametrize(('periods', 'old'), [(-1, 0), (0, 0), (1, 0), (2, 0), (4, 1)])
def test_a_state_is_stale_when_it_is_older_than_two_periods(periods, old):
    """Joints turn at 1 rad/s: what is four periods old lies two periods, 0.04 rad, behind."""
    truth = [(t, (t - START, 0.0)) for t in ticks(0, 2)]
    published = [(START + 1.0, (1.0 - periods * PERIOD, 0.0))]
    assert stale(published, truth, 2 * PERIOD, 0.0215, PERIOD).tolist() == [bool(old)]


def test_a_turning_point_between_two_samples_is_not_stale():
    """The joint was at 0.1 rad one period ago and is back at 0: 0.05 is one of its ways."""
    truth = [(START, (0.0,)), (START + 0.02, (0.1,)), (START + 0.04, (0.0,))]
    published = [(START + 0.04, (0.05,)), (START + 0.04, (0.13,)), (START + 0.04, (-0.03,))]
    assert stale(published, truth, 0.04, 0.0215).tolist() == [False, True, True]


def test_frozen_states_of_a_walk_are_stale_and_their_share_is_told():
    heard = walked_on()
    frozen = joints_at(AT.begin)
    heard.joints = [(t, joints if t < AT.begin else frozen) for t, joints in heard.joints]
    outcome = verdict(WALKS, heard)
    assert outcome.stale > 0.5 * 8 / PERIOD
    assert f'{outcome.stale} of {outcome.published} joint states were stale' in outcome.troubles
    assert outcome.delayed > 0.5  # the measure is not blind


def test_where_the_truth_paused_nothing_is_judged():
    """The emulator had no core for 0.3 s; what is 0.1 s old there may be true or not."""
    truth = [(t, (t - START,)) for t in ticks(0, 2) if not 1.0 < t - START < 1.3]
    old = [(START + t, (t - 0.1,)) for t in (0.5, 1.1, 1.32, 1.5)]
    assert stale(old, truth, 0.04, 0.02).tolist() == [True, True]


def test_a_reset_that_moves_the_robot_makes_nothing_stale():
    heard = walked_on()
    heard.joints = [(t, j if t < START + 12 else joints_at(t - 0.13)) for t, j in heard.joints]
    heard.joints = [(t, j) for t, j in heard.joints if t < START + 12.09]
    assert verdict(WALKS, heard).stale > 0
    assert verdict(WALKS, heard, replace(AT, resets=(START + 12.0,))).stale == 0


def test_a_cause_that_is_still_there_must_keep_it_down():
    stays = replace(RELAXES, stays=True)
    assert 'it walked again, though its cause was still there' in troubled(stays, relaxed())
    down = relaxed()
    down.path = [(t, tilt, 0.0 if t > AT.begin else 0.2) for t, tilt, _ in down.path]
    assert verdict(stays, down).troubles == ()
    assert 'it did not walk again' in troubled(RELAXES, down)


def test_states_without_a_truth_are_not_judged():
    assert len(stale([(START, (0.0,))], [], 0.04, 0.0)) == 0
    assert len(stale([(START + 9, (0.0,))], [(START, (0.0,))], 0.04, 0.0)) == 0


def test_who_must_be_silent_may_finish_what_it_had_begun():
    heard = relaxed()
    heard.joints.append((AT.active + 0.09, joints_at(AT.active)))
    heard.joints.append((AT.over + 0.01, joints_at(AT.over)))
    assert verdict(RELAXES, heard).unduly == 0
    heard.joints.append((AT.active + 0.5, joints_at(AT.active)))
    assert '1 messages on joint_states while nothing could be known' in troubled(RELAXES, heard)


def test_other_topics_are_counted_by_their_stamps():
    case = replace(WALKS, silent=names.CAMERA_INFO)
    heard = walked_on()
    heard.watched = [START + 5, AT.active + 0.05, AT.active + 1.0, AT.active + 2.0, AT.over + 1]
    assert verdict(case, heard).unduly == 2


def test_only_news_is_told():
    """What a node had said before, in other numbers, is not news; nor what comes after the end."""
    old = [word(t, f'load {t} of the stall torque', WARN) for t in (4, 5, 7, 8)]
    heard = recording([('track', 0, 14)], [*old, word(9.5, 'too late')])
    assert (verdict(WALKS, heard).told, verdict(WALKS, heard).level) == ('', 0)
    heard.words += [word(8.5, 'other', WARN), word(7.5, 'of the IMU', node='imu_driver')]
    assert (verdict(WALKS, heard).told, verdict(WALKS, heard).level) == ('other', WARN)


def test_modes_come_from_health_where_nothing_can_be_applied():
    """A bus that is gone takes no targets, so the driver publishes none."""
    heard = relaxed()
    heard.applied = [entry for entry in heard.applied if entry[1] != 'relaxed']
    heard.words.append(word(6.0, 'late word', mode='hold'))  # the applied mode knows better
    outcome = verdict(RELAXES, heard)
    assert outcome.modes == ('track', 'relaxed')
    assert outcome.safe == pytest.approx(0.1, abs=1e-6)


def test_the_newest_word_says_what_the_driver_does():
    heard = Recording()
    assert heard.mode == ''
    heard.applied.append((START, 'track', (0.0,)))
    assert heard.mode == 'track'
    heard.words.append(word(0.5, 'bus lost', mode='relaxed'))
    assert heard.mode == 'relaxed'
    heard.applied.append((START + 1, 'stand_up', (0.0,)))
    assert heard.mode == 'stand_up'
    assert math.isnan(heard.speed(START, 2.0))


def test_who_still_sinks_does_not_lie_still():
    heard = Recording()
    assert not heard.lies_still(START, 0.5)
    for tick in range(100):  # it sinks until tick 50
        heard.path.append((START + tick / 64, 1.3 - 0.02 * min(tick, 50), 0.0))
        assert heard.lies_still(START, 0.5) == (tick >= 81)
    assert not heard.lies_still(START + 1.2, 0.5)


def test_every_kind_of_wire_fault_has_a_case_and_every_case_is_a_fault():
    assert {case.kind for case in CASES} == set(WIRE_FAULTS)
    for case in CASES:
        parse_wire_fault(case.fault, ROBOT.joint_names)
    assert len({case.fault for case in CASES}) == len(CASES)


def test_cases_are_chosen_by_kind_or_in_full():
    assert select([]) == CASES
    assert {case.fault for case in select(['unplug'])} == {
        'unplug:bus', 'unplug:imu', 'unplug:camera',
    }  # fmt: skip
    assert [case.fault for case in select(['unplug:imu'])] == ['unplug:imu']
    with pytest.raises(ValueError, match=r"no case 'unplugged'; choices are drop, late"):
        select(['unplugged'])


def test_the_page_has_a_row_per_case_and_says_what_failed_without_paths():
    where = '/home/somebody/ports/servos and http://127.0.0.1:80/camera.mjpg are'
    told = [word(6.1, f'fl_knee: lost, {where} not there', mode='relaxed')]
    heard = replace(relaxed(), words=told)
    done = [
        ('feetech', RELAXES, verdict(RELAXES, heard)),
        ('dynamixel', WALKS, verdict(WALKS, heard)),
    ]
    text = page(done, ROBOT, 125.0, 3)
    assert '2 cases, 1 of which failed. 3 starts were repeated' in text
    assert 'in 2.1 minutes' in text
    assert '| `mute:fl_knee`: a case that relaxes | track, relaxed | 0.10 s |' in text
    assert 'lost, servos and camera.mjpg are not there (servo_driver, 0.1 s)' in text
    assert '**failed**: it did track, relaxed instead of track; safe after 0.10 s' in text
    assert text.index('## Feetech') < text.index('## Dynamixel')
    assert 'somebody' not in text


def test_to_and_fro_is_counted():
    phases = [('track', 0, 7), ('hold', 7, 7.1), ('track', 7.1, 8), ('hold', 8, 8.1)]
    outcome = verdict(WALKS, recording([*phases, ('track', 8.1, 14)]))
    assert 'track, hold (2 times), track' in line('feetech', WALKS, outcome)
    assert 'safe after 1.00 s' in line('feetech', WALKS, outcome)


def test_a_domain_that_somebody_is_in_is_passed_over():
    first = free_domain()
    after = first % 100 + 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(('', 7400 + 250 * after + 10))
        domain = free_domain()
    assert 1 <= domain <= 100
    assert domain not in (first, after)


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(('bus', 'fault'), [('feetech', 'mute'), ('dynamixel', 'unplug:bus')])
def test_a_case_on_a_real_graph(tmp_path, bus, fault):
    (case,) = select([fault])
    outcome, reasons = run_case(case, bus, ROBOT, tmp_path, fresh_domain())
    assert (outcome.modes[0], outcome.modes[-1]) == ('track', 'relaxed'), (outcome, reasons)
    assert case.words in outcome.told
    assert outcome.latched
    assert outcome.again is not None
    assert (outcome.unduly, outcome.beyond, outcome.fell) == (0, 0, False)
    assert outcome.published > 100
    assert outcome.delayed > 0.5  # had states been old, that would have been seen
    # How fast it was depends on the machine; that no process died does not.
    assert not [words for words in outcome.troubles if 'ended' in words or 'killed' in words]
