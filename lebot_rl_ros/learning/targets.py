"""Target networks: copies that follow slowly, so that what a critic learns towards holds still."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from lebot_rl_ros.policy.lora_layers import LoraLayer

N = TypeVar('N', bound=nn.Module)


def soft_update(targets: list[Tensor], sources: list[Tensor], tau: float) -> None:
    """Target <- (1 - tau) target + tau source, in place (arXiv 1509.02971, algorithm 1)."""
    torch._foreach_lerp_(targets, sources, tau)


class Target(Generic[N]):
    """A copy of a network that is never trained.

    It stays plain where the network gets adapters: it follows the weights that the adapters
    make (W + B A), as an average of A and one of B would not be an average of what they do.
    """

    def __init__(self, network: N) -> None:
        """Copy; the network must not have adapters yet."""
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._plain: tuple[list[Tensor], list[Tensor]] = [], []
        self._adapted: list[tuple[Tensor, nn.Module, str]] = []
        self.follow(network)

    @torch.no_grad()
    def follow(self, network: N) -> None:
        """Be what the network is now, and follow it from here on; also once it has adapters."""
        self._plain, self._adapted = ([], []), []
        for name, mine in self.network.named_parameters():
            path, _, leaf = name.rpartition('.')
            module = network.get_submodule(path)
            if isinstance(module, LoraLayer):
                self._adapted.append((mine, module, leaf))
            else:
                self._plain[0].append(mine)
                self._plain[1].append(getattr(module, leaf).detach())
        for mine_buffer, other in zip(self.network.buffers(), network.buffers(), strict=True):
            mine_buffer.copy_(other)
        self.update(1.0)

    @torch.no_grad()
    def update(self, tau: float) -> None:
        """Take a step of ``tau``, 0 to 1, towards the network."""
        targets, sources = self._plain
        adapted = self._adapted
        soft_update(
            [*targets, *(mine for mine, _, _ in adapted)],
            [*sources, *(getattr(module, leaf) for _, module, leaf in adapted)],
            tau,
        )
