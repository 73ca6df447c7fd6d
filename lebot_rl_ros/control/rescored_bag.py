"""A bag with other rewards: all else as it was, and rewards and weights in place of the old."""

import heapq
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.control.recorded_weights import REWARD_TERMS, STEPS, beside, stamp_of
from lebot_rl_ros.control.rescoring import REWARDS, SECOND, Rescored, Rows
from lebot_rl_ros.control.reward_messages import DIAGNOSTICS, QOS, RewardMessage, terms_message
from lebot_rl_ros.data.bag.building import building
from lebot_rl_ros.data.bag.cdr import POINT_CLOUD
from lebot_rl_ros.data.bag.editing import plain
from lebot_rl_ros.data.bag.lineage import derived
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.types import Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter
from lebot_rl_ros.data.joining import Joiner


@dataclass(frozen=True)
class Rewritten:
    """What became of a bag's rewards."""

    path: Path
    messages: int
    replaced: int
    added: int  # steps that had no reward in the bag
    left_out: int  # rewards whose step is not in the bag: they would be of the old weights


def write_rescored(
    bag: Bag,
    rescored: Rescored,
    out: Path,
    arguments: Mapping[str, Any],
    *,
    namespace: str = '',
    force: bool = False,
) -> Rewritten:
    """Write a bag whose ``reward/rewards`` and ``reward/terms`` are those given.

    A reward keeps the log and publish time of the one that it replaces; one that is new has the
    log time of its step, or of the reward before it where that is later.

    Args:
        bag: that the steps are from.
        rescored: what they earn.
        out: folder to be.
        arguments: for the lineage.
        namespace: of the robot, where the bag has several.
        force: replace a bag that is there.

    Raises:
        BagError: ``out`` exists, or a message cannot be read.
    """
    prefix = beside(bag, namespace, STEPS)[0].removesuffix(STEPS)
    exchange = _Exchange(bag, rescored, f'{prefix}{REWARDS}', f'{prefix}{REWARD_TERMS}')
    count = 0
    metadata = derived('reward', bag, arguments)
    with (
        building(out, force=force, sources=[bag.path]) as folder,
        BagWriter(folder, metadata=metadata) as writer,
    ):
        for topic in exchange.topics():
            writer.add(topic)
        for message in exchange.messages():
            writer.write(message)
            count += 1
    return Rewritten(out, count, exchange.replaced, exchange.added, exchange.left_out)


def transitions(bag: Bag, rescored: Rescored, period: int, namespace: str = '') -> Rows:
    """Steps of a bag joined with these rewards: rows (N,) of `transition_dtype`.

    Args:
        bag: that the steps are from.
        rescored: what they earn.
        period: ns of a control step.
        namespace: of the robot, where the bag has several.
    """
    steps = bag.rows(beside(bag, namespace, STEPS)[0])
    joiner = Joiner.fitting(steps.dtype, rescored.rows.dtype, period=period)
    joiner.steps(steps)
    joiner.rewards(rescored.rows)
    return joiner.flush()


def stamps(rows: Rows) -> npt.NDArray[np.int64]:
    """Stamps (N,) of rows of steps or rewards, ns."""
    return rows['sec'].astype(np.int64) * SECOND + rows['nanosec']


def matched(recorded: Rows, rows: Rows) -> npt.NDArray[np.int64]:
    """For each recorded reward (R,) the place of the new one of its step; -1 where there is none.

    A simulator that was reset uses stamps again: those of one stamp stay in their order.
    """
    due: dict[int, deque[int]] = defaultdict(deque)
    for place, stamp in enumerate(stamps(rows).tolist()):
        due[stamp].append(place)
    found = [due[stamp].popleft() if due.get(stamp) else -1 for stamp in stamps(recorded).tolist()]
    return np.array(found, np.int64)


class _Exchange:
    """One pass over a bag in which its rewards are exchanged."""

    def __init__(self, bag: Bag, rescored: Rescored, rewards: str, terms: str) -> None:
        self._bag, self._rescored, self._rewards, self._terms = bag, rescored, rewards, terms
        self._recorded = rewards in bag.topics
        example = next(bag.messages([rewards]), None) if self._recorded else None
        self._message = RewardMessage(rescored.rows.dtype, example.data if example else b'')
        times, known, logged = rescored.log_times.copy(), rescored.rows[:0], np.zeros(0, np.int64)
        if example:
            known, logged = bag.records([rewards])[0][:2]
        self._places = matched(known, rescored.rows)
        found = self._places >= 0
        times[self._places[found]] = logged[found]
        # A learner takes rewards in their order: a new one comes no earlier than those before it.
        self._times = np.maximum.accumulate(times)
        unpaid = np.setdiff1d(np.arange(len(rescored.rows)), self._places)
        self.replaced = int((self._places >= 0).sum())
        self.added, self.left_out = len(unpaid), len(known) - self.replaced
        self._unpaid = unpaid

    def topics(self) -> Iterator[Topic]:
        """Of the new bag."""
        yield from map(plain, self._bag.topics.values())
        if not self._recorded:
            yield Topic(self._rewards, POINT_CLOUD, (QOS,))
        if self._terms not in self._bag.topics:
            yield Topic(self._terms, DIAGNOSTICS, (QOS,))

    def messages(self) -> Iterator[Message]:
        """All messages of the new bag, in the order of log times."""
        streams = [self._exchanged(), self._added()]
        if self._terms not in self._bag.topics:
            streams.append(self._first_word())
        yield from heapq.merge(*streams, key=lambda message: message.log_time)

    def _exchanged(self) -> Iterator[Message]:
        place = 0
        for message in self._bag.messages():
            if message.topic == self._rewards:
                which = self._places[place]
                place += 1
                if which >= 0:
                    data = self._message(self._rescored.rows[which])
                    yield replace(message, data=data)
            elif message.topic == self._terms:
                array = self._bag.decode(message)
                told = self._rescored.told.get(stamp_of(array))
                if told is not None:  # else its step is not in the bag
                    yield replace(message, data=terms_message(stamp_of(array), told))
            else:
                yield message

    def _added(self) -> Iterator[Message]:
        for which in self._unpaid:
            at = int(self._times[which])
            yield Message(self._rewards, at, at, self._message(self._rescored.rows[which]))

    def _first_word(self) -> Iterator[Message]:
        """The weights have to stand in the bag: with the first step."""
        for stamp, told in self._rescored.told.items():
            at = int(self._rescored.log_times[0])
            yield Message(self._terms, at, at, terms_message(stamp, told))
            break
