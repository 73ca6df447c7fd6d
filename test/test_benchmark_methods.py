"""The comparison with stable-baselines3: what is measured, how it is judged, what is shown."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lebot_rl_ros.cli import benchmark_methods
from lebot_rl_ros.cli.benchmark_cells import CELLS
from lebot_rl_ros.cli.benchmark_methods_page import cells_of, final, page, plot, summarise
from lebot_rl_ros.cli.benchmark_run import Clock, mean_return, run_ours, run_theirs
from lebot_rl_ros.cli.benchmark_stats import (
    band,
    bootstrap_difference,
    bootstrap_mean,
    not_worse,
)
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.learning.method import Box, Discrete, Outcome
from lebot_rl_ros.learning.registry import find

CELL = 'ppo:CartPole-v1'


def row(side, seed, values, wall=10.0, cell=CELL):
    curve = [(1000 * (i + 1), value) for i, value in enumerate(values)]
    settings = CELLS[cell].settings
    return {
        'cell': cell, 'side': side, 'seed': seed, 'curve': curve, 'wall': wall, 'cpu': wall / 2,
        'settings': settings,
    }  # fmt: skip


def test_an_interval_covers_the_mean_of_what_it_was_made_of():
    rng = np.random.default_rng(0)
    low, high = bootstrap_mean(np.array([1.0, 2.0, 3.0, 4.0]), rng)
    assert low < 2.5 < high
    assert bootstrap_mean(np.array([7.0, 7.0]), rng) == (7.0, 7.0)


def test_worse_is_who_ends_below_beyond_the_interval():
    rng = np.random.default_rng(0)
    good, bad = np.array([100.0, 101.0, 99.0, 100.5]), np.array([80.0, 82.0, 79.0, 81.0])
    assert not_worse(good, bad, rng)
    assert not not_worse(bad, good, rng)
    assert not_worse(np.array([100.0, 60.0]), np.array([90.0, 91.0]), rng)  # too few to say
    low, high = bootstrap_difference(good, bad, rng)
    assert low < good.mean() - bad.mean() < high
    assert low > 0


def test_a_band_is_about_the_mean_of_the_curves():
    curves = np.array([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]])
    mean, low, high = band(curves, np.random.default_rng(0))
    assert_allclose(mean, [1.0, 2.0, 3.0])
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert_allclose((low[0], high[0]), (0.0, 2.0))


class Countdown:
    """Environment i pays 1 a step; its episodes last i + 1 steps."""

    name, count, steps, finished = 'countdown', 3, 0, ()
    observation_space, action_space = Box((1,), np.zeros(1), np.ones(1)), Discrete(2)

    def __init__(self):
        self.observation, self._age = np.zeros((3, 1), np.float32), np.zeros(3, int)

    def step(self, action):
        assert action.shape == (3,)
        self._age += 1
        done = self._age > np.arange(3)
        self._age[done] = 0
        return Outcome(
            self.observation, self.observation, np.ones(3, np.float32), done, np.zeros(3, bool)
        )


def test_every_environment_gives_as_many_episodes_else_short_ones_would_count_more():
    value = mean_return(Countdown(), lambda seen: np.zeros(len(seen), int), 6)
    assert value == pytest.approx((1 + 2 + 3) / 3)


def test_settings_of_our_side_are_fields_of_the_method():
    for cell in CELLS.values():
        config = find(cell.method)[1](**cell.ours.config)
        assert config is not None
        assert json.loads(json.dumps(cell.settings)) == cell.settings
        hidden = cell.ours.config.get('hidden', config.hidden)
        assert tuple(hidden) == cell.hidden  # equal networks
        assert config.activation == cell.activation


@pytest.mark.parametrize('cell', [CELL, 'td3:Pendulum-v1'])
@pytest.mark.parametrize('train', [run_ours, run_theirs])
def test_both_sides_train_and_are_judged_on_the_way(cell, train):
    short = replace(CELLS[cell], steps=512, evaluations=2, episodes=2)
    clock, curve = Clock(), []
    train(short, 0, clock, lambda steps, value: curve.append((steps, value)))
    assert [steps >= at for (steps, _), at in zip(curve, (256, 512), strict=True)] == [True, True]
    assert np.isfinite([value for _, value in curve]).all()
    assert clock.cpu > 0
    assert clock.wall > 0


def test_the_numbers_of_a_cell():
    rows = [row('ours', s, [0] * 9 + [100 + s], wall=6.0) for s in range(3)]
    rows += [row('theirs', s, [0] * 9 + [50 + s], wall=10.0) for s in range(3)]
    assert final(rows[0]) == 100.0
    (summary,) = summarise(rows)
    assert (summary.ours, summary.theirs, summary.seeds) == (101.0, 51.0, (3, 3))
    assert summary.time == pytest.approx(0.6)
    assert summary.difference[0] > 40
    assert np.isnan(summary.solved).all()  # 475 was never reached
    assert summary.reached == (0, 0)
    assert cells_of(summary)[6] == 'yes'
    (summary,) = summarise([row('ours', 0, [500, 500]), row('theirs', 0, [400, 480])])
    assert summary.solved == (1000.0, 2000.0)
    rows = [row('ours', 0, [0, 500]), row('ours', 1, [475, 0]), row('theirs', 0, [474, 0])]
    (summary,) = summarise(rows)
    assert summary.reached == (2, 0)  # the mean of ours is 250 at most
    assert cells_of(summary)[-1] == '475: never / never (2 / 0)'
    assert summarise(rows[:2]) == []  # one side alone says nothing


def test_a_page_shows_every_cell_and_draws_it(tmp_path):
    rows = [row('ours', 0, [100, 200]), row('theirs', 0, [300, 400])]
    rows += [row('ours', 1, [110, 210]), row('theirs', 1, [310, 410])]
    text = page(summarise(rows))
    assert '| ppo:CartPole-v1 | 100,000 |' in text
    assert '| NO |' in text
    assert 'images/ppo-cartpole-v1.png' in text
    plot(rows, tmp_path / 'a' / 'curve.png')
    assert (tmp_path / 'a' / 'curve.png').read_bytes()[:4] == b'\x89PNG'


def test_runs_of_other_settings_are_not_shown(tmp_path):
    """Those of the peer do not depend on our method's settings, and stay."""
    old = row('ours', 0, [1.0])
    old['settings'] = {**old['settings'], 'steps': 7}
    changed = {'ours': {**old['settings']['ours'], 'epochs': 3}}
    touched, untouched = row('ours', 1, [3.0]), row('theirs', 1, [4.0])
    for run in (touched, untouched):
        run['settings'] = {**run['settings'], **changed}
    for number, kept in enumerate((row('theirs', 0, [2.0]), old, touched, untouched)):
        (tmp_path / f'{number}.json').write_text(json.dumps(kept))
    shown = [(r['side'], r['seed']) for r in benchmark_methods.load(tmp_path, [CELL])]
    assert shown == [('theirs', 0), ('theirs', 1)]


def test_what_cannot_be_is_refused(tmp_path, capsys):
    assert main(['benchmark', 'methods', '--only', 'ppo:Go']) == 2
    assert 'no cell ppo:Go; choices are ppo:CartPole-v1, ' in capsys.readouterr().err
    assert main(['benchmark', 'methods', '--show', '--runs', str(tmp_path)]) == 2
    assert 'no run is in' in capsys.readouterr().err
    assert main(['benchmark', 'methods', '--seeds', '0']) == 2
    assert '--seeds is 0, must be 1 or more' in capsys.readouterr().err
