"""What no input may do: limits and supervisor under anything that can be said to them."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lebot_rl_ros.robot import JointCommand, RobotState, load_robot
from lebot_rl_ros.safety.limits import LimitedTarget, limit_target
from lebot_rl_ros.safety.supervisor import Mode, Supervisor, SupervisorConfig

ROBOT = load_robot()
J = len(ROBOT.joints)
CONFIG = SupervisorConfig()
PERIOD = 1.0 / ROBOT.control_rate
STEP = ROBOT.limits.velocity * PERIOD  # rad in one tick
CHANGE = (
    ROBOT.limits.acceleration * PERIOD * PERIOD
)  # rad by which a step may differ from the last
TINY = 1e-9

# what overflows in the arithmetic is what these tests are about
pytestmark = pytest.mark.filterwarnings('ignore::RuntimeWarning')

any_float = st.floats(allow_nan=True, allow_infinity=True)
angles = st.floats(-4.0, 4.0) | any_float
joints = hnp.arrays(float, J, elements=angles)
wrong_shapes = hnp.arrays(float, hnp.array_shapes(max_dims=2, max_side=12), elements=angles)
LEVEL = np.array([1.0, 0.0, 0.0, 0.0])
quaternions = st.one_of(
    st.just(LEVEL),
    st.just(np.array([0.5, 0.5, 0.5, 0.5])),  # on its side
    hnp.arrays(float, 4, elements=any_float),
)
# of the state's stamp in ns: regular, slow, too slow, backwards, still, and far away
regular = st.just(ROBOT.control_period_ns)
clocks = regular | st.integers(-(10**10), 10**10) | st.sampled_from([0, 1, -(2**62), 2**62])
jumps = st.sampled_from([-(2**62), -1, 0, 500_000_001, 2**62])
forward = regular | st.integers(1, 400_000_000)


commands = st.none() | st.just(ROBOT.upper) | st.just(ROBOT.lower) | joints | wrong_shapes


@dataclass
class Tick:
    """One cycle and what is called before it; nothing is wrong unless told."""

    advance: int = ROBOT.control_period_ns
    position: np.ndarray = field(default_factory=lambda: ROBOT.crouch)
    orientation: np.ndarray = field(default_factory=lambda: LEVEL)
    command: np.ndarray | None = field(default_factory=lambda: ROBOT.stand)
    blind: str = ''
    call: str = ''


CALLS = {
    'stop': lambda supervisor: supervisor.stop(),
    'fail': lambda supervisor: supervisor.fail('fl_knee: 5 reads without an answer'),
    'clear': lambda supervisor: supervisor.clear_faults(),
    'torque off': lambda supervisor: supervisor.set_torque(False),
    'torque on': lambda supervisor: supervisor.set_torque(True),
    'reset': lambda supervisor: supervisor.reset(),
}


def courses(clock, calls, **size):
    """Ticks of which most are wrong in one way or none, and some in every way."""
    wrong = {
        'advance': clock,
        'position': joints,
        'orientation': quaternions,
        'command': commands,
        'blind': st.just('no IMU sample'),
        'call': st.sampled_from(sorted(calls)),
    }
    ticks = [st.builds(Tick, **{name: values}) for name, values in wrong.items()]
    return st.lists(st.one_of(st.just(Tick()), *ticks, st.builds(Tick, **wrong)), **size)


class Ride:
    """A supervisor and the clock of its states."""

    def __init__(self, standing=False):
        self.supervisor, self.now = Supervisor(ROBOT, CONFIG), 0
        for _ in range(60 * standing):
            self.take(Tick())
        assert self.supervisor.mode == (Mode.TRACK if standing else Mode.RELAXED)

    def take(self, tick):
        """The call of a tick, then its cycle."""
        if tick.call:
            CALLS[tick.call](self.supervisor)
        self.now += tick.advance
        state = RobotState(
            stamp=self.now,
            joint_position=tick.position,
            joint_velocity=np.zeros(J),
            joint_effort=np.zeros(J),
            orientation=tick.orientation,
            angular_velocity=np.zeros(3),
            linear_acceleration=np.zeros(3),
        )
        command = None if tick.command is None else JointCommand(self.now, tick.command)
        return self.supervisor.cycle(state, command, tick.blind)


@given(joints, hnp.arrays(float, J, elements=st.floats(0, 1)), joints, st.integers(1, 20))
def test_a_target_stays_within_all_limits_whatever_is_wanted(target, share, second, repeat):
    start = ROBOT.lower + share * (ROBOT.upper - ROBOT.lower)
    last = LimitedTarget(start, np.zeros(J))
    for wanted in [target] * repeat + [second] * repeat:
        now = limit_target(ROBOT, wanted, last, PERIOD)
        assert np.isfinite(now.position).all()
        assert np.isfinite(now.velocity).all()
        assert (now.position >= ROBOT.lower).all()
        assert (now.position <= ROBOT.upper).all()
        step = now.position - last.position
        assert (np.abs(step) <= STEP + TINY).all()
        change = np.abs(step - last.velocity * PERIOD)
        # the one exception: a joint that reaches its position limit stops there at once
        stopped = (now.position == ROBOT.lower) | (now.position == ROBOT.upper)
        assert ((change <= CHANGE + TINY) | stopped).all()
        last = now


@settings(max_examples=300)
@given(st.booleans(), courses(clocks, CALLS, max_size=60))
def test_every_decision_is_finite_within_the_limits_and_limp_when_relaxed(standing, course):
    ride = Ride(standing)
    last = ride.take(Tick())
    for tick in course:
        decision = ride.take(tick)
        assert decision.position.shape == (J,)
        assert np.isfinite(decision.position).all()
        assert (decision.position >= ROBOT.lower).all()
        assert (decision.position <= ROBOT.upper).all()
        assert decision.torque == (decision.mode != Mode.RELAXED)
        assert decision.mode == Mode.TRACK or decision.reason
        limp = not last.torque or tick.call == 'reset'
        if decision.torque and limp and np.isfinite(tick.position).all():
            measured = np.clip(tick.position, ROBOT.lower, ROBOT.upper)
            assert (np.abs(decision.position - measured) <= STEP + TINY).all()
        elif decision.torque:
            assert (np.abs(decision.position - last.position) <= STEP + TINY).all()
        last = decision


@settings(max_examples=300)
@given(st.booleans(), courses(clocks, CALLS, max_size=60))
def test_a_fault_is_latched_until_it_is_cleared(standing, course):
    ride = Ride(standing)
    for tick in course:
        before = '' if tick.call == 'clear' else ride.supervisor.fault
        decision = ride.take(tick)
        if before:
            assert ride.supervisor.fault  # a worse one may take its place
        if ride.supervisor.fault:
            assert decision.mode in (Mode.CROUCH, Mode.RELAXED)
            assert decision.reason
        if tick.call in ('fail', 'torque off'):
            assert not decision.torque  # in this very cycle


@given(
    st.booleans(),
    courses(forward, CALLS, max_size=20),
    courses(forward, set(CALLS) - {'clear', 'reset'}, max_size=80),
)
def test_stop_relaxes_within_the_time_of_a_crouch_and_a_tick(standing, before, after):
    ride = Ride(standing)
    for tick in before:
        ride.take(tick)
    ride.take(Tick(call='stop'))
    since = ride.now
    for tick in [*after, *[Tick()] * 60]:
        decision = ride.take(tick)
        if ride.now - since >= CONFIG.crouch * 1e9:
            assert decision.mode == Mode.RELAXED
    assert not decision.torque


@given(st.lists(jumps, min_size=60, max_size=60))
def test_stop_relaxes_in_as_many_ticks_though_the_clock_jumps(advances):
    """A clock that jumps in every tick must not keep the torque on for ever."""
    ride = Ride(standing=True)
    ride.take(Tick(call='stop'))
    modes = [ride.take(Tick(advance)).mode for advance in advances]
    assert set(modes) <= {Mode.CROUCH, Mode.RELAXED}
    assert modes[-1] == Mode.RELAXED


@given(joints, st.booleans(), st.none() | joints)
def test_torque_comes_on_where_the_robot_is(position, waited, reset):
    """The first target is where the joints were measured, not where the driver began."""
    ride = Ride()
    if reset is not None:
        ride.supervisor.reset(reset)
    if waited:
        ride.take(Tick(position=position, command=None))
    decision = ride.take(Tick(position=position))
    assert decision.torque
    if np.isfinite(position).all():
        measured = np.clip(position, ROBOT.lower, ROBOT.upper)
        assert (np.abs(decision.position - measured) <= STEP + TINY).all()
    assert np.isfinite(decision.position).all()
