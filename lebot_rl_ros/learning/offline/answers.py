"""Answers about pairs of recorded segments on disk: JSON lines, one answer each.

A line stands for itself and names its steps by the hash of their bag and their stamps, so answers
outlive the session that they were given in, and files are pooled by putting one behind another.
An answer is on the disk before the next pair is shown.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.learning.offline.segments import Piece, Pieces, joined, padded
from lebot_rl_ros.learning.preferences import Preferences

KIND = 'lebot preference 1'
DECIDED = {'first': 1.0, 'second': 0.0}
ANSWERS = (*DECIDED, 'equal', 'skip')  # what is not decided is kept, so that nobody is asked again


@dataclass(frozen=True)
class Answer:
    """Which of two segments is better, and who said so."""

    first: Piece
    second: Piece
    answer: str  # of ANSWERS
    by: str  # person, or the score that judged
    base: str = ''  # sha256 of the base that walked there
    time: str = ''  # ISO 8601, UTC

    @property
    def pair(self) -> frozenset[Piece]:
        """The two, in no order: whoever was asked this need not be asked again."""
        return frozenset((self.first, self.second))


@dataclass(frozen=True)
class Labelled:
    """Preferences between recorded segments, with what DPO needs beside them."""

    preferences: Preferences
    std: npt.NDArray[np.float32]  # (S, L, J) spread of the actions when recorded; 1 in padding
    left_out: int  # answers that decide nothing


def append_answers(path: str | Path, answers: Iterable[Answer]) -> None:
    """Write answers behind those of a file, which is made with its folders; then they are safe.

    A line that was cut short by a crash is mended: what is not whole is no answer.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ''.join(json.dumps({'kind': KIND, **asdict(one)}) + '\n' for one in answers)
    with path.open('ab+') as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        whole = file.read().rfind(b'\n') + 1
        if whole != end:
            file.truncate(whole)
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def read_answers(path: str | Path) -> list[Answer]:
    """Read a file of answers, in the order in which they were given.

    Raises:
        ValueError: it cannot be read, or a line is no answer; the message has its number. A last
            line that is not whole is left out.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}') from error
    whole = content[: content.rfind(b'\n') + 1]
    return [
        _answer(line, f'{path}, line {number}')
        for number, line in enumerate(whole.split(b'\n'), start=1)
        if line.strip()
    ]


def resolve(answers: Sequence[Answer], pieces: Pieces, base_sha256: str = '') -> Labelled:
    """Find the steps that answers are about; only answers that decide are learned from.

    Args:
        answers: of any files.
        pieces: any segments of the recordings; those of the answers may be others.
        base_sha256: of the base that is trained; '' takes all.

    Raises:
        ValueError: answers are about recordings that were not given, about steps that are not
            there, or about another base; or none decides.
    """
    decided = [one for one in answers if one.answer in DECIDED]
    if not decided:
        raise ValueError(f'none of {len(answers)} answers decides which segment is better')
    for one in decided:
        if base_sha256 and one.base and one.base != base_sha256:
            raise ValueError(
                f'preferences are about walks of the base {one.base[:12]}, this one is '
                f'{base_sha256[:12]}'
            )
    wanted = list(dict.fromkeys(piece for one in decided for piece in (one.first, one.second)))
    missing = {piece.bag: piece.name for piece in wanted if piece.bag not in pieces.hashes}
    if missing:
        named = ', '.join(f'{name or "bag"} ({sha256[:12]})' for sha256, name in missing.items())
        given = ', '.join(
            f'{name} ({sha256[:12]})'
            for name, sha256 in zip(pieces.names, pieces.hashes, strict=True)
        )
        raise ValueError(
            f'preferences are about bags that were not given: {named}; given: {given}'
        )
    place = {piece: row for row, piece in enumerate(wanted)}
    segments, std = padded(joined([pieces.find(piece) for piece in wanted]))
    pairs = np.array([(place[one.first], place[one.second]) for one in decided], dtype=np.int64)
    preferred = np.array([DECIDED[one.answer] for one in decided], dtype=np.float32)
    return Labelled(Preferences(segments, pairs, preferred), std, len(answers) - len(decided))


def _answer(line: bytes, where: str) -> Answer:
    try:
        found: dict[str, Any] = json.loads(line)
        if found.pop('kind') != KIND:
            raise ValueError('of another kind')
        for which in ('first', 'second'):
            found[which] = Piece(**found[which])
        made = Answer(**found)
        good = made.answer in ANSWERS and all(
            isinstance(piece.bag, str)
            and isinstance(piece.stamp, int)
            and isinstance(piece.steps, int)
            and piece.steps > 0
            for piece in (made.first, made.second)
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f'{where} is no answer of `lebot prefer` ({error})') from error
    if not good or made.first == made.second:
        raise ValueError(
            f'{where}: the answer is {made.answer!r} between {made.first} and {made.second}; '
            f'choices are {", ".join(ANSWERS)}, between two different segments'
        )
    return made
