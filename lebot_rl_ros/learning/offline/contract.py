"""The contract of methods that learn from recorded steps. No ROS, no clock, no disk."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.data.joining import learnable, trajectories
from lebot_rl_ros.learning.method import Array, Metrics
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.files import PolicyManifest


@dataclass(frozen=True, eq=False)
class OfflineData:
    """Steps to learn from, one recording after another; build it with :func:`offline_data`."""

    rows: Array = field(repr=False)  # (N,) ``data.rows.transition_dtype``, all learnable
    sources: tuple[int, ...]  # rows of each recording, N in all

    def __len__(self) -> int:
        """Return the number of steps, N."""
        return len(self.rows)

    @cached_property
    def trajectories(self) -> list[slice]:
        """Runs of steps that follow each other; none reaches over the end of a recording."""
        found, start = [], 0
        for count in self.sources:
            runs = trajectories(self.rows[start : start + count])
            found += [slice(run.start + start, run.stop + start) for run in runs]
            start += count
        return found

    def tensor(self, name: str) -> Tensor:
        """A column as float32, (N, ...); it may share its memory with nothing."""
        return torch.from_numpy(np.array(self.rows[name], np.float32))


def offline_data(
    recordings: Sequence[Array], manifest: PolicyManifest, *, start: float = 0.0
) -> OfflineData:
    """Take what can be learned from of recordings, each rows of ``transition_dtype``.

    Columns of reward terms that not all of them have are left out. Versions of adapters do not
    matter: every method here learns from actions, whoever took them.

    Args:
        recordings: rows (N_i,) in the order of time.
        manifest: of the base that is to be trained.
        start: seconds to leave out at the beginning of each.

    Raises:
        ValueError: widths of another robot, another base, numbers that are not finite, or nothing
            to learn from.
    """
    wanted = manifest.observation_size, len(manifest.joint_names)
    base = np.frombuffer(bytes.fromhex(manifest.sha256), np.uint8) if manifest.sha256 else None
    kept = []
    for number, rows in enumerate(recordings, start=1):
        found = rows.dtype['observation'].shape[0], rows.dtype['action'].shape[0]
        if found != wanted:
            raise ValueError(
                f'recording {number} has {found[0]} observations and {found[1]} joints, '
                f'the policy has {wanted[0]} and {wanted[1]}'
            )
        if start and len(rows):
            rows = rows[rows['stamp'] >= rows['stamp'][0] + round(start * 1e9)]
        rows = rows[learnable(rows)]
        if base is not None and not (rows['base_sha256'] == base).all():
            other = rows['base_sha256'][(rows['base_sha256'] != base).any(axis=1)][0]
            raise ValueError(
                f'recording {number} was made with the base {other.tobytes().hex()[:12]}, '
                f'this one is {manifest.sha256[:12]}'
            )
        for name in ('observation', 'next_observation', 'action', 'mean', 'reward'):
            bad = int(np.count_nonzero(~np.isfinite(rows[name])))
            if bad:
                raise ValueError(f'recording {number}: {bad} numbers of {name} are not finite')
        kept.append(rows)
    if not sum(map(len, kept)):
        raise ValueError(
            f'nothing to learn from in {len(kept)} recordings: no step in which the driver '
            f'followed the policy and which led to a known state'
        )
    return OfflineData(_joined(kept), tuple(map(len, kept)))


def _joined(parts: list[Array]) -> Array:
    """All rows, with the fields that all parts have."""
    all_names = [part.dtype.names or () for part in parts]
    names = [name for name in all_names[0] if all(name in others for others in all_names)]
    dtype = np.dtype([(name, parts[0].dtype[name]) for name in names])
    out = np.empty(sum(map(len, parts)), dtype)
    at = 0
    for part in parts:
        for name in names:
            out[name][at : at + len(part)] = part[name]
        at += len(part)
    return out


class OfflineMethod(Protocol):
    """Improves what is trained, from data alone. Built as ``METHOD(trained, base, config, seed)``.

    ``base``: the policy's tensors (``policy.files.Tensors``); ``config``: the method's own frozen
    dataclass, whose fields are what ``--set NAME=VALUE`` can change.
    """

    name: str
    trained: Trained
    config: Any

    def learn(self, data: OfflineData, steps: int) -> Metrics:
        """Do so many gradient steps; called again and again with the same data.

        What must be worked out once (weights of steps, a critic's first fit) is done in the first
        call and kept.

        Returns:
            Means over these steps, finite, by the field's names: policy_loss, value_loss, q_mean,
            deviation (root mean square of what the mean action differs from the base's).

        Raises:
            ValueError: the data lack what the method needs; the message says what.
        """
