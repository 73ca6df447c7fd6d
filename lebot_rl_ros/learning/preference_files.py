"""Preferences on disk, as one ``.safetensors`` file."""

from dataclasses import fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as format_safetensors

from lebot_rl_ros.learning.preferences import Preferences, Segments
from lebot_rl_ros.policy.folders import replace_file

KIND = {'kind': 'preferences', 'schema': '1'}  # the file's metadata


def save_preferences(path: str | Path, preferences: Preferences) -> None:
    """Write one ``.safetensors`` file, all of it or nothing; folders above it are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {entry.name: getattr(preferences.segments, entry.name) for entry in fields(Segments)}
    arrays |= {'pairs': preferences.pairs, 'preferred': preferences.preferred}
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    replace_file(path, format_safetensors(arrays, metadata=KIND))


def load_preferences(path: str | Path) -> Preferences:
    """Read such a file; nothing in it is ever unpickled.

    Raises:
        ValueError: it cannot be read, is not such a file, or what it holds cannot be.
    """
    try:
        with safe_open(str(path), framework='numpy') as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ValueError(f'{path} cannot be read as a safetensors file: {error}') from error
    if metadata != KIND:
        raise ValueError(f'{path} is of {metadata or "no kind"}, expected {KIND}')
    names = [entry.name for entry in fields(Segments)]
    if set(found) != {*names, 'pairs', 'preferred'}:
        raise ValueError(
            f'{path} has arrays {sorted(found)}, expected {[*names, "pairs", "preferred"]}'
        )
    try:
        return Preferences(
            Segments(*(found[name] for name in names)), found['pairs'], found['preferred']
        )
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
