"""Everything that is checked about a bag, put together: `lebot bag check` and its page show it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lebot_rl_ros.cli.bag_check_tracks import Track, observe, seconds_at
from lebot_rl_ros.data.bag.checking import (
    FEWEST,
    NO_TIMES,
    Answers,
    answers,
    latency,
    timing,
)
from lebot_rl_ros.data.bag.findings import (
    Finding,
    TopicReport,
    judge_answers,
    judge_counts,
    judge_files,
    judge_joins,
    judge_recorder,
    judge_topic,
)
from lebot_rl_ros.data.bag.integrity import FileState, definition_hash, inspect
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.scan import messages_of, scan
from lebot_rl_ros.data.bag.transitions import read_transitions
from lebot_rl_ros.data.bag.types import BagError, Message, Topic

# Sent when something happens, or by many nodes on one topic: they have no rate to keep.
EVENTS = frozenset({
    'diagnostic_msgs/msg/DiagnosticArray', 'std_msgs/msg/String', 'tf2_msgs/msg/TFMessage',
    'rcl_interfaces/msg/Log', 'rcl_interfaces/msg/ParameterEvent',
})  # fmt: skip
STATES, COMMANDS, APPLIED = '/joint_states', '/joint_commands', '/joint_commands_applied'
READY = 10  # commands applied, from which on a graph goes as it should
DIAGNOSTICS = '/diagnostics'
IDL = re.compile(r'\s*(=+\s*IDL: |module )')
STEPS, REWARDS = '/policy/steps', '/reward/rewards'


@dataclass(frozen=True)
class Joins:
    """Steps and rewards of one namespace, as the learner would see them."""

    namespace: str
    counts: Mapping[str, int]  # of data.joining.Joiner
    transitions: int
    falls: int


@dataclass(frozen=True)
class Examination:
    """What `lebot bag check` says."""

    topics: list[TopicReport]
    files: list[FileState]
    answers: Mapping[str, Answers]  # by namespace, '' for none
    joins: list[Joins]
    recorder: Mapping[str, str]  # what it said of itself last; empty: nothing
    findings: list[Finding]


def examine(bag: Bag) -> Examination:
    """Read all of a bag, and judge it."""
    files = [inspect(file) for file in bag.files]
    findings = judge_files(files)
    tracks, reasons = observe(bag.files, bag.topics)
    if not reasons:
        counts = {name: len(track.log) for name, track in tracks.items()}
        findings += judge_counts({name: info.count for name, info in bag.topics.items()}, counts)
    elif not any(state.damage for state in files):
        findings += [Finding('error', '', reason) for reason in reasons]
    findings += _hashes(bag.topics)
    said = recorder_said(bag) if not reasons else {}
    findings += judge_recorder(said)
    none_lost = bool(said) and said['dropped'] == said['lost'] == '0'
    walking = first_steps(tracks)
    reports = [
        _report(bag.topics[name], track, walking.get(name, 0)) for name, track in tracks.items()
    ]
    for report in reports:
        longest = max(report.timing.gaps, key=lambda gap: gap.length, default=None)
        where = ''
        if longest is not None:
            times = tracks[report.name]
            at = seconds_at(times.stamps if report.timing.stamped else times.log, longest.start,
                            times.log, bag.start)  # fmt: skip
            where = f' at {at:.1f} s'
        findings += judge_topic(report, bag.end, where, none_lost=none_lost)
    given = {}
    for name in tracks:
        if name.endswith(COMMANDS):
            space = name.removesuffix(COMMANDS)
            if space + STATES in tracks:
                given[space] = answers(tracks[space + STATES].stamps, tracks[name].stamps)
                findings += judge_answers(given[space])
    joins: list[Joins] = []
    if not reasons:
        joins, found = _joins(bag)
        findings += found
    return Examination(reports, files, given, joins, said, findings)


def first_steps(tracks: Mapping[str, Track]) -> dict[str, int]:
    """From which log time on each topic is judged: before, the nodes of a graph wait for all.

    A graph is there when its driver has applied the first commands: the very first one lasts
    until all are ready.
    """
    begun = {
        name.removesuffix(APPLIED): int(track.log[:READY][-1])
        for name, track in tracks.items()
        if name.endswith(APPLIED)
    }
    first = min(begun.values(), default=0)
    spaces = sorted(begun, key=len, reverse=True)
    return {
        name: next((begun[s] for s in spaces if name.startswith(f'{s}/')), first)
        for name in tracks
    }


def _report(topic: Topic, track: Track, since: int) -> TopicReport:
    late = track.log >= since
    if late.sum() < FEWEST:
        late = np.ones(len(late), bool)
    stamped = len(track.stamps) > 0 and bool(track.stamps.any())
    # What is latched was sent before anybody listened: its latency says nothing.
    sent = not topic.latched and bool((track.publish != track.log).any())
    return TopicReport(
        name=topic.name,
        type=topic.type,
        octets=track.octets,
        start=int(track.log[0]),
        end=int(track.log[-1]),
        timing=replace(
            timing(track.log[late], track.stamps[late] if stamped else NO_TIMES),
            count=len(track.log),
        ),
        latency=latency(track.stamps, track.log) if stamped and not topic.latched else None,
        transport=latency(track.publish, track.log) if sent else None,
        events=topic.latched or topic.type in EVENTS,
    )


def recorder_said(bag: Bag) -> dict[str, str]:
    """The last word of the recorder on /diagnostics in its own bag."""
    last: Message | None = None
    if DIAGNOSTICS in bag.topics:
        for piece in scan(bag.files, [DIAGNOSTICS]):
            for message in messages_of(piece):
                if b'recorder' in message.data and b'dropped' in message.data:
                    last = message
    try:
        states = bag.decode(last).status if last else ()
    except BagError:  # without a definition
        return {}
    for status in states:
        values = {str(pair.key): str(pair.value) for pair in status.values}
        if all(values.get(key, '').isdigit() for key in ('dropped', 'lost', 'messages')):
            return values
    return {}


def _hashes(topics: Mapping[str, Topic]) -> list[Finding]:
    found = []
    for name, topic in topics.items():
        if not topic.definition:
            found.append(
                Finding('warning', name, f'no definition of {topic.type} in the bag',
                        'readers need the ROS packages of that type')
            )  # fmt: skip
            continue
        if not topic.hash:
            found.append(Finding('note', name, 'no type hash in the bag'))
            continue
        if IDL.match(topic.definition):
            found.append(Finding('note', name, 'defined in IDL: its hash is not looked at'))
            continue
        try:
            computed = definition_hash(topic)
        except ValueError as error:
            found.append(Finding('error', name, f'its definition cannot be read: {error}'))
            continue
        if computed != topic.hash:
            found.append(
                Finding('error', name,
                        f'type hash {topic.hash[:15]} is not that of its definition, '
                        f'{computed[:15]}',
                        'the recorder knew another version of the type; do not trust decoding')
            )  # fmt: skip
    return found


def _joins(bag: Bag) -> tuple[list[Joins], list[Finding]]:
    joins, findings = [], []
    spaces = [name.removesuffix(STEPS) for name in bag.topics if name.endswith(STEPS)]
    for space in spaces:
        try:
            (recorded,) = read_transitions([bag.path], namespace=space or '/')
        except BagError as error:
            findings.append(Finding('error', space + STEPS, str(error)))
            continue
        rows: Any = recorded.rows
        falls = int((rows['terminated'] != 0).sum())
        joins.append(Joins(space, dict(recorded.counts), len(rows), falls))
        findings += judge_joins(recorded.counts)
    if not spaces:
        findings.append(
            Finding('note', '', f'no {STEPS[1:]}: nothing can be learned from this bag')
        )
    return joins, findings
