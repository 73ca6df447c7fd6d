"""What servos say about themselves, judged: every row of the failure table that concerns them."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lebot_rl_ros.hardware.bus import Alarm, Feedback
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.safety.checks import ALARMS
from lebot_rl_ros.safety.health import Action, Health, HealthConfig

ROBOT = load_robot()
J = len(ROBOT.joints)
KNEE = 1  # fl_knee
QUIET = (Action.NONE, '', ())


def full(value):
    return np.full(J, value)


@dataclass
class Said:
    """A healthy robot at rest, unless told otherwise."""

    missed: np.ndarray = field(default_factory=lambda: np.zeros(J, dtype=int))
    temperature: np.ndarray = field(default_factory=lambda: full(30.0))
    voltage: np.ndarray = field(default_factory=lambda: full(7.4))
    load: np.ndarray = field(default_factory=lambda: full(0.2))
    alarm: np.ndarray = field(default_factory=lambda: np.zeros(J, dtype=int))


def knee(**values):
    """What one servo says that is not well."""
    said = Said()
    for name, value in values.items():
        getattr(said, name)[KNEE] = value
    return said


def run(health, said, ticks, **given):
    """The verdicts of so many equal ticks."""
    return [health.judge(said, **given) for _ in range(ticks)]


def test_a_healthy_robot_is_left_alone():
    assert run(Health(ROBOT), Said(), 500) == [QUIET] * 500


def test_feedback_of_a_bus_is_a_report(robot):
    joints = len(robot.joints)
    zero, whole = np.zeros(joints), np.zeros(joints, dtype=np.int64)
    feedback = Feedback(zero, zero, zero, zero + 7.4, zero + 30, whole, whole + 5)
    verdict = Health(robot).judge(feedback)
    assert verdict.action == Action.RELAX
    assert verdict.reason == 'all servos: 5 reads without an answer'


def test_alarm_bits_are_those_of_the_buses():
    assert [bit for bit, _, _ in ALARMS] == [int(alarm) for alarm in Alarm]
    words = {1: 'VOLTAGE', 2: 'ENCODER', 4: 'HEAT', 8: 'CURRENT', 16: 'OVERLOAD', 32: 'SHOCK'}
    assert {int(alarm): alarm.name for alarm in Alarm} == words
    for bit, name, _ in ALARMS:
        assert name.upper().endswith(words[bit])


def test_a_missing_servo_warns_and_at_five_reads_in_a_row_relaxes():
    health = Health(ROBOT)
    for reads, words in enumerate(('1 read', '2 reads', '3 reads', '4 reads'), 1):
        verdict = health.judge(knee(missed=reads))
        assert verdict == (Action.NONE, '', (f'fl_knee: {words} without an answer',))
    assert health.judge(knee(missed=5)) == (
        Action.RELAX, 'fl_knee: 5 reads without an answer', (),
    )  # fmt: skip
    # it answers again: no fault of now, and the warning goes after two seconds of answers
    verdicts = run(health, Said(), 101)
    assert {verdict.action for verdict in verdicts} == {Action.NONE}
    assert verdicts[99].warnings == ('fl_knee: 5 reads without an answer',)
    assert verdicts[100] == QUIET


def test_a_servo_that_misses_now_and_then_does_not_flicker():
    health = Health(ROBOT)
    said = [knee(missed=1) if tick % 60 == 0 else Said() for tick in range(600)]
    warnings = {health.judge(one).warnings for one in said}
    assert warnings == {('fl_knee: 1 read without an answer',)}


def test_a_lost_bus_relaxes_and_says_why():
    verdict = Health(ROBOT).judge(None, bus_lost='/dev/ttyACM0: no such device')
    assert verdict.action == Action.RELAX
    assert verdict.reason == 'servo bus lost: /dev/ttyACM0: no such device'


def test_heat_warns_at_60_and_crouches_after_ten_ticks_at_68():
    health = Health(ROBOT)
    assert run(health, knee(temperature=59.9), 50)[-1] == QUIET
    warning = ('fl_knee: 61 degC, limit 68 degC',)
    assert set(run(health, knee(temperature=61.0), 50)) == {(Action.NONE, '', warning)}
    # 0.2 s at 50 Hz are ten ticks
    verdicts = run(health, knee(temperature=69.0), 10)
    assert [verdict.action for verdict in verdicts] == [Action.NONE] * 9 + [Action.CROUCH]
    assert verdicts[-1].reason == 'fl_knee: 69 degC, limit 68 degC'


def test_a_temperature_at_the_limit_does_not_flicker():
    health = Health(ROBOT)
    said = [knee(temperature=59.5 + tick % 2) for tick in range(1, 1000)]
    assert len({health.judge(one).warnings for one in said}) == 1
    # cooler than 58 for two seconds: gone
    assert run(health, knee(temperature=58.0), 500)[-1].warnings
    assert run(health, knee(temperature=57.0), 101)[-1] == QUIET


@pytest.mark.parametrize(('bit', 'name', 'action'), ALARMS)
def test_an_alarm_warns_first_and_counts_when_it_lasts(bit, name, action):
    health = Health(ROBOT)
    words = f'fl_knee: {name} alarm'
    verdicts = run(health, knee(alarm=bit), 9)
    assert verdicts == [(Action.NONE, '', (words,))] * 9
    assert health.judge(Said()).action == Action.NONE  # one tick without it: counted anew
    verdicts = run(health, knee(alarm=bit), 10)
    assert [verdict.action for verdict in verdicts] == [Action.NONE] * 9 + [action]
    assert verdicts[-1].reason == words


def test_alarms_of_one_servo_are_told_apart_and_the_urgent_one_first():
    verdict = run(Health(ROBOT), knee(alarm=2 | 16, temperature=65.0), 10)[-1]
    assert verdict.action == Action.RELAX
    assert verdict.reason == 'fl_knee: encoder alarm; fl_knee: overload alarm'
    assert verdict.warnings == ('fl_knee: 65 degC, limit 68 degC',)


def test_the_alarm_of_a_servo_that_does_not_answer_is_not_counted_on():
    health = Health(ROBOT)
    run(health, knee(alarm=16), 5)
    # five reads of it, four of an old row: still 0.1 s only
    for missed in range(1, 5):
        assert health.judge(knee(alarm=16, missed=missed)).action == Action.NONE
    assert run(health, knee(alarm=16), 4)[-1].action == Action.NONE
    assert health.judge(knee(alarm=16)).action == Action.CROUCH


def test_an_empty_battery_warns_then_crouches():
    # 0.85 and 0.7 of 7.4 V: 6.29 V and 5.18 V
    health = Health(ROBOT)
    said = replace(Said(), voltage=full(6.2))
    assert run(health, said, 50)[-1] == (Action.NONE, '', ('all servos: 6.2 V, limit 5.2 V',))
    said = replace(Said(), voltage=full(5.1))
    verdicts = run(health, said, 10)
    assert [verdict.action for verdict in verdicts] == [Action.NONE] * 9 + [Action.CROUCH]
    assert verdicts[-1].reason == 'all servos: 5.1 V, limit 5.2 V'


def test_a_short_dip_of_the_supply_is_only_a_warning():
    health = Health(ROBOT)
    verdicts = run(health, replace(Said(), voltage=full(4.0)), 9) + run(health, Said(), 200)
    assert {verdict.action for verdict in verdicts} == {Action.NONE}
    assert verdicts[8].warnings == ('all servos: 4.0 V, limit 5.2 V',)
    assert verdicts[-1] == QUIET


def test_a_brown_out_shows_in_the_torque_registers():
    health = Health(ROBOT)
    run(health, Said(), 10, torque_expected=True)
    torque = full(1.0)
    assert health.judge(Said(), torque=torque, torque_expected=True) == QUIET
    torque[KNEE] = np.nan  # did not say
    assert health.judge(Said(), torque=torque, torque_expected=True) == QUIET
    torque[KNEE] = 0.0
    verdict = health.judge(Said(), torque=torque, torque_expected=True)
    assert verdict.action == Action.RELAX
    assert verdict.reason == 'fl_knee: torque went off by itself (brown-out or shutdown)'
    verdict = health.judge(Said(), torque=full(0.0), torque_expected=True)
    assert verdict.reason == 'all servos: torque went off by itself (brown-out or shutdown)'


def test_torque_registers_have_a_moment_to_follow():
    health = Health(ROBOT)
    off, on = full(0.0), full(1.0)
    verdicts = run(health, Said(), 6, torque=off, torque_expected=True)
    # 0.1 s at 50 Hz are five ticks
    assert [verdict.action for verdict in verdicts] == [Action.NONE] * 5 + [Action.RELAX]
    verdicts = run(health, Said(), 6, torque=on, torque_expected=False)
    assert verdicts[:5] == [QUIET] * 5
    assert verdicts[5] == (Action.NONE, '', ('all servos: torque is on, and should be off',))


def test_load_near_the_limit_warns_after_a_second_in_either_direction():
    health = Health(ROBOT)
    verdicts = run(health, knee(load=-0.95), 50)
    assert verdicts[:49] == [QUIET] * 49
    assert verdicts[49].warnings == ('fl_knee: load 0.95 of the stall torque for 1 s',)
    assert run(health, knee(load=-1.0), 1000)[-1].action == Action.NONE  # the servo says when


def test_times_are_counted_in_ticks_of_the_robot(twelve):
    joints = len(twelve.joints)
    said = Said(*(np.full(joints, value) for value in (0, 90.0, 7.4, 0.0, 0)))
    health = Health(twelve)  # 100 Hz: 0.2 s are twenty ticks
    assert [health.judge(said).action for _ in range(20)] == [Action.NONE] * 19 + [Action.CROUCH]


def test_reset_forgets():
    health = Health(ROBOT)
    run(health, knee(alarm=16, temperature=80.0), 10)
    health.reset()
    verdict = health.judge(knee(alarm=16))
    assert verdict == (Action.NONE, '', ('fl_knee: overload alarm',))


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'temperature_warn': 80.0}, 'temperature_warn is 80.0, must be above 0 and at most'),
        ({'voltage_error': 0.9}, 'voltage_error is 0.9, .* voltage_warn, 0.85'),
        ({'missed_warn': 0}, 'missed_warn is 0'),
        ({'hold': -1.0}, 'hold is -1.0, must be 0 s or more'),
        ({'confirm': np.nan}, 'confirm is nan'),
    ],
)
def test_limits_have_an_order(values, message):
    with pytest.raises(ValueError, match=message):
        HealthConfig(**values)


anything = hnp.arrays(float, J, elements=st.floats(width=64))
reports = st.builds(
    Said,
    hnp.arrays(np.int64, J, elements=st.integers(0, 100)),
    anything,
    anything,
    anything,
    hnp.arrays(np.int64, J, elements=st.integers(-(2**62), 2**62)),
)
torques = st.none() | hnp.arrays(float, J, elements=st.sampled_from([0.0, 1.0, np.nan]))


@given(st.lists(st.tuples(reports, torques, st.booleans(), st.booleans()), max_size=12))
def test_nothing_that_a_bus_may_say_raises(ticks):
    health = Health(ROBOT)
    for said, torque, expected, lost in ticks:
        verdict = health.judge(
            said, torque=torque, torque_expected=expected, bus_lost='gone' * lost
        )
        assert verdict.action in Action
        assert bool(verdict.reason) == (verdict.action != Action.NONE)
        if (said.missed >= 5).any() or lost:
            assert verdict.action == Action.RELAX


@given(reports, torques)
def test_the_action_never_falls_while_the_same_is_said(said, torque):
    health = Health(ROBOT)
    verdicts = run(health, said, 60, torque=torque, torque_expected=True)
    actions = [verdict.action for verdict in verdicts]
    assert actions == sorted(actions)


sane = st.floats(-0.5, 1.5)


@given(
    hnp.arrays(float, (3, J), elements=sane),
    hnp.arrays(float, (3, J), elements=st.floats(0, 1)),
    hnp.arrays(np.int64, (2, J), elements=st.integers(0, 63)),
    st.integers(1, 30),
)
def test_worse_is_never_judged_better(share, more, alarm, ticks):
    """Order: with every reading as bad or worse, the action is at least as urgent."""

    def said(values, bits):
        # all answer: who does not answer says nothing of the rest
        return Said(
            temperature=values[0] * 80,
            voltage=(1.5 - values[1]) * 7.4,
            load=np.abs(values[2]),
            alarm=bits,
        )

    better = run(Health(ROBOT), said(share, alarm[0]), ticks)[-1]
    worse = run(Health(ROBOT), said(share + more, alarm[0] | alarm[1]), ticks)[-1]
    assert worse.action >= better.action
