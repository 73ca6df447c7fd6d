"""Bags of a short made-up walk, of real serialized messages, with what is wrong as asked."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Header, String

from lebot_rl_ros.data.bag.types import Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter
from lebot_rl_ros.data.rows import reward_dtype, step_dtype
from lebot_rl_ros.ros.records import RecordMessage

PERIOD = 20_000_000  # ns
BEGIN = 1_767_225_600_000_000_000  # log time of the first message, 2026-01-01
JOINTS = [f'{leg}_{joint}' for leg in ('fl', 'fr', 'rl', 'rr') for joint in ('hip', 'knee')]
TERMS = ['speed', 'tilt', 'fall']
TYPES = {
    '/clock': 'rosgraph_msgs/msg/Clock',
    '/joint_states': 'sensor_msgs/msg/JointState',
    '/imu/data': 'sensor_msgs/msg/Imu',
    '/joint_commands': 'sensor_msgs/msg/JointState',
    '/joint_commands_applied': 'sensor_msgs/msg/JointState',
    '/cmd_vel': 'geometry_msgs/msg/TwistStamped',
    '/ground_truth/odom': 'nav_msgs/msg/Odometry',
    '/policy/steps': 'sensor_msgs/msg/PointCloud2',
    '/policy/active_adapter': 'std_msgs/msg/String',
    '/reward/rewards': 'sensor_msgs/msg/PointCloud2',
    '/diagnostics': 'diagnostic_msgs/msg/DiagnosticArray',
}
LATCHED = ({'durability': 'transient_local', 'depth': 1},)


def stamp(ns: int) -> Time:
    """As a message."""
    return Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


class Walk:
    """Messages of a walk of ``ticks`` control periods; robot time begins at ``origin`` ns."""

    def __init__(
        self, ticks: int, *, origin: int = 0, falls: Collection[int] = (), dropped: int = 0
    ) -> None:
        """Make all of them."""
        self.origin, self.falls, self.dropped = origin, falls, dropped
        self.messages: list[tuple[int, Message]] = []  # with the tick that each belongs to
        self._step = RecordMessage(step_dtype(4, len(JOINTS)))
        self._reward = RecordMessage(reward_dtype(TERMS))
        adapter = {'name': 'ice', 'label': 'ice@3', 'since': origin / 1e9, 'why': 'start'}
        self._say(0, 0, '/policy/active_adapter', String(data=json.dumps(adapter)))
        for tick in range(ticks):
            self._tick(tick)

    def _say(self, tick: int, later: int, topic: str, message: Any) -> None:
        """Publish ``later`` us after the tick; it is recorded 200 us after that."""
        data = message if isinstance(message, bytes) else serialize_message(message)
        sent = BEGIN + tick * PERIOD + later * 1000
        self.messages.append((tick, Message(topic, sent + 200_000, sent, data)))

    def _tick(self, tick: int) -> None:
        at = self.origin + tick * PERIOD
        second, header = tick * PERIOD / 1e9, Header(stamp=stamp(at))
        swing = [0.4 * math.sin(2 * math.pi * (1.5 * second + i / 8)) for i in range(8)]
        late = [0.4 * math.sin(2 * math.pi * (1.5 * (second - 0.05) + i / 8)) for i in range(8)]
        mode = 'STAND_UP' if second < 0.5 else 'TRACK'
        self._say(tick, 0, '/clock', Clock(clock=stamp(at)))
        self._say(tick, 0, '/imu/data', self._imu(header, second))
        effort = [-value for value in late]
        states = JointState(header=header, name=JOINTS, position=late, velocity=swing,
                            effort=effort)  # fmt: skip
        self._say(tick, 100, '/joint_states', states)
        if tick % 5 == 0:
            told = TwistStamped(header=header)
            told.twist.linear.x, told.twist.angular.z = 0.2, 0.1
            self._say(tick, 150, '/cmd_vel', told)
        command = JointState(header=header, name=JOINTS, position=swing)
        self._say(tick, 1500, '/joint_commands', command)
        applied = Header(stamp=stamp(at), frame_id=mode)
        self._say(tick, 2000, '/joint_commands_applied',
                  JointState(header=applied, name=JOINTS, position=swing))  # fmt: skip
        self._say(tick, 2500, '/ground_truth/odom', self._odometry(header, second))
        if tick:
            self._rows(tick, at - PERIOD, mode)
        if tick % 50 == 0:
            self._say(tick, 5000, '/diagnostics', self._health(header, second))

    def _rows(self, tick: int, at: int, mode: str) -> None:
        row = self._step.rows[0]
        row['sec'], row['nanosec'] = divmod(at, 1_000_000_000)
        row['next_sec'], row['next_nanosec'] = divmod(at + PERIOD, 1_000_000_000)
        row['command'], row['mode'] = (0.2, 0.1), 2 if mode == 'TRACK' else 1
        row['adapter_version'] = 3
        self._step.stamp(at)
        self._say(tick, 3000, '/policy/steps', self._step.serialized())
        row = self._reward.rows[0]
        row['sec'], row['nanosec'] = divmod(at, 1_000_000_000)
        fell = (tick - 1) in self.falls
        row['speed'], row['tilt'], row['fall'] = 0.03, -0.01, -1.0 if fell else 0.0
        row['reward'], row['terminated'] = 0.02 - fell, fell
        self._reward.stamp(at)
        self._say(tick, 4000, '/reward/rewards', self._reward.serialized())

    def _imu(self, header: Header, second: float) -> Imu:
        imu = Imu(header=header)
        half = 0.05 * math.sin(10 * second)
        imu.orientation.x, imu.orientation.w = math.sin(half), math.cos(half)
        imu.angular_velocity.z, imu.linear_acceleration.z = 0.1, 9.81
        return imu

    def _odometry(self, header: Header, second: float) -> Odometry:
        odometry = Odometry(header=header, child_frame_id='base_link')
        odometry.pose.pose.position.x = 2.0 * math.sin(0.1 * second)
        odometry.pose.pose.position.y = 2.0 - 2.0 * math.cos(0.1 * second)
        odometry.twist.twist.linear.x = 0.2 + 0.05 * math.sin(20 * second)
        odometry.twist.twist.angular.z = 0.1
        return odometry

    def _health(self, header: Header, second: float) -> DiagnosticArray:
        values = {'temperature': [30.0 + second / 10 + i for i in range(8)], 'voltage': [7.4] * 8}
        status = DiagnosticStatus(name='/servo_driver', values=[
            KeyValue(key=key, value=str(value)) for key, value in values.items()
        ])  # fmt: skip
        told = {'messages': int(second * 400), 'dropped': self.dropped, 'lost': 0}
        if self.dropped:
            told['dropped/imu/data'] = self.dropped
        recorder = DiagnosticStatus(name='/recorder', values=[
            KeyValue(key=key, value=str(value)) for key, value in told.items()
        ])  # fmt: skip
        return DiagnosticArray(header=header, status=[status, recorder])


def write(
    folder: Path,
    walk: Walk,
    *,
    without: Mapping[str, Collection[int]] | None = None,
    topics: Collection[str] = tuple(TYPES),
    namespace: str = '',
    **settings: Any,
) -> Path:
    """Write a bag of a walk.

    Args:
        folder: is made.
        walk: to write.
        without: topic -> ticks whose messages are left out.
        topics: that are recorded.
        namespace: that all topics lie under, as in '/lebot1'.
        settings: of the writer.
    """
    with BagWriter(folder, **settings) as writer:
        for name in topics:
            qos = LATCHED if name.endswith('active_adapter') else ()
            writer.add(Topic(namespace + name, TYPES[name], qos))
        for tick, message in sorted(walk.messages, key=lambda pair: pair[1].log_time):
            if message.topic in topics and tick not in (without or {}).get(message.topic, ()):
                writer.write(Message(namespace + message.topic, message.log_time,
                                     message.publish_time, message.data))  # fmt: skip
    return folder
