"""Rewards again, from a bag alone: its steps, joints and IMU through the scorer of the live node.

The numbers are those that the reward node would have published with these weights, had it heard
what is in the bag: with the weights of the run, bit for bit those recorded.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.control.recorded_weights import STEPS, WEIGHTS, beside, stamp_of, told_terms
from lebot_rl_ros.data.bag.cdr import Layout, parse
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.data.rows import reward_dtype
from lebot_rl_ros.mdp.commands import Gait
from lebot_rl_ros.mdp.reward_join import Joined, RewardJoin
from lebot_rl_ros.mdp.rewards import RewardConfig
from lebot_rl_ros.mdp.scoring import Episodes, Scorer
from lebot_rl_ros.robot import Robot, RobotState
from lebot_rl_ros.robot.state import FloatArray
from lebot_rl_ros.safety.modes import Mode

JOINT_STATES, IMU, REWARDS = 'joint_states', 'imu/data', 'reward/rewards'
SECOND = 1_000_000_000  # ns
BLOCK = 4096  # rows that are packed together
TELL_EVERY = 1000  # messages between two words of progress

Rows = npt.NDArray[np.void]


@dataclass(frozen=True)
class Rescored:
    """Steps of a bag and what they earn, in the order of the bag."""

    rows: Rows  # (N,) of reward_dtype, as the node publishes them
    log_times: npt.NDArray[np.int64]  # (N,) ns, of the steps in the bag
    # By stamp, ns: what the node tells people of the step. Only of those of which the bag has such
    # a message, and of the first.
    told: Mapping[int, Mapping[str, Mapping[str, object]]]
    lost: int  # steps whose state is not in the bag, or not finite


class Records:
    """Rows of the messages of one topic; fields are read again only where they change."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._layout: Layout | None = None

    def __call__(self, data: bytes) -> Rows:
        """Rows (width,) of a message; a view of it.

        Raises:
            ValueError: it is no record.
        """
        layout = self._layout
        if (
            layout is None
            or len(data) != layout.size
            or data[12 : layout.start] != layout.prefix[12:]
        ):
            layout = self._layout = parse(data)
        return np.frombuffer(data, layout.dtype, layout.width, layout.start)


def rescore(
    bag: Bag,
    robot: Robot,
    gait: Gait,
    config: RewardConfig | Mapping[int, RewardConfig],
    *,
    namespace: str = '',
    progress: Callable[[int, int], None] | None = None,
) -> Rescored:
    """Score the steps of a bag, in its order.

    Args:
        bag: with ``policy/steps``, ``joint_states`` and ``imu/data``.
        robot: that was recorded.
        gait: whose clock the gait term reads.
        config: weights; or those that hold from the step of a stamp (ns) on, the first of them
            also before it.
        namespace: of the robot, where the bag has several.
        progress: told how many messages are done, of how many.

    Raises:
        BagError: a topic is missing, or a message is not what its topic says.
    """
    topics = beside(bag, namespace, STEPS, JOINT_STATES, IMU)
    steps, joints = topics[:2]
    total = sum(bag.topics[name].count for name in topics)
    told_at = {stamp_of(array) for array in told_terms(bag, namespace)}
    scoring, rows = _Scoring(robot, gait, config, told_at), Records()
    join: RewardJoin[tuple[int, np.void], Any, Any] = RewardJoin(robot.control_period_ns)
    for count, message in enumerate(bag.messages(topics)):
        done: list[Joined[tuple[int, np.void], Any, Any]]
        try:
            if message.topic == steps:
                row = rows(message.data)[0]
                done = join.step(_ns(row, 'next_'), (message.log_time, row))
            else:
                decoded = bag.decode(message)
                keep = join.joints if message.topic == joints else join.imu
                done = keep(stamp_of(decoded), decoded)
            for complete in done:
                scoring(complete)
        except (ValueError, IndexError) as error:
            raise BagError(f'{bag.path}: {message.topic}: {error}') from error
        if progress is not None and count % TELL_EVERY == 0:
            progress(count, total)
    if progress is not None:
        progress(total, total)
    found = scoring.result()
    return replace(found, lost=bag.topics[steps].count - len(found.rows))


class _Scoring:
    """The live node's scorer and tallies, and what came out so far."""

    def __init__(
        self,
        robot: Robot,
        gait: Gait,
        config: RewardConfig | Mapping[int, RewardConfig],
        told_at: Collection[int],
    ) -> None:
        self._changes = config if isinstance(config, Mapping) else {}
        first = next(iter(config.values())) if isinstance(config, Mapping) else config
        self._robot, self._scorer, self._episodes = robot, Scorer(robot, gait, first), Episodes()
        self._dtype = reward_dtype(self._scorer.names)
        self._told_at, self._told = told_at, dict[int, dict[str, dict[str, object]]]()
        self._blocks: list[Rows] = []
        self._rows: list[tuple[object, ...]] = []
        self._log_times: list[int] = []

    def __call__(self, joined: Joined[tuple[int, np.void], Any, Any]) -> None:
        state = _state(self._robot, joined)
        if state is None:  # not finite: the node gives none either
            return
        log_time, row = joined.step
        stamp, scorer = _ns(row), self._scorer
        scorer.config = self._changes.get(stamp, scorer.config)
        score = scorer(
            stamp,
            state,
            row['command'],
            row['applied_action'],
            followed=row['mode'] == Mode.TRACK,
        )
        self._episodes.add(score)
        flags = (score.terminated, score.truncated)
        seconds = divmod(stamp, SECOND)
        self._rows.append((*seconds, score.reward, *flags, *score.terms.values()))
        self._log_times.append(log_time)
        if not self._told or stamp in self._told_at:
            config = scorer.config
            weights: dict[str, object] = {
                **config.weights,
                'fall': config.fall,
                'down': config.down,
            }
            values = self._episodes.values()
            self._told[stamp] = {'reward': values | score.terms, WEIGHTS: weights}
        if len(self._rows) == BLOCK:
            self._pack()

    def result(self) -> Rescored:
        """All of it."""
        self._pack()
        log_times = np.array(self._log_times, np.int64)
        return Rescored(np.concatenate(self._blocks), log_times, self._told, 0)

    def _pack(self) -> None:
        """Rows as an array, which takes a tenth of the memory."""
        self._blocks.append(np.array(self._rows, self._dtype))
        self._rows = []


def _state(robot: Robot, joined: Joined[Any, Any, Any]) -> RobotState | None:
    """The state as the node makes it of the two messages; None if it is not finite."""
    joints, imu = joined.joints, joined.imu
    names = list(joints.name)
    if set(names) != set(robot.joint_names) or len(names) != len(robot.joint_names):
        raise ValueError(
            f'joints are {", ".join(names)}; those of {robot.name} are '
            f'{", ".join(robot.joint_names)}'
        )
    order = [names.index(name) for name in robot.joint_names]

    def values(given: FloatArray) -> FloatArray:
        whole = np.asarray(given, dtype=float) if len(given) else np.zeros(len(names))
        return whole[order]

    q, w, a = imu.orientation, imu.angular_velocity, imu.linear_acceleration
    state = RobotState(
        stamp=joined.stamp,
        joint_position=values(joints.position),
        joint_velocity=values(joints.velocity),
        joint_effort=values(joints.effort),
        orientation=np.array((q.w, q.x, q.y, q.z)),
        angular_velocity=np.array((w.x, w.y, w.z)),
        linear_acceleration=np.array((a.x, a.y, a.z)),
    )
    whole = (state.joint_position, state.joint_velocity, state.orientation, state.angular_velocity)
    return state if all(np.isfinite(part).all() for part in whole) else None


def _ns(row: np.void, which: str = '') -> int:
    """Stamp of a row, ns."""
    return int(row[f'{which}sec']) * SECOND + int(row[f'{which}nanosec'])
