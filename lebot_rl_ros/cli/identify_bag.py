"""Commands and readings of the servos out of a bag, joined by stamp."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag.reader import Bag, find_topic
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.ros import names
from lebot_rl_ros.sim.identify_data import Readings

WITHOUT_TORQUE = 'relaxed'  # mode of the driver in joint_commands_applied
Rows = dict[int, tuple[FloatArray, ...]]


def read_readings(
    bag: Bag,
    robot: Robot,
    *,
    namespace: str = '',
    start: float = 0.0,
    end: float = float('inf'),
) -> Readings:
    """What was commanded and measured, where both are known for a stamp.

    Args:
        bag: with ``joint_states`` and ``joint_commands_applied``; ``imu/data`` where there is.
        robot: whose joints.
        namespace: of the robot, where the bag has several.
        start: s after the first reading, from when on.
        end: s after the first reading, until when.

    Raises:
        BagError: a topic is missing, or the bag is of another robot; the message names both.
    """
    commands = find_topic(bag, names.JOINT_COMMANDS_APPLIED, namespace)
    # Of the same robot; ground_truth/joint_states ends so, too, and is another's word.
    inside = commands.removesuffix(names.JOINT_COMMANDS_APPLIED) or '/'
    states: Rows = {}
    applied: Rows = {}
    imu: Rows = {}
    takes: dict[str, Callable[[Any], None]] = {
        find_topic(bag, names.JOINT_STATES, inside): lambda m: _put(
            states, m, _joints(bag, robot, m, m.position), _joints(bag, robot, m, m.velocity)
        ),
        commands: lambda m: _put(
            applied,
            m,
            _joints(bag, robot, m, m.position),
            np.array([m.header.frame_id != WITHOUT_TORQUE]),
        ),
    }
    with suppress(BagError):  # in the air it is not needed
        takes[find_topic(bag, names.IMU, inside)] = lambda m: _put(imu, m, *_imu(m))
    for message in bag.messages(takes):
        takes[message.topic](bag.decode(message))
    both = sorted(states.keys() & applied.keys())
    if both:
        first = both[0]
        both = [stamp for stamp in both if start <= (stamp - first) / 1e9 <= end]
    if not both:
        raise BagError(
            f'{bag.path}: no stamp has both {names.JOINT_STATES} ({len(states)} there) and '
            f'{names.JOINT_COMMANDS_APPLIED} ({len(applied)})'
        )
    stamp = np.array(both, dtype=np.int64)
    return Readings(
        stamp=stamp,
        command=_column(applied, both, 0),
        position=_column(states, both, 0),
        velocity=_column(states, both, 1),
        torque=_column(applied, both, 1)[:, 0].astype(bool),
        orientation=_nearest(imu, stamp, 0),
        angular_velocity=_nearest(imu, stamp, 1),
    )


def _put(rows: Rows, message: Any, *values: FloatArray) -> None:
    stamp = message.header.stamp
    rows[stamp.sec * 1_000_000_000 + stamp.nanosec] = values


def _joints(bag: Bag, robot: Robot, message: Any, values: Any) -> FloatArray:
    found = list(message.name)
    if sorted(found) != sorted(robot.joint_names):
        raise BagError(
            f'{bag.path} has the joints {", ".join(found)}; '
            f'{robot.name} has {", ".join(robot.joint_names)}'
        )
    if len(values) != len(found):
        raise BagError(f'{bag.path}: {len(values)} values for {len(found)} joints')
    return np.asarray(values, dtype=float)[[found.index(name) for name in robot.joint_names]]


def _imu(message: Any) -> tuple[FloatArray, FloatArray]:
    q, w = message.orientation, message.angular_velocity
    return np.array([q.w, q.x, q.y, q.z]), np.array([w.x, w.y, w.z])


def _column(rows: Rows, stamps: list[int], index: int) -> FloatArray:
    return np.array([rows[stamp][index] for stamp in stamps], dtype=float)


def _nearest(rows: Rows, stamps: npt.NDArray[np.int64], index: int) -> FloatArray | None:
    """The sample before or at each stamp; the IMU may be faster than the servos."""
    if not rows:
        return None
    known = sorted(rows)
    at = np.clip(np.searchsorted(known, stamps, side='right') - 1, 0, None)
    return _column(rows, [known[i] for i in at], index)
