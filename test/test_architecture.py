"""Who may import whom, what a robot need not have installed, and proof that the check can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

from architecture import OUTSIDE, PACKAGE, ROOMS, violations

ROOT = Path(__file__).parents[1] / PACKAGE
HEAVY = ('torch', 'mujoco', 'gymnasium', 'matplotlib', 'rich', 'tensorboard', 'cv2')


def test_no_import_breaks_the_rules():
    assert violations(ROOT) == []


def test_every_room_on_disk_has_a_rule_and_is_a_package():
    on_disk = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob('*.py'))}
    assert on_disk <= set(ROOMS)
    assert [room for room in sorted(on_disk) if not (ROOT / room / '__init__.py').is_file()] == []


@pytest.mark.parametrize(
    ('file', 'source', 'complaint'),
    [
        (
            'mdp/bad.py',
            'import numpy\nfrom lebot_rl_ros.sim.model import FLOOR\n',
            ':2: mdp imports sim',
        ),
        ('mdp/bad.py', 'from lebot_rl_ros import sim\n', ':1: mdp imports sim'),
        ('mdp/bad.py', 'from ..sim import model\n', ':1: mdp imports sim'),
        ('mdp/bad.py', 'def f():\n    import lebot_rl_ros.envs.x\n', ':2: mdp imports envs'),
        (
            'policy/bad.py',
            'from lebot_rl_ros.robot import Robot\n',
            'policy imports robot; may import none',
        ),
        ('learning/bad.py', 'from lebot_rl_ros.envs.a import B\n', 'envs for types only'),
        ('envs/bad.py', 'from lebot_rl_ros.learning.ppo import PPO\n', 'envs imports learning'),
        ('cli/bad.py', 'import lebot_rl_ros.nodes.policy\n', 'cli imports nodes'),
        ('nodes/bad.py', 'import lebot_rl_ros.cli.main\n', 'nodes imports cli'),
        ('robot/bad.py', 'import rclpy\n', 'robot imports rclpy'),
        ('bringup/bad.py', 'from sensor_msgs.msg import Imu\n', 'bringup imports sensor_msgs'),
        ('cli/bad.py', 'def f():\n    from std_srvs.srv import Trigger\n', 'cli imports std_srvs'),
        ('policy/runtime.py', 'import torch\n', 'policy imports torch'),
        ('policy/runtime.py', 'def f():\n    import torch\n', 'policy imports torch'),
        ('envs/bad.py', 'import mujoco\n', 'mujoco may be imported only inside functions'),
        ('mdp/bad.py', 'def f():\n    import gymnasium as gym\n', 'mdp imports gymnasium'),
        (
            'cli/bad.py',
            'try:\n    import matplotlib\nexcept ImportError:\n    pass\n',
            ':2: matplotlib may be',
        ),
        ('data/bad.py', 'import pickle\n', 'data imports pickle'),
        ('attic/x.py', '', "room 'attic' is not in the table"),
        ('bad.py', 'import lebot_rl_ros.robot\n', 'the package imports robot'),
    ],
)
def test_a_broken_rule_is_named(tmp_path, file, source, complaint):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    found = violations(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f'{PACKAGE}/{file}')
    assert complaint in found[0]


@pytest.mark.parametrize(
    ('file', 'source'),
    [
        ('policy/networks.py', 'import torch\n'),
        ('envs/good.py', 'from lebot_rl_ros.learning.method import World\n'),
        ('cli/good.py', 'def f():\n    import mujoco, rich.live\n'),
        ('ros/good.py', 'import rclpy\nfrom nav_msgs.msg import Odometry\n'),
        (
            'learning/good.py',
            'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..envs import a\n',
        ),
        (
            'mdp/good.py',
            'from lebot_rl_ros.mdp.step import Step\nfrom . import task\nimport typing_x\n',
        ),
    ],
)
def test_what_the_rules_allow_passes(tmp_path, file, source):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    assert violations(tmp_path) == []


def test_rules_name_rooms_that_exist_in_the_table():
    entries = [entry.removeprefix('types:') for rooms in ROOMS.values() for entry in rooms]
    named = {entry.split('/')[0] for entry in entries}
    places = {place.split('/')[0] for rule in OUTSIDE.values() for place in rule.top | rule.late}
    assert named | places <= set(ROOMS)


def _modules_after(statement: str) -> set[str]:
    code = f'{statement}\nimport sys\nprint(*sys.modules)'
    done = subprocess.run(
        [sys.executable, '-c', code], check=True, capture_output=True, text=True, timeout=60
    )
    return {name.partition('.')[0] for name in done.stdout.split()}


LIGHT = {
    'robot': 'lebot_rl_ros.robot',
    'safety': 'lebot_rl_ros.safety.limits, lebot_rl_ros.safety.supervisor',
    'task': 'lebot_rl_ros.mdp.observations, lebot_rl_ros.mdp.rewards, lebot_rl_ros.mdp.task',
    'runtime': 'lebot_rl_ros.policy.runtime',
    'policy node': 'lebot_rl_ros.nodes.policy',
    'odometry node': 'lebot_rl_ros.nodes.odometry',
    'reward node': 'lebot_rl_ros.nodes.reward',
    'teleop node': 'lebot_rl_ros.nodes.teleop',
    'command line': 'lebot_rl_ros.cli.main',
}


@pytest.mark.parametrize('what', LIGHT)
def test_light_processes_do_without_the_heavy_packages(what):
    present = _modules_after(f'import {LIGHT[what]}')
    assert PACKAGE in present
    assert sorted(present.intersection(HEAVY)) == []


@pytest.mark.parametrize('what', ['robot', 'safety', 'task', 'runtime', 'command line'])
def test_the_core_does_without_ros(what):
    present = _modules_after(f'import {LIGHT[what]}')
    assert not {name for name in present if name == 'rclpy' or name.endswith(('_msgs', '_srvs'))}


def test_the_learner_does_without_simulator_and_wires():
    present = _modules_after('import lebot_rl_ros.learning.train')
    assert sorted(present.intersection({'mujoco', 'gymnasium', 'serial', 'rclpy'})) == []
