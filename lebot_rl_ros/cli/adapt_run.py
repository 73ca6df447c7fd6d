"""One run of `lebot benchmark adapt` in a process of its own: one fault, one method, one seed.

    python -m lebot_rl_ros.cli.adapt_run --fault slip --method td3-lora4 --seed 0 --runs DIR

Writes the rewards of the policy that acts, judged by held-out rollouts, with falls and verdicts.
Torch has one thread, as on the robot.
"""

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from lebot_rl_ros.cli.adapt_cells import (
    GATES,
    LEARNING_SEED,
    METHODS,
    PATHS,
    PEERS,
    STREAMS,
    Cell,
)
from lebot_rl_ros.cli.adapt_log import Log, Tell, schedule
from lebot_rl_ros.cli.adapt_oracle import Bench
from lebot_rl_ros.cli.adapt_ros import run_graph
from lebot_rl_ros.cli.adapt_session import Acting, make_session, make_walker
from lebot_rl_ros.cli.benchmark_run import Clock
from lebot_rl_ros.control.walker import load_walk
from lebot_rl_ros.envs.adapting import FaultyRobot
from lebot_rl_ros.envs.faulty_task import Judged
from lebot_rl_ros.policy.adapters import AdapterError
from lebot_rl_ros.policy.folders import replace_file

Array = np.ndarray[Any, np.dtype[Any]]


class Learning(Protocol):
    """What a run needs of ``learning.online.session.Session``."""

    events: deque[dict[str, Any]]  # the run takes them out

    def steps(self, rows: Array) -> None:
        """Take rows of policy/steps."""

    def rewards(self, rows: Array) -> None:
        """Take rows of reward/rewards."""

    def work(self) -> Any:
        """Learn what is due; a Swap, or None."""

    def swapped(self, swap: Any, acts: bool, reason: str) -> None:
        """Hear whether a swap acts now."""


def adapt(
    robot: FaultyRobot,
    session: Learning | None,
    install: Callable[[Any], None],
    judge: Callable[[], Judged],
    minutes: float,
    clock: Clock,
    tell: Tell = lambda share: None,
) -> Log:
    """Walk and learn until the robot's time is over.

    Args:
        robot: who walks.
        session: who learns; None: nobody does.
        install: lets a swap act from the next step on; AdapterError where it cannot.
        judge: rewards of what acts now.
        minutes: of robot time, getting up included.
        clock: runs while the session works.
        tell: the share that is done.
    """
    log, due = Log(), schedule(minutes)
    log.judge(0.0, judge())
    total, since = 0.0, 0.0
    while due:
        rows, rewards = robot.step()
        total += float(rewards['reward'].sum())
        now = robot.seconds / 60.0
        if session is not None:
            clock.start()
            session.steps(rows)
            session.rewards(rewards)
            swap = session.work()
            clock.stop()
            if swap is not None:
                try:
                    install(swap)
                    session.swapped(swap, True, '')
                except AdapterError as error:
                    session.swapped(swap, False, str(error))
            while session.events:
                log.event(now, session.events.popleft())
        while due and now >= due[0]:
            log.judge(due[0], judge())
            log.earned.append((due[0], round(total / (60.0 * max(now - since, 1e-9)), 3)))
            total, since = 0.0, now
            tell(due.pop(0) / minutes)
    log.falls = [round(second / 60.0, 3) for second in robot.fallen_at]
    return log


def run_ours(cell: Cell, bench: Bench, clock: Clock, tell: Tell) -> Log:
    """Let one of our learners, or none, adapt."""
    walk = load_walk(bench.robot, 'walk')
    seed = LEARNING_SEED + cell.seed
    walker = make_walker(cell, bench.robot, walk, seed)
    robot = FaultyRobot(bench.robot, walker, walk.gait, bench.faults, seed=seed)
    acting, session = Acting(walk, walker), make_session(cell, walk, seed)
    log = adapt(
        robot, session, acting.install,
        lambda: bench.judge(acting.runtime.act_many), cell.minutes, clock, tell,
    )  # fmt: skip
    if session is not None:
        log.statistics = {k: round(float(v), 6) for k, v in session.statistics().items()}
    return log


def run_cell(cell: Cell, tell: Tell) -> dict[str, Any]:
    """Do a run; what its file holds."""
    bench, clock, started = Bench(cell.fault), Clock(), time.monotonic()
    if cell.method in PEERS:
        from lebot_rl_ros.cli.adapt_peers import run_peer  # late: it needs stable-baselines3

        log = run_peer(cell, bench, clock, tell)
    elif cell.path == 'ros':
        log = run_graph(cell, bench, tell)
    else:
        log = run_ours(cell, bench, clock, tell)
    steps = (60.0 * cell.minutes - 6.0 * len(log.falls)) * bench.robot.control_rate
    return {
        **asdict(cell), 'settings': cell.settings, **asdict(log),
        'cpu_ms': round(1000.0 * clock.cpu / max(steps, 1.0), 3),
        'wall_s': round(time.monotonic() - started, 1),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--fault', required=True)
    parser.add_argument('--method', required=True, choices=METHODS)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--stream', choices=STREAMS, default='clean')
    parser.add_argument('--gate', choices=GATES, default='gate')
    parser.add_argument('--path', choices=PATHS, default='direct')
    parser.add_argument('--runs', required=True, type=Path)
    args = vars(parser.parse_args(arguments))
    runs = args.pop('runs')
    torch.set_num_threads(1)
    cell = Cell(**args)

    def tell(share: float) -> None:
        sys.stdout.write(f'{share:.4f}\n')
        sys.stdout.flush()

    row = run_cell(cell, tell)
    path = cell.file(runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, (json.dumps(row) + '\n').encode())
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
