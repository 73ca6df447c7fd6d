"""Where a training starts: from nothing, from weights, or with an adapter on weights."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from lebot_rl_ros.learning.adapt import adapt
from lebot_rl_ros.learning.method import Method, State
from lebot_rl_ros.learning.method_files import MANIFEST, read_method, stored_place
from lebot_rl_ros.learning.settings import parse_settings
from lebot_rl_ros.learning.state import load_module_state
from lebot_rl_ros.policy.adapters import LoraConfig
from lebot_rl_ros.policy.files import load_policy

SHORT = {'alpha': 'lora_alpha', 'targets': 'target_modules', 'dropout': 'lora_dropout'}


def load_start(method: Method[Any], base: Path | None, lora: str | None) -> dict[str, Any]:
    """Give a fresh method its weights.

    Args:
        method: as it was built.
        base: folder of a method or of a walking policy; None starts from nothing.
        lora: ``r=4,alpha=4,...`` trains an adapter; None trains all weights.

    Returns:
        What a manifest says of it, base and lora; empty from nothing.

    Raises:
        ValueError: an adapter without a base, or a base that does not fit.
    """
    if base is None:
        if lora is not None:
            raise ValueError(f'--lora {lora} needs --base FOLDER, the weights that it adapts')
        return {}
    config = None if lora is None else parse_lora(lora, method)
    weights, said = _weights(base)
    try:
        if config is not None:
            adapt(method, weights, config)
            return said | {'lora': asdict(config)}
        if hasattr(method, 'warm_start'):  # with targets and more to bring along
            method.warm_start(weights)
        elif not hasattr(method, 'make_optimisers'):
            raise ValueError(f'{method.name} has no network to give weights to')
        else:
            load_module_state(method.network, weights)  # type: ignore[attr-defined]
            method.make_optimisers()
    except ValueError as error:
        raise ValueError(f'--base {base}: {error}') from error
    return said


def parse_lora(text: str, method: Method[Any]) -> LoraConfig:
    """Read ``r=4,alpha=4,targets=actor.0+actor.1``; alpha is r unless given.

    Without targets all linear layers of the network are.

    Raises:
        ValueError: an unknown key or a value that does not fit; the message lists the keys.
    """
    words = []
    for word in filter(None, (part.strip() for part in text.split(','))):
        key, equals, value = word.partition('=')
        words.append(f'{SHORT.get(key, key)}{equals}{value.replace("+", ",")}')
    values = parse_settings(LoraConfig, words)
    values.setdefault('lora_alpha', float(values.get('r', LoraConfig.r)))
    network = getattr(method, 'network', None)
    if 'target_modules' not in values and isinstance(network, nn.Module):
        layers = (name for name, part in network.named_modules() if isinstance(part, nn.Linear))
        values['target_modules'] = tuple(layers)
    return LoraConfig(**values)


def _weights(folder: Path) -> tuple[State, dict[str, Any]]:
    """Names and arrays of a network, as ``network.<name>``, and what to say of them."""
    if stored_place(folder) is None:
        tensors, policy = load_policy(folder)
        state = {f'network.{name}': array for name, array in tensors.items()}
        return state, {'base': folder.name, 'base_sha256': policy.sha256}
    method, manifest = read_method(folder)
    if manifest.lora:
        raise ValueError(f'{folder / MANIFEST}: an adapter; start from the base that it has')
    state = {name: a for name, a in method.state().items() if name.startswith('network.')}
    return state, {'base': folder.name, 'base_sha256': manifest.sha256}
