"""`lebot prefer`: which of two recorded pieces of walking is better, asked or worked out."""

import argparse
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.learning.offline.answers import (
    DECIDED,
    Answer,
    append_answers,
    read_answers,
)
from lebot_rl_ros.learning.offline.comparing import (
    JUDGES,
    LIKE,
    better,
    draw_like,
    scores,
)
from lebot_rl_ros.learning.offline.segments import Pieces, cut
from lebot_rl_ros.robot import load_robot

if TYPE_CHECKING:
    from lebot_rl_ros.cli.prefer_ask import Ask

    Draw = Callable[[int, Array, Array], Future[Path]]  # number and two segments
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

SECONDS = {'person': 2.0, 'score': 0.4}  # of a segment: a person needs some, a score one stride
PAIRS = {'person': 100, 'score': 5000}
WORDS = {'left': 'first', 'right': 'second', 'equal': 'equal', 'skip': 'skip'}


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'prefer',
        help='say which of two recorded pieces of walking is better',
        description='Show pairs of clips from bags, ask which is better, and keep the answers for '
        '`lebot train offline --method dpo`. Every answer is kept at once; the same command goes '
        'on where it was left.',
    )
    add = parser.add_argument
    add('bags', nargs='+', type=Path, metavar='BAG', help='to show')
    add('--out', type=Path, required=True, metavar='FILE', help='of the answers, JSON lines')
    add(
        '--auto', '--by', dest='judge', metavar='JUDGE',
        help=f'nobody is asked: {", ".join(JUDGES)} of the recorded reward decides',
    )  # fmt: skip
    add(
        '--seconds', type=float,
        help=f'of a segment (default: {SECONDS["person"]:g}; with --auto {SECONDS["score"]:g}, '
        f'a stride, as many short ones say more than few long ones)',
    )  # fmt: skip
    add(
        '--pairs', type=int,
        help=f'in all (default: {PAIRS["person"]}; with --auto {PAIRS["score"]})',
    )  # fmt: skip
    add(
        '--margin', type=float, default=0.1,
        help='with --auto: standard deviations of the score that are still a tie, and left out '
        '(default: %(default)s)',
    )  # fmt: skip
    add(
        '--like', nargs=2, type=float, default=LIKE, metavar=('M/S', 'RAD/S'),
        help='that the commands of a pair may differ by (default: %(default)s)',
    )  # fmt: skip
    add('--page', action='store_true', help='ask on a page of this machine, not in the terminal')
    add('--port', type=int, default=0, help='of the page (default: a free one)')
    add('--clips', type=Path, metavar='DIR', help='where clips go (default: beside FILE)')
    add('--seed', type=int, default=0, help='of which pairs (default: %(default)s)')
    add('--namespace', default='', help='of the robot, where a bag has several')
    add('--robot', default='lebot', help='name or YAML table (default: %(default)s)')
    add('--quiet', action='store_true', help='print nothing')


def run(args: argparse.Namespace) -> int:
    """Ask or judge; returns the exit status.

    Raises:
        ValueError: a bag, a judge or the file of answers cannot be used, or nothing can be
            compared.
    """
    from lebot_rl_ros.data.bag.transitions import read_transitions  # late: needs the extra record

    console = Console(quiet=args.quiet)
    kind, robot = 'score' if args.judge else 'person', load_robot(args.robot)
    count = PAIRS[kind] if args.pairs is None else args.pairs
    seconds = SECONDS[kind] if args.seconds is None else args.seconds
    if count < 1 or not seconds > 0.0:
        raise ValueError(f'--pairs is {count} and --seconds {seconds:g}, must be positive')
    known = read_answers(args.out) if args.out.exists() else []
    with console.status('reading the bags'):
        found = read_transitions([str(path) for path in args.bags], namespace=args.namespace)
    pieces = cut(found, max(1, round(seconds * robot.control_rate)))
    console.print(
        f'{len(pieces)} segments of {seconds:g} s in {len(found)} bags, {int(pieces.fell.sum())} '
        f'of them end in a fall; {len(known)} answers are known'
    )
    rng = np.random.default_rng(args.seed)
    if args.judge:
        made = judge(pieces, args.judge, count, rng, margin=args.margin, like=tuple(args.like))
        asked = {one.pair for one in known}
        new = [one for one in made if one.pair not in asked]
        append_answers(args.out, new)
        console.print(
            f'{args.judge} decides {len(made)} pairs, {len(new)} of them new: {args.out}'
        )
        return 0
    pairs = draw_like(pieces, count, rng, tolerance=tuple(args.like))
    from lebot_rl_ros.cli.prefer_ask import Page, Terminal  # late: scores need no simulator
    from lebot_rl_ros.cli.prefer_clips import Studio

    width = pieces.recordings[0].dtype['observation'].shape[0]
    folder = args.clips or args.out.with_name(f'{args.out.name}.clips')
    studio = Studio(robot, width, folder)
    try:
        ask: Ask = Page(args.port, console) if args.page else Terminal()
        try:
            told = converse(pieces, pairs, known, studio.draw, ask, args.out)
        finally:
            ask.close()
    finally:
        studio.close()
    console.print(
        f'{", ".join(f"{n} {word}" for word, n in told.items()) or "no answers"}; {args.out}'
    )
    return 0


def judge(
    pieces: Pieces,
    by: str,
    count: int,
    rng: np.random.Generator,
    *,
    margin: float = 0.1,
    like: tuple[float, float] = LIKE,
) -> list[Answer]:
    """Let a score answer; pairs that are a tie are left out.

    Raises:
        ValueError: no such judge, nothing to compare, or all pairs are a tie.
    """
    values = scores(pieces, by)
    fell = pieces.fell if by == 'falls' else None
    if fell is not None and not fell.any():
        raise ValueError(f'none of {len(pieces)} segments ends in a fall: falls decide nothing')
    pairs = draw_like(
        pieces, count, rng, tolerance=like,
        among=fell, against=None if fell is None else ~fell,
    )  # fmt: skip
    labels = better(values, pairs, margin)
    words = {value: word for word, value in DECIDED.items()}
    made = [
        answer(pieces, pair, words[float(preferred)], by)
        for pair, preferred in zip(pairs, labels, strict=True)
        if float(preferred) in words
    ]
    if not made:
        raise ValueError(f'{by} decides none of {len(pairs)} pairs: all are ties')
    return made


def converse(
    pieces: Pieces,
    pairs: Array,
    known: list[Answer],
    draw: 'Draw',
    ask: 'Ask',
    out: Path,
) -> Counter[str]:
    """Ask about every pair that nobody was asked about, until all are answered or it is enough.

    Each answer is on the disk before the next question, and the next clip is drawn meanwhile.

    Returns:
        How often each answer was given.
    """
    asked, told = {one.pair for one in known}, Counter[str]()
    left = [
        (number, pair)
        for number, pair in enumerate(pairs, start=1)
        if frozenset(pieces.piece(int(row)) for row in pair) not in asked
    ]
    clips = [draw(number, *(pieces.rows(int(row)) for row in pair)) for number, pair in left[:1]]
    for place, (number, pair) in enumerate(left):
        clips += [
            draw(later, *(pieces.rows(int(row)) for row in rows))
            for later, rows in left[place + 1 : place + 2]
        ]
        word = ask(number, len(pairs), clips[place].result())
        if word == 'quit':
            break
        append_answers(out, [answer(pieces, pair, WORDS[word], 'person')])
        told[word] += 1
    return told


def answer(pieces: Pieces, pair: Array, word: str, by: str) -> Answer:
    """What a file keeps of an answer."""
    first, second = (int(row) for row in pair)
    base = pieces.rows(first)['base_sha256'][0].tobytes().hex()
    now = datetime.now(timezone.utc).isoformat(timespec='seconds')
    return Answer(pieces.piece(first), pieces.piece(second), word, by, base, now)
