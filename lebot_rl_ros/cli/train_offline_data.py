"""What `lebot train offline` learns from: the bags, what is in them, and what is left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from lebot_rl_ros.data.joining import learnable
from lebot_rl_ros.learning.method import Array
from lebot_rl_ros.learning.offline.contract import OfflineData, offline_data
from lebot_rl_ros.policy.files import PolicyManifest
from lebot_rl_ros.robot import Robot

SPLIT = 'train'  # of a data set: what is learned from


@dataclass(frozen=True)
class Source:
    """One bag, as a manifest and a table tell it."""

    path: str  # its name
    sha256: str
    rows: int  # joined steps
    learnable: int  # of them
    falls: int
    seconds: float  # from the first to the last stamp
    reward: float  # a step, mean over what is learnable
    spread: float  # of what was explored, action units, mean over what is learnable
    adapters: tuple[int, ...]  # versions that acted; 0 is the base or a mixture
    started: str  # ISO 8601, where the bag says so
    bags: tuple[tuple[str, str], ...] = ()  # of a data set: names and hashes

    def as_data(self) -> dict[str, Any]:
        """For a manifest."""
        bags = [{'name': name, 'sha256': sha256} for name, sha256 in self.bags]
        return ({'bags': bags} if bags else {}) | {
            'name': self.path, 'sha256': self.sha256, 'rows': self.rows,
            'learnable': self.learnable, 'falls': self.falls, 'seconds': round(self.seconds, 3),
            'started': self.started,
        }  # fmt: skip


def read_bags(
    paths: Sequence[Path],
    manifest: PolicyManifest,
    robot: Robot,
    *,
    namespace: str = '',
    skip: float = 0.0,
    cache: bool = True,
    progress: Callable[[int, int, Path], None] | None = None,
) -> tuple[OfflineData, list[Source]]:
    """Read bags into what methods learn from.

    Raises:
        BagError: a bag cannot be read, is of another robot or base, or has no steps.
        ValueError: nothing to learn from.
    """
    from lebot_rl_ros.data.bag.transitions import read_transitions  # late: needs the extra record

    # Without a base to pick, bags that mix several are refused, and the data say if it is ours.
    found = read_transitions(
        paths, namespace=namespace, cache=cache, progress=progress, robot=robot,
        observation=manifest.observation_size,
    )  # fmt: skip
    sources = [
        describe(one.rows, one.path.name, one.sha256, one.metadata.get('started', ''))
        for one in found
    ]
    return offline_data([one.rows for one in found], manifest, start=skip), sources


def read_set(
    text: str, manifest: PolicyManifest, *, skip: float = 0.0, cache: bool = True
) -> tuple[OfflineData, list[Source]]:
    """Read the training split of a data set, NAME or NAME@VERSION, as one recording.

    Raises:
        ValueError: there is no such data set, or its bags are not what they were, or do not fit.
    """
    from lebot_rl_ros.data.datasets import default_root, load_dataset  # late, as above

    name, _, version = text.partition('@')
    if version and not version.isdigit():
        raise ValueError(f'--dataset is {text!r}, expected NAME or NAME@VERSION')
    found = load_dataset(default_root(), name, int(version or 0))
    rows = found.load(SPLIT, cache=cache)
    source = replace(
        describe(rows, f'{found.label} {SPLIT}', found.sha256, found.created),
        bags=tuple((Path(bag.path).name, bag.sha256) for bag in found.bags),
    )
    return offline_data([rows], manifest, start=skip), [source]


def describe(rows: Array, name: str, sha256: str, started: str = '') -> Source:
    """Count what is in the rows (N,) of a bag."""
    kept = rows[learnable(rows)]
    seconds = 1e-9 * float(rows['next_stamp'][-1] - rows['stamp'][0]) if len(rows) else 0.0
    explored = (kept['action'] - kept['mean']).std(axis=0).mean() if len(kept) else 0.0
    return Source(
        name, sha256, len(rows), len(kept), int(rows['terminated'].sum()), seconds,
        float(kept['reward'].mean()) if len(kept) else float('nan'), float(explored),
        tuple(int(version) for version in np.unique(rows['adapter_version'])), started,
    )  # fmt: skip


def as_table(sources: Sequence[Source], data: OfflineData) -> Table:
    """The bags for people."""
    table = Table(
        title='what is learned from',
        caption=f'{len(data):,} steps in {len(data.trajectories)} trajectories',
    )
    for column in (
        'bag', 'sha256', 'minutes', 'steps', 'learnable', 'falls', 'reward', 'explored', 'adapters'
    ):  # fmt: skip
        table.add_column(column, justify='left' if column in ('bag', 'sha256') else 'right')
    for one in sources:
        versions = [f'@{version}' if version else 'base' for version in one.adapters]
        table.add_row(
            one.path, one.sha256[:12], f'{one.seconds / 60.0:.2f}', f'{one.rows:,}',
            f'{one.learnable:,}', f'{one.falls}', f'{one.reward:.3f}', f'{one.spread:.3f}',
            f'{", ".join(versions[:3])}{f" and {len(versions) - 3} more" * (len(versions) > 3)}',
        )  # fmt: skip
    return table
