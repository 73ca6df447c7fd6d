"""Specialise a base from recorded steps: imitate them, or learn from what they earned."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from lebot_rl_ros.data.transitions import Transitions, TransitionsError
from lebot_rl_ros.learning.base import Share, check_base, hidden_sizes, share
from lebot_rl_ros.learning.objectives import policy_kl
from lebot_rl_ros.learning.ppo import PPO, PPOConfig
from lebot_rl_ros.learning.recorded import Cloning, Improving, Objective
from lebot_rl_ros.learning.train import Metrics
from lebot_rl_ros.learning.weights import FullWeights, LoraWeights
from lebot_rl_ros.policy.adapters import LoraConfig
from lebot_rl_ros.policy.files import PolicyManifest, Tensors
from lebot_rl_ros.policy.networks import ActorCritic

METHODS = ('supervised', 'policy_gradient')
ACTOR = LoraConfig(2, 4.0, ('actor.0', 'actor.1', 'actor.2'))


@dataclass(frozen=True)
class FinetuneConfig:
    """How to learn from recorded steps."""

    method: str = 'supervised'
    lora: LoraConfig | None = ACTOR  # None trains all weights
    epochs: int = 40  # at most
    minibatch: int = 512
    learning_rate: float = 2e-3  # at the start; it falls to a tenth
    weight_decay: float = 0.0  # of A and B
    gradient_norm: float = 1.0
    validation: float = 0.2  # share of the trajectories that is not learned from
    patience: int = 5  # epochs without a better validation loss that end it
    temperature: float = 0.0  # supervised: weighs steps by their advantage; 0 weighs all alike
    clip: float = 0.2  # policy_gradient: of the probability ratio
    kl_cap: float = 0.05  # policy_gradient: nats, from the policy that it starts as
    critic_epochs: int = 10  # policy_gradient: for the critic alone, first
    start_std: float | None = None  # action units, of the policy that acted, if not the base's
    discount: float = 0.98
    trace: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a value that cannot be; the message has the choices.
        """
        if self.method not in METHODS:
            raise ValueError(f'method is {self.method!r}; choices are {", ".join(METHODS)}')
        for name, least in (('epochs', 1), ('minibatch', 1), ('patience', 1)):
            if getattr(self, name) < least:
                raise ValueError(f'{name} is {getattr(self, name)}, must be {least} or more')
        for name in ('learning_rate', 'gradient_norm', 'clip', 'kl_cap', 'start_std'):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise ValueError(f'{name} is {value}, must be positive')
        if not 0.0 <= self.validation < 1.0:
            raise ValueError(f'validation is {self.validation}, must be in [0, 1)')
        if not (math.isfinite(self.temperature) and self.temperature >= 0.0):
            raise ValueError(f'temperature is {self.temperature}, must be 0 or more')
        layers = () if self.lora is None else self.lora.target_modules
        critic = [layer for layer in layers if not layer.startswith('actor.')]
        if self.method == 'supervised' and critic:
            raise ValueError(
                f'target_modules has {", ".join(critic)}; supervised learning teaches the actor '
                f'alone: name its layers, as actor.0'
            )


@dataclass(frozen=True)
class FinetuneResult:
    """What was learned. ``before`` and ``after`` are of the validation data, or of all."""

    tensors: Tensors  # the whole network with what was learned, the spread as in the base
    adapter: Tensors | None  # plain names; None where all weights were trained
    share: Share | None  # of the adapter
    before: Metrics  # validation_loss, action_rmse, kl, action_change; see _Tuning.measure
    after: Metrics
    history: tuple[Metrics, ...] = field(repr=False)  # of each epoch
    epoch: int  # whose weights were kept; 0: nothing was better than the start
    stopped: str  # why it ended
    trajectories: tuple[int, int]  # learned from, judged by


@torch.no_grad()
def finetune(
    base: Tensors,
    manifest: PolicyManifest,
    data: Transitions,
    config: FinetuneConfig,
    progress: Callable[[Metrics], None] | None = None,
    *,
    start: Tensors | None = None,
) -> FinetuneResult:
    """Learn an adapter for a base, or new weights, from recorded steps; same seed, same bits.

    * ``supervised`` imitates the actions. With a temperature, steps that the base's critic finds
      better than it expected count more.
    * ``policy_gradient`` is PPO's objective on the recorded actions. The critic first learns what
      the data earn, then advantages are taken from it once.

    The weights of the epoch with the least validation loss are kept.

    Args:
        base: tensors of the base.
        manifest: of the base.
        data: what to learn from.
        config: how.
        progress: called with each epoch's metrics.
        start: an adapter to go on from; a new one without it.

    Raises:
        TransitionsError: the data lack something, or are of another robot.
        AdapterError: the layers to adapt are not the base's.
        ValueError: the numbers ran away.
    """
    data.check(manifest.observation_size, len(manifest.joint_names))
    check_base(base, manifest.observation_size, len(manifest.joint_names), 'its manifest')
    if config.method == 'policy_gradient' and data.log_probs is None:
        raise TransitionsError(
            'log_probs are missing, which policy_gradient needs: how likely each action was when '
            'it was sampled; record with noise, or use supervised'
        )
    if start is not None and config.lora is None:
        raise ValueError('an adapter to start from needs the config lora')
    network = ActorCritic(
        manifest.observation_size, len(manifest.joint_names), hidden_sizes(base),
        str(manifest.network['activation']),
    )  # fmt: skip
    network.load_tensors(base)
    rng = np.random.default_rng(config.seed)
    kept, judged = _split(data, config.validation, rng)
    generator = torch.Generator().manual_seed(config.seed)
    adapter = None
    if config.lora is not None:
        adapter = LoraWeights(network, config.lora, generator, train_log_std=False)
    if adapter is not None and start is not None:
        adapter.load(start)
    if config.start_std is not None:
        nn.init.constant_(network.log_std, math.log(config.start_std))
    settings = PPOConfig(
        epochs=1, minibatch=config.minibatch, clip=config.clip, desired_kl=None,
        gradient_norm=config.gradient_norm, weight_decay=config.weight_decay,
        learning_rate=config.learning_rate, discount=config.discount, trace=config.trace,
    )  # fmt: skip
    weights = FullWeights(network, train_log_std=False) if adapter is None else adapter
    learner = PPO(network, settings, weights)
    objective: Objective
    if config.method == 'supervised':
        objective = Cloning(learner, kept, judged or kept, config.temperature)
    else:
        objective = Improving(learner, kept, judged or kept, config.critic_epochs, rng)
    tuning = _Tuning(learner, objective, config)
    before = tuning.measure()
    history, epoch, stopped = tuning.run(rng, progress, judge=judged is not None)
    after = tuning.measure()
    tensors = network.tensors() | {'log_std': base['log_std'].copy()}
    learned = None if adapter is None else adapter.tensors()
    return FinetuneResult(
        tensors, learned, None if learned is None else share(learned, base), before, after,
        tuple(history), epoch, stopped,
        (len(kept.segments()), 0 if judged is None else len(judged.segments())),
    )  # fmt: skip


class _Tuning:
    """The loop over epochs, and what is known of the policy between them."""

    def __init__(self, learner: PPO, objective: Objective, config: FinetuneConfig) -> None:
        self._learner, self._objective, self._config = learner, objective, config
        self._start = self._mean()

    def _mean(self) -> Tensor:
        mean: Tensor = self._learner.network.actor(self._objective.observations)
        return mean

    def measure(self) -> Metrics:
        """What is known now, in nats and action units."""
        objective, mean = self._objective, self._mean()
        return {
            'validation_loss': objective.judge(mean),
            'action_rmse': float((mean - objective.actions).square().mean().sqrt()),
            'kl': policy_kl(mean, self._start, self._learner.network.log_std),  # from the start
            'action_change': float((mean - self._start).abs().mean()),
        }

    def run(
        self, rng: np.random.Generator, progress: Callable[[Metrics], None] | None, *, judge: bool
    ) -> tuple[list[Metrics], int, str]:
        """Learn; returns the metrics of epochs, the one that was kept, and why it ended."""
        learner, config, history = self._learner, self._config, list[Metrics]()
        best, kept, kept_flat = self.measure()['validation_loss'], 0, learner.flat.data.clone()
        stopped = f'all {config.epochs} epochs'
        for epoch in range(1, config.epochs + 1):
            done = (epoch - 1) / max(1, config.epochs - 1)
            learner.set_rate(config.learning_rate * (1.0 - 0.9 * done))
            before = learner.flat.data.clone()
            loss = self._objective.epoch(rng)
            capped = config.method == 'policy_gradient' and self._hold_back(before)
            row = {'epoch': float(epoch), 'train_loss': loss, **self.measure()}
            if not np.isfinite(list(row.values())).all():
                raise ValueError(f'epoch {epoch} is not finite: {row}; lower the learning rate')
            history.append(row)
            if progress:
                progress(row)
            if not judge or row['validation_loss'] < best:
                best, kept = row['validation_loss'], epoch
                kept_flat.copy_(learner.flat.data)
            if capped:
                stopped = f'epoch {epoch} reached the KL cap of {config.kl_cap:g}'
                break
            if epoch - kept >= config.patience:
                stopped = f'no better validation loss for {config.patience} epochs'
                break
        learner.flat.data.copy_(kept_flat)
        learner.weights.scatter()
        return history, kept, stopped

    def _hold_back(self, before: Tensor) -> bool:
        """Go half the way back to where the epoch began, until the policy is within the cap."""
        learner, capped = self._learner, False
        while self.measure()['kl'] > self._config.kl_cap:
            learner.flat.data.lerp_(before, 0.5)
            learner.weights.scatter()
            capped = True
        return capped


def _split(
    data: Transitions, validation: float, rng: np.random.Generator
) -> tuple[Transitions, Transitions | None]:
    """Trajectories to learn from and to judge by, drawn at random."""
    segments = data.segments()
    if validation and len(segments) < 2:
        raise TransitionsError(
            'the data have one trajectory, of which none can be set aside for validation; record '
            'more, or set validation to 0'
        )
    count = min(max(1, round(validation * len(segments))), len(segments) - 1) if validation else 0
    order = rng.permutation(len(segments))
    judged, kept = ([segments[i] for i in sorted(part)] for part in np.split(order, [count]))
    return data.select(kept), data.select(judged) if judged else None
