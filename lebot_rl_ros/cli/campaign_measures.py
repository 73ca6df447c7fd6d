"""What can be measured on a recording of the fault campaign. Pure: no process, no clock."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.robot import Robot
from lebot_rl_ros.ros.witness import Joints, Recording, Word

WINDOW = 2.0  # s over which a speed is judged
SAGS = 0.05  # rad that a joint may be beyond its limit while its target is within it
STEP = 2 * np.pi / 4096  # rad, of a servo's encoder
GAP = 0.1  # s without an applied target, after which the driver's own word counts


def stale(
    published: Sequence[tuple[float, Joints]],
    truth: Sequence[tuple[float, Joints]],
    age: float,
    tolerance: float,
    ahead: float = 0.0,
) -> npt.NDArray[np.bool_]:
    """Which published joint states (N,) are older than ``age`` s.

    Such a state lies, at one joint or more, outside of everything that this joint truly went
    through in the last ``age`` s, or will within ``ahead`` s: reading takes time, and a state that
    is newer than its stamp is not stale. Where the truth itself is not known, before and after it
    and where the emulator was kept from its core for longer than ``age``, nothing is judged.

    Args:
        published: stamp in s, and rad.
        truth: likewise, of the body; about one sample a period.
        age: s.
        tolerance: rad, for the encoder's steps and for what happens between two samples.
        ahead: s.
    """
    if not published or not truth:
        return np.zeros(0, dtype=bool)
    when, what = (np.array(list(column)) for column in zip(*truth, strict=True))
    gaps = np.flatnonzero(np.diff(when) > age)
    unknown = [(when[i], when[i + 1] + age) for i in gaps]
    judged = [
        (stamp, joints)
        for stamp, joints in published
        if when[0] + age <= stamp <= when[-1]
        and not any(begin < stamp < end for begin, end in unknown)
    ]
    found = np.zeros(len(judged), dtype=bool)
    for i, (stamp, joints) in enumerate(judged):
        begin, end = stamp - age, stamp + ahead
        inside = what[np.searchsorted(when, begin) : np.searchsorted(when, end, 'right')]
        ends = [[np.interp(t, when, joint) for joint in what.T] for t in (begin, end)]
        seen = np.vstack([inside, ends])
        low, high = seen.min(axis=0) - tolerance, seen.max(axis=0) + tolerance
        found[i] = bool(((joints < low) | (joints > high)).any())
    return found


def modes(heard: Recording) -> list[tuple[float, str]]:
    """Modes of the driver in order: as applied, and where that is silent, from its health."""
    applied = [(stamp, mode) for stamp, mode, _ in heard.applied]
    stamps = np.array([*(stamp for stamp, _ in applied), np.inf])
    told = [
        (word.time, word.values['mode'])
        for word in heard.words
        if word.node == 'servo_driver' and 'mode' in word.values
    ]
    alone = [
        (time, mode) for time, mode in told if stamps[np.searchsorted(stamps, time)] - time > GAP
    ]
    return sorted(applied + alone)


def speed(heard: Recording, begin: float, end: float) -> float:
    """True mean forward speed from ``begin`` to ``end`` (s), m/s."""
    speeds = [speed for stamp, _, speed in heard.path if begin <= stamp < end]
    return float(np.mean(speeds)) if speeds else float('nan')


def _gist(message: str) -> str:
    """A message without its numbers, to see whether it is news."""
    return ''.join(letter for letter in message if not letter.isdigit())


def news(words: Sequence[Word], teller: str, begin: float, end: float) -> tuple[Word | None, int]:
    """The first new words of a node's worst level from ``begin`` to ``end`` (s); that level."""
    own = [word for word in words if word.node == teller and word.level]
    before = [word for word in words if word.node == teller and word.time < begin][-1:]
    known = {_gist(word.message) for word in before if word.level}
    news = [word for word in own if begin <= word.time < end and _gist(word.message) not in known]
    worst = max((word.level for word in news), default=0)
    return next((word for word in news if word.level == worst), None), worst


def beyond(heard: Recording, robot: Robot) -> int:
    """How many targets were beyond a limit at all, and joints by more than what they may sag."""
    count = 0
    for entries, slack in (
        ([joints for _, _, joints in heard.applied], 1e-9),
        ([joints for _, joints in heard.joints], SAGS),
    ):
        joints = np.array(entries).reshape(-1, len(robot.joints))
        out = (joints < robot.lower - slack) | (joints > robot.upper + slack)
        count += int(out.any(axis=1).sum())
    return count


def again(heard: Recording, since: float, wanted: float) -> float | None:
    """Seconds until the mean speed of the last WINDOW s, all of it later, was as wanted."""
    path = [(stamp, speed) for stamp, _, speed in heard.path if stamp >= since]
    stamps, speeds = np.array(path).reshape(-1, 2).T
    for i in np.flatnonzero(stamps >= since + WINDOW):
        window = stamps[: i + 1] > stamps[i] - WINDOW
        if speeds[: i + 1][window].mean() >= wanted:
            return float(stamps[i] - since)
    return None
