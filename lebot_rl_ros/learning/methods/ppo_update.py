"""PPO's update: some epochs of minibatches over one rollout."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Metrics
from lebot_rl_ros.learning.methods.ppo_config import PPOMethodConfig
from lebot_rl_ros.learning.methods.ppo_losses import Batch, Losses, normalised
from lebot_rl_ros.learning.methods.ppo_paths import Path

NAMES = ('policy_loss', 'approx_kl', 'clip_fraction', 'entropy', 'value_loss')


def update(
    path: Path,
    batch: Batch,
    config: PPOMethodConfig,
    rng: np.random.Generator,
    *,
    rate: float,
    clip: float,
) -> Metrics:
    """Learn from one rollout.

    Args:
        path: to the new weights.
        batch: B samples, advantages as computed.
        config: epochs, minibatch, coefficients, when to stop.
        rng: of the order of the samples.
        rate: of learning, now.
        clip: of the ratio, now.

    Returns:
        The numbers of ``NAMES``, means over the last epoch; gradient_norm before it was cut, mean
        over all steps; epochs begun, learning_rate and clip.

    Raises:
        ValueError: a number is not finite.
    """
    size, coefficient = len(batch.returns), config.entropy_coefficient
    losses = Losses(clip, coefficient, config.value_coefficient, config.value_clip)
    how, whole = config.normalise_advantages, config.minibatch >= size
    if size > 1 and (how == 'rollout' or (how == 'minibatch' and whole)):
        batch, how = replace(batch, advantages=normalised(batch.advantages)), 'no'
    told: list[Tensor] = []
    norms: list[Tensor] = []
    epoch, stopped = 0, False
    while epoch < config.epochs and not stopped:
        epoch += 1
        tell = epoch == config.epochs or config.target_kl is not None
        told = []
        # A minibatch of all samples is the same in any order.
        mixed = batch if whole else batch[torch.from_numpy(rng.permutation(size))]
        for start in range(0, size, config.minibatch):
            part = batch if whole else mixed[start : start + config.minibatch]
            if how == 'minibatch' and len(part.returns) > 1:
                part = replace(part, advantages=normalised(part.advantages))
            numbers = path.differentiate(part, losses, tell=tell)
            if numbers is not None:
                told.append(numbers)
                stopped = config.target_kl is not None and float(numbers[1]) > config.target_kl
                if stopped:
                    break
            norms.append(path.descend(rate, config.gradient_norm))
    metrics = dict(zip(NAMES, torch.stack(told).mean(dim=0).tolist(), strict=True))
    metrics['gradient_norm'] = float(torch.stack(norms).mean()) if norms else 0.0
    wrong = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    if wrong:
        raise ValueError(f'the update is not finite: {wrong}; lower the learning rate {rate:g}')
    return {**metrics, 'learning_rate': rate, 'clip': clip, 'epochs': float(epoch)}
