"""A bounded residual network in `lebot benchmark adapt`: no adapter, so no gate and no file.

It stands beside the adapters for comparison: joined, learned and offered as the session does, but
what it has learned acts unjudged, and only here.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lebot_rl_ros.control.walker import Walk
from lebot_rl_ros.data.joining import Joiner, learnable
from lebot_rl_ros.learning.online.registry import make_learner
from lebot_rl_ros.learning.online.session_config import SessionConfig
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.runtime import Network, PolicyRuntime

Array = np.ndarray[Any, np.dtype[Any]]


class ResidualPolicy:
    """A base and what is added to its mean action: bound tanh(network), action units."""

    def __init__(self, base: PolicyRuntime, trained: Trained) -> None:
        """Copy the residual network as it is now."""
        self._base, self._bound = base, np.float32(trained.config.bound)
        self.log_std, self.sha256 = base.log_std, base.sha256
        normaliser = trained.normaliser
        self._scale = torch.rsqrt(normaliser.var + 1e-4).numpy().copy()
        self._mean = normaliser.mean.numpy().copy()
        own = {name: value.detach().numpy() for name, value in trained.actor.named_parameters()}
        layers = []
        for i in range(len(own) // 2):
            weight, bias = own[f'{i}.weight'], own[f'{i}.bias']
            layers.append(np.concatenate((weight.T, bias[None])).astype(np.float32))
        self._network = Network(layers, str(base.manifest.network['activation']))

    def act(self, observation: Array, out: Array | None = None) -> Array:
        """Mean action (J,) for one observation."""
        mean = self._base.act(observation, out)
        mean += self._added(observation[None])[0]
        return mean

    def act_many(self, observations: Array) -> Array:
        """Mean actions (N, J)."""
        return self._base.act_many(observations) + self._added(observations)

    def value(self, observation: Array) -> float:
        """Of the base."""
        return self._base.value(observation)

    def _added(self, observations: Array) -> Array:
        x = (np.asarray(observations, np.float32) - self._mean) * self._scale
        return np.asarray(self._bound * np.tanh(self._network.many(x)))


@dataclass(frozen=True)
class ResidualSwap:
    """What shall act from now on."""

    version: int
    runtime: ResidualPolicy


class ResidualSession:
    """Learns as the session does; each offer acts, and counts as accepted for the learner."""

    def __init__(self, walk: Walk, config: SessionConfig, seed: int) -> None:
        """Begin from the base."""
        assert isinstance(walk.policy, PolicyRuntime)
        self._base, self._config = walk.policy, config
        manifest = walk.policy.manifest
        trained = Trained(walk.tensors, manifest, config.trained, seed)
        self.learner = make_learner(config.learner, trained, walk.tensors, config.settings, seed)
        self._period = round(1e9 / manifest.control_rate)
        self._joiner: Joiner | None = None
        self._steps: Array | None = None
        self._since_update = self._since_offer = self._version = 0
        self.events: deque[dict[str, Any]] = deque()
        self.metrics: dict[str, float] = {}
        self.learned = 0

    def steps(self, rows: Array) -> None:
        """Take rows of policy/steps."""
        if self._joiner is None:
            self._steps = rows.copy()
        else:
            self._joiner.steps(rows)

    def rewards(self, rows: Array) -> None:
        """Take rows of reward/rewards; the first come after the first steps."""
        if self._joiner is None and self._steps is not None:
            self._joiner = Joiner.fitting(
                self._steps.dtype, rows.dtype, period=self._period, base_sha256=self._base.sha256
            )
            self._joiner.steps(self._steps)
        if self._joiner is not None:
            self._joiner.rewards(rows)

    def work(self) -> ResidualSwap | None:
        """Learn what is due; what shall act, every ``offer_every`` steps."""
        rows = self._joiner.take() if self._joiner else None
        if rows is None or not len(rows):
            return None
        rows = rows[learnable(rows)]
        if len(rows):
            self.learner.ingest(rows)
        self.learned += len(rows)
        self._since_update += len(rows)
        self._since_offer += len(rows)
        if self._since_update >= self._config.update_every:
            self._since_update = 0
            self.metrics |= self.learner.update()
        if self._since_offer < self._config.offer_every or not self.metrics:
            return None
        self._since_offer = 0
        self._version += 1
        return ResidualSwap(self._version, ResidualPolicy(self._base, self.learner.trained))

    def swapped(self, swap: ResidualSwap, acts: bool, reason: str) -> None:
        """It always acts."""

    def statistics(self) -> dict[str, float]:
        """The learner's last numbers."""
        return {'learned': float(self.learned), **self.metrics}
