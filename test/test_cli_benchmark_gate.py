"""`lebot benchmark gate`: counts by hand, updates that are what they say, and a small run."""

import argparse

import numpy as np
import pytest
import torch

from adapter_samples import load_base
from lebot_rl_ros.cli import benchmark_gate, gate_page, gate_trials, gate_updates, gate_workshop
from lebot_rl_ros.cli.gate_trials import Outcome, Rig, Trial
from lebot_rl_ros.cli.gate_updates import BAD, CATASTROPHIC
from lebot_rl_ros.cli.gate_walks import Place, Walk, command_of, in_order
from lebot_rl_ros.cli.gate_workshop import Workshop, look, situations
from lebot_rl_ros.learning.online.evidence import advantages
from lebot_rl_ros.learning.online.gate import Gate, GateConfig, Verdict
from lebot_rl_ros.policy.compare import golden_observations
from lebot_rl_ros.robot import load_robot

BASE, MANIFEST = load_base()
SLIP = Place('slip:rr_hip:0.35')


@pytest.fixture(autouse=True, scope='module')
def small():
    """Few robots, short walks, few steps of the gradient."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ('ROBOTS', 8), ('STEPS', 64), ('GRADIENT_STEPS', 8), ('MINIBATCH', 256),
        ):  # fmt: skip
            patch.setattr(gate_workshop, name, value)
        patch.setattr(gate_updates, 'TRIES', 2)
        for name, value in (
            ('SETTLING', 10), ('KNOWN', 150), ('BEFORE', 20), ('LONGEST', 60), ('AFTER', 20),
            ('JUDGES', 1), ('JUDGED', 10), ('PLACES', (SLIP,)), ('DEPTH', 3),
        ):  # fmt: skip
            patch.setattr(gate_trials, name, value)
        yield


@pytest.fixture(scope='module')
def workshop():
    return Workshop(load_robot(), BASE, MANIFEST)


@pytest.fixture(scope='module')
def moment(workshop):
    """A run with two accepted versions."""
    return list(situations(workshop, [SLIP], 3, 0))[-1]


def arguments(*words):
    parser = argparse.ArgumentParser()
    benchmark_gate.add_parser(parser.add_subparsers())
    return parser.parse_args(['gate', *words])


# The page


def made_up(kind, stage, verdict='', walked=0.0, loss=0.0):
    """One that ended so, by both gates."""
    refused = stage in ('static', 'behaviour', 'evidence')
    gate = Verdict(
        stage if refused else 'behaviour', 'rejected' if refused else 'probation', '', 1
    )
    probation = Verdict('probation', verdict, 'because', 1.0) if verdict else None
    trial = Trial(gate, probation, walked, loss)
    return Outcome(kind, 'here', {True: trial, False: trial})


def test_counts_and_what_was_asked_by_hand():
    outcomes = [
        *[made_up('NaN', 'static')] * 18,
        made_up('flipped advantage', 'evidence'),
        made_up('flipped advantage', '', 'rejected', walked=1.8),
        *[made_up('good', '', 'accepted', walked=5.0)] * 19,
        made_up('good', '', 'rejected', walked=3.0),
    ]
    assert gate_page.counts(outcomes, 'flipped advantage', True) == {
        'updates': 2, 'static': 0, 'behaviour': 0, 'evidence': 1, 'back in 2 s': 1,
        'back later': 0, 'accepted': 0,
    }  # fmt: skip
    assert gate_page.kinds(outcomes) == ['NaN', 'flipped advantage', 'good']
    asked = gate_page.asked(outcomes)
    assert all(reached for _, reached in asked)
    words = '\n'.join(text for text, _ in asked)
    assert '0 of 18 updates of the catastrophic kinds' in words
    assert '95.0% of 20 bad updates were stopped' in words
    assert '1 of the 1 bad ones that acted were rolled back within 2 s' in words
    assert '0.0% of 20 good updates were refused by the gate, 5.0% with those' in words


@pytest.mark.parametrize(
    ('outcome', 'index'),
    [
        (made_up('NaN', '', 'rejected', walked=0.5), 0),
        (made_up('flipped advantage', '', 'accepted', walked=5.0), 2),
        (made_up('slow drift', '', 'rejected', walked=2.5), 2),
        (made_up('good', 'evidence'), 3),
    ],
)
def test_what_is_not_reached_is_said(outcome, index):
    others = [made_up('stale', 'static')] * 30 + [made_up('good', '', 'accepted')] * 8
    reached = [reached for _, reached in gate_page.asked([*others, outcome])]
    assert reached == [i != index for i in range(4)]
    assert '**not reached**' in gate_page.page([*others, outcome], 'x', 1.0, 'gate.png')


def test_a_cost_of_accepted_bad_ones_is_told():
    outcomes = [made_up('slow drift', '', 'accepted', 5.0, loss) for loss in (0.1, 0.3, 0.2)]
    assert '* slow drift: 3 accepted; median +0.20, largest +0.30' in gate_page.page(
        outcomes, 'x', 1.0, 'gate.png'
    )


# Walks and updates


def test_a_walk_gives_rows_of_a_robot(workshop):
    walk = Walk(workshop.robot, BASE, MANIFEST, Place('', None), robots=3, seed=1)
    rows = walk.go(None, 40)
    assert rows.shape == (40, 3)
    assert (rows['stamp'][1:] == rows['next_stamp'][:-1]).all()
    flat = in_order(rows)
    assert (flat['observation'][:40] == rows['observation'][:, 0]).all()
    assert (flat['next_observation'][:39] == flat['observation'][1:40]).all()
    # The spread is that of the noise, and its density is as noted.
    noise = (flat['action'] - flat['mean']) / flat['std']
    assert noise.std() == pytest.approx(1.0, abs=0.05)
    density = -0.5 * np.square(noise).sum(1) - 8 * np.log(0.1 * np.sqrt(2 * np.pi))
    assert flat['log_prob'] == pytest.approx(density, abs=1e-2)
    terms = sum(flat[name].astype(float) for name in flat.dtype.names[21:])
    assert terms == pytest.approx(flat['reward'], abs=1e-4)
    command = command_of(flat['observation'], MANIFEST)
    assert command == pytest.approx(flat['command'], abs=1e-6)
    assert 0.0 <= command[:, 0].max() <= 0.6


def test_robots_with_two_adapters_walk_each_with_its_own(workshop, moment):
    adapter = moment.accepted
    walk = Walk(workshop.robot, BASE, MANIFEST, SLIP, robots=2, seed=3)
    rows = walk.go([None, adapter], 5)
    assert rows['adapter_version'].tolist() == [[0, 2]] * 5
    assert not np.allclose(rows['mean'][0, 0], rows['mean'][0, 1])
    assert walk.task.simulation.horn_offset[:, 6].tolist() == [0.35, 0.35]


def test_an_honest_step_goes_up_and_a_flipped_one_down(workshop, moment):
    gate = Gate(BASE, MANIFEST, GateConfig())
    found = {}
    for kind, make in (('good', gate_updates.good), ('flipped', BAD['flipped advantage'])):
        update = make(workshop, moment, 1)
        assert update.manifest.parent == 'recover@2'
        verdict, _ = gate.judge(update, moment.rows['observation'], moment.accepted, moment.rows)
        found[kind] = verdict
    assert found['good'].verdict == 'probation'
    assert found['good'].measures['evidence'] > 1.0
    assert (found['flipped'].stage, found['flipped'].verdict) == ('evidence', 'rejected')


@pytest.mark.parametrize('kind', [*CATASTROPHIC, 'stale'])
def test_what_is_catastrophic_never_acts(workshop, moment, kind):
    gate = Gate(BASE, MANIFEST, GateConfig())
    for seed in range(4):
        update = BAD[kind](workshop, moment, seed)
        verdict, _ = gate.judge(update, moment.rows['observation'], moment.accepted, moment.rows)
        assert verdict.verdict == 'rejected', (seed, verdict.reason)


def test_the_adversary_is_just_under_the_caps_of_a_step(workshop, moment):
    update = gate_updates.small_kl(workshop, moment, 1)
    gate = Gate(BASE, MANIFEST, GateConfig(evidence=None))
    verdict, _ = gate.judge(update, moment.rows['observation'], moment.accepted)
    assert (verdict.verdict, verdict.scale) == ('probation', 1.0)
    config = GateConfig()
    shares = [
        verdict.measures[name] / getattr(config, name) for name in ('change', 'kl_mean', 'kl_p99')
    ]
    assert 0.9 < max(shares) <= 0.96


def test_only_one_joint_of_the_saturated_one_moves_far(workshop, moment):
    update = BAD['one joint saturated'](workshop, moment, 3)
    bias = update.tensors['actor.2.bias'] - BASE['actor.2.bias']
    assert np.flatnonzero(np.abs(bias) > 0.5).tolist() == [3]


def test_a_rig_takes_an_update_all_the_way_and_forgets_it(workshop, moment):
    rig = Rig.at(workshop, moment, evidence=True)
    assert rig.probation.ready
    trial, part = rig.judge(gate_updates.good(workshop, moment, 1))
    assert trial.acted
    assert part.manifest.version == 3
    assert rig.probation.version is None
    assert rig.probation.accepted == 2
    refused, _ = rig.judge(BAD['NaN'](workshop, moment, 0))
    assert (refused.acted, refused.accepted, refused.walked) == (False, False, 0.0)
    with pytest.raises(ValueError, match='a stale update needs two accepted versions'):
        BAD['stale'](workshop, look(workshop, SLIP, (), 0), 0)


def test_advantages_of_a_walk_need_no_more_than_its_rows(moment):
    found = advantages(moment.rows, BASE, 'elu', discount=0.98, trace=0.9)
    assert found.shape == moment.rows.shape
    assert np.isfinite(found).all()
    assert golden_observations(BASE).shape[1] == moment.rows['observation'].shape[1]


def test_a_small_run_writes_its_page(tmp_path, capsys):
    out = tmp_path / 'docs' / 'gate.md'
    out.parent.mkdir()
    status = benchmark_gate.run(arguments('--updates', '1', '--out', str(out)))
    text = out.read_text()
    assert status in (0, 1)
    for kind in BAD:
        assert f'| {kind} | 1 |' in text
    assert '| good | 10 |' in text
    assert '0 of 5 updates of the catastrophic kinds reached a servo' in text
    assert f'lebot benchmark gate --updates 1 --seeds 1 --out {out}' in text
    assert (out.parent / 'images' / 'gate.png').stat().st_size > 10_000
    assert 'where updates ended' in capsys.readouterr().out


def test_errors_name_the_value():
    for name in ('--updates', '--seeds'):
        with pytest.raises(ValueError, match=f'{name} is 0, must be 1 or more'):
            benchmark_gate.run(arguments(name, '0'))
    with pytest.raises(ValueError, match='--first-seed is -1, must be 0 or more'):
        benchmark_gate.run(arguments('--first-seed', '-1'))
