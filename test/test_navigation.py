"""Navigation-v0: rewards by hand, tasks that stay and tasks that change, the oracle."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import lebot_rl_ros.envs  # noqa: F401  registers
from lebot_rl_ros.envs.navigation import HORIZON, NavigationEnv, NavigationVectorEnv, oracle
from lebot_rl_ros.envs.world import make_world


def play(env, act):
    """Rewards (T, N) of one episode of all points."""
    rewards = []
    for _ in range(HORIZON):
        _, reward, _, _, _ = env.step(act(env))
        rewards.append(reward)
    return np.array(rewards)


@pytest.mark.parametrize(('reward', 'power'), [('squared', 2), ('distance', 1)])
def test_moves_and_rewards_by_hand(reward, power):
    env = NavigationEnv(reward=reward)
    env.set_task(np.array([[0.3, -0.2]]))
    observation, _ = env.reset(seed=0)
    assert observation.tolist() == [0.0, 0.0]
    observation, reward, terminated, truncated, _ = env.step(np.array([1.0, -0.5]))
    assert observation == pytest.approx([0.1, -0.05])
    assert reward == pytest.approx(-(np.hypot(0.2, 0.15) ** power))
    assert not terminated
    assert not truncated
    observation, reward, *_ = env.step(np.array([7.0, 0.0]))  # clipped to 1
    assert observation == pytest.approx([0.2, -0.05])
    assert reward == pytest.approx(-(np.hypot(0.1, 0.15) ** power))


def test_only_a_shown_goal_is_in_the_observation():
    goals = np.array([[0.3, -0.2], [-0.1, 0.4]])
    hidden, shown = NavigationVectorEnv(2), NavigationVectorEnv(2, goal='shown')
    for env in (hidden, shown):
        env.set_task(goals)
    assert hidden.reset(seed=0)[0].shape == (2, 2)
    assert shown.reset(seed=0)[0] == pytest.approx(np.hstack((np.zeros((2, 2)), goals)))
    # The hidden goal is nowhere: whatever the goals are, observations are the same.
    actions = np.array([[0.5, 1.0], [-1.0, 0.2]])
    seen = hidden.step(actions)[0]
    hidden.set_task(-goals)
    hidden.reset()
    assert np.array_equal(hidden.step(actions)[0], seen)


@pytest.mark.parametrize('area', ['square', 'circle'])
def test_goals_are_drawn_where_they_should_be(area):
    goals = NavigationEnv(area=area).sample_tasks(4000, np.random.default_rng(0))
    radius = np.linalg.norm(goals, axis=1)
    assert np.abs(goals.mean(axis=0)).max() < 0.03
    if area == 'square':
        assert 0.49 < np.abs(goals).max() <= 0.5
        assert np.histogram2d(*goals.T, bins=2)[0].min() > 850  # of 1000 expected in each
    else:
        assert radius == pytest.approx(np.full(4000, 0.5))


def test_time_is_up_after_the_horizon_and_the_reset_is_at_once():
    env = NavigationVectorEnv(3)
    env.reset(seed=1)
    goals = env.points.goal.copy()
    for step in range(1, HORIZON + 1):
        observation, _, terminated, truncated, info = env.step(np.full((3, 2), 0.5))
        assert truncated.all() == (step == HORIZON)
        assert not terminated.any()
    assert info['final_obs'] == pytest.approx(np.full((3, 2), 0.05 * HORIZON))
    assert info['_final_obs'].all()
    assert not observation.any()
    assert not np.isclose(env.points.goal, goals).any()  # new tasks


def test_told_tasks_stay_until_none_is_told():
    env = NavigationVectorEnv(2)
    goals = np.array([[0.3, -0.2], [-0.1, 0.4]])
    env.set_task(goals)
    env.reset(seed=0)
    for _ in range(2):
        play(env, lambda env: np.zeros((2, 2)))
        assert np.array_equal(env.points.goal, goals)
    env.set_task(None)
    play(env, lambda env: np.zeros((2, 2)))
    assert not np.isclose(env.points.goal, goals).any()


def test_one_and_many_are_the_same_points():
    rng = np.random.default_rng(3)
    goals, actions = rng.uniform(-0.5, 0.5, (4, 2)), rng.normal(size=(30, 4, 2))
    many = NavigationVectorEnv(4)
    many.set_task(goals)
    many.reset(seed=0)
    rewards = [many.step(action)[1] for action in actions]
    for i in range(4):
        one = NavigationEnv()
        one.set_task(goals[i : i + 1])
        one.reset(seed=0)
        for t, action in enumerate(actions):
            _, reward, _, truncated, _ = one.step(action[i])
            assert reward == rewards[t][i]
            if truncated:
                one.reset()


def test_the_oracle_takes_the_best_step_of_a_grid_and_arrives():
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 81)] * 2), axis=-1).reshape(-1, 2)
    for _ in range(20):
        position, goal = rng.uniform(-1, 1, (2, 2))
        best = np.linalg.norm(goal - (position + 0.1 * grid), axis=1).min()
        there = np.linalg.norm(goal - (position + 0.1 * oracle(position, goal)))
        assert there <= best + 1e-12
    env = NavigationVectorEnv(200)
    env.reset(seed=0)
    rewards = play(env, lambda env: env.oracle())
    assert np.abs(rewards[4:-1]).max() < 1e-12  # five steps for the farthest corner


def test_seeds_repeat():
    def goals(seed):
        env = NavigationVectorEnv(5)
        env.reset(seed=seed)
        play(env, lambda env: np.zeros((5, 2)))
        return env.points.goal

    assert np.array_equal(goals(7), goals(7))
    assert not np.array_equal(goals(7), goals(8))


def test_gymnasium_finds_nothing_to_complain_about():
    check_env(gymnasium.make('Navigation-v0').unwrapped, skip_render_check=True)
    check_env(gymnasium.make('Navigation-v0', goal='shown').unwrapped, skip_render_check=True)


def test_a_world_of_it_has_tasks():
    world = make_world('Navigation-v0', 6, seed=0)
    tasks = world.sample_tasks(3, np.random.default_rng(0))
    assert tasks.shape == (3, 2)
    world.set_task(np.repeat(tasks, 2, axis=0))
    reward = world.step(np.zeros((6, 2), np.float32)).reward
    assert reward == pytest.approx(np.repeat(-np.square(tasks).sum(axis=1), 2), rel=1e-6)


def test_errors_name_the_value_and_the_choices():
    with pytest.raises(ValueError, match="goal is 'seen', must be hidden or shown"):
        NavigationEnv(goal='seen')
    with pytest.raises(ValueError, match="area is 'disc', must be square or circle"):
        NavigationVectorEnv(2, area='disc')
    with pytest.raises(ValueError, match="reward is 'sparse', must be distance or squared"):
        NavigationEnv(reward='sparse')
    with pytest.raises(ValueError, match=r'tasks have shape \(3, 2\).*\(2, 2\)'):
        NavigationVectorEnv(2).set_task(np.zeros((3, 2)))
    with pytest.raises(ValueError, match='give one number'):
        NavigationVectorEnv(2).reset(seed=[1, 2])
