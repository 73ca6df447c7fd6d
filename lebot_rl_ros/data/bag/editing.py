"""Bags out of bags: a part of one, or several as one.

Messages pass through one at a time, as they are: memory does not grow with a bag. What a bag was
made of stands in its run metadata (:mod:`lebot_rl_ros.data.bag.lineage`).
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from lebot_rl_ros.data.bag.building import building
from lebot_rl_ros.data.bag.latched import Latched
from lebot_rl_ros.data.bag.lineage import derived, joined
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.selection import SECOND, choose_topics, moment
from lebot_rl_ros.data.bag.types import BagError, Message, Topic
from lebot_rl_ros.data.bag.writer import BagWriter

GAP = 1.0  # s between two bags that are put one behind the other
TELL_EVERY = 1000  # messages between two words of progress

Progress = Callable[[int, int], None]  # messages done, of how many at most


@dataclass(frozen=True)
class Made:
    """A bag that was written."""

    path: Path
    messages: int
    latched: int = 0  # of those, ones from before the cut
    shifts: tuple[int, ...] = ()  # ns by which each of the merged bags was moved


def cut(
    source: Path,
    out: Path,
    *,
    start: str = '',
    end: str = '',
    topics: Sequence[str] = (),
    exclude: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Made:
    """Write a part of a bag as a bag of its own.

    Messages keep their octets and both their times. Those of latched topics from before the cut
    come first, as who joins then would hear them: with the time of the cut as log time.

    Args:
        source: folder or file.
        out: folder to be.
        start: first moment, as :func:`moment` reads it; '' is the bag's first.
        end: moment before which it ends; '' takes all that follows.
        topics: names or patterns; empty for all.
        exclude: likewise, what to leave out.
        force: replace a bag that is there.
        progress: told how far it is.

    Raises:
        BagError: the bag or an argument cannot be used, nothing is in the cut, or ``out`` exists.
    """
    bag = Bag(source)
    chosen = choose_topics(bag.topics, topics, exclude)
    first, last = stretch(bag, start, end)
    arguments = {'from_ns': first, 'to_ns': last, 'topics': chosen}
    with building(out, force=force, sources=[bag.path]) as folder:
        metadata = derived('cut', bag, arguments)
        latched = list(latched_before(bag, first, chosen))
        count = _write(
            folder,
            metadata,
            [plain(bag.topics[name]) for name in chosen],
            chain(latched, bag.messages(chosen, first, last)),
            progress,
            sum(bag.topics[name].count for name in chosen),
        )
    return Made(out, count, len(latched))


def merge(
    sources: Sequence[Path],
    out: Path,
    *,
    align: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Made:
    """Write several bags as one, in the order of log times; equal times in that of ``sources``.

    Args:
        sources: folders or files, two or more.
        out: folder to be.
        align: move each bag to :data:`GAP` seconds behind the one before it; log and publish
            times are moved, stamps inside messages are not.
        force: replace a bag that is there.
        progress: told how far it is.

    Raises:
        BagError: a topic has another type in another bag (both are named), or as :func:`cut`.
    """
    if len(sources) < 2:
        raise BagError(f'{len(sources)} bags to merge; give two or more')
    bags = [Bag(source) for source in sources]
    topics = united(bags)
    shifts = _behind(bags) if align else [0] * len(bags)
    with building(out, force=force, sources=[bag.path for bag in bags]) as folder:
        metadata = joined('merge', bags, {'align': align, 'shifts_ns': shifts})
        streams = [_moved(bag, shift) for bag, shift in zip(bags, shifts, strict=True)]
        count = _write(
            folder,
            metadata,
            topics,
            heapq.merge(*streams, key=lambda message: message.log_time),
            progress,
            sum(topic.count for bag in bags for topic in bag.topics.values()),
        )
    return Made(out, count, shifts=tuple(shifts))


def stretch(bag: Bag, start: str, end: str) -> tuple[int, int]:
    """First moment (ns) of a stretch of a bag, and the one before which it ends.

    Raises:
        BagError: no message can be in it.
    """
    first = moment(start, bag.start, bag.end) if start else bag.start
    last = moment(end, bag.start, bag.end) if end else bag.end + 1
    if first >= last or first > bag.end or last <= bag.start:
        begin, length = (bag.start, (bag.end - bag.start) / SECOND)
        raise BagError(
            f'{bag.path}: nothing lies from {(first - begin) / SECOND:g} s to '
            f'{(last - begin) / SECOND:g} s; it is {length:g} s long'
        )
    return first, last


def latched_before(bag: Bag, moment: int, topics: Iterable[str]) -> Iterator[Message]:
    """What who joins at a moment (ns) hears of latched topics; that is their log time then."""
    latched = Latched()
    names = [name for name in topics if bag.topics[name].latched]
    for name in names:
        latched.add(bag.topics[name])
    if names:
        for message in bag.messages(names, end=moment):
            latched.take(message)
    return latched.messages(moment)


def united(bags: Sequence[Bag]) -> list[Topic]:
    """Topics of several bags, each once, with the profiles that were offered in any of them.

    Raises:
        BagError: two bags have a topic of one name with other types, or other definitions of one.
    """
    found: dict[str, tuple[Topic, Bag]] = {}
    for bag in bags:
        for name, topic in bag.topics.items():
            known, first = found.setdefault(name, (plain(topic), bag))
            for what, ours, theirs in (
                ('type', known.type, topic.type),
                ('type hash', known.hash, topic.hash),
            ):
                if ours != theirs and ours and theirs:
                    raise BagError(
                        f'{name} has the {what} {ours} in {first.path}, but {theirs} in '
                        f'{bag.path}; `lebot bag cut ... --exclude {name}` leaves it out of one'
                    )
            others = tuple(one for one in topic.qos if one not in known.qos)
            whole = replace(
                known,
                qos=(*known.qos, *others),
                hash=known.hash or topic.hash,
                definition=known.definition or topic.definition,
            )
            found[name] = (whole, first)
    return [topic for topic, _ in found.values()]


def plain(topic: Topic) -> Topic:
    """A topic without what a reader knows beside it."""
    return Topic(topic.name, topic.type, topic.qos, topic.hash, topic.definition)


def _behind(bags: Sequence[Bag]) -> list[int]:
    """Shifts in ns that put each bag behind the one before it."""
    shifts, free = [], 0
    for bag in bags:
        spoken = any(topic.count for topic in bag.topics.values())
        shifts.append(free - bag.start if free and spoken else 0)
        if spoken:
            free = bag.end + shifts[-1] + round(GAP * SECOND)
    return shifts


def _moved(bag: Bag, shift: int) -> Iterator[Message]:
    for message in bag.messages():
        if shift:
            yield replace(
                message,
                log_time=message.log_time + shift,
                publish_time=message.publish_time + shift,
            )
        else:
            yield message


def _write(
    folder: Path,
    metadata: Mapping[str, str],
    topics: Iterable[Topic],
    messages: Iterable[Message],
    progress: Progress | None,
    total: int,
) -> int:
    count = 0
    with BagWriter(folder, metadata=metadata) as writer:
        for topic in topics:
            writer.add(topic)
        for message in messages:
            writer.write(message)
            count += 1
            if progress is not None and count % TELL_EVERY == 0:
                progress(count, total)
    if progress is not None:
        progress(count, count)
    return count
