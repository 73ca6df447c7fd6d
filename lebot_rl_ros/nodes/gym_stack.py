"""A driver's processes, started for one environment and ended with it."""

import itertools
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lebot_rl_ros.bringup.graph import Stack, walk_stack
from lebot_rl_ros.bringup.runner import Runner

THINKING = 3600.0  # s that a simulation in lockstep waits for a learner that learns
OURS = ('policy', 'teleop', 'namespace', 'respawn')  # arguments that are not the user's here
_count = itertools.count()


def driver_stack(given: Mapping[str, object]) -> Stack:
    """The graph of a walk without policy, teleop, reward and odometry: what a learner needs.

    Args:
        given: arguments of ``bringup.arguments``.

    Raises:
        ValueError: as :func:`parse_arguments`, or an argument that is not for the user here.
    """
    wrong = [name for name in given if name in OURS]
    if wrong or given.get('backend') == 'hardware':
        what = f'{", ".join(wrong)} cannot be given' if wrong else "backend is 'hardware'"
        raise ValueError(
            f'{what} to an environment that starts its own simulated robot (backend mujoco or '
            'wire); start a graph with `ros2 launch lebot_rl_ros walk.launch.py policy:=none '
            'teleop:=none ...` and give attach=True'
        )
    name = f'lebot_env_{os.getpid()}_{next(_count)}'  # two environments do not meet
    stack = walk_stack(
        {**given, 'policy': 'none', 'teleop': 'none', 'namespace': name, 'respawn': False}
    )
    patient = {'lockstep_timeout': THINKING}
    nodes = tuple(
        replace(node, parameters={**node.parameters, **patient})
        if node.name == stack.driver
        else node
        for node in stack.nodes
        if node.condition and node.name != 'odometry'
    )
    return replace(stack, nodes=nodes)


class OwnStack:
    """Runs it. Logs and ports lie in a folder of its own, which goes with it."""

    def __init__(self, given: Mapping[str, object], domain: int | None) -> None:
        """Start the processes.

        Raises:
            ValueError: as :func:`driver_stack`.
        """
        self.folder = Path(tempfile.mkdtemp(prefix='lebot-env-'))
        if given.get('backend') == 'wire':
            given = {'ports': str(self.folder / 'ports'), **given}
        stack = driver_stack(given)
        self.namespace = str(stack.arguments['namespace'])
        self.events: deque[str] = deque(maxlen=20)
        environment = dict(os.environ)
        if domain is not None:
            environment['ROS_DOMAIN_ID'] = str(domain)
        self._runner = Runner(stack, self.folder / 'logs', self.events.append, environment)
        self._runner.__enter__()

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [process.popen.pid for process in self._runner.processes.values()]

    def failed(self) -> str:
        """Why the processes cannot go on; empty while they do."""
        self._runner.poll()
        return self._runner.failed

    def close(self) -> None:
        """End the processes, robot down first, and remove what they wrote."""
        self._runner.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
