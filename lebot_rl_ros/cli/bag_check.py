"""`lebot bag check`: is a bag whole, and was anything lost on the way into it?"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lebot_rl_ros.cli.bag_check_gather import Examination, examine
from lebot_rl_ros.data.bag.findings import SEVERITIES, Finding, TopicReport, status
from lebot_rl_ros.data.bag.reader import Bag

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

HEAD = ('', 'messages', 'Hz', 'period p50', 'p99', 'max', 'gaps', 'lost', 'latency p50', 'p99')


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'check',
        help='rates, gaps, losses, latency, joins and damage',
        description='Read all of a bag: every chunk against its checksum, every topic for gaps, '
        'losses, order and latency, commands against states, rewards against steps. The exit '
        'status is 1 where something is wrong.',
    )
    parser.add_argument('path', type=Path, help='folder of a bag, or one .mcap')
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Check; returns 1 where something is wrong, else 0.

    Raises:
        BagError: it is no bag, or one that was cut off; the message says what to do.
    """
    bag = Bag(args.path)
    found = examine(bag)
    if args.json:
        print(json.dumps(as_data(found), indent=2))
    else:
        print('\n'.join(as_lines(bag, found)))
    return status(found.findings)


def as_data(found: Examination) -> dict[str, Any]:
    """What ``--json`` prints."""
    data = asdict(found)
    for row, report in zip(data['topics'], found.topics, strict=True):
        row['rate'] = report.timing.rate
    return {'healthy': not status(found.findings), **data}


def as_lines(bag: Bag, found: Examination) -> list[str]:
    """What people read: a line a topic, what was found, and the verdict."""
    seconds = (bag.end - bag.start) / 1e9
    octets = sum(state.octets for state in found.files)
    lines = [
        f'{bag.path}: {counted(len(found.files), "file")}, {size(octets)}, {seconds:.1f} s, '
        f'{counted(sum(state.chunks for state in found.files), "chunk")}',
        'periods and latency in ms',
        '',
        *table([HEAD, *(topic_row(report) for report in found.topics)], right=range(1, 10)),
        '',
    ]
    for word in facts(found):
        lines.append(word)
    said = ''
    for finding in by_severity(found.findings):
        lines.append(f'{finding.severity}: {finding}')
        if finding.do and finding.do != said:
            lines.append(f'    {finding.do}')
        said = finding.do
    return [*lines, verdict(found.findings)]


def topic_row(report: TopicReport) -> list[str]:
    """One topic's numbers, in the order of HEAD; '-' where there is none."""
    timing, delay = report.timing, report.latency or report.transport
    row = [report.name, f'{timing.count:,}']
    if timing.regular and not report.events:
        row += [f'{timing.rate:.1f}']
        row += [milliseconds(value) for value in (timing.p50, timing.p99, timing.longest)]
        row += [str(len(timing.gaps)), lost(report)]
    else:
        row += ['-'] * 6
    if delay is None:
        return [*row, '-', '-']
    mark = '' if report.latency else '*'
    return [*row, f'{delay.p50:.2f}{mark}', f'{delay.p99:.2f}{mark}']


def lost(report: TopicReport) -> str:
    """Messages missing: exactly where stamps lie on a grid, about (~), or not known (?)."""
    timing = report.timing
    if not timing.stamped:
        return '?' if timing.gaps else '-'
    return str(timing.lost) if timing.exact or not timing.lost else f'~{timing.lost}'


def facts(found: Examination) -> list[str]:
    """What else is worth a line, whether good or bad."""
    lines = []
    judged = [report for report in found.topics if report.timing.stamped and not report.events]
    if any(not report.latency for report in judged):
        lines.append(
            'latency: stamps are another clock than the recorder (simulated time), so it is told '
            'from publishing to the bag (*)'
        )
    elif judged:
        lines.append('latency: from the stamp in the header to the bag')
    for space, result in found.answers.items():
        lines.append(
            f'commands{in_space(space)}: {result.answered:,} of '
            f'{result.answered + result.unanswered:,} states answered'
        )
    for join in found.joins:
        counts = join.counts
        lines.append(
            f'steps and rewards{in_space(join.namespace)}: {counts.get("joined", 0):,} joined, '
            f'{counts.get("lost_rewards", 0)} steps without a reward, '
            f'{counts.get("lost_steps", 0)} rewards without a step, '
            f'{counted(counts.get("gaps", 0), "gap")}, {counted(join.falls, "fall")}'
        )
    if found.recorder:
        lines.append(
            f'recorder: {int(found.recorder["messages"]):,} messages when it spoke last, '
            f'{found.recorder["dropped"]} dropped, {found.recorder["lost"]} lost'
        )
    return lines


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first; what calls for the same thing lies together."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.do, f.topic))


def verdict(findings: Sequence[Finding]) -> str:
    """The last line."""
    parts = [
        counted(number, severity)
        for severity in SEVERITIES[:2]
        if (number := sum(finding.severity == severity for finding in findings))
    ]
    return f'not healthy: {" and ".join(parts)}' if parts else 'healthy'


def table(rows: Sequence[Sequence[str]], right: range) -> list[str]:
    """Rows as aligned text; columns in ``right`` end together."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        '  '.join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def size(octets: float) -> str:
    """Octets as people read them."""
    for unit in ('B', 'KiB', 'MiB'):
        if octets < 1024:
            return f'{octets:.0f} B' if unit == 'B' else f'{octets:.1f} {unit}'
        octets /= 1024
    return f'{octets:.2f} GiB'


def milliseconds(ns: float) -> str:
    """Ns as ms."""
    return f'{ns / 1e6:.2f}' if ns < 1e9 else f'{ns / 1e6:.0f}'


def counted(number: int, word: str) -> str:
    """A number and its word."""
    return f'{number:,} {word}' + ('' if number == 1 else 's')


def in_space(namespace: str) -> str:
    """' in /lebot1', or nothing."""
    return f' in {namespace}' if namespace else ''
