"""The numbers of a report, by hand."""

import numpy as np
import pytest

from lebot_rl_ros.data.tracking import Path, command_at, judge


def straight(speed, seconds=10.0, turn=0.0, command=(0.3, 0.0)):
    """A path at constant speed, 50 samples a second."""
    time = np.arange(0.02, seconds + 0.01, 0.02)
    ones = np.ones_like(time)
    position = np.stack((speed * time, 0 * time), axis=1)
    return Path(time, position, speed * ones, turn * ones, np.outer(ones, command))


def test_a_constant_error_is_that_error():
    tracking = judge(straight(0.25, turn=-0.1))
    # the first sample has no way behind it
    assert tracking.distance == pytest.approx(0.25 * (10.0 - 0.02))
    assert tracking.speed_error == pytest.approx(0.05)
    assert tracking.yaw_error == pytest.approx(0.1)


def test_what_is_faster_in_one_window_does_not_make_up_for_what_is_slower_in_another():
    path = straight(0.3, seconds=9.0)
    # standing up 1 s and settling 2 s are not judged: windows are 3-4, 4-5, ..., 8-9 s
    path.velocity[(path.time > 3.03) & (path.time <= 4.03)] = 0.5
    path.velocity[(path.time > 4.03) & (path.time <= 5.03)] = 0.1
    assert judge(path).speed_error == pytest.approx(0.4 / 5, abs=0.01)


def test_the_time_after_a_new_command_is_not_judged():
    path = straight(0.3, seconds=10.0)
    later = path.time > 5.0
    path.command[later] = (0.1, 0.0)
    path.velocity[path.time > 7.0] = 0.1  # takes two seconds to follow
    assert judge(path).speed_error == pytest.approx(0.0, abs=1e-12)


def test_a_path_too_short_to_judge_says_so():
    tracking = judge(straight(0.3, seconds=2.0))
    assert np.isnan(tracking.speed_error)
    assert np.isnan(tracking.yaw_error)
    assert (
        judge(
            Path(np.zeros(0), np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros((0, 2)))
        ).distance
        == 0.0
    )


def test_commands_hold_until_the_next():
    times = np.array([0.5, 1.0, 1.5, 2.5])
    commands = command_at(times, [(1.0, 0.1, 0.2), (2.0, 0.3, 0.0)])
    np.testing.assert_array_equal(commands, [[0, 0], [0.1, 0.2], [0.1, 0.2], [0.3, 0.0]])
    np.testing.assert_array_equal(command_at(times, []), np.zeros((4, 2)))
