"""Reward terms by hand numbers, and the same for one robot, many, and a whole bag."""

from dataclasses import replace

import numpy as np
import pytest

from lebot_rl_ros.mdp import rewards
from lebot_rl_ros.mdp.commands import ActionSpace, Gait
from lebot_rl_ros.mdp.task import make_step
from lebot_rl_ros.mdp.terminations import fallen
from lebot_rl_ros.robot import rotations
from steps import at, random_step, standing, with_state


def test_tracking_is_one_on_target_and_falls_off_both_sides(lebot):
    step = standing(lebot)
    exact = replace(step, velocity=np.array([0.3, 0.2, 0.1]))
    assert rewards.track_linear_velocity(lebot, exact) == 1
    slow, fast = (
        rewards.track_linear_velocity(lebot, replace(step, velocity=np.array([v, 0, 0])))
        for v in (0.25, 0.35)
    )
    assert slow == pytest.approx(fast)
    assert 0 < slow < 1
    turning = with_state(
        replace(step, command=np.array([0.3, 0.4])), angular_velocity=np.array([1, 1, 0.4])
    )
    assert rewards.track_yaw_rate(lebot, turning) == 1


@pytest.mark.parametrize('sign', [1, -1])
def test_tracking_width_grows_with_the_command(lebot, sign):
    """The same error of 0.1 costs more at a crawl than at speed; so for yaw."""

    def linear(wanted):
        step = replace(
            standing(lebot),
            command=np.array([wanted, 0]),
            velocity=np.array([wanted + 0.1, 0, 0]),
        )
        return float(rewards.track_linear_velocity(lebot, step))

    def yaw(wanted):
        step = replace(standing(lebot), command=np.array([0, wanted]))
        step = with_state(step, angular_velocity=np.array([0, 0, wanted + 0.1]))
        return float(rewards.track_yaw_rate(lebot, step))

    for term in (linear, yaw):
        values = [term(sign * speed) for speed in (0.0, 0.2, 0.5)]
        assert values == sorted(values)
        assert values[0] < values[-1]


def test_gait_by_hand(lebot):
    """At three quarters of the cycle the first and last foot are at the top of the swing."""
    step = replace(standing(lebot), phase=np.array(0.75))
    right = replace(step, foot_height=np.array([0.025, 0, 0, 0.025]))
    assert rewards.gait(lebot, right) == pytest.approx(1)
    # all down: the two that should be up, 25 mm short, score exp(-(25 / 12)²) = 0.01305
    assert rewards.gait(lebot, step) == pytest.approx((2 + 2 * 0.013045) / 4, rel=1e-4)
    # the wrong pair up
    wrong = replace(step, foot_height=np.array([0, 0.025, 0.025, 0]))
    assert rewards.gait(lebot, wrong) == pytest.approx(0.013045, rel=1e-3)


def test_standing_wants_all_feet_down_whatever_the_clock(lebot):
    step = replace(standing(lebot), command=np.zeros(2))
    for phase in (0.0, 0.25, 0.6, 0.75):
        assert rewards.gait(lebot, replace(step, phase=np.array(phase))) == 1


def test_penalties_by_hand(lebot):
    step = standing(lebot)
    moved = replace(step, velocity=np.array([0.0, 0.2, 0.0]))
    assert rewards.lateral_velocity(lebot, moved) == pytest.approx(0.04)
    leaning = replace(step, gravity=np.array([0.3, 0.4, -np.sqrt(0.75)]))
    assert rewards.tilt(lebot, leaning) == pytest.approx(0.25)  # sin² of 30 degrees
    rolling = with_state(step, angular_velocity=np.array([1.0, 2.0, 3.0]))
    assert rewards.roll_pitch_rate(lebot, rolling) == 5
    jerky = replace(step, action=np.full(8, 0.5), previous_action=np.full(8, 0.25))
    assert rewards.action_rate(lebot, jerky) == pytest.approx(8 * 0.0625)
    straining = with_state(step, joint_effort=np.full(8, 0.5))
    assert rewards.torque(lebot, straining) == 2
    assert rewards.alive(lebot, step) == 1


def test_errors_by_hand(lebot):
    step = with_state(
        replace(standing(lebot), velocity=np.array([0.1, 0, 0])),
        angular_velocity=np.array([0, 0, -0.5]),
    )
    # 0.2 m/s short of 0.3 counts 1.9 times; turning when asked to go straight counts once
    assert rewards.speed_error(lebot, step) == pytest.approx(0.2 * 1.9)
    assert rewards.yaw_rate_error(lebot, step) == pytest.approx(0.5)
    fast = replace(step, velocity=np.array([0.5, 0, 0]), command=np.array([0.3, -1.0]))
    assert rewards.speed_error(lebot, fast) == pytest.approx(0.2)
    assert rewards.yaw_rate_error(lebot, fast) == pytest.approx(0.5 * 1.5)


def test_standing_pose_counts_only_when_asked_to_stand(lebot):
    step = with_state(standing(lebot), joint_position=lebot.stand + 0.1)
    assert rewards.standing_pose(lebot, step) == 0
    assert rewards.standing_pose(lebot, replace(step, command=np.zeros(2))) == pytest.approx(0.08)


@pytest.mark.parametrize('name', rewards.TERMS)
def test_one_robot_a_batch_and_a_bag_agree(robot, name):
    term = rewards.TERMS[name]
    bag = random_step(robot, 5, 3)
    whole = term(robot, bag)
    assert whole.shape == (5, 3)
    np.testing.assert_allclose(term(robot, at(bag, 2)), whole[2], rtol=1e-12)
    for index in np.ndindex(5, 3):
        one = term(robot, at(bag, index))
        assert np.shape(one) == ()
        np.testing.assert_allclose(one, whole[index], rtol=1e-12)


def test_weights_scale_terms_and_zero_leaves_them_out(lebot):
    config = rewards.RewardConfig({'alive': 0.5, 'torque': -0.1, 'tilt': 0.0})
    step = with_state(standing(lebot), joint_effort=np.full(8, 0.5))
    terms = rewards.reward_terms(config, lebot, step)
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {'alive': 0.5, 'torque': -0.2}
    )


def test_an_unknown_term_is_refused_with_the_known():
    with pytest.raises(ValueError, match=r"\['speed'\]; known are track_linear_velocity"):
        rewards.RewardConfig({'speed': 1.0})


def test_default_weights_name_known_terms_and_punish_what_hurts():
    assert set(rewards.DEFAULT_WEIGHTS) <= set(rewards.TERMS)
    assert rewards.RewardConfig().weights == rewards.DEFAULT_WEIGHTS
    assert rewards.RewardConfig().fall < 0
    assert all(rewards.DEFAULT_WEIGHTS[name] < 0 for name in ('tilt', 'torque', 'action_rate'))


def test_fallen_is_tilt_beyond_the_robots_limit(robot):
    angles = np.array([0.0, robot.fall_tilt - 0.01, robot.fall_tilt + 0.01, np.pi])
    for axis in range(2):
        rpy = np.zeros((4, 3))
        rpy[:, axis] = angles
        gravity = rotations.gravity_in_body(rotations.from_roll_pitch_yaw(rpy))
        np.testing.assert_array_equal(fallen(robot, gravity), [False, False, True, True])


def test_make_step_derives_what_the_terms_look_at(lebot):
    """Standing level: still, all feet down; one knee folded by hand lifts that foot."""
    step = standing(lebot, 2)
    position = np.tile(lebot.stand, (2, 1))
    position[1, 1] -= 0.3
    state = replace(
        step.state, joint_position=position, stamp=np.array([0, 125_000_000], dtype=np.int64)
    )
    made = make_step(lebot, Gait(), state, step.command, step.action, step.previous_action)
    np.testing.assert_array_equal(made.gravity, [[0, 0, -1]] * 2)
    np.testing.assert_allclose(made.velocity, 0, atol=1e-12)
    np.testing.assert_allclose(made.foot_height[0], 0, atol=1e-3)
    # z of the foot is -(0.08 cos(hip) + 0.085 cos(hip + knee)) below its hip
    lift = 0.085 * (np.cos(0.65 - 1.27) - np.cos(0.65 - 1.57))
    np.testing.assert_allclose(made.foot_height[1], [lift, 0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(made.phase, [0, 0.25])


def test_make_step_without_feet_serves_observations_and_fails_terms(lebot):
    step = standing(lebot)
    made = make_step(
        lebot, Gait(), step.state, step.command, step.action, step.previous_action, feet_too=False
    )
    np.testing.assert_array_equal(made.gravity, step.gravity)
    with pytest.raises(IndexError):
        rewards.track_linear_velocity(lebot, made)


def test_action_space_by_hand(lebot):
    space = ActionSpace(scale=0.6)
    np.testing.assert_allclose(space.target(lebot, np.full(8, 0.5)), lebot.stand + 0.3)
    np.testing.assert_allclose(space.target(lebot, np.full(8, -7.0)), lebot.stand - 0.6)
    action = np.random.default_rng(0).uniform(-1, 1, (3, 8))
    np.testing.assert_allclose(
        space.action(lebot, space.target(lebot, action)), action, atol=1e-12
    )
