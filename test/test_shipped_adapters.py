"""The adapters that ship: they load, fit the base, were accepted, and do what they are for."""

import numpy as np
import pytest
import yaml

from lebot_rl_ros.cli.policy_task import task_config
from lebot_rl_ros.envs.adapter_scores import compare
from lebot_rl_ros.envs.recipes import Judging, load_recipe, recipe_names
from lebot_rl_ros.policy.adapters import merge
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.robot import share_path

NAMES = recipe_names()


def same_task(trained_on, recipe):
    """Whether two recipes are the same but for their words."""
    parts = [yaml.safe_load(text) for text in (trained_on, recipe)]
    for part in parts:
        del part['about'], part['why']
    return parts[0] == parts[1]


@pytest.fixture(scope='module')
def base():
    return load_policy(share_path('policies', 'walk'))


@pytest.fixture(scope='module')
def store():
    return AdapterStore(share_path('adapters'))


def test_there_is_one_for_each_recipe_and_no_other(store):
    assert store.names() == NAMES
    assert [store.versions(name) for name in NAMES] == [[1]] * len(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_it_fits_the_base_and_is_small(name, base, store):
    tensors, manifest = base
    ((adapter, weight),) = store.load(name)
    adapter.check(manifest)
    assert weight == 1.0
    assert adapter.manifest.verdict == 'accepted'
    actor = sum(value.size for key, value in tensors.items() if key.startswith('actor.'))
    assert adapter.count <= 0.06 * actor
    assert not any(layer.startswith('critic') for layer in adapter.layers)
    assert same_task(adapter.manifest.training['recipe_text'], load_recipe(name).text)
    assert adapter.manifest.scores['improvement'] >= 0.2
    assert adapter.manifest.scores['improvement_interval_95'][0] > 0.2
    picture = store.folder(name, 1) / 'learning_curve.png'
    assert 0 < picture.stat().st_size < 60_000


@pytest.mark.parametrize('name', NAMES)
def test_it_takes_away_a_fifth_of_the_error(name, base, store, lebot):
    """A small part of the evaluation in docs/adapters.md: fewer robots, other seeds."""
    tensors, manifest = base
    recipe = load_recipe(name)
    task = recipe.task_for(task_config(lebot, manifest, 'policies/walk'))
    adapted = PolicyRuntime(merge(tensors, store.load(name)), manifest)
    comparison = compare(
        lebot, PolicyRuntime(tensors, manifest).act_many, adapted.act_many, task,
        Judging(recipe.judging.commands, robots=6, seconds=5.0), (31, 32),
    )  # fmt: skip
    assert comparison.improvement > 0.2


def test_switched_off_the_base_is_the_base_to_the_bit(base, store):
    tensors, manifest = base
    off = merge(tensors, [(store.load(name)[0][0], 0.0) for name in NAMES])
    for name, value in tensors.items():
        assert off[name].tobytes() == value.tobytes(), name
    observations = np.random.default_rng(0).normal(size=(1000, 34)).astype(np.float32)
    before, after = (PolicyRuntime(t, manifest).act_many(observations) for t in (tensors, off))
    assert before.tobytes() == after.tobytes()
