"""The recorder node: all that is said in the graph, as it was sent, into a bag of rosbag2."""

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger

from lebot_rl_ros.ros import diagnostics, names, qos
from lebot_rl_ros.ros.convert import SerializedMessage
from lebot_rl_ros.ros.parameters import declare, parameter
from lebot_rl_ros.ros.recording_bags import Bags
from lebot_rl_ros.ros.recording_falls import FallWatch
from lebot_rl_ros.ros.recording_metadata import RunMetadata
from lebot_rl_ros.ros.recording_nodes import OtherNodes
from lebot_rl_ros.ros.recording_selection import make_selection
from lebot_rl_ros.ros.recording_topics import RecordingTopics
from lebot_rl_ros.ros.spin import Stop, run

LOOK = 0.1  # s between two looks at the graph
FAREWELL, QUIET = 4.0, 0.3  # s at the end for what is still said, and without a word: all is


@dataclass(frozen=True)
class RecorderParameters:
    """Parameters of the node."""

    robot: str = parameter('lebot', 'name in config/robots, or path of a table')
    policy: str = parameter('', 'name of the policy, to be told by the bag')
    folder: str = parameter(
        '', "of the bag; where there is one, with _2, _3, ...; '' is a new one of this user"
    )
    topics: tuple[str, ...] = parameter((), 'to record; none, without a pattern too: all')
    pattern: str = parameter('', 'regular expression that topics to record contain')
    exclude: str = parameter('image_raw$', 'expression of topics to leave out if not listed')
    autostart: bool = parameter(True, 'record from the start; else when recorder/start asks')
    split_seconds: float = parameter(0.0, 's of a bag in one file; 0: all')
    split_size: int = parameter(2048, 'MB of one file; 0: all', range=(0, 1_000_000))
    ring: float = parameter(
        0.0, 's kept in memory, and written when recorder/save asks; 0: everything is written'
    )
    save_on_fall: bool = parameter(True, 'with ring: also when the driver tells of a fall')
    memory: int = parameter(
        256, 'MB of messages that may wait for the disk, or lie in the ring', range=(1, 100_000)
    )
    free: int = parameter(500, 'MB: the disk is not filled further', range=(0, 1_000_000))
    compression: str = parameter('zstd', 'of chunks: zstd, lz4 or none')
    lockstep: bool = parameter(False, 'time waits until what was said is recorded')
    wait_for: tuple[str, ...] = parameter((), 'nodes of which nothing may be missed')
    patience: float = parameter(15.0, 's to wait for them')
    arguments: str = parameter('', 'of the launch, JSON, to be told by the bag')
    nice: int = parameter(5, 'added to the niceness of what takes and writes', range=(0, 19))


class RecorderNode(Node):
    """Listens, hands on, and says how it goes; a thread of its own writes."""

    def __init__(self) -> None:
        """Open the bag, then join the topics.

        Raises:
            ValueError: a parameter that cannot be, or the extra `record` is not installed.
            OSError: there is no such robot.
        """
        super().__init__('recorder')
        self.config = config = declare(self, RecorderParameters)
        # Only this thread and those that it starts: DDS's own take and confirm as fast as ever,
        # so that no sender has to repeat itself because we are polite.
        self._nice = os.nice(config.nice)
        resolve = self.resolve_topic_name
        selection = make_selection(
            resolve, self.get_namespace(), config.topics, config.pattern, config.exclude
        )
        self._metadata = RunMetadata(config.robot, config.policy, config.arguments)
        self.bags = Bags(config, self._metadata, self.get_logger())
        self._said = SerializedMessage(Header())
        self._progress = self.create_publisher(Header, names.RECORDER_PROGRESS, qos.OFFER)
        own = resolve(names.RECORDER_PROGRESS)
        # The driver and the policy count on listeners of these, whatever is recorded.
        hooks: dict[str, Callable[[bytes], None] | None] = {
            resolve(names.IMU): None,
            resolve(names.STEPS): None,
            resolve(names.JOINT_STATES): self._on_state,
            resolve(names.ACTIVE_ADAPTER): self._on_adapter,
            resolve(names.DIAGNOSTICS): self._on_diagnostics,
        }
        self._topics = RecordingTopics(
            self,
            lambda name: name != own and selection(name),
            self.bags.take,
            self.bags.add,
            hooks,
        )
        listened, left = self._topics.listened, self._topics.left
        self._others = OtherNodes(
            self,
            lambda name: name in listened or name in left or not selection(name) or name == own,
            config.wait_for,
        )
        self._metadata.parameters = self._others.parameters
        self._falls = FallWatch(self.get_namespace())
        self._began, self._ready = time.monotonic(), False
        self._owed: int | None = None  # stamp of a state that is still to be answered
        self._looks = 0
        for name, act in (
            (names.START_RECORDING, self.bags.start),
            (names.STOP_RECORDING, self.bags.stop),
            (names.SPLIT_RECORDING, self.bags.split),
            (names.SAVE_RECORDING, self.bags.save),
        ):
            self.create_service(Trigger, name, _answering(act))
        self.create_timer(LOOK, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._diagnostics = diagnostics.Diagnostics(self, self._health)
        self._starts = config.autostart and not config.ring

    def serve(self, executor: Executor, stop: Stop) -> None:
        """Spin until stopped; then take what is still said, and end the bag."""
        while not stop:
            waits = self._ready and self._owed is not None  # time does, for our answer
            executor.spin_once(timeout_sec=0.005 if waits else 0.1)
            if waits:
                self._answer()
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + FAREWELL:
            if now - max(self._topics.newest, begun) > QUIET:
                break
            executor.spin_once(timeout_sec=0.05)
        self._topics.review()
        for name, one in self._topics.listened.items():
            if one.lost:
                self.get_logger().warning(f'{name}: {one.lost} messages never came')
        self.bags.close()

    def _look(self) -> None:
        """What no message tells: new topics, new nodes, what the writer has met."""
        self._topics.look()
        if self._others.look():
            self.bags.describe()
        self._looks += 1
        if self._looks % 10 == 0:
            self._topics.review()
        if self.bags.look():
            self._diagnostics.publish()
        if not self._ready:
            late = time.monotonic() - self._began > self.config.patience
            missing = self._others.missing()
            self._ready = late or (not missing and self._others.complete)
            if self._ready and self._starts:
                self._start()
            if late and missing:
                self.get_logger().warning(f'no longer waiting for {", ".join(missing)}')

    def _start(self) -> None:
        """Begin the first bag, once it is known what it will be of."""
        try:
            self.bags.start()
        except (ValueError, OSError) as error:
            self.bags.refuse(f'not recording: {error}')

    def _on_state(self, serialized: bytes) -> None:
        """A state has come; who waits for this node hears so."""
        second, nanosecond = struct.unpack_from('<iI', serialized, 4)
        self._owed = second * 1_000_000_000 + nanosecond
        self._answer()

    def _answer(self) -> None:
        """Answer the newest state, unless the disk is so far behind that time has to wait.

        Where it does not wait, it has to begin only when we listen: then silence is polite.
        """
        if not self._ready or self._owed is None:
            return
        if not self.config.lockstep and self._falls.running:
            self._owed = None
            return
        if self.config.lockstep and self.bags.behind:
            return
        self._said.stamp(self._owed)
        self._progress.publish(self._said.serialized())
        self._owed = None

    def _on_adapter(self, serialized: bytes) -> None:
        self._metadata.active_adapter(deserialize_message(serialized, String).data)

    def _on_diagnostics(self, serialized: bytes) -> None:
        fell = self._falls.hear(deserialize_message(serialized, DiagnosticArray))
        if fell and self.config.save_on_fall:
            self.bags.fell(fell)

    def _health(self) -> diagnostics.Health:
        lost = {f'lost{name}': one.lost for name, one in self._topics.listened.items() if one.lost}
        values = self.bags.values() | {
            'topics': sum(one.recorded for one in self._topics.listened.values()),
            'left_out': '; '.join(f'{name}: {why}' for name, why in self._topics.left.items()),
            'lost': sum(lost.values()),
            **lost,
            'nice': self._nice,
        }
        if self.bags.trouble:
            return diagnostics.WARN, self.bags.trouble, values
        missing = self._others.missing()
        if not self._ready:
            return diagnostics.WARN, f'waiting for {", ".join(missing)}', values
        return diagnostics.OK, self.bags.state, values


def _answering(act: Callable[[], str]) -> Callable[[Any, Any], Any]:
    """Callback of a Trigger service that does something and says what, or why not."""

    def respond(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message, response.success = act(), True
        except (ValueError, OSError) as error:
            response.message = str(error)
        return response

    return respond


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run(RecorderNode, args, loop=RecorderNode.serve)


if __name__ == '__main__':
    raise SystemExit(main())
