"""Networks as functions of their weights, with weights of their own for each of K tasks.

All tasks go through one batched call; what gradient steps do to the weights is differentiable.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

Parameters = dict[str, Tensor]


def trainable(module: nn.Module) -> Parameters:
    """The parameters that learn, by name; frozen ones stay in the module."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def spread(parameters: Mapping[str, Tensor], tasks: int) -> Parameters:
    """The same weights for every task, (K, ...) each: views, through which gradients add up."""
    return {name: p.expand(tasks, *p.shape) for name, p in parameters.items()}


def detached(parameters: Mapping[str, Tensor]) -> Parameters:
    """The numbers, without how they came about."""
    return {name: p.detach() for name, p in parameters.items()}


def per_task(module: nn.Module) -> Callable[[Parameters, Tensor], Tensor]:
    """A module as a function of weights: (parameters (K, ...), x (K, B, ...)) -> (K, B, ...).

    What is not among the parameters, as frozen weights and buffers, is the module's own.
    """

    def call(parameters: Parameters, x: Tensor) -> Tensor:
        return functional_call(module, parameters, (x,))

    return vmap(call)


def gradient_step(
    losses: Tensor,
    parameters: Parameters,
    rates: Mapping[str, Tensor | float],
    *,
    second_order: bool,
) -> Parameters:
    """Return parameters - rates * d losses / d parameters, each task along its own gradient.

    Args:
        losses: (K,); the loss of a task depends on the weights of that task alone.
        parameters: (K, ...) each.
        rates: for each name a number, or a tensor (...) of one rate for every weight.
        second_order: keep how the gradient depends on the parameters; else it is a constant
            (first-order MAML), and only the rates and the parameters themselves lead back.

    Returns:
        New tensors; the parameters are as they were.
    """
    gradients = torch.autograd.grad(
        losses.sum(), list(parameters.values()), create_graph=second_order
    )
    return {
        name: p - rates[name] * gradient
        for (name, p), gradient in zip(parameters.items(), gradients, strict=True)
    }


def ratio_surrogate(log_prob: Tensor, sampled_log_prob: Tensor, advantages: Tensor) -> Tensor:
    """Policy-gradient loss of each task, -mean(exp(log_prob - sampled_log_prob) advantage): (K,).

    Its value under the sampling policy is minus the mean advantage, its gradient REINFORCE's.
    Unlike log_prob * advantage it also has the right *second* derivative, because a ratio to a
    constant knows that other weights would have sampled other actions (DiCE, arXiv 1802.05098;
    the low-variance form without products over time, ProMP, arXiv 1810.06784).

    Args:
        log_prob: (K, B) of the sampled actions under the weights now.
        sampled_log_prob: (K, B) when they were sampled; constants.
        advantages: (K, B).
    """
    return -(torch.exp(log_prob - sampled_log_prob) * advantages).mean(dim=-1)
