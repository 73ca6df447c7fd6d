"""Reward shaping: own rewards rebuilt to the last digit, hand-computed terms, invariance."""

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.box2d.lunar_lander import heuristic
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

import lebot_rl_ros.envs  # noqa: F401  registers ours
from lebot_rl_ros.envs.lebot_terms import LEBOT_WALK, velocity_terms
from lebot_rl_ros.envs.lunar_lander import LUNAR_LANDER
from lebot_rl_ros.envs.shaped_reward import ShapedReward, ShapedRewardVector, terms_of
from lebot_rl_ros.envs.shaped_world import make_shaped_world
from lebot_rl_ros.envs.shaping import (
    Shaper,
    Shaping,
    TermSet,
    Transition,
    potential_shaping,
)
from lebot_rl_ros.envs.shaping_files import load_shaping, parse_shapings, shaping_names
from lebot_rl_ros.envs.velocity_task import VelocityConfig
from lebot_rl_ros.envs.world import make_world
from lebot_rl_ros.mdp.rewards import RewardConfig
from lebot_rl_ros.sim.randomisation import NOMINAL

NONE = dict.fromkeys(LUNAR_LANDER.weights, 0.0)
KINDS = pytest.mark.parametrize('continuous', [False, True], ids=['discrete', 'continuous'])
# Single precision of an observation, times the weights of 100.
LANDER_DIGITS = 2e-4


def lander(continuous=False, **words):
    return gymnasium.make('LunarLander-v3', continuous=continuous, **words)


def only(**weights):
    """A shaping of LunarLander with these terms and no others."""
    return Shaping(weights={**NONE, **weights})


def episode(env, policy, seed, limit=1000):
    """Steps of one episode: (reward, terminated, info) each."""
    observation, _ = env.reset(seed=seed)
    steps = []
    for _ in range(limit):
        observation, reward, terminated, truncated, info = env.step(policy(observation))
        steps.append((reward, terminated, info))
        if terminated or truncated:
            break
    return steps


# ---- LunarLander: the environment's own reward, rebuilt from observations


@KINDS
def test_random_flights_have_the_environments_own_reward(continuous):
    env = ShapedReward(lander(continuous))
    env.action_space.seed(0)
    ends = 0
    for seed in range(12):
        for reward, terminated, info in episode(env, lambda _: env.action_space.sample(), seed):
            assert reward == pytest.approx(info['own_reward'], abs=LANDER_DIGITS)
            assert reward == pytest.approx(sum(info['reward_components'].values()))
            ends += terminated
    assert ends == 12  # so the last step was among them, each time


@KINDS
def test_landings_have_the_environments_own_reward(continuous):
    env = ShapedReward(lander(continuous))
    landed = 0
    for seed in range(6):
        steps = episode(env, lambda observation: heuristic(env, observation), seed)
        for reward, _, info in steps:
            assert reward == pytest.approx(info['own_reward'], abs=LANDER_DIGITS)
        landed += steps[-1][2]['reward_components']['landing'] == 100.0
    assert landed >= 4


def test_leaving_the_screen_is_a_crash():
    env = ShapedReward(lander())
    env.reset(seed=0)
    env.unwrapped.lander.position = (21.0, 10.0)  # of 20 units; the legs hang on
    *_, terminated, _, info = env.step(0)
    assert terminated
    assert info['own_reward'] == -100.0
    assert {k: v for k, v in info['reward_components'].items() if v} == {'crash': -100.0}


BEFORE = np.array([0.3, 0.4, 0.0, -0.5, 0.2, 0.1, 0.0, 0.0])
AFTER = np.array([0.0, 0.3, 0.3, -0.4, -0.1, -0.2, 1.0, 0.0])


def transition(action, before=BEFORE, after=AFTER, terminated=False, truncated=False, own=None):
    return Transition(
        np.asarray(before), np.asarray(action), np.asarray(after), np.asarray(terminated),
        np.asarray(truncated), own or {},
    )  # fmt: skip


def raw(name, step):
    return float(LUNAR_LANDER.terms[name](step))


def test_terms_of_a_step_by_hand():
    step = transition(2)
    assert raw('distance', step) == pytest.approx(0.3 - 0.5)
    assert raw('velocity', step) == pytest.approx(0.0)  # 0.5 before and after
    assert raw('angle', step) == pytest.approx(0.1 - 0.2)
    assert raw('legs', step) == 1.0
    assert raw('spin', step) == pytest.approx(0.2)
    assert raw('time', step) == 1.0
    assert (raw('landing', step), raw('crash', step), raw('miss', step)) == (0.0, 0.0, 0.0)
    # -100 (-0.2) - 100 (-0.1) + 10 - 0.3
    own = Shaper(Shaping(), LUNAR_LANDER)(step)
    assert sum(own.values()) == pytest.approx(20.0 + 10.0 + 10.0 - 0.3)


@pytest.mark.parametrize('action, main, side', [
    (0, 0.0, 0.0), (1, 0.0, 1.0), (2, 1.0, 0.0), (3, 0.0, 1.0),
    ([0.0, 0.5], 0.0, 0.0), ([-1.0, -0.5], 0.0, 0.0), ([1e-9, 0.6], 0.5, 0.6),
    ([0.5, -0.75], 0.75, 0.75), ([1.0, 1.0], 1.0, 1.0), ([3.0, -4.0], 1.0, 1.0),
])  # fmt: skip
def test_engines_by_hand(action, main, side):
    step = transition(action)
    assert raw('main_engine', step) == pytest.approx(main)
    assert raw('side_engine', step) == pytest.approx(side)


def test_nothing_but_the_end_counts_on_the_last_step():
    rest = AFTER * [1, 1, 0, 0, 1, 0, 1, 1] + [0.25, 0, 0, 0, 0, 0, 0, 0]
    landed = Shaper(only(distance=-1, landing=7, miss=-8, main_engine=-1), LUNAR_LANDER)(
        transition(2, after=rest, terminated=True)
    )
    assert {k: float(v) for k, v in landed.items()} == {
        'distance': 0.0, 'main_engine': 0.0, 'landing': 7.0, 'miss': -2.0,
    }  # fmt: skip
    crashed = Shaper(Shaping(), LUNAR_LANDER)(transition(2, terminated=True))
    assert {k: float(v) for k, v in crashed.items() if v} == {'crash': -100.0}


def test_a_truncated_step_is_a_step_like_any_other():
    cut, on = (Shaper(Shaping(), LUNAR_LANDER)(transition(1, truncated=c)) for c in (True, False))
    assert cut == on


# ---- modes and scale


def test_replaced_reward_is_the_weighted_sum():
    plain, shaped = lander(), ShapedReward(lander(), Shaping({'main_engine': -2.0}, scale=0.5))
    plain.reset(seed=3)
    shaped.reset(seed=3)
    _, own, *_ = plain.step(2)
    _, reward, *_, info = shaped.step(2)
    assert info['own_reward'] == own
    assert reward == pytest.approx(0.5 * (own + 0.3 - 2.0), abs=LANDER_DIGITS)
    assert info['reward_components']['main_engine'] == -1.0


def test_mode_log_tells_and_changes_nothing():
    env = ShapedReward(lander(), Shaping({'time': 5.0}, scale=0.1, mode='log'))
    env.reset(seed=3)
    _, reward, *_, info = env.step(0)
    assert reward == info['own_reward']
    assert info['reward_components']['time'] == 0.5


def test_a_weight_of_zero_drops_a_term():
    env = ShapedReward(lander(), only(legs=1.0))
    env.reset(seed=0)
    assert env.step(2)[1] == 0.0
    assert list(env.step(2)[4]['reward_components']) == ['legs']


# ---- many side by side


@KINDS
@pytest.mark.parametrize('mode', [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_many_are_shaped_as_one_is(continuous, mode):
    shaping = Shaping({'spin': -1.0}, {'angle': 20.0}, 0.9, 0.5)
    outer = ShapedRewardVector(
        SyncVectorEnv([lambda: lander(continuous)] * 3, autoreset_mode=mode), shaping
    )
    inner = SyncVectorEnv(
        [lambda: ShapedReward(lander(continuous), shaping)] * 3, autoreset_mode=mode
    )
    outer.reset(seed=5)
    inner.reset(seed=5)
    outer.action_space.seed(1)
    ends = 0
    for _ in range(300):
        action = outer.action_space.sample()
        seen, reward, terminated, truncated, info = outer.step(action)
        wanted = inner.step(action)
        np.testing.assert_array_equal(seen, wanted[0])
        np.testing.assert_allclose(reward, wanted[1], atol=1e-9)
        np.testing.assert_allclose(sum(info['reward_components'].values()), reward, atol=1e-12)
        assert all(values.shape == (3,) for values in info['reward_components'].values())
        ends += int((terminated | truncated).sum())
    assert ends >= 5


def test_a_step_that_only_resets_is_worth_nothing():
    env = ShapedRewardVector(SyncVectorEnv([lander]), Shaping({'time': 1.0}))
    env.reset(seed=0)
    done = False
    while not done:
        done = env.step(np.array([0]))[2][0]
    _, reward, *_, info = env.step(np.array([0]))
    assert reward[0] == 0.0
    assert info['own_reward'][0] == 0.0
    assert env.step(np.array([0]))[4]['reward_components']['time'][0] == 1.0


def test_worlds_are_shaped_as_environments_are():
    shaping = Shaping({'spin': -1.0}, {'angle': 20.0}, 0.9, 0.5)
    world = make_shaped_world('LunarLander-v3', 3, 5, shaping)
    single = make_world('LunarLander-v3', 3, 5, wrap=lambda env: ShapedReward(env, shaping))
    rng, ends = np.random.default_rng(0), 0
    for _ in range(300):
        action = rng.integers(0, 4, 3)
        found, wanted = world.step(action), single.step(action)
        np.testing.assert_array_equal(found.observation, wanted.observation)
        np.testing.assert_allclose(found.reward, wanted.reward, rtol=1e-6, atol=1e-6)
        for name, values in wanted.info['reward_components'].items():
            np.testing.assert_allclose(found.info['reward_components'][name], values, atol=1e-9)
        ends += int(found.done.sum())
    assert ends >= 4
    np.testing.assert_allclose(world.finished, single.finished, rtol=1e-6)


@pytest.mark.parametrize('name', ['LeBotWalk-v0', 'LeBotVelocity-v0'])
def test_worlds_of_robots_have_their_own_reward(name):
    world = make_shaped_world(name, 3)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(200):
        outcome = world.step(rng.uniform(-1, 1, (3, 8)).astype(np.float32))
        np.testing.assert_allclose(outcome.reward, outcome.info['own_reward'], atol=1e-4)
        ends += int(outcome.done.sum())
    assert ends >= 1


# ---- LeBot


@pytest.mark.parametrize('name', ['LeBotWalk-v0', 'LeBotVelocity-v0'])
def test_lebots_own_reward_is_rebuilt(name):
    env = ShapedReward(gymnasium.make(name))
    env.action_space.seed(0)
    steps = episode(env, lambda _: env.action_space.sample(), 0, limit=200)
    for reward, _, info in steps:
        assert reward == pytest.approx(info['own_reward'], abs=1e-9)


def test_lebots_terms_take_other_weights():
    plain = gymnasium.make('LeBotWalk-v0')
    shaped = ShapedReward(
        gymnasium.make('LeBotWalk-v0'),
        Shaping({'forward_velocity': 3.0, 'tilt': 0.0, 'joint_velocity': -0.5}),
    )
    plain.reset(seed=1)
    shaped.reset(seed=1)
    action = np.full(8, 0.2, dtype=np.float32)
    observation, *_, info = plain.step(action)
    told = shaped.step(action)[4]['reward_components']
    own = info['reward_components']
    assert told['forward_velocity'] == pytest.approx(3.0 * own['forward_velocity'])
    assert told['action'] == pytest.approx(own['action'])
    assert told['joint_velocity'] == pytest.approx(-0.5 * np.square(observation[8:16]).sum())
    assert 'tilt' not in told


@pytest.mark.parametrize('mode', [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_walks_side_by_side_are_shaped_to_their_last_step(mode):
    env = ShapedRewardVector(
        SyncVectorEnv([lambda: gymnasium.make('LeBotWalk-v0')] * 2, autoreset_mode=mode)
    )
    env.reset(seed=0)
    env.action_space.seed(3)
    ends = 0
    for _ in range(150):
        _, reward, terminated, _, info = env.step(np.sign(env.action_space.sample()))
        np.testing.assert_allclose(reward, info['own_reward'], atol=1e-9)
        ends += int(terminated.sum())
    assert ends >= 1


def test_robots_in_one_simulation_are_shaped():
    config = VelocityConfig(episode=0.2, randomisation=NOMINAL)
    plain, shaped = (gymnasium.make_vec('LeBotVelocity-v0', 3, config=config) for _ in range(2))
    shaped = ShapedRewardVector(shaped, Shaping({'alive': 0.0}, {'upright': 2.0}, 0.9))
    before, after = plain.reset(seed=2)[0], shaped.reset(seed=2)[0]
    np.testing.assert_array_equal(before, after)
    rng = np.random.default_rng(0)
    for _ in range(12):  # over a reset
        action = rng.uniform(-0.5, 0.5, (3, 8)).astype(np.float32)
        now, own, terminated, _, info = plain.step(action)
        last = info.get('final_obs', now)
        phi = [-2.0 * np.square(seen[:, 3:5]).sum(-1) for seen in (before, last)]
        expected = own - 1.5 * 1.0 + 0.9 * phi[1] * ~terminated - phi[0]
        np.testing.assert_allclose(shaped.step(action)[1], expected, atol=1e-5)
        before = now


def test_terms_without_a_weight_in_the_task_are_not_to_be_had():
    config = VelocityConfig(reward=RewardConfig(weights={'alive': 1.0, 'tilt': 0.0}))
    terms = terms_of(gymnasium.make('LeBotVelocity-v0', config=config))
    assert set(terms.terms) == {'alive', 'fall'}
    with pytest.raises(ValueError, match="no term 'tilt'; choices are alive, fall"):
        Shaper(Shaping({'tilt': -1.0}), terms)


# ---- potentials


def test_potential_shaping_by_hand():
    before, after = np.array([2.0, 2.0]), np.array([5.0, 5.0])
    # A terminated step leads to nothing; a step that was cut off leads on.
    found = potential_shaping(0.5, before, after, np.array([False, True]))
    np.testing.assert_array_equal(found, [0.5, -2.0])


def values(transitions, reward, ends, discount):
    """Q (S, A) by value iteration; P (S, A, S'), R (S, A, S'), ends (S',): nothing follows."""
    q = np.zeros(reward.shape[:2])
    for _ in range(600):
        q = (transitions * (reward + discount * np.where(ends, 0.0, q.max(axis=1)))).sum(axis=2)
    return q


def random_mdp(seed, states=6, actions=3):
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.full(states, 0.4), (states, actions))
    ends = np.arange(states) >= states - 2
    return transitions, rng.normal(size=(states, actions, states)), ends, rng


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 0.95))
def test_potentials_leave_the_best_policy_of_an_mdp(seed, discount):
    transitions, reward, ends, rng = random_mdp(seed)
    phi = 10.0 * rng.normal(size=len(ends))
    shape = potential_shaping(discount, phi[:, None, None], phi[None, None, :], ends)
    plain = values(transitions, reward, ends, discount)
    shaped = values(transitions, reward + shape, ends, discount)
    # Every action of a state loses the same: Q' = Q - Phi (Ng et al., corollary 2).
    np.testing.assert_allclose(shaped, plain - phi[:, None], atol=1e-8)


def test_what_is_no_potential_does_change_the_best_policy():
    """The test above can fail: bonuses, and potentials of ends, are no potential shaping."""
    changed = {'bonus': 0, 'end': 0}
    for seed in range(20):
        transitions, reward, ends, rng = random_mdp(seed)
        phi = 10.0 * rng.normal(size=len(ends))
        best = values(transitions, reward, ends, 0.9).argmax(axis=1)[~ends]
        wrong = {
            'bonus': np.broadcast_to(phi, reward.shape),
            'end': potential_shaping(0.9, phi[:, None, None], phi[None, None, :], ends & False),
        }
        for name, shape in wrong.items():
            other = values(transitions, reward + shape, ends, 0.9).argmax(axis=1)[~ends]
            changed[name] += bool(np.any(other != best))
    assert min(changed.values()) >= 10


@pytest.mark.parametrize('limit', [30, 1000], ids=['truncated', 'terminated'])
def test_potentials_of_a_flight_telescope(limit):
    discount = 0.97
    env = ShapedReward(
        gymnasium.make('LunarLander-v3', max_episode_steps=limit),
        Shaping(NONE, {'distance': 100.0, 'legs': 3.0}, discount),
    )
    start = env.reset(seed=4)[0]
    total, factor, over = 0.0, 1.0, False
    while not over:
        seen, reward, terminated, truncated, _ = env.step(0)
        total, factor, over = total + factor * reward, factor * discount, terminated or truncated
    assert terminated == (limit == 1000)
    phi = env.shaper.potential(np.stack([start, seen]))
    assert total == pytest.approx(factor * phi[1] * truncated - phi[0], abs=1e-6)


# ---- names, files, words


def test_terms_of_ones_own():
    terms = TermSet('mine', {'right': lambda step: step.action == 1}, {'right': 2.0})
    env = ShapedReward(gymnasium.make('CartPole-v1'), terms=terms)
    env.reset(seed=0)
    assert [env.step(action)[1] for action in (1, 0, 1)] == [2.0, 0.0, 2.0]


def test_an_environment_without_terms_is_refused():
    with pytest.raises(ValueError, match='no reward terms of CartPole-v1; environments are Lunar'):
        ShapedReward(gymnasium.make('CartPole-v1'))
    with pytest.raises(ValueError, match='no reward terms of CartPole-v1'):
        ShapedRewardVector(gymnasium.make_vec('CartPole-v1', 2))


@pytest.mark.parametrize('words, message', [
    ({'weights': {'fuel': 1.0}}, "LunarLander-v3 has no term 'fuel'; choices are distance, vel"),
    ({'potential': {'fuel': 1.0}}, "has no potential 'fuel'; choices are distance, velocity, ang"),
])  # fmt: skip
def test_unknown_names_are_refused_with_the_choices(words, message):
    with pytest.raises(ValueError, match=message):
        ShapedReward(lander(), Shaping(**words))


@pytest.mark.parametrize('words, message', [
    ({'mode': 'add'}, "mode is 'add', must be replace or log"),
    ({'scale': 0.0}, 'scale is 0.0, must be positive'),
    ({'discount': 1.5}, r'discount is 1.5, must be in \[0, 1\]'),
    ({'weights': {'legs': float('nan')}}, 'weight of legs is nan, must be finite'),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        Shaping(**words)


TERMS = {
    'LunarLander-v3': LUNAR_LANDER,
    'LeBotWalk-v0': LEBOT_WALK,
    'LeBotVelocity-v0': velocity_terms(RewardConfig()),
}


@pytest.mark.parametrize('name', shaping_names())
def test_shipped_rewards_fit_their_environments(name):
    found = load_shaping(name)
    assert found.about
    Shaper(found.shaping, TERMS[found.env])


def test_words_are_read_from_left_to_right():
    first, second, third = parse_shapings(
        ['main_engine=-1', 'scale=1e-2', 'lander_frugal', 'time=0', 'potential.legs=3',
         'lander_sparse']
    )  # fmt: skip
    assert first.shaping == Shaping({'main_engine': -1.0}, scale=0.01)
    assert first.name == 'main_engine=-1 scale=1e-2'
    frugal = load_shaping('lander_frugal').shaping
    assert second.shaping == Shaping({**frugal.weights, 'time': 0.0}, {'legs': 3.0})
    assert (second.env, third.name) == ('LunarLander-v3', 'lander_sparse')


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text('env: LunarLander-v3\nweights: {legs: 20}\nmode: log\ndiscount: 1\n')
    assert load_shaping(file).shaping == Shaping({'legs': 20.0}, discount=1.0, mode='log')
    assert load_shaping(file).name == 'mine'


@pytest.mark.parametrize('text, message', [
    ('weight: {legs: 1}', "unknown key 'weight'; keys are env, about, weights"),
    ('weights: {legs: many}', "legs is 'many', expected a finite number"),
    ('weights: {legs: true}', 'legs is True, expected a finite number'),
    ('weights: [legs]', 'expected a table of terms'),
    ('- legs', 'expected a table of keys'),
    ('mode: sum', "mode is 'sum', must be replace or log"),
    ('scale: -1', 'scale is -1.0, must be positive'),
    ('a: {', 'is not YAML'),
])  # fmt: skip
def test_files_that_do_not_fit_are_refused(tmp_path, text, message):
    file = tmp_path / 'mine.yaml'
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_shaping(file)


def test_unknown_rewards_are_refused_with_the_choices():
    with pytest.raises(ValueError, match="unknown reward 'frugal'; rewards are lander_frugal, "):
        parse_shapings(['frugal'])
    with pytest.raises(ValueError, match='cannot be read'):
        parse_shapings(['no/such.yaml'])
