"""A load on the body and a floor that is not level: by hand, and by what the physics does."""

import math
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.robot import load_robot, rotations
from lebot_rl_ros.sim.conditions import LOAD_POSITION, strap, tilt_floor
from lebot_rl_ros.sim.fault_text import parse_fault
from lebot_rl_ros.sim.faults import inject
from lebot_rl_ros.sim.model import FLOOR, build_model, standing_height
from lebot_rl_ros.sim.randomisation import NOMINAL, TRAINING, Randomisation
from lebot_rl_ros.sim.render import Renderer, follow
from lebot_rl_ros.sim.simulation import TIMESTEP, Simulation

MODEL = build_model(load_robot(), TIMESTEP)
SLOPES, DIRECTIONS = st.floats(0.01, 0.6), st.floats(-math.pi, math.pi)


def inertia_of(model, body):
    axes = np.empty(9)
    mujoco.mju_quat2Mat(axes, model.body_iquat[body])
    axes = axes.reshape(3, 3)
    return axes @ np.diag(model.body_inertia[body]) @ axes.T


def normal_of(model):
    axes = np.empty(9)
    mujoco.mju_quat2Mat(axes, model.geom_quat[model.geom(FLOOR).id])
    return axes.reshape(3, 3)[:, 2]


def above_floor(simulation, index=0):
    """Distance (m) of base_link from the floor."""
    model = simulation.models[index]
    place = simulation.qpos[index, :3] - model.geom_pos[model.geom(FLOOR).id]
    return place @ normal_of(model)


def stand(simulation, periods):
    targets = np.tile(simulation.robot.stand, (simulation.robots, 1))
    for _ in range(periods):
        simulation.step(targets)
    return simulation


def test_load_by_hand(lebot):
    """1.02 kg and 0.34 kg turn about their common centre as 1.02 * 0.34 / 1.36 = 0.255 kg."""
    model = build_model(lebot, TIMESTEP)
    base = model.body('base_link').id
    before = inertia_of(model, base)
    np.testing.assert_allclose(np.diag(before), [0.0013345, 0.006052, 0.0067745], atol=1e-12)
    strap(model, base, 0.34, (0.12, 0.04, 0.02))
    assert model.body_mass[base] == pytest.approx(1.36)
    np.testing.assert_allclose(model.body_ipos[base], [0.03, 0.01, 0.005], atol=1e-12)
    added = 0.255 * np.array([
        [0.04**2 + 0.02**2, -0.12 * 0.04, -0.12 * 0.02],
        [-0.12 * 0.04, 0.12**2 + 0.02**2, -0.04 * 0.02],
        [-0.12 * 0.02, -0.04 * 0.02, 0.12**2 + 0.04**2],
    ])  # fmt: skip
    np.testing.assert_allclose(inertia_of(model, base), before + added, atol=1e-12)


@given(
    st.floats(0.01, 2.0),
    st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    st.tuples(*[st.floats(-0.3, 0.3)] * 3),
)
def test_the_order_of_two_loads_does_not_matter(mass, first, second):
    base, tensors = MODEL.body('base_link').id, []
    for order in ((first, second), (second, first)):
        model = build_model(load_robot(), TIMESTEP)
        for place in order:
            strap(model, base, mass, place)
        mujoco.mj_setConst(model, mujoco.MjData(model))
        tensors.append((inertia_of(model, base), model.body_ipos[base].copy()))
        assert np.linalg.norm(model.body_iquat[base]) == pytest.approx(1.0)
    for one, other in zip(*tensors, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_mujoco_takes_the_load_into_account(lebot):
    """The engine has a shortcut for bodies whose centre is their origin; here it must not."""
    simulation = Simulation(
        lebot, randomisation=Randomisation(load=(0.35, 0.35), load_position=(0.1, 0.05, 0.05))
    )
    model, data = simulation.models[0], mujoco.MjData(simulation.models[0])
    data.qpos[:] = simulation.qpos[0]
    mujoco.mj_forward(model, data)
    base = model.body('base_link').id
    np.testing.assert_allclose(
        data.xipos[base] - data.xpos[base], 0.35 / 1.37 * np.array([0.1, 0.05, 0.05]), atol=1e-9
    )
    assert mujoco.mj_getTotalmass(model) == pytest.approx(1.4 + 0.35, abs=1e-3)


def test_a_drawn_load_is_the_faults(lebot):
    """One way to strap, whoever asks for it."""
    drawn = Simulation(lebot, randomisation=Randomisation(load=(0.4, 0.4)))
    fault = Simulation(lebot)
    inject(parse_fault('payload:0.4', lebot.joint_names), fault)
    np.testing.assert_array_equal(stand(drawn, 30).qpos, stand(fault, 30).qpos)
    assert drawn.loads == fault.loads == [[(0.4, LOAD_POSITION)]]
    fault.reset()
    assert fault.loads == [[]]
    np.testing.assert_array_equal(stand(fault, 30).qpos, stand(Simulation(lebot), 30).qpos)


def test_loads_and_slopes_are_drawn_from_their_ranges(lebot):
    ranges = Randomisation(load=(0.1, 0.5), slope=(0.05, 0.1))
    simulation = Simulation(lebot, 300, seed=1, randomisation=ranges)
    masses = np.array([loads[0][0] for loads in simulation.loads])
    assert 0.1 <= masses.min() < 0.12
    assert 0.48 < masses.max() <= 0.5
    normals = np.array([normal_of(model) for model in simulation.models])
    slopes = np.arccos(normals[:, 2])
    assert 0.05 <= slopes.min() < 0.052
    assert 0.098 < slopes.max() <= 0.1 + 1e-12
    directions = np.arctan2(-normals[:, 1], -normals[:, 0])
    assert np.histogram(directions, 4, (-np.pi, np.pi))[0].min() > 50


def test_other_draws_stay_as_they_are(lebot):
    """A seed's robot on a slope with a load is that seed's robot, in its friction and all else."""
    plain = Simulation(lebot, 1, seed=4, randomisation=TRAINING)
    hard = Simulation(
        lebot, 1, seed=4, randomisation=replace(TRAINING, slope=(0.1, 0.1), load=(0.3, 0.3))
    )
    for name in ('geom_friction', 'actuator_gainprm', 'actuator_forcerange'):
        np.testing.assert_array_equal(
            getattr(plain.models[0], name), getattr(hard.models[0], name), err_msg=name
        )
    np.testing.assert_array_equal(plain.horn_offset, hard.horn_offset)
    np.testing.assert_array_equal(plain.models[0].body_mass[2:], hard.models[0].body_mass[2:])


@given(SLOPES, DIRECTIONS, SLOPES, DIRECTIONS)
def test_the_robot_turns_with_the_floor(slope, direction, later, other):
    """Any slope after any other: the floor is as said, and the robot as before relative to it."""
    model = build_model(load_robot(), TIMESTEP)
    floor = model.geom(FLOOR).id
    qpos, qvel = np.zeros(model.nq), np.zeros(model.nv)
    qpos[:7] = (0.3, -0.2, 0.2, *rotations.from_roll_pitch_yaw(np.array([0.1, 0.2, 0.7])))
    qvel[:6] = (0.3, 0.1, -0.2, 1.0, 2.0, 3.0)

    def relative():
        back = model.geom_quat[floor] * (1, -1, -1, -1)
        place = rotations.rotate_inverse(model.geom_quat[floor], qpos[:3] - model.geom_pos[floor])
        turn = rotations.rotate_inverse(model.geom_quat[floor], qvel[:3])
        return place[2], rotations.multiply(back, qpos[3:7]), turn

    before = relative()
    for angle, way in ((slope, direction), (later, other)):
        tilt_floor(model, qpos, qvel, angle, way)
        np.testing.assert_allclose(
            normal_of(model),
            [-math.sin(angle) * math.cos(way), -math.sin(angle) * math.sin(way), math.cos(angle)],
            atol=1e-12,
        )
        for one, expected in zip(relative(), before, strict=True):
            np.testing.assert_allclose(one, expected, atol=1e-12)
    np.testing.assert_array_equal(qvel[3:6], [1.0, 2.0, 3.0])  # of the body, in the body


def test_standing_on_a_slope_it_feels_gravity_tilted_by_that_angle(robot):
    slope = 0.12
    simulation = Simulation(robot, 6, seed=2, randomisation=Randomisation(slope=(slope, slope)))
    for i in range(simulation.robots):
        assert above_floor(simulation, i) == pytest.approx(standing_height(robot), abs=1e-12)
    gravity = rotations.gravity_in_body(simulation.sense().orientation)
    np.testing.assert_allclose(rotations.tilt(gravity), slope, atol=1e-9)
    assert len(np.unique(gravity[:, 0].round(6))) == 6  # each in a direction of its own
    stand(simulation, 100)
    flat = stand(Simulation(robot), 100)
    state = simulation.sense()
    np.testing.assert_allclose(np.linalg.norm(state.linear_acceleration, axis=1), 9.81, atol=0.05)
    for i in range(simulation.robots):
        up = rotations.rotate_inverse(simulation.qpos[i, 3:7], normal_of(simulation.models[i]))
        flat_up = rotations.rotate_inverse(flat.qpos[0, 3:7], np.array([0.0, 0.0, 1.0]))
        np.testing.assert_allclose(up, flat_up, atol=0.03)  # square to the floor, but for servos
        felt = state.linear_acceleration[i] / np.linalg.norm(state.linear_acceleration[i])
        assert math.acos(felt @ up) == pytest.approx(slope, abs=0.005)
    np.testing.assert_allclose(simulation.truth().linear_velocity, 0, atol=0.01)


@pytest.mark.parametrize(('friction', 'slides'), [(0.1, True), (0.15, True), (0.3, False)])
def test_it_slides_where_friction_is_below_the_slopes_tangent(lebot, friction, slides):
    """On tan = 0.2 it gains g (sin - mu cos) every second, downhill, or nothing at all."""
    slope = math.atan(0.2)
    ranges = replace(NOMINAL, friction=(friction, friction))
    simulation = Simulation(lebot, randomisation=ranges)
    inject(parse_fault(f'slope:{math.degrees(slope)!r}', lebot.joint_names), simulation)
    stand(simulation, 25)
    before = simulation.qvel[0, :3].copy()
    stand(simulation, 50)
    gained = simulation.qvel[0, :3] - before
    if slides:
        expected = 9.81 * (math.sin(slope) - friction * math.cos(slope))
        downhill = np.array([-math.cos(slope), 0, -math.sin(slope)])
        assert gained @ downhill == pytest.approx(expected, rel=0.03)
        assert gained[1] == pytest.approx(0, abs=0.01)
    else:
        np.testing.assert_allclose(gained, 0, atol=0.01)


def test_a_reset_levels_the_floor(lebot):
    simulation = Simulation(lebot)
    inject(parse_fault('slope:10', lebot.joint_names), simulation)
    assert rotations.tilt(rotations.gravity_in_body(simulation.sense().orientation))[0] > 0.17
    simulation.reset()
    np.testing.assert_array_equal(normal_of(simulation.models[0]), [0, 0, 1])
    np.testing.assert_array_equal(simulation.qpos, Simulation(lebot).qpos)
    np.testing.assert_array_equal(stand(simulation, 20).qpos, stand(Simulation(lebot), 20).qpos)


def test_what_is_shown_stands_on_the_same_floor(lebot):
    simulation = Simulation(lebot, 2)
    inject(parse_fault('slope:10', lebot.joint_names), simulation, 1)
    model = build_model(lebot, TIMESTEP, visible=True)
    data = mujoco.MjData(model)
    for index, slope in ((1, 10.0), (0, 0.0)):
        follow(model, data, simulation, index)
        normal = data.geom(FLOOR).xmat.reshape(3, 3)[:, 2]
        assert math.degrees(math.acos(min(normal[2], 1.0))) == pytest.approx(slope, abs=1e-5)
        np.testing.assert_array_equal(data.qpos, simulation.qpos[index])


def test_a_load_is_seen(lebot):
    """Red is nothing else in the picture."""
    simulation = Simulation(lebot)
    try:
        renderer = Renderer(simulation, width=160, height=120)
    except RuntimeError as error:
        pytest.skip(str(error))

    def red_pixels():
        red, green, blue = renderer.draw(simulation).astype(int).transpose(2, 0, 1)
        return int(((red > 60) & (red > 3 * green) & (red > 3 * blue)).sum())

    assert red_pixels() == 0
    inject(parse_fault('payload:0.35', lebot.joint_names), simulation)
    assert red_pixels() > 20
    renderer.close()
