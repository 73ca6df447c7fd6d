"""`lebot bag info`: what is in a bag, of which run it is, and what can be done with it."""

import argparse
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lebot_rl_ros.bringup.arguments import BY_NAME
from lebot_rl_ros.cli.bag_check import counted, in_space, size, table
from lebot_rl_ros.cli.bag_check_gather import COMMANDS, REWARDS, STATES, STEPS
from lebot_rl_ros.data.bag.reader import Bag
from lebot_rl_ros.data.bag.scan import scan
from lebot_rl_ros.data.bag.transitions import read_transitions
from lebot_rl_ros.data.bag.types import BagError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

SHORT = 12  # digits of a hash for people


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the verb and its arguments."""
    parser = subparsers.add_parser(
        'info',
        help='what is in a bag',
        description='Say what is in a bag: files, topics, the run that it is of, and what can be '
        'done with it.',
    )
    parser.add_argument('path', type=Path, help='folder of a bag, or one .mcap')
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Tell; returns the exit status.

    Raises:
        BagError: it is no bag, or one that was cut off; the message says what to do.
    """
    data = describe(Bag(args.path))
    print(json.dumps(data, indent=2) if args.json else '\n'.join(as_lines(data)))
    return 0


def describe(bag: Bag) -> dict[str, Any]:
    """Everything that is told, as ``--json`` prints it."""
    octets = dict.fromkeys(bag.topics, 0)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    damaged: list[str] = []
    for piece in scan(bag.files, damaged=lambda error: damaged.append(str(error))):
        octets[piece.topic] += int(piece.sizes.sum())
        first[piece.topic] = min(int(piece.log.min()), first.get(piece.topic, piece.log[0]))
        last[piece.topic] = max(int(piece.log.max()), last.get(piece.topic, 0))
    whole = sum(octets.values()) or 1
    topics = []
    for name, info in bag.topics.items():
        seconds = (last.get(name, 0) - first.get(name, 0)) / 1e9
        topics.append({
            'name': name, 'type': info.type, 'count': info.count,
            'rate_hz': (info.count - 1) / seconds if seconds > 0 else 0.0,
            'octets': octets[name], 'share': octets[name] / whole, 'latched': info.latched,
        })  # fmt: skip
    start = datetime.fromtimestamp(bag.start / 1e9, timezone.utc)
    files = [{'name': file.name, 'octets': file.stat().st_size} for file in bag.files]
    return {
        'path': str(bag.path),
        'files': files,
        'octets': sum(int(str(file['octets'])) for file in files),
        'messages': sum(info.count for info in bag.topics.values()),
        'start_ns': bag.start,
        'start': start.isoformat(timespec='milliseconds').replace('+00:00', 'Z'),
        'start_local': start.astimezone().isoformat(timespec='seconds'),
        'duration_s': (bag.end - bag.start) / 1e9,
        'topics': topics,
        'run': run_of(bag.metadata),
        'learning': learning(bag),
        'damaged': damaged,
    }


def run_of(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The run's metadata with its YAML and JSON read; what cannot be read stays text."""
    import yaml

    run: dict[str, Any] = dict(metadata)
    for key in ('arguments', 'parameters'):
        if key in run:
            with suppress(ValueError):
                run[key] = json.loads(run[key])
    if 'robot' in run:
        with suppress(yaml.YAMLError):
            run['robot'] = yaml.safe_load(run['robot'])
    return run


def learning(bag: Bag) -> list[dict[str, Any]]:
    """What a learner would get out of the bag, by namespace."""
    found: list[dict[str, Any]] = []
    for name in bag.topics:
        if not name.endswith(STEPS):
            continue
        space = name.removesuffix(STEPS)
        row: dict[str, Any] = {'namespace': space, 'steps': bag.topics[name].count}
        try:
            if space + REWARDS not in bag.topics:
                raise BagError(f'{bag.path} has no topic {space + REWARDS}')
            rows: Any = read_transitions([bag.path], namespace=space or '/')[0].rows
        except BagError as error:
            found.append({**row, 'reason': str(error)})
            continue
        falls = int(np.count_nonzero(rows['terminated']))
        found.append({**row, 'transitions': len(rows), 'falls': falls})
    return found


def as_lines(data: Mapping[str, Any]) -> list[str]:
    """What people read."""
    path = data['path']
    lines = [
        f'{path}: {counted(len(data["files"]), "file")}, {size(data["octets"])}, '
        f'{counted(data["messages"], "message")}, {data["duration_s"]:.1f} s',
        f'started {data["start_local"]} ({data["start"]})',
        *(f'{key}: {value}' for key, value in run_lines(data['run'])),
        '',
    ]
    rows = [('topic', 'type', 'messages', 'Hz', 'share')]
    for topic in data['topics']:
        rate = 'latched' if topic['latched'] else f'{topic["rate_hz"]:.1f}'
        rate = rate if topic['count'] else '-'
        rows.append((topic['name'], topic['type'], f'{topic["count"]:,}', rate,
                     f'{topic["share"]:.1%}'))  # fmt: skip
    lines += table(rows, right=range(2, 5))
    if len(data['files']) > 1:
        lines += ['', *(f'{file["name"]}  {size(file["octets"])}' for file in data['files'])]
    return [*lines, '', *next_lines(data)]


def run_lines(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Metadata of the run for people: names, short hashes, arguments."""
    lines = []
    robot = run.get('robot')
    if robot:
        name = robot.get('name', '') if isinstance(robot, Mapping) else ''
        lines.append(('robot', str(name or 'described in the bag')))
    if 'policy' in run:
        digest = run.get('policy_sha256', '')[:SHORT]
        adapter = run.get('adapter') or 'the base alone'
        lines.append(('policy', f'{run["policy"]} {digest}'.strip() + f', adapter: {adapter}'))
    if 'version' in run or 'git_revision' in run:
        revision = run.get('git_revision', '')[:SHORT]
        words = f'lebot_rl_ros {run.get("version", "")}'.strip()
        lines.append(('software', f'{words}, git {revision}' if revision else words))
    if isinstance(run.get('arguments'), Mapping):
        lines.append(('arguments', arguments_line(run['arguments'])))
    if isinstance(run.get('parameters'), Mapping):
        lines.append(('parameters', f'of {", ".join(run["parameters"])} (see --json)'))
    known = ('robot', 'policy', 'policy_sha256', 'adapter', 'version', 'git_revision', 'started',
             'arguments', 'parameters')  # fmt: skip
    return lines + [(key, str(value)) for key, value in run.items() if key not in known]


def arguments_line(given: Mapping[str, Any]) -> str:
    """Arguments that are not the defaults of this version."""
    usual = {name: argument.default for name, argument in BY_NAME.items()}
    told = [f'{name}:={value}' for name, value in given.items() if value != usual.get(name)]
    return ' '.join(told) or 'the defaults'


def next_lines(data: Mapping[str, Any]) -> list[str]:
    """What can be done with the bag."""
    path, names = data['path'], {topic['name'] for topic in data['topics']}
    lines = []
    if data['damaged']:
        number = counted(len(data['damaged']), 'part')
        lines.append(f'damaged: {number} cannot be read; `lebot bag check {path}` says which')
    for row in data['learning']:
        if 'reason' in row:
            lines.append(f'nothing to learn from{in_space(row["namespace"])}: {row["reason"]}')
        else:
            lines.append(
                f'{row["transitions"]:,} transitions{in_space(row["namespace"])} of '
                f'{row["steps"]:,} steps, {counted(row["falls"], "fall")}: '
                f'`lebot train offline --bags {path}`'
            )
    if not data['learning']:
        lines.append(f'nothing to learn from: there is no topic {STEPS[1:]}')
    if any(name.endswith(COMMANDS + '_applied') for name in names) and any(
        name.endswith(STATES) for name in names
    ):
        lines.append(f'commands and angles of the servos: `lebot identify {path}`')
    lines.append(f'look: `lebot bag check {path}`, `lebot bag plot {path}`')
    return lines
