"""The servo model by hand numbers: torque, speed, gain, dead band, latency, strength."""

import mujoco
import numpy as np
import pytest

from lebot_rl_ros.sim.randomisation import NOMINAL, Randomisation
from lebot_rl_ros.sim.simulation import Simulation

HIP = 0
FAR = 50.0  # rad: a target this far saturates any gain
RELAXED_HEAVY = 1e6  # kg: a base that stays where it is


def clamp(lebot, randomisation=NOMINAL, inertia=None):
    """One robot in zero gravity, its base fixed; ``inertia`` replaces the first hip's."""
    simulation = Simulation(lebot, randomisation=randomisation)
    model = simulation.models[0]
    base = model.body('base_link').id
    model.opt.gravity[:] = 0
    model.body_mass[base] = RELAXED_HEAVY
    model.body_inertia[base] = RELAXED_HEAVY
    if inertia:
        model.dof_armature[model.joint('fl_hip').dofadr[0]] = inertia
    mujoco.mj_setConst(model, mujoco.MjData(model))
    simulation.qpos[:, 2] = 1.0
    return simulation


def hip(simulation):
    state = simulation.sense()
    return state.joint_position[0, HIP], state.joint_velocity[0, HIP]


def run(simulation, lebot, offset, periods):
    target = simulation.sense().joint_position.copy()
    target[0, HIP] = lebot.stand[HIP] + offset
    for _ in range(periods):
        simulation.step(target)


def test_stall_torque_at_zero_speed(lebot):
    """A flywheel of 1,000 kg·m² takes up (1.9 - 0.04 of friction) N·m for 20 ms."""
    simulation = clamp(lebot, inertia=1000.0)
    run(simulation, lebot, FAR, 1)
    assert hip(simulation)[1] == pytest.approx((1.9 - 0.04) / 1000.0 * 0.02, rel=0.01)
    assert simulation.sense().joint_effort[0, HIP] == pytest.approx(1.9, rel=1e-3)


def test_torque_is_gain_times_error_below_stall(lebot):
    """0.1 rad less the dead band of 0.009, times 14 N·m/rad."""
    simulation = clamp(lebot, inertia=1000.0)
    run(simulation, lebot, 0.1, 1)
    expected = 14.0 * (0.1 - 0.009)
    assert hip(simulation)[1] == pytest.approx((expected - 0.04) / 1000.0 * 0.02, rel=0.01)
    assert simulation.sense().joint_effort[0, HIP] == pytest.approx(expected, rel=1e-3)


def test_no_load_speed_and_the_way_to_it(lebot):
    """dw/dt = (T - f - d w) / I, so w(t) = (T - f) / d (1 - exp(-d t / I))."""
    simulation = clamp(lebot)
    simulation.qpos[0, 7 + HIP] = lebot.lower[HIP]
    model = simulation.models[0]
    data = mujoco.MjData(model)
    data.qpos[:] = simulation.qpos[0]
    mujoco.mj_forward(model, data)
    mass = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, mass, data.qM) if hasattr(data, 'qM') else mujoco.mj_fullM(
        model, data, mass
    )
    inertia, damping = mass[6, 6], 1.9 / 5.2
    top = (1.9 - 0.04) / damping
    for period in range(1, 16):
        run(simulation, lebot, FAR, 1)
        expected = top * (1 - np.exp(-damping * 0.02 * period / inertia))
        assert hip(simulation)[1] == pytest.approx(expected, rel=0.06)
    assert hip(simulation)[1] == pytest.approx(5.2, rel=0.04)
    assert hip(simulation)[0] < lebot.upper[HIP]
    # at that speed the back-EMF has eaten all but the friction
    assert simulation.sense().joint_effort[0, HIP] == pytest.approx(0.04, abs=0.03)


def test_half_the_voltage_halves_torque_and_speed(lebot):
    half = Randomisation(strength=(0.5, 0.5))
    stalled = clamp(lebot, half, inertia=1000.0)
    run(stalled, lebot, FAR, 1)
    assert hip(stalled)[1] == pytest.approx((0.95 - 0.04) / 1000.0 * 0.02, rel=0.01)
    free = clamp(lebot, half)
    free.qpos[0, 7 + HIP] = lebot.lower[HIP]
    run(free, lebot, FAR, 20)
    assert hip(free)[1] == pytest.approx((0.95 - 0.04) / (1.9 / 5.2), rel=0.02)


@pytest.mark.parametrize(('latency', 'share'), [(0.0, 1.0), (0.005, 0.75), (0.01, 0.5), (0.02, 0)])
def test_latency_in_substeps(lebot, latency, share):
    """Of the first period's four substeps, those after the latency push the flywheel."""
    simulation = clamp(lebot, Randomisation(latency=(latency, latency)), inertia=1000.0)
    run(simulation, lebot, FAR, 1)
    expected = share * (1.9 - 0.04) / 1000.0 * 0.02
    assert hip(simulation)[1] == pytest.approx(expected, rel=0.01, abs=1e-12)


def test_latency_of_more_than_a_period(lebot):
    simulation = clamp(lebot, Randomisation(latency=(0.03, 0.03)), inertia=1000.0)
    speeds = []
    for _ in range(3):
        run(simulation, lebot, FAR, 1)
        speeds.append(hip(simulation)[1] / ((1.9 - 0.04) / 1000.0 * 0.02))
    np.testing.assert_allclose(speeds, [0, 0.5, 1.5], atol=0.02)


def test_nothing_moves_inside_the_dead_band(lebot):
    simulation = clamp(lebot)
    run(simulation, lebot, 0.0085, 20)
    assert hip(simulation)[0] == pytest.approx(lebot.stand[HIP], abs=1e-9)
    assert simulation.sense().joint_effort[0, HIP] == pytest.approx(0, abs=1e-9)


def test_a_step_settles_to_the_dead_band(lebot):
    """Left over: the dead band and what friction holds against the gain, 0.04 / 14 rad."""
    simulation = clamp(lebot)
    run(simulation, lebot, 0.3, 50)
    position, velocity = hip(simulation)
    assert abs(velocity) < 0.01  # friction creeps a little in MuJoCo
    assert 0 <= lebot.stand[HIP] + 0.3 - position <= 0.009 + 0.04 / 14 + 1e-3


def test_a_wider_dead_band_leaves_more(lebot):
    simulation = clamp(lebot, Randomisation(dead_band=(3.0, 3.0)))
    run(simulation, lebot, 0.026, 20)
    assert hip(simulation)[0] == pytest.approx(lebot.stand[HIP], abs=1e-9)


def test_effort_is_what_mujoco_says(lebot):
    """The published effort equals MuJoCo's actuator force less the joint's damping."""
    simulation = Simulation(lebot)
    rng = np.random.default_rng(0)
    for _ in range(10):
        simulation.step(lebot.stand + rng.uniform(-0.4, 0.4, (1, 8)))
    model = simulation.models[0]
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = simulation.qpos[0], simulation.qvel[0]
    data.ctrl[:] = simulation._control[0, -1]
    mujoco.mj_forward(model, data)
    expected = data.actuator_force - lebot.servo.damping * data.qvel[6:]
    np.testing.assert_allclose(simulation.sense().joint_effort[0], expected, atol=1e-9)


def test_a_sagging_supply_takes_torque_and_speed_alike(lebot):
    """3.7 V of 7.4: half the stall torque, and half the no-load speed but for the friction."""
    simulation = clamp(lebot, inertia=1000.0)
    simulation.set_supply(0, 3.7)
    run(simulation, lebot, FAR, 1)
    assert simulation.sense().joint_effort[0, HIP] == pytest.approx(0.95, rel=1e-3)
    drawn = Simulation(lebot, randomisation=Randomisation(supply=(0.5, 0.5)))
    np.testing.assert_allclose(drawn.models[0].actuator_forcerange[:, 1], 0.95)
    drawn.reset()
    np.testing.assert_allclose(drawn.models[0].actuator_forcerange[:, 1], 0.95)
