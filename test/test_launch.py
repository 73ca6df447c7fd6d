"""The graph as launch and processes get it: names, types, quotes; and launch, where it is."""

import importlib
import importlib.util
import os
import runpy
import shutil
import signal
import subprocess
import types
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.node import Node

from lebot_rl_ros.bringup.arguments import ARGUMENTS, BY_NAME, parse_arguments
from lebot_rl_ros.bringup.graph import NodeSpec, walk_stack
from lebot_rl_ros.bringup.runner import Runner
from lebot_rl_ros.mdp.rewards import DEFAULT_WEIGHTS
from lebot_rl_ros.safety.health import HealthConfig
from ros_graph import environment, fresh_domain

ROOT = Path(__file__).parents[1]
LAUNCH_FILE = ROOT / 'launch' / 'walk.launch.py'
# Each of these reaches another part of the description.
CHOICES = [
    {},
    {'namespace': 'lb', 'respawn': 'false'},
    {'teleop': 'none', 'real_time_factor': '0', 'duration': '5'},
    {'teleop': 'joy', 'faults': 'dead:fl_knee@2 payload:0.2@3', 'monitored': 'true'},
    {'backend': 'wire', 'bus': 'dynamixel', 'camera_rate': '5', 'faults': 'unplug:bus@5-7'},
    {'backend': 'hardware', 'camera': '/dev/lebot-camera', 'duration': '5'},
    {'learn': 'true', 'learner': 'ppo', 'reward': 'velocity_careful', 'lockstep': 'true'},
    {'learn': 'true', 'adapter': 'limp', 'backend': 'hardware'},
    {'record': 'true', 'record_topics': 'odom imu/data', 'record_ring': '30', 'learn': 'true'},
]


EXECUTABLES = {spec.executable for given in CHOICES for spec in walk_stack(given).nodes}


def declared(executable):
    """Name and type of every parameter that a node declares."""
    module = importlib.import_module(f'lebot_rl_ros.nodes.{executable}')
    (schema,) = (
        item
        for name, item in vars(module).items()
        if name.endswith('Parameters')
        and is_dataclass(item)
        and item.__module__ in (module.__name__, f'{module.__name__}_parameters')
    )
    found = {
        entry.name: list if isinstance(entry.default, tuple) else type(entry.default)
        for entry in fields(schema)
    }
    if executable == 'reward':
        found |= {f'weights.{name}': float for name in DEFAULT_WEIGHTS}
    if executable == 'servo_driver':
        found |= {f'limits.{entry.name}': type(entry.default) for entry in fields(HealthConfig)}
    return found | {'use_sim_time': bool}


def wrong_parameters(executable, given):
    """What the node would refuse or ignore of these values, in words."""
    known = declared(executable)
    wrong = [f'{executable}: no parameter {name}' for name in given if name not in known]
    return wrong + [
        f'{executable}: {name} is {value!r}, must be a {known[name].__name__}'
        for name, value in given.items()
        if name in known and type(value) is not known[name]
    ]


def flatten(values, prefix=''):
    """Parameters of a YAML file with their dotted names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


def wrong_keys(text):
    """What is wrong with a parameter file."""
    wrong = []
    for pattern, body in yaml.safe_load(text).items():
        executable = pattern.removeprefix('/**/')
        if executable not in EXECUTABLES:
            wrong.append(f'{pattern}: no such node')
            continue
        wrong += wrong_parameters(executable, dict(flatten(body['ros__parameters'])))
    return wrong


@pytest.fixture(scope='module')
def scripts():
    """Console scripts of setup.py: name and what it calls."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('setuptools.setup', lambda **arguments: seen.update(arguments))
        patch.chdir(ROOT)
        runpy.run_path('setup.py')
    return dict(line.split(' = ') for line in seen['entry_points']['console_scripts'])


@pytest.mark.parametrize('given', CHOICES)
def test_every_executable_is_an_entry_point_with_a_main(scripts, given):
    for spec in walk_stack(given).nodes:
        assert scripts[spec.executable] == f'lebot_rl_ros.nodes.{spec.executable}:main'
        assert callable(importlib.import_module(f'lebot_rl_ros.nodes.{spec.executable}').main)


@pytest.mark.parametrize('given', CHOICES)
def test_every_parameter_of_the_graph_is_declared_by_its_node(given):
    for spec in walk_stack(given).nodes:
        assert wrong_parameters(spec.executable, spec.parameters) == []


def test_every_key_of_the_parameter_file_is_declared_by_its_node():
    files = {spec.parameter_file for spec in walk_stack({}).nodes}
    assert [file for file in files if wrong_keys(file.read_text())] == []


@pytest.mark.parametrize(
    ('node', 'line', 'complaint'),
    [
        ('policy', 'comand_timeout: 0.5', 'policy: no parameter comand_timeout'),
        ('polciy', 'command_timeout: 0.5', '/**/polciy: no such node'),
        ('reward', 'fall: -10', 'reward: fall is -10, must be a float'),
        ('reward', 'weights: {gaits: 1.0}', 'reward: no parameter weights.gaits'),
        ('teleop', 'axis_vx: true', 'teleop: axis_vx is True, must be a int'),
    ],
)
def test_a_wrong_key_of_the_parameter_file_would_be_found(node, line, complaint):
    assert wrong_keys(f'/**/{node}:\n  ros__parameters:\n    {line}\n') == [complaint]


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'speed': 1}, r"unknown arguments \['speed'\]; known are backend, bus"),
        ({'vx': 'fast'}, "vx is 'fast'; expected a number"),
        ({'vx': 'nan'}, "vx is 'nan'; expected a number"),
        ({'duration': 'inf'}, "duration is 'inf'; expected a number"),
        ({'seed': '1.5'}, "seed is '1.5'; expected a whole number"),
        ({'headless': 'no'}, "headless is 'no'; choices are true, false"),
        ({'backend': 'gazebo'}, 'backend: gazebo is not in this version; choices are mujoco'),
        ({'backend': 'paper'}, "backend is 'paper'; choices are mujoco"),
        ({'record': 'maybe'}, "record is 'maybe'; choices are true, false"),
        ({'record_ring': 'long'}, "record_ring is 'long'; expected a number"),
        ({'learn': 'true', 'policy': 'none'}, 'policy is none, which has nothing to learn'),
        ({'learn': 'true', 'adapter': './a'}, "adapter is './a'; with learn it is the name"),
        ({'get_up': 'maybe'}, "get_up is 'maybe'; choices are auto, true, false"),
    ],
)
def test_arguments_that_cannot_be_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(given)


def test_arguments_come_as_text_or_as_values():
    text = parse_arguments({'vx': '0.2', 'seed': ' 3', 'headless': 'False', 'faults': ''})
    assert text == parse_arguments({'vx': 0.2, 'seed': 3, 'headless': False})
    assert parse_arguments({'real_time_factor': '0'})['lockstep'] is True


def names_of(spec):
    """Where a node and its relative and remapped names end up."""
    words = spec.ros_arguments()
    rules = dict(word.split(':=') for word in words if ':=' in word)
    return f'{rules["__ns"]}/{rules["__node"]}', rules['/clock']


def test_two_namespaces_share_no_name_and_no_clock():
    left, right = (
        {name for spec in walk_stack({'namespace': namespace}).nodes for name in names_of(spec)}
        for namespace in ('left', '/deep/right/')
    )
    assert {'/left/sim', '/left/policy', '/left/clock'} <= left
    assert {'/deep/right/sim', '/deep/right/clock'} <= right
    assert not left & right
    assert all(spec.remappings == () for spec in walk_stack({}).nodes)


def test_log_levels_reach_nodes_in_a_namespace():
    for namespace, logger in (('', 'sim'), ('lb', 'lb.sim'), ('/a/b', 'a.b.sim')):
        words = walk_stack({'namespace': namespace, 'log_level': 'warn'}).nodes[0].ros_arguments()
        assert words[words.index('--log-level') + 1] == f'{logger}:=warn'


def test_a_node_is_started_again_by_its_rule():
    rules = {
        spec.name: [spec.respawns(status) for status in (0, 1, -9, 2)]
        for spec in walk_stack({}).nodes
    }
    assert rules.pop('sim') == [False] * 4
    assert set(map(tuple, rules.values())) == {(True, True, True, False)}
    assert not any(spec.respawns(-9) for spec in walk_stack({'respawn': 'false'}).nodes)


NASTY = [
    '1e3',
    'true',
    'null',
    '',
    "it's",
    "''",
    'a: b',
    '[x]',
    '#c',
    'a, b',
    ' x ',
    '/p/q r',
    'ü',
]


def test_text_stays_text_on_the_command_line():
    given = {f's{i}': text for i, text in enumerate(NASTY)}
    given |= {'all': NASTY, 'on': True, 'whole': 3, 'half': 0.5, 'small': 1e-7, 'two': 2.0}
    spec = NodeSpec('sim', 'x', '', given, ROOT / 'config' / 'walk.yaml')
    context = Context()
    rclpy.init(context=context, args=spec.ros_arguments(), domain_id=fresh_domain())
    try:
        node = Node('y', context=context, automatically_declare_parameters_from_overrides=True)
        for name, value in given.items():
            got = node.get_parameter(name).value
            assert (got, type(got)) == (value, type(value)), name
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def test_without_a_monitor_the_simulation_ends_when_the_run_is_complete(tmp_path):
    """Under launch its end is the end of all."""
    given = {'policy': 'trot', 'vx': 0.1, 'real_time_factor': 0, 'duration': 2}
    stack = walk_stack(given)
    assert stack.nodes[0].parameters['exit_when_finished'] is True
    assert (
        walk_stack(given | {'monitored': True}).nodes[0].parameters['exit_when_finished'] is False
    )
    with Runner(stack, tmp_path, print, environment(fresh_domain())) as runner:
        assert runner.processes['sim'].popen.wait(30) == 0
        assert all(p.popen.poll() is None for name, p in runner.processes.items() if name != 'sim')
        assert runner.stop() == []
    log = (tmp_path / 'sim.log').read_text()
    assert log.index('the run is complete') < log.index('robot crouched, torque off')


def test_the_launch_file_lists_no_node_and_no_argument_of_its_own():
    text = LAUNCH_FILE.read_text()
    words = {spec.name for spec in walk_stack({}).nodes} | set(BY_NAME) - {'namespace', 'respawn'}
    assert [word for word in words if f"'{word}'" in text] == []


def test_the_page_about_ros2_names_every_argument():
    page = (ROOT / 'docs' / 'ros2.md').read_text()
    assert [name for name in BY_NAME if f'`{name}`' not in page] == []


@pytest.fixture(scope='module')
def launch_file():
    """The launch file as a module."""
    pytest.importorskip('launch_ros', reason='launch_ros is not here: it comes with ROS 2 itself')
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    assert get_launch_description_from_python_launch_file(str(LAUNCH_FILE)).entities
    return types.SimpleNamespace(**runpy.run_path(str(LAUNCH_FILE)))


def test_launch_declares_every_argument_with_its_description(launch_file):
    found = launch_file.generate_launch_description().get_launch_arguments()
    assert [argument.name for argument in found] == [argument.name for argument in ARGUMENTS]
    for action, argument in zip(found, ARGUMENTS, strict=True):
        default = action.default_value[0].text if action.default_value else ''
        assert parse_arguments({argument.name: default})[argument.name] == argument.default
        assert action.description.startswith(argument.description)
        assert action.choices == ([*argument.choices, *argument.later] or None)


@pytest.mark.parametrize('given', CHOICES)
def test_launch_makes_a_node_of_every_node_of_the_graph(launch_file, given):
    from launch_ros.actions import Node as NodeAction

    from launch import LaunchContext

    context = LaunchContext()
    for action in launch_file.generate_launch_description().get_launch_arguments():
        context.launch_configurations[action.name] = given.get(
            action.name, action.default_value[0].text if action.default_value else ''
        )
    nodes = [item for item in launch_file.launch_stack(context) if isinstance(item, NodeAction)]
    specs = walk_stack(given).nodes
    assert len(nodes) == len(specs) >= 5
    for action, spec in zip(nodes, specs, strict=True):
        assert action.node_package == 'lebot_rl_ros'
        assert action.node_executable == spec.executable
        assert action.condition.evaluate(context) is spec.condition


def test_ros2_launch_walks_and_ends_by_itself(tmp_path):
    if not shutil.which('ros2') or importlib.util.find_spec('ros2launch') is None:
        pytest.skip('the command ros2 is not here: it comes with ROS 2 itself')
    prefixes = [Path(part) for part in os.environ.get('AMENT_PREFIX_PATH', '').split(':') if part]
    if not any((prefix / 'lib/lebot_rl_ros/sim').is_file() for prefix in prefixes):
        pytest.skip('no colcon workspace with lebot_rl_ros is sourced')
    words = ['policy:=trot', 'vx:=0.1', 'real_time_factor:=0', 'duration:=4', 'namespace:=lb']
    domain = fresh_domain()
    process = subprocess.Popen(
        ['ros2', 'launch', 'lebot_rl_ros', 'walk.launch.py', *words],
        env=environment(domain) | {'ROS_HOME': str(tmp_path)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert 'the run is complete' in output
    assert 'robot crouched, torque off' in output
    assert output.count('process has finished cleanly') == 5, output
