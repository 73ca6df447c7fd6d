"""Runs a stack as processes, where there is no `ros2 launch`: start, watch, respawn, end."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lebot_rl_ros.bringup.graph import NodeSpec, Stack

PATIENCE = (6.0, 2.0)  # s after SIGINT, and after SIGTERM, before the next
PR_SET_PDEATHSIG = 1


@dataclass
class Process:
    """One running node."""

    spec: NodeSpec
    popen: subprocess.Popen[str]
    restarts: int = 0
    due: float | None = None  # time of the respawn
    output: deque[str] = field(default_factory=lambda: deque(maxlen=50))  # its last lines


class Runner:
    """Processes of one stack. ``on_event`` hears what happens to them, for people."""

    def __init__(
        self,
        stack: Stack,
        logs: Path,
        on_event: Callable[[str], None],
        environment: dict[str, str] | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            stack: what to run.
            logs: folder for one log file per node.
            on_event: told in one line of every death, respawn and refusal to end.
            environment: of the processes; this one's by default.
        """
        self._specs = [spec for spec in stack.nodes if spec.condition]
        self._logs, self._on_event = logs, on_event
        self._environment = dict(environment or os.environ)
        # Loopback only, unless the user has asked for the network.
        self._environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        self._environment['PYTHONUNBUFFERED'] = '1'
        # The networks are small: threads would only wait for each other.
        for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
            self._environment.setdefault(name, '1')
        self.processes: dict[str, Process] = {}
        self.failed = ''  # why the stack cannot go on

    def __enter__(self) -> 'Runner':
        """Start all nodes."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for spec in self._specs:
            self.processes[spec.name] = Process(spec, self._start(spec))
        return self

    def __exit__(self, *args: object) -> None:
        """End all nodes."""
        self.stop()

    @property
    def down(self) -> set[str]:
        """Nodes that died and wait to be started again."""
        return {name for name, process in self.processes.items() if process.due is not None}

    def spoken(self, name: str) -> bool:
        """Whether a node has written anything: it is past its imports and in the graph."""
        return name not in self.processes or bool(self.processes[name].output)

    def poll(self) -> None:
        """Notice deaths and respawn what may be; call it a few times a second."""
        now = time.monotonic()
        for process in self.processes.values():
            if process.due is not None:
                if now >= process.due:
                    process.popen, process.due = self._start(process.spec), None
                    process.restarts += 1
                    self._on_event(f'{process.spec.name} was started again')
                continue
            code = process.popen.poll()
            if code is None:
                continue
            died = f'{process.spec.name} {_how(code)}'
            if process.spec.respawns(code):
                process.due = now + process.spec.respawn_delay
                self._on_event(f'{died}; starting it again in {process.spec.respawn_delay:g} s')
            elif not self.failed:
                last = next((line for line in reversed(process.output) if 'FATAL' in line), '')
                self.failed = f'{died}{": " if last else ""}{last.partition("] ")[2] or last}'
                self._on_event(self.failed)

    def stop(self) -> list[str]:
        """Interrupt all, wait, then insist; returns how those ended that did not end well.

        Who ends last is interrupted when the others are gone.
        """
        running = [process for process in self.processes.values() if process.due is None]
        for last in (False, True):
            self._end([process for process in running if process.spec.ends_last is last])
        badly = [
            f'{process.spec.name} {_how(process.popen.returncode)}'
            for process in running
            if process.popen.returncode
        ]
        for event in badly if not self.failed else ():
            self._on_event(event)
        return badly

    def _end(self, running: list[Process]) -> None:
        for number, patience in zip((signal.SIGINT, signal.SIGTERM), PATIENCE, strict=True):
            for process in running:
                if process.popen.poll() is None:
                    process.popen.send_signal(number)
            deadline = time.monotonic() + patience
            for process in running:
                try:
                    process.popen.wait(max(deadline - time.monotonic(), 0.01))
                except subprocess.TimeoutExpired:
                    self._on_event(
                        f'{process.spec.name} did not end {patience:g} s after {number.name}'
                    )
        for process in running:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()

    def _start(self, spec: NodeSpec) -> 'subprocess.Popen[str]':
        command = [
            sys.executable,
            '-m',
            f'lebot_rl_ros.nodes.{spec.executable}',
            *spec.ros_arguments(),
        ]
        # A group of its own: Ctrl-C in the terminal reaches the runner alone, which then ends the
        # nodes in order.
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        log = (self._logs / f'{spec.name}.log').open('a')
        threading.Thread(
            target=self._drain, args=(spec.name, popen.stdout, log), daemon=True
        ).start()
        return popen

    def _drain(self, name: str, stream: IO[str], log: IO[str]) -> None:
        with stream, log:
            for line in stream:
                log.write(line)
                log.flush()
                process = self.processes.get(name)
                if process:
                    process.output.append(line.rstrip())
                if line.startswith(('[WARN]', '[ERROR]')):
                    self._on_event(f'{name}: {line.rpartition("]: ")[2].rstrip()}')


def _die_with_parent() -> None:
    """Ask Linux to interrupt the node when the runner dies, however it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _how(code: int) -> str:
    return (
        f'was killed by {signal.Signals(-code).name}' if code < 0 else f'ended with status {code}'
    )
