"""The report of a walk, from what was heard; no process runs."""

import numpy as np
import pytest
from std_msgs.msg import String

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.cli.report import make_report
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.monitor import Heard, Monitor
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
