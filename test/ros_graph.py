"""Real processes and a real DDS graph for tests: one domain per test, all ended at its end."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

ROOT = Path(__file__).resolve().parents[1]
_claims: list[IO[str]] = []
_next = 0


def fresh_domain() -> int:
    """A domain in 1-100 that no other test process on this machine has: its lock file is ours.

    It is given back at the end of the test (:func:`give_back`), and taken again as late as can be.
    """
    global _next
    for _ in range(100):
        _next = _next % 100 + 1
        claim = (Path(tempfile.gettempdir()) / f'lebot-test-domain-{_next}').open('w')
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return _next
    raise RuntimeError('all ROS domains from 1 to 100 are taken by test processes')


def claimed() -> int:
    """How many domains this process has."""
    return len(_claims)


def give_back(count: int) -> None:
    """Keep the first ``count`` domains that were claimed, and let others have the rest."""
    while len(_claims) > count:
        _claims.pop().close()


def shared_memory(domain: int) -> set[str]:
    """Locks of the files in which participants of a domain are reached (RTPS 2.2, 9.6.1.1).

    A test compares with what was there before it: a run that was killed leaves its own. The files
    without a lock do not count: a peer's last word may make one once more when its reader is gone.
    """
    first = 7400 + 250 * domain
    ours = {path.readlink() for path in Path('/proc/self/fd').glob('*') if path.is_symlink()}
    locks = [Path(f'/dev/shm/fastrtps_port{n}_el') for n in range(first, first + 250)]
    return {lock.name for lock in locks if lock.exists() and lock not in ours}


def environment(domain: int) -> dict[str, str]:
    """Environment of processes in this domain, on the loopback."""
    return os.environ | {
        'ROS_DOMAIN_ID': str(domain),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'OPENBLAS_NUM_THREADS': '1',
        'OMP_NUM_THREADS': '1',
        'PYTHONUNBUFFERED': '1',
        'COLUMNS': '200',
    }


class Probe:
    """A node of the test in a domain: keeps what it hears, says what the test wants."""

    def __init__(self, domain: int) -> None:
        """Join."""
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node('probe', context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.health: dict[str, tuple[int, str, dict[str, str]]] = {}
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_health, 10)

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self.health[status.name] = (ord(status.level), status.message, values)

    def listen(self, message_type: type, topic: str, qos: Any = 100) -> list[Any]:
        """A list that grows with every message of a topic."""
        heard: list[Any] = []
        self.node.create_subscription(message_type, topic, heard.append, qos)
        return heard

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
        """Spin until the condition is true and return its value; fail if that takes too long."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > end:
                raise AssertionError(
                    f'waited {seconds} s in vain for {what}; health: {self.health}'
                )
            self._executor.spin_once(timeout_sec=0.05)
        return value

    def within(self, seconds: float, condition: Callable[[], Any]) -> bool:
        """Spin until the condition is true or the time is over; returns which."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)
        return bool(condition())

    def call(self, service_type: type, name: str, request: Any = None) -> Any:
        """Call a service and wait for its answer."""
        client = self.node.create_client(service_type, name)
        self.until(lambda: client.service_is_ready(), f'service {name}')
        future = client.call_async(request or service_type.Request())
        self.until(future.done, f'answer of {name}')
        self.node.destroy_client(client)
        return future.result()

    def meet(self, node: str) -> None:
        """Wait until a node answers: until then it may not know us, and answers may be lost."""
        client = self.node.create_client(GetParameters, f'{node}/get_parameters')
        asked: list[Any] = []

        def answered() -> bool:
            if client.service_is_ready():
                asked.append(client.call_async(GetParameters.Request()))
            return self.within(1.0, lambda: any(future.done() for future in asked))

        self.until(answered, f'word from {node}')
        self.node.destroy_client(client)

    def close(self) -> None:
        """Leave."""
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@contextmanager
def probe(domain: int) -> Iterator[Probe]:
    """A probe for the time of a test."""
    listening = Probe(domain)
    try:
        yield listening
    finally:
        listening.close()


@contextmanager
def node_process(domain: int, name: str, **parameters: object) -> Iterator[subprocess.Popen[str]]:
    """A node of ours as a process; ended with SIGINT, and it must end with status 0 by itself."""
    words = [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]
    command = [sys.executable, '-m', f'lebot_rl_ros.nodes.{name}', '--ros-args', *words]
    popen = subprocess.Popen(
        command,
        env=environment(domain),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield popen
        if popen.poll() is None:
            popen.send_signal(signal.SIGINT)
            popen.wait(20)
            assert popen.returncode == 0, popen.stdout.read()
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()
        popen.stdout.close()


def lebot(
    *words: str, domain: int | None = None, timeout: float = 90.0
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, '-m', 'lebot_rl_ros.cli.main', *words],
        env=environment(fresh_domain() if domain is None else domain),
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
