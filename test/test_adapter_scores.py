"""The error that adapters are judged by: by hand, and on robots that do what they are told."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lebot_rl_ros.envs import adapter_scores
from lebot_rl_ros.envs.adapter_scores import Comparison, TaskScore, means, score, velocity_error
from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.robot import rotations
from lebot_rl_ros.sim.randomisation import NOMINAL

STILL = VelocityConfig(randomisation=NOMINAL)


def task_score(error):
    return TaskScore(error, 0.0, 0.0, 0.0)


def test_error_by_hand():
    """0.03 too slow, and the nose 0.2 * 0.15 = 0.03 m/s and a drift of 0.01 m/s aside."""
    asked = np.array([[0.3, 0.5], [0.0, 0.0], [-0.1, 1.0]])
    forward, lateral = np.array([0.27, 0.0, -0.1]), np.array([0.01, 0.0, 0.0])
    yaw_rate = np.array([0.65, 0.0, 0.75])
    np.testing.assert_allclose(
        velocity_error(forward, lateral, yaw_rate, asked), [0.05, 0.0, 0.05], atol=1e-12
    )


def test_who_stands_has_the_full_error_of_the_command(lebot):
    """Zero actions: it stands. sqrt(0.3² + (0.2 * 2)²) = 0.5."""
    result = score(
        lebot, lambda o: np.zeros((len(o), 8)), STILL, [(0.3, 2.0)],
        robots=2, seconds=3.0, seed=1, threads=0,
    )  # fmt: skip
    assert result.error == pytest.approx(0.5, abs=0.01)
    assert result.speed_error == pytest.approx(0.3, abs=0.01)
    assert result.yaw_rate_error == pytest.approx(2.0, abs=0.02)
    assert result.falls_per_minute == 0.0


def test_who_falls_stays_down_and_is_counted_once(lebot, monkeypatch):
    """Told to stand, one robot of two is thrown over at 4 s; it may thrash, but scores as still.

    The one that falls was up for 4 s, the other for 7 s: one fall in 11 s is 5.45 a minute.
    """
    tick = SimpleNamespace(count=0, task=None)
    build = adapter_scores.VelocityTask

    def keep(*args, **kwargs):
        tick.task = build(*args, **kwargs)
        return tick.task

    def act(observation):
        tick.count += 1
        if tick.count >= 201:  # the first action is for period 0
            tick.task.simulation.qpos[0, 2] = 1.0
            tick.task.simulation.qpos[0, 3:7] = rotations.from_roll_pitch_yaw(
                np.array([2.0, 0.0, 0.0])
            )
            tick.task.simulation.qvel[0, 0] = 3.0
        return np.zeros((len(observation), 8))

    monkeypatch.setattr(adapter_scores, 'VelocityTask', keep)
    result = score(lebot, act, STILL, [(0.1, 0.0)], robots=2, seconds=7.0, seed=0, threads=0)
    assert result.falls_per_minute == pytest.approx(60.0 / 11.0, rel=0.01)
    assert result.error == pytest.approx(0.1, abs=0.005)


def test_commands_and_seeds_are_as_said(lebot, monkeypatch):
    """Two commands of three robots: the simulation has six, and its seed is the one asked for."""
    seen = []
    build = adapter_scores.VelocityTask

    def keep(robot, robots, config, **kwargs):
        seen.append((robots, kwargs['seed'], config.randomisation))
        return build(robot, robots, config, **kwargs)

    monkeypatch.setattr(adapter_scores, 'VelocityTask', keep)
    config = replace(STILL, randomisation=replace(NOMINAL, friction=(0.3, 0.3)))
    score(
        lebot, lambda o: np.zeros((len(o), 8)), config, [(0.1, 0.0), (0.2, 0.0)],
        robots=3, seconds=3.0, seed=7, threads=0,
    )  # fmt: skip
    assert seen == [(6, 7, config.randomisation)]


def test_too_short_is_refused(lebot):
    with pytest.raises(ValueError, match=r'seconds is 2, must be 3 or more'):
        score(lebot, lambda o: np.zeros((len(o), 8)), STILL, [(0.1, 0.0)], robots=1, seconds=2.0)


def test_improvement_and_its_interval():
    base = tuple(task_score(e) for e in (0.1, 0.2, 0.3))
    other = tuple(task_score(e) for e in (0.08, 0.1, 0.12))
    comparison = Comparison((1, 2, 3), base, other)
    assert comparison.improvement == pytest.approx(0.5)  # 0.3 of 0.6
    low, high = comparison.interval
    assert low == pytest.approx(0.2)  # the first seed three times
    assert high == pytest.approx(0.6)  # the last one
    assert Comparison((1,), base[:1], base[:1]).interval == (0.0, 0.0)
    assert comparison.as_data()['base']['error'] == pytest.approx(0.2)
    assert means(other)['error_std'] == pytest.approx(0.02)


def test_true_speed_rewards_what_leg_odometry_cannot_see(lebot):
    """It stands on ice and slides: its legs say 0 m/s. What it observes is the same."""
    ice = replace(NOMINAL, friction=(0.02, 0.02), slope=(0.2, 0.2))
    steps = []
    for true_speed in (False, True):
        task = VelocityTask(
            lebot, 1, replace(STILL, randomisation=ice, true_speed=true_speed), seed=3
        )
        task.pinned_command = np.array([0.2, 0.0])
        task.reset()
        for _ in range(30):
            outcome = task.step(np.zeros((1, 8)))
        steps.append((outcome, task.simulation.truth().linear_velocity[0, 0]))
    (blind, speed), (seeing, same) = steps
    assert speed == same
    assert abs(speed) > 0.2
    np.testing.assert_array_equal(blind.observation, seeing.observation)
    assert blind.terms['speed_error'][0] == pytest.approx(-4.0 * 1.9 * 0.2, rel=0.1)
    error = 0.2 - speed
    expected = -4.0 * abs(error) * (1.9 if error > 0 else 1.0)
    assert seeing.terms['speed_error'][0] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(blind.terms['track_yaw_rate'], seeing.terms['track_yaw_rate'])
