"""`lebot compare rewards`: jobs, judging by the own reward, numbers, pictures."""

import argparse
import json

import gymnasium
import numpy as np
import pytest
from PIL import Image

from lebot_rl_ros.cli import compare_rewards
from lebot_rl_ros.cli.reward_pictures import exposures
from lebot_rl_ros.cli.reward_runs import (
    JUDGING_SEED,
    Judge,
    Judgement,
    Run,
    load_run,
    make,
    save_run,
)
from lebot_rl_ros.envs.shaping import Shaping


def parse(*words):
    parser = argparse.ArgumentParser()
    compare_rewards.add_parser(parser.add_subparsers())
    return parser.parse_args(['compare', 'rewards', *words])


def test_jobs_are_the_default_and_each_reward_for_every_seed():
    jobs = compare_rewards.make_jobs(parse(
        '--weights', 'lander_frugal', 'lander_sparse', 'scale=0.5', '--seeds', '2',
        '--steps', '1e5', '--env-set', 'continuous=true', '--set', 'epochs=7',
    ))  # fmt: skip
    assert [(job.name, job.seed) for job in jobs] == [
        ('default', 0), ('default', 1), ('lander_frugal', 0), ('lander_frugal', 1),
        ('lander_sparse scale=0.5', 0), ('lander_sparse scale=0.5', 1),
    ]  # fmt: skip
    assert jobs[0].shaping == Shaping()
    assert jobs[4].shaping.scale == 0.5
    assert {job.env_arguments['continuous'] for job in jobs} == {True}
    assert (jobs[0].settings['epochs'], jobs[0].count, jobs[0].steps) == (7, 16, 100_000)


@pytest.mark.parametrize('words, message', [
    (['--weights', 'walk_smooth'], 'walk_smooth is for LeBotWalk-v0, not for LunarLander-v3'),
    (['--env', 'CartPole-v1'], 'no reward ships for CartPole-v1: say --weights'),
    (['--weights', 'lander_sparse', 'lander_sparse'], 'each needs a name of its own'),
    (['--weights', 'fuel'], "unknown reward 'fuel'"),
    (['--set', 'speed=1'], 'speed'),
    (['--env-set', 'continuous'], 'is not KEY=VALUE'),
])  # fmt: skip
def test_words_that_do_not_fit_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        compare_rewards.make_jobs(parse(*words))


def test_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match='--seeds is 0, must be 1 or more'):
        compare_rewards.run(parse('--seeds', '0'))


def test_unknown_terms_are_refused_before_the_work():
    job = compare_rewards.make_jobs(parse('--weights', 'fuel=1'))[-1]
    with pytest.raises(ValueError, match="no term 'fuel'; choices are distance"):
        make(job)


def test_a_potential_with_another_discount_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare_rewards, '_train_all', lambda *_: (_ for _ in ()).throw(KeyError))
    for word, told in (('discount=0.9', True), ('discount=0.999', False)):
        with pytest.raises(KeyError):
            compare_rewards.run(parse('--weights', 'potential.legs=1', word))
        assert ('the best policy may change' in capsys.readouterr().out.replace('\n', ' ')) == told


def test_judging_plays_the_own_reward_of_one_episode_each():
    class Brake:
        def act(self, observation):
            return np.where(observation[:, 3] < -0.3, 2, 0)

        def forget(self, done):
            pass

    judge, method = Judge('LunarLander-v3', {}, 4), Brake()
    first, again = judge(method), judge(method)
    judge.close()
    np.testing.assert_array_equal(first.returns, again.returns)
    env = gymnasium.make('LunarLander-v3')
    for index, seed in enumerate(np.random.SeedSequence(JUDGING_SEED).generate_state(4)):
        observation, _ = env.reset(seed=int(seed))
        total, steps, over = 0.0, 0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(
                method.act(observation[None])[0]
            )
            total, steps, over = total + reward, steps + 1, terminated or truncated
        assert first.returns[index] == pytest.approx(total)
        assert first.lengths[index] == steps
    np.testing.assert_allclose(sum(first.parts.values()), first.returns, atol=1e-2)


def _run(curve):
    return Run(None, curve, Judgement(np.zeros(1), np.zeros(1), {}), {})


def test_the_first_evaluation_that_reaches_the_target_counts():
    found = _run([(0, -200.0), (100, 210.0), (200, 150.0), (300, 250.0)])
    assert compare_rewards.solved_at(found, 200.0) == 100
    assert compare_rewards.solved_at(found, 300.0) is None


def test_interval_of_the_mean():
    assert compare_rewards.interval([5.0, 5.0, 5.0]) == (5.0, 5.0)
    low, high = compare_rewards.interval([0.0, 1.0] * 50)
    # Mean 0.5, standard error 0.05.
    assert (low, high) == pytest.approx((0.4, 0.6), abs=0.015)


def test_exposures_show_what_moves_everywhere_and_the_rest_once():
    frames = [np.full((4, 5, 3), 9, dtype=np.uint8) for _ in range(5)]
    for place, frame in enumerate(frames):
        frame[1, place] = 200
    picture = exposures(frames, 5)
    expected = np.full((4, 5, 3), 9, dtype=np.uint8)
    expected[1] = 200
    np.testing.assert_array_equal(picture, expected)


def test_the_verb_trains_judges_and_draws(tmp_path, monkeypatch):
    words = (
        '--weights', 'lander_frugal', '--seeds', '2', '--steps', '256', '--envs', '4',
        '--evaluations', '2', '--episodes', '2', '--set', 'horizon=32',
        'minibatch=16', 'learning_rate=0.01',
    )  # fmt: skip
    args = parse(*words, '--out', str(tmp_path), '--quiet')
    assert compare_rewards.run(args) == 0
    data = json.loads((tmp_path / 'comparison.json').read_text())
    default, frugal = data['rewards']
    for side in (default, frugal):
        assert [seed['curve'][-1][0] for seed in side['seeds']] == [256, 256]
        np.testing.assert_allclose(
            side['own_return'], np.mean([seed['returns'] for seed in side['seeds']])
        )
    # Untrained they are the same policies, judged by the same reward; trained they are not.
    for mine, other in zip(default['seeds'], frugal['seeds'], strict=True):
        assert mine['curve'][0] == other['curve'][0]
        assert mine['curve'][1:] != other['curve'][1:]
    with Image.open(tmp_path / 'comparison.png') as picture:
        assert picture.size[0] > 1000
    with Image.open(tmp_path / 'comparison.gif') as film:
        assert film.n_frames > 10
    # What is there is not trained again, and drawn the same.
    monkeypatch.setattr(compare_rewards, 'train', lambda *_: pytest.fail('trained again'))
    before = (tmp_path / 'comparison.json').read_text()
    assert compare_rewards.run(args) == 0
    assert (tmp_path / 'comparison.json').read_text() == before


def test_runs_are_kept_for_their_own_job_only(tmp_path):
    job, other = compare_rewards.make_jobs(parse('--seeds', '2'))[:2]
    last = Judgement(np.array([1.0, 2.0]), np.array([3, 4]), {'legs': np.array([5.0, 6.0])})
    run = Run(
        job, [(0, -1.5), (100, 1.5)], last, {'network.0.weight': np.eye(2, dtype=np.float32)}
    )
    save_run(run, tmp_path / 'folder' / 'run.npz')
    found = load_run(job, tmp_path / 'folder' / 'run.npz')
    assert found.curve == run.curve
    np.testing.assert_array_equal(found.last.parts['legs'], [5.0, 6.0])
    np.testing.assert_array_equal(found.weights['network.0.weight'], np.eye(2))
    assert load_run(other, tmp_path / 'folder' / 'run.npz') is None
    assert load_run(job, tmp_path / 'none.npz') is None
