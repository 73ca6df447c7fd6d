"""Rows as PointCloud2, and messages patched as bytes: through real serialization and back."""

from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Imu, JointState, PointCloud2, PointField

from lebot_rl_ros.data.rows import reward_dtype, step_dtype
from lebot_rl_ros.robot import RobotState, load_robot
from lebot_rl_ros.ros.convert import (
    ImuMessage,
    JointMessage,
    JointOrder,
    OdometryMessage,
    robot_state,
    to_ns,
)
from lebot_rl_ros.ros.records import RecordMessage, read_record, record_dtype

ROBOT = load_robot()
FINITE = st.floats(-1e6, 1e6, width=32)


def heard(record):
    """What a subscriber gets of a record."""
    return deserialize_message(record.serialized(), PointCloud2)


@given(st.lists(FINITE, min_size=8, max_size=8), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_rows_come_back_as_they_were_written(action, width, version):
    record = RecordMessage(step_dtype(34, 8), width)
    record.rows['action'] = action
    record.rows['adapter_version'] = version
    record.rows['base_sha256'][:, :3] = (1, 2, 255)
    record.stamp(3_000_000_007)
    message = heard(record)
    assert to_ns(message.header.stamp) == 3_000_000_007
    assert message.is_dense
    rows = read_record(message)
    assert len(rows) == width
    assert rows.dtype.names == record.rows.dtype.names
    for name in rows.dtype.names:
        np.testing.assert_array_equal(rows[name], record.rows[name])


def test_fields_describe_themselves():
    message = heard(RecordMessage(reward_dtype(['gait', 'fall'])))
    described = {
        field.name: (field.offset, field.datatype, field.count) for field in message.fields
    }
    assert described['sec'] == (0, PointField.INT32, 1)
    assert described['reward'] == (8, PointField.FLOAT32, 1)
    assert described['truncated'] == (13, PointField.UINT8, 1)
    assert described['fall'] == (18, PointField.FLOAT32, 1)
    assert record_dtype(message).itemsize == message.point_step == 22


def test_records_refuse_what_they_cannot_carry():
    with pytest.raises(ValueError, match='field when: int64 has no PointField type'):
        RecordMessage(np.dtype([('when', np.int64)]))
    message = heard(RecordMessage(reward_dtype(['gait'])))
    message.data = array('B', [0] * 5)
    with pytest.raises(ValueError, match='record of 1 rows of 18 bytes has 5 bytes'):
        read_record(message)
    with pytest.raises(ValueError, match='field x: unknown PointField type 99'):
        record_dtype(PointCloud2(fields=[PointField(name='x', datatype=99)]))


@given(st.integers(0, 2**62), st.lists(FINITE, min_size=8, max_size=8))
@settings(max_examples=50, deadline=None)
def test_a_patched_joint_message_is_the_message(stamp, numbers):
    stamp %= 2_000_000_000_000_000_000
    patched = JointMessage(ROBOT.joint_names, full=True, frame_id='track')
    patched.stamp(stamp)
    patched.position[:], patched.velocity[:], patched.effort[:] = (
        numbers,
        np.negative(numbers),
        0.5,
    )
    received = deserialize_message(patched.serialized(), JointState)
    expected = JointState(name=list(ROBOT.joint_names), position=numbers)
    expected.velocity, expected.effort = np.negative(numbers).tolist(), [0.5] * 8
    expected.header.stamp.sec, expected.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
    expected.header.frame_id = 'track'
    assert received == expected


def test_patched_imu_and_odometry_have_every_number_in_its_place():
    joints = np.zeros(8)
    state = RobotState(
        5,
        joints,
        joints,
        joints,
        np.array([0.1, 0.2, 0.3, 0.4]),
        np.array([1.0, 2, 3]),
        np.array([4.0, 5, 6]),
    )
    patched = ImuMessage('imu_link')
    patched.stamp(1_000_000_005)
    patched.write(state)
    imu = deserialize_message(patched.serialized(), Imu)
    q = imu.orientation
    assert (q.w, q.x, q.y, q.z) == (0.1, 0.2, 0.3, 0.4)
    assert (imu.angular_velocity.x, imu.angular_velocity.y, imu.angular_velocity.z) == (1, 2, 3)
    a = imu.linear_acceleration
    assert (a.x, a.y, a.z, imu.header.frame_id, to_ns(imu.header.stamp)) == (
        4,
        5,
        6,
        'imu_link',
        1_000_000_005,
    )
    assert not np.any(imu.angular_velocity_covariance)
    odometry = OdometryMessage('base_link')
    odometry.write(
        np.array([1.0, 2, 3]), state.orientation, np.array([4.0, 5, 6]), np.array([7.0, 8, 9])
    )
    received = deserialize_message(odometry.serialized(), Odometry)
    p, q = received.pose.pose.position, received.pose.pose.orientation
    assert (p.x, p.y, p.z, q.w, q.x, q.y, q.z) == (1, 2, 3, 0.1, 0.2, 0.3, 0.4)
    v, w = received.twist.twist.linear, received.twist.twist.angular
    assert (v.x, v.y, v.z, w.x, w.y, w.z) == (4, 5, 6, 7, 8, 9)
    assert (received.header.frame_id, received.child_frame_id) == ('odom', 'base_link')
    assert not np.any(received.twist.covariance)


def test_a_state_is_made_of_joints_in_any_order():
    names = list(reversed(ROBOT.joint_names))
    joints = JointState(name=names, position=list(range(8)), velocity=[0.0] * 8)
    state = robot_state(joints, JointOrder(ROBOT.joint_names), Imu())
    np.testing.assert_array_equal(state.joint_position, np.arange(8)[::-1])
    np.testing.assert_array_equal(state.joint_effort, np.zeros(8))
    with pytest.raises(ValueError, match=r"joints missing: \['fl_hip'\], unknown: \['tail'\]"):
        JointOrder(ROBOT.joint_names)(['tail', *ROBOT.joint_names[1:]], array('d', [0.0] * 8))
