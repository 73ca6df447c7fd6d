"""A recurrent actor and critic, for policies that must remember."""

import math

import torch
from torch import Tensor, nn

from lebot_rl_ros.learning.distributions import Categorical, Gaussian
from lebot_rl_ros.learning.method import Discrete, Space
from lebot_rl_ros.policy.networks import LOG_STD, Normaliser

Hidden = Tensor  # (N, H)


LARGEST = 5.0  # standard deviations of an input


class RecurrentActorCritic(nn.Module):
    """A GRU (Cho et al., arXiv 1406.1078), and on its state a policy and a value, one layer each.

    Inputs go through a running normaliser: a reward of a hundredth, too, must move a gate. They
    are cut at LARGEST: else who strays once sees what it never saw, and strays on. The spread of
    continuous actions is the same in all states.
    """

    def __init__(
        self, inputs: int, action_space: Space, hidden: int = 64, initial_std: float = 0.5
    ) -> None:
        """Build it for inputs (..., inputs); Box actions are one axis of numbers."""
        super().__init__()
        self.discrete = isinstance(action_space, Discrete)
        outputs = action_space.n if isinstance(action_space, Discrete) else action_space.shape[0]
        self.hidden = hidden
        self.normaliser = Normaliser(inputs)
        self.gru = nn.GRU(inputs, hidden)
        for name, p in self.gru.named_parameters():
            nn.init.zeros_(p) if 'bias' in name else _orthogonal_gates(p)
        self.actor, self.critic = nn.Linear(hidden, outputs), nn.Linear(hidden, 1)
        for layer, gain in ((self.actor, 0.01), (self.critic, 1.0)):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)
        if not self.discrete:
            self.log_std = nn.Parameter(torch.full((outputs,), math.log(initial_std)))

    def start(self, count: int) -> Hidden:
        """What is known before anything was seen: (count, H) zeros."""
        return torch.zeros(count, self.hidden)

    def forward(
        self, inputs: Tensor, hidden: Hidden
    ) -> tuple[Categorical | Gaussian, Tensor, Hidden]:
        """Go through T steps without ever forgetting.

        Args:
            inputs: (T, N, I).
            hidden: (N, H) before the first step.

        Returns:
            Distribution of actions over (T, N), values (T, N), and the state after (N, H).
        """
        inputs = self.normaliser(inputs).clamp(-LARGEST, LARGEST)
        features, last = self.gru(inputs, hidden[None])
        logits = self.actor(features)
        policy = Categorical(logits) if self.discrete else Gaussian(logits, self.log_std)
        return policy, self.critic(features).squeeze(-1), last[0]

    @torch.no_grad()
    def clamp_log_std(self) -> None:
        """Keep the spread in range, where there is one."""
        if not self.discrete:
            self.log_std.clamp_(*LOG_STD)


def _orthogonal_gates(weight: Tensor) -> None:
    """Each of the three gates' matrices, which lie one above another, orthogonal by itself."""
    for gate in weight.chunk(3):
        nn.init.orthogonal_(gate)
