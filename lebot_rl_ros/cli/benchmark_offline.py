"""`lebot benchmark offline`: recorded first, then online: what is recovered of a fault, and when.

One robot walks with the base and exploration for as long as a bag would last; a method learns
from these rows; the gate judges; then the robot learns online, first with what was learned on
trial. All is judged as `lebot benchmark adapt` judges.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from lebot_rl_ros.cli.adapt_cells import EXPLORATION, FAULTS, LEARNING_SEED, Cell
from lebot_rl_ros.cli.adapt_oracle import Bench, load_fault
from lebot_rl_ros.cli.adapt_run import adapt
from lebot_rl_ros.cli.adapt_session import Acting, make_walker
from lebot_rl_ros.cli.adapt_statistics import recovered
from lebot_rl_ros.cli.benchmark_run import Clock
from lebot_rl_ros.control.walker import Walker, load_walk
from lebot_rl_ros.data.joining import Joiner
from lebot_rl_ros.envs.adapting import FaultyRobot
from lebot_rl_ros.envs.faulty_task import Judged
from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.learning.offline.contract import offline_data
from lebot_rl_ros.learning.offline.registry import METHODS, find, make_method
from lebot_rl_ros.learning.offline.run import judge_offline, split, train_offline
from lebot_rl_ros.learning.online.session import Session
from lebot_rl_ros.learning.online.session_config import SessionConfig
from lebot_rl_ros.learning.online.td3_config import OnlineTD3Config
from lebot_rl_ros.learning.online.trained import Trained, TrainedConfig
from lebot_rl_ros.learning.online.versions import Memory
from lebot_rl_ros.learning.settings import parse_settings
from lebot_rl_ros.policy.adapters import Adapter, AdapterManifest, merge
from lebot_rl_ros.policy.runtime import PolicyRuntime

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

HOLDOUT = 0.1
AT_ONCE = 400  # rows given to the joiner together


def record(bench: Bench, minutes: float, exploration: float, seed: int) -> Array:
    """Rows (N,) of ``transition_dtype``: what a bag of a walk with the base would give."""
    walk = load_walk(bench.robot, 'walk')
    walker = Walker(bench.robot, walk, seed=seed, exploration=exploration)
    robot = FaultyRobot(bench.robot, walker, walk.gait, bench.faults, seed=seed)
    pairs = [robot.step()]
    join = Joiner.fitting(
        pairs[0][0].dtype, pairs[0][1].dtype, period=round(1e9 / bench.robot.control_rate),
        base_sha256=bench.manifest.sha256,
    )  # fmt: skip
    parts = []
    while robot.seconds < 60.0 * minutes:
        pairs.append(robot.step())
        if len(pairs) >= AT_ONCE:
            parts.append(_joined(join, pairs))
            pairs = []
    if pairs:
        parts.append(_joined(join, pairs))
    return np.concatenate([*parts, join.flush()])


def _joined(join: Joiner, pairs: list[tuple[Array, Array]]) -> Array:
    join.steps(np.concatenate([steps for steps, _ in pairs]))
    join.rewards(np.concatenate([rewards for _, rewards in pairs]))
    return join.take()


def learn(
    bench: Bench, rows: Array, method: str, settings: dict[str, Any], steps: int, seed: int
) -> tuple[Adapter, str]:
    """Train an adapter; with it, what the gate said: '' where it may act."""
    trained = Trained(bench.tensors, bench.manifest, TrainedConfig(), seed)
    learned, kept = split(offline_data([rows], bench.manifest), HOLDOUT)
    made = make_method(method, trained, bench.tensors, settings, seed)
    for _ in train_offline(made, learned, steps):
        pass
    lora, tensors = trained.export()
    about = AdapterManifest(
        'recover', 1, bench.manifest.sha256, bench.manifest.robot, bench.manifest.joint_names,
        training={'method': f'offline {method}'},
    )  # fmt: skip
    verdict, adapter = judge_offline(
        Adapter(lora, tensors, about), bench.tensors, bench.manifest, kept,
        evidence=METHODS[method].evidence,
    )  # fmt: skip
    return adapter, '' if verdict.verdict != 'rejected' else verdict.reason


def go_on(
    bench: Bench, rows: Array, first: Adapter | None, online: dict[str, Any], minutes: float,
    cell: Cell,
) -> dict[str, Any]:  # fmt: skip
    """Learn online with these rows at hand, ``first`` on trial; what became of it."""
    walk, seed = load_walk(bench.robot, 'walk'), LEARNING_SEED + cell.seed
    walker = make_walker(cell, bench.robot, walk, seed)
    robot = FaultyRobot(bench.robot, walker, walk.gait, bench.faults, seed=seed)
    store, clock, acting = Memory(), Clock(), Acting(walk, walker)
    if first is not None:
        first = store.add('recover', first.config, first.tensors, first.manifest)
    session = Session(
        bench.tensors, bench.manifest, SessionConfig(settings=online), store, seed, None, first
    )
    session.replay(rows)
    log = adapt(
        robot, session, acting.install, lambda: bench.judge(acting.runtime.act_many), minutes,
        clock,
    )  # fmt: skip
    return {
        'curve': log.curve, 'falls': log.falls, 'accepted': log.accepted,
        'rolled_back': log.rolled_back, 'verdicts': log.verdicts, 'cpu_s': round(clock.cpu, 1),
    }  # fmt: skip


def add_parser(subparsers: 'Subparsers') -> None:
    """Declare the kind of benchmark and its arguments."""
    parser = subparsers.add_parser(
        'offline',
        help='what ten recorded minutes give back of a fault, and two minutes online after them',
        description='Let a faulty robot walk with the base, learn an adapter from what was '
        'recorded, ask the gate, then learn online with it on trial. Status 0 unless the gate '
        'refuses it.',
    )
    add = parser.add_argument
    add('--fault', choices=list(FAULTS), default='slip', help='(default: %(default)s)')
    add('--seed', type=int, default=0, help='(default: %(default)s)')
    add('--minutes', type=float, default=10.0, help='recorded (default: %(default)g)')
    add(
        '--exploration', type=float, default=EXPLORATION,
        help='while it is recorded (default: %(default)g)',
    )  # fmt: skip
    add(
        '--method', choices=('bc', 'awac', 'td3_bc'), default='awac',
        help='(default: %(default)s)',
    )  # fmt: skip
    add('--steps', type=int, help='gradient steps (default: by the method)')
    add('--set', nargs='+', default=[], metavar='KEY=VALUE', help='of the method')
    add(
        '--online-minutes', type=float, default=2.0,
        help='of robot time; 0 leaves it out (default: %(default)g)',
    )  # fmt: skip
    add('--online-set', nargs='+', default=[], metavar='KEY=VALUE', help='of the online learner')
    add(
        '--runs', type=Path, default=Path('runs/benchmark-adapt'), metavar='DIR',
        help="where `lebot benchmark adapt` has the fault's oracle (default: %(default)s)",
    )  # fmt: skip
    add('--out', type=Path, metavar='FILE.json', help='write everything here')


def run(args: argparse.Namespace) -> int:
    """Record, learn, judge, go on, show; returns the exit status.

    Raises:
        ValueError: a number or a setting that cannot be.
    """
    if not args.minutes > 0.0 or not args.online_minutes >= 0.0:
        raise ValueError(
            f'--minutes is {args.minutes:g} and --online-minutes {args.online_minutes:g}, must be '
            f'positive, and 0 or more'
        )
    steps = METHODS[args.method].steps if args.steps is None else args.steps
    if steps < 1:
        raise ValueError(f'--steps is {steps}, must be 1 or more')
    settings = parse_settings(find(args.method)[1], args.set)
    online = parse_settings(OnlineTD3Config, args.online_set)
    torch.set_num_threads(1)
    bench, console = Bench(args.fault), Console()
    with console.status(f'{args.minutes:g} minutes are recorded') as status:
        rows = record(bench, args.minutes, args.exploration, args.seed)
        status.update(f'{args.method} learns from {len(rows):,} steps')
        adapter, refused = learn(bench, rows, args.method, settings, steps, args.seed)
        found: dict[str, Any] = {
            'arguments': {
                name: str(value) if isinstance(value, Path) else value
                for name, value in vars(args).items()
                if isinstance(value, (str, int, float, list, Path, type(None)))
            },
            'steps': len(rows), 'falls': int(rows['terminated'].sum()), 'refused': refused,
            'base': bench.judge(PolicyRuntime(bench.tensors, bench.manifest).act_many).reward,
            'offline': _judged(bench, adapter).reward,
        }  # fmt: skip
        if args.online_minutes > 0.0:
            status.update(f'{args.online_minutes:g} minutes online')
            cell = Cell(args.fault, 'td3-lora4', args.seed, args.online_minutes)
            first = None if refused else adapter
            found['online'] = go_on(bench, rows, first, online, args.online_minutes, cell)
    _show(found, load_fault(args.runs, args.fault), args, console)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + '\n')
        console.print(f'wrote {args.out}')
    return 1 if refused else 0


def _show(
    found: dict[str, Any], fault: dict[str, Any] | None, args: argparse.Namespace, console: Console
) -> None:
    """A line for the base, one for what was learned offline, one for each look at it online."""
    oracle = fault['oracle'] if fault else None
    table = Table(
        title=f'{args.fault}, {args.method} on {found["steps"]:,} recorded steps, '
        f'{found["falls"]} falls',
        caption=f'the gate refuses it: {found["refused"]}' if found['refused'] else None,
    )
    for column in ('', 'reward a second', 'recovered fraction')[: 3 if oracle else 2]:
        table.add_column(column, justify='right' if column else 'left')
    rows = [('base', found['base']), ('offline', found['offline'])]
    curve = found['online']['curve'] if 'online' in found else ()
    rows += [(f'{minute:g} min online', value) for minute, value in curve]
    for label, reward in rows:
        cells = [label, f'{reward:.1f}']
        if fault and oracle:
            low, high = fault['frozen']['reward'], oracle['reward']
            cells.append(f'{float(recovered(reward, low, high)):.2f}')
        table.add_row(*cells)
    console.print(table)
    if oracle is None:
        console.print(
            f'recovered fractions need the oracle: lebot benchmark adapt --faults {args.fault} '
            f'--runs {args.runs}'
        )


def _judged(bench: Bench, adapter: Adapter) -> Judged:
    tensors = merge(bench.tensors, [(adapter, 1.0)])
    return bench.judge(PolicyRuntime(tensors, bench.manifest).act_many)
