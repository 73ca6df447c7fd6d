"""Learning from recorded steps alone, on problems whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lebot_rl_ros.learning.objectives import advantage_weights
from lebot_rl_ros.learning.offline.awac import AWAC, AWACConfig, spread
from lebot_rl_ros.learning.offline.batches import Averaged, Batches
from lebot_rl_ros.learning.offline.bc import BCConfig, BehaviourCloning
from lebot_rl_ros.learning.offline.contract import OfflineData, offline_data
from lebot_rl_ros.learning.offline.registry import METHODS, find, make_method
from lebot_rl_ros.learning.offline.run import judge_offline, split, train_offline, whole_way
from lebot_rl_ros.learning.offline.scratch import FromScratch
from lebot_rl_ros.learning.offline.td3_bc import TD3BC, TD3BCConfig, behaviour_scale
from lebot_rl_ros.learning.online.gate import GateConfig
from lebot_rl_ros.learning.online.trained import Trained, TrainedConfig
from lebot_rl_ros.policy.adapters import Adapter, AdapterManifest
from lebot_rl_ros.policy.files import load_policy, save_policy
from lebot_rl_ros.policy.runtime import PolicyRuntime
from online_toy import (
    JOINTS,
    OBSERVATION,
    OFFSET,
    act,
    empty_rows,
    learner,
    mean_actions,
    mistake,
    signed,
    slipped_rows,
    small_base,
)

torch.set_num_threads(1)
QUICK = {'batch': 64, 'hidden': 16, 'policy_starts': 200}


def data_of(*recordings):
    _, manifest = small_base()
    return offline_data(recordings, manifest)


def slipped(count=1500, seed=0, **kinds):
    acting = learner(BehaviourCloning, BCConfig()).trained
    return slipped_rows(acting, np.random.default_rng(seed), count, **kinds)


def linear(kind='all', seed=0):
    """A base without hidden layers, and what is trained of it."""
    base, manifest = small_base(seed, hidden=())
    return base, manifest, Trained(base, manifest, TrainedConfig(kind=kind), seed)


def adapter_of(trained, manifest, **about):
    lora, tensors = trained.export()
    fixed = {'base_sha256': manifest.sha256, 'robot': manifest.robot}
    return Adapter(
        lora, tensors, AdapterManifest('toy', 1, joint_names=manifest.joint_names, **fixed | about)
    )


# --- data


def test_what_cannot_be_learned_from_is_left_out():
    rows = slipped(200)
    rows['mode'][10:20] = 1  # the driver's own safety
    rows['known'][30], rows['terminated'][30] = 0, 0
    rows['known'][40], rows['terminated'][40] = 0, 1  # a fall says something
    data = data_of(rows, slipped(50, seed=1))
    lost = int(((rows['known'] == 0) & (rows['terminated'] == 0)).sum())
    assert data.sources == (200 - 10 - lost, 50 - int((slipped(50, seed=1)['known'] == 0).sum()))
    assert len(data) == sum(data.sources)


def test_trajectories_do_not_reach_over_recordings():
    a, b = empty_rows(5), empty_rows(4)
    b['stamp'] += a['next_stamp'][-1]  # as if it went on, which the first row's follows denies
    b['next_stamp'] += a['next_stamp'][-1]
    b['follows'] = 1
    assert data_of(a, b).trajectories == [slice(0, 5), slice(5, 9)]


def test_reward_terms_that_differ_are_left_out():
    a = empty_rows(3)
    b = np.zeros(2, np.dtype([*a.dtype.descr, ('speed', '<f4')]))
    for name in a.dtype.names:
        b[name] = a[name][:2]
    data = data_of(b, a)
    assert 'speed' not in data.rows.dtype.names
    np.testing.assert_array_equal(data.rows['stamp'], [*b['stamp'], *a['stamp']])
    assert 'speed' in data_of(b).rows.dtype.names


@pytest.mark.parametrize(
    ('spoil', 'words'),
    [
        (lambda rows: rows['reward'].__setitem__(3, np.nan), '1 numbers of reward are not finite'),
        (lambda rows: rows['mode'].__setitem__(slice(None), 0), 'nothing to learn from'),
        (lambda rows: rows['base_sha256'].__setitem__(2, 7), 'made with the base 0707'),
    ],
)
def test_data_that_cannot_be_used_are_refused(spoil, words):
    _, manifest = small_base()
    rows = empty_rows(5)
    rows['base_sha256'] = 1
    spoil(rows)
    with pytest.raises(ValueError, match=words):
        offline_data([rows], replace(manifest, sha256='01' * 32))


def test_another_robot_is_refused():
    _, manifest = small_base()
    wide = replace(manifest, joint_names=('a', 'b', 'c'))
    with pytest.raises(
        ValueError, match=r'recording 1 has 3 observations and 2 joints, .* 3 and 3'
    ):
        offline_data([empty_rows(3)], wide)


def test_the_beginning_can_be_skipped():
    _, manifest = small_base()
    data = offline_data([empty_rows(10), empty_rows(4)], manifest, start=0.06)
    assert data.sources == (7, 1)


def test_the_end_of_every_recording_is_held_out():
    data = data_of(empty_rows(10), empty_rows(20))
    learned, kept = split(data, 0.2, least=6)
    assert learned.sources == (8, 16)
    first, second = data.rows[:10], data.rows[10:]
    np.testing.assert_array_equal(learned.rows, np.concatenate((first[:8], second[:16])))
    np.testing.assert_array_equal(kept, np.concatenate((first[8:], second[16:])))
    assert split(data, 0.2, least=7)[1] is data.rows  # too few to be asked: all are
    assert split(data, 0.0)[0] is data
    with pytest.raises(ValueError, match='holdout is 1'):
        split(data, 1.0)


# --- behaviour cloning


def test_cloning_a_linear_policy_is_least_squares():
    base, _, trained = linear()
    rng = np.random.default_rng(0)
    rows = empty_rows(800)
    rows['observation'] = rng.standard_normal((800, OBSERVATION))
    wanted = rng.standard_normal((OBSERVATION, JOINTS)).astype(np.float32)
    rows['action'] = rows['observation'] @ wanted + 0.3 * rng.standard_normal((800, JOINTS))
    method = BehaviourCloning(trained, base, BCConfig('action', batch=400, actor_rate=3e-3), 0)
    data = data_of(rows)
    for _ in train_offline(method, data, 2500):
        pass
    x = trained.normalised(data.tensor('observation')).numpy()
    x = np.concatenate((x, np.ones((800, 1), np.float32)), axis=1)
    expected, *_ = np.linalg.lstsq(x, rows['action'], rcond=None)
    found = dict(trained.actor.named_parameters())
    np.testing.assert_allclose(found['0.weight'].detach().numpy().T, expected[:-1], atol=0.02)
    np.testing.assert_allclose(found['0.bias'].detach().numpy(), expected[-1], atol=0.02)


@pytest.mark.parametrize('target', ['mean', 'action', 'applied_action'])
def test_what_is_imitated_can_be_chosen(target):
    """Biases alone: the answer is the mean difference from the base."""
    base, _, trained = linear('bias')
    rows = empty_rows(400)
    rng = np.random.default_rng(1)
    rows['observation'] = rng.standard_normal((400, OBSERVATION))
    mean = mean_actions(trained, rows['observation'])
    shifts = {'mean': 0.1, 'action': -0.2, 'applied_action': 0.3}
    for name, shift in shifts.items():
        rows[name] = mean + shift
    method = BehaviourCloning(trained, base, BCConfig(target, actor_rate=1e-2), 0)
    metrics = method.learn(data_of(rows), 300)
    found = mean_actions(trained, rows['observation']) - mean
    np.testing.assert_allclose(found, shifts[target], atol=0.01)
    assert metrics['deviation'] <= abs(shifts[target]) + 0.01


def test_cloning_the_base_changes_nothing():
    """The base's own mean actions: there is nothing to learn, and no step of a fresh adapter."""
    method = learner(BehaviourCloning, BCConfig())
    rows = slipped(300)
    metrics = method.learn(data_of(rows), 200)
    assert metrics['action_error'] < 1e-3
    x = rows['observation']
    base = method.trained.base_mean(torch.from_numpy(np.array(x))).numpy()
    np.testing.assert_allclose(mean_actions(method.trained, x), base, atol=2e-3)


def test_a_policy_is_cloned_from_nothing(tmp_path):
    _, manifest = small_base(seed=5)
    manifest = replace(manifest, gait={'frequency': 2.0, 'swing_height': 0.03})
    acting = learner(BehaviourCloning, BCConfig()).trained
    rows = slipped_rows(acting, np.random.default_rng(0), 2000, std=0.3)
    rows['observation'] = 2.0 + 3.0 * rows['observation']
    rows['mean'] = mean_actions(acting, rows['observation'])
    rows['value'] = 5.0 + rows['observation'][:, 0]
    data = data_of(rows)
    method = FromScratch(data, manifest, BCConfig(actor_rate=3e-3), seed=3)
    history = list(train_offline(method, data, 2000, chunk=500))
    assert history[-1]['action_error'] < 0.25 * float(rows['mean'].std())
    assert history[-1]['value_loss'] < 0.1 * float(rows['value'].var())
    written = save_policy(tmp_path / 'clone', method.tensors(), manifest)
    tensors, read = load_policy(tmp_path / 'clone')
    assert read.sha256 == written.sha256
    np.testing.assert_allclose(
        tensors['normaliser.mean'], data.rows['observation'].mean(axis=0), rtol=1e-4
    )
    np.testing.assert_allclose(np.exp(tensors['log_std']), 0.3, rtol=1e-5)
    said = PolicyRuntime(tensors, read, compiled=False).act_many(rows['observation'])
    error = float(np.sqrt(np.square(said - rows['mean']).mean()))
    assert error < 0.25 * float(rows['mean'].std())


# --- advantage-weighted


def test_weights_by_hand():
    """exp(A / (0.5 * 2)): 1, e, e² over their mean; capped at 20."""
    found = advantage_weights(np.array([0.0, 1.0, 2.0]), 0.5, 2.0)
    e = np.e
    np.testing.assert_allclose(found, np.array([1, e, e * e]) / ((1 + e + e * e) / 3), rtol=1e-6)
    found = advantage_weights(np.array([0.0, 10.0]), 0.5, 2.0)
    np.testing.assert_allclose(found, np.array([1.0, 20.0]) / 10.5, rtol=1e-6)


def test_an_advantage_is_what_the_worse_critic_says_beyond_the_policys_own_action():
    found = learner(AWAC, AWACConfig(**QUICK))
    batch = Batches(data_of(slipped(40)), found.trained, 0).all

    def values(seen, actions):
        return torch.stack((actions.sum(dim=1), 2.0 * actions[:, 0]))

    found.values = values
    with torch.no_grad():
        mine = found.trained.mean_of(batch.seen).numpy()
    actions = batch.actions.numpy()

    def least(a):
        return np.minimum(a.sum(axis=1), 2.0 * a[:, 0])

    np.testing.assert_allclose(
        found.advantages(batch).numpy(), least(actions) - least(mine), atol=1e-5
    )


def test_a_tilted_gaussian_moves_by_its_spread():
    """exp(g.a / (T std)) on actions N(m, s²): the mean moves by s g / (|g| T)."""
    base, _, trained = linear('bias')
    rows = empty_rows(20_000)
    rng = np.random.default_rng(2)
    rows['std'] = 0.2
    rows['observation'] = 0.1 * rng.standard_normal((len(rows), OBSERVATION))
    mean = mean_actions(trained, rows['observation'])
    act(rows, mean, rng)
    config = AWACConfig(temperature=1.0, batch=512, policy_starts=0, actor_rate=3e-3, hidden=8)
    method = AWAC(trained, base, config, 0)
    method.advantages = lambda batch: batch.actions @ torch.tensor([3.0, 4.0])
    method.learn(data_of(rows), 600)
    moved = (mean_actions(trained, rows['observation']) - mean).mean(axis=0)
    np.testing.assert_allclose(moved, 0.2 * np.array([0.6, 0.8]), atol=0.025)


def test_without_exploration_nothing_is_better_than_anything():
    rows = slipped(100)
    rows['action'] = rows['mean']
    with pytest.raises(ValueError, match='has no exploration'):
        spread(data_of(rows))


# --- TD3 with a behaviour term


def test_the_scale_of_values_by_hand():
    values = torch.tensor([[1.0, -3.0], [2.0, -2.0]])
    assert behaviour_scale(values, 2.5) == pytest.approx(1.25)
    assert behaviour_scale(10.0 * values, 2.5) == pytest.approx(0.125)


def test_without_values_it_imitates_the_actions():
    base, _, trained = linear('bias')
    rows = slipped_rows(trained, np.random.default_rng(0), 1000)
    before = mean_actions(trained, rows['observation'])
    rows['action'] = before + np.array([0.2, -0.1], np.float32)
    config = TD3BCConfig(alpha=0.0, actor_rate=1e-2, **{**QUICK, 'policy_starts': 0})
    TD3BC(trained, base, config, 0).learn(data_of(rows), 400)
    moved = mean_actions(trained, rows['observation']) - before
    np.testing.assert_allclose(moved.mean(axis=0), [0.2, -0.1], atol=0.01)


def test_the_actor_stays_in_the_box():
    """Values that promise the more the further: the hinge ends it, near 0.3 from the base."""
    base, _, trained = linear('bias')
    rows = slipped_rows(trained, np.random.default_rng(0), 1000)
    config = TD3BCConfig(
        alpha=50.0, deviation=0.3, hinge=1e4, actor_rate=3e-3, **{**QUICK, 'policy_starts': 0}
    )
    method = TD3BC(trained, base, config, 0)
    before = mean_actions(trained, rows['observation'])
    method.values = lambda seen, actions: actions.sum(dim=1).expand(2, -1)
    batches = Batches(data_of(rows), trained, 0)
    for _ in range(600):
        batch = batches.draw(64)
        method._improve(batch.seen, batch.actions)
    moved = (mean_actions(trained, rows['observation']) - before).mean(axis=0)
    assert (np.abs(moved - 0.3) < 0.05).all()


def test_a_linear_quadratic_regulator_is_found():
    """Dynamics x' = 0.8 x + 0.5 u, reward -(x² + 0.1 u²), discount 0.9; Riccati gives the gain."""
    a, b, r, discount = 0.8, 0.5, 0.1, 0.9
    p = 1.0
    for _ in range(500):
        gain = discount * a * b * p / (r + discount * b * b * p)
        p = 1.0 + r * gain**2 + discount * (a - b * gain) ** 2 * p
    base, manifest, _ = linear()
    base['actor.0.weight'][:], base['actor.0.bias'][:] = 0.0, 0.0
    trained = Trained(base, manifest, TrainedConfig(kind='all'), 0)
    rng = np.random.default_rng(3)
    rows = empty_rows(6000)
    x = rng.uniform(-1.0, 1.0, len(rows))
    u = rng.uniform(-1.2, 1.2, (len(rows), JOINTS))
    rows['std'] = 0.7
    rows['action'] = u
    rows['observation'][:, 0] = x
    rows['next_observation'][:, 0] = a * x + b * u[:, 0]
    rows['reward'] = -(x**2 + r * u[:, 0] ** 2 + 0.1 * u[:, 1] ** 2)
    config = TD3BCConfig(
        alpha=200.0, discount=discount, hidden=32, batch=128, deviation=1.5, value_scale=2.0,
        target_noise=0.05, tau=0.02, policy_starts=300, actor_rate=1e-2, critic_rate=3e-3,
        memory=100,
    )  # fmt: skip
    method = TD3BC(trained, base, config, 0)
    for _ in train_offline(method, data_of(rows), 1500):
        pass
    probe = np.zeros((2, OBSERVATION), np.float32)
    probe[:, 0] = -0.7, 0.7
    said = mean_actions(trained, probe)
    found = -(said[1, 0] - said[0, 0]) / 1.4
    assert found == pytest.approx(gain, rel=0.15)
    assert np.abs(said[:, 1]).max() < 0.15


# --- all of them


@pytest.mark.parametrize(
    ('name', 'settings', 'std', 'share'),
    [
        (
            'td3_bc',
            {'alpha': 1.0, 'critic_rate': 1e-2, 'hidden': 32},
            0.4,
            0.3,
        ),  # a critic sees no top beyond what was tried
        ('awac', {'temperature': 0.3}, 0.2, 0.3),
    ],
)
def test_what_slipped_is_put_right(name, settings, std, share):
    """The base is wrong by OFFSET; of its squared error little is left."""
    base, manifest = small_base()
    trained = Trained(base, manifest, TrainedConfig(), 0)
    settings = settings | {'discount': 0.0, 'memory': 100, 'actor_rate': 3e-3, 'value_scale': 1.0}
    method = make_method(name, trained, base, QUICK | settings, 0)
    before = mistake(trained)
    assert before == pytest.approx(float(np.square(OFFSET).sum()), rel=1e-3)
    for _ in train_offline(method, data_of(slipped(3000, std=std)), 800):
        pass
    assert mistake(trained) < share * before


def test_what_is_shown_is_the_average_and_what_learns_goes_on():
    """Weights 1, 2, 3, 4 with a memory of 2: 1, then 1.5, 2.25, 3.125."""
    _, _, trained = linear('bias')
    parameter = trained.parameters()[0]
    averaged = Averaged(trained, 2)
    seen = []
    for value in (1.0, 2.0, 3.0, 4.0):
        with averaged:
            if seen:
                assert parameter[0].item() == value - 1.0
            with torch.no_grad():
                parameter.fill_(value)
            averaged.step()
        seen.append(parameter[0].item())
    assert seen == [1.0, 1.5, 2.25, 3.125]


@pytest.mark.parametrize('name', ['bc', 'awac', 'td3_bc'])
@pytest.mark.parametrize('kind', ['lora', 'bias', 'last_layer', 'all'])
def test_the_same_seed_gives_the_same_bits(name, kind):
    found = []
    for seed in (0, 0, 1):
        base, manifest = small_base()
        trained = Trained(base, manifest, TrainedConfig(kind=kind), seed)
        known = find(name)[1].__dataclass_fields__
        settings = {key: value for key, value in QUICK.items() if key in known}
        settings |= {'target': 'action'} if name == 'bc' else {'policy_starts': 5}
        method = make_method(name, trained, base, settings, seed)
        rows = list(train_offline(method, data_of(slipped(300)), 30, chunk=10))
        assert [row['steps'] for row in rows] == [10.0, 20.0, 30.0]
        found.append(trained.export()[1])
    for key in found[0]:
        np.testing.assert_array_equal(found[0][key], found[1][key], err_msg=key)
    assert any((found[0][key] != found[2][key]).any() for key in found[0])


def test_numbers_that_run_away_end_it():
    base, manifest = small_base()
    trained = Trained(base, manifest, TrainedConfig(kind='all'), 0)
    settings = {'actor_rate': 1e30, 'gradient_norm': 1e30, 'target': 'action'}
    method = make_method('bc', trained, base, settings, 0)
    with pytest.raises(ValueError, match=r'bc: .* after .* lower the rates'):
        for _ in train_offline(method, data_of(slipped(300)), 50, chunk=10):
            pass


def test_names_and_settings_that_there_are_none_of():
    base, manifest = small_base()
    trained = Trained(base, manifest, TrainedConfig(), 0)
    with pytest.raises(ValueError, match="method is 'cql'; choices are bc, awac, td3_bc"):
        find('cql')
    with pytest.raises(ValueError, match="awac has no setting 'alpha'; it has batch"):
        make_method('awac', trained, base, {'alpha': 1.0}, 0)
    with pytest.raises(ValueError, match='temperature is -1'):
        make_method('awac', trained, base, {'temperature': -1.0}, 0)
    with pytest.raises(ValueError, match="target is 'reward'; choices are mean, action"):
        make_method('bc', trained, base, {'target': 'reward'}, 0)


def test_every_method_of_the_table_is_there():
    for name, entry in METHODS.items():
        method, config = find(name)
        assert method.__name__ == entry.method
        assert config.__name__ == entry.config
        assert entry.about
        assert entry.steps > 0


# --- the gate


def learned_towards(shift):
    """An adapter that moves the mean action by ``shift``, rows to judge it by, base, manifest."""
    base, manifest = small_base()
    trained = Trained(base, manifest, TrainedConfig(kind='bias'), 0)
    with torch.no_grad():
        trained.actor[len(trained.layers) - 1].bias += torch.tensor(shift)
    rows = slipped(2000)
    rows['terminated'] = 1  # a bandit: what is earned at once is all
    return adapter_of(trained, manifest), data_of(rows).rows, base, manifest


def test_caps_are_those_of_the_whole_way():
    found = whole_way(GateConfig())
    plain = GateConfig()
    assert (found.change, found.kl_mean) == (plain.change_base, plain.kl_base)
    assert found.kl_p99 == pytest.approx(plain.kl_base * plain.kl_p99 / plain.kl_mean)
    assert (found.norm, found.evidence, found.saturation) == (0.6, 1.0, 0.25)


def test_what_points_to_better_actions_may_act():
    adapter, rows, base, manifest = learned_towards([0.3, -0.2])
    verdict, passed = judge_offline(adapter, base, manifest, rows)
    assert verdict.verdict == 'probation', verdict.reason
    assert verdict.measures['evidence'] > 3.0
    assert passed is adapter


def test_what_points_the_wrong_way_is_refused_for_want_of_evidence():
    adapter, rows, base, manifest = learned_towards([-0.3, 0.2])
    verdict, _ = judge_offline(adapter, base, manifest, rows)
    assert (verdict.stage, verdict.verdict) == ('evidence', 'rejected')
    assert 'did not earn more' in verdict.reason
    # Who does not claim to earn more is not asked for it.
    assert judge_offline(adapter, base, manifest, rows, evidence=False)[0].verdict == 'probation'


def test_what_goes_too_far_or_is_broken_is_refused():
    adapter, rows, base, manifest = learned_towards([30.0, 0.0])
    verdict, _ = judge_offline(adapter, base, manifest, rows)
    assert verdict.verdict == 'rejected'
    assert 'bias/actor.2' in verdict.reason
    name = next(iter(adapter.tensors))
    adapter.tensors[name][...] = np.nan
    verdict, _ = judge_offline(adapter, base, manifest, rows)
    assert verdict.stage == 'static'
    assert 'not finite' in verdict.reason


def test_a_version_that_was_gone_on_from_is_what_a_step_is_measured_from():
    adapter, rows, base, manifest = learned_towards([0.3, -0.2])
    same = Adapter(adapter.config, adapter.tensors, replace(adapter.manifest, parent='toy@1'))
    verdict, _ = judge_offline(same, base, manifest, rows, adapter)
    assert verdict.measures['change'] == 0.0
    assert verdict.measures['change_base'] > 0.0
    stale = replace(adapter.manifest, parent='toy@9')
    verdict, _ = judge_offline(
        Adapter(adapter.config, adapter.tensors, stale), base, manifest, rows, adapter
    )
    assert 'stale' in verdict.reason


def test_versions_inside_the_data_do_not_matter():
    rows = slipped(300)
    again = signed(rows.copy(), 4)
    found = []
    for one in (rows, again):
        base, manifest = small_base()
        trained = Trained(base, manifest, TrainedConfig(), 0)
        method = make_method('td3_bc', trained, base, {**QUICK, 'policy_starts': 5}, 0)
        method.learn(data_of(one), 20)
        found.append(trained.export()[1])
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_data_know_their_length_and_columns():
    data = OfflineData(empty_rows(4), (4,))
    assert len(data) == 4
    column = data.tensor('reward')
    column[:] = 3.0
    assert data.rows['reward'].max() == 0.0
