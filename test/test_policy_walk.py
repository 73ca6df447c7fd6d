"""The shipped policy: it is what its manifest says, fits the robot, and walks."""

import numpy as np
import pytest

from lebot_rl_ros.cli.evaluate import FORWARD_ERROR, YAW_RATE_ERROR
from lebot_rl_ros.cli.policy_task import task_config
from lebot_rl_ros.envs.evaluation import evaluate
from lebot_rl_ros.envs.velocity_task import VelocityConfig
from lebot_rl_ros.policy.files import PolicyError
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.robot import load_robot, share_path

FOLDER = share_path('policies', 'walk')


@pytest.fixture(scope='module')
def runtime():
    return PolicyRuntime.load(FOLDER)


def test_it_is_the_output_of_a_command_and_says_how_it_scored(runtime):
    manifest = runtime.manifest
    assert manifest.training['command'].startswith('lebot train base')
    assert manifest.training['steps'] > 1e6
    commands = manifest.scores['commands']
    assert len(commands) == 18
    for score in commands:
        if score['yaw_rate'] == 0.0:
            assert score['forward_error'] <= FORWARD_ERROR, score
        assert score['yaw_rate_error'] <= YAW_RATE_ERROR, score
    assert (FOLDER / 'learning_curve.png').is_file()


def test_it_was_trained_on_the_task_of_this_code(runtime):
    config = task_config(load_robot(), runtime.manifest, FOLDER)
    ours = VelocityConfig()
    assert (config.action_space, config.gait) == (ours.action_space, ours.gait)


def test_another_robot_is_refused(runtime):
    with pytest.raises(PolicyError, match='joint names'):
        runtime.manifest.check(joint_names=['a'] * 12)


def test_it_walks_turns_and_stands(runtime):
    robot = load_robot()
    scores = evaluate(
        robot, runtime.act_many, task_config(robot, runtime.manifest, FOLDER),
        commands=[(0.2, 0.0), (0.4, 0.0), (0.2, 0.5), (0.2, -0.5), (0.0, 0.0)],
        robots=4, seconds=6.0, seed=5,
    )  # fmt: skip
    assert sum(score.falls for score in scores) == 0
    for score in scores[:2]:
        assert score.forward_mean == pytest.approx(score.forward, abs=FORWARD_ERROR)
    for score in scores[2:4]:
        assert score.yaw_rate_mean == pytest.approx(score.yaw_rate, abs=YAW_RATE_ERROR + 0.05)
    assert scores[4].forward_error < 0.03


def test_the_same_observation_gives_the_same_action(runtime):
    observation = np.linspace(-1, 1, runtime.manifest.observation_size)
    first = runtime.act(observation)
    runtime.act(-observation)
    np.testing.assert_array_equal(runtime.act(observation), first)
