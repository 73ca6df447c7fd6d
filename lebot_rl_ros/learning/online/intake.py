"""Rows of steps and of rewards, from the first ones on, as transitions."""

from typing import Any

import numpy as np

from lebot_rl_ros.data.joining import Joiner
from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.policy.files import PolicyManifest


class Intake:
    """A joiner for one base, made once both topics have said what their rows are."""

    def __init__(self, manifest: PolicyManifest) -> None:
        """Wait for rows of this policy."""
        self._manifest = manifest
        self._joiner: Joiner | None = None
        self._types: list[np.dtype[Any] | None] = [None, None]
        self._waiting: tuple[list[Array], list[Array]] = ([], [])

    def steps(self, rows: Array) -> None:
        """Take rows of `policy/steps`, in any order."""
        self._take(0, rows)

    def rewards(self, rows: Array) -> None:
        """Take rows of `reward/rewards`, in any order."""
        self._take(1, rows)

    def transitions(self) -> Array | None:
        """Those (N,) that are complete since the last call; None while a topic is silent."""
        return self._joiner.take() if self._joiner else None

    @property
    def counts(self) -> dict[str, int]:
        """The joiner's."""
        return {} if self._joiner is None else dict(self._joiner.counts)

    def _take(self, topic: int, rows: Array) -> None:
        if self._joiner is not None:
            (self._joiner.steps if topic == 0 else self._joiner.rewards)(rows)
            return
        self._types[topic] = rows.dtype
        self._waiting[topic].append(rows.copy())
        step, reward = self._types
        if step is None or reward is None:
            return
        self._joiner = Joiner.fitting(
            step,
            reward,
            period=round(1e9 / self._manifest.control_rate),
            base_sha256=self._manifest.sha256,
        )
        for i, waiting in enumerate(self._waiting):
            for one in waiting:
                self._take(i, one)
            waiting.clear()
