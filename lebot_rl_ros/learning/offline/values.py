"""What an action is worth, learned from recorded steps: the critics of the offline methods."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from lebot_rl_ros.learning.deterministic import bellman_target
from lebot_rl_ros.learning.offline.batches import Batch
from lebot_rl_ros.learning.online.critic import StateCritic
from lebot_rl_ros.learning.online.critics import Critics
from lebot_rl_ros.learning.online.trained import Trained
from lebot_rl_ros.policy.files import Tensors


@dataclass(frozen=True)
class ValuesConfig:
    """Of the critics; methods add their own. The scale of rewards is that of the online TD3."""

    batch: int = 128  # steps of an update
    discount: float = 0.98  # that of the base's critic
    hidden: int = 128  # width of the critics' two layers
    critics: int = 2
    critic_rate: float = 1e-3
    tau: float = 0.005  # step of the target critics
    target_noise: float = 0.1  # blur of the action to come
    target_clip: float = 0.3  # largest of it
    value_scale: float = 20.0  # of the corrections to the base's values
    deviation: float = 0.8  # from the base's action, the most that an action to come is judged at


class ActionValues:
    """Q(s, a) = V_base(s) + scale f(s, a), for K critics f; begins at the base's own values.

    Clipped double Q-learning with smoothed targets as in TD3 (Fujimoto et al., arXiv 1802.09477),
    LayerNorm against values that run away where no action was recorded (Ball et al., arXiv
    2302.02948): ``learning.online.critics`` has both.
    """

    def __init__(self, trained: Trained, base: Tensors, config: ValuesConfig, seed: int) -> None:
        """Take whose values are learned, and the base with the critic to begin at."""
        self.config, self._trained = config, trained
        self.state = StateCritic(base, str(trained.manifest.network['activation']))
        self.state.requires_grad_(False)
        inputs = len(base['normaliser.mean']) + len(base['log_std'])
        self.critics = Critics(inputs, config.hidden, config.critics, seed)
        self.target = copy.deepcopy(self.critics).requires_grad_(False)
        self._optimiser = torch.optim.Adam(
            self.critics.parameters(), config.critic_rate, fused=True
        )
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, seen: Tensor, actions: Tensor) -> Tensor:
        """Values (K, B) of actions (B, J) in normalised states (B, O); differentiable."""
        return self.state(seen) + self.config.value_scale * self.critics(seen, actions)

    def learn(self, batch: Batch) -> tuple[float, float]:
        """One step of the critics; loss, and mean of the targets."""
        config = self.config
        with torch.no_grad():
            targets = bellman_target(
                batch.rewards, config.discount * batch.going_on, self._following(batch.following)
            )
            corrections = (targets - self.state(batch.seen)) / config.value_scale
        loss = (self.critics(batch.seen, batch.actions) - corrections).square().mean(-1).sum()
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        self._optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.target.parameters()), list(self.critics.parameters()), config.tau
            )
        return loss.item(), float(targets.mean())

    def _following(self, following: Tensor) -> Tensor:
        """Values (B,) of what comes: the least that any target says of a blurred action."""
        config, trained = self.config, self._trained
        base = trained.base_mean_of(following)
        change = trained.mean_of(following) - base
        blur = torch.randn(change.shape, generator=self._generator) * config.target_noise
        action = base + change.clamp(-config.deviation, config.deviation)
        action = action + blur.clamp(-config.target_clip, config.target_clip)
        least = self.target(following, action).amin(dim=0)
        return self.state(following) + config.value_scale * least
