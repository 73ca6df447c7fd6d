"""The files for a real robot: udev rules, systemd unit, and what `lebot doctor` finds."""

import argparse
import ast
import configparser
import fnmatch
import importlib
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from lebot_rl_ros.bringup.arguments import BY_NAME, parse_arguments
from lebot_rl_ros.bringup.runner import PATIENCE
from lebot_rl_ros.cli import doctor, walk
from lebot_rl_ros.cli.main import VERBS, main
from lebot_rl_ros.robot import load_robot, share_path
from lebot_rl_ros.ros import names
from lebot_rl_ros.safety.checks import HealthConfig, make_checks

ROOT = Path(__file__).parents[1]
RULES = share_path('config', 'udev', '99-lebot.rules')
UNIT = share_path('config', 'systemd', 'lebot.service')

# udev(7): what may be compared, and what may be assigned.
MATCHED = {'ACTION', 'SUBSYSTEM', 'SUBSYSTEMS', 'DRIVER', 'KERNEL', 'ATTR', 'ATTRS', 'ENV'}
ASSIGNED = {'SYMLINK', 'GROUP', 'MODE', 'ATTR', 'ENV', 'GOTO', 'LABEL'}
TERM = re.compile(r'(?P<key>[A-Z]+)(?:\{(?P<of>[^}]+)\})?(?P<how>==|!=|\+=|=)"(?P<value>[^"]*)"')

# --- udev rules ------------------------------------------------------------------------------


def parse_rule(line):
    """Terms (key, of, how, value) of one line; nothing but terms may stand in it."""
    terms = [match.groups() for match in TERM.finditer(line)]
    assert TERM.sub('', line).strip(', ') == '', line
    for key, _, how, _ in terms:
        assert key in (MATCHED if how in ('==', '!=') else ASSIGNED), line
    return terms


def rules(own=()):
    """All rules, with the examples of section 1 for which ``own`` has a fitting text."""
    lines = RULES.read_text().splitlines()
    examples = [line[1:] for line in lines if line.startswith('#SUBSYSTEM')]
    assert len(examples) >= 3
    active = {line: replaced for line, replaced in own if line in examples}
    assert len(active) == len(own)
    found = [active.get(line.lstrip('#'), line) for line in lines]
    return [parse_rule(line) for line in found if line and not line.startswith('#')]


def apply(device, rules):
    """What udev would do with a device: properties, links, group, mode, attributes written."""
    env, done, skip = dict(device.get('env', {})), {'links': [], 'written': {}}, ''

    def fits(key, of, how, value):
        if key in ('ATTRS', 'SUBSYSTEMS'):  # on the device or on one of those above it
            chain = [device, *device.get('parents', ())]
            have = [
                entry.get('attr', {}).get(of) if key == 'ATTRS' else entry['subsystem']
                for entry in chain
            ]
        elif key == 'ENV':
            have = [env.get(of, '')]
        elif key == 'ATTR':
            have = [device.get('attr', {}).get(of)]
        else:
            have = [device.get(key.lower(), '')]
        any_fits = any(
            entry is not None and any(fnmatch.fnmatchcase(entry, v) for v in value.split('|'))
            for entry in have
        )
        return any_fits == (how == '==')

    for terms in rules:
        if skip:
            skip = '' if ('LABEL', None, '=', skip) in terms else skip
            continue
        if not all(fits(*term) for term in terms if term[2] in ('==', '!=')):
            continue
        for key, of, how, value in terms:
            if how in ('==', '!=') or key == 'LABEL':
                continue
            value = re.sub(r'\$env\{(\w+)\}', lambda match: env.get(match[1], ''), value)
            if key == 'ENV':
                env[of] = value
            elif key == 'SYMLINK':
                assert how == '+='  # others link, too
                done['links'].append(value)
            elif key == 'ATTR':
                done['written'][of] = value
            elif key == 'GOTO':
                skip = value
            else:
                done[key.lower()] = value
    assert not skip, f'no label {skip}'
    return env, done


def usb(vendor, product, subsystem='tty', **more):
    """A device below a USB device."""
    parent = {'subsystem': 'usb', 'attr': {'idVendor': vendor, 'idProduct': product}}
    return {'action': 'add', 'subsystem': subsystem, 'parents': [parent], **more}


CH343, U2D2 = ('1a86', '55d3'), ('0403', '6014')
CH340, CP210X = ('1a86', '7523'), ('10c4', 'ea60')


@pytest.mark.parametrize(
    ('ids', 'name'),
    [(CH343, 'lebot-servos'), (U2D2, 'lebot-servos'), (CH340, 'lebot-imu'), (CP210X, 'lebot-imu')],
)
def test_ports_get_a_name_and_are_for_dialout_alone(ids, name):
    env, done = apply(usb(*ids), rules())
    assert done['links'] == [name]
    assert (done['group'], done['mode']) == ('dialout', '0660')
    assert (env['ID_MM_DEVICE_IGNORE'], env['ID_MM_PORT_IGNORE']) == ('1', '1')
    assert apply(usb(*ids) | {'action': 'remove'}, rules())[1] == {'links': [], 'written': {}}


def test_cameras_are_named_by_the_node_that_has_pictures():
    camera = usb('046d', '0825', 'video4linux', attr={'index': '0'})
    _, done = apply(camera, rules())
    assert done == {'links': ['lebot-camera'], 'written': {}}  # group video stays
    assert not apply(camera | {'attr': {'index': '1'}}, rules())[1]['links']
    built_in = {'action': 'add', 'subsystem': 'video4linux', 'attr': {'index': '0'}}
    assert not apply(built_in, rules())[1]['links']


def test_other_devices_are_left_alone():
    for ids in (('1a86', '55d4'), ('0403', '6001'), ('2341', '0043')):
        env, done = apply(usb(*ids), rules())
        assert (env, done) == ({}, {'links': [], 'written': {}})


def test_one_of_two_alike_is_named_by_its_serial_number_or_socket():
    """A servo adapter with the IMU's chip: named by hand, it keeps that; the IMU needs no line."""
    lines = [line[1:] for line in RULES.read_text().splitlines() if line.startswith('#SUBSYSTEM')]
    by_path = next(line for line in lines if 'ID_PATH' in line)
    by_serial = next(line for line in lines if 'ID_SERIAL_SHORT' in line)
    socket = re.search('ID_PATH}=="([^"]+)"', by_path)[1]
    own = rules([(by_path, by_path.replace('lebot-imu', 'lebot-servos'))])
    assert apply(usb(*CH340, env={'ID_PATH': socket}), own)[1]['links'] == ['lebot-servos']
    assert apply(usb(*CH340, env={'ID_PATH': 'elsewhere'}), own)[1]['links'] == ['lebot-imu']
    serial = re.search('SHORT}=="([^"]+)"', by_serial)[1]
    unknown = usb('1234', '5678', env={'ID_SERIAL_SHORT': serial})
    _, done = apply(unknown, rules([(by_serial, by_serial)]))
    assert (done['links'], done['mode']) == (['lebot-servos'], '0660')
    assert not apply(unknown, rules())[1]['links']


def test_ftdi_adapters_answer_at_once():
    port = usb(*U2D2, 'usb-serial', driver='ftdi_sio')
    for action in ('add', 'bind', 'change'):
        assert apply(port | {'action': action}, rules())[1]['written'] == {'latency_timer': '1'}
    assert apply(usb(*CH343, 'usb-serial', driver='cdc_acm'), rules())[1]['written'] == {}


@pytest.mark.parametrize('ids', [CH340, CP210X])
def test_brltty_is_not_started_for_serial_chips(ids):
    device = {
        'action': 'add',
        'subsystem': 'usb',
        'attr': dict(zip(('idVendor', 'idProduct'), ids, strict=True)),
        'env': {'DEVTYPE': 'usb_device', 'SYSTEMD_WANTS': 'brltty-device@.service'},
    }
    assert apply(device, rules())[0]['SYSTEMD_WANTS'] == ''
    device['env']['SYSTEMD_WANTS'] = 'something-else.service'
    assert apply(device, rules())[0]['SYSTEMD_WANTS'] == 'something-else.service'
    device['env'] = {'DEVTYPE': 'usb_device', 'SYSTEMD_WANTS': 'brltty-device@.service'}
    device['attr'] = {'idVendor': '0798', 'idProduct': '0001'}  # a Braille display
    assert apply(device, rules())[0]['SYSTEMD_WANTS'] == 'brltty-device@.service'


def test_the_default_ports_of_a_walk_are_names_of_the_rules():
    named = {
        f'/dev/{value}'
        for terms in rules()
        for _, of, _, value in terms
        if value and of == 'LEBOT_NAME'
    }
    assert {BY_NAME['servo_port'].default, BY_NAME['imu_port'].default} <= named
    assert named - {'/dev/?*'} == {f'/dev/{name}' for name in doctor.STABLE}


@pytest.mark.skipif(not shutil.which('udevadm'), reason='no udevadm')
def test_udev_takes_the_rules():
    done = subprocess.run(['udevadm', 'verify', str(RULES)], capture_output=True, text=True)
    if 'Unknown command' in done.stderr:
        pytest.skip('this udevadm cannot verify')
    assert done.returncode == 0, done.stderr + done.stdout


# --- the systemd unit ------------------------------------------------------------------------


@pytest.fixture
def unit():
    parser = configparser.ConfigParser(interpolation=None, delimiters='=')
    parser.optionxform = str
    parser.read(UNIT)
    assert parser.sections() == ['Unit', 'Service', 'Install']
    return parser


def command_lines():
    """ExecStart: the one that acts, and the one that is commented out."""
    found = re.findall(r'^(#?)ExecStart=(.*)$', UNIT.read_text(), re.MULTILINE)
    assert [mark for mark, _ in found] == ['', '#']
    return [line for _, line in found]


def test_systemd_takes_the_unit(tmp_path):
    if not shutil.which('systemd-analyze'):
        pytest.skip('no systemd-analyze')
    for line in command_lines():
        text = re.sub(r'^#?ExecStart=.*\n', '', UNIT.read_text(), flags=re.MULTILINE)
        text = re.sub('^User=.*', 'User=root', text, flags=re.MULTILINE)
        line = line.replace('/home/lebot/lebot_rl_ros/.venv/bin/lebot', '/bin/true')
        copy = tmp_path / 'lebot.service'
        copy.write_text(text.replace('[Service]\n', f'[Service]\nExecStart={line}\n'))
        done = subprocess.run(
            ['systemd-analyze', 'verify', str(copy)], capture_output=True, text=True
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, '')


def test_systemd_stops_the_robot_gently_and_never_starts_it_again(unit):
    service = unit['Service']
    assert service['Restart'] == 'no'
    assert (service['KillMode'], service['KillSignal']) == ('control-group', 'SIGINT')
    assert int(service['TimeoutStopSec']) >= sum(PATIENCE) + 2  # the driver's own time to crouch
    assert service['User'] not in ('', 'root')
    assert {'dialout', 'video'} <= set(service['SupplementaryGroups'].split())


def test_systemd_allows_the_priorities_that_the_nodes_ask_for(unit):
    given = yaml.safe_load(share_path('config', 'walk.yaml').read_text())
    asked = {
        name: node['ros__parameters'].get('realtime_priority', 0) for name, node in given.items()
    }
    assert int(unit['Service']['LimitRTPRIO']) >= max(asked.values())
    assert asked['/**/servo_driver'] == doctor.REALTIME


def test_systemd_waits_for_the_ports_by_their_names(unit):
    for key in ('Wants', 'After'):
        paths = [
            '/' + name.removesuffix('.device').replace('-', '/').replace(r'\x2d', '-')
            for name in unit['Unit'][key].split()
        ]
        assert paths == [BY_NAME['servo_port'].default, BY_NAME['imu_port'].default]


def test_systemd_starts_what_is_there():
    launch, cli = command_lines()
    package, file, *words = launch.rstrip("'").partition('ros2 launch ')[2].split()
    assert package == 'lebot_rl_ros'
    assert (ROOT / 'launch' / file).is_file()
    arguments = parse_arguments(dict(word.split(':=') for word in words))
    assert (arguments['backend'], arguments['teleop']) == ('hardware', 'none')
    program, verb, *words = cli.split()
    assert (Path(program).name, verb) == ('lebot', 'walk')
    parser = argparse.ArgumentParser()
    walk.add_parser(parser.add_subparsers())
    args = parser.parse_args([verb, *words])
    assert (args.backend, args.teleop, args.quiet) == ('hardware', 'none', True)


def test_both_files_are_installed(monkeypatch):
    seen = {}
    monkeypatch.setattr('setuptools.setup', lambda **arguments: seen.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path('setup.py')
    installed = dict(seen['data_files'])
    assert 'config/udev/99-lebot.rules' in installed['share/lebot_rl_ros/config/udev']
    assert 'config/systemd/lebot.service' in installed['share/lebot_rl_ros/config/systemd']


# --- lebot doctor ----------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path):
    """A file system with one adapter in it."""
    (tmp_path / 'dev/serial/by-id').mkdir(parents=True)
    (tmp_path / 'dev/ttyUSB0').touch()
    (tmp_path / 'dev/serial/by-id/usb-FTDI_U2D2_1-if00').symlink_to('../../ttyUSB0')
    return tmp_path


def tell(root, *ports):
    return list(doctor.hardware(root, [str(root / 'dev' / port) for port in ports]))


def test_without_devices_doctor_says_so_in_one_line(tmp_path):
    ((about, word),) = tell(tmp_path)
    assert about == 'serial ports'
    assert word.startswith('none on USB')


def test_doctor_lists_ports_and_where_the_rules_are(machine):
    port, rules = tell(machine, 'ttyUSB0')
    assert port == (str(machine / 'dev/ttyUSB0'), 'ok; by-id/usb-FTDI_U2D2_1-if00')
    assert rules[0] == '/dev/lebot-*'
    assert str(RULES) in rules[1]


def test_doctor_follows_the_stable_names(machine):
    (machine / 'dev/lebot-servos').symlink_to('ttyUSB0')
    (machine / 'dev/lebot-imu').symlink_to('ttyUSB7')
    told = dict(tell(machine, 'ttyUSB0'))
    assert told['/dev/lebot-servos'] == f'{machine}/dev/ttyUSB0, ok'
    assert told['/dev/lebot-imu'] == 'points to ttyUSB7, which is not there'
    assert told['/dev/lebot-camera'].startswith('not there')


def test_doctor_mends_a_slow_timer(machine):
    timer = machine / 'sys/bus/usb-serial/devices/ttyUSB0/latency_timer'
    timer.parent.mkdir(parents=True)
    timer.write_text('16\n')
    words = [word for _, word in tell(machine, 'ttyUSB0')]
    assert any('16 ms' in word and f'echo 1 | sudo tee {timer}' in word for word in words)
    timer.write_text('1\n')
    assert not any('latency' in word for _, word in tell(machine, 'ttyUSB0'))


def test_doctor_names_brltty(machine):
    assert 'brltty' not in dict(tell(machine, 'ttyUSB0'))
    rule = machine / 'usr/lib/udev/rules.d/85-brltty.rules'
    rule.parent.mkdir(parents=True)
    rule.touch()
    assert 'apt remove brltty' in dict(tell(machine, 'ttyUSB0'))['brltty']


@pytest.mark.parametrize(
    ('members', 'advice'),
    [([], 'sudo usermod -aG dialout $USER'), (['somebody'], 'log out and in again')],
)
def test_doctor_knows_the_group_that_is_missing(machine, monkeypatch, members, advice):
    group = SimpleNamespace(gr_name='dialout', gr_mem=members)
    monkeypatch.setattr(doctor.grp, 'getgrgid', lambda number: group)
    monkeypatch.setattr(doctor.getpass, 'getuser', lambda: 'somebody')
    monkeypatch.setattr(doctor.os, 'access', lambda path, mode: False)
    monkeypatch.setattr(doctor.os, 'getgroups', list)
    ((_, port), _) = tell(machine, 'ttyUSB0')
    assert port.startswith('no permission')
    assert advice in port
    assert ('usermod' in port) == (not members)


def test_doctor_asks_for_realtime_and_gives_it_back(monkeypatch, capsys):
    before = os.sched_getscheduler(0)
    main(['doctor'])
    assert os.sched_getscheduler(0) == before
    assert re.search(r'^realtime +SCHED_FIFO +(ok|other: .*rtprio)', capsys.readouterr().out, re.M)

    def refuse(*args):
        raise PermissionError

    monkeypatch.setattr(os, 'sched_setscheduler', refuse)
    main(['doctor'])
    assert 'not permitted (give the user rtprio' in capsys.readouterr().out


# --- docs/hardware.md ------------------------------------------------------------------------

PAGE = (ROOT / 'docs/hardware.md').read_text()


def section(title):
    """The text of a section, up to the next heading."""
    return re.split(r'^#+ ', PAGE.split(f' {title}\n', 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def table(text):
    """Cells of all table rows, heads and rulers left out."""
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in text.splitlines() if line.startswith('|')]  # fmt: skip
    ruler = next(i for i, row in enumerate(rows) if set(row[0]) == {'-'})
    return rows[ruler + 1 :]


def texts_of_the_package():
    """Everything that stands between quotes in the code; f-strings in their pieces."""
    found = set()
    for path in (ROOT / 'lebot_rl_ros').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return '\n'.join(found)


def test_the_page_has_the_ids_of_the_joint_table():
    robot = load_robot()
    ids = {joint.name: str(joint.id) for joint in robot.joints}
    legs = {'front left': 'fl', 'front right': 'fr', 'rear left': 'rl', 'rear right': 'rr'}
    told = {legs[leg]: rest for leg, *rest in table(section('Ids'))}
    assert told == {leg: [ids[f'{leg}_hip'], ids[f'{leg}_knee']] for leg in legs.values()}
    drawing = (ROOT / 'docs/images/wiring.svg').read_text()
    for name, number in ids.items():
        assert re.search(rf'{name} .*id {number}\b', drawing)


def test_the_page_has_the_angles_of_the_joint_table():
    robot = load_robot()
    by_id = {joint.id: joint for joint in robot.joints}
    rows = table(section('Mounting the legs'))
    seen = []
    for about, *angles in rows:
        for number in map(int, re.findall(r'\d+', about)):
            joint = by_id[number]
            low, high = sorted((joint.sign * joint.lower, joint.sign * joint.upper))
            right = np.degrees((low, joint.sign * joint.crouch, joint.sign * joint.stand, high))
            assert [float(angle) for angle in angles] == pytest.approx(right, abs=0.05)
            seen.append(number)
    assert sorted(seen) == sorted(by_id)


def test_the_page_has_the_feet_of_the_poses():
    """Millimetres below a hip's axis, and behind or in front of it."""
    robot = load_robot()
    hip = np.array([0.1, 0.068, -0.01])  # of the front left leg, m in base_link; the URDF has it
    crouch, stand = (
        1e3 * (robot.legs(pose, np.zeros(8)).position[:, 0] - hip)
        for pose in (robot.crouch, robot.stand)
    )
    told = re.search(r'(\d+) mm below its hip.s axis and (\d+) mm behind', PAGE).groups()
    assert [float(number) for number in told] == pytest.approx([-crouch[2], -crouch[0]], abs=0.5)
    told = re.search(r'(\d+) mm below, (\d+) mm in front', PAGE).groups()
    assert [float(number) for number in told] == pytest.approx([-stand[2], stand[0]], abs=0.5)


def test_the_page_has_the_limits_of_the_checks():
    limits, robot = HealthConfig(), load_robot()
    rows = {about: rest for about, *rest in table(section('Limits'))}
    nominal = robot.servo.nominal_voltage
    assert rows['reads in a row without an answer'][0] == str(limits.missed_warn)
    assert rows['reads in a row without an answer'][1].startswith(f'{limits.missed_error} ')
    assert rows['temperature'][0] == f'{limits.temperature_warn:.0f} degC'
    assert rows['temperature'][1].startswith(f'{limits.temperature_error:.0f} degC')
    voltage = rows[f'voltage, of {nominal:g} V']
    assert voltage[0] == f'{limits.voltage_warn * nominal:.1f} V'
    assert voltage[1].startswith(f'{limits.voltage_error * nominal:.1f} V')
    assert rows['load'][0].startswith(f'{limits.load_warn:g} of the stall torque')
    assert rows['tilt'][1] == f'{robot.fall_tilt:g} rad'
    assert f'{robot.limits.velocity:g} rad/s, {robot.limits.acceleration:g} rad/s²' in PAGE


def test_messages_of_the_page_are_those_of_the_code():
    checks = make_checks(load_robot(), HealthConfig())  # these are put together of words
    code = '\n'.join([texts_of_the_package(), *(check.words(5.0) for check in checks)])
    checked = 0
    for cell, *_ in table(section('Messages')):
        for message in re.findall('`([^`]+)`', cell):
            for piece in message.replace(names.IMU, '…').split('…'):
                words = piece.strip(' ();:,')
                assert words in code, message
                checked += len(words) > 3
    assert checked > 40


def test_commands_and_snippets_of_the_page_are_there():
    for verb in set(re.findall(r'\blebot ([a-z-]+)', ' '.join(re.findall('`[^`]+`', PAGE)))):
        assert verb in VERBS, verb
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for verb in ('bus', 'walk', 'emulate'):
        importlib.import_module(f'lebot_rl_ros.cli.{verb}').add_parser(subparsers)
    commands = re.findall(r'^lebot ((?:bus|walk|emulate) [^#\n]+)', PAGE, re.MULTILINE)
    assert len(commands) > 15
    for command in commands:
        parser.parse_args(command.split())
    snippets = re.findall(r"<<'END'\n(.*?)\nEND", PAGE, re.DOTALL)
    snippets += re.findall(r'python -c "(.*?)"\n', PAGE, re.DOTALL)
    assert len(snippets) == 3
    for snippet in snippets:
        ast.parse(snippet)


def test_links_of_the_page_lead_somewhere():
    titles = re.findall(r'^#+ (.*)$', PAGE, re.MULTILINE)
    anchors = {re.sub(r'[^a-z0-9 -]', '', title.lower()).replace(' ', '-') for title in titles}
    for target in re.findall(r'\]\(([^)]+)\)', PAGE):
        path, _, anchor = target.partition('#')
        assert not anchor or anchor in anchors, target
        assert not path or (ROOT / 'docs' / path).exists(), target
