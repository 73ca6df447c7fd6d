"""Gives a policy under test what another one was given, and compares what it commands."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import JointState

from lebot_rl_ros.data.bag.feeding import Roles, Tick, header_stamp
from lebot_rl_ros.data.bag.playing import Lateness, Schedule
from lebot_rl_ros.data.bag.types import Message
from lebot_rl_ros.ros import names, qos
from lebot_rl_ros.ros.player import Player, Playing, Progress
from lebot_rl_ros.ros.player_topics import PlayError

AGAIN = 0.1  # s without an answer, after which the tick is sent again: someone may have lost it
STALL = 0.5  # s, after which a policy that has had no cmd_vel is given the next one
PATIENCE = 5.0  # s, after which a tick is left unanswered
SILENT = 3  # ticks in a row without an answer, after which it is no use
BEHIND_STAMP = 12  # octets of a message behind its header's stamp


@dataclass
class Fed:
    """How a policy answered."""

    ticks: int = 0
    silent: list[int] = field(default_factory=list)  # stamps (ns) of those without an answer
    compared: int = 0  # with a recorded command
    equal: int = 0  # to it, bit for bit
    tail: int = 0  # of these, since the last one that differed
    largest: float = 0.0  # rad, of a joint

    def take(self, apart: float | None) -> None:
        """An answer, and how far (rad) it is from the recorded one; None: the same octets."""
        self.compared += 1
        if apart is None:
            self.equal += 1
            self.tail += 1
        else:
            self.tail, self.largest = 0, max(self.largest, apart)


class PolicyFeed:
    """The driver's side of a policy, from a bag; one tick at a time, each once it is answered."""

    def __init__(
        self,
        player: Player,
        roles: Roles,
        decode: Callable[[Message], Any],
        next_wish: Callable[[int], Message | None],
    ) -> None:
        """Listen to the answers.

        Args:
            player: that offers the topics.
            roles: which topic of the bag is what.
            decode: reads a message of the bag's command topic.
            next_wish: the first cmd_vel of the bag from a log time (ns) on.
        """
        self._player, self._roles, self._decode = player, roles, decode
        self._next_wish = next_wish
        self._inputs = [t for t in (roles.state, roles.imu, roles.applied, roles.wish) if t]
        self._newest: dict[str, Message] = {}
        self._answers: dict[int, bytes] = {}
        prefix = roles.state.removesuffix(names.JOINT_STATES)
        self._command = roles.command or f'{prefix}{names.JOINT_COMMANDS}'
        self._topic = player.remapped(self._command)
        player.node.create_subscription(JointState, self._topic, self._hear, qos.EVERY, raw=True)

    def meet(self, seconds: float) -> None:
        """Wait for the policy.

        Raises:
            PlayError: none is there for so long.
        """
        node = self._player.node
        self._player.until(
            lambda: node.count_publishers(self._topic),
            seconds,
            lambda: (
                f'no policy commands {self._topic}; start one in another terminal '
                '(`ros2 run lebot_rl_ros policy --ros-args -p lockstep:=true`)'
            ),
        )
        self._player.wait_for(self._inputs, seconds)

    def run(self, ticks: Iterable[Tick], playing: Playing, lateness: Lateness) -> Fed:
        """Feed all ticks.

        Args:
            ticks: of the bag.
            playing: how; a rate of 0 is as fast as they are answered.
            lateness: takes how late each state was.

        Raises:
            PlayError: a driver joined the graph, or the policy does not answer.
        """
        fed, silent, shift = Fed(), 0, 0
        schedule: Schedule | None = None
        told = time.monotonic()
        for tick in ticks:
            if not fed.ticks and playing.restamp:
                shift = self._player.now_shift(tick.stamp, playing.restamp)
            log_time = tick.state.log_time
            if playing.rate:
                schedule = schedule or Schedule(log_time, playing.rate, time.monotonic())
                due = schedule.due(log_time)
                while (left := due - time.monotonic()) > 0.0:
                    self._player.spin(left)
                lateness.add(time.monotonic() - due)
            fed.ticks += 1
            answer = self._ask(tick, shift)
            silent = silent + 1 if answer is None else 0
            if answer is None:
                fed.silent.append(tick.stamp)
            elif tick.expected is not None:
                fed.take(self._apart(tick.expected, answer))
            if silent == SILENT:
                raise PlayError(
                    f'the policy has not answered {SILENT} states for {PATIENCE:g} s each, the '
                    f'last one of stamp {tick.stamp / 1e9:.3f} s; its /diagnostics say why'
                )
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                playing.tell(Progress(log_time, lateness))
                self._player.look()
        return fed

    def _ask(self, tick: Tick, shift: int) -> bytes | None:
        for message in (*tick.before, tick.state):
            self._newest[message.topic] = message
            self._player.publish(message, shift)
        stamp, begun, tries = tick.stamp + shift, time.monotonic(), 1
        while stamp not in self._answers:
            passed = time.monotonic() - begun
            if passed > PATIENCE:
                return None
            if passed > tries * AGAIN:
                tries += 1
                if passed > STALL:
                    self._wish_early(tick)
                for topic in self._inputs:  # the state last: it makes the policy act
                    if topic in self._newest and topic != self._roles.state:
                        self._player.publish(self._newest[topic], shift)
                self._player.publish(tick.state, shift)
            self._player.spin(AGAIN / 5)
        answer = self._answers[stamp]
        self._answers.clear()
        return answer

    def _wish_early(self, tick: Tick) -> None:
        """Give a policy that waits for its first cmd_vel the next one of the bag.

        It had one, which the recorder missed, as it found the topic later than the policy did.
        """
        if self._roles.wish and self._roles.wish not in self._newest:
            wish = self._next_wish(tick.state.log_time)
            if wish is not None:
                self._newest[wish.topic] = wish

    def _apart(self, expected: Message, answer: bytes) -> float | None:
        """Largest distance (rad) of a joint's target; None where all are the same, bit for bit."""
        if expected.data[BEHIND_STAMP:] == answer[BEHIND_STAMP:]:
            return None
        one, other = (
            _targets(self._decode(Message(expected.topic, 0, 0, data)))
            for data in (expected.data, answer)
        )
        if one == other:  # what the octets behind the end of a message are does not count
            return None
        if set(one) != set(other):
            return float('inf')
        return float(np.abs([one[name] - other[name] for name in one]).max(initial=0.0))

    def _hear(self, data: bytes) -> None:
        self._answers[header_stamp(Message(self._topic, 0, 0, data))] = data


def _targets(message: Any) -> dict[str, float]:
    positions: npt.NDArray[np.float64] = message.position
    return dict(zip(message.name, positions.tolist(), strict=True))
