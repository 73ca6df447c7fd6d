"""LoRA adapters on disk: PEFT's own two files and a manifest, read and written without torch.

``adapter_config.json`` and ``adapter_model.safetensors`` are as ``peft`` has them, so that it
loads a folder of ours onto the same network, and we one of its; ``manifest.json`` binds it to one
base.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from lebot_rl_ros.policy.adapters import (
    SCHEMA,
    VERDICTS,
    Adapter,
    AdapterError,
    AdapterManifest,
    LoraConfig,
)
from lebot_rl_ros.policy.folders import PolicyError, parse_table, read_file, write_folder

CONFIG = 'adapter_config.json'
MODEL = 'adapter_model.safetensors'
MANIFEST = 'manifest.json'
PREFIX = 'base_model.model.'  # of every tensor that PEFT saves
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
    table = parse_table(_read(path), path, AdapterError)
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


def _parse_config(content: bytes, path: Path) -> LoraConfig:
    table = parse_table(content, path, AdapterError)
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


def _json(table: Mapping[str, Any]) -> bytes:
    return (json.dumps(table, indent=2) + '\n').encode()


def _read(path: Path) -> bytes:
    try:
        return read_file(path, 'adapter')
    except PolicyError as error:
        raise AdapterError(str(error)) from error
