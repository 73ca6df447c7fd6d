"""A trained method on disk: ``model.safetensors`` and ``manifest.json``, checked both ways."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from lebot_rl_ros import __version__
from lebot_rl_ros.learning.adapt import adapt
from lebot_rl_ros.learning.method import Box, Discrete, Method, Space, State
from lebot_rl_ros.learning.registry import find
from lebot_rl_ros.learning.settings import config_from
from lebot_rl_ros.learning.state import load_module_state as load_module_state
from lebot_rl_ros.learning.state import load_optimiser_state as load_optimiser_state
from lebot_rl_ros.learning.state import load_rng_state as load_rng_state
from lebot_rl_ros.learning.state import module_state as module_state
from lebot_rl_ros.learning.state import optimiser_state as optimiser_state
from lebot_rl_ros.learning.state import rng_state as rng_state
from lebot_rl_ros.policy.adapters import LoraConfig
from lebot_rl_ros.policy.folders import parse_table, read_file, write_folder

SCHEMA = 1
KIND = 'method'  # tells the folder of a method from that of a walking policy
MODEL = 'model.safetensors'
MANIFEST = 'manifest.json'
FOLDER = 'model'  # where it lies in the folder of a whole training
SPACES = ('observation', 'action')
BOUNDS = ('low', 'high')  # of a Box; in the model file as `space.<which>.<bound>`, may be infinite


@dataclass(frozen=True)
class MethodManifest:
    """Which method, on what it was trained, how, and how it scored."""

    method: str  # name in the registry
    env: str  # Gymnasium id
    observation_space: Mapping[str, Any]  # without bounds, which are in the model file
    action_space: Mapping[str, Any]
    config: Mapping[str, Any]  # fields of the method's config
    seed: int
    steps: int  # after which the weights are
    scores: Mapping[str, Any] = field(default_factory=dict)  # returns
    training: Mapping[str, Any] = field(default_factory=dict)  # command, seconds, ...
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)  # of gymnasium.make
    lora: Mapping[str, Any] = field(default_factory=dict)  # of the adapter that was trained
    sha256: str = ''  # of model.safetensors; save_method fills it in
    package: str = __version__
    kind: str = KIND
    schema: int = SCHEMA


def describe(method: Method[Any], env: str, steps: int, **more: Any) -> MethodManifest:
    """The manifest of a method; ``more`` are scores, training, env_kwargs and lora."""
    return MethodManifest(
        method.name,
        env,
        _space_table(method.observation_space),
        _space_table(method.action_space),
        asdict(method.config),
        method.seed,
        steps,
        **more,
    )


def save_method(
    folder: str | Path, method: Method[Any], manifest: MethodManifest, state: State | None = None
) -> MethodManifest:
    """Write a method's folder; readers see the old one or the new one, never a mixture.

    Args:
        folder: where; other files in it stay, other folders do not.
        method: whose spaces are written with it.
        manifest: from :func:`describe`.
        state: what to write in place of the method's state as it is now, as its best one.

    Returns:
        The manifest as written, with the hash of the weights.

    Raises:
        ValueError: a number of the state is not finite; the message names it.
    """
    arrays = dict(method.state() if state is None else state)
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ValueError(
                f'{method.name}: {name} has {int((~np.isfinite(array)).sum())} values that are '
                f'not finite; it is not written'
            )
    for which, space in zip(SPACES, (method.observation_space, method.action_space), strict=True):
        if isinstance(space, Box):
            arrays |= {f'space.{which}.{bound}': getattr(space, bound) for bound in BOUNDS}
    weights = format_safetensors(
        {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    )
    manifest = replace(manifest, sha256=hashlib.sha256(weights).hexdigest())
    text = json.dumps(asdict(manifest), indent=2, allow_nan=False) + '\n'
    write_folder(Path(folder), {MODEL: weights, MANIFEST: text.encode()})
    return MethodManifest(**json.loads(text))


def load_method(folder: str | Path) -> Method[Any]:
    """Build the method of a folder, as it was when it was saved. See :func:`read_method`."""
    method, _ = read_method(folder)
    return method


def read_method(folder: str | Path) -> tuple[Method[Any], MethodManifest]:
    """Build the method of a folder, or of a training's folder, and its manifest.

    Raises:
        ValueError: anything is missing, damaged or does not fit; the message names the file, the
            value and what was expected.
    """
    folder = stored_place(folder) or Path(folder)
    manifest = read_manifest(folder)
    path = folder / MODEL
    weights = read_file(path, 'method')
    sha256 = hashlib.sha256(weights).hexdigest()
    if sha256 != manifest.sha256:
        raise ValueError(
            f'{path} is damaged or altered: sha256 is {sha256}, '
            f'{MANIFEST} expects {manifest.sha256}'
        )
    try:
        arrays = parse_safetensors(weights)
    except Exception as error:  # the library's own error class is not part of its interface
        raise ValueError(f'{path} is not a safetensors file: {error}') from error
    try:
        cls, config_cls = find(manifest.method)
        config = config_from(config_cls, manifest.config)
        spaces = [
            _space(which, table, arrays)
            for which, table in zip(
                SPACES, (manifest.observation_space, manifest.action_space), strict=True
            )
        ]
        method = cls(config, spaces[0], spaces[1], seed=manifest.seed)
        if manifest.lora:
            adapt(method, method.state(), config_from(LoraConfig, manifest.lora))
        method.load_state(
            {name: value for name, value in arrays.items() if not name.startswith('space.')}
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f'{folder}: {error}') from error
    return method, manifest


def read_manifest(folder: str | Path) -> MethodManifest:
    """The manifest of a method's folder, without its weights.

    Raises:
        ValueError: it is missing, no manifest, or that of something else.
    """
    path = (stored_place(folder) or Path(folder)) / MANIFEST
    table = parse_table(read_file(path, 'method'), path)
    if table.get('kind') != KIND:
        raise ValueError(f'{path} is not the manifest of a method, as `lebot train` writes it')
    if table.get('schema') != SCHEMA:
        raise ValueError(f'{path}: schema is {table.get("schema")!r}, expected {SCHEMA}')
    names = {entry.name for entry in fields(MethodManifest)}
    unknown, missing = sorted(set(table) - names), sorted(names - set(table))
    if unknown or missing:
        raise ValueError(
            f'{path}: unknown keys {unknown or "none"}, missing keys {missing or "none"}'
        )
    return MethodManifest(**table)


def stored_place(folder: str | Path) -> Path | None:
    """Where the method lies that a folder, or a training's folder, has; None if there is none."""
    for place in (Path(folder), Path(folder) / FOLDER):
        path = place / MANIFEST
        if path.is_file() and parse_table(path.read_bytes(), path).get('kind') == KIND:
            return place
    return None


def _space_table(space: Space) -> dict[str, Any]:
    if isinstance(space, Discrete):
        return {'kind': 'discrete', 'n': space.n}
    return {'kind': 'box', 'shape': list(space.shape), 'dtype': space.dtype}


def _space(which: str, table: Mapping[str, Any], arrays: State) -> Space:
    if table.get('kind') == 'discrete':
        return Discrete(int(table['n']))
    if table.get('kind') != 'box':
        raise ValueError(f'{which}_space is {dict(table)}, expected a kind discrete or box')
    low, high = (arrays[f'space.{which}.{bound}'] for bound in BOUNDS)
    return Box(tuple(table['shape']), low, high, table['dtype'])
