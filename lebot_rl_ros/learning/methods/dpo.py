"""DPO: learn from which of two segments is better, without a reward and without a critic.

Rafailov et al., arXiv 2305.18290; with label smoothing (cDPO) and IPO (Azar et al., arXiv
2310.12036) as options.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from lebot_rl_ros.learning.episodes import Starts, play_groups
from lebot_rl_ros.learning.method import Array, Metrics, Space, State, World
from lebot_rl_ros.learning.methods.reference_policy import ReferencePolicy
from lebot_rl_ros.learning.methods.stochastic_policy import StochasticPolicyConfig
from lebot_rl_ros.learning.preferences import Preferences, Score, draw_pairs, label, of_episodes

Loss = Literal['sigmoid', 'ipo']


@dataclass(frozen=True)
class DPOConfig(StochasticPolicyConfig):
    """How preferences are learned from; and, on a world, how they are made."""

    beta: float = 0.1  # the higher, the nearer the policy stays to the reference
    loss: Loss = 'sigmoid'  # DPO; or ipo
    label_smoothing: float = 0.0  # share of labels taken to be wrong (cDPO), in [0, 0.5)
    average: bool = False  # log-ratios per step, so that long segments do not weigh more
    epochs: int = 4  # passes over the pairs
    minibatch: int = 64  # pairs
    reference_every: int = 1  # rounds after which the policy becomes the reference; 0 is never
    pairs: int = 256  # that are compared in a round
    segment: int = 0  # steps of a segment; 0 takes whole episodes
    temperature: float = 0.0  # of the judge, units of the return; 0 never errs
    group_size: int = 8  # environments, or episodes, that begin alike: pairs are of one group
    starts: Starts = 'auto'  # what a group shares, see `play_groups`: task, seed or any
    window: int = 128  # steps in which episodes begin in a round; with seed only one does
    longest: int = 1000  # steps of an episode, after which it is cut

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta > 0.0:
            raise ValueError(f'beta is {self.beta}; it must be above 0')
        if not 0.0 <= self.label_smoothing < 0.5:
            raise ValueError(f'label_smoothing is {self.label_smoothing}; it must be in [0, 0.5)')


def preference_loss(
    margin: Tensor,
    preferred: Tensor,
    *,
    beta: float,
    loss: Loss = 'sigmoid',
    label_smoothing: float = 0.0,
) -> Tensor:
    """Loss of each pair (P,).

    Args:
        margin: (P,) log-ratio to the reference of the first segment less that of the second.
        preferred: (P,) 1 if the first is better, 0 if the second; or how likely it is.
        beta: of the KL to the reference, in units of the reward.
        loss: 'sigmoid' is DPO, -log sigmoid(beta margin) where the first is better; its optimum
            has beta margin = the log-odds of the label. 'ipo' is the square of margin - 1 / (2
            beta); it has an optimum where all judges agree, too: DPO then goes on for ever.
        label_smoothing: share of labels taken to be wrong.
    """
    first = preferred * (1.0 - 2.0 * label_smoothing) + label_smoothing
    if loss == 'ipo':
        goal = 0.5 / beta
        return first * (margin - goal).square() + (1.0 - first) * (margin + goal).square()
    logit = beta * margin
    return -first * torch.nn.functional.logsigmoid(logit) - (
        1.0 - first
    ) * torch.nn.functional.logsigmoid(-logit)


def segment_sums(values: Tensor, number: Tensor, segments: int, *, average: bool) -> Tensor:
    """Sum, or mean, (S,) of values (M,) of the steps of segments; ``number`` (M,) says whose."""
    total = values.new_zeros(segments).index_add(0, number, values)
    if not average:
        return total
    return total / torch.bincount(number, minlength=segments)


class Weighing(Protocol):
    """Of a config: how pairs are learned from; see :class:`DPOConfig`."""

    @property
    def beta(self) -> float:
        """Of the KL to the reference."""

    @property
    def loss(self) -> Loss:
        """DPO's or IPO's."""

    @property
    def label_smoothing(self) -> float:
        """Share of labels taken to be wrong."""


def pair_loss(
    ratios: Tensor, pairs: Array, preferred: Array, config: Weighing
) -> tuple[Tensor, Tensor]:
    """Mean loss of pairs, and policy_loss, margin, accuracy (3,), detached.

    Args:
        ratios: (S,) log-ratio to the reference of each segment.
        pairs: (P, 2) which two of them.
        preferred: (P,) as in :func:`preference_loss`.
        config: how they are weighed.
    """
    first, second = ratios[torch.from_numpy(pairs)].T
    margin, better = first - second, torch.from_numpy(preferred)
    loss = preference_loss(
        margin, better, beta=config.beta,
        loss=config.loss, label_smoothing=config.label_smoothing,
    ).mean()  # fmt: skip
    gain = config.beta * margin * torch.sign(better - 0.5)
    return loss, torch.stack((loss, gain.mean(), (gain > 0.0).float().mean())).detach()


class DPO(ReferencePolicy[DPOConfig]):
    """Learn from pairs: of a file, with :meth:`learn`; or of a world, judged by a score."""

    name: ClassVar[str] = 'dpo'
    reference: ClassVar[str] = 'arXiv 2305.18290'

    def __init__(
        self, config: DPOConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """See :class:`ReferencePolicy`."""
        super().__init__(config, observation_space, action_space, seed)
        self.score: Score | None = None  # that judges segments of a world; None is their return
        self.rounds = 0

    def iterate(self, world: World) -> Metrics:
        """Play a round, let pairs of it be judged, and learn from them."""
        config = self.config
        if config.reference_every and self.rounds % config.reference_every == 0:
            self.refer()
        episodes = play_groups(
            world,
            self.sample,
            self.rng,
            size=config.group_size,
            starts=config.starts,
            window=config.window,
            longest=config.longest,
        )
        segments, groups = of_episodes(episodes, config.segment)
        pairs = draw_pairs(groups, config.pairs, self.rng)
        preferences = label(
            segments, pairs, score=self.score, temperature=config.temperature, rng=self.rng
        )
        metrics = self.learn(preferences, epochs=config.epochs)
        self.watch(episodes.observations)
        self.rounds += 1
        return metrics | {
            'segments': float(len(segments)),
            'used_steps': len(episodes.number) / episodes.taken,
        }

    def learn(self, preferences: Preferences, epochs: int = 1) -> Metrics:
        """Pass over pairs, in any order, a number of times; the reference stays.

        Raises:
            ValueError: there are no pairs, or their arrays do not fit the spaces.
        """
        self._check(preferences)
        numbers = []
        for _ in range(epochs):
            order = self.rng.permutation(len(preferences))
            for start in range(0, len(order), self.config.minibatch):
                loss, told = self.loss(preferences, order[start : start + self.config.minibatch])
                self.descend(loss)
                numbers.append(told)
        names = ('policy_loss', 'margin', 'accuracy', 'entropy')
        metrics = dict(zip(names, torch.stack(numbers).mean(dim=0).tolist(), strict=True))
        return metrics | {'learning_rate': self.rate(self.progress)}

    def loss(self, preferences: Preferences, chosen: Array) -> tuple[Tensor, Tensor]:
        """Mean loss of some pairs (rows), and policy_loss, margin, accuracy, entropy (4,).

        ``margin`` is beta times that of the better over the worse: what DPO takes to be the
        difference of their rewards. ``accuracy`` counts pairs that it ranks as the judge did.
        """
        config, pairs = self.config, preferences.pairs[chosen]
        rows, place = np.unique(pairs, return_inverse=True)  # a segment may be in many pairs
        segments = preferences.segments.take(rows)
        mask = segments.mask
        observations = segments.observations[mask]
        actions = torch.from_numpy(segments.actions[mask])
        distribution = self.at(observations)
        log_ratio = distribution.log_prob(actions) - self.reference_log_prob(observations, actions)
        number = torch.from_numpy(np.nonzero(mask)[0])
        ratios = segment_sums(log_ratio, number, len(rows), average=config.average)
        loss, told = pair_loss(
            ratios, place.reshape(pairs.shape), preferences.preferred[chosen], config
        )
        return loss, torch.cat((told, distribution.entropy().mean().detach()[None]))

    def _check(self, preferences: Preferences) -> None:
        if not len(preferences):
            raise ValueError(f'{self.name}: no pairs to learn from')
        segments = preferences.segments
        for what, space, array in (
            ('observations', self.observation_space, segments.observations),
            ('actions', self.action_space, segments.actions),
        ):
            shape = getattr(space, 'shape', ())
            if array.shape[2:] != shape:
                raise ValueError(
                    f'{self.name}: {what} of the segments have shape {array.shape[2:]}, '
                    f'the policy needs {shape}'
                )

    def state(self) -> State:
        """With the number of rounds; the score is whoever's who set it."""
        return {**super().state(), 'rounds': np.array(self.rounds)}

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave."""
        if 'rounds' not in state:
            raise ValueError(f'{self.name}: the state has no rounds')
        super().load_state(state)
        self.rounds = int(state['rounds'])
