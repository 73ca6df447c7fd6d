"""What a method's ``state()`` is made of: modules, optimisers and random draws as flat arrays."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from lebot_rl_ros.learning.method import Array, State


def module_state(module: nn.Module, prefix: str = 'network') -> State:
    """Copies of a module's parameters and buffers, named ``prefix.name``."""
    return {
        f'{prefix}.{name}': tensor.detach().cpu().numpy().copy()
        for name, tensor in module.state_dict().items()
    }


def load_module_state(module: nn.Module, state: State, prefix: str = 'network') -> None:
    """Put back what :func:`module_state` gave; the tensors stay where they are.

    Raises:
        ValueError: an array is missing, unknown or of another shape; nothing has changed then.
    """
    own = module.state_dict()
    found = _under(state, prefix)
    for name, tensor in own.items():
        if name not in found:
            raise ValueError(f'{prefix}.{name} is missing in the state')
        if found[name].shape != tuple(tensor.shape):
            raise ValueError(
                f'{prefix}.{name} has shape {found[name].shape}, expected {tuple(tensor.shape)}'
            )
    unknown = sorted(set(found) - set(own))
    if unknown:
        raise ValueError(f'{prefix}.{unknown[0]} is in the state, but not in the network')
    module.load_state_dict({name: torch.from_numpy(np.array(found[name])) for name in own})


def optimiser_state(optimiser: torch.optim.Optimizer, prefix: str = 'optimiser') -> State:
    """Copies of an optimiser's memory, ``prefix.<i>.<name>`` for its i-th parameter.

    The learning rates of its groups, which a method may have adapted, are ``prefix.lr``.
    """
    table = optimiser.state_dict()
    state: State = {f'{prefix}.lr': np.array([group['lr'] for group in table['param_groups']])}
    for i, entries in table['state'].items():
        for name, value in entries.items():
            if value is not None:  # as the momentum of an SGD that has none
                state[f'{prefix}.{i}.{name}'] = _array(value)
    return state


def load_optimiser_state(
    optimiser: torch.optim.Optimizer, state: State, prefix: str = 'optimiser'
) -> None:
    """Put back what :func:`optimiser_state` gave, for the same parameters in the same order.

    Raises:
        ValueError: it belongs to other parameters.
    """
    table = optimiser.state_dict()
    parameters = [p for group in optimiser.param_groups for p in group['params']]
    found = _under(state, prefix)
    rates = found.pop('lr', None)
    if rates is None or rates.shape != (len(table['param_groups']),):
        raise ValueError(
            f'{prefix}.lr is {None if rates is None else rates.tolist()}, expected '
            f'{len(table["param_groups"])} learning rates'
        )
    entries: dict[int, dict[str, Any]] = {}
    for key, value in found.items():
        index, _, name = key.partition('.')
        if not index.isdigit() or int(index) >= len(parameters):
            raise ValueError(f'{prefix}.{key} belongs to none of {len(parameters)} parameters')
        shape = tuple(parameters[int(index)].shape)
        if value.ndim and value.shape != shape:
            raise ValueError(f'{prefix}.{key} has shape {value.shape}, expected {shape}')
        entries.setdefault(int(index), {})[name] = torch.from_numpy(np.array(value))
    for group, rate in zip(table['param_groups'], rates.tolist(), strict=True):
        group['lr'] = rate
    optimiser.load_state_dict({'state': entries, 'param_groups': table['param_groups']})


def rng_state(rng: np.random.Generator) -> Array:
    """Where a generator's draws stand: JSON, as bytes."""
    return np.frombuffer(json.dumps(rng.bit_generator.state).encode(), dtype=np.uint8).copy()


def load_rng_state(rng: np.random.Generator, state: Array) -> None:
    """Let a generator go on from where :func:`rng_state` was taken.

    Raises:
        ValueError: these are no such bytes, or those of another kind of generator.
    """
    try:
        rng.bit_generator.state = json.loads(state.tobytes())
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f'the state of the random draws cannot be read: {error}') from error


def draws_state(**generators: np.random.Generator) -> State:
    """Where several generators stand, by their names."""
    return {name: rng_state(generator) for name, generator in generators.items()}


def load_draws(state: State, **generators: np.random.Generator) -> None:
    """Put back what :func:`draws_state` gave.

    Raises:
        ValueError: one is missing, or cannot be read.
    """
    for name, generator in generators.items():
        if name not in state:
            raise ValueError(f'the state has no {name}')
        load_rng_state(generator, state[name])


def _under(state: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    start = f'{prefix}.'
    return {name[len(start) :]: value for name, value in state.items() if name.startswith(start)}


def _array(value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy().copy()
    return np.array(value)
