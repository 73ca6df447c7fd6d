"""When the simulation takes its next tick, by a clock that the test turns."""

import pytest

from lebot_rl_ros.control.pacing import BEHIND, Pace, Pacer, Participant, Tally

TICK = 20_000_000  # ns


class Clock:
    """Wall time in the test's hand."""

    now = 100.0

    def __call__(self):
        return self.now


def make(**given):
    clock = Clock()
    policy, driver = Participant(0), Participant(10 * TICK)
    pacer = Pacer(Pace(0.02, **given), {'policy': policy, 'driver': driver}, clock)
    pacer.send(0)
    policy.speak(0)
    driver.speak(0)
    pacer.start()
    return pacer, clock, policy, driver


def test_real_time_takes_a_tick_every_period():
    pacer, clock, _, _ = make(real_time_factor=2.0)
    due = []
    for _ in range(100):
        if pacer.due():
            due.append(round(clock.now - 100.0, 6))
            pacer.ticked()
        clock.now += 0.001
    assert due == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09])


def test_a_late_tick_is_not_made_up_for_in_a_burst():
    pacer, clock, _, _ = make(real_time_factor=1.0)
    pacer.ticked()
    clock.now += 5.0
    burst = 0
    while pacer.due():
        pacer.ticked()
        burst += 1
    assert burst == 2  # the one that was due, and one for the BEHIND that is made up for
    assert pacer.patience(1.0) == pytest.approx(0.02 - BEHIND)


def test_lockstep_waits_for_each_within_its_slack():
    pacer, _, policy, driver = make(real_time_factor=0.0, lockstep=True)
    assert pacer.due()
    pacer.send(TICK)
    assert pacer.missing() == ['policy']
    assert not pacer.due()
    policy.speak(TICK)
    assert pacer.due()  # the driver may lag ten ticks
    pacer.send(11 * TICK)
    policy.speak(11 * TICK)
    assert pacer.missing() == ['driver']
    driver.speak(TICK)
    assert pacer.due()


def test_the_silent_are_given_up_once_and_waited_for_again_when_they_speak():
    pacer, clock, policy, _ = make(real_time_factor=0.0, lockstep=True, timeout=1.0)
    pacer.send(TICK)
    assert pacer.give_up() == []
    assert pacer.patience(10.0) == pytest.approx(1.0)
    clock.now += 1.1
    assert pacer.due()
    assert pacer.give_up() == ['policy']
    assert pacer.give_up() == []
    pacer.send(2 * TICK)
    assert pacer.due()  # absent
    assert not policy.answered(2 * TICK)  # but the tick counts as missed
    assert not policy.speak(0)
    assert pacer.due()  # who repeats itself would be waited for in vain
    assert policy.speak(TICK)
    assert not pacer.due()


def test_patience_ends_at_the_deadline():
    pacer, clock, policy, _ = make(real_time_factor=1.0)
    pacer.ticked()
    assert pacer.patience(1.0) == pytest.approx(0.02)
    assert pacer.patience(0.005) == 0.005
    clock.now += 0.03
    assert pacer.patience(1.0) == 0.0
    assert policy.speak(0) is False  # nothing new


def test_a_tally_counts_falls_as_often_as_the_robot_goes_down():
    tally = Tally()
    for down in (False, True, True, False, True):
        tally.tick(missed=down)
        tally.observe(down)
    for milliseconds in range(1, 101):
        tally.answer(milliseconds / 1e3)
    values = tally.values()
    assert (values['ticks'], values['missed_ticks'], values['falls']) == (5, 3, 2)
    # linear interpolation between the sorted samples 1..100: p at 1 + 0.99 p
    assert values['tick_p50_ms'] == pytest.approx(50.5)
    assert values['tick_p99_ms'] == pytest.approx(99.01)
