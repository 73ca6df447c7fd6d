"""Judges one case of the fault campaign by its recording. Pure: no process, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from lebot_rl_ros.cli import campaign_measures as measure
from lebot_rl_ros.cli.campaign_cases import Case
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.ros import names
from lebot_rl_ros.ros.witness import Recording

SAFE = ('hold', 'crouch', 'relaxed')  # modes that go on without knowing anything
WALKED = 0.5  # share of the commanded speed that counts as walking
PERIODS = 2  # control periods that a published state may be old
AWAY = 0.1  # s about a reset of the simulation in which joint states are not judged
TICK = 0.03  # s; what was decided after a moment may bear the stamp of a state read before it


@dataclass(frozen=True)
class Moments:
    """When what was done, s since the epoch."""

    begin: float  # the fault was asked for
    active: float  # and the emulator had confirmed it
    over: float  # it was asked to end
    cleared: float  # the operator cleared the driver's faults; ``over`` where that was not needed
    again: float  # the operator did so for the last time; a robot that went down again needs it
    resets: tuple[float, ...] = ()  # the simulation put the robot elsewhere


@dataclass(frozen=True)
class Outcome:
    """What a case came to."""

    modes: tuple[str, ...]  # of the driver while the fault lasted, without repetition
    safe: float | None  # s until a mode of SAFE, 0 where it walked on; None: neither
    fell: bool  # before it was cleared
    fell_up: bool  # when it stood up again; it was then set on its feet
    told: str  # first new words of level WARN or ERROR, of the node that is expected to tell
    told_after: float | None  # s
    level: int  # the worst that was told
    beyond: int  # targets or joints beyond their limits
    stale: int  # published joint states that were older than allowed
    published: int  # joint states that were judged
    delayed: float  # share of those of the walk before that would be stale three periods later
    unduly: int  # messages on the topic that had to be silent
    latched: bool
    cleared_twice: bool  # as it went down again
    again: float | None  # s from clearing until it had walked for WINDOW; None: it did not
    troubles: tuple[str, ...]  # why it failed; empty if all was as expected


def judge(
    case: Case,
    heard: Recording,
    at: Moments,
    robot: Robot,
    *,
    asked: float,
    troubles: Sequence[str] = (),
) -> Outcome:
    """Judge a case.

    Args:
        case: what was done, and what is expected.
        heard: from the start of the graph to the end of the case.
        at: when what was done.
        robot: whose limits and period count.
        asked: m/s that the robot was commanded.
        troubles: what went wrong with the processes.
    """
    told = measure.modes(heard)
    before = [(at.begin, mode) for stamp, mode in told if stamp < at.begin][-1:]
    lasting = before + [
        (stamp, mode) for stamp, mode in told if at.begin <= stamp < at.over - TICK
    ]
    down = {mode for stamp, mode in told if at.over <= stamp < at.cleared - TICK}
    modes = tuple(mode for mode, _ in groupby(mode for _, mode in lasting))
    first = next((stamp for stamp, mode in lasting if mode in SAFE), None)
    falls = [stamp for stamp, tilt, _ in heard.path if tilt > robot.fall_tilt]
    fell = any(at.begin <= stamp < at.cleared for stamp in falls)
    speed = measure.speed(heard, at.over - measure.WINDOW, at.over)
    on = set(modes) == {'track'} and speed >= WALKED * asked and not fell
    word, worst = measure.news(heard.words, case.teller, at.begin, at.over)
    period = 1.0 / robot.control_rate
    tolerance = measure.STEP + robot.limits.acceleration * period**2 / 8
    published = [
        entry for entry in heard.joints if all(abs(entry[0] - t) > AWAY for t in at.resets)
    ]
    old = measure.stale(published, heard.truth, PERIODS * period, tolerance, period)
    walk = [entry for entry in heard.joints if 0 < at.begin - entry[0] < measure.WINDOW]
    delayed = [(stamp + 3 * period, joints) for stamp, joints in walk]
    seen = measure.stale(delayed, heard.truth, PERIODS * period, tolerance, period)
    outcome = Outcome(
        modes=modes,
        safe=0.0 if on else None if first is None else first - at.begin,
        fell=fell,
        fell_up=any(stamp >= at.cleared for stamp in falls),
        told=word.message if word else '',
        told_after=word.time - at.begin if word else None,
        level=worst,
        beyond=measure.beyond(heard, robot),
        stale=int(old.sum()),
        published=len(old),
        delayed=float(seen.mean()) if len(seen) else 0.0,
        unduly=_unduly(case, heard, at),
        latched=bool(down) and down <= {'crouch', 'relaxed'},
        cleared_twice=at.again > at.cleared,
        again=measure.again(heard, at.again, WALKED * asked),
        troubles=(),
    )
    return replace(outcome, troubles=(*troubles, *_unexpected(case, outcome)))


def _unduly(case: Case, heard: Recording, at: Moments) -> int:
    """Messages that tell what cannot be known any more, where only silence is honest."""
    if not case.silent:
        return 0
    own = case.silent == names.JOINT_STATES
    stamps = [stamp for stamp, _ in heard.joints] if own else heard.watched
    return sum(at.active + case.grace < stamp < at.over for stamp in stamps)


def _unexpected(case: Case, is_: Outcome) -> list[str]:
    """What was not as expected, in words."""
    wanted = case.does.split()
    did = [mode for mode in is_.modes if mode in wanted or mode not in case.may.split()]
    did = [mode for mode, _ in groupby(did)]
    found = []
    if did not in (wanted, case.instead.split() or wanted):
        found.append(f'it did {", ".join(is_.modes) or "nothing"} instead of {", ".join(wanted)}')
    if is_.safe is None or is_.safe > case.within:
        took = 'never' if is_.safe is None else f'after {is_.safe:.2f} s'
        found.append(f'safe {took}, not within {case.within:g} s')
    if is_.fell:
        found.append('it fell')
    if is_.level < case.level:
        found.append(f'{case.teller} told level {is_.level}, not {case.level}')
    elif case.level and case.words not in is_.told:
        found.append(f'{case.teller} did not say {case.words!r}')
    if is_.beyond:
        found.append(f'{is_.beyond} targets or joints beyond their limits')
    if is_.stale:
        found.append(f'{is_.stale} of {is_.published} joint states were stale')
    if is_.unduly:
        found.append(f'{is_.unduly} messages on {case.silent} while nothing could be known')
    if case.latched and not is_.latched:
        found.append('it did not stay down until it was cleared')
    if case.stays and is_.again is not None:
        found.append('it walked again, though its cause was still there')
    elif not case.stays and is_.again is None:
        found.append('it did not walk again')
    return found
