"""What GRPO and DPO share: a policy without a critic, and a reference that it is held against."""

import copy
from typing import TypeVar

import torch
from torch import Tensor

from lebot_rl_ros.learning.method import Array, Space, State
from lebot_rl_ros.learning.methods.stochastic_policy import (
    StochasticPolicy,
    StochasticPolicyConfig,
)
from lebot_rl_ros.learning.schedules import Schedule
from lebot_rl_ros.learning.state import load_module_state, module_state

PolicyConfig = TypeVar('PolicyConfig', bound=StochasticPolicyConfig)


class ReferencePolicy(StochasticPolicy[PolicyConfig]):
    """The policy, and what it was some time ago.

    Its critic is never asked; it stays so that files and adapters of other methods fit.
    """

    def __init__(
        self, config: PolicyConfig, observation_space: Space, action_space: Space, seed: int = 0
    ) -> None:
        """Build network and optimiser; see :class:`StochasticPolicy`."""
        super().__init__(config, observation_space, action_space, seed)
        self.network.critic.requires_grad_(False)
        self.rate = Schedule.parse(config.learning_rate)
        self.make_optimisers()

    def make_optimisers(self) -> None:
        """Adam on what is trained now; what the policy is now becomes the reference."""
        super().make_optimisers()
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=self.rate(self.progress))
        self.reference_network = copy.deepcopy(self.network).requires_grad_(False)

    def refer(self) -> None:
        """Let the policy as it is be the reference from now on."""
        self.reference_network.load_state_dict(self.network.state_dict())

    @torch.no_grad()
    def reference_log_prob(self, observation: Array, actions: Tensor) -> Tensor:
        """Log-probability (...) of actions under the reference."""
        return self.at(observation, self.reference_network).log_prob(actions)

    def descend(self, loss: Tensor) -> None:
        """One step along the loss, at the rate of the schedule.

        Raises:
            ValueError: the gradient is not finite.
        """
        group = self.optimiser.param_groups[0]
        group['lr'] = self.rate(self.progress)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        largest = self.config.gradient_norm
        norm = torch.nn.utils.clip_grad_norm_(
            group['params'], float('inf') if largest is None else largest
        )
        if not bool(torch.isfinite(norm)):
            raise ValueError(
                f'{self.name}: the gradient is not finite; lower the learning rate '
                f'(now {group["lr"]:g})'
            )
        self.optimiser.step()
        self.network.clamp_log_std()

    def state(self) -> State:
        """With the reference."""
        return {**super().state(), **module_state(self.reference_network, 'reference')}

    def load_state(self, state: State) -> None:
        """Take what :meth:`state` gave; ValueError where it does not fit."""
        load_module_state(self.reference_network, state, 'reference')
        super().load_state(state)
