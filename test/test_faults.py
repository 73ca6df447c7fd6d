"""Faults: the text that asks for them, and what each does to the physics."""

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.sim.fault_text import JOINT_FAULTS, WORLD_FAULTS, Fault, parse_fault
from lebot_rl_ros.sim.faults import inject
from lebot_rl_ros.sim.simulation import Simulation

NAMES = ('fl_hip', 'fl_knee', 'rr_hip')
KNEE = 1  # fl_knee
TIMES = st.floats(0, 1e6)
AMOUNTS = st.floats(0, 1e3)
FAULTS = st.one_of(
    st.builds(
        Fault,
        st.sampled_from(['dead', 'stuck']),
        st.sampled_from(NAMES),
        st.just(float('nan')),
        TIMES,
    ),
    st.builds(Fault, st.just('weak'), st.sampled_from(NAMES), AMOUNTS, TIMES),
    st.builds(Fault, st.just('slip'), st.sampled_from(NAMES), st.floats(-3, 3), TIMES),
    st.builds(Fault, st.sampled_from([*WORLD_FAULTS]), st.just(''), AMOUNTS, TIMES),
)


@given(FAULTS)
def test_text_and_back(fault):
    again = parse_fault(str(fault), NAMES)
    assert repr(again) == repr(fault)  # nan is not equal to itself, its repr is
    assert str(again) == str(fault)


@pytest.mark.parametrize(
    ('text', 'kind', 'joint', 'value', 'time'),
    [
        ('weak:fl_hip:0.4@5', 'weak', 'fl_hip', 0.4, 5),
        ('weak:fl_hip@5', 'weak', 'fl_hip', 0.4, 5),
        ('slip:rr_hip:-0.35@10', 'slip', 'rr_hip', -0.35, 10),
        ('slip:rr_hip', 'slip', 'rr_hip', 0.35, 0),
        ('payload:0.3@2.5', 'payload', '', 0.3, 2.5),
        ('payload', 'payload', '', 0.35, 0),
        ('friction:0.2', 'friction', '', 0.2, 0),
    ],
)
def test_text_with_its_defaults(text, kind, joint, value, time):
    assert parse_fault(text, NAMES) == Fault(kind, joint, value, time)


@pytest.mark.parametrize('kind', ['dead', 'stuck'])
def test_text_without_a_number(kind):
    fault = parse_fault(f'{kind}:fl_knee@20', NAMES)
    assert (fault.kind, fault.joint, fault.time) == (kind, 'fl_knee', 20)
    assert str(fault) == f'{kind}:fl_knee@20'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (
            'ded:fl_knee@20',
            'unknown kind .ded.; kinds are dead, weak, stuck, slip, payload, sag, fric',
        ),
        ('', 'unknown kind'),
        ('dead:knee@20', "unknown joint 'knee'; joints are fl_hip, fl_knee, rr_hip"),
        ('dead@20', "unknown joint ''; joints are fl_hip"),
        ('dead:fl_knee:1@20', 'dead takes no number'),
        ('weak:fl_knee:1:2@20', 'weak takes one number'),
        ('weak:fl_knee:much@20', 'expected numbers, as in slip:rr_hip:0.35@10'),
        ('weak:fl_knee:0.4@soon', 'expected numbers'),
        ('weak:fl_knee:0.4@-1', 'time must be 0 or more'),
        ('weak:fl_knee:0.4@inf', 'time must be 0 or more'),
        ('friction:nan', 'the value finite'),
        ('friction:-0.1', 'friction is -0.1, must be 0 or more'),
        ('payload:-0.1', 'payload is -0.1, must be 0 or more'),
        ('weak:fl_hip:-1', 'weak is -1, must be 0 or more'),
    ],
)
def test_wrong_text_is_refused_with_the_choices(text, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_fault(text, NAMES)
    assert repr(text) in str(error.value)


def simulate(lebot, *faults, periods=100, robots=1):
    simulation = Simulation(lebot, robots)
    for text in faults:
        inject(parse_fault(text, lebot.joint_names), simulation)
    for _ in range(periods):
        simulation.step(np.tile(lebot.stand, (robots, 1)))
    return simulation


def test_every_kind_can_be_injected_and_hits_one_robot_only(lebot):
    healthy = simulate(lebot, periods=20)
    for kind in [*JOINT_FAULTS, *WORLD_FAULTS]:
        text = f'{kind}:fl_knee' if kind in JOINT_FAULTS else f'{kind}'
        both = simulate(lebot, text, periods=20, robots=2)
        np.testing.assert_array_equal(both.qpos[1], healthy.qpos[0], err_msg=kind)


def test_a_reset_undoes_every_fault(lebot):
    simulation = simulate(
        lebot, 'dead:fl_knee', 'weak:fr_hip', 'stuck:rl_hip', 'slip:rr_hip', 'payload', 'friction'
    )
    simulation.reset()
    fresh = Simulation(lebot)
    for one in (simulation, fresh):
        for _ in range(30):
            one.step(lebot.crouch[None])
    np.testing.assert_allclose(simulation.qpos, fresh.qpos, atol=1e-12)


def test_dead_does_not_follow(lebot):
    """Told to fold by 0.5 rad, the healthy knees do; the dead one goes where the body takes it."""
    fold = lebot.stand.copy()
    fold[1::2] -= 0.5
    simulation = Simulation(lebot)
    inject(parse_fault('dead:fl_knee', lebot.joint_names), simulation)
    for _ in range(25):
        simulation.step(fold[None])
        drive = simulation.sense().joint_effort[0] + lebot.servo.damping * simulation.qvel[0, 6:]
        assert drive[KNEE] == 0
        assert np.abs(np.delete(drive, KNEE)).max() > 0.01
    knees = simulation.sense().joint_position[0, 1::2] - lebot.stand[1::2]
    assert knees[1:].max() < -0.4
    assert knees[0] > -0.3


def test_weak_has_that_share_of_its_torque(lebot):
    simulation = Simulation(lebot)
    inject(parse_fault('weak:fl_knee:0.25', lebot.joint_names), simulation)
    np.testing.assert_allclose(
        simulation.models[0].actuator_forcerange[:2], [[-1.9, 1.9], [-0.475, 0.475]]
    )
    inject(parse_fault('weak:fl_knee:0.5', lebot.joint_names), simulation)
    np.testing.assert_allclose(simulation.models[0].actuator_forcerange[KNEE, 1], 0.2375)


def test_weak_and_torque_off_and_on_stays_weak(lebot):
    simulation = Simulation(lebot)
    inject(parse_fault('weak:fl_knee:0.5', lebot.joint_names), simulation)
    simulation.set_torque(0, on=False)
    np.testing.assert_array_equal(simulation.models[0].actuator_forcerange, 0)
    simulation.set_torque(0, on=True)
    np.testing.assert_allclose(simulation.models[0].actuator_forcerange[:2, 1], [1.9, 0.95])


def test_stuck_does_not_turn(lebot):
    simulation = Simulation(lebot)
    inject(parse_fault('stuck:fl_knee', lebot.joint_names), simulation)
    before = simulation.qpos[0, 7 + KNEE]
    moved = []
    for period in range(100):
        sway = 0.4 * np.sin(period / 5)
        simulation.step((lebot.stand + sway)[None])
        moved.append(simulation.qpos[0, 7:] - lebot.stand)
    travel = np.ptp(moved, axis=0)
    assert abs(simulation.qpos[0, 7 + KNEE] - before) < 0.05
    assert travel[KNEE] < 0.05
    assert np.delete(travel, KNEE).min() > 0.3


def test_slip_shifts_the_true_angle_and_hides_it(lebot):
    simulation = simulate(lebot, 'slip:fl_knee:0.3')
    sensed = simulation.sense().joint_position[0, KNEE]
    assert sensed == pytest.approx(lebot.stand[KNEE], abs=0.06)
    assert simulation.qpos[0, 7 + KNEE] == pytest.approx(sensed + 0.3)


def test_slip_is_seen_at_once_by_the_sensor(lebot):
    simulation = Simulation(lebot)
    before = simulation.sense().joint_position[0].copy()
    inject(parse_fault('slip:fl_knee:0.3', lebot.joint_names), simulation)
    change = simulation.sense().joint_position[0] - before
    np.testing.assert_allclose(change, [0, -0.3, 0, 0, 0, 0, 0, 0], atol=1e-12)


def test_payload_weighs_on_the_servos_and_shifts_the_centre(lebot):
    simulation = Simulation(lebot)
    nominal, model = simulation.nominal, simulation.models[0]
    base = nominal.body('base_link').id
    inject(parse_fault('payload:0.5', lebot.joint_names), simulation)
    mass = nominal.body_mass[base]
    assert model.body_mass[base] == pytest.approx(mass + 0.5)
    assert model.body_ipos[base, 0] == pytest.approx(0.10 * 0.5 / (mass + 0.5))
    data = mujoco.MjData(model)
    mujoco.mj_resetData(model, data)
    mujoco.mj_forward(model, data)
    assert mujoco.mj_getTotalmass(model) == pytest.approx(1.9, abs=0.01)
    loaded, healthy = simulate(lebot, 'payload:0.5'), simulate(lebot)
    assert (
        np.abs(loaded.sense().joint_effort).sum()
        > 1.2 * np.abs(healthy.sense().joint_effort).sum()
    )


def test_friction_lets_it_slide(lebot):
    """At 0.5 m/s it slides v² / (2 mu g): 0.127 m at mu = 0.1, 0.016 m at 0.8."""

    def slide(*faults):
        simulation = simulate(lebot, *faults, periods=10)
        start = simulation.truth().position[0, 0]
        simulation.qvel[0, 0] = 0.5
        for _ in range(100):
            simulation.step(lebot.stand[None])
        return simulation.truth().position[0, 0] - start

    assert slide('friction:0.1') == pytest.approx(0.127, rel=0.15)
    assert slide() < 0.05
