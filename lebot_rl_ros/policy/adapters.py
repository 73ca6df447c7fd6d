"""LoRA adapters on disk and merged into a base, without torch.

A folder has PEFT's own two files (``adapter_config.json``, ``adapter_model.safetensors``), so that
``peft`` loads it onto the same network, and ``manifest.json``, which binds it to one base by hash.
LoRA: Hu et al., arXiv 2106.09685; the rank-stabilised scale: Kalajdzievski, arXiv 2312.03732.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.folders import PolicyError, read_file, write_folder

SCHEMA = 1
CONFIG = 'adapter_config.json'
MODEL = 'adapter_model.safetensors'
MANIFEST = 'manifest.json'
PREFIX = 'base_model.model.'  # of every tensor that PEFT saves
BIASES = ('none', 'lora_only')
VERDICTS = ('candidate', 'accepted', 'rejected')
KINDS = {  # of the manifest's values; the others are texts
    'version': int, 'schema': int, 'joint_names': list, 'training': dict, 'data': dict,
    'scores': dict,
}  # fmt: skip
# PEFT's options that change what the tensors mean; ours are their defaults and nothing else.
ONLY: dict[str, Any] = {
    'use_dora': False, 'fan_in_fan_out': False, 'lora_bias': False, 'use_qalora': False,
    'rank_pattern': {}, 'alpha_pattern': {}, 'modules_to_save': None, 'layer_replication': None,
    'trainable_token_indices': None, 'target_parameters': None, 'exclude_modules': None,
    'layers_to_transform': None, 'alora_invocation_tokens': None, 'use_bdlora': None,
    'kasa_config': None, 'monteclora_config': None, 'arrow_config': None,
}  # fmt: skip
INITS = (True, False, 'gaussian', 'orthogonal', 'eva')  # PEFT's others change the base as well
CONFIG_KINDS: dict[str, tuple[type, ...]] = {
    'r': (int,), 'lora_alpha': (int, float), 'use_rslora': (bool,), 'bias': (str,),
    'lora_dropout': (int, float), 'target_modules': (list,),
}  # fmt: skip


class AdapterError(PolicyError):
    """An adapter that cannot be used; the message has the file, the value and what was wanted."""


@dataclass(frozen=True)
class LoraConfig:
    """What of a network is adapted, and how; names are PEFT's."""

    r: int = 2
    lora_alpha: float = 2.0
    target_modules: tuple[str, ...] = (
        'actor.0', 'actor.1', 'actor.2', 'critic.0', 'critic.1', 'critic.2',
    )  # fmt: skip
    use_rslora: bool = False  # alpha / sqrt(r) in place of alpha / r
    bias: str = 'none'  # or lora_only: the biases of the adapted layers are trained, too
    lora_dropout: float = 0.0  # of a layer's input, while training

    def __post_init__(self) -> None:
        """Check.

        Raises:
            AdapterError: a value out of range; the message has the range.
        """
        if self.r < 1:
            raise AdapterError(f'r is {self.r}, must be 1 or more')
        if not (math.isfinite(self.lora_alpha) and self.lora_alpha > 0):
            raise AdapterError(f'lora_alpha is {self.lora_alpha}, must be positive')
        if not 0.0 <= self.lora_dropout < 1.0:
            raise AdapterError(f'lora_dropout is {self.lora_dropout}, must be in [0, 1)')
        if self.bias not in BIASES:
            raise AdapterError(f'bias is {self.bias!r}; choices are {", ".join(BIASES)}')
        if not self.target_modules:
            raise AdapterError('target_modules is empty; name at least one layer')

    @property
    def scaling(self) -> float:
        """Factor on B A."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


@dataclass(frozen=True)
class AdapterManifest:
    """What an adapter belongs to, where it comes from and what is known of it."""

    name: str
    version: int
    base_sha256: str  # of the base's model.safetensors
    robot: str
    joint_names: tuple[str, ...]
    sha256: str = ''  # of adapter_model.safetensors; save_adapter fills it in
    parent: str = ''  # NAME@VERSION that training went on from, or the mixture that it is
    created: str = ''  # ISO 8601, UTC
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    verdict: str = 'candidate'
    reason: str = ''  # of the verdict
    schema: int = SCHEMA

    @property
    def label(self) -> str:
        """NAME@VERSION."""
        return f'{self.name}@{self.version}'


@dataclass(frozen=True)
class Adapter:
    """One adapter in memory.

    ``tensors`` have plain names: ``actor.0.lora_A`` (r, in), ``actor.0.lora_B`` (out, r) and,
    where biases are trained, ``actor.0.bias`` (out,), which replaces the base's.
    """

    config: LoraConfig
    tensors: Tensors
    manifest: AdapterManifest

    @property
    def layers(self) -> list[str]:
        """Names of the adapted layers."""
        return sorted(name[: -len('.lora_A')] for name in self.tensors if name.endswith('.lora_A'))

    @property
    def count(self) -> int:
        """Numbers in it."""
        return sum(value.size for value in self.tensors.values())

    def check(self, base: PolicyManifest, where: str | Path = '') -> None:
        """Refuse a base that this adapter was not made for.

        Raises:
            AdapterError: the first difference; the message shows both sides.
        """
        manifest, where = self.manifest, where or self.manifest.label
        for label, mine, other in (
            ('robot', manifest.robot, base.robot),
            ('joint order', list(manifest.joint_names), list(base.joint_names)),
            ('base', manifest.base_sha256, base.sha256),
        ):
            if mine != other:
                raise AdapterError(f'{where} was made for {label} {mine}, this is {other}')
        check_shapes(self.config, self.tensors, base, where)

    def delta(self, layer: str) -> npt.NDArray[np.float32]:
        """What is added to a layer's weight: scaling B A, (out, in)."""
        product = self.tensors[f'{layer}.lora_B'] @ self.tensors[f'{layer}.lora_A']
        return np.asarray(np.float32(self.config.scaling) * product)


def merge(base: Tensors, parts: Sequence[tuple[Adapter, float]]) -> Tensors:
    """Base and adapters as plain weights: W + sum of weight * scaling * B A, biases likewise.

    Args:
        base: tensors of the base policy; they stay as they are.
        parts: adapters that were checked against it, with a weight each. 0 leaves the base.
    """
    merged = dict(base)
    for adapter, weight in parts:
        for layer in adapter.layers if weight else ():
            name = f'{layer}.weight'
            merged[name] = merged[name] + np.float32(weight) * adapter.delta(layer)
            name = f'{layer}.bias'
            if name in adapter.tensors:
                change = adapter.tensors[name] - base[name]
                merged[name] = merged[name] + np.float32(weight) * change
    return merged


def save_adapter(
    folder: str | Path,
    config: LoraConfig,
    tensors: Mapping[str, npt.NDArray[Any]],
    manifest: AdapterManifest,
    *,
    replace_old: bool = False,
) -> Adapter:
    """Write an adapter folder; readers see all of it or nothing.

    Returns:
        The adapter as written, its manifest with the hash of the weights.

    Raises:
        AdapterError: a tensor is not finite.
        FileExistsError: the folder is there, and ``replace_old`` is false.
    """
    folder = Path(folder)
    arrays = {
        name: np.array(value, dtype=np.float32, order='C') for name, value in tensors.items()
    }
    _check_finite(arrays, folder / MODEL)
    weights = format_safetensors({_peft_name(name): value for name, value in arrays.items()})
    manifest = replace(manifest, sha256=hashlib.sha256(weights).hexdigest())
    table = asdict(config) | {
        'peft_type': 'LORA', 'task_type': None, 'base_model_name_or_path': None,
        'inference_mode': True,
    }  # fmt: skip
    files = {CONFIG: _json(table), MODEL: weights, MANIFEST: _json(asdict(manifest))}
    write_folder(folder, files, replace=replace_old)
    return Adapter(config, arrays, manifest)


def load_adapter(folder: str | Path, manifest: AdapterManifest | None = None) -> Adapter:
    """Read an adapter folder; whether it fits a base, :meth:`Adapter.check` says.

    Args:
        folder: written by :func:`save_adapter`, or by ``peft``.
        manifest: binds a folder that has none, as those that ``peft`` wrote.

    Raises:
        AdapterError: anything is missing, damaged or not supported; the message names the file,
            the value and what was expected.
    """
    folder = Path(folder)
    if manifest is None:
        manifest = load_manifest(folder)
    config = _parse_config(_read(folder / CONFIG), folder / CONFIG)
    path = folder / MODEL
    weights = _read(path)
    if _is_pickle(weights):
        raise AdapterError(
            f'{path} is a pickle under another name: loading one can run any code, so none is '
            f'loaded; expected safetensors'
        )
    sha256 = hashlib.sha256(weights).hexdigest()
    try:
        saved = parse_safetensors(weights)
    except Exception as error:  # the library's own error class is not part of its interface
        raise AdapterError(f'{path} is truncated or not a safetensors file: {error}') from error
    if manifest.sha256 and manifest.sha256 != sha256:
        raise AdapterError(
            f'{path} is damaged or altered: sha256 is {sha256}, {MANIFEST} has {manifest.sha256}'
        )
    tensors = {_plain_name(name, path): value for name, value in saved.items()}
    _check_finite(tensors, path)
    return Adapter(config, tensors, replace(manifest, sha256=sha256))


def load_manifest(folder: str | Path) -> AdapterManifest:
    """Read the manifest of an adapter folder; the weights are not looked at.

    Raises:
        AdapterError: it is missing, damaged or not of this version; the message has the file.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if folder.is_dir() and (folder / CONFIG).exists() and not path.exists():
        raise AdapterError(
            f'{folder} has no {MANIFEST}, so it is bound to no base; bind it with '
            f'`lebot adapters import {folder} --name NAME`'
        )
    table = _table(_read(path), path)
    names = {entry.name for entry in fields(AdapterManifest)}
    if table.get('schema') != SCHEMA:
        raise AdapterError(f'{path}: schema is {table.get("schema")!r}, expected {SCHEMA}')
    if set(table) != names:
        raise AdapterError(
            f'{path}: unknown keys {sorted(set(table) - names) or "none"}, '
            f'missing keys {sorted(names - set(table)) or "none"}'
        )
    for name, value in table.items():
        kind = KINDS.get(name, str)
        if not isinstance(value, kind):
            raise AdapterError(f'{path}: {name} is {value!r}, expected a {kind.__name__}')
    if table['verdict'] not in VERDICTS:
        raise AdapterError(
            f'{path}: verdict is {table["verdict"]!r}; choices are {", ".join(VERDICTS)}'
        )
    if table['version'] < 1:
        raise AdapterError(f'{path}: version is {table["version"]!r}, must be 1 or more')
    return AdapterManifest(**{**table, 'joint_names': tuple(table['joint_names'])})


def check_shapes(
    config: LoraConfig, tensors: Mapping[str, npt.NDArray[Any]], base: PolicyManifest, where: Any
) -> None:
    """Refuse tensors that do not fit the layers of a base.

    Raises:
        AdapterError: the first layer or tensor that does not; the message shows both sides.
    """
    shapes = base.shapes()
    linear = [name[: -len('.weight')] for name in shapes if name.endswith('.weight')]
    expected: dict[str, tuple[int, ...]] = {}
    for target in config.target_modules:
        layers = [name for name in linear if name == target or name.endswith(f'.{target}')]
        if not layers:
            raise AdapterError(
                f'{where} adapts a layer {target} that the base lacks; it has {", ".join(linear)}'
            )
        for layer in layers:
            out, size = shapes[f'{layer}.weight']
            expected[f'{layer}.lora_A'] = (config.r, size)
            expected[f'{layer}.lora_B'] = (out, config.r)
            if config.bias != 'none':
                expected[f'{layer}.bias'] = (out,)
    for name, shape in expected.items():
        if name not in tensors:
            raise AdapterError(f'{where}: tensor {name} is missing; expected one of shape {shape}')
        if tensors[name].shape != shape:
            raise AdapterError(
                f'{where}: tensor {name} has shape {tensors[name].shape}, the base needs {shape}'
            )
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise AdapterError(f'{where}: unknown tensors {unknown}; expected {sorted(expected)}')


def _parse_config(content: bytes, path: Path) -> LoraConfig:
    table = _table(content, path)
    if table.get('peft_type') != 'LORA':
        raise AdapterError(f'{path}: peft_type is {table.get("peft_type")!r}, expected LORA')
    for name, value in ONLY.items():
        if table.get(name, value) != value:
            raise AdapterError(f'{path}: {name} is {table[name]!r}, only {value!r} is supported')
    init = table.get('init_lora_weights', True)
    if init not in INITS:
        raise AdapterError(
            f'{path}: init_lora_weights is {init!r}, which changes the base, too; '
            f'choices are {", ".join(map(str, INITS))}'
        )
    targets = table.get('target_modules')
    if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        raise AdapterError(f'{path}: target_modules is {targets!r}, expected a list of layers')
    given = {entry.name: table[entry.name] for entry in fields(LoraConfig) if entry.name in table}
    for name, value in given.items():
        kinds = CONFIG_KINDS[name]
        if not isinstance(value, kinds):
            expected = ' or '.join(kind.__name__ for kind in kinds)
            raise AdapterError(f'{path}: {name} is {value!r}, expected {expected}')
    try:
        return LoraConfig(**{**given, 'target_modules': tuple(sorted(targets))})
    except (AdapterError, TypeError, OverflowError) as error:
        raise AdapterError(f'{path}: {error}') from error


def _peft_name(name: str) -> str:
    """``actor.0.lora_A`` as PEFT has it; a bias lies in the layer that PEFT wraps."""
    if name.endswith('.bias'):
        return f'{PREFIX}{name[: -len(".bias")]}.base_layer.bias'
    return f'{PREFIX}{name}.weight'


def _plain_name(name: str, path: Path) -> str:
    match = re.fullmatch(
        rf'{re.escape(PREFIX)}(.+)\.(?:(lora_[AB])\.weight|base_layer\.(bias))', name
    )
    if match is None:
        raise AdapterError(
            f'{path}: tensor {name} is not one of LoRA; expected {PREFIX}LAYER.lora_A.weight, '
            f'.lora_B.weight or .base_layer.bias'
        )
    return f'{match[1]}.{match[2] or match[3]}'


def _is_pickle(content: bytes) -> bool:
    """A pickle, or torch's zip of one; safetensors has a size of eight bytes, then a brace."""
    return content[8:9] != b'{' and (
        content.startswith((b'\x80', b'PK\x03\x04'))  # old protocols end with a full stop only
        or content.endswith(b'.')
    )


def _check_finite(tensors: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    for name, value in tensors.items():
        if value.dtype != np.float32:
            raise AdapterError(f'{path}: tensor {name} is {value.dtype}, expected float32')
        bad = int(np.count_nonzero(~np.isfinite(value)))
        if bad:
            raise AdapterError(f'{path}: tensor {name} has {bad} values that are not finite')


def _table(content: bytes, path: Path) -> dict[str, Any]:
    try:
        table = json.loads(content)
    except ValueError as error:
        raise AdapterError(f'{path} is not JSON: {error}') from error
    if not isinstance(table, dict):
        raise AdapterError(f'{path}: expected a table of keys, found {type(table).__name__}')
    return table


def _json(table: Mapping[str, Any]) -> bytes:
    return (json.dumps(table, indent=2) + '\n').encode()


def _read(path: Path) -> bytes:
    try:
        return read_file(path, 'adapter')
    except PolicyError as error:
        raise AdapterError(str(error)) from error
