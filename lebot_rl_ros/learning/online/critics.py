"""Critics of actions for one robot: they begin at what the base's own critic says.

Q(s, a) = V_base(s) + scale * f(s, a), where f is 0 at first. A critic that knows nothing would
spoil the first minutes (warm start: Zhou et al., arXiv 2412.07762); LayerNorm keeps f from running
away beyond the data (Ball et al., arXiv 2302.02948).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Critics(nn.Module):
    """K corrections f of the same shape, computed together: (..., O + J) -> (K, ...)."""

    def __init__(self, inputs: int, hidden: int, count: int, seed: int) -> None:
        """Build two hidden layers each; the last layer is zero."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.weights = nn.ParameterList(
                nn.Parameter(torch.stack([_orthogonal(a, b, gain) for _ in range(count)]))
                for a, b, gain in ((inputs, hidden, 2**0.5), (hidden, hidden, 2**0.5))
            )
        self.weights.append(nn.Parameter(torch.zeros(count, hidden, 1)))
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(count, 1, weight.shape[2])) for weight in self.weights
        )

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Corrections (K, B) for normalised observations (B, O) and actions (B, J)."""
        x = torch.cat((observation, action), dim=-1)
        x = x.expand(len(self.weights[0]), *x.shape)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if i < last:
                x = F.elu(F.layer_norm(x, x.shape[-1:]))
        return x.squeeze(-1)


def _orthogonal(inputs: int, outputs: int, gain: float) -> Tensor:
    return nn.init.orthogonal_(torch.empty(inputs, outputs), gain)
