"""The observation layout, its history, the commands and the gait clock."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.mdp.commands import Gait, foot_phases, moving
from lebot_rl_ros.mdp.observations import LIMIT, SCALES, TERMS, History, ObservationLayout
from steps import at, random_step, standing


def test_layout_by_names(lebot, twelve):
    eight = ObservationLayout.of(lebot)
    assert eight.names == (
        'gyro', 'gravity', 'joint_position', 'joint_velocity', 'last_action', 'command', 'phase',
    )  # fmt: skip
    assert eight.widths == (3, 3, 8, 8, 8, 2, 2)
    assert eight.frame == eight.size == 34
    assert ObservationLayout.of(twelve).frame == 3 + 3 + 3 * 12 + 2 + 2
    assert ObservationLayout.of(lebot, history=3).size == 3 * 34
    assert ObservationLayout.of(lebot) == eight
    assert ObservationLayout.of(lebot, ('gyro', 'phase')).scales == (SCALES['gyro'], 1.0)


def test_every_number_is_in_its_place(lebot):
    layout = ObservationLayout.of(lebot)
    step = random_step(lebot)
    step = replace(step, command=np.array([0.3, -0.5]), phase=np.array(0.25))
    parts = dict(
        zip(
            layout.names,
            np.split(layout.observe(lebot, step), np.cumsum(layout.widths)[:-1]),
            strict=True,
        )
    )
    expected = {
        'gyro': 0.3 * step.state.angular_velocity,
        'gravity': step.gravity,
        'joint_position': step.state.joint_position - lebot.stand,
        'joint_velocity': 0.1 * step.state.joint_velocity,
        'last_action': step.action,
        'command': [0.6, -1.0],
        'phase': [1.0, 0.0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(parts[name], values, rtol=1e-6, atol=1e-7, err_msg=name)


def test_standing_silences_the_clock(lebot):
    layout = ObservationLayout.of(lebot, ('phase',))
    step = replace(standing(lebot), phase=np.array(0.25), command=np.array([0.01, -0.01]))
    np.testing.assert_array_equal(layout.observe(lebot, step), [0, 0])


def test_observations_are_float32_and_clipped(lebot):
    step = standing(lebot, 2)
    step = replace(step, state=replace(step.state, joint_velocity=np.full((2, 8), 1e6)))
    seen = ObservationLayout.of(lebot).observe(lebot, step)
    assert seen.dtype == np.float32
    assert seen.max() == LIMIT


def test_nan_is_not_hidden(lebot):
    """The policy refuses what is not finite; clipping must not make it look well."""
    step = standing(lebot)
    step = replace(step, state=replace(step.state, angular_velocity=np.array([np.nan, 0, 0])))
    assert np.isnan(ObservationLayout.of(lebot).observe(lebot, step)[0])


def test_one_robot_a_batch_and_a_bag_agree(robot):
    layout = ObservationLayout.of(robot)
    bag = random_step(robot, 4, 3)
    whole = layout.observe(robot, bag)
    assert whole.shape == (4, 3, layout.frame)
    for index in np.ndindex(4, 3):
        np.testing.assert_array_equal(layout.observe(robot, at(bag, index)), whole[index])


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'names': ('gyro', 'smell')}, r"\['smell'\]; known are gyro, gravity"),
        ({'history': 0}, 'history is 0, must be 1 or more'),
    ],
)
def test_a_wrong_layout_is_refused_with_the_choices(lebot, given, message):
    with pytest.raises(ValueError, match=message):
        ObservationLayout.of(lebot, **given)


def test_all_terms_are_in_the_default_layout(lebot):
    assert ObservationLayout.of(lebot).names == tuple(TERMS)


def frames(layout, count, *shape):
    return np.random.default_rng(0).standard_normal((count, *shape, layout.frame)).astype('f4')


def test_history_is_newest_first(lebot):
    layout = ObservationLayout.of(lebot, history=3)
    history, (a, b, c, d) = History(layout), frames(layout, 4)
    np.testing.assert_array_equal(history(a), np.concatenate((a, a, a)))
    np.testing.assert_array_equal(history(b), np.concatenate((b, a, a)))
    np.testing.assert_array_equal(history(c), np.concatenate((c, b, a)))
    np.testing.assert_array_equal(history(d), np.concatenate((d, c, b)))
    history.reset()
    np.testing.assert_array_equal(history(a), np.concatenate((a, a, a)))


def test_history_of_many_resets_one_by_one(lebot):
    layout = ObservationLayout.of(lebot, history=2)
    history, (a, b) = History(layout, 3), frames(layout, 2, 3)
    history(a)
    history.reset(np.array([False, True, False]))
    seen = history(b).reshape(3, 2, layout.frame)
    np.testing.assert_array_equal(seen[:, 0], b)
    np.testing.assert_array_equal(seen[:, 1], [a[0], b[1], a[2]])


def test_what_history_returned_does_not_change_later(lebot):
    layout = ObservationLayout.of(lebot, history=2)
    history, (a, b) = History(layout), frames(layout, 2)
    first = history(a)
    kept = first.copy()
    history(b)
    np.testing.assert_array_equal(first, kept)


def test_history_of_one_is_the_frame(lebot):
    layout = ObservationLayout.of(lebot)
    (a,) = frames(layout, 1)
    np.testing.assert_array_equal(History(layout)(a), a)


def test_gait_clock_by_hand():
    """At 2 Hz a cycle is half a second."""
    gait = Gait(frequency=2.0)
    stamps = np.array([0, 125, 250, 499, 500, 625]) * 1_000_000
    np.testing.assert_allclose(gait.phase(stamps), [0, 0.25, 0.5, 0.998, 0, 0.25])
    assert float(gait.phase(1_000_000_000 + 125_000_000)) == 0.25


@given(st.integers(0, 2**62), st.floats(0.5, 5))
def test_gait_clock_stays_in_its_range_at_any_stamp(stamp, frequency):
    """Nanoseconds since 1970 have more digits than a float; the phase must not lose them."""
    gait = Gait(frequency=frequency)
    phase = float(gait.phase(stamp))
    assert 0 <= phase < 1
    assert (
        float(gait.phase(stamp + 20_000_000))
        == pytest.approx((phase + 20_000_000 / round(1e9 / frequency)) % 1, abs=1e-9)
        or phase > 1 - 20_000_000 / round(1e9 / frequency) - 1e-9
    )


def test_feet_trot_in_diagonal_pairs(lebot):
    np.testing.assert_allclose(foot_phases(lebot, np.array(0.0)), [0, 0.5, 0.5, 0])
    np.testing.assert_allclose(foot_phases(lebot, np.array(0.75)), [0.75, 0.25, 0.25, 0.75])
    assert foot_phases(lebot, np.zeros((2, 3))).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ('command', 'expected'),
    [([0, 0], 0), ([0.019, -0.019], 0), ([0.02, 0], 1), ([0, -0.02], 1), ([-0.3, 0], 1)],
)
def test_moving_is_any_part_above_standing(command, expected):
    assert moving(np.array(command, dtype=float)) == expected
    assert moving(np.array([command, command], dtype=float)).tolist() == [expected] * 2
