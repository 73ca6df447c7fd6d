"""The gate: each stage refuses what it must, in words, and what passes is within the caps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_samples import load_base, random_adapter
from lebot_rl_ros.data.rows import transition_dtype
from lebot_rl_ros.learning.online import evidence
from lebot_rl_ros.learning.online.behaviour import (
    describe_change,
    gaussian_kl,
    largest_change,
    layer_changes,
    mean_actions,
    part_way,
    saturation,
)
from lebot_rl_ros.learning.online.gate import Gate, GateConfig
from lebot_rl_ros.policy.adapters import Adapter, LoraConfig, merge
from lebot_rl_ros.policy.compare import golden_observations
from lebot_rl_ros.policy.runtime import PolicyRuntime

BASE, MANIFEST = load_base()
GOLDEN = golden_observations(BASE)
NOTHING = np.empty((0, GOLDEN.shape[1]), np.float32)
ACTOR = ('actor.0', 'actor.1', 'actor.2')
SCALE = MANIFEST.action_scale


def make(seed=0, size=0.0, name='recover', version=1, parent='', **options):
    """An adapter of all actor layers with biases; of size 0 it changes nothing."""
    options = {'target_modules': ACTOR, 'bias': 'lora_only', **options}
    config, tensors, manifest = random_adapter(MANIFEST, name, seed, size=size, **options)
    for key in tensors:
        if key.endswith('.bias'):
            tensors[key] = (tensors[key] + BASE[key]).astype(np.float32)
    return Adapter(config, tensors, replace(manifest, version=version, parent=parent))


def shifted(by, joint=6, **options):
    """One that adds the same to one joint's action, whatever is seen."""
    adapter = make(**options)
    bias = adapter.tensors['actor.2.bias'].copy()
    bias[joint] += np.float32(by)
    return replace(adapter, tensors=adapter.tensors | {'actor.2.bias': bias})


def judge(adapter, accepted=None, recent=NOTHING, rows=None, **config):
    return Gate(BASE, MANIFEST, GateConfig(**config)).judge(adapter, recent, accepted, rows)


# The numbers


def test_divergence_by_hand():
    # 0.5 (0.1 / 0.1)² = 0.5; 0.5 (3² + 4²) = 12.5
    assert gaussian_kl(np.array([[0.1, 0.0], [0.3, 0.4]]), 0.1) == pytest.approx([0.5, 12.5])


def test_changes_and_saturation_by_hand():
    difference = np.array([[0.1, -0.5], [-0.2, 0.3]])
    assert largest_change(difference, 0.6) == pytest.approx([0.12, 0.3])
    actions = np.array([[1.0, 0.0], [-1.2, 0.99], [0.5, 2.0], [0.1, 0.1]])
    assert saturation(actions) == pytest.approx([0.5, 0.25])


def test_a_description_by_hand():
    joints = len(MANIFEST.joint_names)
    base, old, new = (np.zeros((100, joints)) for _ in range(3))
    old[:, 0] = 0.1
    new[:, 0] = 0.3
    new[:2, 1] = 1.0  # twice in a hundred: its share at the limit, and beyond the percentile
    found = describe_change(base, old, new, MANIFEST, 0.1)
    assert found['change'] == pytest.approx(SCALE * 1.0)
    assert found['change/fl_hip'] == pytest.approx(SCALE * 0.2)
    assert found['change_base'] == pytest.approx(SCALE * 1.0)
    assert found['kl_mean'] == pytest.approx(2.0 + 0.02 * 50.0)
    assert found['kl_base'] == pytest.approx(4.5 + 0.02 * 50.0)
    assert 2.0 < found['kl_p99'] <= 52.0
    assert found['saturation/fl_knee'] == pytest.approx(0.02)
    assert found['saturation/fl_hip'] == 0.0


def test_layers_by_hand():
    adapter = shifted(0.3)
    b = np.zeros_like(adapter.tensors['actor.0.lora_B'])
    a = np.zeros_like(adapter.tensors['actor.0.lora_A'])
    b[0, 0], a[0, :2] = 2.0, (3.0, 4.0)  # product of norm 10, scaled by 2 / 2
    adapter.tensors.update({'actor.0.lora_A': a, 'actor.0.lora_B': b})
    found = layer_changes(BASE, adapter)
    assert found['actor.0'][0] == pytest.approx(10.0 / np.linalg.norm(BASE['actor.0.weight']))
    assert found['actor.2'] == (0.0, pytest.approx(0.3, rel=1e-6))


# Part of the way


def test_part_of_the_way_from_the_base_scales_what_is_added():
    adapter = make(size=0.02)
    part = part_way(BASE, None, adapter, 0.25)
    for layer in ACTOR:
        assert part.delta(layer) == pytest.approx(0.25 * adapter.delta(layer), abs=1e-7)
        name = f'{layer}.bias'
        quarter = BASE[name] + 0.25 * (adapter.tensors[name] - BASE[name])
        assert part.tensors[name] == pytest.approx(quarter, abs=1e-7)
    assert part.manifest.training['share_of_step'] == 0.25
    part.check(MANIFEST)


def test_part_of_the_way_between_versions_keeps_rank_and_is_nearly_exact():
    old, step = make(size=0.01), make(seed=1, size=0.001)
    tensors = {
        name: (value + 0.05 * (step.tensors[name] - BASE.get(name, 0.0))).astype(np.float32)
        for name, value in old.tensors.items()
    }
    new = replace(old, tensors=tensors)
    part = part_way(BASE, old, new, 0.5)
    assert part.config == old.config
    for layer in ACTOR:
        exact = 0.5 * (old.delta(layer) + new.delta(layer))
        scale = np.abs(new.delta(layer) - old.delta(layer)).max()
        assert np.abs(part.delta(layer) - exact).max() < 0.05 * scale


def test_part_of_the_way_between_different_kinds_is_exact_at_a_larger_rank():
    old = make(size=0.01, r=3)
    new = make(seed=1, size=0.01, r=2, target_modules=('actor.2',))
    part = part_way(BASE, old, new, 0.25)
    part.check(MANIFEST)
    assert part.config.r == 5
    wanted = merge(BASE, [(old, 0.75), (new, 0.25)])
    found = merge(BASE, [(part, 1.0)])
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


# Static


@given(data=st.data())
@settings(max_examples=40)
def test_any_number_that_is_not_finite_is_refused(data):
    adapter = make(size=0.001)
    name = data.draw(st.sampled_from(sorted(adapter.tensors)))
    tensor = adapter.tensors[name].copy()
    index = data.draw(st.integers(0, tensor.size - 1))
    tensor.flat[index] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    verdict, _ = judge(replace(adapter, tensors=adapter.tensors | {name: tensor}))
    assert (verdict.stage, verdict.verdict, verdict.scale) == ('static', 'rejected', 0.0)
    assert f'tensor {name} has 1 of {tensor.size} values that are not finite' in verdict.reason


def test_floats_so_large_that_their_product_is_not_finite_are_refused():
    adapter = make(size=0.001)
    huge = {n: np.full_like(v, 3e38) for n, v in adapter.tensors.items() if '.lora_' in n}
    verdict, _ = judge(replace(adapter, tensors=adapter.tensors | huge))
    assert verdict.verdict == 'rejected'
    assert 'norm/actor.0 is' in verdict.reason


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'base_sha256': '0' * 64}, f'made for base {"0" * 64}, this is'),
        ({'robot': 'other'}, 'made for robot other, this is lebot'),
        ({'joint_names': MANIFEST.joint_names[::-1]}, 'made for joint order'),
    ],
)
def test_another_base_is_refused(changes, words):
    adapter = make(size=0.001)
    verdict, _ = judge(replace(adapter, manifest=replace(adapter.manifest, **changes)))
    assert (verdict.stage, verdict.verdict) == ('static', 'rejected')
    assert words in verdict.reason


def test_foreign_tensors_are_refused():
    adapter = make(size=0.001)
    for tensors, words in (
        ({'normaliser.mean': BASE['normaliser.mean']}, 'unknown tensors'),
        ({'actor.1.lora_B': np.zeros((64, 2), np.float32)}, 'has shape (64, 2)'),
        ({'actor.1.bias': np.zeros(128)}, 'tensor actor.1.bias is float64, expected float32'),
    ):
        verdict, _ = judge(replace(adapter, tensors=adapter.tensors | tensors))
        assert (verdict.stage, verdict.verdict) == ('static', 'rejected')
        assert words in verdict.reason
    missing = dict(adapter.tensors)
    del missing['actor.0.lora_A']
    verdict, _ = judge(replace(adapter, tensors=missing))
    assert 'tensor actor.0.lora_A is missing' in verdict.reason


def test_caps_of_layers():
    verdict, _ = judge(make(size=0.5))
    assert verdict.stage == 'static'
    assert 'of the weight, more than 0.6' in verdict.reason
    verdict, _ = judge(shifted(2.5))
    assert 'bias/actor.2 is 2.5 in norm, more than 2' in verdict.reason
    verdict, _ = judge(shifted(2.5), bias=3.0)
    assert verdict.stage == 'behaviour'


@pytest.mark.parametrize(
    ('parent', 'accepted', 'stale'),
    [
        ('recover@3', 3, False),
        ('recover@1', 3, True),
        ('recover@4', 3, True),  # of one that was rejected since
        ('recover@3', None, True),
        ('', 3, False),
        ('', None, False),
        ('turn@1', 3, False),  # trained elsewhere from another adapter: it has no lineage here
    ],
)
def test_what_was_made_from_another_version_is_stale(parent, accepted, stale):
    last = None if accepted is None else make(version=accepted)
    verdict, _ = judge(shifted(0.01, version=5, parent=parent), last)
    assert (verdict.stage == 'static') is stale
    if stale:
        now = 'the base' if accepted is None else 'recover@3'
        assert verdict.reason == f'stale: made from {parent}, but what is accepted now is {now}'
        assert judge(shifted(0.01, parent=parent), last, lineage=False)[0].stage == 'behaviour'


# Behaviour


@pytest.mark.parametrize(
    ('by', 'scale'),
    [
        (0.06, 1.0),  # 0.5 (0.06 / 0.1)² = 0.18 nats, up to 0.25
        (0.1, 0.5),  # 0.5 nats; a half of the way 0.125
        (0.25, 0.25),  # 3.125; 0.78; a quarter of the way 0.195
        (0.4, 0.0),  # 8; even a quarter of the way 0.5
    ],
)
def test_a_step_too_far_is_shortened_before_it_is_refused(by, scale):
    adapter = shifted(by)
    verdict, acts = judge(adapter)
    assert verdict.scale == scale
    assert verdict.stage == 'behaviour'
    if scale == 0.0:
        assert verdict.verdict == 'rejected'
        assert acts is adapter
        assert 'at 1 of its step kl_mean is 8 nats, more than 0.25' in verdict.reason
        assert 'too far to be shortened' in verdict.reason
        return
    assert verdict.verdict == 'probation'
    bias = BASE['actor.2.bias'][6] + scale * by
    assert acts.tensors['actor.2.bias'][6] == pytest.approx(bias, rel=1e-6)
    assert verdict.measures['change'] == pytest.approx(SCALE * scale * by, rel=1e-4)
    assert verdict.measures['change/rr_hip'] == verdict.measures['change']
    assert verdict.measures['kl_mean'] == pytest.approx(0.5 * (scale * by / 0.1) ** 2, rel=1e-4)


def test_a_step_is_measured_from_the_last_accepted_version():
    accepted = shifted(0.5, version=3)
    verdict, acts = judge(shifted(0.55, version=4, parent='recover@3'), accepted)
    assert verdict.scale == 1.0
    assert verdict.measures['change'] == pytest.approx(SCALE * 0.05, rel=1e-3)
    assert verdict.measures['change_base'] == pytest.approx(SCALE * 0.55, rel=1e-3)
    verdict, acts = judge(shifted(0.6, version=4, parent='recover@3'), accepted)
    assert verdict.scale == 0.5  # half the way from 0.5, not from 0
    assert acts.tensors['actor.2.bias'][6] == pytest.approx(BASE['actor.2.bias'][6] + 0.55)


def test_a_slipped_horn_can_be_made_up_for_in_ten_versions():
    wanted, reached, accepted = 0.35 / SCALE, 0.0, None
    for version in range(1, 11):
        parent = accepted.manifest.label if accepted else ''
        # A learner that asks for what it may have, a little less than 0.071 a step.
        reached = min(wanted, reached + 0.07)
        verdict, accepted = judge(shifted(reached, version=version, parent=parent), accepted)
        assert (verdict.verdict, verdict.scale) == ('probation', 1.0)
    assert verdict.measures['change_base'] == pytest.approx(0.35, rel=1e-3)


def test_small_steps_add_up_to_the_cap_against_the_base():
    accepted = shifted(0.58, version=3)
    verdict, _ = judge(shifted(0.62, version=4, parent='recover@3'), accepted, change_base=0.35)
    assert verdict.verdict == 'rejected'
    assert 'change_base is 0.372 rad, more than 0.35' in verdict.reason
    assert 'at 0.25 of its step change_base is 0.354 rad, more than 0.35' in verdict.reason
    verdict, _ = judge(shifted(0.62, version=4, parent='recover@3'), accepted, kl_base=16.0)
    assert 'kl_base is 19.2 nats, more than 16' in verdict.reason


def test_a_joint_at_its_limit_is_named():
    loose = {'change': 9.0, 'change_base': 9.0, 'kl_mean': 1e4, 'kl_p99': 1e4, 'kl_base': 1e4}
    verdict, _ = judge(shifted(1.9, joint=5), scales=(1.0,), **loose)
    assert verdict.verdict == 'rejected'
    assert 'saturation/rl_knee is' in verdict.reason
    assert 'more than 0.25' in verdict.reason


def test_recent_observations_count_beside_the_golden_ones():
    # A weight on one input alone: seen at ten times its spread, it moves ten times as much.
    adapter = make(r=1)
    b = np.zeros_like(adapter.tensors['actor.0.lora_B'])
    a = np.zeros_like(adapter.tensors['actor.0.lora_A'])
    b[:, 0], a[0, 0] = 0.003, 1.0
    adapter.tensors.update({'actor.0.lora_A': a, 'actor.0.lora_B': b})
    seen = GOLDEN[:500].copy()
    seen[:, 0] *= 30.0
    calm, _ = judge(adapter, recent=GOLDEN[:500])
    verdict, _ = judge(adapter, recent=seen)
    assert calm.measures['change'] == pytest.approx(judge(adapter)[0].measures['change'])
    assert verdict.scale < calm.scale == 1.0


def test_recent_observations_that_are_too_few_or_not_finite_are_said():
    verdict, _ = judge(shifted(0.01), recent=GOLDEN[:100])
    assert verdict.verdict == 'probation'
    assert 'golden observations alone were judged, as 100 recent ones are fewer than 250' in (
        verdict.reason
    )
    seen = GOLDEN[:300].copy()
    seen[3, 2], seen[7, 0] = np.nan, np.inf
    verdict, _ = judge(shifted(0.01), recent=seen)
    assert verdict.verdict == 'probation'
    assert '2 of 300 recent observations are not finite and do not count' in verdict.reason
    assert 'golden observations alone' not in verdict.reason
    with pytest.raises(ValueError, match=r'recent observations have shape \(3, 5\), expected'):
        judge(shifted(0.01), recent=np.zeros((3, 5)))


@given(seed=st.integers(0, 10_000), size=st.floats(1e-4, 0.05), from_base=st.booleans())
@settings(max_examples=25)
def test_what_passes_is_within_the_caps_whoever_measures(seed, size, from_base):
    accepted = None if from_base else make(seed=7, size=0.01, version=2)
    step = make(seed=seed, size=size)
    tensors = step.tensors
    if accepted is not None:
        tensors = {
            name: (value + step.tensors[name] - BASE.get(name, 0.0) * name.endswith('bias'))
            if not name.endswith('lora_A')
            else value
            for name, value in accepted.tensors.items()
        }
        tensors = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
    config = GateConfig()
    verdict, acts = judge(replace(step, tensors=tensors), accepted)
    if verdict.verdict == 'rejected':
        return
    parts = ([], [] if accepted is None else [(accepted, 1.0)], [(acts, 1.0)])
    base, old, new = (
        PolicyRuntime(merge(BASE, part), MANIFEST).act_many(GOLDEN) for part in parts
    )
    assert SCALE * np.abs(new - old).max() <= config.change * 1.001
    assert SCALE * np.abs(new - base).max() <= config.change_base * 1.001
    assert gaussian_kl(new - old, config.sigma).mean() <= config.kl_mean * 1.001


@given(
    seed=st.integers(0, 10_000),
    size=st.floats(1e-3, 0.5),
    shares=st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0)),
)
@settings(max_examples=25)
def test_a_shorter_step_never_moves_the_mean_further(seed, size, shares):
    # Of the last layer, in which actions are linear; for all layers the gate measures again.
    adapter = make(seed=seed, size=size, target_modules=('actor.2',))
    before = mean_actions(BASE, MANIFEST, None, GOLDEN)
    short, far = (
        np.abs(mean_actions(BASE, MANIFEST, part_way(BASE, None, adapter, s), GOLDEN) - before)
        for s in sorted(shares)
    )
    assert short.max() <= far.max() + 1e-5
    assert gaussian_kl(short, 0.1).mean() <= gaussian_kl(far, 0.1).mean() + 1e-4


# Evidence


def recorded(count=1000, seed=0, joint=6, gain=1.0):
    """Steps that all begin alike, in which actions above one joint's mean earned more."""
    rng = np.random.default_rng(seed)
    joints, size = len(MANIFEST.joint_names), GOLDEN.shape[1]
    rows = np.zeros(count, transition_dtype(size, joints, []))
    rows['stamp'] = 20_000_000 * np.arange(count)
    rows['next_stamp'] = rows['stamp'] + 20_000_000
    rows['observation'] = rows['next_observation'] = GOLDEN[0]  # the critic expects one value
    rows['std'], rows['mode'], rows['known'] = 0.1, 2, 1
    rows['mean'] = mean_actions(BASE, MANIFEST, None, rows['observation'])
    noise = rng.standard_normal((count, joints))
    rows['action'] = rows['mean'] + 0.1 * noise
    rows['reward'] = gain * noise[:, joint] + rng.standard_normal(count)
    return rows


def test_a_score_by_hand():
    rows = recorded(2 * evidence.BLOCK)
    rows['action'] = rows['mean']
    rows['action'][:, 0] += 0.1
    advantages = np.tile([1.0, 3.0], evidence.BLOCK)  # centred: -1, 1
    difference = np.zeros_like(rows['mean'])
    difference[1::2, 0] = 0.2  # only where the advantage is positive: 1 * 0.1 / 0.01 * 0.2 = 2
    difference[evidence.BLOCK :, 0] *= 0.5
    first = 2.0 * (evidence.BLOCK // 2) / evidence.BLOCK  # 12 odd steps of 25
    second = 1.0 * (evidence.BLOCK - evidence.BLOCK // 2) / evidence.BLOCK  # 13 of 25
    error = np.std([first, second], ddof=1) / np.sqrt(2)
    wanted = 0.5 * (first + second) / error
    found = evidence.standard_score(rows, advantages, difference)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert evidence.standard_score(rows, advantages, 0.0 * difference) == 0.0
    assert evidence.standard_score(rows, np.ones(len(rows)), difference) == 0.0


def test_advantages_end_where_trajectories_do():
    rows = recorded(6)
    rows['reward'] = [1, 2, 4, 8, 16, 32]
    rows['terminated'][1] = 1
    rows['stamp'][3:] += 10**9  # a gap before step 3
    rows['next_stamp'][3:] += 10**9
    blind = {n: np.zeros_like(v) if n.startswith('critic.') else v for n, v in BASE.items()}
    found = evidence.advantages(rows, blind, 'elu', discount=0.5, trace=1.0)
    assert found == pytest.approx([2.0, 2.0, 4.0, 24.0, 32.0, 32.0])


def test_only_steps_that_tell_something_are_used():
    rows = recorded(10)
    rows['mode'][0], rows['std'][1], rows['reward'][2] = 3, 0.0, np.nan
    rows['observation'][3, 4] = np.inf
    assert evidence.usable(rows)['stamp'].tolist() == rows['stamp'][4:].tolist()


def test_evidence_tells_up_from_down():
    rows = recorded()
    up, _ = judge(shifted(0.03), rows=rows)
    assert (up.stage, up.verdict) == ('behaviour', 'probation')
    assert up.measures['evidence'] > 5.0
    assert up.measures['evidence_steps'] == 1000
    down, _ = judge(shifted(-0.03), rows=rows)
    assert (down.stage, down.verdict, down.scale) == ('evidence', 'rejected', 0.0)
    assert 'in 1000 recorded steps, actions towards where it goes did not earn more' in down.reason
    aside, _ = judge(shifted(0.03, joint=2), rows=rows, evidence=4.0)
    assert aside.stage == 'evidence'
    for free in (
        judge(shifted(-0.03), rows=rows, evidence=None),
        judge(shifted(-0.03), rows=rows[:400]),
        judge(shifted(-0.03)),
    ):
        assert free[0].verdict == 'probation'


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'change': 0.0}, 'change is 0.0, must be positive'),
        ({'kl_mean': np.nan}, 'kl_mean is nan, must be positive'),
        ({'scales': ()}, r'scales is \(\), must fall, from 1 or less to above 0'),
        ({'scales': (0.5, 1.0)}, 'must fall'),
        ({'discount': 1.5}, r'discount is 1.5, must be in \[0, 1\]'),
        ({'evidence': np.inf}, 'evidence is inf, must be finite'),
    ],
)
def test_thresholds_are_checked(changes, words):
    with pytest.raises(ValueError, match=words):
        GateConfig(**changes)


def test_a_rank_of_another_base_config_is_kept():
    adapter = shifted(0.1, r=4, lora_alpha=4.0)
    _, acts = judge(adapter)
    assert acts.config == LoraConfig(4, 4.0, ACTOR, bias='lora_only')
    assert acts.manifest.sha256 == ''
