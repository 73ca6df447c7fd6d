"""The report of a walk, from what was heard; no process runs."""

import io
import json

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rich.console import Console
from std_msgs.msg import String

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.cli.learning_report import Count, count, windowed, words
from lebot_rl_ros.cli.report import make_report
from lebot_rl_ros.cli.view import View
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.monitor import Health, Heard, Monitor
from ros_graph import fresh_domain, probe

CHANGES = [(2.5, 'turn@2:0.5', 'set by parameter'), (4.0, '', 'set by parameter')]


def heard_for(seconds: float, **more: object) -> Heard:
    """A robot that walked straight at 0.3 m/s."""
    time = np.arange(0.0, seconds, 0.02)
    return Heard(
        time=time.tolist(),
        pose=[(0.3 * t, 0.0, 0.16, 0.0) for t in time],
        velocity=[0.3] * len(time),
        yaw_rate=[0.0] * len(time),
        **more,
    )


def test_faults_and_swaps_are_marked_and_the_adapter_of_the_start_is_none(tmp_path):
    stack = walk_stack({'faults': 'weak:fl_knee:0.5@3', 'duration': 6.0})
    heard = heard_for(6.0, adapters=[(0.0, 'ice@1', 'start'), *CHANGES])
    report = make_report(stack, heard, 6.5, 'completed', 0)
    assert report.marks == [
        (3.0, 'weak:fl_knee:0.5@3'),
        (2.5, 'turn@2:0.5'),
        (4.0, 'the base alone'),
    ]
    assert (report.data['adapter'], report.data['swaps']) == ('', 2)
    assert report.data['distance_m'] == pytest.approx(0.3 * 5.98)
    report.draw(tmp_path / 'run.png')
    assert (tmp_path / 'run.png').read_bytes().startswith(b'\x89PNG')


def test_what_acted_from_the_start_is_told_though_no_health_was_heard():
    heard = heard_for(2.0, adapters=[(0.0, 'ice@1', 'start')])
    report = make_report(walk_stack({'duration': 2.0}), heard, 0.5, 'completed', 0)
    assert (report.data['adapter'], report.data['swaps']) == ('ice@1', 0)


@pytest.mark.ros
def test_a_monitor_that_comes_late_hears_which_adapter_acts(monkeypatch):
    domain = fresh_domain()
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
    with probe(domain) as told:
        publisher = told.node.create_publisher(String, names.ACTIVE_ADAPTER, qos.LATCHED)
        publisher.publish(String(data='{"since": 1.5, "label": "turn@1", "why": "start"}'))
        heard = Heard()
        with Monitor('', heard) as monitor:

            def arrived() -> bool:
                monitor.listen(0.05)
                return bool(heard.adapters)

            told.until(arrived, 'the latched adapter')
    assert heard.adapters == [(1.5, 'turn@1', 'start')]


# What was learned


def verdict(version: int, time: float, word: str, stage: str = 'probation') -> dict[str, object]:
    """One, as the learner publishes it."""
    return {
        'time': time, 'version': version, 'stage': stage, 'verdict': word, 'reason': 'so',
        'measures': {},
    }  # fmt: skip


VERDICTS = [
    verdict(0, 5.0, 'rejected', 'behaviour'),
    verdict(0, 6.0, 'rejected', 'evidence'),
    verdict(1, 7.0, 'probation', 'behaviour'),
    verdict(1, 9.0, 'accepted'),
    verdict(2, 14.0, 'probation', 'behaviour'),
    verdict(2, 15.0, 'rejected'),
    verdict(3, 29.0, 'probation', 'behaviour'),
]


def test_versions_count_by_their_last_verdict_and_refused_offers_one_by_one():
    assert count(VERDICTS) == Count(offered=5, accepted=1, rejected=3)
    assert count([]) == Count(0, 0, 0)
    assert words(VERDICTS[0]) == 'an offer, behaviour: rejected: so'
    assert words(VERDICTS[3]) == 'version 1, probation: accepted: so'


def test_verdicts_on_the_base_are_told_and_not_counted():
    home = verdict(0, 20.0, 'accepted', 'base')
    assert count([*VERDICTS, home]) == count(VERDICTS)
    assert words(home) == 'the base: accepted: so'


def test_what_was_not_seen_is_not_told():
    heard = heard_learning()
    heard.rewards = [(when, reward) for when, reward in heard.rewards if when > 130.0]
    stack = walk_stack({'learn': True, 'faults': 'slip:rr_hip:0.35@10', 'duration': 60.0})
    learning = make_report(stack, heard, 64.0, 'completed', 0).learning
    assert learning is not None
    assert dict(learning.lines())['reward a step'] == '+2.00 lowest, +2.00 at the end'


def test_a_windowed_mean_by_hand():
    time = np.array([0.0, 1.0, 2.0, 3.0, 5.0])
    values = np.array([1.0, 3.0, 5.0, 9.0, 1.0])
    found = windowed(time, values, 2.0)  # of the times in (t - 2, t]
    np.testing.assert_array_equal(found, [np.nan, np.nan, 4.0, 7.0, 1.0])
    assert windowed(np.zeros(0), np.zeros(0)).shape == (0,)


def heard_learning() -> Heard:
    """3 a step until a fault at 10 s, 0 until 25 s, then 2; the driver began at 100 s."""
    heard = heard_for(60.0)
    heard.time = [time + 100.0 for time in heard.time]
    heard.health['sim'] = Health(0, '', {'begin_s': '100.0', 'falls': '2', 'ticks': '2000'}, 0.0)
    times = np.arange(0.0, 60.0, 0.2)
    earned = np.where(times <= 10.0, 3.0, np.where(times <= 25.0, 0.0, 2.0))
    heard.rewards = [(100.0 + t, r) for t, r in zip(times, earned, strict=True)]
    heard.falls = [112.0, 108.0]
    heard.verdicts = [{**entry, 'time': entry['time'] + 100.0} for entry in VERDICTS]
    heard.adapters = [(100.0, '', 'start'), (107.0, 'recover@1', 'set by parameter')]
    return heard


def test_a_learning_walk_tells_what_was_lost_and_what_came_back(tmp_path, capsys):
    stack = walk_stack({'learn': True, 'faults': 'slip:rr_hip:0.35@10', 'duration': 60.0})
    report = make_report(stack, heard_learning(), 64.0, 'completed', 0)
    learning = report.data['learning']
    assert (learning['adapter'], learning['learner']) == ('recover', 'td3')
    assert [learning[k] for k in ('offered', 'accepted', 'rejected')] == [5, 1, 3]
    assert learning['fall_times_s'] == [12.0, 8.0]
    assert learning['falls_after_first_accepted'] == 1  # that was at 9 s
    assert learning['reward_before'] == pytest.approx(3.0)
    assert learning['reward_lowest'] == pytest.approx(0.0)
    assert learning['reward_end'] == pytest.approx(2.0)
    assert learning['regained'] == pytest.approx(2 / 3)
    assert [v['time'] for v in learning['verdicts']] == [5.0, 6.0, 7.0, 9.0, 14.0, 15.0, 29.0]
    assert report.data['falls'] == 2
    assert report.status == 0  # who learns falls
    assert report.marks == [(10.0, 'slip:rr_hip:0.35@10')]
    report.save(tmp_path / 'r.json')
    assert json.loads((tmp_path / 'r.json').read_text())['learning'] == learning
    report.draw(tmp_path / 'run.png')
    assert (tmp_path / 'run.png').read_bytes().startswith(b'\x89PNG')
    report.show()
    shown = capsys.readouterr().out
    assert 'recover by td3: 5 offered, 1 accepted, 3 rejected' in shown
    assert '+3.00 before, +0.00 lowest, +2.00 at the end' in shown


def test_a_learning_walk_that_heard_nothing_is_told_too(tmp_path):
    stack = walk_stack({'learn': True})
    learning = make_report(stack, Heard(), 1.0, 'interrupted', 0).data['learning']
    assert learning['reward_end'] is None
    assert learning['falls_after_first_accepted'] is None
    assert json.dumps(learning, allow_nan=False)


def test_the_live_view_tells_verdicts_return_and_versions(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '120')
    heard = heard_learning()
    heard.terms = {'return': '812.4', 'last_return': '-30.0'}
    stack = walk_stack({'learn': True})
    with View(stack, heard, quiet=False) as view:
        view.update()
        view.update()
    shown = ' '.join(capsys.readouterr().out.split())
    assert shown.count('version 1, probation: accepted: so') == 1
    assert 'return 812 (-30 before) versions: 5 offered, 1 accepted, 3 rejected' in shown
    panel = Console(width=120, record=True, file=io.StringIO())
    panel.print(view._panel())
    drawn = panel.export_text()
    assert 'version 3, behaviour: probation: so' in drawn
    assert '5 offered, 1 accepted, 3 rejected' in drawn


@pytest.mark.ros
def test_a_monitor_hears_verdicts_said_before_it_came_and_counts_falls(monkeypatch):
    domain = fresh_domain()
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
    with probe(domain) as told:
        verdicts = told.node.create_publisher(String, names.LEARNER_VERDICTS, qos.HISTORY)
        terms = told.node.create_publisher(DiagnosticArray, names.REWARD_TERMS, qos.OFFER)
        for entry in (VERDICTS[2], VERDICTS[3], VERDICTS[3]):  # the last one again
            verdicts.publish(String(data=json.dumps(entry)))
        heard = Heard()
        with Monitor('', heard) as monitor:

            def earned(falls: int) -> bool:
                values = {'mean_reward': '1', 'falls': str(falls)}
                pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
                message = DiagnosticArray(status=[DiagnosticStatus(values=pairs)])
                message.header.stamp.sec = 10 + falls
                number = len(heard.rewards)
                terms.publish(message)
                monitor.listen(0.05)
                return len(heard.rewards) > number

            told.until(lambda: earned(0), 'rewards')
            for falls in (0, 1, 3):
                told.until(lambda falls=falls: earned(falls), 'rewards')
            told.until(lambda: monitor.listen(0.05) or len(heard.verdicts) == 2, 'verdicts')
    assert heard.verdicts == VERDICTS[2:4]
    assert heard.falls == [11.0, 13.0, 13.0]
