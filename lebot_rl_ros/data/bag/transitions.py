"""Bags to transitions: by the joiner of the live learner, kept beside the bag, many at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.bag import kept
from lebot_rl_ros.data.bag.files import find_files, usable_cores
from lebot_rl_ros.data.bag.joined import Question
from lebot_rl_ros.data.bag.kept import Found
from lebot_rl_ros.data.bag.types import BagError
from lebot_rl_ros.data.rows import transition_dtype
from lebot_rl_ros.robot import Robot

PERIOD = 20_000_000  # ns, of a control step where the bag does not say

WORTH = 1 << 25  # octets of bags that take a process longer to read than to start

Progress = Callable[[int, int, Path], None]  # done, of so many, and which one


@dataclass(frozen=True)
class Recorded:
    """One bag's transitions."""

    path: Path
    sha256: str  # of the bag's files
    rows: npt.NDArray[np.void] = field(repr=False)  # (N,) of `transition_dtype`, read-only
    terms: tuple[str, ...]  # of the reward, in the order of the rows' fields
    counts: Mapping[str, int]  # the joiner's
    metadata: Mapping[str, str]  # of the run


def read_transitions(
    paths: str | Path | Iterable[str | Path],
    *,
    namespace: str = '',
    cache: bool = True,
    workers: int = 0,
    progress: Progress | None = None,
    base_sha256: str = '',
    terms: Sequence[str] | None = None,
    robot: Robot | None = None,
    observation: int = 0,
    period: int = PERIOD,
) -> list[Recorded]:
    """Transitions of bags, equal bit for bit to what a live learner joins from their messages.

    Args:
        paths: bags: folders, or .mcap files.
        namespace: that `policy/steps` and `reward/rewards` lie in, if a bag has several.
        cache: keep the rows beside each bag and map them into memory the next time; without it
            the disk is only read.
        workers: processes that read bags at once; 0: as many as there are cores, or fewer where
            there is less to read than it takes to start them.
        progress: called after each bag.
        base_sha256: of the base whose steps are wanted; others are left out. '' takes the steps
            of whatever base, if it is one.
        terms: of the reward that are wanted, in this order; None: as the bags have them.
        robot: that the bags must be of.
        observation: numbers in an observation that the bags must have; 0: any.
        period: ns of a control step, where a bag does not bring its robot.

    Raises:
        BagError: a bag cannot be used; the message has the path of each such bag.
    """
    bags = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    question = Question(namespace, base_sha256.lower(), period)
    found = _read_all(bags, question, cache, workers, progress)
    for path, (_, about) in zip(bags, found, strict=True):
        _check(path, about, robot, observation)
    _check_together(bags, [about for _, about in found], base_sha256)
    return [
        _recorded(path, rows, about, terms)
        for path, (rows, about) in zip(bags, found, strict=True)
    ]


def _read_all(
    bags: Sequence[Path],
    question: Question,
    cache: bool,
    workers: int,
    progress: Progress | None,
) -> list[Found]:
    found: dict[int, Found] = {}
    failed: dict[int, str] = {}

    def note(number: int) -> None:
        if progress is not None:
            progress(len(found) + len(failed), len(bags), bags[number])

    for i, path in enumerate(bags):
        old = _cached(path, question, failed, i) if cache else None
        if old is not None:
            found[i] = old
        if i in found or i in failed:
            note(i)
    missing = [i for i in range(len(bags)) if i not in found and i not in failed]
    workers = min(workers or _enough([bags[i] for i in missing]), len(missing))
    if workers <= 1:
        for i in missing:
            try:
                found[i] = kept.make(bags[i], question, cache)
            except BagError as error:
                failed[i] = str(error)
            note(i)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context('spawn')) as pool:
            jobs = {pool.submit(kept.make_apart, bags[i], question, cache): i for i in missing}
            for job in as_completed(jobs):
                i = jobs[job]
                try:
                    made = job.result() or _cached(bags[i], question, failed, i)
                    found[i] = made or kept.make(bags[i], question, cache)
                except ImportError:
                    raise
                except BagError as error:
                    failed[i] = str(error)
                except Exception as error:  # of that process, as when memory has run out
                    failed[i] = f'{bags[i]} cannot be read: {error!r}'
                note(i)
    if failed:
        raise BagError('\n'.join(failed[i] for i in sorted(failed)))
    return [found[i] for i in range(len(bags))]


def _enough(bags: Sequence[Path]) -> int:
    """Processes that are worth their start."""
    octets = 0
    for bag in bags:
        with suppress(BagError, OSError):  # whoever reads it will say what is wrong
            octets += sum(file.stat().st_size for file in find_files(bag).paths)
    return min(usable_cores(), 1 + octets // WORTH)


def _cached(path: Path, question: Question, failed: dict[int, str], number: int) -> Found | None:
    try:
        return kept.load(path, question)
    except BagError as error:
        failed[number] = str(error)
        return None


def _check(path: Path, about: Mapping[str, Any], robot: Robot | None, observation: int) -> None:
    """Refuse a bag of another robot."""
    if robot is not None:
        theirs, ours = about['robot'], robot.name
        if theirs and theirs != ours:
            raise BagError(f'{path} is a bag of the robot {theirs}, expected one of {ours}')
        joints = len(robot.joints)
        if about['widths'][1] != joints:
            raise BagError(
                f'{path} is a bag of a robot with {about["widths"][1]} joints, {ours} has {joints}'
            )
        names = about['joint_names']
        if names and tuple(names) != robot.joint_names:
            raise BagError(
                f'{path} has the joints {", ".join(names)}; {ours} has '
                f'{", ".join(robot.joint_names)}, and rows do not say which is which'
            )
    if observation and about['widths'][0] != observation:
        raise BagError(
            f'{path} has observations of {about["widths"][0]} numbers, expected {observation}'
        )


def _check_together(bags: Sequence[Path], abouts: Sequence[Mapping[str, Any]], base: str) -> None:
    """Refuse bags that cannot be learned from as one."""
    for path, about in zip(bags[1:], abouts[1:], strict=True):
        for name, what in (('widths', 'numbers in observation and action'), ('bases', 'base')):
            first, other = abouts[0][name], about[name]
            if first == other or (name == 'bases' and base):
                continue
            shown = [', '.join(map(str, value)) for value in (first, other)]
            advice = '; give base_sha256 of the one that is wanted' if name == 'bases' else ''
            raise BagError(f'{bags[0]} has {what} {shown[0]}, {path} has {shown[1]}{advice}')


def _recorded(
    path: Path,
    rows: npt.NDArray[np.void],
    about: Mapping[str, Any],
    terms: Sequence[str] | None,
) -> Recorded:
    theirs = tuple(about['terms'])
    rows.flags.writeable = False  # those of another process come as a copy
    recorded = Recorded(path, about['sha256'], rows, theirs, about['counts'], about['metadata'])
    if terms is None or tuple(terms) == theirs:
        return recorded
    missing = [name for name in terms if name not in theirs]
    if missing:
        raise BagError(
            f'{path} has no reward term {", ".join(missing)}; it has {", ".join(theirs) or "none"}'
        )
    observation, joints = about['widths']
    picked = np.zeros(len(rows), transition_dtype(observation, joints, terms))
    for name in picked.dtype.names or ():
        picked[name] = rows[name]
    picked.flags.writeable = False
    return replace(recorded, rows=picked, terms=tuple(terms))
