"""What a learner at full load costs the control loop: real-time walks with and without it in turn.

The learner is given far more updates than one core can do, so that it never rests; it runs niced
in a process of its own. Measured is the time from the state to the answer of the policy, as the
driver counts it, and the ticks without one. The limit depends on whether the system grants the
policy SCHED_FIFO, which is asked in the same run.

    python benchmarks/learner_jitter.py                  # four minutes
    python benchmarks/learner_jitter.py --rounds 1 --seconds 10
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

LOAD = 'updates_per_step=30 most=400'
GRANTED, REFUSED = 1.5, 6.0  # largest ratio of the 99th percentiles


def walk(seconds: float, folder: Path, *, learn: bool) -> dict[str, float]:
    """One walk; p50 and p99 of the answer's latency (ms), missed ticks, load (of a core)."""
    folder.mkdir()
    words = [
        sys.executable, '-m', 'lebot_rl_ros.cli.main', 'walk', '--quiet',
        '--duration', f'{seconds}', '--exploration', '0.1', '--out', str(folder),
        '--json', str(folder / 'report.json'), '--adapter-store', str(folder / 'store'),
    ]  # fmt: skip
    if learn:
        words += ['--learn', '--learn-settings', LOAD]
    environment = os.environ | {'ROS_DOMAIN_ID': '87'}
    with (folder / 'out').open('w') as out:
        done = subprocess.Popen(words, env=environment, stdout=out, stderr=out)
        load = 0.0
        while done.poll() is None:
            time.sleep(1.0)
            load = max(load, share(done.pid))
    if done.returncode:
        words_of_it = (folder / 'out').read_text()
        raise SystemExit(f'lebot walk ended with {done.returncode}:\n{words_of_it}')
    report = json.loads((folder / 'report.json').read_text())
    found = {name: float(report[name]) for name in ('tick_p50_ms', 'tick_p99_ms', 'missed_ticks')}
    found['load'] = load
    return found


def share(parent: int) -> float:
    """Of a core, that the learner among a process's children has used since it began."""
    for child in psutil.Process(parent).children():
        with contextlib.suppress(psutil.Error):
            if 'lebot_rl_ros.nodes.learner' in child.cmdline():
                used = child.cpu_times()
                return (used.user + used.system) / (time.time() - child.create_time())
    return 0.0


def granted() -> bool:
    """Whether this user may ask for SCHED_FIFO; asked in another process, which then ends."""
    ask = 'import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))'
    return not subprocess.run(
        [sys.executable, '-c', ask], stderr=subprocess.DEVNULL, check=False
    ).returncode


def main() -> int:
    """Measure in turn, compare medians; 0 if the ratio keeps the limit."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=4, help='walks of each kind')
    parser.add_argument('--seconds', type=float, default=20.0, help='of a walk')
    args = parser.parse_args()
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.rounds):
            for learn in (False, True):
                one = walk(args.seconds, Path(folder) / f'{i}-{learn}', learn=learn)
                found[learn].append(one)
                print(
                    f'{"with   " if learn else "without"} learner: '
                    f'p50 {one["tick_p50_ms"]:.2f} ms, p99 {one["tick_p99_ms"]:.2f} ms, '
                    f'{one["missed_ticks"]:.0f} ticks missed'
                    + (f', load {one["load"]:.2f}' if learn else ''),
                    flush=True,
                )
    p99 = {learn: float(np.median([o['tick_p99_ms'] for o in found[learn]])) for learn in found}
    ratio, fifo = p99[True] / p99[False], granted()
    limit = GRANTED if fifo else REFUSED
    print(
        f'p99 {p99[True]:.2f} ms with, {p99[False]:.2f} ms without: {ratio:.2f} times; '
        f'limit {limit} where SCHED_FIFO is {"granted" if fifo else "not granted"}'
    )
    return 0 if ratio <= limit else 1


if __name__ == '__main__':
    sys.exit(main())
