"""`lebot benchmark meta`: shares and verdicts by hand, runs that are kept, figures."""

import argparse
import json

import numpy as np
import pytest

from lebot_rl_ros.cli import compare_meta, meta_trials


def made_up(seed, maml=-1.0, rl2=-1.0):
    """A run with a gap of ten between the untrained policy and the oracle."""
    way = np.zeros((20, 4, 2)).tolist()
    columns = {'steps': [1e5, 2e5, 3e5], 'return_update_0': [-9.0, -8.0, -7.0]}
    return {
        'goals': [[0.1 * i, 0.2] for i in range(4)],
        'oracle': 0.0,
        'untrained': [-10.0, -8.0, -8.0, -8.0],
        'plain': [-7.0, -4.0, -5.0, -6.0],
        'maml': [-7.0, maml, -0.5, -0.4],
        'rl2': [-5.0, rl2],
        'distances': {row[3]: 0.1 + 0.01 * seed for row in compare_meta.ROWS},
        'paths': dict.fromkeys(
            ('plain_before', 'maml_before', 'maml_after', 'rl2_1', 'rl2_2'), way
        ),
        'learning': {
            name: columns | {'return_update_1': [-6, -3, -1], 'return_episode_2': [-6, -3, -1]}
            for name in ('plain', 'maml', 'rl2')
        },
        'seconds': 1.0,
    }


def arguments(*words):
    parser = argparse.ArgumentParser()
    compare_meta.add_parser(parser.add_subparsers())
    return parser.parse_args(['meta', *words])


def test_share_of_the_gap_by_hand():
    runs = [made_up(0, maml=-1.0), made_up(1, maml=-2.5)]
    assert compare_meta.closed(runs, 'maml', 1) == pytest.approx([0.9, 0.75])
    assert compare_meta.closed(runs, 'plain', 0) == pytest.approx([0.3, 0.3])
    assert compare_meta.closed(runs, 'untrained', 0) == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize(
    ('maml', 'rl2', 'good'), [(-1.0, -1.0, True), (-2.5, -1.0, False), (-1.0, -2.5, False)]
)
def test_both_methods_must_close_enough(maml, rl2, good):
    assert compare_meta.reached([made_up(s, maml, rl2) for s in range(5)]) is good


def test_runs_are_kept_until_settings_change(tmp_path, monkeypatch):
    calls = []

    def trial(seed, steps):
        calls.append((seed, steps))
        return made_up(seed)

    monkeypatch.setattr(meta_trials, 'navigation', trial)
    words = ('--only', 'navigation', '--seeds', '2', '--runs', str(tmp_path), '--steps')
    assert compare_meta.run(arguments(*words, '50')) == 0
    assert compare_meta.run(arguments(*words, '50')) == 0
    assert calls == [(0, 50), (1, 50)]
    assert compare_meta.run(arguments(*words, '60')) == 0  # other settings: made again
    assert calls[2:] == [(0, 60), (1, 60)]
    kept = json.loads((tmp_path / 'navigation-1.json').read_text())
    assert kept['steps'] == 60
    out = tmp_path / 'images'
    assert compare_meta.run(arguments(*words, '60', '--show', '--out', str(out))) == 0
    assert len(calls) == 4
    assert (out / 'meta_navigation.png').stat().st_size > 20_000


def test_errors_name_the_value(tmp_path):
    with pytest.raises(ValueError, match='--seeds is 0, must be 1 or more'):
        compare_meta.run(arguments('--seeds', '0'))
    with pytest.raises(ValueError, match='no run of navigation is in'):
        compare_meta.run(arguments('--only', 'navigation', '--show', '--runs', str(tmp_path)))
