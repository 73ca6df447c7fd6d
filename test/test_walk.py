"""The whole graph as processes: walking, dying, being stopped, side by side."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from lebot_rl_ros.bringup.graph import walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.robot import load_robot
from lebot_rl_ros.ros.convert import to_ns
from ros_graph import ROOT, environment, fresh_domain, lebot, probe

ROBOT = load_robot()
WALK = (sys.executable, '-m', 'lebot_rl_ros.cli.main', 'walk', '--policy', 'trot')
FAST = ('--policy', 'trot', '--cmd', '0.1', '0', '--real-time-factor', '0', '--quiet')


def walk(tmp_path, *words, domain=None):
    """Run `lebot walk` to its end; returns the process and its report."""
    tmp_path.mkdir(exist_ok=True)
    done = lebot(
        'walk', *words, '--out', str(tmp_path), '--json', str(tmp_path / 'r.json'), domain=domain
    )
    file = tmp_path / 'r.json'
    return done, json.loads(file.read_text()) if file.exists() else None


def test_two_runs_of_one_seed_end_at_the_identical_pose_also_side_by_side(tmp_path):
    """The second and third run share a domain; namespaces keep them from disturbing each other."""
    alone, report = walk(tmp_path / 'a', *FAST, '--duration', '6')
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert (report['ticks'], report['missed_ticks'], report['falls']) == (300, 0, 0)
    assert report['distance_m'] > 0.3
    assert report['exit_reason'] == 'completed'
    assert (tmp_path / 'a' / 'run.png').stat().st_size > 10_000
    domain = fresh_domain()
    with ThreadPoolExecutor(2) as pool:
        pair = list(
            pool.map(
                lambda name: walk(
                    tmp_path / name, *FAST, '--duration', '6', '--namespace', name, domain=domain
                ),
                ('left', 'right'),
            )
        )
    for done, other in pair:
        assert done.returncode == 0, done.stdout + done.stderr
        assert other['final_pose'] == report['final_pose']


def test_a_fall_is_told_and_fails(tmp_path):
    done, report = walk(
        tmp_path,
        *FAST,
        '--duration',
        '6',
        '--fault',
        'slip:fl_hip:1.2@2',
        '--fault',
        'slip:rl_hip:1.2@2',
    )
    assert report['falls'] == 1, done.stdout
    assert report['exit_reason'] == 'fell'
    assert done.returncode == 1


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--fault', 'dead:fl_toe@1'], 'joints are fl_hip, fl_knee'),
        (['--backend', 'gazebo'], 'gazebo is not in this version; choices are mujoco, wire, hard'),
        (['--backend', 'hardware'], '/dev/lebot-servos is not there; ports that are'),
        (['--backend', 'hardware', '--fault', 'dead:fl_knee'], 'it is for mujoco and wire'),
        (['--bus', 'dynamixel'], 'the backend is mujoco; it is for wire and hardware'),
        (['--fault', 'unplug:bus@1'], 'is one of the wires; give --backend wire'),
        (['--backend', 'wire', '--fault', 'drop:fl_toe'], "drop of 'fl_toe'; choose from fl_hip"),
        (['--backend', 'wire', '--real-time-factor', '2'], 'real_time_factor is 2.0; the wires'),
        (['--backend', 'paper'], "backend is 'paper'; choices are mujoco"),
        (['--robot', 'spot'], "no robot 'spot'; known are lebot"),
        (['--policy', 'run'], 'run'),
        (['--duration', 'long'], "duration is 'long'; expected a number"),
        (['--record', '--record-split', 'x'], "record_split is 'x'; expected a number"),
        (['--learn', '--policy', 'trot'], 'policy is trot, which has nothing to learn'),
        (['--learn', '--adapter', 'a@2'], "adapter is 'a@2'; with learn it is the name"),
        (['--learn', '--learner', 'sarsa'], "learner is 'sarsa'; choices are td3, ppo"),
        (['--learn-what', 'legs'], "learn_what is 'legs'; choices are lora, bias"),
        (['--learn', '--learn-rank', '0'], 'learn_rank is 0, must be 1 or more'),
    ],
)
def test_bad_arguments_are_named_before_any_process_starts(tmp_path, words, message):
    done = lebot('walk', '--out', str(tmp_path / 'out'), *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / 'out').exists()


def run_stack(tmp_path, domain, **arguments):
    """A runner for a slow, real-time stack, and the list of its events."""
    events = []
    given = {'policy': 'trot', 'vx': 0.1, 'respawn': False} | arguments
    return Runner(walk_stack(given), tmp_path / 'logs', events.append, environment(domain)), events


def within_limits(messages):
    """Whether every applied target of a run lay within the joint limits."""
    positions = np.array([message.position for message in messages])
    return bool(((positions >= ROBOT.lower) & (positions <= ROBOT.upper)).all())


def modes(messages):
    """The driver's modes in order, without repetition."""
    names = [message.header.frame_id for message in messages]
    return [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]


def test_kill_9_of_the_policy_holds_then_crouches_and_the_sim_says_why(tmp_path):
    domain = fresh_domain()
    runner, events = run_stack(tmp_path, domain)
    with probe(domain) as listening, runner:
        applied = listening.listen(JointState, 'joint_commands_applied', 1000)
        listening.until(lambda: applied and applied[-1].header.frame_id == 'track', 'tracking')
        mark = len(applied)
        listening.until(lambda: len(applied) > mark + 25, 'half a second of walking')
        runner.processes['policy'].popen.kill()
        listening.until(lambda: applied[-1].header.frame_id == 'hold', 'hold')
        listening.until(lambda: applied[-1].header.frame_id == 'crouch', 'crouch')
        listening.until(
            lambda: 'no joint command for' in listening.health['/sim'][1], 'the reason'
        )
        listening.until(lambda: applied[-1].header.frame_id == 'relaxed', 'relaxed')
        runner.poll()
    assert modes(applied)[-4:] == ['track', 'hold', 'crouch', 'relaxed']
    assert within_limits(applied)
    hold = [to_ns(m.header.stamp) for m in applied if m.header.frame_id == 'hold']
    track = [to_ns(m.header.stamp) for m in applied if m.header.frame_id == 'track']
    assert hold[0] == track[-1] + ROBOT.control_period_ns
    assert hold[-1] - hold[0] <= 0.5e9
    crouched = np.array(
        next(m.position for m in reversed(applied) if m.header.frame_id == 'crouch')
    )
    np.testing.assert_allclose(crouched, ROBOT.crouch, atol=0.02)
    assert any('policy was killed by SIGKILL' in event for event in events)


def test_a_killed_policy_is_started_again_and_walks_on(tmp_path):
    domain = fresh_domain()
    runner, events = run_stack(tmp_path, domain, respawn=True)
    with probe(domain) as listening, runner:
        applied = listening.listen(JointState, 'joint_commands_applied', 1000)
        listening.until(lambda: applied and applied[-1].header.frame_id == 'track', 'tracking')
        runner.processes['policy'].popen.kill()
        listening.until(lambda: applied[-1].header.frame_id != 'track', 'safety')

        def again():
            runner.poll()
            return applied[-1].header.frame_id == 'track'

        listening.until(again, 'tracking again')
    assert within_limits(applied)
    assert 'policy was started again' in events
    assert not runner.failed


def test_services_stop_clear_torque_and_reset(tmp_path):
    domain = fresh_domain()
    runner, _ = run_stack(tmp_path, domain)
    with probe(domain) as listening, runner:
        applied = listening.listen(JointState, 'joint_commands_applied', 1000)

        def mode_is(mode):
            listening.until(lambda: applied and applied[-1].header.frame_id == mode, mode)

        mode_is('track')
        assert 'stop requested' in listening.call(Trigger, '/servo_driver/stop').message
        mode_is('relaxed')
        assert 'stop requested' in listening.call(Trigger, '/servo_driver/clear_faults').message
        mode_is('track')
        assert listening.call(
            SetBool, '/servo_driver/set_torque', SetBool.Request(data=False)
        ).success
        mode_is('relaxed')
        assert listening.call(
            SetBool, '/servo_driver/set_torque', SetBool.Request(data=True)
        ).success
        mode_is('stand_up')
        assert 'origin' in listening.call(Trigger, '/sim/reset').message
        mode_is('track')
    assert within_limits(applied)


def test_a_foreign_joint_command_is_refused_and_named(tmp_path):
    domain = fresh_domain()
    runner, _ = run_stack(tmp_path, domain)
    with probe(domain) as listening, runner:
        publisher = listening.node.create_publisher(JointState, 'joint_commands', 10)
        applied = listening.listen(JointState, 'joint_commands_applied', 1000)
        listening.until(lambda: applied and applied[-1].header.frame_id == 'track', 'tracking')
        foreign = JointState(name=[f'j{i}' for i in range(12)], position=[9.0] * 12)
        refusal = '12 values for the 8 joints'

        def refused():
            """The sim asks for the newest only: one message may be overtaken, so repeat."""
            said = listening.health.get('/sim', (0, '', {}))[2].get('last_rejection', '')
            if refusal not in said:
                publisher.publish(foreign)
            return refusal in said

        listening.until(refused, refusal)
        mark = len(applied)
        listening.until(lambda: len(applied) > mark + 5, 'five ticks more')
        assert applied[-1].header.frame_id == 'track'
    assert within_limits(applied)


def test_ctrl_c_crouches_the_robot_and_leaves_no_process(tmp_path):
    domain = fresh_domain()
    process = subprocess.Popen(
        [*WALK, '--cmd', '0.1', '0', '--out', str(tmp_path)],
        env=environment(domain),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with probe(domain) as listening:
        applied = listening.listen(JointState, 'joint_commands_applied', 1000)
        listening.until(lambda: applied and applied[-1].header.frame_id == 'track', 'tracking')
        mark = len(applied)
        listening.until(lambda: len(applied) > mark + 150, 'three seconds of walking')
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        listening.until(lambda: applied[-1].header.frame_id in ('crouch', 'relaxed'), 'the crouch')
    assert process.returncode == 0, output
    assert 'interrupted' in output
    assert 'robot crouched, torque off' in (tmp_path / 'logs' / 'sim.log').read_text()
    listed = subprocess.run(
        ['ps', '-eo', 'args'], capture_output=True, text=True, check=True
    ).stdout
    assert not [
        line
        for line in listed.splitlines()
        if f'ROS_DOMAIN_ID={domain}' in line or str(tmp_path) in line
    ]


def test_nodes_die_with_a_killed_runner(tmp_path):
    domain = fresh_domain()
    process = subprocess.Popen(
        [*WALK, '--out', str(tmp_path)],
        env=environment(domain),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with probe(domain) as listening:
        listening.until(lambda: '/sim' in listening.health, 'the sim')
        children = subprocess.run(
            ['pgrep', '-P', str(process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(children) == 5
        process.kill()
        process.wait()
        listening.until(
            lambda: not any(_alive(int(pid)) for pid in children), 'the end of the nodes'
        )


def _alive(pid: int) -> bool:
    try:
        return 'Z' not in open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_refusing_policy_stops_the_stack_with_its_reason(tmp_path):
    """The node's own check, without the one that `lebot walk` makes first."""
    runner, _ = run_stack(tmp_path, fresh_domain(), policy='trot')
    specs = [spec for spec in runner._specs if spec.name == 'policy']
    broken = [
        type(spec)(**{**spec.__dict__, 'parameters': {'robot': 'lebot', 'policy': '/no/policy'}})
        for spec in specs
    ]
    runner._specs = broken
    with runner:
        runner.processes['policy'].popen.wait(20)
        for _ in range(100):
            runner.poll()
            if runner.failed and '/no/policy' in runner.failed:
                break
            os.sched_yield()
    assert 'policy ended with status 2' in runner.failed
