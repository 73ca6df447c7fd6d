"""The Gymnasium environments: their contract, their arithmetic, their randomness."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import lebot_rl_ros.envs  # noqa: F401  registers them
from lebot_rl_ros.envs.evaluation import evaluate, summary
from lebot_rl_ros.envs.velocity_env import LeBotVelocityVectorEnv
from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.sim.randomisation import NOMINAL

NAMES = ['LeBotVelocity-v0', 'LeBotWalk-v0']
SHORT = VelocityConfig(episode=0.2, randomisation=NOMINAL)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.filterwarnings('ignore:.*observation space (minimum|maximum) value is')
def test_env_checker_passes(name):
    check_env(gymnasium.make(name).unwrapped, skip_render_check=True)


def _run(name, seed, steps=20):
    env = gymnasium.make(name)
    rng = np.random.default_rng(0)
    observations, rewards = [env.reset(seed=seed)[0]], []
    for _ in range(steps):
        observation, reward, *_ = env.step(rng.uniform(-0.3, 0.3, 8).astype(np.float32))
        observations.append(observation)
        rewards.append(reward)
    env.close()
    return np.array(observations), np.array(rewards)


@pytest.mark.parametrize('name', NAMES)
def test_one_seed_gives_one_episode(name):
    first, second = _run(name, 3), _run(name, 3)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_another_seed_gives_another_episode():
    assert not np.array_equal(_run('LeBotVelocity-v0', 3)[0], _run('LeBotVelocity-v0', 4)[0])


@pytest.mark.parametrize('name', NAMES)
def test_reward_is_the_sum_of_its_components(name):
    env = gymnasium.make(name)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.full(8, 0.2, dtype=np.float32))
    assert reward == pytest.approx(sum(info['reward_components'].values()))


def test_velocity_episode_is_truncated_in_time_and_keeps_its_last_observation():
    env = gymnasium.make('LeBotVelocity-v0', config=SHORT, disable_env_checker=True)
    env.reset(seed=0)
    ends = [env.step(np.zeros(8, dtype=np.float32))[2:4] for _ in range(10)]
    assert ends == [(False, False)] * 9 + [(False, True)]


def test_velocity_episode_is_terminated_by_a_fall():
    env = gymnasium.make('LeBotVelocity-v0', config=VelocityConfig(randomisation=NOMINAL))
    env.reset(seed=0)
    simulation = env.unwrapped.task.simulation
    simulation.qpos[0, 2:7] = 0.3, np.cos(0.6), np.sin(0.6), 0.0, 0.0  # rolled by 1.2 rad
    _, _, terminated, truncated, info = env.step(np.zeros(8, dtype=np.float32))
    assert (terminated, truncated) == (True, False)
    assert info['reward_components']['fall'] == -30.0


def test_many_robots_walk_as_one_does():
    config = VelocityConfig(randomisation=NOMINAL)
    env, vector = (
        gymnasium.make('LeBotVelocity-v0', config=config),
        LeBotVelocityVectorEnv(1, config=config),
    )
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(env.reset(seed=5)[0], vector.reset(seed=5)[0][0])
    for _ in range(20):
        action = rng.uniform(-0.5, 0.5, 8).astype(np.float32)
        one, many = env.step(action), vector.step(action[None])
        np.testing.assert_array_equal(one[0], many[0][0])
        assert one[1] == many[1][0]


def test_threads_change_nothing():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (10, 6, 8))
    results = []
    for threads in (0, 2):
        env = LeBotVelocityVectorEnv(6, threads=threads)
        env.reset(seed=1)
        results.append(np.stack([env.step(action)[0] for action in actions]))
    np.testing.assert_array_equal(*results)


def test_vector_env_resets_in_the_same_step_and_shows_the_final_observation():
    env = gymnasium.make_vec('LeBotVelocity-v0', num_envs=3, config=SHORT)
    assert env.metadata['autoreset_mode'] is AutoresetMode.SAME_STEP
    env.reset(seed=0)
    for _ in range(9):
        *_, truncated, info = env.step(np.zeros((3, 8), dtype=np.float32))
        assert not truncated.any()
        assert 'final_obs' not in info
    observation, _, terminated, truncated, info = env.step(np.zeros((3, 8), dtype=np.float32))
    assert truncated.all()
    assert not terminated.any()
    assert info['_final_obs'].all()
    assert not np.array_equal(observation, info['final_obs'])
    assert not env.step(np.zeros((3, 8), dtype=np.float32))[3].any()


def test_vector_env_takes_one_seed():
    with pytest.raises(ValueError, match='give one number'):
        LeBotVelocityVectorEnv(2).reset(seed=[1, 2])


def test_unknown_render_mode_is_refused():
    with pytest.raises(ValueError, match="'ascii', must be None, rgb_array or human"):
        LeBotVelocityVectorEnv(1, render_mode='ascii')


def test_walk_reward_by_hand():
    env = gymnasium.make('LeBotWalk-v0').unwrapped
    observation, _ = env.reset(seed=0)
    assert observation.shape == (20,)
    np.testing.assert_allclose(observation[:8], env.robot.stand, atol=1e-6)
    middle = (env.robot.lower + env.robot.upper) / 2
    half = (env.robot.upper - env.robot.lower) / 2
    stand = (env.robot.stand - middle) / half
    first, second = stand + 0.1, stand - 0.05
    env.step(first)
    x = env.simulation.qpos[0, 0]
    observation, reward, terminated, truncated, _ = env.step(second)
    expected = (
        (env.simulation.qpos[0, 0] - x) / 0.1
        - 0.1 * np.sum(second**2)
        - 0.1 * (abs(observation[16]) + abs(observation[17]))
        - 0.01 * np.sum((second - first) ** 2)
    )
    assert reward == pytest.approx(expected, abs=1e-6)
    assert not terminated
    assert not truncated


def test_walk_episode_ends_after_1000_steps():
    env = gymnasium.make('LeBotWalk-v0').unwrapped
    env.reset(seed=0)
    env._steps = 998
    middle = (env.robot.lower + env.robot.upper) / 2
    stand = (env.robot.stand - middle) / ((env.robot.upper - env.robot.lower) / 2)
    assert env.step(stand)[2:4] == (False, False)
    assert env.step(stand)[2:4] == (False, True)


def test_walk_goes_through_the_safety_limits():
    env = gymnasium.make('LeBotWalk-v0').unwrapped
    env.reset(seed=0)
    env.step(np.ones(8))
    moved = np.abs(env._limited.position[0] - env.robot.stand)
    assert moved.max() <= env.robot.limits.velocity * 0.1 + 1e-9
    assert moved.max() > 0.1


def test_pictures_show_the_robot():
    env = gymnasium.make('LeBotWalk-v0', render_mode='rgb_array').unwrapped
    env.reset(seed=0)
    try:
        picture = env.render()
    except RuntimeError as error:
        assert 'install' in str(error)  # noqa: PT017
        pytest.skip(str(error))
    assert picture.shape == (480, 640, 3)
    assert picture.std() > 10
    env.close()


def test_standing_still_scores_the_command_as_error():
    scores = evaluate(
        load_robot(), lambda o: np.zeros((len(o), 8)), VelocityConfig(randomisation=NOMINAL),
        commands=[(0.3, 0.5), (0.0, 0.0)], robots=1, seconds=1.5, threads=0,
    )  # fmt: skip
    assert scores[0].forward_error == pytest.approx(0.3, abs=0.01)
    assert scores[0].yaw_rate_error == pytest.approx(0.5, abs=0.01)
    assert scores[1].forward_error < 0.01
    totals = summary(scores)
    assert totals['falls'] == 0
    assert totals['forward_error_mps'] == scores[0].forward_error
    assert totals['straight_forward_error_mps'] == scores[1].forward_error


def test_restarting_the_draws_restarts_everything():
    task = VelocityTask(load_robot(), 4)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (8, 4, 8))
    runs = []
    for _ in range(2):
        task.seed(9)
        task.reset()
        task.stagger()
        runs.append([task.step(action) for action in actions])
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first.observation, second.observation)
        np.testing.assert_array_equal(first.reward, second.reward)
