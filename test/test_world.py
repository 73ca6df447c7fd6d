"""The world of the learning methods: resets, final observations, checks, tasks, robots."""

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from lebot_rl_ros.envs.gym_world import GymWorld
from lebot_rl_ros.envs.single_envs import SingleEnvs
from lebot_rl_ros.envs.spaces import space_of
from lebot_rl_ros.envs.vector_envs import ManyEnvs, SameStepCartPole
from lebot_rl_ros.envs.velocity_task import VelocityTask
from lebot_rl_ros.envs.world import make_world
from lebot_rl_ros.learning.method import Box, Discrete

Spaces = gymnasium.spaces


class Counter(gymnasium.Env):
    """Counts its steps: observation [step, action]; terminates at step ``last``, reward = step."""

    observation_space = Spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Spaces.Box(-1.0, 1.0, (1,), np.float32)
    metadata = {'render_modes': []}

    def __init__(self, last=3, render_mode=None):
        self.last, self.count = last, 0
        self.spoil = {}  # step -> what goes wrong
        self.told = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        self.told = (options or {}).get('task')
        return np.array([0.0, 0.0], np.float32), {}

    def step(self, action):
        self.count += 1
        observation = np.array([self.count, action[0]], np.float32)
        reward, spoil = float(self.count), self.spoil.get(self.count)
        if spoil == 'observation':
            observation[1] = np.nan
        if spoil == 'reward':
            reward = float('inf')
        if spoil == 'shape':
            observation = observation[:1]
        if spoil == 'huge':
            reward, observation[1] = 1e30, 1e30
        if spoil == 'raise':
            raise ValueError('out of paper')
        info = {'reward_components': {'steps': reward, 'none': 0.0}}
        return observation, reward, self.count >= self.last, False, info


class WithTasks(Counter):
    """The task is an option of reset."""

    def sample_tasks(self, count, rng):
        return rng.integers(1, 10, count)


class NextStepCounters(SyncVectorEnv):
    """A vector version that resets one step late, as many of Gymnasium's do."""

    def __init__(self, num_envs, **kwargs):
        super().__init__([Counter] * num_envs)


class SameStepCounters(SyncVectorEnv):
    """A vector version that resets as a world must."""

    def __init__(self, num_envs, **kwargs):
        super().__init__([Counter] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def counters(*lasts):
    return GymWorld('Counter', SingleEnvs('Counter', [lambda n=n: Counter(n) for n in lasts]))


def act(world, value=0.0):
    return np.full((world.count, 1), value, np.float32)


def test_the_step_that_ends_an_episode_begins_the_next():
    world = counters(2, 3)
    first = world.step(act(world, 0.5))
    assert first.observation.tolist() == [[1.0, 0.5], [1.0, 0.5]]
    assert not first.done.any()
    second = world.step(act(world, 0.25))
    assert second.final_observation.tolist() == [[2.0, 0.25], [2.0, 0.25]]
    assert second.observation.tolist() == [[0.0, 0.0], [2.0, 0.25]]
    assert world.observation is second.observation
    assert second.terminated.tolist() == [True, False]
    assert second.reward.tolist() == [2.0, 2.0]
    third = world.step(act(world))
    # No step without effect in between: the first counts from one again.
    assert third.final_observation[:, 0].tolist() == [1.0, 3.0]
    assert world.steps == 6
    assert world.finished == [(3.0, 2), (6.0, 3)]


def test_reward_components_are_stacked():
    outcome = counters(2, 3).step(np.zeros((2, 1), np.float32))
    assert outcome.info['reward_components']['steps'].tolist() == [1.0, 1.0]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 25))
def test_no_reward_is_lost_or_counted_twice(lasts, steps):
    world = counters(*lasts)
    total = sum(world.step(act(world)).reward.sum() for _ in range(steps))
    running = [sum(range(1, steps % last + 1)) for last in lasts]
    assert total == sum(value for value, _ in world.finished) + sum(running)
    assert len(world.finished) == sum(steps // last for last in lasts)
    assert {length for _, length in world.finished} <= set(lasts)


def test_a_time_limit_truncates_and_an_end_is_never_both():
    def maker(last, limit):
        return lambda: gymnasium.wrappers.TimeLimit(Counter(last), limit)

    body = SingleEnvs('Counter', [maker(9, 2), maker(2, 2)])
    world = GymWorld('Counter', body)
    world.step(act(world))
    outcome = world.step(act(world))
    assert outcome.truncated.tolist() == [True, False]
    assert outcome.terminated.tolist() == [False, True]


def test_a_vector_environment_gives_the_same_steps():
    many = GymWorld('Counter', ManyEnvs('Counter', SameStepCounters(2)))
    single = counters(3, 3)
    for i in range(8):
        ours, theirs = many.step(act(many, 0.1 * i)), single.step(act(single, 0.1 * i))
        for name in ('observation', 'final_observation', 'reward', 'terminated', 'truncated'):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    assert many.finished == single.finished


def test_observations_are_not_written_to_afterwards():
    for world in (counters(3, 3), GymWorld('x', ManyEnvs('x', SameStepCounters(2)))):
        kept = [world.step(act(world)).observation for _ in range(4)]
        assert [array[0, 0] for array in kept] == [1.0, 2.0, 0.0, 1.0]


def test_a_vector_version_that_resets_late_is_passed_over():
    gymnasium.register('LateCounter-v0', Counter, vector_entry_point=NextStepCounters)
    try:
        world = make_world('LateCounter-v0', 2)
    finally:
        del gymnasium.registry['LateCounter-v0']
    assert isinstance(world.body, SingleEnvs)
    with pytest.raises(ValueError, match=r'resets in mode .*NEXT_STEP'):
        ManyEnvs('LateCounter-v0', NextStepCounters(2))


def test_cart_poles_are_gymnasiums_to_the_bit():
    ours, theirs = SameStepCartPole(16), CartPoleVectorEnv(16)
    ours.reset(seed=3)
    theirs.reset(seed=3)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(300):
        action = rng.integers(0, 2, 16)
        mine, other = ours.step(action), theirs.step(action)
        final = mine[4].get('final_obs', mine[0])
        for a, b in zip((final, *mine[1:4]), other[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        done = mine[2] | mine[3]
        ends += int(done.sum())
        assert (np.abs(mine[0][done]) <= 0.05).all()
        assert (np.abs(final[done]).max(axis=1) > 0.05).all()
        # Theirs would now take a step without effect; go on from where ours are.
        theirs.state, theirs.steps = ours.state.copy(), ours.steps.copy()
        theirs.prev_done[:] = False
    assert ends > 50


def test_cart_poles_time_out_after_500_steps():
    world = make_world('CartPole-v1', 4, seed=1)
    for _ in range(1500):  # a rule that balances: push towards where the pole falls
        x, speed, angle, spin = world.observation.T
        outcome = world.step((0.3 * angle + 0.1 * spin + 0.01 * x + 0.02 * speed > 0).astype(int))
    assert {length for _, length in world.finished} == {500}
    assert outcome.truncated.all()
    assert not outcome.terminated.any()


def test_seeds_repeat():
    def run(world):
        rng = np.random.default_rng(0)
        steps = [world.step(rng.uniform(-2, 2, (world.count, 1))) for _ in range(5)]
        return np.stack([step.observation for step in steps])

    one, two, other = (make_world('Pendulum-v1', 3, seed) for seed in (5, 5, 6))
    first = run(one)
    np.testing.assert_array_equal(first, run(two))
    assert not np.array_equal(first, run(other))
    assert len(np.unique(first[0, :, 0])) == 3  # each environment draws its own
    one.restart(9)
    two.restart(9)
    np.testing.assert_array_equal(run(one), run(two))


def test_a_restart_drops_what_was_under_way():
    world = counters(3)
    world.step(act(world))
    world.restart(0)
    for _ in range(3):
        world.step(act(world))
    assert world.finished == [(6.0, 3)]
    assert world.steps == 4


def test_actions_are_clipped_to_the_space():
    world = counters(5)
    assert world.step(act(world, 7.0)).observation[0, 1] == 1.0
    assert world.step(act(world, -7.0)).observation[0, 1] == -1.0


@pytest.mark.parametrize(
    ('action', 'complaint'),
    [
        (np.zeros((2,)), r'actions have shape \(2,\), expected \(2, 1\)'),
        (np.zeros((2, 2)), r'actions have shape \(2, 2\), expected \(2, 1\)'),
        (np.array([[0.0], [np.nan]]), 'action is nan at index .0,. of environment 1'),
        (np.array([[np.inf], [0.0]]), 'action is inf at index .0,. of environment 0'),
    ],
)
def test_actions_that_are_refused(action, complaint):
    with pytest.raises(ValueError, match=f'Counter, step 0: {complaint}'):
        counters(3, 3).step(action)


@pytest.mark.parametrize('action', [[0, 2], [-1, 0], [0.0, 1.0], [np.iinfo(np.int64).min, 0]])
def test_choices_that_there_are_not(action):
    world = make_world('CartPole-v1', 2)
    with pytest.raises(ValueError, match=r'CartPole-v1, step 0: .* whole numbers from 0 to 1'):
        world.step(np.array(action))


@pytest.mark.parametrize(
    ('spoil', 'complaint'),
    [
        ('observation', 'step 4: observation is nan at index .1,. of environment 1'),
        ('reward', 'step 4: reward is inf in environment 1'),
        ('shape', r'step 4: an observation has shape \(1,\), expected \(2,\)'),
        ('raise', 'step 4: out of paper'),
    ],
)
def test_what_an_environment_does_wrong_is_named(spoil, complaint):
    world = counters(9, 9)
    world.body.envs[1].spoil[2] = spoil
    world.step(act(world))
    with pytest.raises(ValueError, match=f'Counter, {complaint}'):
        world.step(act(world))


def test_a_vector_environment_that_changes_shape_is_named():
    env = SameStepCounters(2)
    world = GymWorld('Counters', ManyEnvs('Counters', env))
    env.step = lambda action: (np.zeros((2, 3)), np.zeros(2), *np.zeros((2, 2), bool), {})
    with pytest.raises(ValueError, match=r'observation has shape \(2, 3\), was \(2, 2\) before'):
        world.step(act(world))


def test_large_numbers_are_finite():
    world = counters(9)
    world.body.envs[0].spoil[1] = 'huge'
    assert world.step(act(world)).reward[0] == np.float32(1e30)  # whose square is not finite


def test_tasks_are_told_at_every_reset():
    world = GymWorld('Tasks', SingleEnvs('Tasks', [lambda: WithTasks(2)] * 3))
    tasks = world.sample_tasks(3, np.random.default_rng(0))
    world.step(act(world))
    world.set_task(tasks)
    for _ in range(3):  # over the end of an episode
        assert [env.told for env in world.body.envs] == tasks.tolist()
        world.step(act(world))
    world.set_task(None)
    assert [env.told for env in world.body.envs] == [None] * 3


def test_tasks_of_a_vector_environment():
    pytest.importorskip('lebot_rl_ros.envs.navigation')
    world = make_world('Navigation-v0', 4)
    goals = world.sample_tasks(4, np.random.default_rng(1))
    world.set_task(goals)
    for _ in range(25):  # over the end of an episode
        np.testing.assert_array_equal(world.body.env.unwrapped.points.goal, goals)
        world.step(np.zeros((4, 2)))


def test_an_environment_without_tasks_says_so():
    world = counters(3)
    with pytest.raises(ValueError, match='Counter is one task, not a distribution of tasks'):
        world.sample_tasks(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match='Counter is one task'):
        world.set_task([1])
    with pytest.raises(ValueError, match='2 tasks for 1 environments'):
        world.set_task([1, 2])


def test_spaces():
    assert space_of(Spaces.Discrete(4), 'X', 'action') == Discrete(4)
    box = space_of(Spaces.Box(-2.0, np.inf, (3,), np.float64), 'X', 'observation')
    assert (box.shape, box.dtype, box.low.tolist()) == ((3,), 'float32', [-2.0] * 3)
    assert box.low.dtype == np.float32
    image = space_of(Spaces.Box(0, 255, (8, 8, 3), np.uint8), 'X', 'observation')
    assert (image.dtype, image.high.dtype, image.high.max()) == ('uint8', np.uint8, 255)
    bits = space_of(Spaces.MultiBinary(5), 'X', 'observation')
    assert isinstance(bits, Box)
    assert (bits.shape, bits.low.max(), bits.high.min()) == ((5,), 0.0, 1.0)


@pytest.mark.parametrize(
    ('space', 'what', 'complaint'),
    [
        (Spaces.Dict(a=Spaces.Discrete(2)), 'observation', 'observations are Dict.*Flatten'),
        (Spaces.MultiDiscrete([2, 3]), 'action', 'actions are MultiDiscrete.*Discrete from 0 on'),
        (Spaces.MultiBinary(2), 'action', 'actions are MultiBinary'),
        (Spaces.Discrete(2, start=1), 'action', 'actions count from 1'),
    ],
)
def test_spaces_that_are_refused(space, what, complaint):
    with pytest.raises(ValueError, match=f'Env-v9: its {complaint}'):
        space_of(space, 'Env-v9', what)


def test_a_table_of_states():
    world = make_world('FrozenLake-v1', 2, is_slippery=False)
    assert world.observation_space == Discrete(16)
    assert world.observation.tolist() == [0, 0]
    outcome = world.step(np.array([1, 2]))  # down, right
    assert outcome.observation.tolist() == [4, 1]
    assert outcome.observation.dtype == np.int64


def test_an_unknown_environment_gets_a_suggestion():
    with pytest.raises(ValueError, match=r"no environment 'CartPloe-v1'.*Did you mean.*CartPole"):
        make_world('CartPloe-v1', 1)
    with pytest.raises(ValueError, match='0 environments of CartPole-v1'):
        make_world('CartPole-v1', 0)
    with pytest.raises(ValueError, match=r"cannot be built with \{'wind': 3\}"):
        make_world('Pendulum-v1', 1, wind=3)


def test_a_missing_package_is_told_with_its_cure():
    def lacking():
        raise gymnasium.error.DependencyNotInstalled('Box2D is not installed')

    gymnasium.register('Lacking-v0', lacking)
    try:
        with pytest.raises(ValueError, match=r"pip install 'gymnasium\[box2d\]'"):
            make_world('Lacking-v0', 1)
    finally:
        del gymnasium.registry['Lacking-v0']


def test_robots_are_the_task_itself(lebot):
    world, task = make_world('LeBotVelocity-v0', 8, seed=4), VelocityTask(lebot, 8)
    task.seed(4)
    np.testing.assert_array_equal(world.observation, task.reset())
    rng = np.random.default_rng(0)
    action = rng.choice((-1.0, 1.0), (8, 8)).astype(np.float32)
    for _ in range(60):
        ours, theirs = world.step(action), task.step(action.astype(float))
        np.testing.assert_array_equal(ours.observation, theirs.observation)
        np.testing.assert_array_equal(ours.final_observation, theirs.final_observation)
        np.testing.assert_array_equal(ours.reward, theirs.reward.astype(np.float32))
        np.testing.assert_array_equal(ours.terminated, theirs.terminated)
    assert set(ours.info['reward_components']) == set(theirs.terms)
    assert any(length < 60 for _, length in world.finished)  # some fell


def test_the_first_of_staggered_episodes_do_not_count():
    world = make_world('LeBotVelocity-v0', 2, stagger=True)
    world.body.task._age[:] = [998, 500]
    for _ in range(3):
        outcome = world.step(np.zeros((2, 8)))
    assert world.finished == []
    assert not outcome.done.any()
    world.body.task._age[:] = [999, 500]
    world.step(np.zeros((2, 8)))
    assert [length for _, length in world.finished] == [2]  # of the one that began by a reset
