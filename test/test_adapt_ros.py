"""Runs of the benchmark through the graph: which version acted when, and a short real one."""

import pytest

from lebot_rl_ros.cli import adapt_ros
from lebot_rl_ros.cli.adapt_cells import FAULTS, Cell
from lebot_rl_ros.cli.adapt_oracle import Bench
from ros_graph import fresh_domain


def said(time, version, verdict, stage='probation'):
    return {'time': time, 'version': version, 'verdict': verdict, 'stage': stage, 'reason': ''}


VERDICTS = [
    said(5.0, 1, 'probation', 'behaviour'),
    said(10.0, 1, 'accepted'),
    said(15.0, 0, 'rejected', 'evidence'),
    said(20.0, 2, 'probation', 'behaviour'),
    said(22.0, 2, 'rejected'),
    said(30.0, 3, 'probation', 'behaviour'),
    said(35.0, 3, 'accepted'),
]


@pytest.mark.parametrize(
    ('seconds', 'version'),
    [(0.0, 0), (5.0, 1), (12.0, 1), (16.0, 1), (21.0, 2), (23.0, 1), (31.0, 3), (99.0, 3)],
)
def test_the_version_that_acts_is_on_trial_or_accepted_or_what_was_before(seconds, version):
    assert adapt_ros.acting(VERDICTS, seconds) == version


def test_a_first_version_that_fails_leaves_the_base():
    verdicts = [said(5.0, 1, 'probation', 'behaviour'), said(7.0, 1, 'rejected')]
    assert adapt_ros.acting(verdicts, 6.0) == 1
    assert adapt_ros.acting(verdicts, 8.0) == 0


def test_the_base_that_is_tried_again_acts_and_stays_or_goes():
    verdicts = [*VERDICTS, said(40.0, 0, 'probation', 'base'), said(45.0, 0, 'rejected', 'base')]
    assert [adapt_ros.acting(verdicts, s) for s in (39.0, 41.0, 46.0)] == [3, 0, 3]
    verdicts[-1]['verdict'] = 'accepted'
    assert adapt_ros.acting(verdicts, 46.0) == 0


def test_only_sessions_run_through_the_graph():
    for method, there in (('none', False), ('sb3-ppo', False), ('td3-residual', False),
                          ('td3-lora4', True), ('ppo-bias', True)):  # fmt: skip
        assert Cell('slip', method, 0, path='ros').sensible == there
    assert not Cell('slip', 'td3-lora4', 0, stream='hostile', path='ros').sensible
    assert Cell('slip', 'td3-lora4', 3, path='ros').words == 'slip.td3-lora4.ros.10min.3'


@pytest.mark.ros
def test_a_real_walk_is_judged(monkeypatch):
    """Twelve seconds of a slipped horn: the command works, times fit, the base is judged first."""
    monkeypatch.setenv('ROS_DOMAIN_ID', str(fresh_domain()))
    cell = Cell('slip', 'ppo-lora4', 0, minutes=0.2, path='ros')
    bench, shares = Bench('slip'), []
    bench.faults = FAULTS['slip']
    log = adapt_ros.run_graph(cell, bench, shares.append)
    assert [minute for minute, _ in log.curve] == [0.0, 0.2]
    assert shares[-1] == 1.0
    assert sum(log.verdicts.values()) >= 1  # ppo's first batch is 5 s
    assert all(0.0 < minute < 0.3 for minute in log.accepted)
