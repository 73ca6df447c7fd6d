"""What a training starts from: a base's sizes, its fingerprint, and how small an adapter is."""

import hashlib
from dataclasses import dataclass

import numpy as np

from lebot_rl_ros.policy.files import Tensors


@dataclass(frozen=True)
class Share:
    """How small an adapter is beside its base."""

    numbers: int  # in the adapter
    of_actor: float  # its numbers for the actor over those of the base's actor
    of_all: float  # all its numbers over those of the base's actor and critic


def share(adapter: Tensors, base: Tensors) -> Share:
    """Count an adapter's numbers, and compare them with its base's."""

    def count(tensors: Tensors, net: str) -> int:
        return sum(value.size for name, value in tensors.items() if name.startswith(f'{net}.'))

    actor, critic = count(adapter, 'actor'), count(adapter, 'critic')
    base_actor, base_critic = count(base, 'actor'), count(base, 'critic')
    both = actor + critic
    return Share(both, actor / base_actor, both / (base_actor + base_critic))


def hidden_sizes(base: Tensors) -> tuple[int, ...]:
    """Widths of a base's hidden layers."""
    widths: list[int] = []
    while f'actor.{len(widths)}.weight' in base:
        widths.append(len(base[f'actor.{len(widths)}.weight']))
    return tuple(widths[:-1])


def fingerprint(*parts: Tensors) -> str:
    """SHA-256 of tensors, to tell whether two trainings began with the same."""
    digest = hashlib.sha256()
    for name, value in (item for tensors in parts for item in sorted(tensors.items())):
        digest.update(f'{name}{value.shape}'.encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def check_base(base: Tensors, observation: int, actions: int, what: str = 'the task') -> None:
    """Refuse a base of other sizes.

    Raises:
        ValueError: it sees or says another number of numbers; the message shows both sides.
    """
    last = f'actor.{len(hidden_sizes(base))}.weight'
    found = base['actor.0.weight'].shape[1], len(base[last])
    if found != (observation, actions):
        raise ValueError(
            f'the base is for {found[0]} observations and {found[1]} actions, '
            f'{what} has {observation} and {actions}'
        )
