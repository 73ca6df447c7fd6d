"""Making a version of a data set: out of bags, or out of the version before and more bags."""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import yaml

from lebot_rl_ros.data.bag.transitions import Progress, Recorded, read_transitions
from lebot_rl_ros.data.datasets import (
    BagEntry,
    DataSet,
    DataSetError,
    check_name,
    load_dataset,
    versions,
    write_dataset,
)
from lebot_rl_ros.data.splits import SHARES, check_shares, split_rows
from lebot_rl_ros.robot import Robot


def make_dataset(
    root: Path,
    name: str,
    bags: Iterable[str | Path],
    *,
    splits: Mapping[str, float] | None = None,
    seed: int | None = None,
    namespace: str = '',
    base_sha256: str = '',
    terms: Sequence[str] | None = None,
    robot: Robot | None = None,
    add: bool = False,
    cache: bool = True,
    workers: int = 0,
    progress: Progress | None = None,
) -> DataSet:
    """Make the first version of a data set, or the next one.

    The next version has the splits, the seed, the base and the terms of the one before it, so that
    a trajectory is in the split that it was in.

    Args:
        root: folder of data sets.
        name: of this one.
        bags: that it is made of.
        splits: names and shares of trajectories; the first version's only (`splits.SHARES`).
        seed: of the split; the first version's only (0).
        namespace: that the topics lie in, if the bags have several.
        base_sha256: whose steps are taken; '' if the bags are of one base.
        terms: of the reward; None: those of the first bag.
        robot: that the bags must be of.
        add: the bags come to those of the version before.
        cache: see `data.bag.transitions.read_transitions`, as ``workers`` and ``progress``.
        workers: processes that read bags at once; 0: as many as there are cores.
        progress: called after each bag.

    Raises:
        DataSetError: a bag stands in it twice, or something is asked that a version cannot change.
        BagError: a bag cannot be used.
    """
    check_name(name)
    numbers = versions(root, name)
    before = load_dataset(root, name, numbers[-1]) if numbers else None
    if before is not None:
        _unchanged(before, splits, seed, base_sha256, terms)
        splits, seed, terms = before.splits, before.seed, before.terms
        base_sha256, namespace = before.base_sha256, namespace or before.namespace
    shares = check_shares(splits or SHARES)
    paths = [Path(path) for path in bags]
    if add and before is not None:
        paths = before.paths + paths
    if not paths:
        raise DataSetError(f'{name}: no bags were given')
    found = read_transitions(
        paths, cache=cache, workers=workers, progress=progress, namespace=namespace,
        base_sha256=base_sha256, terms=terms, robot=robot,
    )  # fmt: skip
    if add and before is not None:
        for entry, recorded in zip(before.bags, found, strict=False):
            before.same(entry, recorded.path, recorded.sha256)
    _check_bags(found)
    number = numbers[-1] + 1 if numbers else 1
    folder = root / name / f'{number:04d}'
    first = found[0]
    made = DataSet(
        folder=folder,
        name=name,
        version=number,
        parent=before.version if before else 0,
        created=datetime.now(timezone.utc).isoformat(timespec='seconds'),
        robot=robot.name if robot else before.robot if before else _robot_name(first),
        namespace=namespace,
        base_sha256=first.rows['base_sha256'][0].tobytes().hex(),
        widths=(first.rows['observation'].shape[1], first.rows['action'].shape[1]),
        terms=first.terms,
        seed=seed or 0,
        splits=shares,
        bags=tuple(_entry(folder, bag, seed or 0, shares) for bag in found),
        sha256='',
    )
    return write_dataset(made)


def _unchanged(
    before: DataSet,
    splits: Mapping[str, float] | None,
    seed: int | None,
    base_sha256: str,
    terms: Sequence[str] | None,
) -> None:
    """Refuse what would move trajectories from one split to another, or mix what does not fit."""
    asked = {
        'splits': (splits, before.splits),
        'seed': (seed, before.seed),
        'base_sha256': (base_sha256 or None, before.base_sha256),
        'terms': (None if terms is None else tuple(terms), before.terms),
    }
    for key, (new, old) in asked.items():
        if new is not None and new != old:
            raise DataSetError(
                f'{before.label} has {key} {old}, asked was {new}; versions of a data set share '
                f'it: choose another name for a new data set'
            )


def _check_bags(found: Sequence[Recorded]) -> None:
    seen: dict[str, Recorded] = {}
    for recorded in found:
        twin = seen.setdefault(recorded.sha256, recorded)
        if twin is not recorded:
            raise DataSetError(f'{twin.path} and {recorded.path} are the same bag, by their hash')
        if recorded.terms != found[0].terms:
            raise DataSetError(
                f'{found[0].path} has the reward terms {", ".join(found[0].terms)}, '
                f'{recorded.path} has {", ".join(recorded.terms)}; give terms, or bring them to '
                f'one reward with `lebot bag reward`'
            )


def _entry(folder: Path, bag: Recorded, seed: int, shares: Mapping[str, float]) -> BagEntry:
    pieces = split_rows(bag.rows, bag.sha256, seed, shares)
    return BagEntry(
        path=os.path.relpath(bag.path.resolve(), folder.resolve()),
        sha256=bag.sha256,
        steps=len(bag.rows),
        trajectories=sum(map(len, pieces.values())),
        splits={name: sum(p.stop - p.start for p in found) for name, found in pieces.items()},
    )


def _robot_name(recorded: Recorded) -> str:
    table = yaml.safe_load(recorded.metadata.get('robot', '')) or {}
    return str(table.get('name', '') if isinstance(table, dict) else table)
