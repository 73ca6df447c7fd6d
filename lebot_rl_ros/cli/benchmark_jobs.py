"""Long benchmarks as processes side by side, with one progress bar, resumed where they stopped.

Each process tells its share as a number a line.
"""

import argparse
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@dataclass(frozen=True)
class Job:
    """One process."""

    words: str  # for people
    command: tuple[str, ...]  # prints lines of 0 to 1 while it works; others are kept for errors


def add_run_arguments(
    parser: argparse.ArgumentParser, *, seeds: int, jobs: int, runs: str
) -> None:
    """Declare what every such benchmark can be told; the arguments are its defaults."""
    parser.add_argument('--seeds', type=int, default=seeds, help='(default: %(default)s)')
    parser.add_argument(
        '--jobs', type=int, default=jobs, help='runs at the same time (default: %(default)s)'
    )
    parser.add_argument('--runs', type=Path, default=Path(runs), help='(default: %(default)s)')
    parser.add_argument('--out', type=Path, help='write the page here, plots beside it in images/')
    parser.add_argument('--show', action='store_true', help='only show what is there')


def run_jobs(jobs: Sequence[Job], at_once: int, title: str, console: Console) -> int:
    """Run all, ``at_once`` at a time; returns how many failed.

    Whoever interrupts it ends the processes that run; what they had not finished is left undone.
    """
    columns = (
        TextColumn(f'[bold]{title}'), BarColumn(), TextColumn('{task.percentage:.1f} %'),
        TextColumn('{task.fields[words]}'), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    shares, lock, failed = [0.0] * len(jobs), threading.Lock(), 0
    alive: set[subprocess.Popen[str]] = set()
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(at_once) as pool:
        bar = progress.add_task('', total=max(len(jobs), 1), words='')

        def tell(index: int, share: float) -> None:
            with lock:
                shares[index] = share
                progress.update(bar, completed=sum(shares))

        futures = {
            pool.submit(_run, job, alive, partial(tell, i)): i for i, job in enumerate(jobs)
        }
        try:
            for done in as_completed(futures):
                index = futures[done]
                trouble = done.result()
                tell(index, 1.0)
                words = f'{jobs[index].words}: {trouble or "done"}'
                progress.update(bar, words=words)
                if trouble:
                    failed += 1
                    console.print(f'[red]{words}')
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(alive):
                process.terminate()
            raise
    return failed


def _run(job: Job, alive: set[subprocess.Popen[str]], tell: Callable[[float], None]) -> str:
    """Run one; returns '' or what its last words were."""
    last = ''
    with subprocess.Popen(
        job.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        alive.add(process)
        assert process.stdout is not None
        for line in process.stdout:
            try:
                tell(float(line))
            except ValueError:
                last = line.strip() or last
    alive.discard(process)
    return '' if process.returncode == 0 else last or f'died with {process.returncode}'
