"""When the messages of a bag were recorded, sent and stamped, out of one pass over it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lebot_rl_ros.data.bag.cdr import windows
from lebot_rl_ros.data.bag.checking import NO_TIMES, Times
from lebot_rl_ros.data.bag.scan import scan
from lebot_rl_ros.data.bag.types import BagError, Topic
from lebot_rl_ros.data.octets import stamps_of

STAMPED = re.compile(r'\s*(std_msgs/(msg/)?Header|builtin_interfaces/(msg/)?Time)\s')


@dataclass(frozen=True)
class Track:
    """When the messages of a topic were recorded, sent and stamped, in the order of the bag."""

    log: Times
    publish: Times
    stamps: Times  # empty where the type has none
    octets: int


def observe(
    files: Sequence[Path], topics: Mapping[str, Topic]
) -> tuple[dict[str, Track], list[str]]:
    """Times of all messages by topic, in the order of topics; and why chunks were left out."""
    pieces: dict[str, list[tuple[Times, Times, Times, int]]] = {name: [] for name in topics}
    stamped = {name for name, topic in topics.items() if STAMPED.match(first_field(topic))}
    reasons: list[str] = []
    try:
        for piece in scan(files, damaged=lambda error: reasons.append(str(error))):
            stamps = NO_TIMES
            if piece.topic in stamped and (piece.sizes >= 12).all():
                stamps = stamps_of(windows(piece.data, 12, piece.starts), 4)
            pieces[piece.topic].append((piece.log, piece.publish, stamps, int(piece.sizes.sum())))
    except BagError as error:
        reasons.append(str(error))
    tracks = {}
    for name, parts in pieces.items():
        if parts:
            log, publish, stamps = (np.concatenate([p[i] for p in parts]) for i in range(3))
            order = np.argsort(log, kind='stable')
            whole = len(stamps) == len(log)
            tracks[name] = Track(
                log[order],
                publish[order],
                stamps[order] if whole else NO_TIMES,
                sum(part[3] for part in parts),
            )
    return tracks, reasons


def first_field(topic: Topic) -> str:
    """The line of a definition that declares its first field; '' where it has none."""
    for line in topic.definition.splitlines():
        code = line.partition('#')[0]
        if code.strip() and '=' not in code:
            return code + ' '
        if line.startswith('==='):  # the definitions of its parts follow
            break
    return ''


def seconds_at(times: Times, time: int, log: Times, start: int) -> float:
    """Seconds into the bag at which the message with this time was recorded."""
    which = int(np.flatnonzero(times == time)[0])
    return float(log[which] - start) / 1e9
