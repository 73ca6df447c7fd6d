"""Recipes: those of the package, and what is refused in one's own."""

import pytest
import yaml

from lebot_rl_ros.envs.recipes import Recipe, load_recipe, recipe_names
from lebot_rl_ros.policy.adapters import LoraConfig
from lebot_rl_ros.sim.randomisation import TRAINING

GOOD = {'judging': {'commands': [[0.1, 0.0]]}}


def write(tmp_path, table):
    path = tmp_path / 'mine.yaml'
    path.write_text(table if isinstance(table, str) else yaml.safe_dump(table))
    return path


@pytest.mark.parametrize('name', recipe_names())
def test_the_recipes_of_the_package(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.about
    assert len(recipe.why) > 40
    assert recipe.text.startswith('about:')
    lora = LoraConfig(**vars(recipe.lora))
    assert lora.r * 554 <= 0.06 * 22024 or lora.target_modules != recipe.lora.target_modules


def test_there_are_four():
    assert recipe_names() == ['backwards', 'ice', 'payload', 'turn']


def test_what_is_not_said_is_as_in_the_bases_training(tmp_path):
    recipe = load_recipe(
        write(
            tmp_path,
            {
                'task': {
                    'randomisation': {'friction': [0.2, 0.3], 'load_position': [0.1, 0, 1]},
                    'reward': {'weights': {'tilt': -3}, 'fall': -10},
                },
                **GOOD,
            },
        )
    )
    assert recipe.name == 'mine'
    assert recipe.judging.commands == ((0.1, 0.0),)
    drawn = recipe.task.randomisation
    assert (drawn.friction, drawn.load_position) == ((0.2, 0.3), (0.1, 0.0, 1.0))
    assert (drawn.mass, drawn.kp) == (TRAINING.mass, TRAINING.kp)
    assert recipe.task.reward.fall == -10.0
    assert recipe.task.reward.weights == {**Recipe().task.reward.weights, 'tilt': -3.0}
    assert recipe.training == Recipe().training


@pytest.mark.parametrize(
    ('table', 'message'),
    [
        ({'tusk': {}}, r"mine.yaml: unknown key 'tusk'; keys are about, why, task, judging"),
        ({'name': 'x'}, "unknown key 'name'"),
        ({'task': {'speed': 1}}, r"mine.yaml: task: unknown key 'speed'; keys are forward, yaw"),
        (
            {'task': {'randomisation': {'slop': [0, 1]}}},
            r"task.randomisation: unknown key 'slop'; keys are friction, mass, payload",
        ),
        (
            {'task': {'randomisation': {'slope': [0.2, 0.1]}}},
            r'task.randomisation.slope is \[0.2, 0.1\], expected the lower number first',
        ),
        ({'task': {'forward': [0.0]}}, r'task.forward is \[0.0\], expected 2 numbers'),
        ({'task': {'forward': ['a', 0]}}, r"task.forward\[0\] is 'a', expected a number"),
        ({'task': {'forward': 0.3}}, 'task.forward is 0.3, expected a list'),
        ({'task': {'hold': True}}, 'task.hold is True, expected a number'),
        ({'task': {'history': 1.5}}, 'task.history is 1.5, expected a whole number'),
        ({'task': 3}, 'task is 3, expected a table of keys'),
        (
            {'task': {'reward': {'weights': {'tilt': 'much'}}}},
            "weights.tilt is 'much', expected a number",
        ),
        (
            {'task': {'reward': {'weights': {'tild': 1}}}},
            r"task.reward: unknown reward terms \['tild'\]; known are track_linear",
        ),
        ({'training': {'steps': 1.5}}, 'training.steps is 1.5, expected a whole number'),
        ({'training': {'steps': 0}}, 'training: steps is 0, must be positive'),
        ({'training': {'rehearsal': 0.3}}, 'choices are 0.0, 0.25, 0.5, 0.75 of a multiple of 4'),
        ({'training': {'robots': 6}}, 'rehearsal is 0.25 of 6 robots'),
        ({'training': {'start_std': 2}}, r'start_std is 2.0, must be in \(0, 1\]'),
        ({'training': {'critic_warmup': -1}}, 'critic_warmup is -1, must be 0 or more'),
        ({'lora': {'use_rslora': 1}}, 'lora.use_rslora is 1, expected true or false'),
        ({'lora': {'target_modules': [1]}}, r'target_modules\[0\] is 1, expected text'),
        ({'judging': {'commands': []}}, 'judging.commands is empty'),
        ({'judging': {'commands': [[1]]}}, r'commands\[0\] is \[1\], expected 2 numbers'),
        ('about: [', 'is not YAML'),
        ('3', 'is 3, expected a table of keys'),
    ],
)
def test_what_is_wrong_is_named(tmp_path, table, message):
    path = write(tmp_path, {**GOOD, **table} if isinstance(table, dict) else table)
    with pytest.raises(ValueError, match=message) as error:
        load_recipe(path)
    assert str(path) in str(error.value)


def test_an_unknown_name_gives_the_choices():
    with pytest.raises(
        ValueError, match="unknown recipe 'tern'; recipes are backwards, ice, payload, turn"
    ):
        load_recipe('tern')
    with pytest.raises(ValueError, match='cannot be read: No such file'):
        load_recipe('no/such.yaml')
