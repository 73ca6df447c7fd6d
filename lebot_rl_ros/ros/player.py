"""Publishes the messages of a bag as they are: octets, with the QoS that they had."""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from lebot_rl_ros.data.bag.feeding import SECOND, header_stamp, restamped
from lebot_rl_ros.data.bag.playing import Beat, Lateness, Schedule
from lebot_rl_ros.data.bag.types import Message, Topic
from lebot_rl_ros.ros import names
from lebot_rl_ros.ros.convert import set_stamp
from lebot_rl_ros.ros.player_guard import UNNAMED, guarded, reason
from lebot_rl_ros.ros.player_topics import PlayError, has_header, message_class, offered
from lebot_rl_ros.ros.spin import leave

HEARD = 3.5  # s in which DDS repeats what was not heard at first
LAST = 1.0  # s in which listeners take what was sent last
NAP = 0.05  # s between two looks at who listens
_count = itertools.count()


@dataclass(frozen=True)
class Progress:
    """How far it is."""

    log_time: int  # ns, that is due now
    lateness: Lateness


@dataclass
class Playing:
    """How a bag is played."""

    rate: float = 1.0  # seconds of the bag in a second
    clock: float = 0.0  # Hz of /clock, wall time; 0: none
    restamp: int = 0  # move stamps of headers to now, all by one multiple of so many ns; 0: not
    tell: Callable[[Progress], None] = field(default=lambda _: None)  # each second


class Player:
    """A node that speaks for the publishers of a bag."""

    def __init__(self, topics: Iterable[Topic], remapped: Callable[[str], str]) -> None:
        """Join the graph, on the loopback unless the user wants the network.

        Args:
            topics: of the bag, that will be played.
            remapped: gives the name under which a topic is played.

        Raises:
            PlayError: the type of a topic is not installed here.
        """
        topics = list(topics)
        classes = {topic.name: message_class(topic) for topic in topics}
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        self._joined = time.monotonic()
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(
            f'bag_player_{os.getpid()}_{next(_count)}',
            context=self._context,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._executor = EventsExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.remapped = remapped
        self.played = {topic.name: remapped(topic.name) for topic in topics}
        self._classes, self._topics = classes, topics
        self._publishers: dict[str, Publisher] = {}
        self._clock: Publisher | None = None
        self._headed = {name for name, kind in classes.items() if has_header(kind)}
        self._guarded = False

    def __enter__(self) -> 'Player':
        return self

    def __exit__(self, *args: object) -> None:
        """Let listeners have what was sent, and leave the graph."""
        end = time.monotonic() + LAST
        for publisher in self._publishers.values():
            left = max(end - time.monotonic(), 0.0)
            publisher.wait_for_all_acked(Duration(nanoseconds=round(left * SECOND)))
        self._publishers.clear()
        leave(self._executor, self.node, self._context)

    def refuse_drivers(self) -> None:
        """See that no robot hears this, now and while it is played.

        Raises:
            PlayError: a driver is there; nothing has been published.
        """
        if not guarded(self.played.values()):
            return
        end, found = self._joined + HEARD, ''
        while (not found or UNNAMED in found) and time.monotonic() < end:
            time.sleep(NAP)
            found = reason(self.node, self.played.values())
        if found:
            raise PlayError(found)
        self._guarded = True

    def offer(self) -> None:
        """Make the publishers."""
        for topic in self._topics:
            self._publishers[topic.name] = self.node.create_publisher(
                self._classes[topic.name], self.played[topic.name], offered(topic)
            )

    def wait_for(self, topics: Iterable[str], seconds: float) -> None:
        """Wait until somebody listens to each of these topics of the bag.

        Raises:
            PlayError: nobody does for so long; the message names the topics.
        """
        wanted = {self.played[name]: self._publishers[name] for name in topics}
        self.until(
            lambda: all(publisher.get_subscription_count() for publisher in wanted.values()),
            seconds,
            lambda: (
                'nobody listens to '
                + ', '.join(n for n, p in wanted.items() if not p.get_subscription_count())
            ),
        )

    def until(
        self, condition: Callable[[], Any], seconds: float, lacking: Callable[[], str]
    ) -> None:
        """Serve the node until a condition holds.

        Raises:
            PlayError: it does not within so many seconds.
        """
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise PlayError(
                    f'{lacking()}: waited {seconds:g} s in ROS domain '
                    f'{self._context.get_domain_id()}, discovery range '
                    f'{os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"]}'
                )
            self.spin(NAP)

    def play(
        self, messages: Iterable[Message], start: int, playing: Playing, lateness: Lateness
    ) -> None:
        """Publish messages when they are due.

        Args:
            messages: in the order of log times.
            start: log time (ns) that is due now.
            playing: how.
            lateness: takes how late each one was.

        Raises:
            PlayError: a driver has joined the graph.
        """
        coming, shift = iter(messages), 0
        if playing.restamp:
            coming, shift = self._aligned(coming, playing.restamp)
        message = next(coming, None)
        now = time.monotonic()
        schedule, beat = Schedule(start, playing.rate, now), Beat(now, playing.clock)
        while message is not None:
            due = schedule.due(message.log_time)
            while (now := time.monotonic()) < due or beat.due(now):
                ticks, speaks = beat(now)
                if ticks:
                    self._tick_clock(schedule.log_time(now))
                if speaks:
                    playing.tell(Progress(schedule.log_time(now), lateness))
                    self.look()
                left = min(due, beat.next) - time.monotonic()
                if left > 0.0:
                    time.sleep(left)
            self.publish(message, shift)
            lateness.add(time.monotonic() - due)
            message = next(coming, None)  # read while nothing is due
        playing.tell(Progress(schedule.log_time(time.monotonic()), lateness))

    def publish(self, message: Message, shift: int = 0) -> None:
        """Send one message now, its header's stamp moved by so many ns."""
        data = message.data
        if shift and self._stamped(message):
            data = restamped(data, shift)
        self._publishers[message.topic].publish(data)

    def spin(self, seconds: float) -> None:
        """Listen for at most so long."""
        self._executor.spin_once(timeout_sec=max(seconds, 0.0))

    def look(self) -> None:
        """See whether a driver has joined.

        Raises:
            PlayError: one has.
        """
        found = self._guarded and reason(self.node, self.played.values())
        if found:
            raise PlayError(f'stopped: {found}')

    def now_shift(self, stamp: int, multiple: int) -> int:
        """Wait until now is a multiple of so many ns after a stamp (ns); returns it.

        With that of a gait's cycle, a policy reads the same phase from it as in the bag.
        """
        shift = -((stamp - time.time_ns()) // multiple) * multiple
        while (left := (stamp + shift - time.time_ns()) / SECOND) > 0.0:
            self.spin(left)
        return shift

    def _stamped(self, message: Message) -> bool:
        """Whether a message has a stamp that can be moved."""
        if message.topic not in self._headed:
            return False
        # Who commands before it knows the time says 0, which is then no time.
        return not message.topic.endswith(f'/{names.CMD_VEL}') or header_stamp(message) != 0

    def _aligned(self, coming: Iterator[Message], multiple: int) -> tuple[Iterator[Message], int]:
        """Wait for the moment at which stamps can be moved to now; the messages again, and ns."""
        held: list[Message] = []
        for message in coming:
            held.append(message)
            if self._stamped(message):
                ahead = message.log_time - held[0].log_time
                shift = self.now_shift(header_stamp(message) - ahead, multiple)
                return itertools.chain(held, coming), shift
        return iter(held), 0

    def _tick_clock(self, log_time: int) -> None:
        if self._clock is None:
            self._clock = self.node.create_publisher(Clock, names.CLOCK, QoSProfile(depth=1))
        message = Clock()
        set_stamp(message.clock, log_time)
        self._clock.publish(message)
