"""The package as pip, colcon and make see it."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib import metadata
from pathlib import Path

import pytest

import lebot_rl_ros

ROOT = Path(__file__).parents[1]
PACKAGE = 'lebot_rl_ros'
DATA = ('launch', 'config', 'urdf', 'worlds', 'policies')
# Keys that rosdep resolves on Ubuntu 24.04 with Jazzy, as far as this package uses them.
KEYS = {
    'ament_index_python', 'diagnostic_msgs', 'geometry_msgs', 'launch', 'launch_ros',
    'lifecycle_msgs', 'nav_msgs', 'python3-hypothesis', 'python3-numpy', 'python3-pytest',
    'python3-pytest-timeout', 'python3-serial', 'python3-yaml', 'rcl_interfaces', 'rclpy',
    'rosgraph_msgs', 'sensor_msgs', 'std_msgs', 'std_srvs', 'tf2_msgs', 'xacro',
}  # fmt: skip


@pytest.fixture
def setup_arguments(monkeypatch):
    """What setup.py hands to setuptools."""
    seen = {}
    monkeypatch.setattr('setuptools.setup', lambda **arguments: seen.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path('setup.py')
    return seen


def manifest():
    return ET.parse(ROOT / 'package.xml').getroot()


def test_package_xml_is_one_that_colcon_and_rosdep_take():
    root = manifest()
    assert root.get('format') == '3'
    assert root.findtext('name') == PACKAGE
    assert root.findtext('license') == 'Apache-2.0'
    assert root.findtext('export/build_type') == 'ament_python'
    # With an invalid address colcon falls back to plain Python, without a word.
    assert re.fullmatch(r'[-.\w]+@[-\w]+(\.[-\w]+)+', root.find('maintainer').get('email'))
    depends = [entry.text for entry in root if entry.tag.endswith('depend')]
    assert set(depends) <= KEYS
    assert len(depends) == len(set(depends))


def test_versions_agree(setup_arguments):
    versions = (setup_arguments['version'], manifest().findtext('version'))
    assert versions == (lebot_rl_ros.__version__,) * 2


def test_every_message_package_that_is_imported_is_declared():
    declared = {entry.text for entry in manifest() if entry.tag.endswith('depend')}
    imported = set()
    for room in ('ros', 'nodes'):
        for path in (ROOT / PACKAGE / room).glob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.partition('.')[0])
    messages = {name for name in imported if name.endswith(('_msgs', '_srvs', '_interfaces'))}
    assert messages - {'builtin_interfaces'} <= declared  # that one comes with every message


def has_main(path):
    return any(
        isinstance(node, ast.FunctionDef) and node.name == 'main'
        for node in ast.parse(path.read_text()).body
    )


def test_every_node_is_an_executable_and_every_executable_exists(setup_arguments):
    scripts = dict(
        entry.split(' = ') for entry in setup_arguments['entry_points']['console_scripts']
    )
    for target in scripts.values():
        module, function = target.split(':')
        assert function == 'main'
        assert has_main(ROOT / f'{module.replace(".", "/")}.py'), target
    nodes = {path.stem for path in (ROOT / PACKAGE / 'nodes').glob('*.py') if has_main(path)}
    assert nodes == set(scripts) - {'lebot'}


def test_what_always_has_to_be_installed_is_little(setup_arguments):
    assert set(setup_arguments['install_requires']) == {
        'numpy',
        'pyserial',
        'safetensors',
        'PyYAML',
    }
    assert not any('ros-jazzy' in line for line in setup_arguments['install_requires'])


def bare(requirement):
    return re.match(r'[\w.-]+', requirement).group().lower().replace('_', '-').replace('.', '-')


def pins():
    for line in (ROOT / 'constraints.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            found = re.fullmatch(
                r'([a-z0-9-]+)==([\w.]+)(?:; python_version (>=|<) "3\.11")?', line
            )
            assert found, line
            if (sys.version_info < (3, 11)) == (found[3] == '<') or not found[3]:
                yield found[1], found[2]


def test_all_that_setup_installs_is_pinned(setup_arguments):
    wanted = setup_arguments['install_requires'] + setup_arguments['extras_require']['all']
    assert {bare(requirement) for requirement in wanted} <= {name for name, _ in pins()}


def test_the_extra_all_is_the_sum_of_the_others(setup_arguments):
    extras = setup_arguments['extras_require']
    others = {line for name, lines in extras.items() if name != 'all' for line in lines}
    assert set(extras['all']) == others


@pytest.mark.skipif(not (ROOT / '.venv/.setup-done').exists(), reason='not set up by make')
def test_what_is_installed_is_what_is_pinned():
    if Path(sys.prefix) != ROOT / '.venv':
        pytest.skip('runs in another environment')
    differing = {}
    for name, version in pins():
        try:
            installed = metadata.version(name).partition('+')[0]
        except metadata.PackageNotFoundError:
            continue
        if installed != version:
            differing[name] = (installed, version)
    assert differing == {}


@pytest.fixture(scope='module')
def prefix(tmp_path_factory):
    """The package, installed from a copy of the tree into an empty prefix."""
    copy = tmp_path_factory.mktemp('source') / 'copy'
    copy.mkdir()
    for name in (PACKAGE, 'resource', *DATA):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'setup.cfg', 'pyproject.toml', 'package.xml', 'LICENSE'):
        shutil.copy(ROOT / name, copy)
    where = tmp_path_factory.mktemp('prefix')
    subprocess.run(
        [
            sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index',
            '--no-build-isolation', '--ignore-installed', '--disable-pip-version-check',
            '--no-warn-script-location', '--no-compile', '--prefix', where, copy,
        ],
        check=True, timeout=120,
    )  # fmt: skip
    return where


def site(prefix):
    return next(prefix.glob(f'**/{PACKAGE}/robot/files.py')).parents[2]


def ask(path, code):
    """Run code with a package path first, away from the source tree."""
    done = subprocess.run(
        [sys.executable, '-c', code],
        env=os.environ | {'PYTHONPATH': str(path), 'PYTHONSAFEPATH': '1'},
        cwd=path, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return Path(done.stdout.strip())


FIND = 'from lebot_rl_ros.robot import load_robot; print(load_robot().urdf)'


def test_pip_installs_all_data_files(prefix):
    share = prefix / 'share' / PACKAGE
    expected = {Path('package.xml')}
    for folder in DATA:
        expected |= {
            path.relative_to(ROOT)
            for path in (ROOT / folder).rglob('*')
            if path.is_file() and (folder != 'launch' or path.name.endswith('.launch.py'))
        }
    found = {path.relative_to(share) for path in share.rglob('*') if path.is_file()}
    found = {path for path in found if '__pycache__' not in path.parts}
    expected = {path for path in expected if '__pycache__' not in path.parts}
    assert found == expected
    assert (prefix / 'share/ament_index/resource_index/packages' / PACKAGE).is_file()


def test_pip_installs_executables_and_no_tests(prefix):
    executables = {path.name for path in (prefix / 'bin').iterdir()}
    assert {'lebot', 'sim', 'policy', 'odometry', 'reward', 'teleop'} <= executables
    assert not list(site(prefix).glob('test*'))


def test_an_installed_package_finds_its_own_share(prefix):
    """The layout is that of a virtual environment and of colcon's install folder alike."""
    assert ask(site(prefix), FIND) == prefix / 'share' / PACKAGE / 'urdf' / 'lebot.urdf'


def test_a_linked_package_finds_the_source(tmp_path):
    """`colcon build --symlink-install` puts a link to the package on the path."""
    (tmp_path / PACKAGE).symlink_to(ROOT / PACKAGE)
    assert ask(tmp_path, FIND) == ROOT / 'urdf' / 'lebot.urdf'


def make(*arguments):
    return subprocess.run(
        ['make', '--no-print-directory', *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture
def done(tmp_path):
    """A folder that make takes for an environment that is up to date."""
    stamp = tmp_path / 'venv' / '.setup-done'
    stamp.parent.mkdir()
    stamp.touch()
    return stamp


needs_make = pytest.mark.skipif(not shutil.which('make'), reason='make is not installed')


@needs_make
def test_make_walk_passes_duration_and_arguments(done):
    shown = make('-n', f'VENV={done.parent}', 'walk', 'DURATION=7', 'ARGS=--quiet').stdout
    assert shown.strip().endswith('bin/lebot walk --cmd 0.3 0 --duration 7 --quiet')
    assert 'pip' not in shown


@needs_make
@pytest.mark.parametrize('goal', ['walk', 'check', 'test', 'train', 'bench'])
def test_make_sets_up_first_where_it_has_to(done, goal):
    assert 'pip install' not in make('-n', f'VENV={done.parent}', goal).stdout
    os.utime(done, (0, 0))  # older than setup.py and constraints.txt
    assert 'pip install' in make('-n', f'VENV={done.parent}', goal).stdout


@needs_make
def test_make_refuses_an_old_python(tmp_path):
    old = tmp_path / 'python'
    old.write_text('#!/bin/sh\nexit 1\n')
    old.chmod(0o755)
    refused = make(f'VENV={tmp_path}/venv', f'PYTHON={old}', 'setup')
    assert refused.returncode != 0
    assert 'Python 3.10 or newer is needed' in refused.stdout
    assert not (tmp_path / 'venv').exists()


@needs_make
def test_make_help_lists_every_goal():
    phony = re.search(r'\.PHONY: (.*)', (ROOT / 'Makefile').read_text())[1].split()
    listed = [line.split()[0] for line in make().stdout.splitlines()]
    assert sorted(listed) == sorted(phony)
