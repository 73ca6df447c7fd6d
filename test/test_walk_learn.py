"""The whole graph learns: a short walk in lockstep repeats, and goes on when its learner dies."""

import json
from dataclasses import replace

import pytest
from std_msgs.msg import String
from std_srvs.srv import SetBool

from lebot_rl_ros.bringup.graph import Stack, walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.policy.store import AdapterStore
from lebot_rl_ros.ros import names, qos
from ros_graph import environment, fresh_domain, lebot, probe

pytestmark = pytest.mark.ros

# Small and hasty, so that seconds of walking have versions in them: this is about the graph.
HASTY = {
    'offer_every': 60, 'settings': 'learning_starts=40 batch=16 updates_per_step=0.2',
    'gate.evidence': -1e9, 'gate.kl_mean': 100.0, 'gate.kl_p99': 100.0, 'gate.kl_base': 1000.0,
    'probation.window': 0.4, 'probation.windows': 1, 'probation.settle': 0.1,
    'tensorboard': False, 'checkpoint_every': 0.1,
}  # fmt: skip


def hasty_stack(folder, **arguments):
    """A learning walk as fast as it goes, with a hasty learner."""
    given = {
        'learn': True, 'real_time_factor': 0, 'seed': 3, 'get_up': 'false', 'learn_rank': 2,
        'adapter_store': str(folder / 'store'), 'learn_folder': str(folder / 'learner'),
    }  # fmt: skip
    stack = walk_stack(given | arguments)
    nodes = tuple(
        replace(spec, parameters={**spec.parameters, **HASTY}) if spec.name == 'learner' else spec
        for spec in stack.nodes
    )
    return Stack(nodes, stack.arguments)


def versions(folder):
    """Verdict and hash of every version."""
    store = AdapterStore(folder / 'store')
    manifests = [store.manifest('recover', version) for version in store.versions('recover')]
    return [(m.version, m.parent, m.verdict, m.sha256) for m in manifests]


def walked(folder, **arguments):
    """Let a walk end by itself; its verdicts, and what the nodes logged."""
    domain, events = fresh_domain(), []
    stack = hasty_stack(folder, **arguments)
    with probe(domain) as listening:
        verdicts = listening.listen(String, names.LEARNER_VERDICTS, qos.HISTORY)
        with Runner(stack, folder / 'logs', events.append, environment(domain)) as runner:
            sim = runner.processes['sim'].popen
            listening.until(lambda: sim.poll() is not None, 'the end of the run', 90.0)
            assert (sim.returncode, runner.stop()) == (0, []), events
        return [json.loads(verdict.data) for verdict in verdicts]


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    """A run: its verdicts and versions."""
    folder = tmp_path_factory.mktemp('first')
    return walked(folder, duration=5), versions(folder)


def test_equal_seeds_give_equal_versions_and_verdicts(tmp_path, first):
    verdicts, made = first
    assert walked(tmp_path, duration=5) == verdicts
    assert versions(tmp_path) == made
    assert len(made) >= 2
    for verdict in verdicts:
        assert verdict['reason']
        assert 1.0 < verdict['time'] <= 5.0
    said = {v['version']: v['verdict'] for v in verdicts if v['version']}
    assert 'probation' in {v['verdict'] for v in verdicts}
    assert set(said.values()) & {'accepted', 'rejected'}
    assert [verdict for _, _, verdict, _ in made] == [
        said[version] if said[version] != 'probation' else 'candidate' for version, *_ in made
    ]


def test_kill_9_of_the_learner_in_the_middle_and_it_goes_on(tmp_path, first):
    domain, events = fresh_domain(), []
    stack = hasty_stack(tmp_path, seed=4)
    with probe(domain) as listening:
        verdicts = listening.listen(String, names.LEARNER_VERDICTS, qos.HISTORY)
        with Runner(stack, tmp_path / 'logs', events.append, environment(domain)) as runner:

            def rows():
                return int(listening.health.get('/learner', (0, '', {}))[2].get('rows', 0))

            def heard(condition):
                runner.poll()
                assert not runner.failed
                return condition()

            listening.until(lambda: heard(lambda: len(verdicts) >= 3), 'verdicts', 60.0)
            listening.until(lambda: heard(rows), 'rows')
            before, known = rows(), versions(tmp_path)
            runner.processes['learner'].popen.kill()
            listening.until(lambda: heard(lambda: runner.down), 'its death')
            verdicts.clear()
            listening.until(lambda: heard(lambda: not runner.down), 'its return', 30.0)
            listening.until(lambda: heard(lambda: len(verdicts) >= 2), 'verdicts again', 60.0)
            # How much robot time lies between two checkpoints is the disk's matter.
            listening.until(lambda: heard(lambda: rows() > before), 'more steps than before')
            assert any('goes on after' in line for line in runner.processes['learner'].output)
            stays = listening.call(SetBool, 'learner/enable', SetBool.Request(data=False))
            assert stays.success
            assert runner.stop() == []
    log = (tmp_path / 'logs' / 'learner.log').read_text()
    assert log.count('recover begins; the base shall act') == 1
    assert log.count('recover goes on after') == 1
    assert any('learner was killed by SIGKILL' in event for event in events)
    assert [entry[3] for entry in versions(tmp_path)][: len(known)] == [e[3] for e in known]
    assert len(versions(tmp_path)) > len(known)
    assert known[0][3] != first[1][0][3]  # another seed: what is compared above could differ


def test_the_command_line_shows_what_was_learned(tmp_path):
    done = lebot(
        'walk', '--learn', '--real-time-factor', '0', '--duration', '4', '--seed', '3',
        '--get-up', 'false', '--learn-settings', 'learning_starts=40 batch=16',
        '--adapter', 'limp', '--adapter-store', str(tmp_path / 'store'),
        '--fault', 'weak:fl_knee:0.8@3', '--out', str(tmp_path),
        '--json', str(tmp_path / 'r.json'),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    learning = json.loads((tmp_path / 'r.json').read_text())['learning']
    assert (learning['adapter'], learning['learner'], learning['falls']) == ('limp', 'td3', 0)
    assert learning['reward_before'] > 0.0
    assert learning['verdicts'] == []  # it is offered after five seconds of walking
    assert 'limp by td3: 0 offered, 0 accepted, 0 rejected' in done.stdout
    assert (tmp_path / 'run.png').stat().st_size > 10_000
    assert (tmp_path / 'learner' / 'checkpoint.safetensors').stat().st_size > 10_000
    assert list((tmp_path / 'learner' / 'tensorboard').glob('events*'))
