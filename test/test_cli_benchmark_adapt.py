"""The benchmark of adaptation: its numbers by hand, its runs real and small, its page."""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from rich.console import Console

from lebot_rl_ros.cli import adapt_oracle, adapt_run, adapt_session, benchmark_adapt
from lebot_rl_ros.cli.adapt_cells import (
    FAULTS,
    JUDGE,
    MARKS,
    METHODS,
    PEERS,
    Cell,
    cells,
    usable,
)
from lebot_rl_ros.cli.adapt_log import Log, schedule
from lebot_rl_ros.cli.adapt_page import (
    ALL,
    fault_words,
    fractions,
    load,
    number_of_steps,
    summarise,
    table,
    variant,
    words,
)
from lebot_rl_ros.cli.adapt_pictures import aggregate, curves, recovery
from lebot_rl_ros.cli.adapt_residual import ResidualPolicy, ResidualSwap
from lebot_rl_ros.cli.adapt_run import adapt, run_cell
from lebot_rl_ros.cli.adapt_statistics import (
    falls_after,
    interquartile_mean,
    recovered,
    share_worse,
    stratified_interval,
    value_at,
)
from lebot_rl_ros.cli.adapt_text import page
from lebot_rl_ros.cli.benchmark_jobs import Job, run_jobs
from lebot_rl_ros.cli.benchmark_run import Clock
from lebot_rl_ros.cli.main import main
from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.envs.adapting import GET_UP, FaultyRobot
from lebot_rl_ros.envs.faulty_task import Judged
from lebot_rl_ros.learning.online.session_config import SessionConfig
from lebot_rl_ros.learning.online.versions import Memory
from lebot_rl_ros.policy.adapters import AdapterError


@pytest.fixture(autouse=True)
def one_thread():
    """As in the processes of runs: several would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fault_row(fault='slip', healthy=160.0, frozen=50.0, oracle=150.0):
    judged = {'falls': 0.0, 'forward': 0.2}
    return {
        'fault': fault,
        'settings': {'faults': list(FAULTS[fault]), 'judge': dict(JUDGE)},
        'healthy': {'reward': healthy, **judged},
        'frozen': {'reward': frozen, **judged},
        'oracle': None
        if oracle is None
        else {'reward': oracle, **judged, 'steps': 1000, 'seconds': 1.0},
        'admitted': oracle is not None,
        'why': '' if oracle is not None else 'no adaptation loses 5%, less than 20%',
    }


def run_row(method='td3-lora4', seed=0, values=(50, 100, 125, 150), fault='slip', **extra):
    cell = Cell(fault, method, seed)
    log = Log(curve=list(zip((0.0, 2.0, 5.0, 10.0), map(float, values), strict=True)))
    row = {**cell.__dict__, 'settings': cell.settings, **log.__dict__, 'cpu_ms': 5.0}
    return {**json.loads(json.dumps(row)), **extra}


def keep(folder, *rows):
    (folder / 'cells').mkdir(parents=True, exist_ok=True)
    for row in rows:
        cell = Cell(**{name: row[name] for name in Cell.__dataclass_fields__})
        cell.file(folder).write_text(json.dumps(row))


def keep_fault(folder, row):
    path = adapt_oracle.file_of(folder, row['fault'])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row))


# Numbers


def test_the_interquartile_mean_is_that_of_the_middle_half():
    assert interquartile_mean([1, 2, 3, 4, 5, 6, 7, 8]) == 4.5  # of 3, 4, 5, 6
    assert interquartile_mean([8, 1000, 3, 4, 5, 6, 7, -1000]) == 5.5
    assert interquartile_mean([1, 2, 6]) == 3.0  # too few to leave any out
    assert interquartile_mean([10.0, 0, 1, 3]) == 2.0
    assert_allclose(interquartile_mean([[1, 2, 3, 100], [0, 0, 2, 9]]), [2.5, 1.0])


def test_runs_are_resampled_within_their_task():
    rng = np.random.default_rng(0)
    tasks = [np.zeros(4), np.ones(4)]
    assert stratified_interval(tasks, rng) == (0.5, 0.5)  # mixed, it would be 0 to 1
    low, high = stratified_interval([np.array([0.0, 1.0])], rng)
    assert (low, high) == (0.0, 1.0)  # both alike in a sixteenth or more of the draws
    values = rng.normal(3.0, 1.0, 40)
    low, high = stratified_interval([values], np.random.default_rng(1))
    assert low < interquartile_mean(values) < high
    assert 0.4 < high - low < 1.2  # 4 standard errors of 1 / sqrt(40), a little more


def test_an_interval_of_known_data_is_that_of_all_possible_draws():
    # All 27 draws of three values, as often as there are draws: none of three is left out.
    values = np.array([0.0, 3.0, 30.0])
    draws = np.sort([(a + b + c) / 3 for a in values for b in values for c in values])
    assert (draws[0], draws[-1]) == (0.0, 30.0)  # each has 1 in 27, more than 2.5 %
    assert stratified_interval([values], np.random.default_rng(0), 20_000) == (0.0, 30.0)


def test_the_recovered_fraction_is_0_for_the_frozen_base_and_1_for_the_oracle():
    assert_allclose(recovered([50, 100, 150, 200, 0], 50.0, 150.0), [0, 0.5, 1, 1.5, -0.5])
    assert_allclose(recovered(-10.0, -20.0, 20.0), 0.25)
    with pytest.raises(ValueError, match=r'the oracle earns 1, must be more than the frozen 2'):
        recovered(1.0, 2.0, 1.0)


def test_a_curve_is_read_between_its_points_and_not_beyond():
    curve = [(0.0, 1.0), (2.0, 3.0), (4.0, 2.0)]
    assert value_at(curve, 2.0) == 3.0
    assert value_at(curve, 3.0) == 2.5
    assert np.isnan(value_at(curve, 5.0))


def test_worse_is_below_the_frozen_base_and_not_the_same():
    assert share_worse([50, 49, 51, 20], [50, 50, 50, 50]) == 0.5
    assert share_worse([50.0], [50.0]) == 0.0


def test_falls_count_from_the_first_accepted_version():
    assert falls_after([0.5, 1.0, 3.0], 1.0) == 2.0
    assert falls_after([0.5], 1.0) == 0.0
    assert np.isnan(falls_after([0.5], None))


@pytest.mark.parametrize(
    ('healthy', 'frozen', 'oracle', 'why'),
    [
        (100.0, 80.0, None, ''),
        (100.0, 81.0, None, 'loses 19%, less than 20%'),
        (100.0, 0.0, 50.0, ''),
        (100.0, 0.0, 49.0, 'gets back 49%, less than 50%'),
        (100.0, -100.0, -10.0, 'gets back 45%'),
    ],
)
def test_a_fault_is_admitted_by_what_it_costs_and_what_can_be_had(healthy, frozen, oracle, why):
    found = adapt_oracle.admit(healthy, frozen, oracle)
    assert why in found
    assert bool(why) == bool(found)


# Cells


def test_cells_are_named_and_checked():
    cell = Cell('slip', 'td3-lora4', 3)
    assert cell.words == 'slip.td3-lora4.10min.3'
    assert (cell.learner, cell.trained) == ('td3', {'kind': 'lora', 'r': 4})
    assert Cell('slip', 'sb3-sac', 0).learner == Cell('slip', 'none', 0).learner == ''
    odd = Cell('slip', 'ppo-full', 0, 2.0, stream='hostile', gate='no-gate', path='ros')
    assert odd.words == 'slip.ppo-full.hostile.no-gate.ros.2min.0'
    names = {Cell('slip', method, 0).words for method in METHODS}
    assert len(names) == len(METHODS) == 18
    with pytest.raises(ValueError, match=r"fault is 'storm'; choices are dead-knee"):
        Cell('storm', 'none', 0)
    with pytest.raises(ValueError, match=r"method is 'luck'"):
        Cell('slip', 'luck', 0)
    with pytest.raises(ValueError, match=r'minutes is 0'):
        Cell('slip', 'none', 0, 0.0)


def test_seeds_come_outermost():
    found = cells(['slip', 'ice'], ['none', 'td3-bias'], 2, 1.0)
    assert [cell.seed for cell in found] == [0] * 4 + [1] * 4
    assert len({cell.words for cell in found}) == 8


def test_runs_of_other_settings_do_not_count():
    row = run_row()
    cell = Cell('slip', 'td3-lora4', 0)
    assert usable(row, cell)
    assert not usable({**row, 'settings': {**row['settings'], 'exploration': 0.2}}, cell)


def test_a_run_is_judged_often_at_first_and_at_its_end():
    assert schedule(4.5) == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 4.5]
    assert schedule(0.1) == [0.1]
    assert set(MARKS) <= set(schedule(10.0))


# A run


class Robot:
    """One step is 0.6 s; it earns 3 a step and falls at its 11th, which costs 6 s."""

    def __init__(self):
        self.ticks, self.fallen_at = 0, []

    @property
    def seconds(self):
        return 0.6 * self.ticks + GET_UP * len(self.fallen_at)

    def step(self):
        self.ticks += 1
        if self.ticks == 11:
            self.fallen_at.append(self.seconds)
        return np.zeros(1), np.array([(3.0,)], dtype=[('reward', float)])


class Learner:
    """Offers two swaps, the second of which cannot act, and tells of verdicts."""

    def __init__(self):
        self.events, self.calls, self.heard = deque(), 0, []

    def steps(self, rows):
        assert len(rows) == 1

    def rewards(self, rows):
        assert len(rows) == 1

    def work(self):
        self.calls += 1
        if self.calls == 5:
            self.events.append({'stage': 'probation', 'verdict': 'accepted', 'reason': ''})
        if self.calls == 50:
            self.events.append({'stage': 'probation', 'verdict': 'rejected', 'reason': 'fell'})
            self.events.append({'kind': 'something else'})
        return f'swap {self.calls}' if self.calls in (3, 30) else None

    def swapped(self, swap, acts, reason):
        self.heard.append((swap, acts, reason))


def test_a_run_charges_falls_and_notes_what_happens():
    robot, learner, shares, installed = Robot(), Learner(), [], []

    def install(swap):
        if swap == 'swap 30':
            raise AdapterError('foreign')
        installed.append(swap)

    def judge():
        return Judged(100.0 + 10.0 * len(installed), 1.5, 0.2)

    log = adapt(robot, learner, install, judge, 1.0, Clock(), shares.append)
    assert robot.ticks == 90  # 54 s of walking and 6 s of getting up are the minute
    assert log.curve == [(0.0, 100.0), (0.5, 110.0), (1.0, 110.0)]
    assert log.falls == [pytest.approx(0.11, abs=1e-3)]
    # 30 s: 24 s of walking are 40 steps; the other half is 50 steps
    assert log.earned == [(0.5, pytest.approx(4.0)), (1.0, pytest.approx(5.0))]
    assert log.accepted == [0.05]
    assert log.rolled_back == [0.6]
    assert log.verdicts == {'probation accepted': 1, 'probation rejected': 1}
    assert log.reasons == ['fell']
    assert learner.heard == [('swap 3', True, ''), ('swap 30', False, 'foreign')]
    assert shares == [0.5, 1.0]


def test_the_frozen_base_stays_what_it_is():
    row = run_cell(Cell('slip', 'none', 0, 0.05), lambda share: None)
    (_, start), (_, end) = row['curve']
    assert start == end
    assert start < 0.8 * 162.0  # the healthy one's
    assert row['cpu_ms'] == 0.0
    assert json.loads(json.dumps(row))['method'] == 'none'


def test_a_learner_learns_in_a_run_that_repeats():
    cell = Cell('slip', 'td3-lora4', 0, 0.1)
    first, second = (run_cell(cell, lambda share: None) for _ in range(2))
    assert first['statistics']['rows'] == 299.0  # of 300 steps the last waits for the next
    assert first['statistics']['updates'] > 0
    assert first['cpu_ms'] > 0.0
    for name in ('curve', 'falls', 'earned', 'statistics', 'verdicts'):
        assert first[name] == second[name]


def test_a_hostile_stream_loses_rows_and_lags(lebot):
    walk = load_walk(lebot, 'walk')
    config = SessionConfig(learner='td3', offer_every=5)
    session = adapt_session.HostileSession(walk, config, seed=0)
    walker = Walker(lebot, walk, seed=0, exploration=0.1)
    robot = FaultyRobot(lebot, walker, walk.gait, FAULTS['slip'])
    for _ in range(120):
        steps, rewards = robot.step()
        session.steps(steps)
        session.rewards(rewards)
        session.work()
        assert session.statistics()['rows'] <= max(robot.ticks - adapt_session.LAG * 5, 0)
    found = session.statistics()
    assert found['stream_lost_steps'] + found['stream_lost_rewards'] > 0
    assert 60 < found['rows'] < 100


def test_what_a_swap_brings_acts_and_is_judged(lebot):
    walk = load_walk(lebot, 'walk')
    walker = Walker(lebot, walk)
    acting = adapt_session.Acting(walk, walker)
    session = adapt_session.make_session(Cell('slip', 'td3-bias', 0), walk, 0)
    _, tensors = session.learner.trained.export()
    tensors['actor.2.bias'] = tensors['actor.2.bias'] + np.float32(0.1)
    session.learner.trained.load(tensors)
    made = session._candidate()
    candidate = Memory().add(made.manifest.name, made.config, made.tensors, made.manifest)
    observation = np.zeros((1, walk.layout.size), np.float32)
    before = walk.policy.act_many(observation)
    acting.install(session.trials.ask(candidate, 'test'))
    assert_allclose(acting.runtime.act_many(observation), before + 0.1, atol=1e-6)
    assert walker._adapter_version == 1
    acting.install(session.trials.ask(None, 'back'))
    assert acting.runtime is walk.policy
    assert walker._adapter_version == 0


def test_a_residual_acts_as_what_was_learned_and_begins_as_the_base(lebot):
    walk = load_walk(lebot, 'walk')
    session = adapt_session.make_session(Cell('slip', 'td3-residual', 0), walk, 0)
    rng = np.random.default_rng(0)
    observations = rng.standard_normal((16, walk.layout.size)).astype(np.float32)
    trained = session.learner.trained
    fresh = ResidualPolicy(walk.policy, trained)
    assert_allclose(fresh.act_many(observations), walk.policy.act_many(observations), atol=1e-6)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.05 * torch.from_numpy(rng.standard_normal(parameter.shape)).float())
        wanted = trained.mean(torch.from_numpy(observations)).numpy()
    changed = ResidualPolicy(walk.policy, trained)
    assert np.abs(wanted - walk.policy.act_many(observations)).max() > 0.05
    assert_allclose(changed.act_many(observations), wanted, atol=1e-5)
    assert_allclose(changed.act(observations[0]), wanted[0], atol=1e-5)
    assert_allclose(fresh.act_many(observations), walk.policy.act_many(observations), atol=1e-6)
    walker = Walker(lebot, walk, seed=0, exploration=0.1)
    robot = FaultyRobot(lebot, walker, walk.gait, FAULTS['slip'])
    for _ in range(12):
        steps, rewards = robot.step()
        session.steps(steps)
        session.rewards(rewards)
        assert session.work() is None
    assert session.learned == 11
    acting = adapt_session.Acting(walk, walker)
    acting.install(ResidualSwap(3, changed))
    robot.step()
    assert acting.runtime is changed
    assert int(walker.row['adapter_version']) == 3


# What is shown


def test_a_summary_has_the_numbers_of_its_runs():
    faults = {'slip': fault_row()}
    rows = [
        run_row(seed=0, values=(50, 100, 125, 150), falls=[0.5, 3.0], accepted=[1.0]),
        run_row(seed=1, values=(50, 60, 70, 40), falls=[0.2], accepted=[], rolled_back=[4.0]),
    ]
    (found,) = summarise(rows, faults)
    assert (found.fault, found.variant, found.runs) == ('slip', 'td3-lora4', 2)
    assert_allclose(found.fractions, [0.3, 0.475, 0.45])
    assert_allclose(found.intervals[0], [0.1, 0.5])
    assert (found.falls, found.falls_after, found.worse) == (1.5, 1.0, 0.5)
    assert (found.accepted, found.rolled_back, found.cpu_ms) == (0.5, 0.5, 5.0)
    assert fractions(rows[0], faults['slip']) == [0.5, 0.75, 1.0]
    assert words(found)[2] == '0.30 [0.10, 0.50]'


def test_all_faults_together_are_told_where_there_are_several():
    faults = {'slip': fault_row(), 'dead-knee': fault_row('dead-knee', oracle=250.0)}
    rows = [run_row(values=(50, 50, 50, 150)), run_row(fault='dead-knee', values=(50, 50, 50, 50))]
    rows += [run_row('sb3-ppo', values=(50, 50, 50, 50)), run_row(stream='hostile')]
    rows.append(run_row(seed=1, values=(50, 50, 50, 100)))  # a second seed of one fault alone
    found = {(s.fault, s.variant): s for s in summarise(rows, faults)}
    assert_allclose(found[ALL, 'td3-lora4'].fractions, [0.0, 0.0, 0.5])
    assert found[ALL, 'td3-lora4'].runs == 2
    assert ('slip', 'td3-lora4, hostile') in found
    # Who was not on every fault would look better or worse than who was.
    assert {kind for fault, kind in found if fault == ALL} == {'td3-lora4'}
    assert variant(run_row(gate='no-gate', path='ros')) == 'td3-lora4, no-gate, ros'


def test_where_the_learners_time_was_not_taken_is_a_dash():
    rows = [run_row(path='ros', cpu_ms=0.0), run_row()]
    through, direct = sorted(summarise(rows, {'slip': fault_row()}), key=lambda s: -len(s.variant))
    assert (words(through)[-1], words(direct)[-1]) == ('-', '5.00')


def test_what_was_not_run_so_long_is_a_dash():
    short = run_row()
    short['curve'] = short['curve'][:2]
    (found,) = summarise([short], {'slip': fault_row()})
    assert words(found)[2:5] == ['0.50 [0.50, 0.50]', '-', '-']


def test_the_page_tells_which_faults_are_not_admitted_and_why(tmp_path):
    faults = {'slip': fault_row(), 'ice': fault_row('ice', frozen=152.0, oracle=None)}
    rows = [run_row(seed=seed, values=(50, 90 + seed, 120, 140)) for seed in range(3)]
    rows += [run_row('none', values=(50, 50, 50, 50)), run_row('sb3-ppo')]
    summaries = summarise(rows, faults)
    text = page(summaries, faults, 10.0)
    assert 'no: no adaptation loses 5%' in text
    assert '| td3-lora4 | 3 | 0.41' in text
    assert 'images/adapt_slip.png' in text
    assert fault_words(faults['slip'])[3] == '69%'
    console = Console(width=80, record=True)
    for shown in table(summaries, faults):
        console.print(shown)
    told = console.export_text()
    assert 'RF@10' in told
    assert '0.41' in told
    shown = curves(rows, faults['slip'], tmp_path / 'a.png')
    assert shown == ['none', 'td3-lora4', 'sb3-ppo']
    aggregate(summaries, MARKS, tmp_path / 'b.png')
    assert {path.name for path in tmp_path.iterdir()} == {'a.png', 'b.png'}


def test_a_band_of_recovery_is_about_its_middle():
    rows = [run_row(seed=i, values=(50, 50 + 10 * i, 100, 150)) for i in range(5)]
    minutes, (middle, low, high) = recovery(rows, fault_row(), np.random.default_rng(0))
    assert_allclose(minutes, [0, 2, 5, 10])
    assert_allclose(middle, [0.0, 0.2, 0.5, 1.0])
    assert low[1] < 0.2 < high[1]
    assert_allclose(low[[0, 2, 3]], high[[0, 2, 3]])


def test_the_steps_of_an_oracle_count_to_the_first_time():
    row = fault_row(frozen=50.0, oracle=150.0)
    assert number_of_steps(row) == '-'  # made before curves were kept
    row['oracle']['curve'] = [(512, 50.0), (1024, 129.9), (1536, 130.0), (2048, 100.0)]
    assert number_of_steps(row) == '1,536'
    assert number_of_steps(row, 1.0) == '-'
    assert number_of_steps(fault_row('ice', frozen=152.0, oracle=None)) == '-'


# Processes


def test_jobs_tell_their_shares_and_their_troubles():
    def job(words, code):
        return Job(words, (sys.executable, '-c', code))

    console = Console(width=200, record=True, file=io.StringIO())
    jobs = [
        job('good', 'print(0.5); print(1.0)'),
        job('bad', 'print(0.1); raise SystemExit("no such luck")'),
    ]
    assert run_jobs(jobs, 2, 'test', console) == 1
    assert 'bad: no such luck' in console.export_text()


def test_what_is_not_admitted_is_measured_and_not_run(tmp_path, monkeypatch):
    row = adapt_oracle.measure('ice', tmp_path, 1000, lambda words: None)
    assert not row['admitted']
    assert row['oracle'] is None
    assert adapt_oracle.load_fault(tmp_path, 'ice', 1000) == row
    monkeypatch.setattr(
        adapt_oracle, 'train', lambda bench, *rest: (bench.tensors, {'seconds': 0.0})
    )
    row = adapt_oracle.measure('slip', tmp_path, 1000, lambda words: None)
    assert row['oracle']['reward'] == row['frozen']['reward']
    assert row['why'] == 'the oracle gets back 0%, less than 50%'
    assert adapt_oracle.load_fault(tmp_path, 'slip', 2000) is None  # of other steps
    args = argparse.Namespace(
        runs=tmp_path, faults=['ice', 'slip'], methods=['none'], seeds=2, minutes=1.0,
        stream='clean', gate='gate', through='direct', only=[],
    )  # fmt: skip
    assert benchmark_adapt.wanted(args) == []


def test_a_killed_benchmark_goes_on_from_the_runs_that_were_done(tmp_path):
    keep_fault(tmp_path, {**fault_row(), 'oracle': {**fault_row()['oracle'], 'steps': 7}})
    words = ['benchmark', 'adapt', '--faults', 'slip', '--methods', 'none', '--minutes', '0.02']
    words += ['--oracle-steps', '7', '--runs', str(tmp_path), '--jobs', '1']
    command = [sys.executable, '-m', 'lebot_rl_ros.cli.main', *words, '--seeds', '500']
    first, second = (Cell('slip', 'none', seed, 0.02).file(tmp_path) for seed in range(2))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        while not first.exists():
            assert process.poll() is None, process.stdout.read().decode()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    second.unlink(missing_ok=True)
    made = first.stat().st_mtime_ns
    assert main([*words, '--seeds', '2', '--out', str(tmp_path / 'page.md')]) == 0
    assert first.stat().st_mtime_ns == made
    assert second.exists()
    assert len(load(tmp_path, 0.02)) == 2
    assert '| none | 2 |' in (tmp_path / 'page.md').read_text()


def test_only_chooses_by_name(tmp_path):
    keep_fault(tmp_path, fault_row())
    args = argparse.Namespace(
        runs=tmp_path, faults=['slip'], methods=list(METHODS), seeds=2, minutes=10.0,
        stream='clean', gate='gate', through='direct', only=['slip.td3-lora4', 'sb3'],
    )  # fmt: skip
    found = {cell.method for cell in benchmark_adapt.wanted(args)}
    assert found == {'td3-lora4', *PEERS}
    args.only, args.stream = ['td3', 'sb3', 'none'], 'hostile'  # who has no session hears none
    found = {cell.method for cell in benchmark_adapt.wanted(args)}
    assert found == {method for method in METHODS if method.startswith('td3')} - {'td3-residual'}


def test_the_command_refuses_what_makes_no_sense(tmp_path, capsys):
    words = ['benchmark', 'adapt', '--runs', str(tmp_path)]
    assert main([*words, '--seeds', '0']) == 2
    assert '--seeds is 0, must be positive' in capsys.readouterr().err
    assert main([*words, '--show']) == 2
    assert 'no fault was measured' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, '--faults', 'storm'])
    assert 'invalid choice' in capsys.readouterr().err


# The other side


@pytest.fixture(scope='module')
def peers():
    pytest.importorskip('stable_baselines3')
    from lebot_rl_ros.cli import adapt_peers

    bench = adapt_oracle.Bench('slip')
    task = adapt_peers.FaultyTask(bench.robot, 1, bench.faults, bench.learning)
    walk = load_walk(bench.robot, 'walk')
    observations = np.random.default_rng(0).normal(
        bench.tensors['normaliser.mean'], np.sqrt(bench.tensors['normaliser.var']), (64, 34)
    )
    return SimpleNamespace(
        module=adapt_peers, bench=bench, task=task, policy=walk.policy,
        observations=observations.astype(np.float32),
    )  # fmt: skip


def test_ppo_of_the_other_side_begins_as_the_base(peers):
    env = peers.module.TimedEnv(peers.task)
    model = peers.module.warm_ppo(env, peers.bench.tensors, peers.bench.manifest, 0)
    wanted = peers.policy.act_many(peers.observations)
    found = peers.module.mean_action(model)(peers.observations)
    assert_allclose(found, np.clip(wanted, -1.0, 1.0), atol=1e-5)
    values = model.policy.predict_values(torch.from_numpy(peers.observations))
    mine = [peers.policy.value(observation) for observation in peers.observations]
    assert_allclose(values.detach().numpy()[:, 0], mine, rtol=1e-4, atol=1e-4)
    assert_allclose(model.policy.log_std.detach().numpy(), np.log(0.1), rtol=1e-6)


def test_sac_of_the_other_side_begins_as_the_base_and_never_at_random(peers):
    env = peers.module.TimedEnv(peers.task, squashed=True)
    model = peers.module.warm_sac(env, peers.bench.tensors, peers.bench.manifest, 0)
    wanted = peers.policy.act_many(peers.observations)
    found = peers.module.mean_action(model)(peers.observations)
    near = np.abs(wanted) < 2.0  # beyond, what is applied is clipped, and tanh has no digits left
    assert near.mean() > 0.9
    assert_allclose(found[near], wanted[near], atol=1e-3)
    model._setup_learn(10_000)
    model._last_obs = model.env.reset()
    mean = model.predict(model._last_obs, deterministic=True)[0]
    tried = [model._sample_action(1000)[0] for _ in range(50)]
    assert np.abs(np.array(tried) - mean).max() < 0.6  # of 2: five standard deviations
    assert_allclose(np.arctanh(tried).std(axis=0).mean(), 0.1, rtol=0.2)


def test_the_entropy_of_a_squashed_gaussian(peers):
    rng = np.random.default_rng(0)
    mean, std = np.array([[0.5, -0.2]]), 0.1
    samples = mean + std * rng.standard_normal((200_000, 2))
    density = -0.5 * np.square((samples - mean) / std) - np.log(std * np.sqrt(2 * np.pi))
    density -= np.log1p(-np.square(np.tanh(samples)))
    sampled = -density.sum(axis=1).mean()
    assert peers.module.squashed_entropy(mean, std) == pytest.approx(sampled, abs=0.03)


@pytest.mark.parametrize('method', PEERS)
def test_the_other_side_is_given_the_same_minutes(peers, method, monkeypatch):
    for name in ('n_steps', 'batch_size'):
        monkeypatch.setitem(peers.module.PPO_SETTINGS, name, 50)
    monkeypatch.setitem(peers.module.SAC_SETTINGS, 'learning_starts', 90)
    shares = []
    clock = Clock()
    cell = Cell('slip', method, 0, 0.04)
    log = peers.module.run_peer(cell, peers.bench, clock, shares.append)
    assert [minute for minute, _ in log.curve] == [0.0, 0.04]
    assert log.curve[0][1] == pytest.approx(56.0, abs=8.0)  # as the frozen base, to rounding
    assert log.curve[0] != log.curve[1]
    assert shares == [1.0]
    assert clock.cpu > 0.0


def test_a_run_is_written_by_its_process(tmp_path):
    words = ['--fault', 'slip', '--method', 'none', '--minutes', '0.02', '--runs', str(tmp_path)]
    assert adapt_run.main(words) == 0
    (row,) = load(tmp_path)
    assert row['path'] == 'direct'
    assert not list((tmp_path / 'cells').glob('.*'))


def test_the_frozen_base_is_never_worse_than_itself(tmp_path):
    row = adapt_oracle.measure('ice', tmp_path, 1000, lambda words: None)
    run = run_cell(Cell('ice', 'none', 0, 0.02), lambda share: None)
    kept = json.loads(json.dumps(run))
    assert share_worse([kept['curve'][-1][1]], [row['frozen']['reward']]) == 0.0
    assert kept['curve'][0][1] == row['frozen']['reward']
