"""Simulated walks for `lebot benchmark gate`: policies in, transitions out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.data.rows import transition_dtype
from lebot_rl_ros.envs.velocity_task import VelocityConfig, VelocityTask
from lebot_rl_ros.learning.online.behaviour import FloatArray
from lebot_rl_ros.policy.adapters import Adapter, merge
from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.runtime import PolicyRuntime
from lebot_rl_ros.robot import Robot
from lebot_rl_ros.safety.supervisor import Mode
from lebot_rl_ros.sim.fault_text import parse_fault
from lebot_rl_ros.sim.faults import inject
from lebot_rl_ros.sim.randomisation import NOMINAL

Rows = npt.NDArray[np.void]
SPREAD = 0.1  # action units, of the exploration
ENDLESS = 1e6  # s of an episode: only falls end one
CHANGE = 2.5  # s between commands where they change


@dataclass(frozen=True)
class Place:
    """Where robots walk: with which fault, and what they are told."""

    fault: str = ''  # as the simulation's faults are written; '' is none
    command: tuple[float, float] | None = (0.3, 0.0)  # m/s, rad/s; None lets it change

    def __str__(self) -> str:
        """In words."""
        told = 'commands change' if self.command is None else '{:g} m/s, {:g} rad/s'
        return f'{self.fault or "no fault"}, {told.format(*(self.command or ()))}'


class Walk:
    """Some robots at one place that go on walking, whoever acts."""

    def __init__(
        self, robot: Robot, base: Tensors, manifest: PolicyManifest, place: Place,
        robots: int = 1, seed: int = 0, spread: float = SPREAD,
    ) -> None:  # fmt: skip
        """Put them at the place; nothing has moved yet."""
        self.base, self.manifest, self.place, self.spread = base, manifest, place, spread
        config = VelocityConfig(randomisation=NOMINAL, episode=ENDLESS, hold=CHANGE)
        self.task = VelocityTask(robot, robots, config, seed=seed, threads=1)
        if place.command is not None:
            self.task.pinned_command = np.tile(place.command, (robots, 1))
        self._fault = parse_fault(place.fault, robot.joint_names) if place.fault else None
        self._period = round(1e9 * self.task.simulation.period)
        self._rng = np.random.default_rng([seed, 2])
        # Robots live at times far apart, so that their rows never seem to follow each other.
        self._stamp = np.arange(robots, dtype=np.int64) * 10**15
        self._observation = self.task.reset()
        self._broken(np.ones(robots, dtype=bool))

    def _broken(self, which: npt.NDArray[np.bool_]) -> None:
        """Give robots their fault, which every reset heals."""
        if self._fault is not None:
            for index in np.flatnonzero(which).tolist():
                inject(self._fault, self.task.simulation, index)

    def go(
        self,
        adapters: Adapter | Sequence[Adapter | None] | None,
        steps: int,
        stop: Callable[[Rows], bool] | None = None,
    ) -> Rows:
        """Walk on; falls are followed by a start anew.

        Args:
            adapters: that acts on the base, for all robots or one each; None is the base.
            steps: control periods, at most.
            stop: called with the rows (N,) of each period; True ends the walk.

        Returns:
            Rows (steps, N), ``data.rows.transition_dtype``.
        """
        robots, joints = self.task.robots, len(self.manifest.joint_names)
        each = list(adapters) if isinstance(adapters, Sequence) else [adapters] * robots
        distinct = {id(adapter): adapter for adapter in each}
        groups = [
            (self._runtime(adapter), adapter, [i for i, a in enumerate(each) if id(a) == key])
            for key, adapter in distinct.items()
        ]
        rows: list[Rows] = []
        dtype: np.dtype[np.void] | None = None
        for _ in range(steps):
            observation = self._observation
            mean = np.empty((robots, joints), dtype=np.float32)
            for runtime, _, group in groups:
                mean[group] = runtime.act_many(observation[group])
            noise = self._rng.standard_normal((robots, joints))
            action = (mean + self.spread * noise).astype(np.float32)
            outcome = self.task.step(action)
            self._observation = outcome.observation
            if dtype is None:
                dtype = transition_dtype(observation.shape[1], joints, list(outcome.terms))
            row = np.zeros(robots, dtype=dtype)
            row['stamp'], row['next_stamp'] = self._stamp, self._stamp + self._period
            row['observation'] = observation
            row['command'] = command_of(observation, self.manifest)
            row['next_observation'] = outcome.final_observation
            row['action'] = row['applied_action'] = action
            row['mean'], row['std'], row['mode'] = mean, self.spread, Mode.TRACK
            for _, adapter, group in groups:
                row['adapter_version'][group] = adapter.manifest.version if adapter else 0
            row['log_prob'] = -0.5 * np.square(noise).sum(axis=1) - joints * (
                np.log(self.spread) + 0.5 * np.log(2.0 * np.pi)
            )
            row['blend'] = row['known'] = row['follows'] = 1
            row['reward'], row['terminated'] = outcome.reward, outcome.terminated
            for name, value in outcome.terms.items():
                row[name] = value
            self._stamp = self._stamp + self._period + outcome.terminated * 10**10
            self._broken(outcome.terminated)
            rows.append(row)
            if stop is not None and stop(row):
                break
        return np.stack(rows)

    def _runtime(self, adapter: Adapter | None) -> PolicyRuntime:
        parts = [] if adapter is None else [(adapter, 1.0)]
        return PolicyRuntime(merge(self.base, parts), self.manifest, compiled=False)


def command_of(observations: FloatArray, manifest: PolicyManifest) -> FloatArray:
    """The commands (N, 2), m/s and rad/s, that observations (N, O) have in them."""
    layout = manifest.observation
    index = list(layout['names']).index('command')
    start = sum(layout['widths'][:index])
    return observations[:, start : start + 2] / layout['scales'][index]


def in_order(rows: Rows) -> Rows:
    """Rows (T, N) as one run (T N,), robot after robot."""
    return np.ascontiguousarray(rows.T).reshape(-1)


def score(walk: Walk, adapters: Sequence[Adapter | None], steps: int) -> FloatArray:
    """Mean reward a step of each adapter, with its falls' price, (N,): a robot each."""
    return np.asarray(walk.go(adapters, steps)['reward'].mean(axis=0), np.float64)
