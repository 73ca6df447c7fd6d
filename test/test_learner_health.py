"""What the learner says of itself: the worst of what it waits for, or goes on with."""

from types import SimpleNamespace

import pytest

from lebot_rl_ros.nodes.learner_health import judged
from lebot_rl_ros.ros import diagnostics


def learner(**changes):
    """One that goes on well, but for ``changes``."""
    client = SimpleNamespace(wanted='recover@2', lost=False, other='')
    session = SimpleNamespace(metrics={})
    run = SimpleNamespace(
        acting='recover@2',
        accepted='recover@2',
        base_sha256='ab' * 32,
        trouble='',
        session=session,
    )
    node = SimpleNamespace(
        config=SimpleNamespace(lockstep=False), run=run, client=client, ready=True, enabled=True,
        foreign='', load=0.3, input=SimpleNamespace(heard=0.0, refused=''),
    )  # fmt: skip
    for name, value in changes.items():
        *path, last = name.split('__')
        part = node
        for step in path:
            part = getattr(part, step)
        setattr(part, last, value)
    return node


def test_all_is_well():
    assert judged(learner(), [], 50.0) == (diagnostics.OK, 'recover@2 acts')
    on_trial = learner(run__acting='recover@3')
    assert judged(on_trial, [], 50.0) == (diagnostics.OK, 'recover@3 on trial')


@pytest.mark.parametrize(
    ('changes', 'missing', 'rate', 'words'),
    [
        ({'ready': False}, ['policy'], 50.0, 'waiting for policy'),
        ({'enabled': False}, [], 50.0, 'not enabled; recover@2 stays'),
        ({'foreign': 'cd' * 32}, [], 50.0, 'steps of base cdcdcdcdcdcd, this is abababababab'),
        ({'run__trouble': 'disk full'}, [], 50.0, 'disk full'),
        ({}, [], 0.0, 'no policy/steps: learning waits'),
        ({'load': 0.97}, [], 50.0, 'learning takes 0.97 s of each second of the robot'),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else None,
)
def test_what_is_wrong_is_named(changes, missing, rate, words):
    level, message = judged(learner(**changes), missing, rate)
    assert level == diagnostics.WARN
    assert message.startswith(words)


def test_a_machine_that_is_too_slow_says_how_much_was_left_out():
    node = learner(load=0.98, run__session__metrics={'updates_left_out': 1234.0})
    assert judged(node, [], 50.0)[1].endswith('; 1234 updates were left out so far')


def test_in_lockstep_nothing_is_too_slow():
    assert judged(learner(load=4.0, config__lockstep=True), [], 50.0)[0] == diagnostics.OK
