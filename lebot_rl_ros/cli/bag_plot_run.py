"""What pictures of a bag need, all of it on one axis of time: seconds since it began."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.cli.bag_plot_series import Columns, collect
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.records import Records
from lebot_rl_ros.data.bag.scan import Piece, messages_of, scan
from lebot_rl_ros.data.bag.types import BagError, Message
from lebot_rl_ros.ros import names
from lebot_rl_ros.safety.modes import Mode

Numbers = npt.NDArray[Any]

# Of the first of these that is there the stamps are the time of all pictures.
CLOCKS = (names.JOINT_STATES, names.IMU, names.JOINT_COMMANDS_APPLIED, names.JOINT_COMMANDS)
SLACK = 10.0  # s outside of those stamps, from which on others belong to another clock
SERVO = ('temperature', 'voltage')  # deg C, V
NO_NUMBERS: Numbers = np.zeros(0)


@dataclass(frozen=True)
class Clock:
    """From the two clocks of a bag to seconds since it began."""

    log: Numbers  # (N,) ns, ascending
    robot: Numbers  # (N,) ns, stamps of the same messages; empty: log time is all there is

    @property
    def label(self) -> str:
        """Of the axis."""
        return 'robot time, s' if len(self.robot) else 'time, s'

    def seconds(self, log: Numbers, stamps: Numbers) -> Numbers:
        """Seconds of messages by their stamps; by log time where those are of another clock."""
        start = self.log[0] if len(self.log) else log[0] if len(log) else 0
        if not len(self.robot):
            return np.asarray((log - start) / 1e9)
        begin, end = self.robot[0] - SLACK * 1e9, self.robot[-1] + SLACK * 1e9
        if len(stamps) == len(log) and len(log) and ((stamps > begin) & (stamps < end)).all():
            return np.asarray((stamps - self.robot[0]) / 1e9)
        at = np.interp(log - self.log[0], self.log - self.log[0], self.robot - self.robot[0])
        return np.asarray(at / 1e9)


@dataclass
class Run:
    """A bag for pictures; what it does not have is missing from the mappings, or empty."""

    clock: Clock
    columns: dict[str, Columns]  # by the relative names of topics
    times: dict[str, Numbers]  # s, of the same messages
    steps: Numbers = field(default_factory=lambda: NO_NUMBERS)  # rows of policy/steps
    rewards: Numbers = field(default_factory=lambda: NO_NUMBERS)  # rows of reward/rewards
    step_times: Numbers = field(default_factory=lambda: NO_NUMBERS)
    reward_times: Numbers = field(default_factory=lambda: NO_NUMBERS)
    servo_times: Numbers = field(default_factory=lambda: NO_NUMBERS)
    servo: dict[str, Numbers] = field(default_factory=dict)  # (N, J) each, names of SERVO
    adapters: list[tuple[float, str]] = field(default_factory=list)  # s, label
    arrivals: dict[str, Numbers] = field(default_factory=dict)  # log seconds of every topic
    duration: float = 0.0  # log seconds

    @property
    def falls(self) -> Numbers:
        """Seconds of the steps that ended in a fall."""
        if not len(self.rewards):
            return NO_NUMBERS
        return np.asarray(self.reward_times[self.rewards['terminated'] != 0])

    @property
    def terms(self) -> list[str]:
        """Of the reward."""
        known = ('sec', 'nanosec', 'reward', 'terminated', 'truncated')
        return [name for name in self.rewards.dtype.names or () if name not in known]

    @property
    def modes(self) -> list[tuple[float, float, str]]:
        """Stretches of one mode of the driver: from, to (s), name."""
        applied = self.columns.get(names.JOINT_COMMANDS_APPLIED)
        if applied is not None and any(applied.frames):
            codes, times = applied.frame, self.times[names.JOINT_COMMANDS_APPLIED]
            words = applied.frames
        elif len(self.steps):
            codes, times = self.steps['mode'], self.step_times
            words = [mode.name for mode in Mode]
        else:
            return []
        edges = [0, *(np.flatnonzero(np.diff(codes.astype(int))) + 1).tolist(), len(codes)]
        return [
            (float(times[a]), float(times[min(b, len(times) - 1)]), _word(words, int(codes[a])))
            for a, b in pairwise(edges)
        ]


def load(bag: Bag, namespace: str = '') -> Run:
    """Read what pictures show.

    Args:
        bag: to read.
        namespace: of the robot, where the bag has several.

    Raises:
        BagError: several robots and no namespace, or a message is not of its type.
    """
    prefix = prefix_of(bag, namespace)
    relative = {name: name.removeprefix(f'{prefix}/') for name in bag.topics
                if name.startswith(f'{prefix}/')}  # fmt: skip
    types = {name: bag.topics[name].type for name in relative}
    arrivals: dict[str, list[Numbers]] = {name: [] for name in bag.topics}
    adapter = f'{prefix}/{names.ACTIVE_ADAPTER}'
    told: dict[str, list[Message]] = {names.DIAGNOSTICS: [], adapter: []}

    def noting() -> Iterator[Piece]:
        for piece in scan(bag.files, damaged=lambda error: None):
            arrivals[piece.topic].append(piece.log)
            if piece.topic in told:
                told[piece.topic] += messages_of(piece)
            yield piece

    try:
        found = collect(noting(), types)
    except ValueError as error:
        raise BagError(f'{bag.path}: {error}') from error
    columns = {relative[name]: value for name, value in found.items()}
    clock = clock_of(columns, bag.start)
    run = Run(
        clock,
        columns,
        {name: clock.seconds(value.log, value.stamps) for name, value in columns.items()},
        arrivals={
            name: np.sort((np.concatenate(parts) - bag.start) / 1e9)
            for name, parts in arrivals.items()
            if parts
        },
        duration=(bag.end - bag.start) / 1e9,
    )
    _add_rows(run, bag, prefix)
    _add_servos(run, bag, prefix, told[names.DIAGNOSTICS])
    _add_adapters(run, bag, told[adapter])
    return run


def prefix_of(bag: Bag, namespace: str) -> str:
    """The namespace of the robot in a bag: '' or as in '/lebot1'.

    Raises:
        BagError: there are several; the message names them.
    """
    spaces = sorted({
        name.removesuffix(f'/{key}')
        for name in bag.topics
        for key in (*CLOCKS, names.STEPS)
        if name.endswith(f'/{key}') and not name.endswith(f'/{names.TRUE_JOINTS}')
    })  # fmt: skip
    if namespace:
        wanted = f'/{namespace.strip("/")}'.rstrip('/')
        if wanted not in spaces:
            there = ', '.join(space or '/' for space in spaces) or 'none'
            raise BagError(f'{bag.path} has no robot under {namespace!r}; it has {there}')
        return wanted
    if len(spaces) > 1:
        there = ', '.join(space or '/' for space in spaces)
        raise BagError(f'{bag.path} has several robots: {there}; say --namespace')
    return spaces[0] if spaces else ''


def clock_of(columns: dict[str, Columns], start: int) -> Clock:
    """Robot time if it goes forward all the time, else log time."""
    for name in CLOCKS:
        found = columns.get(name)
        if found is not None and found.stamps.any():
            if (np.diff(found.stamps) < 0).any():
                break
            return Clock(found.log, found.stamps)
    return Clock(np.array([start], np.int64), np.zeros(0, np.int64))


def _add_rows(run: Run, bag: Bag, prefix: str) -> None:
    """Steps and rewards; without those that cannot be read: `lebot bag check` says why."""
    keys = {f'{prefix}/{names.STEPS}': 'step', f'{prefix}/{names.REWARDS}': 'reward'}
    there = [topic for topic in keys if topic in bag.topics and bag.topics[topic].count]
    found: dict[str, Records] = {}
    try:
        found = dict(zip(there, bag.records(there), strict=True))
    except BagError:
        for topic in there:
            with suppress(BagError):
                found[topic] = bag.records([topic])[0]
    for topic, records in found.items():
        rows: Any = records.rows
        stamps = rows['sec'].astype(np.int64) * 1_000_000_000 + rows['nanosec']
        setattr(run, f'{keys[topic]}s', rows)
        setattr(run, f'{keys[topic]}_times', run.clock.seconds(records.log_times, stamps))


def _add_servos(run: Run, bag: Bag, prefix: str, messages: Sequence[Message]) -> None:
    """Heat and voltage, out of what the driver says of its health once a second."""
    times: list[int] = []
    values: dict[str, list[list[float]]] = {name: [] for name in SERVO}
    for message in messages:
        if b'temperature' not in message.data:
            continue
        try:
            states = bag.decode(message).status
        except BagError:  # without a definition
            return
        for status in states:
            if not status.name.startswith(f'{prefix}/'):
                continue
            pairs = {pair.key: pair.value for pair in status.values}
            try:
                rows = {name: [float(v) for v in json.loads(pairs[name])] for name in SERVO}
            except (KeyError, ValueError, TypeError):
                continue
            times.append(message.log_time)
            for name, row in rows.items():
                values[name].append(row)
    widths = {len(row) for rows in values.values() for row in rows}
    if times and len(widths) == 1:
        log = np.array(times, np.int64)
        run.servo_times = run.clock.seconds(log, NO_NUMBERS)
        run.servo = {name: np.array(rows) for name, rows in values.items() if rows}


def _add_adapters(run: Run, bag: Bag, messages: Sequence[Message]) -> None:
    for message in messages:
        try:
            active = json.loads(bag.decode(message).data)
            label = str(active['label']) or 'the base alone'
        except (ValueError, KeyError, TypeError):  # BagError is a ValueError
            continue
        if run.adapters and run.adapters[-1][1] == label:
            continue  # said again, as at a split
        at = run.clock.seconds(np.array([message.log_time]), NO_NUMBERS)[0]
        run.adapters.append((float(at), label))


def _word(words: Sequence[str], code: int) -> str:
    return words[code] if 0 <= code < len(words) else str(code)
