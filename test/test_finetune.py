"""Learning from recorded steps: formulas by autograd and by hand, a teacher, a known answer."""

import hashlib
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from lebot_rl_ros.cli.main import main
from lebot_rl_ros.data.transitions import Transitions, TransitionsError, load_transitions
from lebot_rl_ros.learning.collect import collect
from lebot_rl_ros.learning.finetune import FinetuneConfig, finetune
from lebot_rl_ros.learning.objectives import (
    advantage_weights,
    policy_kl,
    recorded_gae,
    supervised_gradients,
)
from lebot_rl_ros.policy.adapters import Adapter, AdapterError, AdapterManifest, LoraConfig, merge
from lebot_rl_ros.policy.files import PolicyManifest, load_policy
from lebot_rl_ros.policy.networks import ActorCritic
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.robot import share_path

torch.set_num_threads(1)
LORA = LoraConfig(2, 4.0, ('actor.0', 'actor.1', 'actor.2'))
MANIFEST = PolicyManifest(
    robot='toy', joint_names=('a', 'b', 'c'), default_pose=(0.0, 0.0, 0.0), action_scale=1.0,
    control_rate=50.0, gait={}, observation={'widths': [5], 'history': 1},
    network={'hidden': [16, 16], 'activation': 'elu'},
)  # fmt: skip
STD = 0.2


def make_base():
    torch.manual_seed(0)
    network = ActorCritic(5, 3, (16, 16), initial_std=STD)
    with torch.no_grad():  # an actor is born with almost nothing to say
        network.actor[2].weight.mul_(30.0)
    extra = {'normaliser.var': np.full(5, 1.5, dtype=np.float32)}
    return network.tensors() | extra


BASE = make_base()


def make_adapter(seed=1, size=0.3):
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in LORA.target_modules:
        out, inputs = BASE[f'{layer}.weight'].shape
        tensors[f'{layer}.lora_A'] = (rng.normal(size=(2, inputs)) / inputs**0.5).astype('f4')
        tensors[f'{layer}.lora_B'] = (size * rng.normal(size=(out, 2))).astype('f4')
    return Adapter(LORA, tensors, None)


def act(tensors):
    return PolicyRuntime(tensors, MANIFEST).act_many


@dataclass
class Result:
    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class Wander:
    """Observations drift whatever is done; each robot falls or is cut now and then."""

    robots, action_size, observation_size = 8, 3, 5

    def __init__(self, reward=None):
        self._reward = reward or (lambda observation, action: -np.square(action).sum(axis=1))

    def seed(self, seed):
        self.rng = np.random.default_rng(seed)

    def reset(self):
        self.age = np.zeros(self.robots, dtype=int)
        self.seen = self.rng.normal(size=(self.robots, 5)).astype(np.float32)
        return self.seen

    def stagger(self):
        raise NotImplementedError

    def step(self, action):
        reward = self._reward(self.seen, action)
        noise = self.rng.normal(size=self.seen.shape)
        self.seen = (0.8 * self.seen + 0.6 * noise).astype(np.float32)
        self.age += 1
        terminated = self.rng.random(self.robots) < 0.01
        truncated = (self.age >= 40) & ~terminated
        self.age[terminated | truncated] = 0
        return Result(self.seen, reward, terminated, truncated)


# Formulas


def test_supervised_gradients_are_those_of_autograd():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(20, 3, generator=generator, requires_grad=True)
    actions, log_std = torch.randn(20, 3, generator=generator), torch.tensor([-1.0, 0.3, -0.2])
    weights = torch.rand(20, generator=generator) * 2
    normal = torch.distributions.Normal(mean, log_std.exp())
    constant = -torch.distributions.Normal(actions, log_std.exp()).log_prob(actions).sum(1)
    reference = (weights * (-normal.log_prob(actions).sum(1) - constant)).mean()
    reference.backward()
    gradient, loss = supervised_gradients(mean.detach(), actions, weights, log_std)
    torch.testing.assert_close(gradient, mean.grad)
    torch.testing.assert_close(loss, reference.detach())


def test_advantage_weights_by_hand():
    weights = advantage_weights(np.array([0.0, 2.0, -2.0, 100.0]), 0.5, 4.0)
    raw = np.array([1.0, np.e, 1 / np.e, 20.0])  # advantage over 0.5 x 4, at most 20
    np.testing.assert_allclose(weights, raw / raw.mean(), rtol=1e-6)
    assert advantage_weights(np.array([1.0, 5.0]), 0.0, 1.0).tolist() == [1.0, 1.0]
    assert advantage_weights(np.zeros(2), 1.0, 0.0).tolist() == [1.0, 1.0]


def recorded(rewards, terminated, truncated):
    size = len(rewards)
    return Transitions(
        np.zeros((size, 1)), np.zeros((size, 1)), np.array(rewards, dtype=float),
        np.array(terminated, dtype=bool), np.array(truncated, dtype=bool),
    )  # fmt: skip


def test_recorded_gae_by_hand():
    # Three steps that end with a fall; three of which the last was cut; one that was cut at once.
    data = recorded([1, 2, 3, 4, 5, 6, 7], [0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1])
    values = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0])
    advantages, returns, known = recorded_gae(data, values, discount=0.5, trace=0.5)
    # deltas: 1 + 10 - 10, 2 + 15 - 20, 3 - 30; 4 + 25 - 40, 5 + 30 - 50; decay 1/4
    last = 5 + 30 - 50
    expected = [1 - 3 / 4 - 27 / 16, -3 - 27 / 4, -27, -11 + last / 4, last, 0, 0]
    np.testing.assert_allclose(advantages, expected)
    np.testing.assert_allclose(returns[known], (values + expected)[known])
    assert known.tolist() == [True] * 5 + [False] * 2


def test_policy_kl_is_torchs():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(30, 3, generator=generator) for _ in range(2))
    log_std = torch.tensor([-1.0, 0.3, -0.2])
    normals = (torch.distributions.Normal(mean, log_std.exp()) for mean in (first, second))
    expected = torch.distributions.kl_divergence(*normals).sum(1).mean()
    assert policy_kl(first, second, log_std) == pytest.approx(float(expected), rel=1e-5)


# Collecting


def test_collected_steps_are_in_the_order_of_time_robot_by_robot():
    data = collect(Wander(), act(BASE), 100, 0, STD)
    assert len(data) == 104  # 13 of each robot
    task = Wander()
    task.seed(0)
    seen = [task.reset()]
    for _ in range(12):
        seen.append(task.step(np.zeros((8, 3))).observation)
    expected = np.array(seen).swapaxes(0, 1).reshape(104, 5)
    np.testing.assert_array_equal(data.observations, expected)
    assert (data.truncated | data.terminated)[12::13].all()


def test_log_probs_belong_to_the_actions():
    std = np.array([0.1, 0.2, 0.4])
    data = collect(Wander(), act(BASE), 400, 0, std)
    mean = torch.from_numpy(act(BASE)(data.observations))
    normal = torch.distributions.Normal(mean, torch.from_numpy(std))
    expected = normal.log_prob(torch.from_numpy(data.actions)).sum(1)
    np.testing.assert_allclose(data.log_probs, expected, atol=1e-4)
    rewards = -np.square(data.actions).sum(1)
    np.testing.assert_allclose(data.rewards, rewards, rtol=1e-5)


def test_collecting_without_noise_and_again():
    data = collect(Wander(), act(BASE), 80, 3)
    assert data.log_probs is None
    np.testing.assert_array_equal(data.actions, act(BASE)(data.observations))
    first, second = (collect(Wander(), act(BASE), 80, 3, 0.1) for _ in range(2))
    np.testing.assert_array_equal(first.actions, second.actions)


@pytest.mark.parametrize(
    ('steps', 'std', 'message'),
    [
        (0, 0.1, 'steps is 0, must be 1 or more'),
        (8, -0.1, 'std is -0.1, must be positive'),
        (8, np.array([0.1, 0.0, 0.1]), 'must be positive for all joints, or 0 for all'),
    ],
)
def test_what_cannot_be_collected_is_refused(steps, std, message):
    with pytest.raises(ValueError, match=message):
        collect(Wander(), act(BASE), steps, 0, std)


# Supervised


@pytest.mark.parametrize('settings', [{}, {'lora': None}, {'temperature': 5.0}])
def test_a_teacher_is_distilled(settings):
    teacher = merge(BASE, [(make_adapter(), 1.0)])
    data = collect(Wander(), act(teacher), 4000, 0)
    result = finetune(BASE, MANIFEST, data, FinetuneConfig(epochs=60, minibatch=256, **settings))
    unseen = collect(Wander(), act(teacher), 2000, 1)
    before, after = (
        np.square(act(tensors)(unseen.observations) - unseen.actions).mean()
        for tensors in (BASE, result.tensors)
    )
    assert before > 0.1
    assert after < 0.2 * before
    assert result.after['validation_loss'] < 0.2 * result.before['validation_loss']
    # What is reported is what the weights do.
    assert result.after['action_rmse'] == pytest.approx(after**0.5, rel=0.3)
    assert result.before['kl'] == result.before['action_change'] == 0.0
    for name in ('log_std', 'normaliser.mean', 'normaliser.var', 'critic.0.weight'):
        np.testing.assert_array_equal(result.tensors[name], BASE[name])
    if 'lora' not in settings:
        merged = merge(BASE, [(Adapter(LORA, result.adapter, None), 1.0)])
        for name, value in merged.items():
            np.testing.assert_allclose(value, result.tensors[name], atol=1e-6, rtol=0)
        # rank 2 of 5x16 + 16x16 + 16x3: 2 (5+16 + 16+16 + 16+3) over 80+16+256+16+48+3
        assert result.share.numbers == 144
        assert result.share.of_actor == pytest.approx(144 / 419)


def test_advantage_weighted_cloning_follows_the_better_of_two_teachers():
    """Half of the data come from each teacher; the reward tells which one was right."""
    good, bad = (merge(BASE, [(make_adapter(seed), 1.0)]) for seed in (1, 2))
    parts = [collect(Wander(), act(tensors), 2000, i) for i, tensors in enumerate((good, bad))]
    data = Transitions(
        *(np.concatenate([getattr(part, name) for part in parts])
          for name in ('observations', 'actions')),
        np.repeat([1.0, -1.0], [len(part) for part in parts]),
        *(np.concatenate([getattr(part, name) for part in parts])
          for name in ('terminated', 'truncated')),
    )  # fmt: skip
    seen = data.observations[::5]
    distances = []
    for temperature in (0.0, 0.3):
        config = FinetuneConfig(minibatch=128, temperature=temperature, discount=0.9)
        tensors = finetune(BASE, MANIFEST, data, config).tensors
        distances.append(
            [np.square(act(tensors)(seen) - act(other)(seen)).mean() for other in (good, bad)]
        )
    plain, weighted = np.array(distances)
    assert weighted[0] < 0.3 * plain[0]
    assert weighted[0] < 0.2 * weighted[1]


def test_training_stops_when_validation_gets_no_better():
    """Actions of pure noise: there is nothing to learn that holds for other trajectories."""
    data = collect(Wander(), act(BASE), 400, 0, 0.5)
    result = finetune(BASE, MANIFEST, data, FinetuneConfig(minibatch=32, patience=3))
    assert len(result.history) == result.epoch + 3
    assert result.stopped == 'no better validation loss for 3 epochs'
    losses = [
        result.before['validation_loss'],
        *(row['validation_loss'] for row in result.history),
    ]
    assert np.argmin(losses) == result.epoch
    assert result.after['validation_loss'] == pytest.approx(min(losses), rel=1e-5)


def test_one_seed_gives_one_adapter():
    data = collect(Wander(), act(BASE), 400, 0, STD)
    for method in ('supervised', 'policy_gradient'):
        config = FinetuneConfig(
            method=method, epochs=2, minibatch=128, validation=0.0, critic_epochs=2
        )
        results = [finetune(BASE, MANIFEST, data, replace(config, seed=s)) for s in (0, 0, 1)]
        first, second, other = (result.adapter for result in results)
        for name, value in first.items():
            np.testing.assert_array_equal(value, second[name])
            assert not np.array_equal(value, other[name])


def test_learning_goes_on_from_an_adapter():
    teacher = make_adapter()
    data = collect(Wander(), act(merge(BASE, [(teacher, 1.0)])), 400, 0)
    result = finetune(BASE, MANIFEST, data, FinetuneConfig(epochs=1), start=teacher.tensors)
    assert result.before['action_rmse'] < 1e-5  # it starts as the teacher itself


# Policy gradient

SHIFT = np.array([0.3, -0.3, 0.2])


def shifted(observation, action):
    """Reward for actions beside those of the base."""
    return -np.square(action - act(BASE)(observation.astype(np.float32)) - SHIFT).sum(axis=1)


PG = FinetuneConfig(
    method='policy_gradient', minibatch=512, discount=0.9, epochs=20, critic_epochs=5
)


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'lora': None, 'learning_rate': 2e-4},
        {'lora': replace(LORA, target_modules=('actor.2', 'critic.2'), bias='lora_only')},
    ],
)
def test_the_policy_moves_to_what_earns_more(settings):
    data = collect(Wander(shifted), act(BASE), 6000, 0, STD)
    config = replace(PG, kl_cap=0.5, **settings)
    result = finetune(BASE, MANIFEST, data, config)
    unseen = collect(Wander(shifted), act(BASE), 800, 1).observations
    move = (act(result.tensors)(unseen) - act(BASE)(unseen)).mean(axis=0)
    assert (move * np.sign(SHIFT) > 0.005).all()
    before, after = (
        collect(Wander(shifted), act(tensors), 4000, 2).rewards.mean()
        for tensors in (BASE, result.tensors)
    )
    assert before == pytest.approx(-np.square(SHIFT).sum(), rel=1e-4)
    assert after > 0.93 * before
    assert 0.0 < result.after['kl'] <= 0.5
    np.testing.assert_array_equal(result.tensors['log_std'], BASE['log_std'])
    if config.lora:
        merged = merge(BASE, [(Adapter(config.lora, result.adapter, None), 1.0)])
        for name in merged:
            if name.startswith('actor.'):
                np.testing.assert_allclose(merged[name], result.tensors[name], atol=1e-6)


def test_the_kl_cap_holds():
    data = collect(Wander(shifted), act(BASE), 4000, 0, STD)
    for cap in (1e-3, 5e-3):
        result = finetune(BASE, MANIFEST, data, replace(PG, kl_cap=cap, learning_rate=1e-2))
        assert 'reached the KL cap' in result.stopped
        assert all(row['kl'] <= cap for row in result.history)
        assert 0.2 * cap < result.history[-1]['kl']  # it went to the cap, not away from it
    free = finetune(BASE, MANIFEST, data, replace(PG, kl_cap=10.0, learning_rate=1e-2))
    assert max(row['kl'] for row in free.history) > 5e-3


def test_data_of_another_policy_are_refused_and_its_spread_helps():
    data = collect(Wander(shifted), act(BASE), 800, 0, 3 * STD)
    with pytest.raises(TransitionsError, match='of the log_probs are too far'):
        finetune(BASE, MANIFEST, data, PG)
    result = finetune(BASE, MANIFEST, data, replace(PG, start_std=3 * STD, epochs=1))
    np.testing.assert_array_equal(result.tensors['log_std'], BASE['log_std'])


def test_log_probs_that_are_missing_are_named():
    data = collect(Wander(), act(BASE), 80, 0)
    with pytest.raises(TransitionsError, match='log_probs are missing, which policy_gradient'):
        finetune(BASE, MANIFEST, data, PG)


def test_steps_that_were_all_cut_teach_nothing():
    data = recorded(np.ones(9), np.zeros(9), np.ones(9))
    data = Transitions(
        np.zeros((9, 5)), np.zeros((9, 3)), data.rewards, data.terminated, data.truncated,
        np.zeros(9),
    )  # fmt: skip
    with pytest.raises(TransitionsError, match='truncated is set at every step'):
        finetune(BASE, MANIFEST, data, PG)


# Refusals


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'method': 'magic'}, "method is 'magic'; choices are supervised, policy_gradient"),
        ({'epochs': 0}, 'epochs is 0, must be 1 or more'),
        ({'minibatch': 0}, 'minibatch is 0'),
        ({'patience': 0}, 'patience is 0'),
        ({'learning_rate': 0.0}, 'learning_rate is 0.0, must be positive'),
        ({'kl_cap': -1.0}, 'kl_cap is -1.0, must be positive'),
        ({'learning_rate': float('nan')}, 'learning_rate is nan'),
        ({'start_std': 0.0}, 'start_std is 0.0, must be positive'),
        ({'validation': 1.0}, r'validation is 1.0, must be in \[0, 1\)'),
        ({'temperature': -1.0}, 'temperature is -1.0, must be 0 or more'),
        ({'lora': LoraConfig()}, 'target_modules has critic.0, .* the actor alone'),
        ({'lora': replace(LORA, target_modules=('0',))}, 'target_modules has 0;'),
    ],
)
def test_configs_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        FinetuneConfig(**settings)


def test_data_and_bases_that_do_not_fit_are_refused():
    data = collect(Wander(), act(BASE), 80, 0)
    wide = replace(MANIFEST, observation={'widths': [6], 'history': 1})
    with pytest.raises(TransitionsError, match=r'observations has 5 numbers a step, .* needs 6'):
        finetune(BASE, wide, data, FinetuneConfig())
    with pytest.raises(ValueError, match=r'base is for 4 observations .* its manifest has 5'):
        finetune(ActorCritic(4, 3, (16, 16)).tensors(), MANIFEST, data, FinetuneConfig())
    lora = replace(LORA, target_modules=('actor.7',))
    with pytest.raises(AdapterError, match=r'target_modules has actor.7'):
        finetune(BASE, MANIFEST, data, FinetuneConfig(lora=lora))
    with pytest.raises(ValueError, match='start from needs the config lora'):
        finetune(BASE, MANIFEST, data, FinetuneConfig(lora=None), start={})
    with pytest.raises(TransitionsError, match=r'one trajectory, .* set validation to 0'):
        finetune(BASE, MANIFEST, data.select(data.segments()[:1]), FinetuneConfig())


def test_numbers_that_run_away_are_reported():
    data = collect(Wander(), act(BASE), 800, 0, STD)
    config = FinetuneConfig(minibatch=32, learning_rate=1e20, gradient_norm=1e20)
    with pytest.raises(ValueError, match=r'epoch 1 is not finite: .* lower the learning rate'):
        finetune(BASE, MANIFEST, data, config)


# The command line


@pytest.fixture
def lebot(capsys):
    """What a call prints; its status is checked."""

    def call(*words, status=0):
        assert main([str(word) for word in words]) == status
        out, err = capsys.readouterr()
        return ' '.join((err if status == 2 else out).split())

    return call


def test_commands_collect_and_finetune(tmp_path, lebot):
    data, place = tmp_path / 'data.npz', tmp_path / 'store'
    base, manifest = load_policy(share_path('policies', 'walk'))
    store = AdapterStore(place)
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in LORA.target_modules:
        out, inputs = base[f'{layer}.weight'].shape
        tensors[f'{layer}.lora_A'] = (rng.normal(size=(2, inputs)) / inputs**0.5).astype('f4')
        tensors[f'{layer}.lora_B'] = (0.05 * rng.normal(size=(out, 2))).astype('f4')
    store.add(
        'teacher', LORA, tensors,
        AdapterManifest('', 1, manifest.sha256, manifest.robot, manifest.joint_names),
    )  # fmt: skip
    words = ['collect', data, '--steps', 1200, '--robots', 6, '--store', place]
    out = lebot(*words, '--adapter', 'teacher', '--noise', 0)
    assert '1,200 steps in' in out
    assert 'without log_probs' in out
    recorded = load_transitions(data)
    merged = merge(base, [(store.get('teacher', 1), 1.0)])
    expected = PolicyRuntime(merged, manifest).act_many(recorded.observations)
    np.testing.assert_allclose(recorded.actions, expected, atol=1e-5)

    out = lebot('finetune', 'pupil', '--data', data, '--store', place, '--epochs', 30)
    assert 'wrote pupil@1' in out
    assert '1,108 numbers, 5.0% of' in out
    pupil = store.get('pupil', 1)
    pupil.check(manifest)
    about = pupil.manifest
    assert about.data == {
        'source': 'recorded steps', 'file': 'data.npz', 'steps': 1200,
        'trajectories': len(recorded.segments()),
        'sha256': hashlib.sha256(data.read_bytes()).hexdigest(),
    }  # fmt: skip
    scores = about.scores
    assert scores['after']['validation_loss'] < 0.2 * scores['before']['validation_loss']
    assert about.training['method'] == 'supervised'
    assert about.training['config']['lora']['r'] == 2
    assert about.verdict == 'candidate'
    actions = PolicyRuntime(merge(base, [(pupil, 1.0)]), manifest).act_many(recorded.observations)
    error = np.square(actions - expected).mean()
    assert (
        error
        < 0.2
        * np.square(
            PolicyRuntime(base, manifest).act_many(recorded.observations) - expected
        ).mean()
    )

    # It goes on from a version, and the new one says so.
    words = ['finetune', 'pupil', '--data', data, '--store', place, '--start', 'pupil@1']
    assert 'wrote pupil@2' in lebot(*words, '--epochs', 20, '--learning-rate', 1e-3)
    assert store.get('pupil', 2).manifest.parent == 'pupil@1'
    assert 'brings its own layers and rank; leave out --rank' in lebot(
        *words, '--rank', 3, status=2
    )

    # A policy gradient with noise; what it learns from so little may be nothing, and says so.
    lebot('collect', data, '--steps', 600, '--robots', 6, '--recipe', 'turn', '--store', place)
    assert load_transitions(data).log_probs is not None
    words = ['finetune', 'turner', '--data', data, '--store', place, '--method', 'policy_gradient']
    out = lebot(*words, '--validation', 0, '--epochs', 2, '--rank', 1, '--layers', 'actor.2')
    assert 'judged by the same' in out
    turner = json.loads((place / 'turner' / '0001' / 'manifest.json').read_text())
    assert 0.0 < turner['scores']['after']['kl'] <= 0.05
    assert turner['training']['config']['lora']['target_modules'] == ['actor.2']


def test_nothing_learned_is_nothing_written(tmp_path, lebot):
    data, place = tmp_path / 'data.npz', tmp_path / 'store'
    lebot('collect', data, '--steps', 300, '--robots', 6, '--noise', 0)
    out = lebot('finetune', 'copy', '--data', data, '--store', place, status=1)
    assert 'nothing was better than the start' in out
    assert not place.exists()


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['finetune', 'Bad!', '--data', 'x.npz'], "adapter name 'Bad!'"),
        (['finetune', 'x', '--data', 'none.npz'], 'none.npz cannot be read'),
        (['finetune', 'x', '--data', 'x.npz', '--epochs', 0], 'epochs is 0'),
        (['finetune', 'x', '--data', 'x.npz', '--start', 'gone@1'], 'no adapter gone'),
        (['collect', 'x.npz', '--recipe', 'swim'], "unknown recipe 'swim'; recipes are"),
        (['collect', 'x.npz', '--robots', 0], '--robots is 0, must be 1 or more'),
        (['collect', 'x.npz', '--adapter', 'gone'], 'no adapter gone'),
        (['collect', 'x.npz', '--steps', 20, '--noise', -1], 'std is -1.0'),
    ],
)
def test_commands_refuse_by_name(words, message, lebot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LEBOT_ADAPTERS', str(tmp_path / 'store'))
    assert message in lebot(*words, status=2)
    assert list(tmp_path.iterdir()) == []
