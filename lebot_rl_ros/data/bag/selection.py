"""Which topics of a bag, and which stretch of its time: what people write, read exactly."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase

from lebot_rl_ros.data.bag.types import BagError

ABSOLUTE = 1_000_000_000  # s; from here on a number is a time since the epoch (since 2001)
SECOND = 1_000_000_000  # ns


def choose_topics(
    names: Iterable[str], wanted: Sequence[str] = (), excluded: Sequence[str] = ()
) -> list[str]:
    """Topics that were asked for, in the order of ``names``.

    Args:
        names: of all topics, absolute.
        wanted: names or patterns (``*``, ``?``, ``[...]``); one without a slash before it is found
            under every namespace. Empty: all.
        excluded: likewise; what is in both is left out.

    Raises:
        BagError: one of ``wanted`` or ``excluded`` is no topic; the message names those there.
    """
    known = list(names)
    for pattern in (*wanted, *excluded):
        if not any(matches(name, pattern) for name in known):
            raise BagError(f'no topic {pattern!r}; topics are {", ".join(known) or "none"}')
    return [
        name
        for name in known
        if (not wanted or any(matches(name, pattern) for pattern in wanted))
        and not any(matches(name, pattern) for pattern in excluded)
    ]


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern means a topic: ``policy/*`` means /policy/steps, /a/policy/steps."""
    if pattern.startswith('/'):
        return fnmatchcase(name, pattern)
    return fnmatchcase(name, f'/{pattern}') or fnmatchcase(name, f'*/{pattern}')


def moment(text: str, start: int, end: int) -> int:
    """A time in a bag, ns since the epoch.

    Args:
        text: seconds since the start; negative ones from the end; a number above 1e9 is seconds
            since the epoch; or a date, as in 2026-11-21T22:00:00+00:00 (UTC where none is said).
        start: log time of the first message, ns.
        end: of the last one, ns.

    Raises:
        BagError: it is none of these.
    """
    try:
        # Decimal, as a float does not have the nanoseconds of a time since the epoch.
        seconds = Decimal(text)
    except InvalidOperation:
        return _date(text)
    if not math.isfinite(seconds):
        raise BagError(f'time {text!r} is not finite')
    offset = int(seconds * SECOND)
    if seconds >= ABSOLUTE:
        return offset
    return end + offset if text.lstrip().startswith('-') else start + offset


def _date(text: str) -> int:
    try:
        date = datetime.fromisoformat(text.strip().replace('Z', '+00:00'))
    except ValueError as error:
        raise BagError(
            f'{text!r} is no time: give seconds since the start, negative ones from the end, '
            'seconds since the epoch, or a date as in 2026-11-21T22:00:00+00:00'
        ) from error
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    whole = date.replace(microsecond=0)
    return int(whole.timestamp()) * SECOND + date.microsecond * 1000
