"""DPO of an adapter from preferences between recorded segments.

Rafailov et al., arXiv 2305.18290: the loss of ``learning/methods/dpo.py`` on the Gaussian that the
steps were recorded with. The mean moves, the spread is the recorded one. The reference is what is
trained as it is when learning begins: the base, or the adapter that was accepted.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Array, Metrics
from lebot_rl_ros.learning.methods.dpo import Loss, pair_loss, segment_sums
from lebot_rl_ros.learning.offline.answers import Labelled
from lebot_rl_ros.learning.offline.comparing import split_pairs
from lebot_rl_ros.learning.offline.contract import OfflineData
from lebot_rl_ros.learning.offline.descent import Descent
from lebot_rl_ros.learning.online.stale import fixed_spread_kl, log_prob
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.files import Tensors


@dataclass(frozen=True)
class OfflineDPOConfig:
    """How preferences are learned from."""

    beta: float = 0.1  # the higher, the nearer the policy stays to the reference
    loss: Loss = 'sigmoid'  # or ipo, which has an optimum where all answers agree, too
    label_smoothing: float = 0.0  # share of answers taken to be wrong, in [0, 0.5)
    average: bool = False  # log-ratios per step, so that long segments do not weigh more
    actor_rate: float = 3e-4
    gradient_norm: float = 1.0  # largest
    minibatch: int = 64  # pairs
    validation: float = 0.2  # share of the segments whose pairs are judged by, not learned from
    judge_every: int = 20  # gradient steps
    patience: int = 20  # judgements that are no better, after which the best weights stay
    kl_cap: float = 0.5  # nats a step from the reference, mean, at which it ends

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a number out of range.
        """
        for name in ('beta', 'actor_rate', 'gradient_norm', 'kl_cap'):
            if not getattr(self, name) > 0.0:
                raise ValueError(f'{name} is {getattr(self, name)}, must be positive')
        for name in ('minibatch', 'judge_every', 'patience'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}, must be 1 or more')
        for name in ('label_smoothing', 'validation'):
            if not 0.0 <= getattr(self, name) < 0.5:
                raise ValueError(f'{name} is {getattr(self, name)}, must be in [0, 0.5)')
        if self.loss not in ('sigmoid', 'ipo'):
            raise ValueError(f'loss is {self.loss!r}; choices are sigmoid, ipo')


@dataclass(frozen=True)
class _Steps:
    """All steps of all segments, M of them, one segment after another."""

    x: Tensor  # (M, O) normalised observations
    actions: Tensor  # (M, J)
    std: Tensor  # (M, J)
    reference: Tensor  # (M, J) mean actions of the reference
    log_prob: Tensor  # (M,) of the actions under it
    base: Tensor  # (M, J) mean actions of the base
    first: Array  # (S + 1,) where each segment begins


class OfflineDPO:
    """Makes what was preferred likelier; set :attr:`labelled` before the first :meth:`learn`."""

    name: ClassVar[str] = 'dpo'

    def __init__(
        self, trained: Trained, base: Tensors, config: OfflineDPOConfig, seed: int = 0
    ) -> None:
        """Begin at what is trained, which is the reference from then on."""
        self.trained, self.config = trained, config
        self.labelled: Labelled | None = None
        self.stopped = ''  # why it learns no more
        self._rng = np.random.default_rng(seed)
        self._steps: _Steps | None = None
        self._descent = Descent(trained.parameters(), config.actor_rate, config.gradient_norm)
        self._done, self._worse, self._best = 0, 0, np.inf
        self._kept = self._descent.weights()
        self._told: Metrics = {}

    def learn(self, data: OfflineData, steps: int) -> Metrics:
        """Do so many gradient steps; none any more once it has stopped.

        Returns:
            policy_loss, margin (beta times that of the better over the worse) and accuracy of the
            pairs learned from, while it learns; validation_loss and validation_accuracy of those
            kept apart; kl (nats a step from the reference) and deviation. Once it has stopped they
            stay as they were.

        Raises:
            ValueError: there are no preferences, or they are of another robot.
        """
        if self._steps is None:
            self._begin()
        told = []
        for _ in range(0 if self.stopped else steps):
            if self._done % self.config.judge_every == 0:
                self.stopped = self._judge()
                if self.stopped:
                    break
            chosen = self._rng.choice(
                self._train, min(self.config.minibatch, len(self._train)), replace=False
            )
            loss, numbers = self.loss(chosen)
            self._descent.step(loss)
            self._done += 1
            told.append(numbers)
        if told:
            means = torch.stack(told).mean(dim=0).tolist()
            self._told = dict(zip(('policy_loss', 'margin', 'accuracy'), means, strict=True))
        return self._told | self._measure()

    def loss(self, chosen: Array) -> tuple[Tensor, Tensor]:
        """Mean loss of some pairs (rows of them), and policy_loss, margin, accuracy (3,)."""
        assert self.labelled is not None
        assert self._steps is not None
        config, preferences, all_steps = self.config, self.labelled.preferences, self._steps
        pairs = preferences.pairs[chosen]
        rows, place = np.unique(pairs, return_inverse=True)  # a segment may be in many pairs
        lengths = np.diff(all_steps.first)[rows]
        which = np.concatenate([np.arange(*all_steps.first[row : row + 2]) for row in rows])
        index = torch.from_numpy(which)
        mean = self.trained.mean_of(all_steps.x[index])
        log_ratio = (
            log_prob(all_steps.actions[index], mean, all_steps.std[index])
            - all_steps.log_prob[index]
        )
        number = torch.from_numpy(np.repeat(np.arange(len(rows)), lengths))
        ratios = segment_sums(log_ratio, number, len(rows), average=config.average)
        return pair_loss(ratios, place.reshape(pairs.shape), preferences.preferred[chosen], config)

    def _begin(self) -> None:
        """Take the preferences: what the reference says of them, and which are judged by."""
        if self.labelled is None:
            raise ValueError(
                'dpo learns from preferences, and has none: give a file of `lebot prefer` with '
                '--preferences FILE'
            )
        preferences, std = self.labelled.preferences, self.labelled.std
        segments = preferences.segments
        for what, found, wanted in (
            ('observations', segments.observations.shape[2], len(self.trained.normaliser.mean)),
            ('joints', segments.actions.shape[2], len(self.trained.manifest.joint_names)),
        ):
            if found != wanted:
                raise ValueError(
                    f'the preferred segments have {found} {what}, the policy has {wanted}'
                )
        mask = segments.mask
        if not (std[mask] > 0.0).all():
            raise ValueError('the spread of the actions is 0 in some of the preferred segments')
        with torch.no_grad():
            x = self.trained.normalised(torch.from_numpy(segments.observations[mask]))
            actions = torch.from_numpy(segments.actions[mask])
            spread = torch.from_numpy(std[mask])
            reference = self.trained.mean_of(x)
            self._steps = _Steps(
                x, actions, spread, reference, log_prob(actions, reference, spread),
                self.trained.base_mean_of(x), np.append(0, np.cumsum(segments.lengths)),
            )  # fmt: skip
        self._train, self._validation = split_pairs(
            preferences.pairs, self.config.validation, self._rng
        )
        if not len(self._train):  # as where one segment is in all pairs
            self._train, self._validation = np.arange(len(preferences)), self._train

    def _judge(self) -> str:
        """Keep the weights if they are the best so far; or go back to those, and why it ends."""
        measured = self._measure()
        capped = measured['kl'] > self.config.kl_cap
        if capped:
            measured = self._hold_back()
        if not len(self._validation):
            self._kept = self._descent.weights()
        elif measured['validation_loss'] < self._best:
            self._best, self._worse, self._kept = (
                measured['validation_loss'],
                0,
                self._descent.weights(),
            )
        else:
            self._worse += 1
        if capped:
            self._descent.load(self._kept)
            return f'it came {self.config.kl_cap:g} nats away from the reference (kl_cap)'
        if self._worse >= self.config.patience:
            self._descent.load(self._kept)
            return f'no better validation loss for {self._worse} judgements'
        return ''

    def _hold_back(self) -> Metrics:
        """Go half the way back to the weights that were kept, until within the cap."""
        measured = self._measure()
        while measured['kl'] > self.config.kl_cap:
            now = self._descent.weights()
            self._descent.load([a.lerp(b, 0.5) for a, b in zip(now, self._kept, strict=True)])
            measured = self._measure()
        return measured

    @torch.no_grad()
    def _measure(self) -> Metrics:
        assert self._steps is not None
        mean = self.trained.mean_of(self._steps.x)
        found = {
            'kl': float(fixed_spread_kl(mean, self._steps.reference, self._steps.std).mean()),
            'deviation': float((mean - self._steps.base).square().mean().sqrt()),
        }
        if len(self._validation):
            loss, _, accuracy = self.loss(self._validation)[1].tolist()
            found |= {'validation_loss': loss, 'validation_accuracy': accuracy}
        return found
