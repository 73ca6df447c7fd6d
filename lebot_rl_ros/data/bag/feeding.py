"""What a policy was given, tick by tick, in an order in which another one can be given it.

A bag has messages as a recorder heard them. Across topics that is not the order in which the
policy heard them, the less so the busier the machine was; and what was applied for a tick must
never come before its command. Here messages are put in the order in which they were sent, and each
tick is put together by stamps; what has no stamp of a tick (cmd_vel) is given before the tick
whose recorded command was sent next. States that the recorded policy did not act on, as it was
not there or behind, are left out: what they brought beside them is given with the next one.
"""

import heapq
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lebot_rl_ros.data.bag.types import BagError, Message

SECOND = 1_000_000_000  # ns
UNANSWERED = 50  # states that wait for their command; a policy that is not there gives none
LAG = SECOND  # ns that a recorder may hear one topic later than another
FOREIGN = SECOND  # ns; a stamp so far ahead of a tick's is of another stream, before a reset

_STAMP = {0: struct.Struct('>iI'), 1: struct.Struct('<iI')}  # by the second octet of the encoding


@dataclass(frozen=True)
class Roles:
    """Topics of one robot, by what they are to its policy; '' where the bag has none."""

    state: str  # joint_states
    imu: str
    applied: str
    wish: str  # cmd_vel
    command: str  # joint_commands: the answer


@dataclass(frozen=True)
class Tick:
    """One state, and what has to be there before it."""

    stamp: int  # ns
    before: tuple[Message, ...]
    state: Message
    expected: Message | None  # the recorded command; None in a bag that has no commands


def header_stamp(message: Message) -> int:
    """Stamp (ns) of a serialized message that begins with a header.

    Raises:
        BagError: it is too short for one.
    """
    if len(message.data) < 12:
        raise BagError(f'{message.topic}: a message of {len(message.data)} octets has no header')
    seconds, nanoseconds = _STAMP[message.data[1] & 1].unpack_from(message.data, 4)
    return int(seconds) * SECOND + int(nanoseconds)


def restamped(data: bytes, shift: int) -> bytes:
    """A serialized message that begins with a header, its stamp moved by ``shift`` ns."""
    stamp = _STAMP[data[1] & 1]
    seconds, nanoseconds = stamp.unpack_from(data, 4)
    moved = bytearray(data)
    stamp.pack_into(moved, 4, *divmod(seconds * SECOND + nanoseconds + shift, SECOND))
    return bytes(moved)


def as_sent(messages: Iterable[Message]) -> Iterator[Message]:
    """Messages in the order of their publish times, as far as :data:`LAG` allows.

    Args:
        messages: in the order of log times.
    """
    waiting: list[tuple[int, int, Message]] = []
    for count, message in enumerate(messages):
        heapq.heappush(waiting, (message.publish_time, count, message))
        while waiting[0][0] < message.log_time - LAG:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def ticks(messages: Iterable[Message], roles: Roles) -> Iterator[Tick]:
    """Put ticks together.

    Args:
        messages: of the topics in ``roles``, in the order of log times.
        roles: which topic is what. Without commands all states are taken.

    Raises:
        BagError: a message has no header.
    """
    patience = UNANSWERED if roles.command else 1
    states: deque[tuple[int, Message]] = deque()
    others: list[Message] = []
    newest: int | None = None  # state that was taken last; a driver sends one again until heard

    def tick(expected: Message | None) -> Tick:
        stamp, state = states.popleft()
        until = state.publish_time if expected is None else expected.publish_time
        due = [_due(message, stamp, until, roles) for message in others]
        before = tuple(message for message, yes in zip(others, due, strict=True) if yes)
        others[:] = [message for message, yes in zip(others, due, strict=True) if not yes]
        return Tick(stamp, before, state, expected)

    for message in as_sent(messages):
        if message.topic == roles.state:
            stamp = header_stamp(message)
            if stamp == newest:
                continue
            newest = stamp
            states.append((stamp, message))
            if len(states) <= patience:
                continue
            if roles.command:
                states.popleft()
            else:
                yield tick(None)
        elif message.topic == roles.command:
            stamp = header_stamp(message)
            if any(stamp == waiting for waiting, _ in states):
                while states[0][0] != stamp:
                    states.popleft()
                yield tick(message)
        else:
            others.append(message)
    while states and not roles.command:
        yield tick(None)


def _due(message: Message, stamp: int, until: int, roles: Roles) -> bool:
    if message.topic == roles.wish:
        return message.publish_time <= until
    own = header_stamp(message)
    if own > stamp + FOREIGN:
        return message.publish_time <= until
    return own < stamp if message.topic == roles.applied else own <= stamp
