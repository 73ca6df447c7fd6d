"""The driver's state machine: when nobody speaks, when the robot falls, when time jumps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lebot_rl_ros.robot import JointCommand, RobotState, load_robot
from lebot_rl_ros.safety.supervisor import Mode, Supervisor, SupervisorConfig
from lebot_rl_ros.sim.body import SimulatedBody

ROBOT = load_robot()
PERIOD = ROBOT.control_period_ns
LEVEL = np.array([1.0, 0.0, 0.0, 0.0])
ON_ITS_SIDE = np.array([np.cos(np.pi / 4), np.sin(np.pi / 4), 0.0, 0.0])


def state(stamp, position=None, orientation=LEVEL):
    joints = len(ROBOT.joints)
    return RobotState(
        stamp=stamp,
        joint_position=ROBOT.crouch if position is None else position,
        joint_velocity=np.zeros(joints),
        joint_effort=np.zeros(joints),
        orientation=orientation,
        angular_velocity=np.zeros(3),
        linear_acceleration=np.array([0.0, 0.0, 9.81]),
    )


def command(stamp, position=None):
    return JointCommand(stamp, ROBOT.stand if position is None else position)


class Clock:
    """Runs a supervisor tick by tick, the joints following at once."""

    def __init__(self):
        self.supervisor, self.now, self.position = Supervisor(ROBOT), 0, ROBOT.crouch

    def tick(self, speak=True, target=None, orientation=LEVEL):
        answer = command(self.now, target) if speak else None
        decision = self.supervisor.cycle(state(self.now, self.position, orientation), answer)
        self.position = decision.position
        self.now += PERIOD
        return decision

    def until_tracking(self):
        for _ in range(100):
            if self.tick().mode == Mode.TRACK:
                return
        raise AssertionError('never tracked')


def test_relaxed_until_the_first_command():
    clock = Clock()
    for _ in range(10):
        decision = clock.tick(speak=False)
        assert decision.mode == Mode.RELAXED
        assert not decision.torque


def test_stands_up_slowly_before_it_follows():
    clock = Clock()
    positions = [clock.tick(target=ROBOT.lower) for _ in range(50)]
    assert {decision.mode for decision in positions} == {Mode.STAND_UP}
    steps = np.diff([ROBOT.crouch, *(decision.position for decision in positions)], axis=0)
    # smoothstep over one second: the fastest tick is 1.5 times the mean one
    assert np.abs(steps).max() <= 1.5 / 50 * np.abs(ROBOT.stand - ROBOT.crouch).max() + 1e-9
    np.testing.assert_allclose(positions[-1].position, ROBOT.stand, atol=1e-9)
    assert clock.tick().mode == Mode.TRACK


def test_silence_holds_after_three_periods_and_crouches_after_half_a_second():
    clock = Clock()
    clock.until_tracking()
    held = clock.position
    modes = []
    for _ in range(100):
        decision = clock.tick(speak=False)
        modes.append(decision.mode)
        if decision.mode == Mode.HOLD:
            np.testing.assert_array_equal(decision.position, held)
    # silent ticks 1-3 are within three periods; 0.5 s is the 25th; the crouch takes 1 s
    assert modes[:3] == [Mode.TRACK] * 3
    assert modes[3:24] == [Mode.HOLD] * 21
    assert modes[24:74] == [Mode.CROUCH] * 50
    assert modes[74:] == [Mode.RELAXED] * 26
    np.testing.assert_allclose(clock.position, ROBOT.crouch, atol=1e-6)


def test_commands_after_a_short_silence_go_on_and_after_a_long_one_stand_up_again():
    clock = Clock()
    clock.until_tracking()
    for _ in range(10):
        clock.tick(speak=False)
    assert clock.tick().mode == Mode.TRACK
    for _ in range(40):
        clock.tick(speak=False)
    assert clock.tick().mode == Mode.STAND_UP


def test_a_fall_takes_torque_away_until_cleared():
    clock = Clock()
    clock.until_tracking()
    decision = clock.tick(orientation=ON_ITS_SIDE)
    assert (decision.mode, decision.torque) == (Mode.RELAXED, False)
    assert 'fell: tilted by 90 degrees' in decision.reason
    assert clock.tick().mode == Mode.RELAXED  # upright again, still latched
    assert 'fell' in clock.supervisor.clear_faults()
    assert clock.tick().mode == Mode.STAND_UP


def test_stop_crouches_whatever_is_commanded():
    clock = Clock()
    clock.until_tracking()
    clock.supervisor.stop()
    modes = [clock.tick(target=ROBOT.upper).mode for _ in range(60)]
    assert modes == [Mode.CROUCH] * 50 + [Mode.RELAXED] * 10
    np.testing.assert_allclose(clock.position, ROBOT.crouch, atol=1e-6)


@pytest.mark.parametrize('jump', [-5_000_000_000, 0, 3_000_000_000])
def test_a_clock_jump_holds_and_says_so(jump):
    clock = Clock()
    clock.until_tracking()
    held = clock.position
    clock.now += jump - PERIOD
    decision = clock.tick(target=ROBOT.upper)
    assert decision.mode == Mode.HOLD
    assert f'the clock jumped by {jump / 1e9:.3f} s' in decision.reason
    np.testing.assert_array_equal(decision.position, held)
    assert clock.tick().mode == Mode.TRACK


@pytest.mark.parametrize('bad', [np.full(8, np.nan), np.zeros(12), np.full(8, np.inf)])
def test_unusable_commands_count_as_silence(bad):
    clock = Clock()
    clock.until_tracking()
    held = clock.position
    decisions = [clock.tick(target=bad) for _ in range(10)]
    assert decisions[-1].mode == Mode.HOLD
    assert clock.supervisor.rejected == 10
    np.testing.assert_array_equal(decisions[-1].position, held)


def test_torque_off_is_at_once_and_torque_on_stands_up():
    clock = Clock()
    clock.until_tracking()
    clock.supervisor.set_torque(False)
    assert not clock.tick().torque
    clock.supervisor.set_torque(True)
    assert clock.tick().mode == Mode.STAND_UP


HAPPENINGS = ['speak', 'silence', 'wild', 'nan', 'fall', 'stop', 'clear', 'jump', 'back', 'blind']
EVENTS = st.lists(
    st.tuples(st.sampled_from(HAPPENINGS), st.floats(-100, 100)), min_size=1, max_size=150
)


@given(EVENTS)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_targets_stay_within_limits(events):
    clock = Clock()
    previous, was_torque = None, False
    for event, value in events:
        target = {'wild': np.full(8, value), 'nan': np.full(8, np.nan)}.get(event)
        if event == 'stop':
            clock.supervisor.stop()
        if event == 'clear':
            clock.supervisor.clear_faults()
        clock.now += {'jump': 2_000_000_000, 'back': -2_000_000_000}.get(event, 0)
        if event == 'blind':
            clock.position = np.full(8, np.nan)
        decision = clock.tick(
            speak=event in ('speak', 'wild', 'nan'),
            target=target,
            orientation=ON_ITS_SIDE if event == 'fall' else LEVEL,
        )
        assert np.isfinite(decision.position).all()
        assert (decision.position >= ROBOT.lower).all()
        assert (decision.position <= ROBOT.upper).all()
        if decision.torque and was_torque:
            assert (
                np.abs(decision.position - previous).max()
                <= ROBOT.limits.velocity / ROBOT.control_rate + 1e-9
            )
        previous, was_torque = decision.position, decision.torque


def test_a_stop_is_told_though_the_robot_had_fallen():
    clock = Clock()
    clock.until_tracking()
    clock.tick(orientation=ON_ITS_SIDE)
    assert clock.supervisor.fault.startswith('fell')
    for _ in range(2):
        clock.supervisor.stop()
        assert clock.supervisor.fault.startswith('stop requested; fell: tilted by 90')
    clock.supervisor.stop('too hot')
    assert clock.supervisor.fault.count(';') == 1


def test_a_collapsed_robot_folds_its_legs_before_it_stands_up():
    clock = Clock()
    clock.position = ROBOT.stand + [1.2, 0.1, 1.2, -0.5, 0.8, 0.2, 0.6, 0.2]
    passed = {}
    for tick in range(160):
        decision = clock.tick()
        assert decision.torque or tick == 0
        for name in ('fold', 'crouch', 'stand'):
            if np.abs(decision.position - getattr(ROBOT, name)).max() < 1e-6:
                passed.setdefault(name, tick)
        if decision.mode == Mode.TRACK:
            break
    assert passed == {'fold': 49, 'crouch': 99, 'stand': 149}
    assert tick == 150


@pytest.mark.parametrize('share', [-0.1, 0.0, 0.4, 1.0])
def test_from_the_way_between_crouch_and_stand_it_stands_up_straight(share):
    clock = Clock()
    clock.position = ROBOT.crouch + share * (ROBOT.stand - ROBOT.crouch)
    clock.position[0] += 0.2
    modes = [clock.tick().mode for _ in range(52)]
    assert modes.index(Mode.TRACK) == 50


# rad, into which the robot sank when torque was lost in mid-stride, in campaigns of wire faults
SUNK = (
    (1.85, -1.15, 1.85, -1.77, 1.46, -1.06, 1.22, -1.11),
    (1.80, -1.24, 1.85, -1.35, 1.26, -2.08, 1.21, -0.89),
    (1.85, -0.95, 1.65, -1.38, 1.52, -0.74, 1.32, -1.44),
    (1.85, -1.45, 1.74, -1.22, 1.09, -0.86, 1.23, -1.32),
    (1.85, -1.90, 1.85, -1.24, 1.11, -1.07, 1.38, -1.12),
)


@pytest.mark.parametrize('pose', SUNK)
@pytest.mark.parametrize('astray', [SupervisorConfig.astray, np.inf])
def test_a_robot_that_sank_in_mid_stride_stands_up_without_tipping_over(pose, astray):
    body, supervisor = SimulatedBody(ROBOT), Supervisor(ROBOT, SupervisorConfig(astray=astray))
    every, full = np.ones(8, bool), np.ones(8)
    body.simulation.reset(pose=np.array(pose))
    for _ in range(300):  # 1.5 s
        body.step(ROBOT.stand, ~every, full)
    for tick in range(200):
        now = replace(body.state, stamp=(tick + 1) * PERIOD)
        decision = supervisor.cycle(now, command(now.stamp))
        for _ in range(4):
            body.step(decision.position, every & decision.torque, full)
    stands = decision.mode == Mode.TRACK
    assert stands == np.isfinite(astray), supervisor.reason  # straight up, it falls
    if stands:
        assert np.abs(body.state.joint_position - ROBOT.stand).max() < 0.1
