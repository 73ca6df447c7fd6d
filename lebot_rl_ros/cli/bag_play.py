"""`lebot bag play`: a bag onto DDS again, or to a policy under test."""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from lebot_rl_ros.cli.bag_edit import add_stretch, add_topics
from lebot_rl_ros.control.recorded_robot import recorded_robot, recorded_walk
from lebot_rl_ros.control.recorded_weights import beside
from lebot_rl_ros.data.bag.editing import latched_before, plain, stretch
from lebot_rl_ros.data.bag.feeding import SECOND, Roles, ticks
from lebot_rl_ros.data.bag.playing import Lateness, parse_remaps, remapped
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.selection import choose_topics
from lebot_rl_ros.data.bag.types import Message
from lebot_rl_ros.ros import names
from lebot_rl_ros.ros.player import Player, Playing, Progress
from lebot_rl_ros.ros.player_topics import PlayError, playable
from lebot_rl_ros.ros.policy_feeding import Fed, PolicyFeed

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

RECORDS = (names.STEPS, names.REWARDS)  # their rows have stamps of their own


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'play',
        help='publish it again, at any rate, under other names',
        description='Publishes the messages as they were recorded, on this machine only unless '
        'ROS_AUTOMATIC_DISCOVERY_RANGE says more. What could move a robot is refused where a '
        'driver is.',
    )
    parser.add_argument('path', type=Path, metavar='PATH')
    parser.add_argument(
        '--rate', type=float, default=1.0, help='speed; with --feed 0 is as fast as it goes'
    )
    parser.add_argument('--loop', action='store_true', help='again and again')
    add_stretch(parser)
    add_topics(parser)
    parser.add_argument(
        '--remap',
        nargs='+',
        default=[],
        metavar='/OLD:=/NEW',
        help='topics under other names; /old/:=/new/ moves a namespace',
    )
    parser.add_argument(
        '--clock', type=float, default=0.0, metavar='HZ', help='publish /clock: log time'
    )
    parser.add_argument(
        '--wait-for', nargs='+', default=[], metavar='TOPIC', help='until somebody listens to it'
    )
    parser.add_argument(
        '--patience', type=float, default=30.0, metavar='S', help='to wait (default: %(default)s)'
    )
    parser.add_argument(
        '--restamp',
        action='store_true',
        help='move stamps of headers to now, all by the same cycles of the gait',
    )
    parser.add_argument(
        '--feed',
        choices=('policy',),
        help='play only what a policy is given, each tick when the last one is answered, and '
        'compare its commands with those recorded',
    )
    parser.add_argument('--namespace', default='', help='of the robot, if the bag has several')
    parser.add_argument('--force', action='store_true', help='play to a robot that is driven')


def run(args: argparse.Namespace) -> int:
    """Play; returns the exit status.

    Raises:
        ValueError: the bag or an argument cannot be used, or a robot would hear it.
    """
    if args.rate < 0.0 or (args.rate == 0.0 and not args.feed):
        raise ValueError(f'--rate is {args.rate:g}, must be positive')
    if args.clock < 0.0:
        raise ValueError(f'--clock is {args.clock:g} Hz, must not be negative')
    with Bag(args.path) as bag:
        first, last = stretch(bag, args.start, args.end)
        return _feed(bag, args, first, last) if args.feed else _play(bag, args, first, last)


def _play(bag: Bag, args: argparse.Namespace, first: int, last: int) -> int:
    chosen = choose_topics(bag.topics, args.topics, args.exclude)
    topics, unknown = playable({name: plain(bag.topics[name]) for name in chosen})
    if unknown:
        print(f'lebot bag play: types not installed here: {", ".join(unknown)}', file=sys.stderr)
    chosen = [topic.name for topic in topics]
    names_of = partial(remapped, remaps=parse_remaps(args.remap))
    if args.clock and names.CLOCK in map(names_of, chosen):
        raise PlayError(
            f'the bag has its own {names.CLOCK}: leave out --clock, or give '
            f'--exclude {names.CLOCK}'
        )
    if args.restamp:
        records = [name for name in chosen if name.endswith(RECORDS)]
        if records:
            raise PlayError(
                f'{", ".join(records)}: rows have stamps of their own, which --restamp does not '
                'move; leave them out with --exclude'
            )
    waited = choose_topics(chosen, args.wait_for) if args.wait_for else []
    lateness, rounds = Lateness(), 0
    with Player(topics, names_of) as player:
        if not args.force:
            player.refuse_drivers()
        player.offer()
        player.wait_for(waited, args.patience)
        playing = Playing(args.rate, args.clock, _moved_by(bag, args), _teller(first, last, bag))
        try:
            while args.loop or not rounds:
                player.play(_messages(bag, chosen, first, last), first, playing, lateness)
                rounds += 1
        finally:
            _end_line()
            print(f'{bag.path}: {lateness.count} messages played, {_late(lateness)}')
    return 0


def _feed(bag: Bag, args: argparse.Namespace, first: int, last: int) -> int:
    if args.loop or args.clock or args.topics or args.exclude or args.wait_for:
        raise PlayError(
            '--feed plays the inputs of a policy, once: it has no --loop, --clock, --topics, '
            '--exclude, --wait-for'
        )
    state = beside(bag, args.namespace, names.JOINT_COMMANDS_APPLIED)[0]
    prefix = state.removesuffix(names.JOINT_COMMANDS_APPLIED)
    state, imu, applied = beside(
        bag, prefix, names.JOINT_STATES, names.IMU, names.JOINT_COMMANDS_APPLIED
    )
    wish, command = (
        name if name in bag.topics else ''
        for name in (prefix + names.CMD_VEL, prefix + names.JOINT_COMMANDS)
    )
    roles = Roles(state, imu, applied, wish, command)
    inputs = [name for name in (state, imu, applied, wish) if name]
    names_of = partial(remapped, remaps=parse_remaps(args.remap))
    lateness = Lateness()
    with Player([plain(bag.topics[name]) for name in inputs], names_of) as player:
        if not args.force:
            player.refuse_drivers()
        player.offer()

        def next_wish(log_time: int) -> Message | None:
            return next(bag.messages([wish], log_time), None)

        feed = PolicyFeed(player, roles, bag.decode, next_wish)
        feed.meet(args.patience)
        playing = Playing(args.rate, 0.0, _moved_by(bag, args), _teller(first, last, bag))
        before = bag.messages([name for name in inputs if name != state], first - SECOND, first)
        known = {message.topic: message for message in before}  # who begins later needs these
        heard = [*inputs, command] if command else inputs
        messages = chain(known.values(), bag.messages(heard, first, last))
        fed = feed.run(ticks(messages, roles), playing, lateness)
    _end_line()
    print(_judged(fed))
    if lateness.count:
        print(_late(lateness))
    return 1 if fed.silent else 0


def _moved_by(bag: Bag, args: argparse.Namespace) -> int:
    """Multiple (ns) by which stamps are moved: whole cycles of the gait; 0 where they are not."""
    if not args.restamp:
        return 0
    try:
        walk, _ = recorded_walk(recorded_robot(bag.metadata), bag.metadata)
    except (ValueError, OSError):  # its policy is not here
        return SECOND
    return round(SECOND / walk.gait.frequency)


def _messages(bag: Bag, chosen: list[str], first: int, last: int) -> Iterator[Message]:
    """What was latched before comes first, as who joins then would hear it."""
    return chain(latched_before(bag, first, chosen), bag.messages(chosen, first, last))


def _teller(first: int, last: int, bag: Bag) -> Callable[[Progress], None]:
    whole = (min(last, bag.end) - first) / SECOND

    def tell(progress: Progress) -> None:
        if sys.stderr.isatty():
            at = min((progress.log_time - first) / SECOND, whole)
            text = f'\r{at:.1f} of {whole:.1f} s, {_late(progress.lateness)}  '
            print(text, end='', file=sys.stderr, flush=True)

    return tell


def _end_line() -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _late(lateness: Lateness) -> str:
    half, most = (1e3 * late for late in lateness.quantiles(50, 99))
    return f'late by {half:.2f} ms (p50), {most:.2f} ms (p99)'


def _judged(fed: Fed) -> str:
    text = f'{fed.ticks - len(fed.silent)} of {fed.ticks} states answered'
    if fed.silent:
        text += f' (not that of stamp {fed.silent[0] / SECOND:.3f} s)'
    if not fed.compared:
        return f'{text}; no commands were recorded that could be compared'
    text += f'; {fed.equal} of {fed.compared} commands equal those recorded, bit for bit'
    if fed.equal < fed.compared:
        text += f'; the last {fed.tail} do; the largest difference is {fed.largest:.3g} rad'
    return text
