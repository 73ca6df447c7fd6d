"""Any method may train an adapter on a frozen network in place of all weights.

LoRA: Hu et al., arXiv 2106.09685. The layers are ``policy.lora``'s; a method has only to build its
optimisers from what is not frozen, in ``make_optimisers``.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from lebot_rl_ros.learning.method import Array, Method
from lebot_rl_ros.learning.state import load_module_state
from lebot_rl_ros.policy.adapters import LoraConfig
from lebot_rl_ros.policy.files import Tensors
from lebot_rl_ros.policy.lora import adapter_names, adapter_tensors, add_adapter

ADAPTER = 'learned'  # its name within the network
PREFIX = 'network.'  # of weights in a method's state


def adapt(method: Method[Any], base: Mapping[str, Array], lora: LoraConfig) -> None:
    """Give a method the weights of a base, freeze them, and let it train an adapter from now on.

    A fresh adapter changes nothing: the method acts as the base does, to the bit. From then on
    the adapter's own numbers change, with new optimisers; normalisers keep what they know. The
    spread of the actions and, where no layer of it is adapted, the critic are trained whole: they
    belong to the training and not to the adapter, as in ``learning.weights.LoraWeights``.

    Args:
        method: one with a network, not adapted yet.
        base: a method's state, or weights by their names in the network; the network's, all.
        lora: which layers, at what rank.

    Raises:
        ValueError: the method learns no network or has an adapter already, the base does not fit,
            or a layer is unknown (``AdapterError``).
    """
    network = _network(method)
    if adapter_names(network):
        raise ValueError(f'{method.name} has an adapter already; build the method anew')
    weights = {name: value for name, value in base.items() if name.startswith(PREFIX)}
    load_module_state(network, weights or {PREFIX + name: value for name, value in base.items()})
    for parameter in network.parameters():
        parameter.grad = None
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    add_adapter(network, ADAPTER, lora)
    adapted = [name for name, _ in network.named_parameters() if '.lora_' in name]
    whole = ['log_std'] + ['critic'] * (not any(name.startswith('critic') for name in adapted))
    for name in trained:
        if name.startswith(tuple(whole)):
            network.get_parameter(name).requires_grad_(True)
    method.make_optimisers()  # type: ignore[attr-defined]


def adapter_state(method: Method[Any]) -> Tensors:
    """Copy the adapter, by the names of the file format (``actor.0.lora_A``).

    Raises:
        ValueError: the method has none.
    """
    return adapter_tensors(_network(method), ADAPTER)


def _network(method: Method[Any]) -> nn.Module:
    network = getattr(method, 'network', None)
    if not isinstance(network, nn.Module) or not hasattr(method, 'make_optimisers'):
        raise ValueError(f'{method.name} learns no network, so there is nothing to adapt')
    return network
