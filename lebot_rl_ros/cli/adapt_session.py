"""Our side of a run of `lebot benchmark adapt`: the session that learns, and what acts."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lebot_rl_ros.cli.adapt_cells import EXPLORATION, Cell
from lebot_rl_ros.cli.adapt_residual import ResidualPolicy, ResidualSession, ResidualSwap
from lebot_rl_ros.control.walker import Walk, Walker
from lebot_rl_ros.data.stream_faults import PERIOD, HostileStream
from lebot_rl_ros.learning.online.gate import GateConfig
from lebot_rl_ros.learning.online.session import Session, Swap
from lebot_rl_ros.learning.online.session_config import SessionConfig
from lebot_rl_ros.learning.online.trained import TrainedConfig
from lebot_rl_ros.policy.adapters import merge
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.robot import Robot

LAG = 4  # versions that a hostile stream lies behind
Array = np.ndarray[Any, np.dtype[Any]]


def make_walker(cell: Cell, robot: Robot, walk: Walk, seed: int) -> Walker:
    """What the policy node runs; who does not learn does not explore."""
    return Walker(robot, walk, seed=seed, exploration=EXPLORATION if cell.learner else 0.0)


def make_session(cell: Cell, walk: Walk, seed: int) -> Session | ResidualSession | None:
    """The session of a learner; None for `none`.

    Raises:
        ValueError: a residual network through a hostile stream, which is not to be had.
    """
    if not cell.learner:
        return None
    assert isinstance(walk.policy, PolicyRuntime)
    config = SessionConfig(
        learner=cell.learner,
        trained=TrainedConfig(**cell.trained),
        gate=GateConfig() if cell.gate == 'gate' else None,
    )
    if cell.trained['kind'] == 'residual':
        if cell.stream != 'clean':
            raise ValueError(
                f'{cell.method} is for a clean stream only, this one is {cell.stream}'
            )
        return ResidualSession(walk, config, seed)
    if cell.stream == 'clean':
        return Session(walk.tensors, walk.policy.manifest, config, seed=seed)
    return HostileSession(walk, config, seed)


class HostileSession(Session):
    """One whose rows are lost, late, out of order, and :data:`LAG` versions behind."""

    def __init__(self, walk: Walk, config: SessionConfig, seed: int) -> None:
        """Begin."""
        assert isinstance(walk.policy, PolicyRuntime)
        super().__init__(walk.tensors, walk.policy.manifest, config, seed=seed)
        self._stream = HostileStream(seed=seed)
        self._lag = LAG * config.offer_every * PERIOD  # ns
        self._now = 0

    def steps(self, rows: Array) -> None:
        """Send rows on their way."""
        self._put('steps', rows)

    def rewards(self, rows: Array) -> None:
        """Send rows on their way."""
        self._put('rewards', rows)

    def _put(self, topic: str, rows: Array) -> None:
        for row in rows:
            stamp = int(row['sec']) * 1_000_000_000 + int(row['nanosec'])
            self._now = stamp
            self._stream.put(topic, stamp, row)

    def work(self) -> Swap | None:
        """Learn from what has arrived by now."""
        for topic, row in self._stream.take(self._now - self._lag):
            take = super().steps if topic == 'steps' else super().rewards
            take(np.array([row]))
        return super().work()


class Acting:
    """Walker and judged policy, which a swap changes together."""

    def __init__(self, walk: Walk, walker: Walker) -> None:
        """Let the base act."""
        assert isinstance(walk.policy, PolicyRuntime)
        self._walk, self._walker, self._base = walk, walker, walk.policy
        self.runtime: PolicyRuntime | ResidualPolicy = walk.policy

    def install(self, swap: Swap | ResidualSwap) -> None:
        """Merge what a swap brings and let it act; the base where it brings nothing.

        Raises:
            AdapterError: the adapter does not fit the base.
        """
        version, sha256 = swap.version, ''
        adapter = None if isinstance(swap, ResidualSwap) else swap.adapter
        if isinstance(swap, ResidualSwap):
            self.runtime = swap.runtime
        elif adapter is None:
            self.runtime = self._base
        else:
            adapter.check(self._base.manifest)
            merged = merge(self._walk.tensors, [(adapter, 1.0)])
            self.runtime = PolicyRuntime(merged, self._base.manifest)
            sha256 = adapter.manifest.sha256
        self._walker.swap(Merged(version, sha256 or '0' * 64, self.runtime))


@dataclass(frozen=True)
class Merged:
    """A base with an adapter in it."""

    version: int
    sha256: str  # zeros where it was never written to disk
    runtime: PolicyRuntime | ResidualPolicy
