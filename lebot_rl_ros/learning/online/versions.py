"""Versions of the adapter that is trained: where they are kept, and how one is asked to act."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lebot_rl_ros.policy.adapters import Adapter, AdapterManifest, LoraConfig


class Store(Protocol):
    """Where versions are kept; :class:`policy.store.AdapterStore` is one."""

    def add(
        self,
        name: str,
        config: LoraConfig,
        tensors: Mapping[str, npt.NDArray[np.float32]],
        manifest: AdapterManifest,
    ) -> Adapter:
        """Write the next version of a name."""

    def judge(self, name: str, version: int, verdict: str, reason: str) -> None:
        """Write a verdict into the manifest of a version."""

    def get(self, name: str, version: int) -> Adapter:
        """Read a version."""


class Memory:
    """A store without a disk."""

    def __init__(self) -> None:
        """Empty."""
        self.adapters: list[Adapter] = []

    def add(
        self,
        name: str,
        config: LoraConfig,
        tensors: Mapping[str, npt.NDArray[np.float32]],
        manifest: AdapterManifest,
    ) -> Adapter:
        """Keep the next version."""
        version = len(self.adapters) + 1
        made = Adapter(config, dict(tensors), replace(manifest, name=name, version=version))
        self.adapters.append(made)
        return made

    def judge(self, name: str, version: int, verdict: str, reason: str) -> None:
        """Note a verdict."""
        one = self.adapters[version - 1]
        manifest = replace(one.manifest, verdict=verdict, reason=reason)
        self.adapters[version - 1] = replace(one, manifest=manifest)

    def get(self, name: str, version: int) -> Adapter:
        """Give a version back."""
        return self.adapters[version - 1]


@dataclass(frozen=True)
class Swap:
    """What shall act from now on."""

    label: str  # NAME@VERSION; '' is the base alone
    version: int
    adapter: Adapter | None  # None: the base alone
    reason: str
