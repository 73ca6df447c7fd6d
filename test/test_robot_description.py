"""The joint table: what it holds, what it refuses, and the URDF beside it."""

import xml.etree.ElementTree as ET
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import xacro
import yaml

from lebot_rl_ros.robot import load_robot, share_path
from lebot_rl_ros.sim.model import build_model

TEST = Path(__file__).parent
TWELVE = TEST / 'robots' / 'twelve.yaml'


def altered(tmp_path, change):
    """The twelve-joint table with a change, in a folder of its own with the URDF."""
    table = yaml.safe_load(TWELVE.read_text())
    change(table)
    (tmp_path / 'twelve.urdf').write_text(TWELVE.with_suffix('.urdf').read_text())
    path = tmp_path / 'altered.yaml'
    path.write_text(yaml.safe_dump(table))
    return path


def test_lebot_is_what_it_is_said_to_be(lebot):
    assert lebot.joint_names == tuple(
        f'{leg}_{joint}' for leg in ('fl', 'fr', 'rl', 'rr') for joint in ('hip', 'knee')
    )
    assert lebot.control_rate == 50
    assert lebot.control_period_ns == 20_000_000
    assert lebot.servo.damping == pytest.approx(1.9 / 5.2)
    assert lebot.legs.foot_radius == pytest.approx(0.013)
    np.testing.assert_array_equal(lebot.stand, [0.65, -1.27] * 4)
    np.testing.assert_array_equal(lebot.fold, [1.80, -2.25] * 4)
    np.testing.assert_array_equal(lebot.lower, [-0.55, -2.30] * 4)
    np.testing.assert_array_equal(lebot.upper, [1.85, -0.24] * 4)


def test_size_and_mass_are_those_of_the_drawing(lebot):
    root = ET.parse(lebot.urdf).getroot()
    assert (
        root.find("link[@name='base_link']/collision/geometry/box").get('size') == '0.26 0.11 0.06'
    )
    model = build_model(lebot, 0.005)
    assert model.body_mass.sum() == pytest.approx(1.4, abs=0.01)
    knee, foot = model.body('fl_lower'), model.body('fl_foot')
    np.testing.assert_allclose(knee.pos, [0, 0, -0.08])
    np.testing.assert_allclose(foot.pos, [0, 0, -0.085])


def test_limits_of_table_and_urdf_agree(robot):
    root = ET.parse(robot.urdf).getroot()
    for joint in robot.joints:
        limit = root.find(f"joint[@name='{joint.name}']/limit")
        assert (float(limit.get('lower')), float(limit.get('upper'))) == (joint.lower, joint.upper)
        assert float(limit.get('effort')) == robot.servo.stall_torque
        assert float(limit.get('velocity')) == robot.servo.no_load_speed


def test_every_link_has_mass(robot):
    """Gazebo drops the chain after a link without inertia, silently."""
    for link in ET.parse(robot.urdf).getroot().iter('link'):
        assert float(link.find('inertial/mass').get('value')) > 0, link.get('name')


@pytest.mark.parametrize('urdf', [share_path('urdf', 'lebot.urdf'), TWELVE.with_suffix('.urdf')])
def test_the_urdf_is_what_xacro_makes(urdf):
    made = xacro.process_file(f'{urdf}.xacro').toxml()
    assert ET.canonicalize(made, strip_text=True) == ET.canonicalize(
        urdf.read_text(), strip_text=True
    )


def test_twelve_joints_load_by_path(twelve):
    assert len(twelve.joints) == 12
    assert twelve.stand.shape == (12,)
    assert twelve.urdf.parent == TWELVE.parent
    assert twelve.joints[twelve.joint_names.index('rf_abduction')].zero == 0.1
    np.testing.assert_array_equal(twelve.fold, twelve.crouch)  # where the table has none


def test_a_robot_cannot_be_changed(lebot):
    with pytest.raises(FrozenInstanceError):
        lebot.control_rate = 10.0


def test_an_unknown_robot_is_named_with_the_known():
    with pytest.raises(FileNotFoundError, match=r"'lobet'.*lebot"):
        load_robot('lobet')


def test_a_missing_file_is_named_with_the_folder():
    with pytest.raises(FileNotFoundError, match=r'urdf/none\.urdf is not in '):
        share_path('urdf', 'none.urdf')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda t: t.pop('fall_tilt'), r"missing \['fall_tilt'\].*keys are name, urdf"),
        (lambda t: t.update(colour='red'), r"unknown \['colour'\]"),
        (lambda t: t['servo'].pop('kp'), r"servo: .*missing \['kp'\]"),
        (lambda t: t['limits'].update(jerk=1.0), r"limits: unknown \['jerk'\]"),
        (lambda t: t.update(limits=7), r'limits: expected keys velocity, acceleration, found 7'),
        (lambda t: t['joints'][3].pop('id'), r"joints\[3\]: .*missing \['id'\]"),
        (lambda t: t['joints'][0].update(sign=0), 'lf_abduction: sign is 0, must be 1 or -1'),
        (lambda t: t['joints'][0].update(stand=9.0), r'lf_abduction: stand 9\.0 is outside'),
        (lambda t: t['joints'][0].update(crouch=-9.0), r'lf_abduction: crouch -9\.0 is outside'),
        (lambda t: t['joints'][0].update(fold=0.7), r'lf_abduction: fold 0\.7 is outside'),
        (lambda t: t['joints'][0].update(lower=2.0), r'lower 2\.0 is not below upper 0\.6'),
        (lambda t: t['joints'][1].update(id=1), 'servo id 1 stands twice'),
        (lambda t: t['joints'][1].update(name='lf_abduction'), 'name lf_abduction stands twice'),
        (lambda t: t.update(trot_offsets=[0.0, 0.5]), '2 trot_offsets for 4 feet'),
    ],
)
def test_a_wrong_table_is_refused_with_what_is_wrong(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_robot(altered(tmp_path, change))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda t: t['joints'][0].update(name='lf_hip'), 'table names lf_hip, which the URDF'),
        (
            lambda t: t['joints'].pop(0),
            r"leg joints \['lf_abduction'\] are not in the joint table",
        ),
        (lambda t: t.update(base_link='base'), r'no chain of joints from base to lf_toe'),
        (lambda t: t.update(feet=['lf_toe', 'rf_toe', 'lh_toe', 'nose']), 'foot nose has no coll'),
    ],
)
def test_a_table_that_the_urdf_contradicts_is_refused(tmp_path, change, message):
    robot = load_robot(altered(tmp_path, change))
    with pytest.raises(ValueError, match=message):
        _ = robot.legs


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('<axis xyz="1 0 0"/>', '<axis xyz="0.6 0.8 0"/>', 'legs need a coordinate axis'),
        ('type="fixed"', 'type="floating"', 'is floating; legs need revolute'),
        (
            '<origin xyz="0 0 -0.085"/>',
            '<origin xyz="0 0 -0.085" rpy="0 0.1 0"/>',
            'has rpy 0 0.1 0',
        ),
    ],
)
def test_a_leg_of_another_kind_is_refused(tmp_path, old, new, message):
    path = altered(tmp_path, lambda table: None)
    urdf = tmp_path / 'twelve.urdf'
    text = urdf.read_text()
    assert old in text
    urdf.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        _ = load_robot(path).legs
