"""The offline methods by the names that `--method` takes; a module is imported when asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from lebot_rl_ros.learning.offline.contract import OfflineMethod
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.files import Tensors

# Where every weight moves at once, a step of Adam changes the actions so much more.
RATES = {'all': 0.2}  # of the rate at which an adapter is trained, by kind


@dataclass(frozen=True)
class Entry:
    """Where a method is, and what to say of it."""

    module: str  # in lebot_rl_ros.learning.offline
    method: str  # class there
    config: str  # class there, of its settings
    about: str
    steps: int = 10_000  # gradient steps, unless others are asked for
    evidence: bool = True  # it claims to earn more, so the gate asks recorded steps whether it may


METHODS = {
    'bc': Entry('bc', 'BehaviourCloning', 'BCConfig', 'imitate what was done', evidence=False),
    'awac': Entry(
        'awac', 'AWAC', 'AWACConfig', 'imitate what earned more than was expected', steps=6000
    ),
    'td3_bc': Entry(
        'td3_bc', 'TD3BC', 'TD3BCConfig', 'climb critics, held to what was done', steps=8000
    ),
    'dpo': Entry(
        'dpo',
        'OfflineDPO',
        'OfflineDPOConfig',
        'do more of what was preferred (--preferences)',
        steps=1500,
        evidence=False,
    ),
    'grpo': Entry(
        'grpo',
        'OfflineGRPO',
        'OfflineGRPOConfig',
        'climb in simulated continuations (--fault)',
        steps=600,
    ),
}


def find(name: str) -> tuple[Any, Any]:
    """Class of a method, and of its config.

    Raises:
        ValueError: an unknown name; the message has the choices.
    """
    if name not in METHODS:
        raise ValueError(f'method is {name!r}; choices are {", ".join(METHODS)}')
    entry = METHODS[name]
    module = import_module(f'lebot_rl_ros.learning.offline.{entry.module}')
    return getattr(module, entry.method), getattr(module, entry.config)


def make_method(
    name: str, trained: Trained, base: Tensors, settings: Mapping[str, Any], seed: int
) -> OfflineMethod:
    """Build one.

    Args:
        name: of ``METHODS``.
        trained: what it trains.
        base: tensors of the base.
        settings: fields of its config that shall differ from their defaults; the default
            ``actor_rate`` is smaller where all weights are trained.
        seed: of its draws.

    Raises:
        ValueError: an unknown method or setting; the message has those that are.
    """
    method, config = find(name)
    known = [entry.name for entry in fields(config)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f'{name} has no setting {unknown[0]!r}; it has {", ".join(known)}')
    usual: dict[str, Any] = {}
    if 'actor_rate' in known:
        usual['actor_rate'] = config().actor_rate * RATES.get(trained.config.kind, 1.0)
    made: OfflineMethod = method(trained, base, config(**{**usual, **settings}), seed)
    return made
