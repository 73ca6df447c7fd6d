"""`lebot train METHOD` and `lebot play`: what they write, say and refuse."""

import json

import gymnasium
import numpy as np
import pytest
import torch

from lebot_rl_ros.cli.main import main
from lebot_rl_ros.cli.method_start import parse_lora
from lebot_rl_ros.cli.method_worlds import parse_arguments
from lebot_rl_ros.cli.train_method import EVALUATIONS
from lebot_rl_ros.envs.rollout_video import record, write_video
from lebot_rl_ros.envs.world import make_world
from lebot_rl_ros.learning.method_files import load_method, read_manifest
from lebot_rl_ros.learning.registry import find
from lebot_rl_ros.learning.run_checkpoint import Checkpoint
from lebot_rl_ros.learning.runner import Runner
from lebot_rl_ros.policy.files import load_policy
from lebot_rl_ros.policy.runtime import PolicyRuntime

torch.set_num_threads(1)
ONLINE = {'steps': 1, 'updates': 10}
BRIEF = ['--video', 'none', '--quiet']


def train(*words):
    return main(['train', *words])


@pytest.fixture(scope='module')
def lake(tmp_path_factory):
    """A table that knows the frozen lake without the ice."""
    out = tmp_path_factory.mktemp('lake')
    words = [
        '--env',
        'FrozenLake-v1',
        '--env-set',
        'is_slippery=False',
        '--envs',
        '1',
        '--steps',
        '1e4',
    ]
    assert train('q_learning', *words, '--out', str(out), '--seed', '3', *BRIEF) == 0
    return out


def test_a_training_writes_its_folder(lake):
    names = {path.name for path in lake.iterdir()}
    assert names == {'model', 'learning_curve.png', 'tensorboard', 'checkpoint.safetensors'}
    manifest = read_manifest(lake)
    assert (manifest.method, manifest.env, manifest.seed) == ('q_learning', 'FrozenLake-v1', 3)
    assert manifest.env_kwargs == {'is_slippery': False}
    assert manifest.scores['best_return'] == 1.0
    assert manifest.scores['fresh_return'] == 1.0
    assert manifest.training['envs'] == 1
    events = list((lake / 'tensorboard').iterdir())
    assert len(events) == 1
    assert events[0].stat().st_size > 1000
    assert (lake / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')


def test_what_was_learned_plays(lake, capsys):
    assert main(['play', str(lake), '--episodes', '4']) == 0
    said = capsys.readouterr().out
    assert 'q_learning on FrozenLake-v1: 4' in ' '.join(said.split())
    assert '1.00' in said
    assert main(['play', str(lake), '--env', 'CartPole-v1']) == 2
    assert 'its observation space is Discrete(n=16), that of CartPole-v1 is Box' in (
        capsys.readouterr().err
    )


def test_the_table_is_printed(tmp_path, capsys):
    words = ['--env', 'FrozenLake-v1', '--envs', '1', '--steps', '500', '--out', str(tmp_path)]
    assert train('q_learning', *words, '--video', 'none') == 0
    said = ' '.join(capsys.readouterr().out.split())
    for part in ('best return', 'final return', 'on new episodes', 'q_learning on FrozenLake-v1'):
        assert part in said
    assert 'model/, learning_curve.png' in said.replace(' ', ' ')


SMALL = ['reinforce', '--env', 'CartPole-v1', '--envs', '2', '--set', 'hidden=8', '--seed', '1']


def _rows(folder):
    """Rows of a training, from its checkpoint, without the seconds."""
    from safetensors import safe_open

    with safe_open(folder / 'checkpoint.safetensors', framework='np') as file:
        table = json.loads(file.metadata()['run'])
    rows = [{k: v for k, v in row.items() if k != 'seconds'} for row in table['history']]
    return table['steps'], rows


def test_a_training_resumes_where_it_was(tmp_path, monkeypatch):
    whole, part = tmp_path / 'whole', tmp_path / 'part'
    words = [*SMALL, '--steps', '2000', '--eval-every', '500', '--eval-episodes', '2', *BRIEF]
    assert train(*words, '--out', str(whole)) == 0
    steps, rows = _rows(whole)
    assert steps >= 2000

    class KilledError(Exception):
        pass

    from lebot_rl_ros.learning.methods.reinforce import Reinforce

    iterate, count = Reinforce.iterate, []

    def until(self, world):
        count.append(1)
        if len(count) == 10:
            raise KilledError
        return iterate(self, world)

    monkeypatch.setattr(Reinforce, 'iterate', until)
    with pytest.raises(KilledError):
        train(*words, '--out', str(part))
    monkeypatch.undo()
    assert 0 < _rows(part)[0] < 2000
    assert train(*words, '--out', str(part), '--resume') == 0
    assert _rows(part) == (steps, rows)
    ours, theirs = load_method(whole).state(), load_method(part).state()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def test_resume_refuses_another_training(tmp_path, capsys):
    out = ['--out', str(tmp_path), '--steps', '300', *BRIEF]
    assert train(*SMALL, '--resume', *out) == 2
    assert 'checkpoint.safetensors is not a checkpoint that can be read' in capsys.readouterr().err
    assert train(*SMALL, *out) == 0
    assert train(*SMALL, '--resume', *out, '--set', 'discount=0.9') == 2
    assert 'belongs to another training: config was' in capsys.readouterr().err


def test_an_early_stop(tmp_path, capsys):
    words = ['--steps', '100000', '--eval-every', '200', '--early-stop', '1', '--video', 'none']
    assert train(*SMALL, *words, '--out', str(tmp_path)) == 0
    assert 'reached the target 1' in ' '.join(capsys.readouterr().out.split())
    assert read_manifest(tmp_path).steps < 1000


def test_settings_are_explained_with_those_of_the_environment(capsys):
    assert train('ppo', '--env', 'CartPole-v1', '--set', 'help') == 0
    said = capsys.readouterr().out.splitlines()
    assert 'epochs: int = 10; CartPole-v1: 20' in said
    assert 'hidden: tuple[int, ...] = (64, 64)' in said


@pytest.mark.parametrize(
    ('words', 'complaint'),
    [
        (['ppo', '--env', 'CartPloe-v1'], "there is no environment 'CartPloe-v1'"),
        (['q_learning', '--env', 'CartPole-v1'], r'q_learning cannot work with continuous (4,)'),
        (['ddpg', '--env', 'CartPole-v1'], 'ddpg cannot work with 2 discrete actions'),
        (['maml', '--env', 'Pendulum-v1'], 'Pendulum-v1 is one task, not a distribution of tasks'),
        (
            ['reinforce', '--env', 'CartPole-v1', '--set', 'colour=red'],
            "ReinforceConfig has no field 'colour'; fields are learning_rate: str | float",
        ),
        (['reinforce', '--env', 'CartPole-v1', '--set', 'rate'], "'rate' is not KEY=VALUE"),
        (
            ['reinforce', '--env', 'CartPole-v1', '--set', 'hidden=wide'],
            "hidden of ReinforceConfig is 'wide', must be tuple[int, ...]",
        ),
        (['reinforce', '--env', 'CartPole-v1', '--lora', 'r=2'], 'needs --base FOLDER'),
        (['reinforce', '--env', 'CartPole-v1', '--base', 'nowhere'], 'nowhere/manifest.json'),
        (['reinforce', '--env', 'CartPole-v1', '--steps', '0'], 'steps, segment and rows are 0'),
        (['reinforce', '--env', 'CartPole-v1', '--envs', '0'], '0 environments of CartPole-v1'),
        (['reinforce', '--env', 'CartPole-v1', '--env-set', 'x'], "--env-set 'x' is not KEY"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, capsys, words, complaint):
    assert train(*words, '--out', str(tmp_path / 'out'), *BRIEF) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_reward_that_is_not_a_number_ends_it_with_its_name(tmp_path, capsys):
    class Spoiled(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)
        metadata = {'render_modes': []}
        steps = 0

        def __init__(self, render_mode=None):
            pass

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.steps += 1
            reward = float('nan') if self.steps == 50 else 1.0
            return np.zeros(2, np.float32), reward, self.steps % 10 == 0, False, {}

    gymnasium.register('Spoiled-v0', Spoiled)
    try:
        words = ['--env', 'Spoiled-v0', '--envs', '1', '--steps', '500', '--out', str(tmp_path)]
        assert train('reinforce', *words, *BRIEF) == 2
    finally:
        del gymnasium.registry['Spoiled-v0']
    assert 'Spoiled-v0, step 50: reward is nan in environment 0' in capsys.readouterr().err


def test_a_walk_that_lebot_walk_takes_and_an_adapter_on_it(tmp_path):
    words = ['ppo', '--env', 'LeBotVelocity-v0', '--envs', '4', '--steps', '200']
    words += ['--set', 'horizon=24', 'minibatch=48', 'epochs=1', 'hidden=16,16']
    words += ['--eval-every', '1e6', '--eval-episodes', '1', *BRIEF]
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert train(*words, '--out', str(first)) == 0
    tensors, manifest = load_policy(first / 'policy')
    assert manifest.training['command']
    method = load_method(first)
    observation = np.random.default_rng(0).standard_normal((5, manifest.observation_size))
    acts = PolicyRuntime(tensors, manifest).act_many(observation.astype(np.float32))
    np.testing.assert_allclose(acts, method.act(observation.astype(np.float32)), atol=2e-6)

    lora = ['--base', str(first), '--lora', 'r=2,targets=actor.0+actor.1+actor.2']
    assert train(*words, *lora, '--out', str(second)) == 0
    said = read_manifest(second)
    assert (said.lora['r'], said.lora['lora_alpha']) == (2, 2.0)
    assert said.training['base_sha256'] == read_manifest(first).sha256
    adapted = load_method(second)
    merged, manifest = load_policy(second / 'policy')
    acts = PolicyRuntime(merged, manifest).act_many(observation.astype(np.float32))
    np.testing.assert_allclose(acts, adapted.act(observation.astype(np.float32)), atol=2e-6)
    assert np.abs(merged['actor.0.weight'] - tensors['actor.0.weight']).max() > 0.0
    # What the adapter does not touch is the base's to the bit.
    np.testing.assert_array_equal(merged['actor.0.bias'], tensors['actor.0.bias'])
    assert np.any(merged['critic.0.weight'] != tensors['critic.0.weight'])  # trained whole
    state, base = adapted.state(), load_method(first).state()
    np.testing.assert_array_equal(state['network.actor.1.weight'], base['network.actor.1.weight'])


def test_arguments_of_an_environment():
    words = ['continuous=true', 'gravity=-9.8', 'map_name=4x4', 'area=circle', 'span=(1, 2)']
    assert parse_arguments(words) == {
        'continuous': True, 'gravity': -9.8, 'map_name': '4x4', 'area': 'circle', 'span': (1, 2),
    }  # fmt: skip


def test_words_of_an_adapter():
    class Method:
        network = torch.nn.Sequential(
            torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)
        )

    config = parse_lora('r=4', Method())
    assert (config.r, config.lora_alpha, config.target_modules) == (4, 4.0, ('0', '2'))
    config = parse_lora('r=4, alpha=8,targets=0,bias=lora_only', Method())
    assert (config.lora_alpha, config.target_modules, config.bias) == (8.0, ('0',), 'lora_only')
    with pytest.raises(ValueError, match="no field 'rank'; fields are r: int"):
        parse_lora('rank=4', Method())


class Painter(gymnasium.Env):
    """Grey that brightens by the step."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    metadata = {'render_modes': ['rgb_array'], 'render_fps': 50}

    def __init__(self, render_mode=None):
        self.render_mode, self.age = render_mode, 0

    def reset(self, *, seed=None, options=None):
        self.age = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.age += 1
        return np.zeros(1, np.float32), 1.0, self.age >= 20, False, {}

    def render(self):
        if self.render_mode is None:
            return None
        return np.full((64, 1000, 3), 10 * self.age, np.uint8)


@pytest.fixture
def painter():
    gymnasium.register('Painter-v0', Painter)
    yield 'Painter-v0'
    del gymnasium.registry['Painter-v0']


def test_a_rollout_is_recorded_and_written(tmp_path, painter):
    image = pytest.importorskip('PIL.Image')
    world, forgot = make_world(painter, 1, render_mode='rgb_array'), []
    frames, returns = record(
        world, lambda x: np.zeros(1, int), 2, forget=lambda done: forgot.append(done.tolist())
    )
    assert returns == [20.0, 20.0]
    assert len(frames) == 41
    assert [frame[0, 0, 0] for frame in frames[18:22]] == [180, 190, 0, 10]
    assert forgot == [[True], [True]]
    write_video(frames, tmp_path / 'a' / 'x.gif', world.frame_rate)
    with image.open(tmp_path / 'a' / 'x.gif') as picture:
        assert picture.n_frames == 21  # every second one, for 25 Hz
        assert picture.info['duration'] == 40
        assert picture.size == (250, 16)  # halved until it fits
    frames, returns = record(world, lambda x: np.zeros(1, int), 5, longest=30)
    assert (len(frames), returns) == (31, [20.0, 10.0])
    frames, _ = record(world, lambda x: np.zeros(1, int), 2, every=8)
    # On from age 10, every eighth step; brightness is the age.
    assert [frame[0, 0, 0] // 10 for frame in frames] == [10, 18, 6, 14]


def test_videos_that_cannot_be(tmp_path, painter):
    with pytest.raises(ValueError, match='no frames'):
        write_video([], tmp_path / 'x.gif', 50.0)
    with pytest.raises(ValueError, match=r'must end in \.gif or \.mp4'):
        write_video([np.zeros((4, 4, 3), np.uint8)], tmp_path / 'x.avi', 50.0)
    with pytest.raises(
        ValueError, match="Painter-v0 gives no pictures; it needs render_mode='rgb"
    ):
        record(make_world(painter, 1), lambda x: np.zeros(1, int))


def test_a_training_without_pictures_is_still_written(tmp_path, capsys):
    words = ['--env', 'Navigation-v0', '--envs', '2', '--steps', '100', '--out', str(tmp_path)]
    assert train('reinforce', *words) == 0
    said = ' '.join(capsys.readouterr().out.split())
    assert 'no video: Navigation-v0 has no pictures' in said
    assert (tmp_path / 'model' / 'model.safetensors').exists()
    assert not (tmp_path / 'rollout.gif').exists()


def test_evaluations_go_round_the_training(lake):
    from safetensors import safe_open

    from lebot_rl_ros.learning.run_checkpoint import FILE

    with safe_open(lake / FILE, framework='np') as file:
        table = json.loads(file.metadata()['run'])
    judged = [row['steps'] for row in table['history'] if 'eval_return' in row]
    assert len(judged) == EVALUATIONS
    assert judged[0] == 500


@pytest.mark.parametrize(
    ('name', 'env', 'envs', 'settings', 'segment'),
    [
        ('q_learning', 'FrozenLake-v1', 2, {}, 300),
        ('reinforce', 'CartPole-v1', 2, {'baseline': 'mean'}, 100),
        ('actor_critic', 'Pendulum-v1', 4, {**ONLINE, 'normalise_observations': True}, 40),
        ('actor_critic', 'CartPole-v1', 1, {**ONLINE, 'streaming': True}, 40),
        ('ppo', 'CartPole-v1', 4, {'horizon': 16, 'epochs': 2}, 100),
        ('ppo', 'Pendulum-v1', 4, {'horizon': 15, 'epochs': 2, 'state_dependent': True}, 100),
        ('grpo', 'CartPole-v1', 8, {'window': 16, 'epochs': 1}, 200),
        ('dpo', 'CartPole-v1', 8, {'window': 16, 'epochs': 1, 'pairs': 32}, 200),
        ('rl2', 'Navigation-v0', 8, {'epochs': 1}, 320),
        ('maml', 'Navigation-v0', 40, {'epochs': 1}, 1600),
    ],
)
def test_methods_resume_to_the_same_bits(tmp_path, name, env, envs, settings, segment):
    cls, config = find(name)

    def build(folder):
        world = make_world(env, envs)
        method = cls(config(**settings), world.observation_space, world.action_space, seed=1)
        checkpoint = Checkpoint(tmp_path / folder)
        return Runner(method, world, 4 * segment, [checkpoint], segment=segment), checkpoint

    whole, _ = build('whole')
    list(whole.run())
    killed, _ = build('part')
    for row in killed.run():
        if row['steps'] >= 2 * segment + 1:
            break
    resumed, checkpoint = build('part')
    checkpoint.resume(resumed)
    assert 0 < resumed.steps < whole.steps
    torch.manual_seed(5)  # what another process would have drawn before
    list(resumed.run())
    assert resumed.steps == whole.steps
    ours, theirs = whole.method.state(), resumed.method.state()
    for key, array in ours.items():
        np.testing.assert_array_equal(array, theirs[key], err_msg=key)
