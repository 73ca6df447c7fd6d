"""`lebot train adapter` and `lebot evaluate --recipe`, small but real: recipe to verdict."""

import argparse
import json

import numpy as np
import pytest
import yaml

from lebot_rl_ros.cli import evaluate, evaluate_adapter, train, train_adapter
from lebot_rl_ros.cli.adapter_report import judge
from lebot_rl_ros.envs.adapter_scores import Comparison, TaskScore
from lebot_rl_ros.policy.adapters import AdapterError
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.robot import share_path

RECIPE = {
    'about': 'A test.',
    'task': {'forward': [0.1, 0.2], 'randomisation': {'load': [0.1, 0.2]}},
    'training': {'steps': 1, 'robots': 4, 'critic_warmup': 1},
    'judging': {'commands': [[0.2, 0.0]], 'robots': 2, 'seconds': 3.0},
}


def run(module, *words):
    parser = argparse.ArgumentParser()
    module.add_parser(parser.add_subparsers())
    return module.run(parser.parse_args([*words, '--quiet']))


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    for module in (train_adapter, evaluate_adapter):
        monkeypatch.setattr(module, 'SEEDS', (5, 6))
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def train_it(recipe, *words, store='store'):
    place = recipe.parent / store
    work = [] if '--work' in words else ['--work', str(recipe.parent / 'work')]
    assert run(train, 'train', 'adapter', str(recipe), '--store', str(place), *work, *words) == 0
    return AdapterStore(place)


def test_one_command_makes_a_version_with_all_that_is_known(recipe):
    store = train_it(recipe, '--seed', '3')
    adapter = store.get('mine', 1)
    tensors, base = load_policy(share_path('policies', 'walk'))
    adapter.check(base)
    assert adapter.count == 1108
    assert np.abs(adapter.tensors['actor.2.lora_B']).max() > 0
    manifest = adapter.manifest
    assert manifest.training['seed'] == 3
    assert manifest.training['steps'] == 20 * 24 * 4  # a whole segment
    assert manifest.training['recipe_text'] == recipe.read_text()
    assert manifest.training['command'].split()[0] == 'lebot'
    assert manifest.scores['seeds'] == [5, 6]
    assert manifest.scores['numbers'] == 1108
    assert manifest.scores['share_of_actor'] == pytest.approx(1108 / 22024)
    # 1920 steps and two robots decide nothing, but the verdict must follow from the scores.
    good = manifest.scores['improvement'] >= 0.2
    assert manifest.verdict == ('accepted' if good else 'rejected')
    assert f'{manifest.scores["improvement"]:.1%} less' in manifest.reason
    picture = store.folder('mine', 1) / 'learning_curve.png'
    assert picture.read_bytes().startswith(b'\x89PNG')
    again = load_policy(share_path('policies', 'walk'))[0]
    assert all(again[name].tobytes() == value.tobytes() for name, value in tensors.items())


def test_the_same_seed_gives_the_same_adapter_and_another_another(recipe):
    stores = [
        train_it(recipe, '--no-evaluation', '--seed', seed, store=place)
        for seed, place in (('0', 'a'), ('0', 'b'), ('1', 'c'))
    ]
    first, same, other = (store.get('mine', 1) for store in stores)
    assert first.manifest.sha256 == same.manifest.sha256 != other.manifest.sha256
    assert first.manifest.verdict == 'candidate'


def test_what_was_interrupted_goes_on(recipe):
    whole = train_it(recipe, '--no-evaluation', '--steps', '3840', store='a').get('mine', 1)
    train_it(recipe, '--no-evaluation', '--work', str(recipe.parent / 'w'), store='b')
    resumed = train_it(
        recipe, '--no-evaluation', '--steps', '3840', '--resume',
        '--work', str(recipe.parent / 'w'), store='c',
    ).get('mine', 1)  # fmt: skip
    assert resumed.manifest.sha256 == whole.manifest.sha256


def test_all_weights_are_a_policy_of_their_own(recipe):
    store = train_it(recipe, '--full')
    assert store.names() == []
    tensors, manifest = load_policy(recipe.parent / 'work' / 'policy')
    base, _ = load_policy(share_path('policies', 'walk'))
    assert manifest.training['learning_rate'] == pytest.approx(1e-3)
    assert manifest.scores['seeds'] == [5, 6]
    changed = {name for name in base if not np.array_equal(base[name], tensors[name])}
    assert {'actor.0.weight', 'actor.2.bias', 'critic.0.weight'} <= changed
    assert not any(name.startswith('normaliser') for name in changed)


def test_a_name_that_cannot_be_one_is_refused_before_the_work(recipe):
    bad = recipe.with_name('My Own.yaml')
    recipe.rename(bad)
    with pytest.raises(AdapterError, match='My Own'):
        run(train, 'train', 'adapter', str(bad))


def test_before_and_after_on_a_recipe(recipe):
    store = train_it(recipe, '--no-evaluation')
    adapter = f'{store.folder("mine", 1)}/'
    result = recipe.parent / 'scores.json'
    words = ['evaluate', '--recipe', str(recipe), '--json', str(result)]
    status = run(evaluate, *words, '--adapter', adapter)
    data = json.loads(result.read_text())
    assert status == (0 if data['improvement'] >= 0.2 else 1)
    assert data['base']['error'] > 0
    assert data['improvement'] == pytest.approx(1 - data['other']['error'] / data['base']['error'])
    with pytest.raises(ValueError, match='name one with --adapter'):
        run(evaluate, *words)


def test_the_verdict_says_why():
    base, other = (tuple(TaskScore(e, 0.0, 0.0, 0.0) for e in errors) for errors in (
        (0.1, 0.1), (0.079, 0.079),
    ))  # fmt: skip
    assert judge(Comparison((1, 2), base, other), 'ice') == (
        'accepted',
        'error on recipe ice over 2 seeds: 0.1000 -> 0.0790 m/s, 21.0% less '
        '(95 %: 21.0% to 21.0%); 20% or more is needed',
    )
    assert judge(Comparison((1, 2), base, base), 'ice')[0] == 'rejected'
