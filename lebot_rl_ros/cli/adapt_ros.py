"""A run of `lebot benchmark adapt` through the real graph: `lebot walk --learn` in lockstep.

The robot stands up first, and its fault begins when it walks: who crouches on a dead knee falls.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lebot_rl_ros.cli.adapt_cells import EXPLORATION, LEARNING_SEED, Cell
from lebot_rl_ros.cli.adapt_log import Log, schedule
from lebot_rl_ros.cli.adapt_oracle import Bench
from lebot_rl_ros.learning.online.home import BASE_STAGE
from lebot_rl_ros.policy.adapters import merge
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.policy.store import AdapterStore

NAME = 'recover'  # of the adapter
BEGIN = 3.0  # s of robot time until the fault: it stands and walks


def command(cell: Cell, faults: Sequence[str], folder: Path) -> list[str]:
    """The walk, as anyone could start it."""
    words = [
        sys.executable, '-m', 'lebot_rl_ros.cli.main', 'walk', '--quiet', '--learn',
        '--learner', cell.learner, '--learn-what', str(cell.trained['kind']),
        '--learn-rank', str(cell.trained.get('r', 4)), '--real-time-factor', '0',
        '--duration', f'{60.0 * cell.minutes + BEGIN:g}', '--exploration', f'{EXPLORATION}',
        '--seed', str(LEARNING_SEED + cell.seed), '--namespace', f'adapt_{os.getpid()}',
        '--adapter-store', str(folder / 'store'), '--out', str(folder / 'walk'),
        '--json', str(folder / 'report.json'),
    ]  # fmt: skip
    for fault in faults:
        words += ['--fault', f'{fault}@{BEGIN:g}']
    return words


def acting(verdicts: Sequence[Mapping[str, Any]], seconds: float) -> int:
    """Version that acted at a time, by the verdicts until then; 0 is the base."""
    accepted = now = 0
    for verdict in verdicts:
        if float(verdict['time']) > seconds:
            break
        version = int(verdict['version'])
        if verdict['verdict'] == 'accepted':
            accepted = now = version
        elif verdict['verdict'] == 'probation':
            now = version
        # What the gate refused has no version, and has never acted.
        elif verdict['stage'] == BASE_STAGE or (version and version == now):
            now = accepted
    return now


def run_graph(cell: Cell, bench: Bench, tell: Callable[[float], None]) -> Log:
    """Walk, then judge the versions that acted.

    Raises:
        RuntimeError: the walk did not end well; the message is its own.
    """
    log = Log()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = subprocess.run(
            command(cell, bench.faults, folder), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f'lebot walk ended with {done.returncode}: {done.stderr[-500:]}')
        learned = json.loads((folder / 'report.json').read_text())['learning']
        store = AdapterStore(folder / 'store')
        for minute in (0.0, *schedule(cell.minutes)):
            version = acting(learned['verdicts'], 60.0 * minute + BEGIN) if minute else 0
            parts = [(store.get(NAME, version), 1.0)] if version else []
            policy = PolicyRuntime(merge(bench.tensors, parts), bench.manifest)
            log.judge(minute, bench.judge(policy.act_many))
            tell(minute / cell.minutes)
    for verdict in learned['verdicts']:
        log.event((float(verdict['time']) - BEGIN) / 60.0, verdict)
    log.falls = [round((second - BEGIN) / 60.0, 3) for second in learned['fall_times_s']]
    return log
