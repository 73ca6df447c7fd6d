"""The state-value critic of the on-policy learners, grown from the base's own."""

import torch
from torch import Tensor, nn

from lebot_rl_ros.policy.files import Tensors
from lebot_rl_ros.policy.networks import MLP


class StateCritic(nn.Module):
    """V(s), the base's critic, trained whole.

    A cold critic spoils the first minutes (arXiv 2412.07762); that of the base was trained on the
    same reward with the same discount and begins where the healthy robot was.
    """

    def __init__(self, base: Tensors, activation: str) -> None:
        """Copy the base's critic.

        Args:
            base: tensors of the base.
            activation: of its networks: elu, relu or tanh.

        Raises:
            ValueError: the base has no critic.
        """
        super().__init__()
        layers = sorted(
            int(name.split('.')[1])
            for name in base
            if name.startswith('critic.') and name.endswith('.weight')
        )
        if not layers:
            raise ValueError(
                f'the base has no critic to start from; its tensors are {", ".join(sorted(base))}'
            )
        weights = [base[f'critic.{i}.weight'] for i in layers]
        self.layers = MLP([weights[0].shape[1], *(len(w) for w in weights)], activation, gain=1.0)
        with torch.no_grad():
            for name, parameter in self.layers.named_parameters():
                parameter.copy_(torch.tensor(base[f'critic.{name}']))

    def forward(self, normalised: Tensor) -> Tensor:
        """Values (B,), sums of discounted rewards, of normalised observations (B, O)."""
        values: Tensor = self.layers(normalised)
        return values.squeeze(-1)
