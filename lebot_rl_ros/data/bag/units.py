"""Units of the columns that are known; REP-103, and what records of steps mean."""

from collections.abc import Mapping

# By how the name of a column begins, for each type.
UNITS: Mapping[str, Mapping[str, str]] = {
    'sensor_msgs/msg/JointState': {'position_': 'rad', 'velocity_': 'rad/s', 'effort_': 'N·m'},
    'sensor_msgs/msg/Imu': {
        'orientation_covariance': 'rad²',
        'angular_velocity_covariance': 'rad²/s²',
        'linear_acceleration_covariance': 'm²/s⁴',
        'orientation_': '1',
        'angular_velocity_': 'rad/s',
        'linear_acceleration_': 'm/s²',
    },
    'geometry_msgs/msg/Twist': {'linear_': 'm/s', 'angular_': 'rad/s'},
    'geometry_msgs/msg/TwistStamped': {'twist_linear_': 'm/s', 'twist_angular_': 'rad/s'},
    'nav_msgs/msg/Odometry': {
        'pose_pose_position_': 'm',
        'pose_pose_orientation_': '1',
        'twist_twist_linear_': 'm/s',
        'twist_twist_angular_': 'rad/s',
    },
}
ACTION = 'action units'
RECORDS = {
    'stamp': 'ns', 'next_stamp': 'ns', 'command': 'm/s, rad/s', 'action': ACTION,
    'applied_action': ACTION, 'mean': ACTION, 'std': ACTION, 'log_prob': 'nat',
}  # fmt: skip


def unit_of(kind: str, column: str) -> str:
    """Unit of a column of a message type; '' where it is not known."""
    for begins, unit in UNITS.get(kind, {}).items():
        if column.startswith(begins):
            return unit
    return ''


def record_unit(field: str) -> str:
    """Unit of a field of a record; '' where it is not known."""
    return RECORDS.get(field, '')
