"""A policy on disk: ``model.safetensors`` and ``manifest.json``, checked on the way in and out."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from lebot_rl_ros.policy.folders import PolicyError as PolicyError
from lebot_rl_ros.policy.folders import parse_table, read_file, write_folder

SCHEMA = 1
MODEL = 'model.safetensors'
MANIFEST = 'manifest.json'
KEYS = {  # of the manifest's tables
    'gait': ('frequency', 'swing_height'),
    'observation': ('names', 'widths', 'scales', 'history'),
    'network': ('hidden', 'activation'),
}
ACTIVATIONS = ('elu', 'relu', 'tanh')

Tensors = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class PolicyManifest:
    """What a policy was made for, how it was made and how it scored. J joints."""

    robot: str
    joint_names: tuple[str, ...]  # (J,)
    default_pose: tuple[float, ...]  # (J,) rad, where action 0 leads
    action_scale: float  # rad for action 1
    control_rate: float  # Hz
    gait: Mapping[str, float]  # frequency in Hz, swing_height in m
    observation: Mapping[str, Any]  # names, widths, scales, history
    network: Mapping[str, Any]  # hidden: widths of the hidden layers; activation
    sha256: str = ''  # of model.safetensors; save_policy fills it in
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def observation_size(self) -> int:
        """Numbers that the policy sees."""
        return int(sum(self.observation['widths'])) * int(self.observation['history'])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor that ``model.safetensors`` must hold."""
        joints, size = len(self.joint_names), self.observation_size
        shapes: dict[str, tuple[int, ...]] = {'log_std': (joints,)}
        for net, outputs in (('actor', joints), ('critic', 1)):
            widths = [size, *self.network['hidden'], outputs]
            for i, (before, after) in enumerate(pairwise(widths)):
                shapes[f'{net}.{i}.weight'] = (after, before)
                shapes[f'{net}.{i}.bias'] = (after,)
        shapes |= {'normaliser.mean': (size,), 'normaliser.var': (size,), 'normaliser.count': ()}
        return shapes

    def check(
        self,
        *,
        robot: str | None = None,
        joint_names: Sequence[str] | None = None,
        default_pose: Sequence[float] | None = None,
        control_rate: float | None = None,
        observation: Mapping[str, Any] | None = None,
        action_scale: float | None = None,
        gait: Mapping[str, float] | None = None,
        where: str | Path = 'the policy',
    ) -> None:
        """Refuse a robot that this policy was not made for; what is not given is not compared.

        Numbers may differ by 1e-6. ``observation`` and ``gait`` are tables as in the manifest.

        Raises:
            PolicyError: the first difference; the message shows both sides.
        """
        given = {
            'robot': robot,
            'joint_names': joint_names,
            'default_pose': default_pose,
            'control_rate': control_rate,
            'observation': observation,
            'action_scale': action_scale,
            'gait': gait,
        }
        for name, theirs in given.items():
            if theirs is None:
                continue
            for label, mine, other in _pairs(name, getattr(self, name), theirs):
                if not _same(_plain(mine), _plain(other)):
                    raise PolicyError(
                        f'{where} was made for {label.replace("_", " ")} {_plain(mine)}, '
                        f'this robot has {_plain(other)}'
                    )


def save_policy(
    folder: str | Path, tensors: Mapping[str, npt.NDArray[Any]], manifest: PolicyManifest
) -> PolicyManifest:
    """Write a policy folder; readers see the old one or the new one, never a mixture.

    Returns:
        The manifest as written, with the hash of the weights.

    Raises:
        PolicyError: a tensor is missing, of the wrong shape or not finite.
    """
    folder = Path(folder)
    arrays = {
        name: np.array(value, dtype=np.float32, order='C') for name, value in tensors.items()
    }
    _check_tensors(arrays, manifest, folder / MODEL)
    weights = format_safetensors(arrays)
    manifest = replace(manifest, sha256=hashlib.sha256(weights).hexdigest())
    text = json.dumps(asdict(manifest), indent=2) + '\n'
    write_folder(folder, {MODEL: weights, MANIFEST: text.encode()})
    return manifest


def load_policy(folder: str | Path) -> tuple[Tensors, PolicyManifest]:
    """Read a policy folder.

    Returns:
        Tensors by name, float32, and the manifest.

    Raises:
        PolicyError: anything is missing, damaged or does not fit; the message names the file, the
            value and what was expected.
    """
    folder = Path(folder)
    manifest = _parse_manifest(read_file(folder / MANIFEST), folder / MANIFEST)
    path = folder / MODEL
    weights = read_file(path)
    sha256 = hashlib.sha256(weights).hexdigest()
    if sha256 != manifest.sha256:
        raise PolicyError(
            f'{path} is damaged or altered: sha256 is {sha256}, '
            f'{MANIFEST} expects {manifest.sha256}'
        )
    try:
        tensors = parse_safetensors(weights)
    except Exception as error:  # the library's own error class is not part of its interface
        raise PolicyError(f'{path} is not a safetensors file: {error}') from error
    _check_tensors(tensors, manifest, path)
    return tensors, manifest


def _parse_manifest(content: bytes, path: Path) -> PolicyManifest:
    table = parse_table(content, path)
    if table.get('schema') != SCHEMA:
        raise PolicyError(f'{path}: schema is {table.get("schema")!r}, expected {SCHEMA}')
    names = [entry.name for entry in fields(PolicyManifest)]
    unknown, missing = (
        sorted(set(table) - set(names)),
        [name for name in names if name not in table],
    )
    if unknown or missing:
        raise PolicyError(
            f'{path}: unknown keys {unknown or "none"}, missing keys {missing or "none"}'
        )
    for name, keys in KEYS.items():
        found = sorted(table[name]) if isinstance(table[name], dict) else repr(table[name])
        if found != sorted(keys):
            raise PolicyError(f'{path}: {name} has {found}, expected the keys {sorted(keys)}')
    table['joint_names'] = tuple(table['joint_names'])
    table['default_pose'] = tuple(table['default_pose'])
    if table['network']['activation'] not in ACTIVATIONS:
        raise PolicyError(
            f'{path}: activation is {table["network"]["activation"]!r}, '
            f'expected one of {", ".join(ACTIVATIONS)}'
        )
    if len(table['default_pose']) != len(table['joint_names']):
        raise PolicyError(
            f'{path}: default_pose has {len(table["default_pose"])} numbers, '
            f'expected {len(table["joint_names"])}, one a joint'
        )
    manifest = PolicyManifest(**table)
    try:
        manifest.shapes()
    except (TypeError, ValueError) as error:
        raise PolicyError(
            f'{path}: widths, history or hidden are not whole numbers: {error}'
        ) from error
    return manifest


def _check_tensors(
    tensors: Mapping[str, npt.NDArray[Any]], manifest: PolicyManifest, path: Path
) -> None:
    shapes = manifest.shapes()
    for name, shape in shapes.items():
        if name not in tensors:
            raise PolicyError(f'{path}: tensor {name} is missing; expected one of shape {shape}')
        if tensors[name].shape != shape:
            raise PolicyError(
                f'{path}: tensor {name} has shape {tensors[name].shape}, expected {shape}'
            )
        if tensors[name].dtype != np.float32:
            raise PolicyError(f'{path}: tensor {name} is {tensors[name].dtype}, expected float32')
        bad = int(np.count_nonzero(~np.isfinite(tensors[name])))
        if bad:
            raise PolicyError(
                f'{path}: tensor {name} has {bad} values that are not finite, expected none'
            )
    unknown = sorted(set(tensors) - set(shapes))
    if unknown:
        raise PolicyError(f'{path}: unknown tensors {unknown}, expected {sorted(shapes)}')


def _pairs(name: str, ours: Any, theirs: Any) -> list[tuple[str, Any, Any]]:
    """What to compare, with a label each: tables key by key."""
    if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
        return [(name, ours, theirs)]
    return [(f'{name}.{key}', ours.get(key), theirs.get(key)) for key in {**ours, **theirs}]


def _same(mine: Any, other: Any) -> bool:
    if isinstance(mine, list) and isinstance(other, list):
        return len(mine) == len(other) and all(
            _same(a, b) for a, b in zip(mine, other, strict=True)
        )
    if isinstance(mine, int | float) and isinstance(other, int | float):
        return abs(mine - other) <= 1e-6
    return bool(mine == other)


def _plain(value: Any) -> Any:
    """Tuples and arrays as lists, so that both sides of a message look alike."""
    return (
        value if isinstance(value, str) or not np.iterable(value) else np.asarray(value).tolist()
    )
